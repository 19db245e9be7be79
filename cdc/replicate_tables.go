package cdc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"dreamfeed/internal/change"
)

// ForeignTableError says that a change came of a table that the definition
// does not name, and that is published: somebody has changed the publication.
type ForeignTableError struct {
	Publication string
	Table       string
}

func (e *ForeignTableError) Error() string {
	return fmt.Sprintf("publication %s sends table %s, which the definition does not name: ALTER PUBLICATION %s DROP TABLE %s, or name it in the definition",
		e.Publication, e.Table, quoteIdent(e.Publication), e.Table)
}

// relation passes a table's description on, if the definition names the table.
// One that lacks a column which the definition names is refused, since its rows
// would come without a value, unless the table is to be refilled: then they are
// from before the publication was altered.
func (f *framer) relation(data []byte) error {
	rel, err := decodeRelation(data)
	if err != nil {
		return err
	}
	delete(f.foreign, rel.ID)
	delete(f.doubtful, rel.ID)
	delete(f.skipped, rel.ID) // it may have been published since
	for i := range f.source.cfg.Definition.Tables {
		table := &f.source.cfg.Definition.Tables[i]
		schema, name := splitName(table.Name)
		if schema != rel.Schema || name != rel.Name {
			continue
		}
		if f.source.isUnfilled(table.Name) {
			if f.doubtful == nil {
				f.doubtful = map[uint32]bool{}
			}
			f.doubtful[rel.ID] = true
			return f.feed.writer.relation(data)
		}
		for _, want := range table.Columns {
			if !slices.ContainsFunc(rel.Columns, func(c change.Column) bool { return c.Name == want.Name }) {
				return &PublicationNarrowError{
					Publication: f.source.cfg.Publication,
					Lacks:       "it lacks column " + schema + "." + name + "." + want.Name,
				}
			}
		}
		return f.feed.writer.relation(data)
	}
	if f.foreign == nil {
		f.foreign = map[uint32]string{}
	}
	f.foreign[rel.ID] = quoteTable(rel.Schema, rel.Name)
	return nil
}

// errOtherRows says that the part of a transaction which the stream holds was
// framed under another definition, so that its rows cannot be counted.
var errOtherRows = &retryError{errors.New("the definition was changed while a transaction was under way: it is sent again from its start")}

// sift frames a row message, but for what it says of tables that the definition
// has dropped: changes of them that were made before the publication was altered
// are of use to nobody, and are counted.
//
// What the stream holds of a transaction is found again by counting rows. Were a
// table's rows left out then and are not now, or the other way round, that would
// go wrong: the transaction is abandoned, and framed anew in the next connection.
func (f *framer) sift(ctx context.Context, data []byte) error {
	w := f.feed.writer
	tables := f.tables[:0]
	var options byte
	if data[0] == msgTruncate {
		m, err := decodeTruncate(data, tables)
		if err != nil {
			return err
		}
		tables, options = m.Relations, m.Options
	} else {
		id, err := rowRelation(data)
		if err != nil {
			return err
		}
		tables = append(tables, id)
	}
	f.tables = tables
	left := 0
	for _, id := range tables {
		name, foreign := f.foreign[id]
		if foreign {
			if err := f.checkForeign(ctx, id, name); err != nil {
				return err
			}
			left++
		}
		if (foreign || f.doubtful[id]) && w.passing() {
			f.source.cfg.Logger.Warn("a transaction is framed anew: the definition was changed while it was under way", "commit_lsn", w.tx.commitLSN.String())
			if err := w.abandon(ctx); err != nil {
				return err
			}
			return errOtherRows
		}
	}
	if left == 0 {
		return w.row(ctx, data)
	}
	f.source.status.update(func(now *Status) { now.Skipped += uint64(left) })
	for _, id := range tables {
		if _, foreign := f.foreign[id]; foreign {
			continue
		}
		f.scratch = appendTruncate(f.scratch[:0], id, options)
		if err := w.row(ctx, f.scratch); err != nil {
			return err
		}
	}
	return nil
}

// checkForeign refuses a change of a table that the definition does not name,
// unless the publication does not have the table any more.
func (f *framer) checkForeign(ctx context.Context, id uint32, name string) error {
	if f.skipped[id] {
		return nil
	}
	cfg := &f.source.cfg
	conn, err := connect(ctx, cfg.DatabaseURL)
	if err != nil {
		return err
	}
	defer closeConn(conn.PgConn())
	publication, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return err
	}
	published := publication == nil || publication.AllTables || publication.Schemas
	if !published {
		_, published = publication.Tables[id]
	}
	if !published {
		// A partition that comes under its own name was published without
		// publish_via_partition_root: its changes are the root's.
		err := conn.QueryRow(ctx, "SELECT coalesce(bool_or(a.relid::oid = ANY($2::oid[])), false) FROM pg_catalog.pg_partition_ancestors($1::oid::regclass) a",
			id, slices.Collect(maps.Keys(publication.Tables))).Scan(&published)
		if err != nil {
			return fmt.Errorf("look for the root of table %s: %w", name, err)
		}
	}
	if published {
		return &ForeignTableError{Publication: cfg.Publication, Table: name}
	}
	cfg.Logger.Warn("changes of a table that the definition has dropped are left out", "table", name)
	if f.skipped == nil {
		f.skipped = map[uint32]bool{}
	}
	f.skipped[id] = true
	return nil
}
