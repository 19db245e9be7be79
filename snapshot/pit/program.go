package pit

import (
	"fmt"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/labels"
)

// Program is a definition compiled for one catalog of tables: every name is
// resolved to a place, every derivation is a function. It is immutable and
// safe for concurrent use.
type Program struct {
	def   *definition.Definition
	zone  *time.Location
	utc   bool
	birth int64 // moment of the first backfill, µs
	gaps  []history.Gap
	asOf  uint64

	tables []*table
	byID   []*table // by number in the catalog, nil for what is not read

	example  *table
	id, time int // slots of the example's id and moment
	status   operand
	moments  []operand // by outcome
	rules    *labels.Rules

	sources   int    // named rows and the two versions of the example
	needSteps []step // what the needs rest on, in order
	needs     []need
	steps     []step // the rest that makes features, in order
	plan      []part // steps as they are run for examples
	exact     []target
	censored  []target
	uniform   []part
	uniforms  []int // paths of each rule of Gates.Uniform
	parts     int   // of plan and uniform together
	relations []relation
	// traces are those of needSteps and steps, in their order; the others say
	// where that of a source, value or column stands.
	traces                               []trace
	rowTraces, valueTraces, columnTraces []int
}

// table is a source table as the store holds it.
type table struct {
	def     *definition.Table
	name    string
	index   int
	width   int
	created int    // slot of the creation column, -1 if there is none
	keys    []int  // slots of the key
	memos   int    // memos of a version
	shows   int    // parts of the plan that rest on a version alone
	wanted  []bool // by slot, the columns that are read
	info    *history.Table
}

// need leaves out the examples without the row in a source.
type need struct {
	reason string
	source int
}

// target is where a derived value goes.
type target struct {
	value bool // Definition.Values rather than Columns
	index int
}

// step finds one row of an example, or derives one value.
type step struct {
	name string
	// find finds the row of a source.
	find   func(*Joiner) (*version, fault)
	source int
	// derive makes the value that stands at out among all the example's.
	derive derive
	out    int
	// on says which rows a value rests on, if it rests on nothing else (see part);
	// alone that no other value is between.
	on    uint64
	alone bool
	// place is where Program.traces says what the step rests on.
	place int
}

// MissingError says that the store does not hold what the definition reads.
type MissingError struct {
	Table  string
	Column string // "" when the whole table is missing
}

func (e *MissingError) Error() string {
	what := "table " + e.Table
	if e.Column != "" {
		what = "column " + e.Column + " of table " + e.Table
	}
	return fmt.Sprintf("the store does not hold %s, which the definition reads: run ingest with this definition until it has caught up", what)
}

// Compile resolves the definition against the store's catalog. Its errors name
// the derivation that is wrong; a table or column that the store lacks is a
// *MissingError.
func Compile(def *definition.Definition, info *history.Info) (*Program, error) {
	p := &Program{def: def, zone: def.Zone, birth: int64(info.Birth), gaps: info.Gaps, asOf: uint64(info.AsOf)}
	if p.zone == nil {
		p.zone = time.UTC
	}
	p.utc = p.zone == time.UTC || p.zone.String() == "UTC"
	var err error
	if p.tables, p.byID, err = catalog(def, info); err != nil {
		return nil, fmt.Errorf("compile definition %s: %w", def.Name, err)
	}
	c := &compiler{p: p, memos: map[string]int{}, rows: map[string]*namedRow{}, on: map[target]uint64{}}
	if err := c.compile(); err != nil {
		return nil, fmt.Errorf("compile definition %s: %w", def.Name, err)
	}
	return p, nil
}

// Entity is the kind of entity whose histories the joiners of the program read.
func (p *Program) Entity() string { return p.example.def.Entity }

// out is where a value or column stands among all values of an example: columns
// first, then values, then the paths of the gates.
func (p *Program) out(t target) int {
	if t.value {
		return len(p.def.Columns) + t.index
	}
	return t.index
}

// output is the type of what stands at out, the text of a path behind the values.
func (p *Program) output(out int) definition.OutputType {
	columns := len(p.def.Columns)
	switch {
	case out < columns:
		return p.def.Columns[out].Type
	case out < columns+len(p.def.Values):
		return p.def.Values[out-columns].Type
	}
	return definition.String
}

// slot is the place of a column that is read.
func (t *table) slot(column string) int {
	slot := t.info.Slot(column)
	if slot >= 0 {
		t.wanted[slot] = true
	}
	return slot
}

func (p *Program) tableByID(id uint16) *table {
	if int(id) < len(p.byID) {
		return p.byID[id]
	}
	return nil
}

// catalog finds the definition's tables in the store's.
func catalog(def *definition.Definition, info *history.Info) (tables, byID []*table, err error) {
	for i := range def.Tables {
		d := &def.Tables[i]
		h := info.Table(d.Name)
		if h == nil {
			return nil, nil, &MissingError{Table: d.Name}
		}
		t := &table{def: d, name: d.Name, index: i, width: len(h.Columns), created: -1, wanted: make([]bool, len(h.Columns)), info: h}
		for _, column := range d.Columns {
			if h.Slot(column.Name) < 0 {
				return nil, nil, &MissingError{Table: d.Name, Column: column.Name}
			}
		}
		for _, key := range d.Key {
			slot := t.slot(key)
			if slot < 0 {
				return nil, nil, &MissingError{Table: d.Name, Column: key}
			}
			t.keys = append(t.keys, slot)
		}
		if d.Created != "" {
			if t.created = t.slot(d.Created); t.created < 0 {
				return nil, nil, &MissingError{Table: d.Name, Column: d.Created}
			}
		}
		tables = append(tables, t)
		for len(byID) <= int(h.ID) {
			byID = append(byID, nil)
		}
		byID[h.ID] = t
	}
	return tables, byID, nil
}
