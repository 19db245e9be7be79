// Package bookshop is a small application of another shape than workload's:
// readers are offered titles, open some and take few. Its keys are numbers,
// uuids and text, its moments have time zones, and its relevance is a real. A
// definition of its own shows that no program depends on the first
// application's tables.
//
// Its content and its traffic depend on a seed and a clock only.
package bookshop

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schemaSQL string

// Schema returns the statements that make the tables in an empty database.
func Schema() string { return schemaSQL }

// Tables returns the names of the tables, parents first.
func Tables() []string { return []string{"readers", "titles", "offers", "visits"} }

// What Populate makes.
const (
	Readers = 40
	Titles  = 25
	Days    = 60
)

// secret is in every reader's name, which no definition may read.
const secret = "never-leave"

// maker draws values.
type maker struct {
	*rand.Rand
	readers int64 // numbers given so far, also to visits
	visits  int64
}

func newMaker(seed int64, stream uint64) *maker {
	return &maker{Rand: rand.New(rand.NewPCG(uint64(seed), stream))}
}

func (m *maker) reader(now time.Time) []any {
	m.readers++
	born := any(now.UTC().Truncate(24*time.Hour).AddDate(-16-m.IntN(60), 0, -m.IntN(365)))
	if m.IntN(15) == 0 {
		born = nil
	}
	return []any{m.readers, fmt.Sprintf("%s-%d", secret, m.readers), born, pick(m, "Ghent", "Turku", "Braga", "Graz", "")}
}

func pick(m *maker, from ...string) string { return from[m.IntN(len(from))] }

func (m *maker) uuid() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(m.IntN(256))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func isbn(number int) string { return fmt.Sprintf("978-0-%05d", number) }

func (m *maker) offer(reader int64, shown, now time.Time) []any {
	var opened, taken any
	if at := shown.Add(time.Duration(m.IntN(86_400)) * time.Second); m.IntN(100) < 40 && at.Before(now) {
		opened = at
		if at = at.Add(time.Duration(m.IntN(86_400)) * time.Second); m.IntN(100) < 25 && at.Before(now) {
			taken = at
		}
	}
	return []any{m.uuid(), reader, isbn(m.IntN(Titles)), shown, opened, taken, m.Float32()}
}

func (m *maker) visit(reader any, at time.Time) []any {
	m.visits++
	return []any{m.visits, reader, at}
}

// Populate fills the empty tables with a history of Days days that ends before
// now: some hundred rows, in one transaction.
func Populate(ctx context.Context, conn *pgx.Conn, seed int64, now time.Time) error {
	m, now := newMaker(seed, 1), now.UTC().Truncate(time.Microsecond)
	past := func() time.Time { return now.Add(-time.Duration(1+m.Int64N(Days*86_400)) * time.Second) }
	rows := map[string][][]any{}
	for i := range Titles {
		rows["titles"] = append(rows["titles"], []any{isbn(i), 80 + m.IntN(900), pick(m, "crime", "poetry", "travel", "science")})
	}
	for range Readers {
		reader := m.reader(now)
		rows["readers"] = append(rows["readers"], reader)
		for range m.IntN(25) {
			rows["offers"] = append(rows["offers"], m.offer(m.readers, past(), now))
		}
		for range m.IntN(12) {
			rows["visits"] = append(rows["visits"], m.visit(m.readers, past()))
		}
	}
	columns := map[string][]string{
		"readers": {"id", "name", "born", "city"}, "titles": {"isbn", "pages", "genre"},
		"offers": {"id", "reader", "isbn", "shown_at", "opened_at", "taken_at", "relevance"}, "visits": {"id", "reader", "at"},
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, table := range Tables() {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns[table], pgx.CopyFromRows(rows[table])); err != nil {
				return fmt.Errorf("copy into %s: %w", table, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("populate the bookshop: %w", err)
	}
	return nil
}

// Traffic runs so many transactions on one connection, one after another: new
// readers, visits, offers that are opened and taken, changed readers and
// titles, and readers who leave. The clock dates what happens.
func Traffic(ctx context.Context, conn *pgx.Conn, seed int64, transactions int, clock func() time.Time) error {
	m := newMaker(seed, 2)
	if err := conn.QueryRow(ctx, `SELECT (SELECT coalesce(max(id), 0) FROM readers),
		(SELECT coalesce(max(id), 0) FROM visits)`).Scan(&m.readers, &m.visits); err != nil {
		return fmt.Errorf("bookshop traffic: %w", err)
	}
	for i := range transactions {
		now := clock().UTC().Truncate(time.Microsecond)
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return m.transact(ctx, tx, now) })
		if err != nil {
			return fmt.Errorf("bookshop traffic: transaction %d: %w", i, err)
		}
	}
	return nil
}

// transact acts on readers and offers by a drawn place in the order of their
// keys, so that it depends on the seed and the content only.
func (m *maker) transact(ctx context.Context, tx pgx.Tx, now time.Time) error {
	const (
		someReader = `(SELECT id FROM readers ORDER BY id OFFSET $1 % greatest(1, (SELECT count(*) FROM readers)) LIMIT 1)`
		someOffer  = `(SELECT id FROM offers WHERE taken_at IS NULL ORDER BY id OFFSET
			$1 % greatest(1, (SELECT count(*) FROM offers WHERE taken_at IS NULL)) LIMIT 1)`
		addReader = `INSERT INTO readers (id, name, born, city) VALUES ($1, $2, $3, $4)`
	)
	place := m.IntN(1 << 30)
	var sql string
	var args []any
	switch x := m.IntN(100); {
	case x < 8:
		sql, args = addReader, m.reader(now)
	case x < 30:
		m.visits++
		sql, args = `INSERT INTO visits (id, reader, at) SELECT $2, `+someReader+`, $3`, []any{place, m.visits, now}
	case x < 60:
		for range 1 + m.IntN(4) {
			if _, err := tx.Exec(ctx, `INSERT INTO offers (id, reader, isbn, shown_at, relevance)
				SELECT $2, id, (SELECT isbn FROM titles WHERE isbn = $3), $4, $5 FROM readers WHERE id = `+someReader,
				place, m.uuid(), isbn(m.IntN(Titles)), now, m.Float32()); err != nil {
				return err
			}
		}
		return nil
	case x < 76:
		sql, args = `UPDATE offers SET opened_at = coalesce(opened_at, $2) WHERE id = `+someOffer, []any{place, now}
	case x < 86:
		sql, args = `UPDATE offers SET opened_at = coalesce(opened_at, $2), taken_at = $2 WHERE id = `+someOffer, []any{place, now}
	case x < 92:
		sql, args = `UPDATE readers SET city = $2 WHERE id = `+someReader, []any{place, pick(m, "Ghent", "Turku", "Braga")}
	case x < 95:
		sql, args = `UPDATE titles SET pages = pages + 1 WHERE isbn = $1`, []any{isbn(m.IntN(Titles))}
	case x < 97:
		sql, args = `DELETE FROM offers WHERE id = `+someOffer, []any{place}
	default:
		sql, args = `DELETE FROM readers WHERE id = `+someReader, []any{place}
	}
	_, err := tx.Exec(ctx, sql, args...)
	return err
}
