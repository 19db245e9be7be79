package snapshot

import (
	"math"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/spill"
)

// The splits, as places of arrays.
const (
	inTrain = 0
	inTest  = 1
)

// distinctMost is the most distinct texts that are counted for a column.
const distinctMost = 100_000

// uniformMost is the most distinct values that are kept of a uniform rule.
const uniformMost = 100

// tally counts rows and the distinct users among them; the rows of one user
// follow each other.
type tally struct {
	rows, users int64
	last        uint64
}

func (t *tally) add(user uint64) {
	t.rows++
	if t.last != user {
		t.last = user
		t.users++
	}
}

func (t *tally) merge(o *tally) {
	t.rows += o.rows
	t.users += o.users
}

// columnStats is what is counted of a column in one split, before filling.
type columnStats struct {
	present, missing tally
	changed          tally // rare values merged
	numbers          moments
	texts            map[string]struct{} // nil: not counted
	more             bool                // there are more than distinctMost
}

// cells counts the rows of a column by value, before filling for numbers and
// after all for texts.
type cells struct {
	column  int
	edges   []float64 // of a histogram: bin i is edges[i] ≤ v < edges[i+1]
	bins    [][2]tally
	numbers map[float64]*[2]tally
	texts   map[string]*[2]tally
}

// statistics is everything that is counted of the rows that are written. One
// worker fills it; those of several workers, which see different users, merge,
// and the result does not depend on who saw what.
type statistics struct {
	p       *plan
	columns [][2]columnStats
	cells   []*cells // by output column, nil where nothing counts
	charts  []*cells // histograms, by chart, nil where it is none

	split    [2]tally
	outcomes [][2]tally
	exact    [4]int64
	overlap  int64 // users of test that are in train too
	uniform  []map[string]struct{}

	// Faults that gates look for.
	nulls       []int64 // by column: nulls of a required one
	vectors     int64   // values outside their vector's range
	badLabels   int64
	badGoals    int64
	goalScores  map[float32]bool
	sharedGoal  bool // another outcome has the score of the goal
	scores      map[float32]bool
	names       map[string]bool
	lastUser    uint64
	lastInTrain bool
	lastInTest  bool
	counted     bool
	scoreColumn int
	goalColumn  int
	nameColumn  int
}

// newStatistics prepares for the charts and figures of the definition. bins
// are the edges of each chart that is a histogram.
func newStatistics(p *plan, bins [][]float64) *statistics {
	s := &statistics{
		p: p, columns: make([][2]columnStats, len(p.columns)), cells: make([]*cells, len(p.columns)),
		charts: make([]*cells, len(p.def.Charts)), outcomes: make([][2]tally, len(p.def.Labels.Outcomes)),
		nulls: make([]int64, len(p.columns)), scores: map[float32]bool{}, goalScores: map[float32]bool{},
		names: map[string]bool{}, scoreColumn: -1, goalColumn: -1, nameColumn: -1,
	}
	for i, o := range p.def.Labels.Outcomes {
		s.scores[float32(o.Score)] = true
		s.names[o.Name] = true
		if i == p.goal {
			s.goalScores[float32(o.Score)] = true
		} else if p.goal >= 0 && o.Score == p.def.Labels.Outcomes[p.goal].Score {
			s.sharedGoal = true
		}
	}
	for range p.uniform {
		s.uniform = append(s.uniform, map[string]struct{}{})
	}
	byName := map[string]int{}
	for i := range p.columns {
		c := &p.columns[i]
		byName[c.name] = i
		if c.Type == definition.String && c.origin == stored {
			for split := range s.columns[i] {
				s.columns[i][split].texts = map[string]struct{}{}
			}
		}
		if c.origin == alias {
			continue
		}
		switch c.Derive.Label {
		case definition.LabelName:
			s.nameColumn = i
		case definition.LabelScore:
			s.scoreColumn = i
		case definition.LabelGoal:
			s.goalColumn = i
		}
	}
	count := func(name string) {
		at, ok := byName[name]
		if !ok {
			return
		}
		at = p.base(at)
		if s.cells[at] == nil {
			s.cells[at] = &cells{column: at, numbers: map[float64]*[2]tally{}, texts: map[string]*[2]tally{}}
		}
	}
	for i, c := range p.def.Charts {
		switch {
		case c.Kind == "bars":
			count(c.Column)
		case bins[i] != nil:
			s.charts[i] = &cells{column: p.base(byName[c.Column]), edges: bins[i], bins: make([][2]tally, len(bins[i])-1)}
		}
	}
	for _, m := range p.def.Metadata {
		if m.Of == "distribution" {
			count(m.Column)
		}
	}
	return s
}

// base is the column itself, or the one that it copies.
func (p *plan) base(at int) int {
	for p.columns[at].origin == alias {
		at = p.columns[at].base
	}
	return at
}

// rows counts a partition's rows as such.
func (s *statistics) rows(x *exporter) {
	outcome, exact := x.rows.Columns[spillOutcome].Ints, x.rows.Columns[spillExact].Ints
	for k, i := range x.kept {
		split := x.in(k)
		s.split[split].add(x.user[k])
		s.outcomes[outcome[i]][split].add(x.user[k])
		if e := exact[i]; e >= 0 && e <= int64(pit.InexactOlder) {
			s.exact[e]++
		}
		if s.lastUser != x.user[k] {
			s.lastUser, s.lastInTrain, s.lastInTest, s.counted = x.user[k], false, false, false
		}
		s.lastInTrain = s.lastInTrain || split == inTrain
		s.lastInTest = s.lastInTest || split == inTest
		if s.lastInTrain && s.lastInTest && !s.counted {
			s.counted = true
			s.overlap++
		}
		for rule, places := range s.p.uniform {
			for _, at := range places {
				if c := &x.rows.Columns[at]; c.Valid[i] && len(s.uniform[rule]) < uniformMost {
					if _, ok := s.uniform[rule][string(c.Text(i))]; !ok {
						s.uniform[rule][string(c.Text(i))] = struct{}{}
					}
				}
			}
		}
	}
	s.labels(x)
}

// labels holds the label columns against the labels that there are.
func (s *statistics) labels(x *exporter) {
	column := func(at int) int {
		if at < 0 {
			return -1
		}
		return s.p.columns[at].spill
	}
	name, score, goal := column(s.nameColumn), column(s.scoreColumn), column(s.goalColumn)
	for _, i := range x.kept {
		if name >= 0 && !s.names[string(x.rows.Columns[name].Text(i))] {
			s.badLabels++
		}
		v := float32(math.NaN())
		if score >= 0 {
			if c := &x.rows.Columns[score]; len(c.Floats) > 0 {
				v = c.Floats[i]
			} else {
				v = float32(c.Ints[i])
			}
			if !s.scores[v] {
				s.badLabels++
			}
		}
		if goal >= 0 {
			is := x.rows.Columns[goal].Ints[i]
			if is != 0 && is != 1 {
				s.badLabels++
			}
			if score >= 0 && (is == 1 && !s.goalScores[v] || is != 1 && s.goalScores[v] && !s.sharedGoal) {
				s.badGoals++
			}
		}
	}
}

// in is the split of the k-th kept row.
func (x *exporter) in(k int) int {
	if x.test[k] {
		return inTest
	}
	return inTrain
}

// seen counts a value of a column before filling; ok says that there is one.
func (s *statistics) seen(at int, c *columnStats, user uint64, ok bool) {
	if ok {
		c.present.add(user)
		return
	}
	c.missing.add(user)
	if s.p.columns[at].Required {
		s.nulls[at]++
	}
}

// seenAll is seen for the rows of a part. Mostly all of them have a value or
// none has: then the numbers of rows and users are known.
func (s *statistics) seenAll(at, split int, p *part, valid []bool) {
	c := &s.columns[at][split]
	switch spill.Count(valid) {
	case len(valid):
		c.present.addPart(p)
	case 0:
		c.missing.addPart(p)
		if s.p.columns[at].Required {
			s.nulls[at] += int64(len(valid))
		}
	default:
		for k, ok := range valid {
			s.seen(at, c, p.user[k], ok)
		}
	}
}

// addPart counts the rows of a part, whose users were not counted before.
func (t *tally) addPart(p *part) {
	t.rows += int64(len(p.rows))
	t.users += p.distinct
	t.last = p.user[len(p.user)-1]
}

// counts says whether values of the column are counted one by one.
func (s *statistics) counts(at int) bool {
	if s.cells[at] != nil {
		return true
	}
	for _, h := range s.charts {
		if h != nil && h.column == at {
			return true
		}
	}
	return false
}

// numbers counts a column of floats.
func (s *statistics) numbers(at, split int, p *part, valid []bool, list []float32) {
	s.seenAll(at, split, p, valid)
	m := &s.columns[at][split].numbers
	for k, v := range list {
		if valid[k] {
			m.addFloat(v)
		}
	}
	if col := &s.p.columns[at]; col.vector {
		// The ends are rounded as the clipped values are.
		low, high := float32(col.Clip[0]), float32(col.Clip[1])
		for k, v := range list {
			if valid[k] && (v < low || v > high) {
				s.vectors++
			}
		}
	}
	if s.counts(at) {
		for k, v := range list {
			if valid[k] {
				s.cell(at, split, p.user[k], float64(v))
			}
		}
	}
}

// integers counts a column of integers, truth values or moments.
func (s *statistics) integers(at, split int, p *part, valid []bool, list []int64) {
	s.seenAll(at, split, p, valid)
	if s.p.columns[at].Type == definition.TimeStamp {
		return
	}
	m := &s.columns[at][split].numbers
	counts := s.counts(at)
	for k, v := range list {
		if !valid[k] {
			continue
		}
		m.addInt(v)
		if counts {
			s.cell(at, split, p.user[k], float64(v))
		}
	}
}

func (s *statistics) cell(at, split int, user uint64, v float64) {
	if c := s.cells[at]; c != nil {
		t := c.numbers[v]
		if t == nil {
			t = &[2]tally{}
			c.numbers[v] = t
		}
		t[split].add(user)
	}
	for _, h := range s.charts {
		if h != nil && h.column == at {
			h.bins[h.bin(v)][split].add(user)
		}
	}
}

// bin is the bin of a value; those beyond the ends go to the first and last.
func (c *cells) bin(v float64) int {
	low, high := 0, len(c.edges)-2
	for low < high {
		middle := (low + high + 1) / 2
		if v >= c.edges[middle] {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// text notes a text and returns where the rows with it are counted, nil if they
// are not.
func (s *statistics) text(at, split int, w *writtenText) *tally {
	if c := &s.columns[at][split]; !w.missing && c.texts != nil && !c.more {
		if _, ok := c.texts[string(w.text)]; !ok {
			c.texts[string(w.text)] = struct{}{}
			c.more = len(c.texts) > distinctMost
		}
	}
	cell := s.cells[at]
	if cell == nil || !w.ok {
		return nil
	}
	t := cell.texts[string(w.text)]
	if t == nil {
		t = &[2]tally{}
		cell.texts[string(w.text)] = t
	}
	return &t[split]
}

func (s *statistics) merge(o *statistics) {
	for i := range s.columns {
		for split := range s.columns[i] {
			s.columns[i][split].merge(&o.columns[i][split])
		}
		if s.cells[i] != nil {
			mergeCells(s.cells[i].numbers, o.cells[i].numbers)
			mergeCells(s.cells[i].texts, o.cells[i].texts)
		}
		s.nulls[i] += o.nulls[i]
	}
	for i, c := range s.charts {
		if c == nil {
			continue
		}
		for bin := range c.bins {
			for split := range c.bins[bin] {
				c.bins[bin][split].merge(&o.charts[i].bins[bin][split])
			}
		}
	}
	for split := range s.split {
		s.split[split].merge(&o.split[split])
		for i := range s.outcomes {
			s.outcomes[i][split].merge(&o.outcomes[i][split])
		}
	}
	for i, n := range o.exact {
		s.exact[i] += n
	}
	s.overlap += o.overlap
	for i, values := range o.uniform {
		for v := range values {
			s.uniform[i][v] = struct{}{}
		}
	}
	s.vectors += o.vectors
	s.badLabels += o.badLabels
	s.badGoals += o.badGoals
}

func (c *columnStats) merge(o *columnStats) {
	c.present.merge(&o.present)
	c.missing.merge(&o.missing)
	c.changed.merge(&o.changed)
	c.numbers.merge(&o.numbers)
	c.more = c.more || o.more
	for v := range o.texts {
		c.texts[v] = struct{}{}
		if len(c.texts) > distinctMost {
			c.more = true
			break
		}
	}
}

func mergeCells[K comparable](to, from map[K]*[2]tally) {
	for k, f := range from {
		t := to[k]
		if t == nil {
			to[k] = f
			continue
		}
		for split := range t {
			t[split].merge(&f[split])
		}
	}
}
