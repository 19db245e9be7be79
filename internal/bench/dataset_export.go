package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// storeView is what is read of a view of the store.
type storeView interface {
	Info() history.Info
	Ranges(ctx context.Context, entity string, n int) ([]history.Range, error)
	Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error
}

// exportHistory writes what a view of the store holds as Parquet files, one a
// table, for DuckDB: a row for each version, with typed columns. JSON is taken
// apart and arrays are joined beforehand, so that the query has none of that to
// do. Of versions that one transaction made of one row only the last is kept,
// which is the only one that can ever be seen.
func exportHistory(ctx context.Context, view storeView, dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("export the history for DuckDB: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := exportRegions(filepath.Join(dir, "regions.parquet")); err != nil {
		return err
	}
	info := view.Info()
	x := &exporter{dir: dir, info: &info, tables: map[uint16]exported{}}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.open(); err != nil {
		return err
	}
	for _, kind := range []string{"user", "item"} {
		ranges, err := view.Ranges(ctx, kind, 1)
		if err != nil {
			return err
		}
		for _, r := range ranges {
			if err := view.Scan(ctx, kind, r, x.entity); err != nil {
				return err
			}
		}
	}
	return nil
}

// exporter writes a file for each table.
type exporter struct {
	dir    string
	info   *history.Info
	tables map[uint16]exported
}

// exported is the file of one table.
type exported interface {
	row(entity string, r *history.Row) error
	close() error
}

func (x *exporter) entity(e *history.Entity) error {
	for i := range e.Rows {
		if t := x.tables[e.Rows[i].Table]; t != nil {
			if err := t.row(e.ID, &e.Rows[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exporter) close() error {
	var errs []error
	for _, t := range x.tables {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// versionRow is what all tables have of a version. Moments are microseconds since
// the epoch.
type versionRow struct {
	ID         string `parquet:"id"`
	Entity     string `parquet:"entity"`
	V          int64  `parquet:"v"`
	Known      int64  `parquet:"known"`
	Backfilled bool   `parquet:"backfilled"`
	Deleted    bool   `parquet:"deleted"`
}

// exportFile writes rows of type T.
type exportFile[T any] struct {
	table  *history.Table
	file   *os.File
	writer *parquet.GenericWriter[T]
	build  func(versionRow, *values) T
	values values
	rows   []T
}

const exportRows = 1024 // that are given to the writer at once

// exportTable begins the file of a table.
func exportTable[T any](x *exporter, name string, build func(versionRow, *values) T) error {
	t := x.info.Table(name)
	if t == nil {
		return fmt.Errorf("the store has no table %s", name)
	}
	file, err := os.Create(filepath.Join(x.dir, name+".parquet"))
	if err != nil {
		return err
	}
	x.tables[t.ID] = &exportFile[T]{table: t, file: file, build: build, writer: parquet.NewGenericWriter[T](file, parquet.MaxRowsPerRowGroup(1<<17))}
	return nil
}

func (f *exportFile[T]) row(entity string, r *history.Row) error {
	// Oldest first, since a deletion does not say the id of what it deleted.
	var id string
	for i := len(r.Versions) - 1; i >= 0; i-- {
		v := &r.Versions[i]
		if i > 0 && v.Version == r.Versions[i-1].Version {
			continue
		}
		if err := f.values.read(f.table, v.Data); err != nil {
			return err
		}
		if text := f.values.text("id"); text != nil {
			id = *text
		}
		f.rows = append(f.rows, f.build(versionRow{id, entity, int64(v.Version), v.Known, v.Backfilled, v.Deleted}, &f.values))
		if f.values.err != nil {
			return fmt.Errorf("table %s: %w", f.table.Name, f.values.err)
		}
	}
	if len(f.rows) < exportRows {
		return nil
	}
	return f.flush()
}

func (f *exportFile[T]) flush() error {
	_, err := f.writer.Write(f.rows)
	f.rows = f.rows[:0]
	return err
}

func (f *exportFile[T]) close() error {
	return errors.Join(f.flush(), f.writer.Close(), f.file.Close())
}

type regionRow struct {
	Code   string `parquet:"code"`
	Region string `parquet:"region"`
}

// exportRegions writes the definition's map of country codes to regions.
func exportRegions(path string) error {
	d, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		return err
	}
	var rows []regionRow
	for _, m := range d.Maps {
		if m.Name != "region" {
			continue
		}
		for code, label := range m.Labels {
			rows = append(rows, regionRow{code, label})
		}
	}
	return parquet.WriteFile(path, rows)
}
