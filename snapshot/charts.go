package snapshot

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/report"
)

const (
	// binsMost is the most bins of a histogram.
	binsMost = 24
	// barsMost is the most bars of a chart; the others are not shown.
	barsMost = 40
)

// chartBins chooses the edges of the histograms: round numbers round the
// middle 99 per cent of the train values, so that neither the smallest nor the
// largest value shows. What lies beyond is counted in the outermost bins.
func (b *build) chartBins(n *numbers) [][]float64 {
	edges := make([][]float64, len(b.Definition.Charts))
	for i, chart := range b.Definition.Charts {
		if chart.Kind != "histogram" {
			continue
		}
		for at := range b.plan.columns {
			if c := &b.plan.columns[b.plan.base(at)]; b.plan.columns[at].name == chart.Column && c.numeric >= 0 {
				low, ok := n.quantile(c, 0.005)
				high, _ := n.quantile(c, 0.995)
				if ok {
					edges[i] = roundEdges(low, high, c.Type == definition.Int32)
				}
			}
		}
	}
	return edges
}

// roundEdges are edges at multiples of 1, 2 or 5 times a power of ten.
func roundEdges(low, high float64, whole bool) []float64 {
	span := high - low
	if !(span > 0) {
		span = math.Max(math.Abs(low), 1)
	}
	exponent := int(math.Floor(math.Log10(span / binsMost)))
	for {
		for _, m := range []float64{1, 2, 5} {
			step := m * math.Pow10(exponent)
			if whole && step < 1 {
				continue
			}
			first, last := math.Floor(low/step), math.Floor(high/step)+1
			if last-first > binsMost {
				continue
			}
			edges := make([]float64, 0, int(last-first)+1)
			for k := first; k <= last; k++ {
				// Dividing by a whole number rounds once; multiplying by 0.1 twice.
				if exponent < 0 {
					edges = append(edges, k*m/math.Pow10(-exponent))
				} else {
					edges = append(edges, k*step)
				}
			}
			return edges
		}
		exponent++
	}
}

// masked says that a cell concerns so few users that it is not shown.
func (b *build) masked(counts ...tally) bool {
	for _, t := range counts {
		if t.users > 0 && t.users < int64(b.Definition.Privacy.MinUsers) {
			return true
		}
	}
	return false
}

// pair are the figures of a cell; both are masked if one must be.
func (b *build) pair(t *[2]tally) (train, test report.Figure) {
	if b.masked(t[0], t[1]) {
		return report.Figure{Hidden: report.Masked}, report.Figure{Hidden: report.Masked}
	}
	return report.Count(t[inTrain].rows), report.Count(t[inTest].rows)
}

// charts fills the definition's charts.
func (b *build) charts(e *exported) []report.Chart {
	var list []report.Chart
	for i, chart := range b.Definition.Charts {
		at := slices.IndexFunc(b.plan.columns, func(c column) bool { return c.name == chart.Column })
		if at < 0 {
			continue
		}
		c := &b.plan.columns[at]
		out := report.Chart{Title: chart.Title, Kind: report.ChartKind(chart.Kind), Column: chart.Column, Doc: c.Doc}
		at = b.plan.base(at)
		switch chart.Kind {
		case "bars":
			out.Cells = b.bars(e.stats.cells[at])
		case "histogram":
			if h := e.stats.charts[i]; h != nil {
				for bin := range h.bins {
					cell := report.Cell{From: h.edges[bin], To: h.edges[bin+1]}
					cell.Train, cell.Test = b.pair(&h.bins[bin])
					out.Cells = append(out.Cells, cell)
				}
			}
		case "rate":
			cell := report.Cell{Label: "all rows"}
			cell.Train, cell.Test = b.mean(&e.stats.columns[at][inTrain]), b.mean(&e.stats.columns[at][inTest])
			out.Cells = append(out.Cells, cell)
			if r := b.Definition.Gates.Rate; r[1] > 0 && c.Derive.Label == definition.LabelGoal {
				within := report.Within(r[0], r[1])
				out.Expected = &within
			}
		}
		list = append(list, out)
	}
	return list
}

// bars are the cells of a column by value: numbers in their order, texts by
// falling number of rows, ties by bytes.
func (b *build) bars(c *cells) []report.Cell {
	var list []report.Cell
	for _, v := range sortedKeys(c.numbers) {
		cell := report.Cell{Label: strconv.FormatFloat(v, 'f', -1, 64)}
		cell.Train, cell.Test = b.pair(c.numbers[v])
		list = append(list, cell)
	}
	texts := sortedKeys(c.texts)
	slices.SortStableFunc(texts, func(x, y string) int {
		rows := func(v string) int64 { return c.texts[v][0].rows + c.texts[v][1].rows }
		return cmp.Compare(rows(y), rows(x))
	})
	for _, v := range texts {
		cell := report.Cell{Label: v}
		cell.Train, cell.Test = b.pair(c.texts[v])
		list = append(list, cell)
	}
	return list[:min(len(list), barsMost)]
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// mean is the mean of the values present.
func (b *build) mean(c *columnStats) report.Figure {
	if b.masked(c.present) {
		return report.Figure{Hidden: report.Masked}
	}
	v, ok := c.numbers.mean()
	if !ok {
		return report.Figure{Hidden: report.None}
	}
	return report.Of(v)
}

// score is an outcome's score as the old pipeline wrote it: "-1.0", "0.5".
func score(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return fmt.Sprintf("%.1f", v)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
