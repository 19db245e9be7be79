package pit

import "dreamfeed/internal/definition"

// Unknown is what a missing text becomes in a column whose rule is
// definition.MissingUnknown.
const Unknown = "UNKNOWN"

// Fill makes of a derived value what the dataset's step 5 shows of it (CONTRACT,
// "Missing values"): a number that is not finite is missing, a float is clipped
// as the column says, and a missing value of a category becomes the category for
// missing ones: UNKNOWN for a text (an empty one too), false for a bool, 0 where
// the rule is zero. What a median fills, what stays null, and what is required,
// stays missing: a median is that of a dataset's train rows, and nobody else's.
//
// It is the one place where this is decided, for a row of the dataset as for an
// online answer. Applied twice it changes nothing.
func Fill(c *definition.Column, v Value) Value {
	switch c.Type {
	case definition.Float32:
		f, finite := Clip(c.Clip, v.Float)
		if !v.Valid || !finite {
			return Value{Valid: fills(c, definition.MissingZero)}
		}
		v.Float = f
	case definition.String:
		if (!v.Valid || v.Text == "") && fills(c, definition.MissingUnknown) {
			return Value{Valid: true, Text: Unknown}
		}
	default:
		if !v.Valid {
			return Value{Valid: fills(c, definition.MissingZero) || fills(c, definition.MissingFalse)}
		}
	}
	return v
}

// Clip is Fill's part for a number that is there: it lies within the bounds, if
// there are any. finite is false for NaN and the infinities, which are missing.
func Clip(bounds *[2]float64, v float32) (_ float32, finite bool) {
	if v-v != 0 {
		return 0, false
	}
	if bounds != nil {
		v = float32(min(max(float64(v), bounds[0]), bounds[1]))
	}
	return v, true
}

// fills says whether the column's gaps are filled by the rule. A required column
// has none: its rows are dropped instead.
func fills(c *definition.Column, rule definition.Missing) bool {
	return !c.Required && c.Missing == rule
}
