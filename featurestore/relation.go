package featurestore

import (
	"slices"
	"strings"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/row"
)

// mapping says how the columns of a relation, as published, become the columns
// of a table, as stored. A nil mapping is of a table the definition does not name.
type mapping struct {
	table   *catalogTable
	kind    byte
	columns []change.Column
	// source gives for each slot the relation's column, −1 if it lacks it.
	source []int
	// wanted says for each slot that the definition names its column.
	wanted []bool
	key    []int
	by     int // −1 when rows belong to no entity
	// direct says that a row's place follows from its key: there are no locators.
	direct bool
	// byKey is the place of the by column in the key, −1 if it is not there.
	byKey int
	// identity says that what the source sends of an old row names its key.
	identity         bool
	uncovered        string // a key column that the replica identity lacks
	lacking          bool   // a column that the definition names is not published
	created, updated int    // relation columns, −1 if there is none
	zone             *time.Location
}

// relation returns the mapping of a relation, made when first met.
func (w *writer) relation(b *change.Batch, t *change.Transaction, r *change.Row) (*mapping, error) {
	if m, ok := w.relations[r.Relation]; ok {
		return m, nil
	}
	if len(w.relations) >= maxRelations {
		clear(w.relations)
	}
	m, err := w.s.mapRelation(r.Relation, position(b, t.Version, r.Ordinal))
	if err != nil {
		return nil, err
	}
	w.relations[r.Relation] = m
	return m, nil
}

// tableFor finds the definition of a relation's table. A name without schema
// is one of schema public.
func tableFor(def *definition.Definition, rel *change.Relation) *definition.Table {
	for i := range def.Tables {
		schema, name := "public", def.Tables[i].Name
		if s, n, ok := strings.Cut(name, "."); ok {
			schema, name = s, n
		}
		if name == rel.Name && schema == rel.Schema {
			return &def.Tables[i]
		}
	}
	return nil
}

func (s *Store) mapRelation(rel *change.Relation, at Position) (*mapping, error) {
	def := tableFor(s.def, rel)
	if def == nil {
		return nil, nil
	}
	column := func(name string) int {
		return slices.IndexFunc(rel.Columns, func(c change.Column) bool { return name != "" && c.Name == name })
	}
	t := s.catalog.table(def.Name)
	m := &mapping{
		table: t, kind: byte(s.catalog.kind(t.Entity)), columns: rel.Columns,
		by: -1, byKey: -1, identity: true,
		created: column(def.Created), updated: column(def.Updated), zone: s.def.Zone,
	}
	if m.zone == nil {
		m.zone = time.UTC
	}
	for _, name := range t.Columns {
		i, wanted := -1, def.Column(name) != nil
		if wanted { // columns of older definitions keep their slot
			i = column(name)
			m.lacking = m.lacking || i < 0
		}
		m.source, m.wanted = append(m.source, i), append(m.wanted, wanted)
	}
	for _, name := range t.Key {
		i := column(name)
		if i < 0 {
			return nil, &RelationError{Table: t.Name, Column: name, What: "is part of the key and is not published", Position: at}
		}
		m.key = append(m.key, i)
		if !rel.Columns[i].Key && rel.Replica != 'f' {
			m.identity, m.uncovered = false, name
		}
	}
	m.direct = t.direct()
	if t.Entity != "" {
		if m.by = column(t.By); m.by < 0 {
			return nil, &RelationError{Table: t.Name, Column: t.By, What: "tells the rows' entity and is not published", Position: at}
		}
		m.byKey = slices.Index(m.key, m.by)
	}
	return m, nil
}

// known returns the known time of a backfilled row (DESIGN §6): the smaller of
// the backfill's moment and the row's updated column, else its created column,
// else the moment. A column that holds no finite moment counts as absent.
func (m *mapping) known(v change.Version, values []change.Value) int64 {
	for _, i := range [...]int{m.updated, m.created} {
		if i < 0 || values[i].Kind != change.Text {
			continue
		}
		c := row.Parse(m.columns[i].Type, values[i].Text)
		at := c.Int
		switch c.Kind {
		case row.TimestampTZ:
		case row.Timestamp:
			at = inZone(c.Int, m.zone)
		case row.Date:
			at = inZone(c.Int*86_400_000_000, m.zone)
		default:
			continue
		}
		return min(int64(v), at)
	}
	return int64(v)
}

// inZone reads a clock time, given as µs as if it were UTC, in a zone.
func inZone(micros int64, zone *time.Location) int64 {
	if zone == time.UTC {
		return micros
	}
	t := time.UnixMicro(micros).UTC()
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone).UnixMicro()
}
