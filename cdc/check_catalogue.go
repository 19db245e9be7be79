package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// sourceColumn is a column of a source table as the catalogue has it.
type sourceColumn struct {
	change.Column
	Generated  bool
	Selectable bool // we may read it
	TypeName   string
	// Base is the type under all domains; Elem its element, if it is an array.
	Base, Elem         string
	BaseEnum, ElemEnum bool
}

// sourceIndex is an index that could be a replica identity: unique, immediate,
// valid, whole, over plain columns.
type sourceIndex struct {
	Name     string
	Primary  bool
	Replica  bool // chosen by REPLICA IDENTITY USING INDEX
	NotNull  bool // no column can be null
	Identity bool // could be a replica identity
	Columns  []string
}

// sourceTable is a table, or a leaf of a partitioned one, in the catalogue.
type sourceTable struct {
	OID         uint32
	Schema      string
	Name        string
	Kind        byte // relkind
	Persistence byte
	Replica     byte // relreplident
	Partition   bool
	Owner       string
	Owned       bool // we have the owner's rights
	RowSecurity bool // rows would be hidden from us
	Usable      bool // we may use the schema
	ReadsCTID   bool // we may read the ctid, that is, the table's SELECT is ours
	Root        uint32
	Columns     []sourceColumn
	Indexes     []sourceIndex

	// Leaves are the leaf partitions of a partitioned table.
	Leaves []*sourceTable
	// Definition is the table's part of the definition; nil for a leaf.
	Definition *definition.Table
}

func (t *sourceTable) sql() string { return quoteTable(t.Schema, t.Name) }

func (t *sourceTable) String() string { return t.Schema + "." + t.Name }

func (t *sourceTable) column(name string) *sourceColumn {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// named returns the columns that are published and read: those the definition
// names and those of the replica identity, in the table's order.
func (t *sourceTable) named() []string {
	identity := t.identity()
	var names []string
	for i := range t.Columns {
		name := t.Columns[i].Name
		if t.Definition.Column(name) != nil || slices.Contains(t.Definition.Key, name) || slices.Contains(identity, name) {
			names = append(names, name)
		}
	}
	return names
}

// full says whether the table has REPLICA IDENTITY FULL: it is published
// without a column list then.
func (t *sourceTable) full() bool { return t.Replica == 'f' }

// identity returns the columns of the replica identity; all columns for FULL,
// nil if there is none.
func (t *sourceTable) identity() []string {
	switch t.Replica {
	case 'd':
		return t.primary()
	case 'i':
		for i := range t.Indexes {
			if t.Indexes[i].Replica {
				return t.Indexes[i].Columns
			}
		}
	case 'f':
		names := make([]string, 0, len(t.Columns))
		for i := range t.Columns {
			if !t.Columns[i].Generated {
				names = append(names, t.Columns[i].Name)
			}
		}
		return names
	}
	return nil
}

// primary returns the columns of the primary key; nil if there is none, or if
// it is deferrable, and so no replica identity for PostgreSQL.
func (t *sourceTable) primary() []string {
	for i := range t.Indexes {
		if t.Indexes[i].Primary && t.Indexes[i].Identity {
			return t.Indexes[i].Columns
		}
	}
	return nil
}

// splitName splits a table's name in the definition; the schema is public when
// it names none.
func splitName(name string) (schema, table string) {
	if schema, table, ok := strings.Cut(name, "."); ok {
		return schema, table
	}
	return "public", name
}

// readCatalogue reads what the catalogue says of the definition's tables and
// their partitions. Tables that do not exist are absent from the result, which
// is in the definition's order.
func readCatalogue(ctx context.Context, conn queryer, def *definition.Definition) ([]*sourceTable, error) {
	var schemas, names []string
	for i := range def.Tables {
		s, n := splitName(def.Tables[i].Name)
		schemas, names = append(schemas, s), append(names, n)
	}
	const sql = `
WITH wanted AS (
  SELECT c.oid AS root, w.place
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(schema, name, place)
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), members AS (
  SELECT root, place, root AS oid FROM wanted
  UNION ALL
  SELECT w.root, w.place, p.relid::oid
  FROM wanted w CROSS JOIN LATERAL pg_catalog.pg_partition_tree(w.root) p
  WHERE p.isleaf AND p.relid <> w.root
)
SELECT m.place - 1, m.root, c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
  c.relreplident::text, c.relispartition, pg_catalog.pg_get_userbyid(c.relowner)::text,
  pg_catalog.pg_has_role(c.relowner, 'USAGE'),
  pg_catalog.row_security_active(c.oid),
  pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
  CASE WHEN c.relkind IN ('r', 'p') THEN pg_catalog.has_column_privilege(c.oid, 'ctid', 'SELECT') ELSE false END
FROM members m
JOIN pg_catalog.pg_class c ON c.oid = m.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY m.place, m.oid <> m.root, n.nspname, c.relname`
	rows, err := conn.Query(ctx, sql, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	var tables []*sourceTable
	byOID := map[uint32]*sourceTable{}
	var oids []uint32
	for rows.Next() {
		t := new(sourceTable)
		var place int64
		var kind, persistence, replica string
		if err := rows.Scan(&place, &t.Root, &t.OID, &t.Schema, &t.Name, &kind, &persistence, &replica,
			&t.Partition, &t.Owner, &t.Owned, &t.RowSecurity, &t.Usable, &t.ReadsCTID); err != nil {
			rows.Close()
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		t.Kind, t.Persistence, t.Replica = kind[0], persistence[0], replica[0]
		if t.OID == t.Root {
			t.Definition = &def.Tables[place]
			tables = append(tables, t)
		} else {
			root := byOID[t.Root]
			root.Leaves = append(root.Leaves, t)
		}
		if _, seen := byOID[t.OID]; !seen {
			oids = append(oids, t.OID)
		}
		byOID[t.OID] = t
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	if err := readColumns(ctx, conn, oids, byOID); err != nil {
		return nil, err
	}
	if err := readIndexes(ctx, conn, oids, byOID); err != nil {
		return nil, err
	}
	return tables, nil
}

func readColumns(ctx context.Context, conn queryer, oids []uint32, tables map[uint32]*sourceTable) error {
	const sql = `
WITH RECURSIVE used AS (
  SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
), under(type, base) AS (
  SELECT DISTINCT atttypid, atttypid FROM used
  UNION ALL
  SELECT u.type, t.typbasetype FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.base
  WHERE t.typtype = 'd'
)
SELECT c.attrelid, c.attname, c.atttypid, c.atttypmod, c.attgenerated <> '',
  pg_catalog.has_column_privilege(c.attrelid, c.attnum, 'SELECT'),
  pg_catalog.format_type(c.atttypid, c.atttypmod),
  b.typname, b.typtype = 'e', coalesce(e.typname, ''), coalesce(e.typtype = 'e', false)
FROM used c
JOIN under u ON u.type = c.atttypid
JOIN pg_catalog.pg_type b ON b.oid = u.base AND b.typtype <> 'd'
LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
ORDER BY c.attrelid, c.attnum`
	rows, err := conn.Query(ctx, sql, oids)
	if err != nil {
		return fmt.Errorf("read the catalogue's columns: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var oid uint32
		var c sourceColumn
		if err := rows.Scan(&oid, &c.Name, &c.Type, &c.Modifier, &c.Generated, &c.Selectable,
			&c.TypeName, &c.Base, &c.BaseEnum, &c.Elem, &c.ElemEnum); err != nil {
			return fmt.Errorf("read the catalogue's columns: %w", err)
		}
		t := tables[oid]
		t.Columns = append(t.Columns, c)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the catalogue's columns: %w", err)
	}
	return nil
}

func readIndexes(ctx context.Context, conn queryer, oids []uint32, tables map[uint32]*sourceTable) error {
	const sql = `
SELECT i.indrelid, ic.relname, i.indisprimary, i.indisreplident,
  i.indimmediate AND i.indisvalid AND i.indpred IS NULL,
  coalesce(bool_and(a.attnotnull), false),
  array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, ic.relname, i.indisprimary, i.indisreplident, i.indimmediate, i.indisvalid, i.indpred IS NULL
ORDER BY i.indrelid, i.indisprimary DESC, ic.relname`
	rows, err := conn.Query(ctx, sql, oids)
	if err != nil {
		return fmt.Errorf("read the catalogue's indexes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var oid uint32
		var x sourceIndex
		var whole bool
		if err := rows.Scan(&oid, &x.Name, &x.Primary, &x.Replica, &whole, &x.NotNull, &x.Columns); err != nil {
			return fmt.Errorf("read the catalogue's indexes: %w", err)
		}
		x.Identity = whole && x.NotNull
		t := tables[oid]
		t.Indexes = append(t.Indexes, x)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the catalogue's indexes: %w", err)
	}
	return nil
}

// sameNames compares two lists of names as sets.
func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
