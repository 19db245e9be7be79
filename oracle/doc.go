// Package oracle holds no program but bench, the DuckDB side of the benchmark: its
// tests recompute whole datasets without any code of the product, and compare them
// with what the programs wrote.
//
// The tests start a PostgreSQL, fill it, run the built programs ingest and
// snapshot as any user would, and read the Parquet files with DuckDB. What they
// compare with comes from the same PostgreSQL in SQL (sql/*.sql), written from
// the dataset contract and from the rules of time alone, and from a few steps in
// plain Go where a secret or a loop is needed.
//
// DuckDB needs cgo, so this is a module of its own: the product builds without
// a C compiler. Keep its go.mod with `go get`, never with `go mod tidy`, which
// downloads DuckDB for every platform.
package oracle
