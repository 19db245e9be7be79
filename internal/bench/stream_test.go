package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"dreamfeed/internal/pgtest"
)

// newTestSource is a source on a server of the test's own.
func newTestSource(t *testing.T) *source {
	t.Helper()
	s := &suite{settings: settings{dir: t.TempDir()}, stdout: io.Discard, pg: pgtest.New(t)}
	src, err := s.newSource(t.Context(), "stream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return src
}

func count(t *testing.T, src *source, sql string) (n float64) {
	t.Helper()
	if err := src.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWorkloadsChangeWhatTheirNamesSay(t *testing.T) {
	src := newTestSource(t)
	ctx := t.Context()
	for table, values := range map[string]string{"events_200": values200, "events_400": values400, "events_1600": values1600, "wide": valuesWide, "hot": values400} {
		if err := src.fill(ctx, table, values, 300); err != nil {
			t.Fatal(err)
		}
	}
	const text = `SELECT (SELECT sum(octet_length(value)) FROM jsonb_each_text(to_jsonb(e)%s))::float8 FROM %s e`
	sizes := []struct {
		table, without string
		want           float64
	}{
		{"events_200", "", 200},
		{"events_400", "", 400},
		{"events_1600", "", 1600},
		{"wide", " - 'story'", 1600},
	}
	for _, test := range sizes {
		got := count(t, src, "SELECT avg(size) FROM ("+fmt.Sprintf(text, test.without, test.table)+") AS rows(size)")
		if math.Abs(got-test.want) > 0.05*test.want {
			t.Errorf("a row of %s has %.0f bytes, want %.0f within 5 %%", test.table, got, test.want)
		}
	}
	// An update leaves alone what is kept outside of the row.
	if n := count(t, src, `SELECT pg_relation_size(reltoastrelid)::float8 FROM pg_class WHERE relname = 'wide'`); n == 0 {
		t.Error("stories are not kept outside of their rows")
	}
	before := count(t, src, `SELECT count(*)::float8 FROM events_400`)
	transactions := count(t, src, `SELECT txid_current()::float8`)
	if _, err := src.Exec(ctx, insert("events_400", values400, 200, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Exec(ctx, update("hot", 50, 5)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, src, `SELECT count(*)::float8 FROM events_400`) - before; n != 200 {
		t.Errorf("%v rows were inserted, want 200", n)
	}
	if n := count(t, src, `SELECT count(*)::float8 FROM hot WHERE status = 'SEEN'`); n == 0 || n > 50 {
		t.Errorf("%v rows were updated, want 1 to 50", n)
	}
	if n := count(t, src, `SELECT txid_current()::float8`) - transactions - 1; n != 200/10+50/5 {
		t.Errorf("%v transactions, want %d", n, 200/10+50/5)
	}
}

func TestAFenceLiesBehindWhatWasCommitted(t *testing.T) {
	src := newTestSource(t)
	var before string
	if err := src.QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&before); err != nil {
		t.Fatal(err)
	}
	fence, err := src.fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, src, fmt.Sprintf("SELECT ('%s'::pg_lsn >= '%s'::pg_lsn AND pg_current_wal_flush_lsn() > '%[1]s'::pg_lsn)::int::float8", fence, before)); n != 1 {
		t.Errorf("fence %s is not between %s and the end of the log", fence, before)
	}
}

func TestWorkloadsHaveNamesOfTheirOwn(t *testing.T) {
	var names []string
	for _, l := range loads() {
		if slices.Contains(names, l.name) {
			t.Errorf("%s stands twice", l.name)
		}
		names = append(names, l.name)
	}
}
