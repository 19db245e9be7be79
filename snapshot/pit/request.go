package pit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// Request is a hypothetical example: what the features of an example would be
// whose row were written now. Its columns are those that such a row would bring,
// all others are NULL. It is made by Program.Request, for joiners of the same
// program, and may be used by one goroutine at a time.
type Request struct {
	program *Program
	cells   []row.Cell
	time    int64 // t, if timed
	timed   bool
}

// Answer is what a Joiner makes of a Request. It is only borrowed.
type Answer struct {
	*Example
	// Status goes with Example.Columns. Those that the dataset fills (pseudonyms,
	// qualities, aliases) have none: theirs is StatusPresent.
	Status []Status
}

// ColumnError says that a column of a request cannot be taken. It repeats
// no value.
type ColumnError struct {
	Column  string
	Problem string
}

func (e *ColumnError) Error() string { return fmt.Sprintf("column %s: %s", e.Column, e.Problem) }

// UnknownColumnError says that the example's table has no such column.
type UnknownColumnError struct{ message string }

func (e *UnknownColumnError) Error() string { return e.message }

// Request begins a hypothetical example of an entity, whose id is given as the
// source writes it.
func (p *Program) Request(entityID string) *Request {
	r := &Request{program: p, cells: make([]row.Cell, p.example.width)}
	for i := range p.example.def.Columns {
		r.cells[p.example.info.Slot(p.example.def.Columns[i].Name)] = row.Cell{Kind: row.Null}
	}
	if slot := p.example.info.Slot(p.example.def.By); slot >= 0 {
		r.cells[slot] = idCell(p.example.def.Column(p.example.def.By), entityID)
	}
	return r
}

// idCell is an id as a row of the source holds it.
func idCell(c *definition.SourceColumn, id string) row.Cell {
	if c != nil && c.Type == definition.Int {
		if n, err := strconv.ParseInt(id, 10, 64); err == nil && strconv.FormatInt(n, 10) == id {
			return row.Cell{Kind: row.Int, Int: n}
		}
	}
	return row.Cell{Kind: row.Text, Bytes: []byte(id)}
}

// Clone returns a copy that can be given other columns.
func (r *Request) Clone() *Request {
	c := *r
	c.cells = slices.Clone(r.cells)
	return &c
}

// Time returns the example's moment t in µs since the epoch, if it was given:
// else it is the moment that the question is answered as of.
func (r *Request) Time() (t int64, ok bool) { return r.time, r.timed }

// Set gives a column its value, in JSON and of the column's type: a string for
// text, a number for float, one without fraction for int, a bool, a string such
// as "2026-11-01T12:00:00Z" for a timestamp, an array of strings for a list, and
// anything for json; null is NULL. The example's time column sets t.
//
// Errors: *UnknownColumnError, with the nearest name, and *ColumnError for a
// value of another type, and for a column that no request can give: the entity's
// id, which it has already, and what tells an example's outcome.
func (r *Request) Set(column string, value json.RawMessage) error {
	x := r.program.example.def
	c := x.Column(column)
	if c == nil {
		var names []string
		for i := range x.Columns {
			if name := x.Columns[i].Name; r.program.refused(name) == "" {
				names = append(names, name)
			}
		}
		return &UnknownColumnError{definition.Unknown("column", column, names) + " (a request gives columns of table " + x.Name + ")"}
	}
	if problem := r.program.refused(column); problem != "" {
		return &ColumnError{column, problem}
	}
	cell, problem := parseCell(c.Type, value)
	if problem != "" {
		return &ColumnError{column, problem}
	}
	slot := r.program.example.info.Slot(column)
	if slot == r.program.time {
		if r.timed = cell.Kind != row.Null; r.timed {
			r.time = cell.Int
		}
	}
	r.cells[slot] = cell
	return nil
}

// refused says why no request gives a column, "" if one may.
func (p *Program) refused(column string) string {
	switch {
	case column == p.example.def.By:
		return "it is the id of the " + p.Entity() + ", which is given once, beside the columns"
	case slices.Contains(p.def.Example.Outcome, column):
		return "it tells what became of an example, which a request is before"
	}
	return ""
}

// parseCell reads a value of a column's type, or says what is wrong with it.
func parseCell(typ definition.Type, value json.RawMessage) (c row.Cell, problem string) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return row.Cell{Kind: row.Null}, ""
	}
	kind, text := "a number", ""
	switch value[0] {
	case '"':
		kind = "a text"
		if err := json.Unmarshal(value, &text); err != nil {
			return c, "it is no JSON"
		}
		if strings.ContainsRune(text, 0) {
			return c, "a text cannot hold a zero byte"
		}
	case '{':
		kind = "an object"
	case '[':
		kind = "a list"
	case 't', 'f':
		kind = "a bool"
	}
	var want string
	switch typ {
	case definition.Int:
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			return row.Cell{Kind: row.Int, Int: n}, ""
		}
		want = "a whole number"
	case definition.Float:
		if f, err := strconv.ParseFloat(string(value), 64); kind == "a number" && err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return row.Cell{Kind: row.Float, Float: f}, ""
		}
		want = "a number"
	case definition.Bool:
		switch string(value) {
		case "true":
			return row.Cell{Kind: row.True}, ""
		case "false":
			return row.Cell{Kind: row.False}, ""
		}
		want = "true or false"
	case definition.Timestamp:
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return row.Cell{Kind: row.TimestampTZ, Int: t.UnixMicro()}, ""
		}
		want = "a moment with its zone, such as \"2026-11-01T12:00:00Z\""
	case definition.JSON:
		if json.Valid(value) {
			return row.Cell{Kind: row.Text, Bytes: bytes.Clone(value)}, ""
		}
		return c, "it is no JSON"
	case definition.List:
		var list []*string
		if kind == "a list" && json.Unmarshal(value, &list) == nil {
			return row.Cell{Kind: row.Text, Bytes: appendArray(nil, list)}, ""
		}
		want = "a list of texts"
	default:
		if kind == "a text" {
			return row.Cell{Kind: row.Text, Bytes: []byte(text)}, ""
		}
		want = "a text"
	}
	if kind == want || kind == "a text" && typ == definition.Timestamp || kind == "a number" && typ == definition.Int {
		return c, "it is not " + want
	}
	return c, fmt.Sprintf("it is %s, not %s", kind, want)
}

// appendArray writes a list as PostgreSQL does, every element in quotes.
func appendArray(dst []byte, list []*string) []byte {
	dst = append(dst, '{')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if e == nil {
			dst = append(dst, "NULL"...)
			continue
		}
		dst = append(dst, '"')
		for k := range len(*e) {
			if b := (*e)[k]; b == '"' || b == '\\' {
				dst = append(dst, '\\', b)
			} else {
				dst = append(dst, b)
			}
		}
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// NewAnswerer returns a joiner for Answer: one without a horizon, since that
// would hide what was deleted. cacheBytes is as in Options.
func (p *Program) NewAnswerer(related Related, cacheBytes int64) *Joiner {
	j := p.NewJoiner(related, Options{Window: math.MaxInt64, CacheBytes: cacheBytes})
	if j.related != nil {
		j.related.derived = nil // it is asked as of many moments
	}
	return j
}

// Answer hands out what the dataset would hold of hypothetical examples of an
// entity that were written right after the moment asOf: with t the moment that a
// request gives, else asOf, and the cut-off c = min(t, asOf). What the dataset
// leaves out for want of a row (Definition.Example.Needs) is handed out too: the
// statuses tell. Values are as derived; Fill makes of them what the dataset
// shows. e may be nil when nothing is known of the entity.
//
// The joiner must be of NewAnswerer. emit is called in the order of the requests;
// its Answer and the history are only borrowed. What the related rows were as of
// other moments is told apart by their numbers alone (Related): one that stands
// for a history that changed since must be another.
func (j *Joiner) Answer(e *history.Entity, asOf change.Version, requests []*Request, emit func(*Answer) error) error {
	p := j.program
	j.asOf, j.moment = asOf, int64(asOf)
	if e == nil {
		e = &history.Entity{}
	}
	j.begin(e)
	for _, q := range requests {
		if q.program != p {
			return fmt.Errorf("answer a request: it was made for another program")
		}
		if err := j.answer(q); err != nil {
			return err
		}
		if err := emit(&j.answered); err != nil {
			return err
		}
	}
	return nil
}

// answer derives all that the dataset would of a request.
func (j *Joiner) answer(q *Request) error {
	p := j.program
	j.t = j.moment
	if q.timed {
		j.t = q.time
	}
	j.makeRoom()
	before := j.c
	j.c = min(j.t, j.moment)
	// The row as its own transaction would bring it, right after all that is known.
	own := &rowState{table: p.example, mem: j.scratch, states: make([]*version, 1), history: []history.Version{{Version: change.Version(j.moment) + 1, Known: j.moment + 1}}}
	first := own.version(0)
	first.cells = q.cells
	q.cells[p.time] = row.Cell{Kind: row.TimestampTZ, Int: j.t}

	stored := j.stored(&q.cells[p.id])
	if j.c != before || j.own != stored {
		j.fresh()
	}
	j.own, j.inexact, j.trusted, j.faults = stored, false, false, j.faults[:0]
	j.source[fromFirst], j.source[fromLast] = first, first
	j.ex = Example{Time: j.t, CutOff: j.c, Columns: j.ex.Columns, Values: j.ex.Values, Uniform: j.ex.Uniform}
	j.tracing.begin(p, j.c)
	j.runTraced(p.needSteps)
	j.runTraced(p.steps)
	j.changed = 0
	j.ex.Exact = j.exactness()

	j.answered.Example = &j.ex
	j.answered.Status = slices.Grow(j.answered.Status[:0], len(j.ex.Columns))[:len(j.ex.Columns)]
	for i := range j.ex.Columns {
		j.answered.Status[i] = StatusPresent
		if at := p.traceOf(&footing{kind: onTarget, target: target{false, i}}); at >= 0 {
			j.answered.Status[i] = j.valueStatus(at, &j.ex.Columns[i])
		}
	}
	if j.err != nil {
		return fmt.Errorf("answer for an example of table %s: %w", p.example.name, j.err)
	}
	return nil
}

// stored is the entity's row in the example's table with the id that a request
// gives: a row that is there already is no feature of itself either. Most
// requests give none.
func (j *Joiner) stored(id *row.Cell) *rowState {
	if !present(id) {
		return nil
	}
	want := id.String()
	for _, r := range j.tables[j.program.example.index].rows {
		for i := range r.history {
			if !r.history[i].Deleted {
				if c, _ := j.cell(r.version(i), j.program.id); present(c) && c.String() == want {
					return r
				}
				break
			}
		}
	}
	return nil
}
