package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/definition"
)

// checkNames checks that the definition's tables exist and name none twice.
func (in *inspection) checkNames(ctx context.Context, conn *pgx.Conn, def *definition.Definition) (missing bool, err error) {
	var known []string
	for i := range def.Tables {
		name := def.Tables[i].Name
		if slices.ContainsFunc(in.Tables, func(t *sourceTable) bool { return t.Definition == &def.Tables[i] }) {
			continue
		}
		missing = true
		if known == nil {
			if known, err = tableNames(ctx, conn); err != nil {
				return false, err
			}
		}
		schema, table := splitName(name)
		mend := "correct the name in the definition"
		if near := nearest(schema+"."+table, known); len(near) > 0 {
			mend += "; near are " + strings.Join(near, ", ")
		}
		in.fault("table "+name, "it does not exist in database "+in.Database, mend)
	}
	for _, t := range leafOf(in.Tables) {
		in.fault("table "+t.String(), "it is a partition of another table of the definition",
			"take it out of the definition")
	}
	return missing, nil
}

// tableNames lists the tables of the database, qualified.
func tableNames(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	const sql = `SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%'
ORDER BY 1`
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return names, nil
}

// checkTable checks one table and its partitions.
func (in *inspection) checkTable(t *sourceTable) {
	object := "table " + t.String()
	alter := "ALTER TABLE " + t.sql()
	role := quoteIdent(in.Role)
	if t.Kind != 'r' && t.Kind != 'p' {
		in.fault(object, "it is not a table, and only tables can be published", "name a table in the definition")
		return
	}
	if t.Persistence != 'p' {
		in.fault(object, "it is not logged, so that its changes cannot be read", alter+" SET LOGGED")
	}
	if !t.Usable {
		in.fault(object, "role "+in.Role+" may not use its schema", "GRANT USAGE ON SCHEMA "+quoteIdent(t.Schema)+" TO "+role)
	}
	if !in.checkColumns(t) {
		return
	}
	in.checkIdentity(t)
	if len(t.Leaves) == 0 {
		in.checkReadable(t, t.named())
		return
	}
	for _, leaf := range t.Leaves {
		in.checkLeaf(t, leaf)
	}
}

// checkColumns checks the columns that the definition names. It returns false
// when one does not exist.
func (in *inspection) checkColumns(t *sourceTable) bool {
	ok := true
	names := make([]string, len(t.Columns))
	for i := range t.Columns {
		names[i] = t.Columns[i].Name
	}
	for i := range t.Definition.Columns {
		want := &t.Definition.Columns[i]
		object := "column " + t.String() + "." + want.Name
		c := t.column(want.Name)
		if c == nil {
			ok = false
			mend := "correct the name in the definition"
			if near := nearest(want.Name, names); len(near) > 0 {
				mend += "; near are " + strings.Join(near, ", ")
			}
			in.fault(object, "it does not exist", mend)
			continue
		}
		if c.Generated {
			in.fault(object, "it is a generated column, which PostgreSQL does not publish", "take it out of the definition")
		}
		if !c.accepts(want.Type) {
			in.fault(object, fmt.Sprintf("its type %s cannot be read as %s", c.TypeName, want.Type),
				fmt.Sprintf("set %s: %s in the definition", want.Name, c.logical()))
		}
	}
	for _, key := range t.Definition.Key {
		if t.column(key) == nil && t.Definition.Column(key) == nil {
			ok = false
			in.fault("column "+t.String()+"."+key, "the key names it, but it does not exist", "correct the key in the definition")
		}
	}
	return ok
}

// accepts says whether the column's type can be read as the logical type.
func (c *sourceColumn) accepts(want definition.Type) bool {
	if want == definition.Float && (c.Base == "int2" || c.Base == "int4" || c.Base == "int8") {
		return true // every integer is a number
	}
	return c.logical() == want
}

// logical is the logical type that fits the column.
func (c *sourceColumn) logical() definition.Type {
	if c.BaseEnum {
		return definition.Text
	}
	switch c.Base {
	case "text", "varchar", "bpchar", "uuid", "citext", "name":
		return definition.Text
	case "int2", "int4", "int8":
		return definition.Int
	case "float4", "float8", "numeric":
		return definition.Float
	case "bool":
		return definition.Bool
	case "timestamp", "timestamptz", "date":
		return definition.Timestamp
	case "json", "jsonb":
		return definition.JSON
	}
	if c.ElemEnum {
		return definition.List
	}
	switch c.Elem {
	case "text", "varchar", "bpchar", "citext":
		return definition.List
	}
	return definition.Text // as the source writes it
}

// checkReadable checks that the backfill may read the columns of a table or leaf.
func (in *inspection) checkReadable(t *sourceTable, columns []string) {
	role := quoteIdent(in.Role)
	var hidden []string
	for _, name := range columns {
		if c := t.column(name); c != nil && !c.Selectable {
			hidden = append(hidden, name)
		}
	}
	if hidden != nil {
		in.fault("table "+t.String(), "role "+in.Role+" may not read "+strings.Join(hidden, ", "),
			"GRANT SELECT ("+quoteColumns(hidden)+") ON "+t.sql()+" TO "+role)
	}
	if t.RowSecurity {
		in.fault("table "+t.String(), "row security hides rows from role "+in.Role, "ALTER ROLE "+role+" BYPASSRLS")
	}
}

// checkLeaf checks a partition: it is what the backfill reads, and its own
// replica identity is what an UPDATE or DELETE logs.
func (in *inspection) checkLeaf(root, leaf *sourceTable) {
	object := "partition " + leaf.String() + " of " + root.String()
	if leaf.Kind != 'r' {
		in.fault(object, "it is a foreign table, whose changes cannot be read",
			"ALTER TABLE "+root.sql()+" DETACH PARTITION "+leaf.sql())
		return
	}
	if leaf.Persistence != 'p' {
		in.fault(object, "it is not logged, so that its changes cannot be read", "ALTER TABLE "+leaf.sql()+" SET LOGGED")
	}
	in.checkReadable(leaf, root.named())
	if root.identity() == nil {
		return // told of the root
	}
	if leaf.full() != root.full() || !sameNames(leaf.identity(), root.identity()) {
		in.fault(object, "its replica identity is not that of its root, so that UPDATE and DELETE on it would fail or lack their key",
			leaf.identitySQL(root.identity(), root.full()))
	}
}

// checkIdentity checks that the replica identity is the definition's key
// (DESIGN §3).
func (in *inspection) checkIdentity(t *sourceTable) {
	object := "table " + t.String()
	key := t.Definition.Key
	if t.full() {
		var unnamed []string
		for _, name := range t.identity() {
			if t.Definition.Column(name) == nil {
				unnamed = append(unnamed, name)
			}
		}
		switch {
		case unnamed != nil:
			in.fault(object, "it has REPLICA IDENTITY FULL, with which columns that the definition does not name ("+
				strings.Join(unnamed, ", ")+") would have to be published, or UPDATE and DELETE on it fail", t.identitySQL(key, false))
		case !t.unique(key):
			in.fault(object, "nothing keeps its key ("+strings.Join(key, ", ")+") unique", t.addKeySQL(key))
		}
		return
	}
	identity := t.identity()
	switch {
	case identity == nil && t.Replica == 'n':
		in.fault(object, "it has REPLICA IDENTITY NOTHING, so that UPDATE and DELETE on it fail once it is published", t.identitySQL(key, false))
	case identity == nil:
		in.fault(object, "it has no replica identity (no primary key, or a deferrable one), so that UPDATE and DELETE on it fail once it is published", t.identitySQL(key, false))
	case !sameNames(identity, key):
		mend := fmt.Sprintf("set key: [%s] in the definition", strings.Join(identity, ", "))
		if t.unique(key) {
			mend = t.identitySQL(key, false)
		}
		in.fault(object, fmt.Sprintf("its replica identity (%s) is not the definition's key (%s)",
			strings.Join(identity, ", "), strings.Join(key, ", ")), mend)
	}
	for _, name := range identity {
		if c := t.column(name); c != nil && c.Generated {
			in.fault("column "+t.String()+"."+name, "it is a generated column in the replica identity", t.identitySQL(key, false))
		}
	}
}

// unique says whether an index keeps the columns unique and not null, so that
// they could be the replica identity.
func (t *sourceTable) unique(columns []string) bool {
	return slices.ContainsFunc(t.Indexes, func(x sourceIndex) bool { return x.Identity && sameNames(x.Columns, columns) })
}

// identitySQL is the statement that makes columns the replica identity.
func (t *sourceTable) identitySQL(columns []string, full bool) string {
	alter := "ALTER TABLE " + t.sql() + " "
	if full {
		return alter + "REPLICA IDENTITY FULL"
	}
	if primary := t.primary(); primary != nil && sameNames(primary, columns) {
		return alter + "REPLICA IDENTITY DEFAULT"
	}
	for i := range t.Indexes {
		if x := &t.Indexes[i]; x.Identity && sameNames(x.Columns, columns) {
			return alter + "REPLICA IDENTITY USING INDEX " + quoteIdent(x.Name)
		}
	}
	return t.addKeySQL(columns)
}

// addKeySQL is the statement that makes columns the key, where no index does.
func (t *sourceTable) addKeySQL(columns []string) string {
	alter := "ALTER TABLE " + t.sql() + " "
	identity := ""
	if t.Replica != 'd' && t.Replica != 'f' {
		identity = ", REPLICA IDENTITY DEFAULT"
	}
	if !slices.ContainsFunc(t.Indexes, func(x sourceIndex) bool { return x.Primary }) {
		if len(columns) == 0 {
			return alter + "ADD PRIMARY KEY (…)"
		}
		return alter + "ADD PRIMARY KEY (" + quoteColumns(columns) + ")" + identity
	}
	// The primary key is another one: a unique index beside it will do.
	name := t.Name + "_dreamfeed_key"
	sql := ""
	for _, c := range columns {
		sql += alter + "ALTER COLUMN " + quoteIdent(c) + " SET NOT NULL; "
	}
	return sql + "CREATE UNIQUE INDEX " + quoteIdent(name) + " ON " + t.sql() + " (" + quoteColumns(columns) + "); " +
		alter + "REPLICA IDENTITY USING INDEX " + quoteIdent(name)
}
