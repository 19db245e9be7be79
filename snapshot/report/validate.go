package report

import (
	"errors"
	"fmt"
	"math"
)

// Validate reports what Data contradicts or must not show, all of it at once:
// a funnel that does not add up, splits that differ from it, a verdict or kind
// that does not exist, a figure that is no finite number, bins that overlap,
// an exact minimum or maximum of a quasi-identifying column.
func (d *Data) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if d.Identity.Dataset == "" || d.Identity.Version == "" {
		fault("identity: name and version of the dataset are required")
	}
	d.validateFunnel(fault)
	for _, g := range d.Gates {
		if g.Verdict != Pass && g.Verdict != Warn && g.Verdict != Fail {
			fault("gate %q: unknown verdict %q", g.Name, g.Verdict)
		}
		finite(fault, "gate "+g.Name, g.Figure)
	}
	if len(d.Gates) == 0 {
		fault("gates: a report without a verdict says nothing")
	}
	for i := range d.Charts {
		d.Charts[i].validate(fault)
	}
	for i := range d.Columns {
		d.Columns[i].validate(fault)
	}
	for _, l := range d.Labels {
		finite(fault, "label "+l.Name, l.Train, l.Test)
	}
	d.validateRecall(fault)
	for _, c := range d.Classes {
		finite(fault, "class "+c.Name, c.Score, c.Train, c.Test, c.TrainShare, c.TestShare)
	}
	for _, o := range d.Outliers {
		finite(fault, "outlier rule "+o.Column, o.Low, o.High, Of(o.Share))
	}
	for _, m := range d.Privacy.Measures {
		finite(fault, "privacy measure "+m.Name, m.Figure)
	}
	return errors.Join(faults...)
}

// validateFunnel checks that every row is accounted for.
func (d *Data) validateFunnel(fault func(string, ...any)) {
	if len(d.Funnel) == 0 {
		fault("funnel: it is empty")
		return
	}
	left, splits, split := d.Funnel[0].Count, int64(0), false
	for i, s := range d.Funnel {
		switch {
		case s.Split:
			split = true
			splits += s.Count
		case split:
			fault("funnel step %q: it follows a split", s.Key)
		case i > 0:
			if s.Count != left-s.Removed {
				fault("funnel step %q: %d rows less %d are not %d", s.Key, left, s.Removed, s.Count)
			}
			left = s.Count
		}
	}
	if !split {
		fault("funnel: it ends without a split")
	} else if splits != left {
		fault("funnel: the splits hold %d rows, the last step leaves %d", splits, left)
	}
	if rows := d.Identity.TrainRows + d.Identity.TestRows; split && rows != splits {
		fault("identity: %d rows in train and test, %d in the funnel's splits", rows, splits)
	}
}

func (c *Chart) validate(fault func(string, ...any)) {
	switch c.Kind {
	case Bars, Rate:
	case Histogram:
		for i, cell := range c.Cells {
			if !(cell.From < cell.To) {
				fault("chart %q: bin %d from %v to %v is empty", c.Title, i, cell.From, cell.To)
			} else if i > 0 && cell.From != c.Cells[i-1].To {
				fault("chart %q: bin %d does not begin where the one before ends", c.Title, i)
			}
			finite(fault, "chart "+c.Title, Of(cell.From), Of(cell.To))
		}
	default:
		fault("chart %q: unknown kind %q", c.Title, c.Kind)
	}
	for _, cell := range c.Cells {
		finite(fault, "chart "+c.Title, cell.Train, cell.Test)
	}
}

func (c *Column) validate(fault func(string, ...any)) {
	for _, s := range []Summary{c.Train, c.Test} {
		finite(fault, "column "+c.Name, s.Count, s.Missing, s.MissingShare, s.Distinct, s.Mean, s.SD, s.Min, s.Max)
		if c.Class == "quasi" && (s.Min.Hidden == Shown || s.Max.Hidden == Shown) {
			fault("column %q: the exact minimum or maximum of a quasi column must not be shown", c.Name)
			break
		}
	}
	finite(fault, "column "+c.Name, c.Shift)
}

func finite(fault func(string, ...any), where string, figures ...Figure) {
	for _, f := range figures {
		if f.Hidden == Shown && (math.IsNaN(f.Value) || math.IsInf(f.Value, 0)) {
			fault("%s: %v is no finite number", where, f.Value)
			return
		}
	}
}
