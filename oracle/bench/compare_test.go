package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The rows of a dataset with the columns that matter here.
const same = `SELECT * FROM (VALUES ('a', 1::FLOAT, 10, TIMESTAMP '2026-11-23 01:00:00'), ('b', 2::FLOAT, 20, TIMESTAMP '2026-11-23 02:00:00'),
	('c', NULL::FLOAT, NULL, TIMESTAMP '2026-11-23 03:00:00')) v (user_hash, budget_max, user_rating, "timestamp")`

func TestADatasetOfOtherRowsIsNotAccepted(t *testing.T) {
	change := func(old, replacement string) string { return strings.Replace(same, old, replacement, 1) }
	for _, c := range []struct {
		name, theirs string
		want         string // part of the error, empty for none
	}{
		{"the same rows, with gaps where snapshot has filled", same, ""},
		{"other identifiers, which are pseudonyms in snapshot's", change("'a'", "'x'"), ""},
		{"another order", same + " ORDER BY user_hash DESC", ""},
		{"a value", change("10", "11"), "other values than snapshot's in user_rating"},
		{"a value in place of a missing one", change("NULL, TIMESTAMP", "0, TIMESTAMP"), "other values than snapshot's in user_rating"},
		{"a moment", change("02:00:00", "02:00:00.000001"), "other values than snapshot's in timestamp"},
		{"a value that another row has too", change("('a', 1", "('a', 2"), "other values than snapshot's in budget_max"},
		{"two values exchanged between rows", strings.NewReplacer(", 10,", ", 20,", ", 20,", ", 10,").Replace(same), "in other rows"},
		{"a row less", same + " LIMIT 2", "snapshot wrote 3 rows, DuckDB 2"},
		{"a row twice", same + " UNION ALL " + same + " LIMIT 4", "snapshot wrote 3 rows, DuckDB 4"},
		{"another type", change("1::FLOAT", "1::DOUBLE"), "columns of DuckDB's dataset differ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := sql.Open("duckdb", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			ours, theirs := t.TempDir(), t.TempDir()
			write(t, db, strings.Replace(same, "NULL::FLOAT", "7::FLOAT", 1), filepath.Join(ours, "train_v1.0.parquet"))
			metadata := filepath.Join(ours, "metadata_v1.0.json")
			if err := os.WriteFile(metadata, []byte(`{"fills": {"budget_max": 7, "user_category": "UNKNOWN"}}`), 0o644); err != nil {
				t.Fatal(err)
			}
			write(t, db, c.theirs, filepath.Join(theirs, "split=train", "data_0.parquet"))
			rows, columns, err := compare(t.Context(), db, ours, theirs)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want == "" && (rows != 3 || columns != 3):
				t.Fatalf("compared %d rows and %d columns, want 3 and 3", rows, columns)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func write(t *testing.T, db *sql.DB, query, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("COPY (%s) TO '%s' (FORMAT parquet)", query, path)); err != nil {
		t.Fatal(err)
	}
}
