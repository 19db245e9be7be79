package report

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"
)

// page is what the template reads: the data, and all that is drawn or worded
// from it.
type page struct {
	*Data
	Style    template.CSS
	Overall  Verdict
	Headline string
	Gates    []gateRow
	Findings []gateRow // the gates that did not pass
	Funnel   drawing
	Exact    []exactness
	Stack    *drawing
	Charts   []chartView
	Gaps     *drawing // missing shares
	GapRows  int      // columns with a missing value
	Shifts   *drawing
	Steps    []Step
	Recall   []recallRow
	Sections []section
}

// section is an entry of the page's contents.
type section struct{ ID, Title string }

// gateRow is a gate with its picture.
type gateRow struct {
	Gate
	Gauge drawing
}

// exactness is a way in which features were known.
type exactness struct {
	Name  string // also the class of its colour
	Title string
	Doc   string
	Rows  int64
	Share float64
	paint color.Color
}

// chartView is a chart of the definition with its picture. Picture is nil when
// it has no cell.
type chartView struct {
	Chart
	Picture *drawing
	Cells   []cellView
}

// cellView is a cell in words. Shares are of the split's rows.
type cellView struct {
	Label                 string
	Train, Test           string
	TrainShare, TestShare string
}

func newPage(d *Data) (*page, error) {
	p := &page{Data: d, Style: template.CSS(styleSource), Overall: d.Verdict(), Steps: d.Funnel} // our own file, nothing of the data
	var a artist
	if err := p.addGates(&a); err != nil {
		return nil, err
	}
	var err error
	if p.Funnel, err = a.funnel("Funnel", funnelWords(d.Funnel), d.Funnel); err != nil {
		return nil, err
	}
	if err := p.addExactness(&a); err != nil {
		return nil, err
	}
	for _, c := range d.Charts {
		view, err := newChart(&a, c, d.Identity.TrainRows, d.Identity.TestRows)
		if err != nil {
			return nil, err
		}
		p.Charts = append(p.Charts, view)
	}
	if err := p.addColumns(&a); err != nil {
		return nil, err
	}
	if err := p.addRecall(&a); err != nil {
		return nil, err
	}
	p.addSections()
	return p, nil
}

func (p *page) addGates(a *artist) error {
	tally := map[Verdict]int{}
	for _, g := range p.Data.Gates {
		picture, err := a.gauge(g)
		if err != nil {
			return err
		}
		row := gateRow{Gate: g, Gauge: picture}
		p.Gates = append(p.Gates, row)
		tally[g.Verdict]++
		if g.Verdict != Pass {
			p.Findings = append(p.Findings, row)
		}
	}
	slices.SortStableFunc(p.Findings, func(a, b gateRow) int { return strings.Compare(string(a.Verdict), string(b.Verdict)) })
	total := len(p.Gates)
	switch p.Overall {
	case Pass:
		p.Headline = fmt.Sprintf("All %s pass.", plural(total, "gate"))
	case Warn:
		p.Headline = fmt.Sprintf("%d of %s pass, %d to look at.", tally[Pass], plural(total, "gate"), tally[Warn])
	case Fail:
		p.Headline = fmt.Sprintf("%d of %s failed: this dataset must not be used.", tally[Fail], plural(total, "gate"))
	}
	return nil
}

func (p *page) addExactness(a *artist) error {
	t := p.PointInTime
	p.Exact = []exactness{
		{"live", "Exact, live", "every feature came from changes received as they happened", t.Live, t.LiveShare, live},
		{"trusted", "Exact, trusted", "some came from the backfill, dated by a column that tells when they changed", t.Trusted, t.TrustedShare, trusted},
		{"inexact", "Inexact", "some were first seen after the example: the best that is known, marked features_exact = false", t.Inexact, t.InexactShare, inexact},
		{"older", "Inexact, older than the backfill", "the same, for examples older than the store's history", t.Older, t.OlderShare, older},
	}
	var parts []part
	var words []string
	for _, e := range p.Exact {
		parts = append(parts, part{e.Share, e.paint})
		words = append(words, fmt.Sprintf("%s %s", e.Title, percent(e.Share)))
	}
	if t.Live+t.Trusted+t.Inexact+t.Older == 0 {
		return nil
	}
	picture, err := a.stack("How features were known", strings.Join(words, "; ")+".", parts)
	if err != nil {
		return err
	}
	p.Stack = &picture
	return nil
}

func newChart(a *artist, c Chart, trainRows, testRows int64) (chartView, error) {
	view := chartView{Chart: c}
	rows := make([]row, len(c.Cells))
	for i, cell := range c.Cells {
		label := cell.Label
		if c.Kind == Histogram {
			label = number(cell.From) + " to " + number(cell.To)
		}
		v := cellView{Label: label}
		if c.Kind == Rate {
			rows[i] = row{label, cell.Train, cell.Test}
			v.Train, v.Test = figurePercent(cell.Train), figurePercent(cell.Test)
		} else {
			rows[i] = row{label, ofRows(cell.Train, trainRows), ofRows(cell.Test, testRows)}
			v.Train, v.Test = figure(cell.Train, Rows), figure(cell.Test, Rows)
			v.TrainShare, v.TestShare = figurePercent(rows[i].train), figurePercent(rows[i].test)
		}
		view.Cells = append(view.Cells, v)
	}
	if len(rows) == 0 {
		return view, nil
	}
	var picture drawing
	var err error
	switch c.Kind {
	case Bars:
		picture, err = a.bars(c.Title, outcomeWords("Shares of rows", rows, percent), rows, percent, half)
	case Histogram:
		picture, err = a.histogram(c.Title, outcomeWords("Shares of rows", rows, percent), c.Cells, trainRows, testRows)
	case Rate:
		picture, err = a.rate(c.Title, outcomeWords("Means", rows, percent), rows, c.Expected)
	}
	if err != nil {
		return chartView{}, err
	}
	view.Picture = &picture
	return view, nil
}

func (p *page) addColumns(a *artist) error {
	var gaps, shifts []row
	for _, c := range p.Columns {
		if c.Role == "alias" {
			continue // a copy says nothing that its column does not
		}
		if missing(c.Train) || missing(c.Test) {
			gaps = append(gaps, row{c.Name, c.Train.MissingShare, c.Test.MissingShare})
		}
		if c.Shift.Hidden == Shown {
			shifts = append(shifts, row{label: c.Name, train: c.Shift})
		}
	}
	p.GapRows = len(gaps)
	if len(gaps) > 0 {
		slices.SortStableFunc(gaps, func(a, b row) int { return descending(shown(a.train), shown(b.train)) })
		doc := outcomeWords("Missing shares", gaps, percent)
		picture, err := a.bars("Missing values by column", doc, gaps, percent, half)
		if err != nil {
			return err
		}
		p.Gaps = &picture
	}
	if len(shifts) > 0 {
		slices.SortStableFunc(shifts, func(a, b row) int {
			return descending(math.Abs(a.train.Value), math.Abs(b.train.Value))
		})
		picture, err := a.shift("Test against train", shiftWords(shifts), shifts)
		if err != nil {
			return err
		}
		p.Shifts = &picture
	}
	return nil
}

// addSections lists the sections that the page has.
func (p *page) addSections() {
	for _, s := range []struct {
		present bool
		section
	}{
		{true, section{"gates", "Gates"}},
		{true, section{"identity", "Identity"}},
		{true, section{"funnel", "Funnel"}},
		{len(p.Classes)+len(p.Labels) > 0 || p.GoalRecall != nil, section{"labels", "Labels"}},
		{true, section{"time", "Point in time"}},
		{len(p.Charts) > 0, section{"distributions", "Distributions"}},
		{len(p.Columns) > 0, section{"columns", "Columns"}},
		{true, section{"cleaning", "Cleaning"}},
		{true, section{"privacy", "Privacy"}},
		{true, section{"reproduce", "Reproduce"}},
	} {
		if s.present {
			p.Sections = append(p.Sections, s.section)
		}
	}
}

// Has says whether the page has a section.
func (p *page) Has(id string) bool {
	return slices.ContainsFunc(p.Sections, func(s section) bool { return s.ID == id })
}

// ClassNames are the outcomes that the outlier rules list, in the order of the first.
func (p *page) ClassNames() []string {
	var names []string
	for _, o := range p.Outliers {
		for _, c := range o.Classes {
			if !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// ClassShareOf is the share of an outcome's rows that an outlier rule takes.
func (o Outlier) ClassShareOf(name string) Figure {
	for _, c := range o.Classes {
		if c.Name == name {
			return c.Share
		}
	}
	return Figure{Hidden: None}
}

// Cut says that the picture shows the first rows only.
func (c chartView) Cut() bool { return c.Kind != Histogram && len(c.Cells) > maxBars }

func missing(s Summary) bool {
	return s.MissingShare.Hidden == Masked || s.MissingShare.Hidden == Shown && s.MissingShare.Value > 0
}

func descending(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
