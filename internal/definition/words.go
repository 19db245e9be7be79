package definition

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// words says in a short English phrase how a column comes about. Names of
// columns and expressions stand in backquotes.
func words(d *Derivation) string {
	switch {
	case d.Value != nil:
		return code(d.Value)
	case d.Element != nil:
		return fmt.Sprintf("element %d of %s, a JSON array of exactly %d", d.Element.Index, code(d.Element.From), d.Element.Length)
	case d.Bound != nil:
		return fmt.Sprintf("%s of %s that has a numeric min or max; missing if min > max or either is negative",
			d.Bound.Take, firstOf("the first of", codes(d.Bound.Of)))
	case d.Total != nil:
		return totalWords(d.Total)
	case d.Lookup != nil:
		return lookupWords(d.Lookup)
	case d.Bins != nil:
		return binsWords(d.Bins)
	case d.DatePart != nil:
		return partWords(d.DatePart)
	case d.Age != nil:
		return fmt.Sprintf("completed years from %s to the example's time, missing outside of 0 to 120", code(d.Age))
	case d.Between != nil:
		text := fmt.Sprintf("whole %s from %s to %s", unitName(d.Between.Unit), code(d.Between.From), firstOf("the earliest of", codes(d.Between.To)))
		if d.Between.NegativeNull {
			text += "; missing if negative"
		}
		return text
	case d.Count != nil:
		return "number of rows of " + aggregateWords(d.Count)
	case d.Mean != nil:
		return fmt.Sprintf("mean of `%s` over the rows of %s", d.Mean.Column, aggregateWords(d.Mean))
	case d.Since != nil:
		return fmt.Sprintf("whole %s from the event of row `%s` to the example's time", unitName(d.Since.Unit), d.Since.Row)
	case d.Member != nil:
		return fmt.Sprintf("whether `%s` has a row whose `%s` equals %s%s", d.Member.Table, d.Member.Column, code(d.Member.Equals), whereWords(d.Member.Where))
	case d.Joined != nil:
		return fmt.Sprintf("distinct elements of %s, sorted, joined by commas", code(d.Joined))
	case d.Constant != nil:
		return fmt.Sprintf("always `%s`", *d.Constant)
	case d.CEL != nil:
		return fmt.Sprintf("`%s`", d.CEL.Source)
	case d.Label != LabelNone:
		return map[LabelPart]string{
			LabelName: "name of the outcome", LabelScore: "score of the outcome", LabelGoal: "1 if the outcome is the goal, else 0",
		}[d.Label]
	case d.Pseudonym != nil:
		if d.Pseudonym.Length == 0 {
			return fmt.Sprintf("keyed pseudonym of %s", code(d.Pseudonym.Of))
		}
		return fmt.Sprintf("keyed pseudonym of %s, %d hex digits", code(d.Pseudonym.Of), d.Pseudonym.Length)
	case d.Quality != QualityNone:
		return map[QualityPart]string{
			QualityExact: "whether no inexact version was used", QualityWeight: "what undoes the negative sampling",
			QualityCensored: "whether the label window passes the as-of moment",
		}[d.Quality]
	}
	return fmt.Sprintf("copy of `%s`", d.Alias)
}

func totalWords(t *Total) string {
	text := fmt.Sprintf("count in %s: a whole number or digits", code(t.Of))
	if len(t.Parts) > 0 {
		text += ", or the sum of " + strings.Join(t.Parts, ", ")
	}
	return text
}

func lookupWords(l *Lookup) string {
	text := code(l.Of)
	if l.Trim {
		text += ", trimmed"
	}
	if l.Upper {
		text += ", in upper case"
	}
	return fmt.Sprintf("%s, through map %s", text, l.Map)
}

func binsWords(b *Bins) string {
	var parts []string
	for _, bin := range b.Bins {
		parts = append(parts, rangeWords(bin))
	}
	text := fmt.Sprintf("range of %s: %s", code(b.Of), strings.Join(parts, ", "))
	parts = parts[:0]
	for _, bin := range b.Faults {
		parts = append(parts, rangeWords(bin))
	}
	if len(parts) > 0 {
		text += "; missing and counted: " + strings.Join(parts, ", ")
	}
	return text
}

func rangeWords(b Bin) string {
	switch {
	case b.From == nil && b.To == nil:
		return b.Name + " (any)"
	case b.From == nil:
		return fmt.Sprintf("%s (up to %d)", b.Name, *b.To)
	case b.To == nil:
		return fmt.Sprintf("%s (from %d)", b.Name, *b.From)
	}
	return fmt.Sprintf("%s (%d to %d)", b.Name, *b.From, *b.To)
}

func partWords(p *DatePart) string {
	text := fmt.Sprintf("%s of %s in UTC", p.Part, code(p.Of))
	if p.Part == "weekday" {
		text += " (0 is Sunday)"
	}
	switch {
	case p.Map != "":
		return text + ", through map " + p.Map
	case len(p.In) > 0:
		var list []string
		for _, v := range p.In {
			list = append(list, strconv.FormatInt(v, 10))
		}
		return "whether the " + text + " is one of " + strings.Join(list, ", ")
	}
	return text
}

func aggregateWords(a *Aggregate) string {
	text := "`" + a.Table + "`" + whereWords(a.Where)
	if len(a.Time) == 0 {
		return text
	}
	if a.Window == 0 {
		return text + ", before the example by " + eventWords(a.Time)
	}
	return fmt.Sprintf("%s, in the %s before the example by %s", text, span(a.Window), eventWords(a.Time))
}

func whereWords(f *Filter) string {
	if f == nil {
		return ""
	}
	return " where `" + f.Source + "`"
}

// eventWords names the columns that tell when an event was.
func eventWords(columns []string) string {
	return "`" + strings.Join(columns, "`, else `") + "`"
}

func code(r fmt.Stringer) string {
	return "`" + r.String() + "`"
}

func codes(refs []Ref) []string {
	list := make([]string, len(refs))
	for i, r := range refs {
		list[i] = code(r)
	}
	return list
}

// firstOf joins alternatives behind words that are only needed for several.
func firstOf(several string, list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return several + " " + strings.Join(list, ", ")
}

func unitName(d time.Duration) string {
	switch d {
	case 24 * time.Hour:
		return "days"
	case time.Hour:
		return "hours"
	case time.Minute:
		return "minutes"
	}
	return "seconds"
}

// span renders a length of time in its largest whole unit.
func span(d time.Duration) string {
	for _, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute} {
		if d%unit == 0 {
			return fmt.Sprintf("%d %s", d/unit, unitName(unit))
		}
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}

// missingWords says what becomes of a missing value.
func missingWords(c *Column) string {
	switch {
	case c.Required:
		return "row is dropped"
	case c.Missing == MissingNull:
		return "null"
	case c.Missing == MissingZero:
		return "0"
	case c.Missing == MissingMedian:
		return "median of train"
	}
	return string(c.Missing)
}
