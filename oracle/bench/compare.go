package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pseudonyms are the columns in which snapshot shows keyed hashes, and DuckDB the
// identifiers themselves.
var pseudonyms = []string{"user_hash", "interaction_id"}

// compare compares train and test of snapshot with those of DuckDB: as bags of
// rows, since the split and the order differ. Of each column, and of whole rows,
// the sum of the values' hashes must be the same, and every column must have the
// same type.
func compare(ctx context.Context, db *sql.DB, ours, theirs string) (rows int64, columns int, err error) {
	fills, err := readFills(ours)
	if err != nil {
		return 0, 0, err
	}
	a := fmt.Sprintf("read_parquet('%s')", escape(filepath.Join(ours, "t*.parquet")))
	b := fmt.Sprintf("read_parquet('%s', hive_partitioning = false)", escape(filepath.Join(theirs, "*", "*.parquet")))
	left, err := describe(ctx, db, a)
	if err != nil {
		return 0, 0, err
	}
	right, err := describe(ctx, db, b)
	if err != nil {
		return 0, 0, err
	}
	if !slices.Equal(left, right) {
		return 0, 0, fmt.Errorf("the columns of DuckDB's dataset differ from those of snapshot:\n%v\n%v", right, left)
	}
	left = slices.DeleteFunc(left, func(c column) bool { return slices.Contains(pseudonyms, c.name) })
	x, err := bag(ctx, db, a, left, nil)
	if err != nil {
		return 0, 0, err
	}
	y, err := bag(ctx, db, b, left, fills)
	if err != nil {
		return 0, 0, err
	}
	var differ []string
	for i, c := range left {
		if x.columns[i].Cmp(y.columns[i]) != 0 {
			differ = append(differ, c.name)
		}
	}
	switch {
	case x.rows != y.rows:
		return 0, 0, fmt.Errorf("snapshot wrote %d rows, DuckDB %d", x.rows, y.rows)
	case len(differ) > 0:
		return 0, 0, fmt.Errorf("DuckDB's dataset has other values than snapshot's in %s", strings.Join(differ, ", "))
	case x.whole.Cmp(y.whole) != 0:
		return 0, 0, fmt.Errorf("every column of DuckDB's dataset has the values of snapshot's, but in other rows")
	}
	return x.rows, len(left), nil
}

type column struct{ name, kind string }

// describe lists the columns of a table, moments with and without zone alike.
func describe(ctx context.Context, db *sql.DB, table string) (out []column, err error) {
	rows, err := db.QueryContext(ctx, "SELECT column_name, replace(column_type, ' WITH TIME ZONE', '') FROM (DESCRIBE FROM "+table+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.kind); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// sums are hashes of a bag of rows.
type sums struct {
	rows    int64
	whole   *big.Int
	columns []*big.Int
}

// bag sums the hashes of the values and of the rows, with gaps filled.
func bag(ctx context.Context, db *sql.DB, table string, columns []column, fills map[string]any) (s sums, err error) {
	var values, hashes []string
	for _, c := range columns {
		v := `"` + c.name + `"`
		if fill, ok := fills[c.name].(float64); ok {
			v = fmt.Sprintf("coalesce(%s, %v::%s)", v, fill, c.kind)
		}
		if c.kind == "TIMESTAMP" {
			v = "epoch_us(" + v + ")"
		}
		values = append(values, v)
		hashes = append(hashes, "sum(hash("+v+")::HUGEINT)")
	}
	s.columns = make([]*big.Int, len(columns))
	into := []any{&s.rows, &s.whole}
	for i := range s.columns {
		into = append(into, &s.columns[i])
	}
	query := fmt.Sprintf("SELECT count(*), sum(hash(%s)::HUGEINT), %s FROM %s", strings.Join(values, ", "), strings.Join(hashes, ", "), table)
	if err := db.QueryRowContext(ctx, query).Scan(into...); err != nil {
		return s, fmt.Errorf("compare %s: %w", table, err)
	}
	return s, nil
}

// readFills reads what snapshot has put into the gaps of numeric columns. DuckDB
// leaves them empty, since it has no train rows yet of which to take medians.
func readFills(ours string) (map[string]any, error) {
	names, err := filepath.Glob(filepath.Join(ours, "metadata_v*.json"))
	if err != nil || len(names) != 1 {
		return nil, fmt.Errorf("%s holds %d metadata files of a dataset, want 1: %w", ours, len(names), err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		return nil, err
	}
	var m struct {
		Fills map[string]any `json:"fills"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", names[0], err)
	}
	return m.Fills, nil
}
