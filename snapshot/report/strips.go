package report

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// fall is the plotter of the funnel: what each step left, what it took, and,
// below, where the rest went.
type fall struct{ steps []Step }

// funnel draws the steps of the funnel.
func (a *artist) funnel(title, doc string, steps []Step) (drawing, error) {
	rows := make([]row, len(steps))
	highest := 1.0
	for i, s := range steps {
		rows[i].label = s.Key
		highest = max(highest, float64(s.Count))
	}
	p := newPlot()
	p.Y.Min, p.Y.Max = -0.5, float64(len(rows))-0.5
	p.Y.Tick.Marker = categories(rows)
	p.X.Min, p.X.Max = 0, highest*1.2
	p.X.Tick.Marker = ticks{text: func(v float64) string { return count(int64(v)) }, upTo: highest}
	p.Add(guides{}, fall{steps: steps})
	return a.draw(title, doc, full, float64(len(rows))*27+26, p.Draw)
}

// Plot implements plot.Plotter.
func (f fall) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	begin := 0.0 // of the next split
	for i, s := range f.steps {
		y := trY(float64(len(f.steps) - 1 - i))
		low, high := y-9, y+9
		if s.Split {
			col := color.Color(train)
			if begin > 0 {
				col = test
			}
			fillBox(c, col, trX(begin), low, trX(begin+float64(s.Count)), high)
			begin += float64(s.Count)
			f.label(c, trX(begin), y, ink, count(s.Count))
			continue
		}
		end := trX(float64(s.Count))
		fillBox(c, grid, c.Min.X, low, end, high)
		if s.Removed > 0 {
			before := max(trX(float64(s.Count+s.Removed)), end+1.5)
			fillBox(c, removed, end, low, before, high)
			f.label(c, before, y, ink, count(s.Count)+"  (−"+count(s.Removed)+")")
			continue
		}
		f.label(c, end, y, ink, count(s.Count))
	}
	line(c, muted, 1, c.Min.X, c.Min.Y, c.Min.X, c.Max.Y)
}

func (f fall) label(c draw.Canvas, x, y vg.Length, col color.Color, text string) {
	c.FillText(textStyle(11, col, draw.XLeft, draw.YCenter), vg.Point{X: x + 6, Y: y}, text)
}

// funnelWords says in words what the picture of the funnel shows.
func funnelWords(steps []Step) string {
	var largest Step
	for _, s := range steps {
		if s.Removed > largest.Removed {
			largest = s
		}
	}
	text := fmt.Sprintf("%s rows enter as %s.", count(steps[0].Count), steps[0].Key)
	if largest.Removed > 0 {
		text += fmt.Sprintf(" The step %s takes most: %s.", largest.Key, count(largest.Removed))
	}
	for _, s := range steps {
		if s.Split {
			text += fmt.Sprintf(" %s rows go to %s.", count(s.Count), s.Key)
		}
	}
	return text
}

// part is a piece of a stack.
type part struct {
	share float64
	color color.Color
}

// stack draws parts of a whole as one bar.
func (a *artist) stack(title, doc string, parts []part) (drawing, error) {
	return a.draw(title, doc, full, 34, func(c draw.Canvas) {
		begin := 0.0
		for _, p := range parts {
			if p.share <= 0 {
				continue
			}
			x0 := c.Min.X + vg.Length(begin)*(c.Max.X-c.Min.X)
			begin += p.share
			x1 := c.Min.X + vg.Length(begin)*(c.Max.X-c.Min.X)
			fillBox(c, p.color, x0, c.Min.Y+2, max(x1-2, x0+1), c.Max.Y-2)
			if p.share >= 0.08 {
				c.FillText(textStyle(12.5, surface, draw.XCenter, draw.YCenter), vg.Point{X: (x0 + x1) / 2, Y: c.Min.Y + 17}, percent(p.share))
			}
		}
	})
}

// gauge is the plotter of a gate: the range that passes and where the figure
// lies.
type gauge struct{ gate Gate }

// gauge draws a gate. It is undrawn, with an empty SVG, if nothing but exactly
// one value passes: then there is no range to show.
func (a *artist) gauge(g Gate) (drawing, error) {
	low, high := g.Threshold.Low, g.Threshold.High
	if g.Figure.Hidden != Shown || low == nil && high == nil || low == nil && *high == 0 ||
		low != nil && high != nil && *low == *high {
		return drawing{}, nil
	}
	p := newPlot()
	p.HideAxes()
	farthest := math.Abs(g.Figure.Value)
	for _, end := range []*float64{low, high} {
		if end != nil {
			farthest = max(farthest, math.Abs(*end))
		}
	}
	p.X.Min, p.X.Max = min(0, g.Figure.Value), farthest*1.25
	if g.Unit == Share {
		p.X.Max = min(p.X.Max, 1)
	}
	if p.X.Max <= p.X.Min {
		p.X.Max = p.X.Min + 1
	}
	p.Y.Min, p.Y.Max = 0, 1
	p.Add(gauge{gate: g})
	doc := fmt.Sprintf("%s: %s; passes: %s.", g.Name, figure(g.Figure, g.Unit), threshold(g.Threshold, g.Unit))
	return a.draw(g.Name, doc, 150, 18, p.Draw)
}

// Plot implements plot.Plotter.
func (g gauge) Plot(c draw.Canvas, p *plot.Plot) {
	trX, _ := p.Transforms(&c)
	middle := (c.Min.Y + c.Max.Y) / 2
	fillBox(c, grid, c.Min.X, middle-3, c.Max.X, middle+3)
	low, high := c.Min.X, c.Max.X
	if t := g.gate.Threshold.Low; t != nil {
		low = trX(*t)
	}
	if t := g.gate.Threshold.High; t != nil {
		high = min(trX(*t), c.Max.X)
	}
	fillBox(c, band, low, middle-3, high, middle+3)
	for _, end := range []vg.Length{low, high} {
		if end > c.Min.X && end < c.Max.X {
			line(c, muted, 1, end, middle-6, end, middle+6)
		}
	}
	col := map[Verdict]color.Color{Pass: pass, Warn: warn, Fail: fail}[g.gate.Verdict]
	x := min(max(trX(g.gate.Figure.Value), c.Min.X+5), c.Max.X-5)
	dot(c, col, x, middle, 5)
}
