package cdc_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// model is a store that is a map. It applies whole transactions only and
// refuses what a strict store would: a second insert, an update or delete of
// what is not there, versions that do not grow.
type model struct {
	t        testing.TB
	reader   *cdc.Reader
	header   change.Header
	sequence uint64                                  // of the newest message applied
	tables   map[string]map[string]map[string]string // table, key, column
	open     []func()                                // of the transaction under way
	counts   struct{ Transactions, Rows, Backfilled, Ticks, Abandoned, Unchanged int }
	order    []string // what live transactions did: "I table key"
	last     change.Version
}

func newModel(t testing.TB, log *cdc.Log) *model {
	t.Helper()
	reader, err := log.Reader(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return &model{t: t, reader: reader, tables: map[string]map[string]map[string]string{}}
}

func (m *model) close() { m.reader.Close() }

// next applies one message.
func (m *model) next(ctx context.Context) error {
	b, err := m.reader.Next(ctx)
	if err != nil {
		return err
	}
	if err := cdc.CheckChain(m.header, b.Header); err != nil {
		m.t.Error(err)
	}
	m.header, m.sequence = b.Header, b.Sequence
	for _, e := range b.Entries {
		switch {
		case e.Tick != nil:
			m.counts.Ticks++
			m.grow(e.Tick.Moment)
		case e.Abandoned != 0:
			m.counts.Abandoned++
			m.open = nil
		default:
			m.transaction(e.Transaction)
		}
	}
	return nil
}

func (m *model) grow(v change.Version) {
	if v <= m.last {
		m.t.Errorf("version %s does not follow %s", v, m.last)
	}
	m.last = v
}

func (m *model) transaction(tx *change.Transaction) {
	if tx.Part == 0 {
		m.grow(tx.Version)
		m.open = nil
	}
	for i := range tx.Rows {
		m.open = append(m.open, m.row(tx, &tx.Rows[i]))
	}
	if !tx.Last {
		return
	}
	m.counts.Transactions++
	for _, apply := range m.open {
		apply()
	}
	m.open = nil
}

// row copies a change and returns what applies it.
func (m *model) row(tx *change.Transaction, row *change.Row) func() {
	rel := row.Relation
	name := rel.Schema + "." + rel.Name
	op, backfill, old := row.Op, tx.Kind == change.Backfill, row.Old != nil
	oldKey, newKey := keyOf(rel, row.Old), keyOf(rel, row.New)
	if rel.Replica == 'f' { // every column is flagged; the first is the key here
		oldKey, newKey = firstOf(row.Old), firstOf(row.New)
	}
	oldRow := copyRow(rel, row.Old, nil)
	var unchanged []string
	set := copyRow(rel, row.New, func(c string) { unchanged = append(unchanged, c) })
	return func() {
		rows := m.tables[name]
		if rows == nil {
			rows = map[string]map[string]string{}
			m.tables[name] = rows
		}
		m.counts.Rows++
		if backfill {
			m.counts.Backfilled++
		} else {
			key := newKey
			if op == change.Delete {
				key = oldKey
			}
			m.order = append(m.order, strings.TrimSpace(string(rune(op))+" "+rel.Name+" "+strings.Trim(key, "|")))
		}
		switch op {
		case change.Truncate:
			clear(rows)
		case change.Insert:
			if rows[newKey] != nil {
				m.t.Errorf("%s: row %s is inserted twice", name, newKey)
			}
			rows[newKey] = set
		case change.Update:
			if !old {
				oldKey = newKey
			}
			before := rows[oldKey]
			if before == nil {
				m.t.Errorf("%s: row %s is updated but not there", name, oldKey)
			}
			for _, c := range unchanged {
				m.counts.Unchanged++
				if v, ok := oldRow[c]; ok {
					set[c] = v
				} else if v, ok := before[c]; ok {
					set[c] = v
				}
			}
			delete(rows, oldKey)
			rows[newKey] = set
		case change.Delete:
			if rows[oldKey] == nil {
				m.t.Errorf("%s: row %s is deleted but not there", name, oldKey)
			}
			delete(rows, oldKey)
		}
	}
}

func firstOf(values []change.Value) string {
	if len(values) == 0 {
		return ""
	}
	return string(values[0].Text) + "|"
}

func keyOf(rel *change.Relation, values []change.Value) string {
	var b bytes.Buffer
	for i, v := range values {
		if rel.Columns[i].Key {
			b.Write(v.Text)
			b.WriteByte('|')
		}
	}
	return b.String()
}

func copyRow(rel *change.Relation, values []change.Value, unchanged func(string)) map[string]string {
	row := map[string]string{}
	for i, v := range values {
		switch {
		case v.Kind == change.Text:
			row[rel.Columns[i].Name] = string(v.Text)
		case v.Kind == change.Unchanged && unchanged != nil:
			unchanged(rel.Columns[i].Name)
		}
	}
	return row
}

// rows renders a table as sourceRows does.
func (m *model) rows(name string, tab *definition.Table) []string {
	var lines []string
	for _, row := range m.tables[name] {
		var b strings.Builder
		for _, c := range tab.Columns {
			if v, ok := row[c.Name]; ok {
				b.WriteString(v + "|")
			} else {
				b.WriteString("∅|")
			}
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return lines
}
