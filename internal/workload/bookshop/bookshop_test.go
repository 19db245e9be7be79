package bookshop_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload/bookshop"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

var shared pgtest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

type content struct {
	Rows int
	Sum  [sha256.Size]byte
}

// shop populates a database, runs traffic on it, and returns what the tables
// held before and after.
func shop(t *testing.T, seed int64) (before, after map[string]content) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), shared.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), bookshop.Schema()); err != nil {
		t.Fatal(err)
	}
	read := func() map[string]content {
		out := map[string]content{}
		for _, table := range bookshop.Tables() {
			var b bytes.Buffer
			tag, err := conn.PgConn().CopyTo(t.Context(), &b, "COPY (SELECT * FROM "+table+" ORDER BY 1) TO STDOUT")
			if err != nil {
				t.Fatal(err)
			}
			out[table] = content{int(tag.RowsAffected()), sha256.Sum256(b.Bytes())}
		}
		return out
	}
	now := time.Date(2025, 5, 1, 0, 0, 0, 0, time.UTC)
	if err := bookshop.Populate(t.Context(), conn, seed, now); err != nil {
		t.Fatal(err)
	}
	before = read()
	clock := func() time.Time { now = now.Add(time.Second); return now }
	if err := bookshop.Traffic(t.Context(), conn, seed, 200, clock); err != nil {
		t.Fatal(err)
	}
	return before, read()
}

func TestBookshopRepeatsItself(t *testing.T) {
	before, after := shop(t, 1)
	beforeAgain, afterAgain := shop(t, 1)
	if diff := cmp.Diff(before, beforeAgain); diff != "" {
		t.Errorf("populated contents differ:\n%s", diff)
	}
	if diff := cmp.Diff(after, afterAgain); diff != "" {
		t.Errorf("contents after traffic differ:\n%s", diff)
	}
	other, _ := shop(t, 2)
	for _, table := range bookshop.Tables() {
		if before[table].Rows == 0 {
			t.Errorf("%s is empty", table)
		}
		if before[table].Sum == after[table].Sum {
			t.Errorf("traffic left %s as it was", table)
		}
		if before[table].Sum == other[table].Sum {
			t.Errorf("%s does not depend on the seed", table)
		}
	}
	if before["offers"].Rows < 200 || before["readers"].Rows != bookshop.Readers {
		t.Errorf("%d offers of %d readers", before["offers"].Rows, before["readers"].Rows)
	}
}
