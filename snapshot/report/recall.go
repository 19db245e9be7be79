package report

import (
	"fmt"
	"html/template"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// recallRow is a length of time with the picture of its share.
type recallRow struct {
	Reached
	Bar template.HTML
}

// addRecall draws how soon the goal was reached. The table says all that the
// bars do.
func (p *page) addRecall(a *artist) error {
	if p.GoalRecall == nil {
		return nil
	}
	for _, w := range p.GoalRecall.Within {
		row := recallRow{Reached: w}
		if w.Share.Hidden == Shown {
			title := "Within " + duration(float64(w.Seconds))
			picture, err := a.share(title, fmt.Sprintf("%s: %s of the final %s.", title, percent(w.Share.Value), p.GoalRecall.Goal), w.Share.Value)
			if err != nil {
				return err
			}
			row.Bar = picture.SVG
		}
		p.Recall = append(p.Recall, row)
	}
	return nil
}

// share draws a part of a whole as a bar on its track.
func (a *artist) share(title, doc string, share float64) (drawing, error) {
	return a.draw(title, doc, 150, 18, func(c draw.Canvas) {
		low, high := c.Min.Y+4, c.Max.Y-4
		fillBox(c, grid, c.Min.X, low, c.Max.X, high)
		fillBox(c, train, c.Min.X, low, c.Min.X+vg.Length(share)*(c.Max.X-c.Min.X), high)
	})
}

// validateRecall checks that shares are shares and lengths of time rise.
func (d *Data) validateRecall(fault func(string, ...any)) {
	if d.GoalRecall == nil {
		return
	}
	finite(fault, "goal recall", d.GoalRecall.Examples)
	last := int64(0)
	var low float64
	for _, w := range d.GoalRecall.Within {
		where := strings.ReplaceAll("goal recall within "+duration(float64(w.Seconds)), nbsp, " ")
		finite(fault, where, w.Examples, w.Share)
		if w.Seconds <= last {
			fault("%s: the lengths of time do not rise", where)
		}
		last = w.Seconds
		if w.Share.Hidden != Shown {
			continue
		}
		if w.Share.Value < low || w.Share.Value > 1 {
			fault("%s: the share %v is below the one before or above 1", where, w.Share.Value)
		}
		low = w.Share.Value
	}
}
