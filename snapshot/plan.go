package snapshot

import (
	"fmt"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/pit"
	"dreamfeed/snapshot/spill"
)

// The spill's first columns; what the definition asks for follows.
const (
	spillEntity   = iota // Text: bytes of the entity's pseudonym
	spillID              // Text: raw id of the example
	spillTime            // t, µs
	spillExact           // pit.Exactness
	spillOutcome         // index of the outcome; with what follows, of a dataset only
	spillNegative        // h(negatives, id), of sampled outcomes only
	spillSplit           // h(split, id)
	spillMissing         // 1 + the first required column without a value, else 0
)

// origin says where an output column's values come from.
type origin uint8

const (
	stored          origin = iota // the spill
	entityPseudonym               // the entity's pseudonym, as spilled
	idPseudonym                   // pseudonym of the example's id
	weight                        // weight of the negative sampling
	alias                         // a copy of another output column
)

// column is an output column.
type column struct {
	*definition.Column        // of an alias: its own name, all else of its base
	name               string // as written
	origin             origin
	derived            int // place in the definition's columns, and so in pit.Example.Columns
	spill              int // place in the spill, -1 if none
	base               int // output column that an alias copies
	file               parquetfile.Column
	role               definition.Role
	class              definition.Class
	rare               int // place among the rare-value columns, -1 if none
	numeric            int // place among the counted numeric columns, -1 if none
	vector             bool
	// gap is what pit.Fill makes of a missing value; not valid if it leaves it so.
	gap     pit.Value
	gapText []byte
}

// storedColumn is where a derived value goes.
type storedColumn struct {
	derived, spill int
	clip           *[2]float64
}

// outlier is a column or value with an outlier rule.
type outlier struct {
	name  string
	spill int
	float bool
}

// valuePlace is where the spill holds one of Definition.Values.
type valuePlace struct {
	value, spill int
}

// plan is the definition, resolved to places.
type plan struct {
	def      *definition.Definition
	columns  []column
	kinds    []spill.Kind // of the spill
	values   []valuePlace
	uniform  [][]int // spill places by rule of Gates.Uniform
	outliers []outlier
	required []int // output columns that step 8 (a) looks at, in order
	rare     []int // output columns whose rare values merge
	numeric  []int // output columns counted for medians and histograms
	groups   []int // output columns of Privacy.Groups
	// entityColumn is the name whose key makes the entity's pseudonym, idColumn
	// the example's; they and their lengths exist even if no column shows them.
	entityColumn, idColumn string
	entityHex, idHex       int
	timeColumn             string // "" if no column shows t
	// stored are the spilled columns by the kind of their values.
	stored  struct{ floats, ints, texts []storedColumn }
	places  int // of pit.Example.Same
	sampled int // outcome that negative sampling thins out, -1 if none
	goal    int
}

// newPlan resolves the definition for a stage.
func newPlan(def *definition.Definition, stage string) (*plan, error) {
	p := &plan{def: def, entityColumn: "entity", idColumn: "example", sampled: -1, goal: -1}
	for i, o := range def.Labels.Outcomes {
		if o.Name == def.Labels.Sampled {
			p.sampled = i
		}
		if o.Name == def.Labels.Goal {
			p.goal = i
		}
	}
	if len(def.Labels.Outcomes) == 0 || len(def.Labels.Outcomes) > 255 {
		return nil, fmt.Errorf("plan dataset: %d outcomes; there may be 1 to 255", len(def.Labels.Outcomes))
	}
	p.kinds = []spill.Kind{
		spillEntity: spill.Text, spillID: spill.Text, spillTime: spill.Int64, spillExact: spill.Bool,
		spillOutcome: spill.Bool, spillNegative: spill.Int64, spillSplit: spill.Int64, spillMissing: spill.Int32,
	}
	if stage == StageFeatures {
		p.kinds = p.kinds[:spillOutcome]
	}
	p.places = len(def.Columns) + len(def.Values)
	for _, rule := range def.Gates.Uniform {
		p.places += len(rule.Of)
	}
	table := def.Table(def.Example.Table)
	if table == nil {
		return nil, fmt.Errorf("plan dataset: the example's table %s is not among the tables", def.Example.Table)
	}
	byName := map[string]int{}
	for i := range def.Columns {
		d := &def.Columns[i]
		if stage == StageFeatures && !inFeatures(def, d) {
			continue
		}
		c := column{Column: d, name: d.Name, role: d.Role, class: d.Class, derived: i, spill: -1, rare: -1, numeric: -1}
		if base := d.Derive.Alias; base != "" {
			at, ok := byName[base]
			if !ok {
				return nil, fmt.Errorf("plan dataset: alias %s copies %s, which is no column before it", d.Name, base)
			}
			c.origin, c.base = alias, at
			c.Column = p.columns[at].Column
			c.role, c.class = definition.RoleAlias, p.columns[at].class
		} else if err := p.place(&c, table); err != nil {
			return nil, err
		}
		c.file = parquetfile.Column{
			Name: c.name, Type: parquetfile.Type(c.Type), Required: c.Required,
			Distinct: c.origin == idPseudonym,
		}
		switch {
		case c.origin == alias:
			base := &p.columns[p.base(c.base)]
			c.file.Required, c.file.Distinct, c.file.Copies = base.file.Required, base.file.Distinct, base.name
		case c.origin == stored && stage == StageFeatures:
			c.file.Required = false // the rows that lack the value are still there
		}
		c.gap = pit.Fill(c.Column, pit.Value{})
		c.gapText = []byte(c.gap.Text)
		byName[d.Name] = len(p.columns)
		p.columns = append(p.columns, c)
	}
	p.placeStored()
	if p.entityHex == 0 {
		p.entityHex = 64
	}
	if p.idHex == 0 {
		p.idHex = 64
	}
	if stage == StageFeatures {
		return p, nil
	}
	p.placeCounted()
	if err := p.placeOutliers(byName); err != nil {
		return nil, err
	}
	for _, name := range def.Privacy.Groups {
		at, ok := byName[name]
		if !ok || p.columns[at].origin != stored {
			return nil, fmt.Errorf("plan dataset: group column %s is no derived column", name)
		}
		p.groups = append(p.groups, at)
	}
	for _, rule := range def.Gates.Uniform {
		var places []int
		for range rule.Of {
			places = append(places, p.add(spill.Text))
		}
		p.uniform = append(p.uniform, places)
	}
	return p, nil
}

// inFeatures says whether step 5 has the column: no label, no weight, no copy of
// one of them.
func inFeatures(def *definition.Definition, d *definition.Column) bool {
	if d.Derive.Alias != "" {
		if d = def.Column(d.Derive.Alias); d == nil {
			return true // newPlan refuses it
		}
	}
	return d.Role != definition.RoleLabel && d.Derive.Quality != definition.QualityWeight
}

func (p *plan) add(k spill.Kind) int {
	p.kinds = append(p.kinds, k)
	return len(p.kinds) - 1
}

// place finds where the values of a column come from.
func (p *plan) place(c *column, example *definition.Table) error {
	d := c.Column
	of := func(ref definition.Ref, name string) bool { return ref.Row == "example" && ref.Column == name }
	switch {
	case d.Derive.Quality == definition.QualityWeight:
		c.origin = weight
		return nil
	case d.Derive.Pseudonym != nil && of(d.Derive.Pseudonym.Of, p.def.Example.ID):
		c.origin = idPseudonym
		if p.idHex == 0 {
			p.idColumn, p.idHex = d.Name, hexDigits(d.Derive.Pseudonym.Length)
		}
		return nil
	case d.Derive.Pseudonym != nil && of(d.Derive.Pseudonym.Of, example.By) && p.entityHex == 0:
		c.origin = entityPseudonym
		p.entityColumn, p.entityHex = d.Name, hexDigits(d.Derive.Pseudonym.Length)
		return nil
	}
	switch d.Type {
	case definition.String, definition.Float32, definition.Int32, definition.Boolean, definition.TimeStamp:
	default:
		return fmt.Errorf("plan dataset: column %s has the unknown type %q", d.Name, d.Type)
	}
	if d.Derive.Pseudonym != nil {
		return fmt.Errorf("plan dataset: column %s: only the example's id (%s), and once its entity's id (%s), can have a pseudonym", d.Name, p.def.Example.ID, example.By)
	}
	c.spill = p.add(parquetfile.Type(d.Type).Kind())
	if d.Required {
		p.required = append(p.required, len(p.columns))
	}
	c.vector = d.Class == definition.ClassVector && d.Clip != nil && d.Type == definition.Float32
	if d.Derive.Value != nil && of(*d.Derive.Value, p.def.Example.Time) && p.timeColumn == "" {
		p.timeColumn = d.Name
	}
	return nil
}

// placeStored sorts the spilled columns by kind, so that a row is added without
// looking at the kind of each of its values.
func (p *plan) placeStored() {
	for i := range p.columns {
		c := &p.columns[i]
		if c.spill < 0 {
			continue
		}
		list := &p.stored.ints
		switch p.kinds[c.spill] {
		case spill.Float32:
			list = &p.stored.floats
		case spill.Text:
			list = &p.stored.texts
		}
		*list = append(*list, storedColumn{derived: c.derived, spill: c.spill, clip: c.Clip})
	}
}

// early are the spilled columns that the passes before the export look at, those
// of most passes first: the others are not read by them.
func (p *plan) early() []int {
	if len(p.kinds) <= spillSplit {
		return nil // of step 5, whose rows are read once
	}
	list := []int{spillEntity, spillID, spillOutcome, spillNegative, spillMissing, spillSplit}
	for _, o := range p.outliers {
		list = append(list, o.spill)
	}
	for _, of := range [][]int{p.groups, p.rare, p.numeric} {
		for _, at := range of {
			list = append(list, p.columns[at].spill)
		}
	}
	return unique(list)
}

// placeCounted lists the columns that later passes count.
func (p *plan) placeCounted() {
	for i := range p.columns {
		c := &p.columns[i]
		if c.origin != stored {
			continue
		}
		switch c.Type {
		case definition.String:
			if c.class == definition.ClassQuasi && p.def.Privacy.MinUsers > 1 {
				c.rare = len(p.rare)
				p.rare = append(p.rare, i)
			}
		case definition.Float32, definition.Int32:
			if c.Missing == definition.MissingMedian && !c.Required || p.histogram(c.name) {
				c.numeric = len(p.numeric)
				p.numeric = append(p.numeric, i)
			}
		}
	}
}

// histogram says whether a chart shows the column's distribution.
func (p *plan) histogram(name string) bool {
	for _, chart := range p.def.Charts {
		if chart.Kind != "histogram" {
			continue
		}
		if c := p.def.Column(chart.Column); c != nil && (c.Name == name || c.Derive.Alias == name) {
			return true
		}
	}
	return false
}

func (p *plan) placeOutliers(byName map[string]int) error {
	for _, name := range p.def.Outliers {
		if at, ok := byName[name]; ok {
			c := &p.columns[at]
			if c.spill < 0 || (c.Type != definition.Float32 && c.Type != definition.Int32) {
				return fmt.Errorf("plan dataset: outlier column %s is no number of the source", name)
			}
			p.outliers = append(p.outliers, outlier{name, c.spill, c.Type == definition.Float32})
			continue
		}
		found := false
		for i := range p.def.Values {
			v := &p.def.Values[i]
			if v.Name != name {
				continue
			}
			if v.Type != definition.Float32 && v.Type != definition.Int32 {
				return fmt.Errorf("plan dataset: outlier value %s is no number", name)
			}
			at := p.add(parquetfile.Type(v.Type).Kind())
			p.values = append(p.values, valuePlace{value: i, spill: at})
			p.outliers = append(p.outliers, outlier{name, at, v.Type == definition.Float32})
			found = true
		}
		if !found {
			return fmt.Errorf("plan dataset: outlier rule for %s, which is neither a column nor a value", name)
		}
	}
	return nil
}

// hexDigits is the written length of a pseudonym.
func hexDigits(length int) int {
	if length <= 0 || length > 64 {
		return 64
	}
	return length
}

// appendValue adds a derived value to a spill column. Gaps stay: only step 10
// fills them.
func appendValue(c *spill.Column, v *pit.Value) {
	switch c.Kind {
	case spill.Float32:
		f, finite := pit.Clip(nil, v.Float)
		c.AppendFloat(f, v.Valid && finite)
	case spill.Text:
		c.AppendText(v.Text, v.Valid)
	default:
		c.AppendInt(v.Int, v.Valid)
	}
}
