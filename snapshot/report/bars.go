package report

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Widths of drawings in CSS pixels: half and all of the page's column.
const (
	half = 490
	full = 1010
)

// maxBars bounds the rows of a drawing; the table below it holds all.
const maxBars = 24

// row is a place on a categorical axis with a value for each split.
type row struct {
	label       string
	train, test Figure
}

// horizontal is the plotter of paired bars, the first row on top.
type horizontal struct {
	rows []row
	text func(float64) string
}

const (
	barHeight = 34 // of a row, in CSS pixels
	barWidth  = 12 // of a bar
)

// bars draws paired horizontal bars with their values at their ends.
func (a *artist) bars(title, doc string, rows []row, text func(float64) string, width float64) (drawing, error) {
	rows = rows[:min(len(rows), maxBars)]
	p := newPlot()
	p.Y.Min, p.Y.Max = -0.5, float64(len(rows))-0.5
	p.Y.Tick.Marker = categories(rows)
	highest := 0.0
	for _, r := range rows {
		highest = max(highest, shown(r.train), shown(r.test))
	}
	if highest == 0 {
		highest = 1
	}
	p.X.Min, p.X.Max = 0, highest*1.16 // room for the values
	p.X.Tick.Marker = ticks{text: mark, upTo: highest}
	p.Add(guides{}, horizontal{rows: rows, text: text})
	return a.draw(title, doc, width, float64(len(rows))*barHeight+26, p.Draw)
}

// Plot implements plot.Plotter.
func (h horizontal) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	for i, r := range h.rows {
		middle := trY(float64(len(h.rows) - 1 - i))
		h.bar(c, trX, middle+0.75, middle+0.75+barWidth, r.train, train)
		h.bar(c, trX, middle-0.75-barWidth, middle-0.75, r.test, test)
	}
	line(c, muted, 1, c.Min.X, c.Min.Y, c.Min.X, c.Max.Y)
}

func (h horizontal) bar(c draw.Canvas, trX func(float64) vg.Length, low, high vg.Length, f Figure, col color.Color) {
	end, label, shade := c.Min.X, "", color.Color(ink)
	switch f.Hidden {
	case Shown:
		end, label = trX(f.Value), h.text(f.Value)
		fillBox(c, col, c.Min.X, low, end, high)
	case Masked:
		label, shade = maskedText, muted
	case None:
		label, shade = noneText, muted
	}
	c.FillText(textStyle(10.5, shade, draw.XLeft, draw.YCenter), vg.Point{X: end + 4, Y: (low + high) / 2}, label)
}

// bins is the plotter of a histogram: train filled, test as an outline above
// it, so that the two differ in form and not in colour only.
type bins struct {
	cells           []Cell
	trainOf, testOf float64 // rows of the splits
	highest         float64 // share
}

// histogram draws the shares of rows by range.
func (a *artist) histogram(title, doc string, cells []Cell, trainRows, testRows int64) (drawing, error) {
	b := bins{cells: cells, trainOf: float64(max(trainRows, 1)), testOf: float64(max(testRows, 1))}
	for _, cell := range cells {
		b.highest = max(b.highest, shown(cell.Train)/b.trainOf, shown(cell.Test)/b.testOf)
	}
	if b.highest == 0 {
		b.highest = 1
	}
	p := newPlot()
	p.X.Min, p.X.Max = cells[0].From, cells[len(cells)-1].To
	p.Y.Min, p.Y.Max = 0, b.highest*1.05
	p.X.Tick.Marker = ticks{text: number, upTo: math.Inf(1)}
	p.Y.Tick.Marker = ticks{text: mark, upTo: math.Inf(1)}
	p.Y.Tick.Label = textStyle(11, muted, draw.XRight, draw.YCenter)
	p.Add(guides{across: true}, b)
	return a.draw(title, doc, half, 250, p.Draw)
}

// Plot implements plot.Plotter.
func (b bins) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	base := trY(0)
	for _, cell := range b.cells {
		x0, x1 := trX(cell.From), trX(cell.To)
		switch cell.Train.Hidden {
		case Shown:
			fillBox(c, train, x0+0.5, base, x1-0.5, trY(cell.Train.Value/b.trainOf))
		case Masked:
			masked(c, x0, x1, base)
		}
	}
	var outline []vg.Point
	flush := func() {
		if len(outline) > 0 {
			c.StrokeLines(draw.LineStyle{Color: surface, Width: 4.5}, outline)
			c.StrokeLines(draw.LineStyle{Color: test, Width: 2.5}, outline)
		}
		outline = nil
	}
	for _, cell := range b.cells {
		if cell.Test.Hidden != Shown {
			flush()
			continue
		}
		y := trY(cell.Test.Value / b.testOf)
		outline = append(outline, vg.Point{X: trX(cell.From), Y: y}, vg.Point{X: trX(cell.To), Y: y})
	}
	flush()
	line(c, muted, 1, c.Min.X, base, c.Max.X, base)
}

// masked marks a bin of too few users: a row of dots on the base line, which
// has no height to read off.
func masked(c draw.Canvas, x0, x1, base vg.Length) {
	line(c, muted, 3, x0+2, base+4, x1-2, base+4, 3, 3)
}

// guides is the plotter of quiet lines at the ticks of X, or, across, of Y.
type guides struct{ across bool }

// Plot implements plot.Plotter.
func (g guides) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	if g.across {
		for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
			line(c, grid, 1, c.Min.X, trY(t.Value), c.Max.X, trY(t.Value))
		}
		return
	}
	for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		line(c, grid, 1, trX(t.Value), c.Min.Y, trX(t.Value), c.Max.Y)
	}
}

// ticks places at most seven round values up to a limit and writes them with text.
type ticks struct {
	text func(float64) string
	upTo float64
}

// Ticks implements plot.Ticker.
func (t ticks) Ticks(low, high float64) []plot.Tick {
	high = min(high, t.upTo)
	step := roundStep((high - low) / 4)
	var marks []plot.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+step*1e-9 && len(marks) < 32; i++ {
		marks = append(marks, plot.Tick{Value: i * step, Label: t.text(round(i*step, step))})
	}
	return marks
}

// roundStep is the smallest of 1, 2, 2.5 and 5 times a power of ten that is
// not below the step.
func roundStep(step float64) float64 {
	if !(step > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, factor := range []float64{1, 2, 2.5, 5} {
		if factor*power >= step*(1-1e-9) {
			return factor * power
		}
	}
	return 10 * power
}

// round takes away what multiplying by the step added in the last digits.
func round(v, step float64) float64 {
	scale := math.Pow(10, 2-math.Floor(math.Log10(step)))
	return math.Round(v*scale)/scale + 0 // + 0 makes −0 into 0
}

// categories labels the rows, the first on top.
func categories(rows []row) plot.ConstantTicks {
	marks := make(plot.ConstantTicks, 0, len(rows))
	for i, r := range rows {
		marks = append(marks, plot.Tick{Value: float64(len(rows) - 1 - i), Label: shorten(r.label, 26)})
	}
	return marks
}

// shown is a figure's value, 0 if it has none to show.
func shown(f Figure) float64 {
	if f.Hidden != Shown {
		return 0
	}
	return f.Value
}

// ofRows turns counts into shares of a split's rows.
func ofRows(f Figure, rows int64) Figure {
	if f.Hidden == Shown && rows > 0 {
		return Of(f.Value / float64(rows))
	}
	return f
}

// outcomeWords says in words what a picture of two splits shows.
func outcomeWords(kind string, rows []row, text func(float64) string) string {
	top, at := -1.0, ""
	for _, r := range rows {
		if v := shown(r.train); r.train.Hidden == Shown && v > top {
			top, at = v, r.label
		}
	}
	if at == "" {
		return fmt.Sprintf("%s over %d places, train beside test; every cell is masked.", kind, len(rows))
	}
	return fmt.Sprintf("%s over %d places, train beside test. Train is highest at %s with %s.", kind, len(rows), at, text(top))
}
