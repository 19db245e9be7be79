package oracle_test

import (
	"database/sql"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
)

// mostPrinted bounds how many differences are printed, mostOfColumn how many of
// them are of one column.
const (
	mostPrinted  = 20
	mostOfColumn = 2
)

// openDuck opens an empty database in memory.
func openDuck(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// readRows returns a query's rows in order, as the driver's types.
func readRows(t *testing.T, db *sql.DB, query string, args ...any) (names []string, all [][]any) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	if names, err = rows.Columns(); err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names, all
}

func quoted(path string) string { return "'" + strings.ReplaceAll(path, "'", "''") + "'" }

// compareSchema compares names, order, types and nullability of a file.
func compareSchema(t *testing.T, db *sql.DB, path string, columns []column) {
	t.Helper()
	_, described := readRows(t, db, "DESCRIBE SELECT * FROM read_parquet("+quoted(path)+")")
	_, schema := readRows(t, db, "SELECT name, repetition_type FROM parquet_schema("+quoted(path)+") WHERE num_children IS NULL OR num_children = 0")
	if len(described) != len(columns) || len(schema) != len(columns) {
		t.Errorf("%s has %d columns, want %d", path, len(described), len(columns))
		return
	}
	for i, c := range columns {
		repetition := "OPTIONAL"
		if c.required {
			repetition = "REQUIRED"
		}
		want := fmt.Sprint(c.name, " ", c.kind, " ", repetition)
		got := fmt.Sprint(described[i][0], " ", described[i][1], " ", schema[i][1])
		if schema[i][0] != c.name || got != want {
			t.Errorf("column %d: the file says %s (%v), want %s", i+1, got, schema[i][0], want)
		}
	}
}

// compareFile compares every column of every row of a file, and their order.
func compareFile(t *testing.T, db *sql.DB, path string, f finish, want []row) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, db, path, f.columns)
	names, got := readRows(t, db, "SELECT * FROM read_parquet("+quoted(path)+")")
	place := map[string]int{}
	for i, name := range names {
		place[name] = i
	}
	id, ok := place[f.id]
	if !ok {
		t.Fatalf("%s has no column %s", path, f.id)
	}
	differences, printed := map[string]int{}, 0
	report := func(kind, format string, args ...any) {
		t.Helper()
		if differences[kind]++; differences[kind] <= mostOfColumn && printed < mostPrinted {
			printed++
			t.Errorf(format, args...)
		}
	}
	byID := map[string]row{}
	for _, r := range want {
		byID[r.values[f.id].(string)] = r
	}
	seen := map[string]bool{}
	wrongOrder := false
	for i, values := range got {
		name := values[id].(string)
		r, ok := byID[name]
		switch {
		case !ok:
			report("rows too many", "row %d, interaction %s, should not be in %s", i, name, path)
			continue
		case seen[name]:
			report("rows twice", "row %d, interaction %s, is there twice", i, name)
		}
		seen[name] = true
		if i < len(want) && want[i].values[f.id] != name && !wrongOrder && len(got) == len(want) {
			wrongOrder = true
			report("order", "row %d is interaction %s, the order wants %v", i, name, want[i].values[f.id])
		}
		for _, c := range f.columns {
			at, ok := place[c.name]
			if !ok {
				continue // the schema's comparison has said so
			}
			if !equal(c, values[at], r.values[c.name]) {
				report(c.name, "column %s of row %s (user %s, at %v): the file has %v, want %v", c.name, r.id, r.user,
					r.values[f.time], values[at], r.values[c.name])
			}
		}
	}
	for _, r := range want {
		if !seen[r.values[f.id].(string)] {
			report("rows missing", "row %s (user %s, %v) is missing in %s", r.id, r.user, r.values[f.time], path)
		}
	}
	if len(differences) > 0 {
		t.Errorf("%s: %d rows, want %d; differences %v", path, len(got), len(want), differences)
	}
}

func equal(c column, got, want any) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	switch got := got.(type) {
	case float32:
		w := float32(number(want))
		if !c.computed {
			return got == w
		}
		return got == w || got == math.Nextafter32(w, float32(math.Inf(1))) || got == math.Nextafter32(w, float32(math.Inf(-1)))
	case int32:
		return float64(got) == number(want)
	case time.Time:
		w, ok := want.(time.Time)
		return ok && got.Equal(w)
	default:
		return got == want
	}
}
