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
	counts   struct{ Transactions, Rows, Backfilled, Ticks, Abandoned, Unchanged, Refills int }
	order    []string // what live transactions did: "I table key"
	last     change.Version

	refill  *change.Scope // of the refill under way
	touched map[string]map[string]change.Version
	gone    map[string]map[string]change.Version // a row's last end under its key
	emptied map[string]change.Version            // by a TRUNCATE
	found   map[string]map[string]bool
	// unfilled are tables of which changes may come before their rows.
	unfilled map[string]bool
	// moved is the last change of a key of such a table that left something out.
	moved map[string]change.Version
	ends  []moment // of whole transactions and ticks
}

// moment says up to which position everything has a version up to one.
type moment struct {
	lsn     change.LSN
	version change.Version
}

func newModel(t testing.TB, log *cdc.Log) *model {
	t.Helper()
	reader, err := log.Reader(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return &model{
		t: t, reader: reader, tables: map[string]map[string]map[string]string{}, touched: map[string]map[string]change.Version{}, gone: map[string]map[string]change.Version{},
		emptied: map[string]change.Version{}, unfilled: map[string]bool{}, moved: map[string]change.Version{},
	}
}

func (m *model) close() { m.reader.Close() }

// next applies one message.
func (m *model) next(ctx context.Context) error {
	b, err := m.reader.Next(ctx)
	if err != nil {
		return err
	}
	m.apply(b)
	return nil
}

func (m *model) apply(b *change.Batch) {
	if err := cdc.CheckChain(m.header, b.Header); err != nil {
		m.t.Error(err)
	}
	m.header, m.sequence = b.Header, b.Sequence
	for _, e := range b.Entries {
		switch {
		case e.Tick != nil:
			m.counts.Ticks++
			m.grow(e.Tick.Moment)
			m.ends = append(m.ends, moment{e.Tick.LSN, e.Tick.Moment})
		case e.Abandoned != 0:
			m.counts.Abandoned++
			m.open = nil
		default:
			m.transaction(e.Transaction)
		}
	}
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
		m.refill, m.found = nil, map[string]map[string]bool{}
		if tx.Kind == change.Refill {
			m.refill = tx.Scope
		}
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
	m.ends = append(m.ends, moment{tx.EndLSN, tx.Version})
	if m.refill != nil {
		m.endRefill(tx.Version)
	}
}

// endRefill deletes what the refill did not find, and no later change brought.
func (m *model) endRefill(version change.Version) {
	m.counts.Refills++
	for _, t := range m.refill.Tables {
		name := t.Schema + "." + t.Name
		for key := range m.tables[name] {
			if !m.found[name][key] && m.touched[name][key] <= m.refill.Low {
				delete(m.tables[name], key)
				m.touched[name][key] = version
			}
		}
		// Of a row that was given another key since, the refill knows the old one.
		if m.moved[name] <= m.refill.Low {
			delete(m.unfilled, name)
		}
	}
}

// refillRow takes a row of a refill, unless a change behind its snapshot knows
// better; of such a row it fills in what was not captured.
func (m *model) refillRow(name, key string, set map[string]string, version change.Version) {
	if m.found[name] == nil {
		m.found[name] = map[string]bool{}
	}
	if m.found[name][key] {
		m.t.Errorf("%s: the refill holds row %s twice", name, key)
	}
	m.found[name][key] = true
	if max(m.touched[name][key], m.emptied[name]) > m.refill.Low {
		row := m.tables[name][key]
		if max(m.gone[name][key], m.emptied[name]) > m.refill.Low {
			return // it is another row under the same key
		}
		for c, v := range set {
			if _, captured := row[c]; row != nil && !captured {
				row[c] = v
			}
		}
		return
	}
	m.tables[name][key] = set
	m.touched[name][key] = version
}

// row copies a change and returns what applies it.
func (m *model) row(tx *change.Transaction, row *change.Row) func() {
	rel := row.Relation
	name := rel.Schema + "." + rel.Name
	op, backfill, old, version := row.Op, tx.Kind == change.Backfill, row.Old != nil, tx.Version
	refill := tx.Kind == change.Refill
	oldKey, newKey := keyOf(rel, row.Old), keyOf(rel, row.New)
	if rel.Replica == 'f' { // every column is flagged; the first is the key here
		oldKey, newKey = firstOf(row.Old), firstOf(row.New)
	}
	oldRow := copyRow(rel, row.Old, false, nil)
	var unchanged []string
	set := copyRow(rel, row.New, true, func(c string) { unchanged = append(unchanged, c) })
	return func() {
		rows := m.tables[name]
		if rows == nil {
			rows = map[string]map[string]string{}
			m.tables[name] = rows
			m.touched[name], m.gone[name] = map[string]change.Version{}, map[string]change.Version{}
		}
		m.counts.Rows++
		if refill {
			m.refillRow(name, newKey, set, version)
			return
		}
		for _, key := range []string{oldKey, newKey} {
			m.touched[name][key] = version
		}
		strict := !m.unfilled[name]
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
			m.emptied[name] = version
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
			if before == nil && strict {
				m.t.Errorf("%s: row %s is updated but not there", name, oldKey)
			}
			for _, c := range unchanged {
				m.counts.Unchanged++
				if v, ok := oldRow[c]; ok {
					set[c] = v
				} else if v, ok := before[c]; ok {
					set[c] = v
				} else if oldKey != newKey {
					m.moved[name] = version
				}
			}
			if oldKey != newKey {
				m.gone[name][oldKey] = version
			}
			delete(rows, oldKey)
			rows[newKey] = set
		case change.Delete:
			if rows[oldKey] == nil && strict {
				m.t.Errorf("%s: row %s is deleted but not there", name, oldKey)
			}
			delete(rows, oldKey)
			m.gone[name][oldKey] = version
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

// null stands for NULL; a column that is not captured is not in a row.
const null = "∅"

func copyRow(rel *change.Relation, values []change.Value, nulls bool, unchanged func(string)) map[string]string {
	row := map[string]string{}
	for i, v := range values {
		switch {
		case v.Kind == change.Text:
			row[rel.Columns[i].Name] = string(v.Text)
		case v.Kind == change.Null && nulls:
			row[rel.Columns[i].Name] = null
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
				b.WriteString("not captured|")
			}
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return lines
}
