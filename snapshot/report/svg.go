package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours of a drawing are names, not paint: theme turns each into a CSS
// variable, so that one drawing serves light and dark. Their values are
// arbitrary, distinct, and not black, which vgsvg leaves out.
var (
	ink     = color.RGBA{R: 1, A: 255}
	muted   = color.RGBA{R: 2, A: 255}
	grid    = color.RGBA{R: 3, A: 255}
	train   = color.RGBA{R: 4, A: 255}
	test    = color.RGBA{R: 5, A: 255}
	band    = color.RGBA{R: 6, A: 255}
	removed = color.RGBA{R: 7, A: 255}
	live    = color.RGBA{R: 8, A: 255}
	trusted = color.RGBA{R: 9, A: 255}
	inexact = color.RGBA{R: 10, A: 255}
	older   = color.RGBA{R: 11, A: 255}
	pass    = color.RGBA{R: 12, A: 255}
	warn    = color.RGBA{R: 13, A: 255}
	fail    = color.RGBA{R: 14, A: 255}
	surface = color.RGBA{R: 15, A: 255}
)

// theme replaces the colours of a style attribute by CSS variables, and leaves
// the choice of typeface to the page.
func theme(style string) string {
	for _, c := range []struct {
		color color.RGBA
		name  string
	}{
		{ink, "ink"},
		{muted, "muted"},
		{grid, "grid"},
		{train, "train"},
		{test, "test"},
		{band, "band"},
		{removed, "removed"},
		{live, "live"},
		{trusted, "trusted"},
		{inexact, "inexact"},
		{older, "older"},
		{pass, "pass"},
		{warn, "warn"},
		{fail, "fail"},
		{surface, "surface"},
	} {
		style = strings.ReplaceAll(style, fmt.Sprintf("#%02X%02X%02X", c.color.R, c.color.G, c.color.B), "var(--"+c.name+")")
	}
	return strings.ReplaceAll(style, "font-family:Liberation Sans;font-variant:normal;font-weight:normal;font-style:normal;", "")
}

// drawing is a finished chart, ready to stand in the page.
type drawing struct {
	ID    string // unique in the page
	Title string
	Doc   string // says in words what the picture shows
	SVG   template.HTML
}

// artist draws the charts of one page and numbers them.
type artist struct{ drawn int }

// draw runs fn on a canvas of the size in CSS pixels and returns the drawing.
func (a *artist) draw(title, doc string, width, height float64, fn func(draw.Canvas)) (drawing, error) {
	a.drawn++
	d := drawing{ID: fmt.Sprintf("chart-%d", a.drawn), Title: title, Doc: doc}
	canvas := vgsvg.New(vg.Length(width), vg.Length(height))
	fn(draw.New(canvas))
	var raw bytes.Buffer
	if _, err := canvas.WriteTo(&raw); err != nil {
		return drawing{}, fmt.Errorf("draw chart %q: %w", title, err)
	}
	d.SVG = template.HTML(d.inline(raw.String(), width, height)) // escaped by vgsvg and inline
	return d, nil
}

// styles matches the style attributes that vgsvg writes. A quote in a text is
// escaped there, so that no text can look like an attribute.
var styles = regexp.MustCompile(`style="[^"]*"`)

// inline makes an element of a page from an SVG document: no prologue, no
// fixed size, no name space, colours from the page, a title and a description.
func (d *drawing) inline(document string, width, height float64) string {
	_, body, _ := strings.Cut(document, "<svg")
	_, body, _ = strings.Cut(body, ">")
	body = styles.ReplaceAllStringFunc(body, theme)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg role="img" aria-labelledby="%[1]s-t %[1]s-d" viewBox="0 0 %[2]g %[3]g" width="%[2]g" height="%[3]g">`, d.ID, width, height)
	fmt.Fprintf(&b, `<title id="%s-t">%s</title>`, d.ID, template.HTMLEscapeString(d.Title))
	fmt.Fprintf(&b, `<desc id="%s-d">%s</desc>`, d.ID, template.HTMLEscapeString(d.Doc))
	b.WriteString(body)
	return b.String()
}

// textStyle is a style for text of the size in CSS pixels.
func textStyle(size float64, c color.Color, x text.XAlignment, y text.YAlignment) draw.TextStyle {
	return draw.TextStyle{
		Color:   c,
		Font:    font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, vg.Length(size)),
		XAlign:  x,
		YAlign:  y,
		Handler: plot.DefaultTextHandler,
	}
}

// newPlot returns a plot without decoration: no background, quiet axes.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Width = 0
		axis.Tick.LineStyle = draw.LineStyle{Color: grid, Width: 1}
		axis.Tick.Length = 4
		axis.Padding = 0
	}
	p.X.Tick.Label = textStyle(11, muted, draw.XCenter, draw.YTop)
	p.Y.Tick.Label = textStyle(11, ink, draw.XRight, draw.YCenter)
	return p
}

// fillBox fills the rectangle between two corners.
func fillBox(c draw.Canvas, col color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(col, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

// line strokes a straight line.
func line(c draw.Canvas, col color.Color, width, x0, y0, x1, y1 vg.Length, dashes ...vg.Length) {
	c.StrokeLine2(draw.LineStyle{Color: col, Width: width, Dashes: dashes}, x0, y0, x1, y1)
}

// dot fills a circle with a rim in the colour of the page, so that dots that
// overlap stay apart.
func dot(c draw.Canvas, col color.Color, x, y, radius vg.Length) {
	for _, d := range []struct {
		color  color.Color
		radius vg.Length
	}{{surface, radius + 1.5}, {col, radius}} {
		c.SetColor(d.color)
		var path vg.Path
		path.Move(vg.Point{X: x + d.radius, Y: y})
		path.Arc(vg.Point{X: x, Y: y}, d.radius, 0, 6.283185307179586)
		path.Close()
		c.Fill(path)
	}
}
