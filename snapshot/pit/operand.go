package pit

import (
	"math"
	"strconv"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// fault is why a rule made a value missing; "" is no fault.
type fault = string

// The faults. They are keys of Tally.Faults, after the column's name.
const (
	notANumber   fault = "not_a_number"
	notAnInteger fault = "not_an_integer"
	outOfRange   fault = "out_of_range"
	notAMoment   fault = "not_a_moment"
	notABool     fault = "not_a_bool"
	notACount    fault = "not_a_count"
	notAList     fault = "not_a_list"
	notJSON      fault = "not_json"
	vectorLength fault = "vector_length"
	minOverMax   fault = "min_over_max"
	negative     fault = "negative"
	badBirthDate fault = "bad_birth_date"
	noBin        fault = "no_bin"
	noTime       fault = "no_time"
	noID         fault = "no_id"
	expression   fault = "expression"
)

// none is the source of an operand that is not there.
const none = -2

// operand is a compiled reference.
type operand struct {
	source int
	slot   int
	typ    definition.Type
	table  *table
	// of a derived value:
	target target
	output definition.OutputType
}

// version returns the row version that the operand reads, nil if there is none.
func (o *operand) version(j *Joiner) *version {
	if o.source < 0 {
		return nil
	}
	return j.source[o.source]
}

// cell returns the column that the operand reads, nil when it is missing.
func (o *operand) cell(j *Joiner) *row.Cell {
	v := o.version(j)
	if v == nil {
		return nil
	}
	c, late := j.cell(v, o.slot)
	if late {
		j.late(o.source)
	}
	if !present(c) {
		return nil
	}
	return c
}

// present says that a cell has a value.
func present(c *row.Cell) bool { return c.Kind != row.Null && c.Kind != row.NotCaptured }

// appendText appends the operand's text; false means that it is missing.
func (o *operand) appendText(j *Joiner, dst []byte) ([]byte, bool) {
	if o.source == fromDerived {
		v := j.value(o.target)
		if !v.Valid {
			return dst, false
		}
		switch o.output {
		case definition.String:
			return append(dst, v.Text...), true
		case definition.Float32:
			return strconv.AppendFloat(dst, float64(v.Float), 'g', -1, 32), true
		}
		return strconv.AppendInt(dst, v.Int, 10), true
	}
	c := o.cell(j)
	if c == nil {
		return dst, false
	}
	return c.AppendText(dst), true
}

// moment returns the operand as µs since the epoch.
func (o *operand) moment(j *Joiner) (Value, fault) {
	if o.source == fromDerived {
		v := j.value(o.target)
		if v.Valid && o.output != definition.TimeStamp {
			return Value{}, notAMoment
		}
		return *v, ""
	}
	c := o.cell(j)
	if c == nil {
		return Value{}, ""
	}
	return j.program.moment(c)
}

// output is the type and limits of a derived value.
type output struct {
	typ  definition.OutputType
	clip *[2]float64
}

func (o output) setInt(out *Value, n int64) fault {
	if o.clip != nil {
		if float64(n) < o.clip[0] {
			n = int64(math.Ceil(o.clip[0]))
		} else if float64(n) > o.clip[1] {
			n = int64(math.Floor(o.clip[1]))
		}
	}
	switch o.typ {
	case definition.Int32:
		if n < math.MinInt32 || n > math.MaxInt32 {
			return outOfRange
		}
		*out = Value{Valid: true, Int: n}
	case definition.Float32:
		*out = Value{Valid: true, Float: float32(n)}
	case definition.Boolean:
		if n != 0 && n != 1 {
			return notABool
		}
		*out = Value{Valid: true, Int: n}
	case definition.TimeStamp:
		*out = Value{Valid: true, Int: n}
	default:
		*out = Value{Valid: true, Text: strconv.FormatInt(n, 10)}
	}
	return ""
}

func (o output) setFloat(out *Value, f float64) fault {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return notANumber
	}
	if o.clip != nil {
		f = min(max(f, o.clip[0]), o.clip[1])
	}
	switch o.typ {
	case definition.Float32:
		if math.IsInf(float64(float32(f)), 0) {
			return outOfRange
		}
		*out = Value{Valid: true, Float: float32(f)}
	case definition.String:
		*out = Value{Valid: true, Text: strconv.FormatFloat(f, 'g', -1, 64)}
	default:
		if f != math.Trunc(f) {
			return notAnInteger
		}
		if math.Abs(f) >= 1<<63 {
			return outOfRange
		}
		return o.setInt(out, int64(f))
	}
	return ""
}

// number reads a numeric cell. Exact says that the integer n holds it too.
func number(c *row.Cell) (f float64, n int64, exact, ok bool) {
	switch c.Kind {
	case row.Int:
		return float64(c.Int), c.Int, true, true
	case row.Float:
		return c.Float, 0, false, !math.IsNaN(c.Float) && !math.IsInf(c.Float, 0)
	case row.Decimal:
		if c.Scale == 0 {
			return float64(c.Int), c.Int, true, true
		}
		if c.Scale <= 22 && c.Int < 1<<53 && c.Int > -1<<53 {
			return float64(c.Int) / math.Pow10(int(c.Scale)), 0, false, true // both exact, so rounded once
		}
		f, err := strconv.ParseFloat(c.String(), 64)
		return f, 0, false, err == nil
	case row.Text:
		// A long numeric, or NaN or an infinity.
		f, err := strconv.ParseFloat(string(c.Bytes), 64)
		return f, 0, false, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, 0, false, false
}

// set converts a cell that is neither NULL nor missing.
func (o output) set(j *Joiner, out *Value, c *row.Cell, typ definition.Type) fault {
	switch o.typ {
	case definition.String:
		if typ == definition.Bool && (c.Kind == row.True || c.Kind == row.False) {
			*out = Value{Valid: true, Text: strconv.FormatBool(c.Kind == row.True)}
			return ""
		}
		if c.Kind == row.Text {
			*out = Value{Valid: true, Text: j.texts.string(c.Bytes)}
			return ""
		}
		j.left = c.AppendText(j.left[:0])
		*out = Value{Valid: true, Text: j.texts.string(j.left)}
		return ""
	case definition.Boolean:
		switch c.Kind {
		case row.True:
			*out = Value{Valid: true, Int: 1}
		case row.False:
			*out = Value{Valid: true}
		case row.Int:
			return o.setInt(out, c.Int)
		default:
			return notABool
		}
		return ""
	case definition.TimeStamp:
		m, fault := j.program.moment(c)
		*out = m
		return fault
	}
	f, n, exact, ok := number(c)
	switch {
	case !ok:
		return notANumber
	case exact:
		return o.setInt(out, n)
	}
	return o.setFloat(out, f)
}
