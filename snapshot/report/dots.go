package report

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// rates is the plotter of means by group: a dot for each split, joined by a
// line whose length is their difference, over the expected range.
type rates struct {
	rows     []row
	expected *Threshold
}

// rate draws means between 0 and 1.
func (a *artist) rate(title, doc string, rows []row, expected *Threshold) (drawing, error) {
	rows = rows[:min(len(rows), maxBars)]
	p := newPlot()
	p.Y.Min, p.Y.Max = -0.5, float64(len(rows))-0.5
	p.Y.Tick.Marker = categories(rows)
	highest := 0.0
	for _, r := range rows {
		highest = max(highest, shown(r.train), shown(r.test))
	}
	if expected != nil && expected.High != nil {
		highest = max(highest, *expected.High)
	}
	if highest == 0 {
		highest = 1
	}
	p.X.Min, p.X.Max = 0, highest*1.2
	p.X.Tick.Marker = ticks{text: mark, upTo: highest * 1.2}
	p.Add(rates{rows: rows, expected: expected}, guides{})
	rowHeight := 40.0
	if len(rows) == 1 {
		rowHeight = 110
	}
	return a.draw(title, doc, half, float64(len(rows))*rowHeight+26, p.Draw)
}

// Plot implements plot.Plotter.
func (r rates) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	if e := r.expected; e != nil {
		low, high := c.Min.X, c.Max.X
		if e.Low != nil {
			low = trX(*e.Low)
		}
		if e.High != nil {
			high = trX(*e.High)
		}
		fillBox(c, band, low, c.Min.Y, high, c.Max.Y)
		c.FillText(textStyle(10.5, muted, draw.XLeft, draw.YTop), vg.Point{X: low + 5, Y: c.Max.Y - 4}, "expected")
	}
	for i, row := range r.rows {
		y := trY(float64(len(r.rows) - 1 - i))
		if row.train.Hidden == Shown && row.test.Hidden == Shown {
			line(c, muted, 1.5, trX(row.train.Value), y, trX(row.test.Value), y)
		}
		if row.test.Hidden == Shown {
			x := trX(row.test.Value)
			dot(c, test, x, y, 6)
			c.FillText(textStyle(11, ink, draw.XCenter, draw.YTop), vg.Point{X: x, Y: y - 10}, "test "+percent(row.test.Value))
		}
		if row.train.Hidden == Shown {
			x := trX(row.train.Value)
			dot(c, train, x, y, 6)
			c.FillText(textStyle(11, ink, draw.XCenter, draw.YBottom), vg.Point{X: x, Y: y + 10}, "train "+percent(row.train.Value))
		}
		if row.train.Hidden == Masked && row.test.Hidden == Masked {
			c.FillText(textStyle(11, muted, draw.XLeft, draw.YCenter), vg.Point{X: c.Min.X + 4, Y: y}, maskedText)
		}
	}
}

// shifts is the plotter of signed differences: a stem from zero and a dot.
type shifts struct{ rows []row }

// smallShift is what Cohen (1988) calls a small effect; within it the page
// shades the ground.
const smallShift = 0.2

// shift draws how far test lies from train, column by column. The values
// stand in the train figures of the rows.
func (a *artist) shift(title, doc string, rows []row) (drawing, error) {
	rows = rows[:min(len(rows), maxBars)]
	p := newPlot()
	p.Y.Min, p.Y.Max = -0.5, float64(len(rows))-0.5
	p.Y.Tick.Marker = categories(rows)
	widest := 1.5 * smallShift
	for _, r := range rows {
		widest = max(widest, math.Abs(r.train.Value)*1.15)
	}
	p.X.Min, p.X.Max = -widest, widest
	p.X.Tick.Marker = ticks{text: signed, upTo: math.Inf(1)}
	p.Add(shifts{rows: rows}, guides{})
	return a.draw(title, doc, half, float64(len(rows))*21+28, p.Draw)
}

// Plot implements plot.Plotter.
func (s shifts) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	fillBox(c, band, trX(-smallShift), c.Min.Y, trX(smallShift), c.Max.Y)
	line(c, muted, 1, trX(0), c.Min.Y, trX(0), c.Max.Y)
	for i, r := range s.rows {
		y := trY(float64(len(s.rows) - 1 - i))
		x := trX(r.train.Value)
		line(c, test, 2, trX(0), y, x, y)
		dot(c, test, x, y, 4)
	}
}

// signed writes a difference with its sign.
func signed(v float64) string {
	if v > 0 {
		return "+" + number(v)
	}
	return number(v)
}

// shiftWords says in words what the picture of the shifts shows.
func shiftWords(rows []row) string {
	beyond := 0
	for _, r := range rows {
		if math.Abs(r.train.Value) > smallShift {
			beyond++
		}
	}
	return fmt.Sprintf("Difference of the test mean from the train mean in standard deviations of train, for %d columns, largest first: %s at %s; %d beyond ±%s.",
		len(rows), rows[0].label, signed(rows[0].train.Value), beyond, number(smallShift))
}
