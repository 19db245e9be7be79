package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/change"
)

//go:embed schema.sql
var schemaSQL string

//go:embed definition.yaml
var definitionYAML []byte

const (
	// slotName and publicationName are ingest's defaults.
	slotName        = "dreamfeed"
	publicationName = "dreamfeed"
	// inactiveWithin is how long a walsender may outlive its client.
	inactiveWithin = 30 * time.Second
)

// source is a database with the benchmark's tables.
type source struct {
	*pgx.Conn
	suite      *suite
	name       string // of the database
	url        string
	definition string // path
	programs   string // directory of PostgreSQL's programs
}

// newSource makes a database. The caller closes it, which drops it.
func (s *suite) newSource(ctx context.Context, name string) (_ *source, err error) {
	src := &source{suite: s, name: name, url: s.pg.URL(name), definition: filepath.Join(s.dir, "definition.yaml")}
	if err := os.WriteFile(src.definition, definitionYAML, 0o644); err != nil {
		return nil, err
	}
	if err := s.pg.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	if src.Conn, err = pgx.Connect(ctx, src.url); err != nil {
		return nil, err
	}
	if _, err = src.Exec(ctx, schemaSQL); err == nil {
		err = src.QueryRow(ctx, "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&src.programs)
	}
	if err != nil {
		return nil, errors.Join(err, src.close(ctx))
	}
	return src, nil
}

// forget removes slot, publication and data directory, so that ingest begins anew.
func (src *source) forget(ctx context.Context) error {
	if err := src.inactive(ctx); err != nil {
		return err
	}
	if _, err := src.Exec(ctx, dropSlots, src.name); err != nil {
		return err
	}
	if _, err := src.Exec(ctx, "DROP PUBLICATION IF EXISTS "+publicationName); err != nil {
		return err
	}
	return os.RemoveAll(src.data())
}

// close drops the database with its slot, to give back the disk; when ctx has
// ended all is given back with the server.
func (src *source) close(ctx context.Context) error {
	defer src.Conn.Close(context.WithoutCancel(ctx))
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	return errors.Join(src.forget(ctx), src.suite.dropDatabase(ctx, src.name))
}

// dropDatabase drops a database and the slots in it that nobody reads any more;
// when ctx has ended they go with the server.
func (s *suite) dropDatabase(ctx context.Context, name string) error {
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	conn, err := pgx.Connect(ctx, s.pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := awaitInactive(ctx, conn, name); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, dropSlots, name); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CHECKPOINT")
	return err
}

// dropSlots drops the slots of a database.
const dropSlots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1"

// inactive returns when no walsender serves a slot of the database any more.
func (src *source) inactive(ctx context.Context) error { return awaitInactive(ctx, src.Conn, src.name) }

func awaitInactive(ctx context.Context, conn *pgx.Conn, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, inactiveWithin, errors.New("a replication slot is still in use after its reader was stopped"))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var active int
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots WHERE database = $1 AND active", name).Scan(&active); err != nil {
			return err
		}
		if active == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// start starts ingest on the database.
func (src *source) start(ctx context.Context, args ...string) (*daemon, error) {
	return src.suite.startIngest(ctx, ingestConfig{data: "data-" + src.name, url: src.url, definition: src.definition, args: args})
}

// data is the data directory of ingest.
func (src *source) data() string { return filepath.Join(src.suite.dir, "data-"+src.name) }

// settle has ingest take what is there, and stops it: what comes next is measured
// from a slot that has nothing else to send.
func (src *source) settle(ctx context.Context) error {
	ingest, err := src.start(ctx)
	if err != nil {
		return err
	}
	err = ingest.awaitReady(ctx)
	if err = errors.Join(err, ingest.stop()); err != nil {
		return err
	}
	return src.inactive(ctx)
}

// fence returns a position behind everything that was committed so far, and
// commits one more row behind it: who has applied that position has applied
// everything before, and who waits for it need not wait for an idle moment.
func (src *source) fence(ctx context.Context) (change.LSN, error) {
	var text string
	if err := src.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, err
	}
	if _, err := src.Exec(ctx, insert("events_200", values200, 1, 1)); err != nil {
		return 0, err
	}
	return change.ParseLSN(text)
}

// The columns of the tables, in order, drawn anew for each row from the
// arrays of bench_values.
const (
	someone   = `people[1 + floor(random() * 100000)::int]`
	moment    = `clock_timestamp() AT TIME ZONE 'UTC'`
	values200 = `gen_random_uuid(), ` + someone + `, (ARRAY['view', 'click', 'book', 'search'])[1 + floor(random() * 4)::int], ` +
		`floor(random() * 1000)::int, random(), random() < 0.5, round((random() * 1000)::numeric, 2), ` +
		`CASE WHEN random() < 0.8 THEN ` + moment + ` END, ` + moment + `, tiny[1 + floor(random() * 1000)::int]`
	values400 = values400Head + `small[1 + floor(random() * 1000)::int]`

	values400Head = `gen_random_uuid(), ` + someone + `, ` + someone + `, ` +
		`(ARRAY['view', 'click', 'book', 'search'])[1 + floor(random() * 4)::int], ` +
		`(ARRAY['ACTIVE', 'EXPIRED', 'BOOKED'])[1 + floor(random() * 3)::int], ` +
		`(ARRAY['DE', 'FR', 'IT', 'ES', 'PT'])[1 + floor(random() * 5)::int], floor(random() * 1000)::int, random(), random(), random() < 0.5, ` +
		`round((random() * 1000)::numeric, 2), CASE WHEN random() < 0.8 THEN ` + moment + ` END, ` + moment + `, ` + moment + `, `

	values1600 = values400Head + `to_jsonb(ARRAY[random(), random(), random(), random(), random(), random(), random(), random()]), ` +
		`tiny[1 + floor(random() * 1000)::int], large[1 + floor(random() * 1000)::int]`
	valuesWide = values1600 + `, story[1 + floor(random() * 1000)::int]`
)

// insert is a block of PL/pgSQL that inserts rows in transactions of so many.
func insert(table, values string, rows, perTransaction int) string {
	return fmt.Sprintf(`DO $bench$
DECLARE people uuid[]; tiny text[]; small text[]; large text[]; story text[];
BEGIN
  SELECT v.people, v.tiny, v.small, v.large, v.story INTO people, tiny, small, large, story FROM bench_values v;
  FOR i IN 1..%d LOOP
    INSERT INTO %s SELECT %s FROM generate_series(1, %d);
    COMMIT;
  END LOOP;
END $bench$`, max(1, rows/perTransaction), table, values, perTransaction)
}

// update is one that updates a few columns of rows drawn from the table, in
// transactions of so many.
func update(table string, rows, perTransaction int) string {
	return fmt.Sprintf(`DO $bench$
DECLARE ids uuid[]; n int; one uuid;
BEGIN
  SELECT array_agg(id), count(*) INTO ids, n FROM %[1]s;
  FOR i IN 1..%[2]d LOOP
    FOR j IN 1..%[3]d LOOP
      one := ids[1 + floor(random() * n)::int];
      UPDATE %[1]s SET status = 'SEEN', position = j, score = random(), updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = one;
    END LOOP;
    COMMIT;
  END LOOP;
END $bench$`, table, max(1, rows/perTransaction), perTransaction)
}

// fill inserts rows in one transaction.
func (src *source) fill(ctx context.Context, table, values string, rows int) error {
	_, err := src.Exec(ctx, insert(table, values, rows, rows))
	return err
}
