package pit

import (
	"encoding/binary"
	"fmt"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// relation is one way in which rows of other entities are found: by some of
// their columns. Relations are numbered in the order of the definition.
type relation struct {
	row, alternative int
	table            *table
	slots            []int
	// byEntity is the pair whose column is the table's entity id, -1 if none
	// is: the entity is then found directly, without an index of columns.
	byEntity int
	// whole says that it is the only pair: then every version of the table's rows
	// matches that the entity of the id has, also one that did not capture the
	// column, since ingest has found it to be of that entity.
	whole bool
}

// relations lists the alternatives of all rows that are found by match.
func relations(def *definition.Definition, tables []*table) ([]relation, error) {
	var list []relation
	for n := range def.Rows {
		r := &def.Rows[n]
		for a, match := range r.Match {
			rel := relation{row: n, alternative: a, byEntity: -1}
			for _, t := range tables {
				if t.name == r.Table {
					rel.table = t
				}
			}
			if rel.table == nil {
				return nil, fmt.Errorf("row %s: there is no table %q", r.Name, r.Table)
			}
			if len(match) == 0 {
				return nil, fmt.Errorf("row %s: alternative %d of match names no column", r.Name, a+1)
			}
			for i, pair := range match {
				if rel.table.def.Column(pair.Column) == nil {
					return nil, fmt.Errorf("row %s: table %s has no column %q", r.Name, r.Table, pair.Column)
				}
				rel.slots = append(rel.slots, rel.table.slot(pair.Column))
				if pair.Column == rel.table.def.By && rel.table.def.Entity != "" {
					rel.byEntity = i
				}
			}
			rel.whole = rel.byEntity >= 0 && len(match) == 1
			list = append(list, rel)
		}
	}
	return list, nil
}

// appendPart appends one text to the key of a relation, so that no two lists
// of texts have the same key.
func appendPart(key, text []byte) []byte {
	return append(binary.AppendUvarint(key, uint64(len(text))), text...)
}

// match compiles how a row of another entity is found.
func (c *compiler) match(r *namedRow, where *filter) (run func(*Joiner) (*version, fault), gone func(*Joiner) bool, err error) {
	var alternatives []alternative
	for n := range c.p.relations {
		rel := &c.p.relations[n]
		if &c.p.def.Rows[rel.row] != r.def {
			continue
		}
		a := alternative{number: n, relation: rel}
		for _, pair := range r.def.Match[rel.alternative] {
			of, err := c.ref(pair.Ref)
			if err != nil {
				return nil, nil, err
			}
			a.operands = append(a.operands, of)
		}
		alternatives = append(alternatives, a)
	}
	return func(j *Joiner) (*version, fault) {
		if j.related == nil {
			if j.err == nil {
				j.err = errNoRelated
			}
			return nil, ""
		}
		for i := range alternatives {
			if v := j.find(&alternatives[i], where); v != nil {
				return v, ""
			}
		}
		return nil, ""
	}, func(j *Joiner) bool { return j.buriedMatch(alternatives, where) }, nil
}

// alternative is one way in which the row of another entity is found.
type alternative struct {
	number   int
	relation *relation
	operands []operand
}

// candidates are the numbers of the entities that may have a row that matches,
// none if a value to match with is missing.
func (j *Joiner) candidates(a *alternative) []uint64 {
	rel, key := a.relation, j.key[:0]
	for i := range a.operands {
		text, ok := a.operands[i].appendText(j, j.right[:0])
		j.right = text[:0]
		if !ok {
			j.key = key[:0]
			return nil
		}
		if rel.byEntity < 0 || i == rel.byEntity {
			if rel.byEntity >= 0 {
				key = append(key, text...)
			} else {
				key = appendPart(key, text)
			}
		}
	}
	j.key = key
	numbers, err := j.related.from.Find(j.numbers[:0], a.number, key)
	j.numbers = numbers
	if rel.byEntity < 0 && j.c < j.related.from.Unsure(a.number) {
		j.inexact = true
	}
	if err != nil {
		if j.err == nil {
			j.err = err
		}
		return nil
	}
	return numbers
}

// find returns the row of a relation that matches at the cut-off; of several
// the one known latest, then that with the greatest id.
func (j *Joiner) find(a *alternative, where *filter) *version {
	rel, operands := a.relation, a.operands
	var best *version
	for _, n := range j.candidates(a) {
		e, err := j.related.load(j, n)
		if err != nil {
			if j.err == nil {
				j.err = err
			}
			return nil
		}
		if rel.whole && e.id != string(j.key) {
			continue // another with the same hash
		}
		for i := range e.rows {
			r := &e.rows[i]
			if r.table != rel.table {
				continue
			}
			v, how := j.at(r, j.c)
			if v == nil {
				continue
			}
			same, late := true, false
			if !rel.whole {
				same, late = j.matches(v, rel, operands)
			}
			if !same && (how == live && !late || !j.everMatched(r, rel, operands)) {
				continue
			}
			// Also if it does not match as far as is known now, but may have then.
			j.chosen(how)
			j.inexact = j.inexact || late
			if !same || !where.pass(j, v) {
				continue
			}
			if best == nil || j.later(v, best) {
				best = v
			}
		}
	}
	return best
}

// matches says whether a version has the values of the operands; late says that
// it did not capture one of the columns.
func (j *Joiner) matches(v *version, rel *relation, operands []operand) (same, late bool) {
	same = true
	for i, slot := range rel.slots {
		cell, newer := j.cell(v, slot)
		late = late || newer
		if same = same && j.equals(cell, &operands[i]); !same && late {
			break
		}
	}
	return same, late
}

// equals says whether a cell that is not NULL has the text of an operand. Ids of
// one kind are compared as they are.
func (j *Joiner) equals(c *row.Cell, o *operand) bool {
	if o.source != fromDerived && c.Kind == row.UUID {
		if of := o.cell(j); of != nil && of.Kind == row.UUID {
			return string(of.Bytes) == string(c.Bytes)
		}
	}
	text, _ := o.appendText(j, j.right[:0])
	j.right = text[:0]
	return j.same(c, text)
}

// everMatched says whether a version of a row matches. Candidates are such rows,
// but may be others too, on which no result may depend.
func (j *Joiner) everMatched(r *rowState, rel *relation, operands []operand) bool {
	for i := range r.history {
		if !r.history[i].Deleted {
			if same, _ := j.matches(r.version(i), rel, operands); same {
				return true
			}
		}
	}
	return false
}
