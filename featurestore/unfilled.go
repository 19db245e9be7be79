package featurestore

import (
	"maps"
	"slices"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// unfilled says what the store lacks of a table until it is refilled, because
// the definition did not always name it as it does now.
type unfilled struct {
	// Rows says that rows may be missing, and others stand that are gone.
	Rows bool `json:"rows,omitempty"`
	// Since is the version up to which changes of the table were followed, when
	// it was left out of the definition for a while: what is held up to it may be
	// out of date, so that no unchanged value is taken from it.
	Since change.Version `json:"since,omitempty"`
	// Columns are those that older versions did not capture.
	Columns []string `json:"columns,omitempty"`
	// Again is the version of the newest change of a key after which the row has
	// cells that are not captured. A refill that read before it knows the row
	// under its old key only, and cannot fill them in.
	Again change.Version `json:"again,omitempty"`
}

// needs says whether the definition wants something that is unfilled.
func (u *unfilled) needs(def *definition.Table) bool { return u.Rows || u.lacks(def) }

// lacks says whether the definition wants a column that is unfilled.
func (u *unfilled) lacks(def *definition.Table) bool {
	return slices.ContainsFunc(u.Columns, func(c string) bool { return def.Column(c) != nil })
}

// mark replaces a table's mark; nil removes it. Maps that were handed out
// before stay as they are.
func (s *state) mark(table uint16, u *unfilled) {
	m := maps.Clone(s.Unfilled)
	if m == nil {
		m = map[uint16]unfilled{}
	}
	if u == nil {
		delete(m, table)
	} else {
		m[table] = *u
	}
	s.Unfilled = m
}

// adopt notes what the rows held lack for a definition: tables and columns that
// it adds, and, should they come back, those that it leaves out, whose changes
// go unseen from now on. old and next are the catalogs before and after.
func (s *state) adopt(old, next *catalog, def *definition.Definition) {
	for i := range next.Tables {
		t := &next.Tables[i]
		u := s.Unfilled[t.ID]
		had := old.table(t.Name)
		d := def.Table(t.Name)
		switch {
		case d == nil:
			u.Rows, u.Since = true, s.Last
			s.leave(t.ID)
		case had == nil:
			u.Rows = true
		default:
			u.Columns = slices.Clone(u.Columns)
			for slot, name := range t.Columns {
				if (slot >= len(had.Columns) || d.Column(name) == nil) && !slices.Contains(u.Columns, name) {
					u.Columns = append(u.Columns, name)
				}
			}
			if !u.Rows && len(u.Columns) == 0 {
				continue
			}
			// What an open backfill or refill has brought so far may lack them too.
			if u.lacks(d) {
				s.narrow(t.ID)
			}
		}
		s.mark(t.ID, &u)
	}
}

// without notes that rows of a backfill or refill came without columns that the
// definition names: it was read for an older one, before the store knew of any.
func (s *state) without(m *mapping) {
	id := m.table.ID
	u := s.Unfilled[id]
	known := len(u.Columns)
	for slot, i := range m.source {
		if name := m.table.Columns[slot]; i < 0 && m.wanted[slot] && !slices.Contains(u.Columns, name) {
			u.Columns = append(slices.Clip(u.Columns), name)
		}
	}
	if len(u.Columns) > known {
		s.mark(id, &u)
	}
	s.narrow(id)
}

// fill takes the marks off the tables that the open backfill or refill covers.
// What it could not bring stays marked, and tables are that the first backfill
// left out, because the definition that it was read for did not name them.
func (s *state) fill(c *catalog, def *definition.Definition) {
	sc := s.Scope
	if sc == nil {
		return
	}
	if s.Birth == 0 {
		for i := range def.Tables {
			t := c.table(def.Tables[i].Name)
			if _, marked := s.Unfilled[t.ID]; !marked && !slices.Contains(sc.Tables, t.ID) {
				s.mark(t.ID, &unfilled{Rows: true})
			}
		}
	}
	if len(s.Unfilled) == 0 {
		return
	}
	for _, id := range sc.Tables {
		u, ok := s.Unfilled[id]
		d := def.Table(c.Tables[id-1].Name)
		if !ok || d == nil || slices.Contains(sc.Narrow, id) {
			continue
		}
		u.Since = 0
		if u.Again <= sc.Low {
			u.Again, u.Rows = 0, false
			u.Columns = slices.DeleteFunc(slices.Clone(u.Columns), func(name string) bool { return d.Column(name) != nil })
		}
		if !u.Rows && len(u.Columns) == 0 {
			s.mark(id, nil)
		} else {
			s.mark(id, &u)
		}
	}
}

// Unfilled names the definition's tables that need a refill: the store holds
// data, and the definition named them, or columns of them, only later. It is
// empty once refills that cover them are applied.
func (s *Store) Unfilled() []string {
	st := s.published.Load().state
	var names []string
	for i := range s.catalog.Tables {
		t := &s.catalog.Tables[i]
		u, ok := st.Unfilled[t.ID]
		if !ok {
			continue
		}
		if s.def == nil { // read-only
			names = append(names, t.Name)
		} else if d := s.def.Table(t.Name); d != nil && u.needs(d) {
			names = append(names, t.Name)
		}
	}
	return names
}
