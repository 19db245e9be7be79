package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var styleSource string

// Render writes the report of the data as one HTML page in UTF-8. Data is
// validated first; on an error of the data nothing is written. The same data
// gives the same bytes.
func Render(w io.Writer, d Data) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("report of %s %s: %w", d.Identity.Dataset, d.Identity.Version, err)
	}
	page, err := newPage(&d)
	if err != nil {
		return fmt.Errorf("report of %s %s: %w", d.Identity.Dataset, d.Identity.Version, err)
	}
	functions := template.FuncMap{
		"count":     count,
		"percent":   percent,
		"figure":    figure,
		"share":     figurePercent,
		"duration":  duration,
		"size":      size,
		"moment":    moment,
		"day":       day,
		"number":    number,
		"threshold": threshold,
		"quantity":  quantity,
		"signed":    signedFigure,
		"hidden":    func(f Figure) bool { return f.Hidden != Shown },
		"float":     func(n int64) float64 { return float64(n) },
	}
	t, err := template.New("page").Funcs(functions).Parse(pageSource)
	if err != nil {
		return fmt.Errorf("parse the page's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return fmt.Errorf("report of %s %s: %w", d.Identity.Dataset, d.Identity.Version, err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// signedFigure writes a figure that is a difference with its sign.
func signedFigure(f Figure) string {
	if f.Hidden == Shown {
		return signed(f.Value)
	}
	return figure(f, Plain)
}
