package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/durable"
)

// publish are the operations that are published.
const publish = "insert, update, delete, truncate"

// publicationState is what the catalogue says of a publication.
type publicationState struct {
	Owner     string
	Owned     bool
	AllTables bool
	Schemas   bool // it publishes whole schemas
	Whole     bool // it publishes all four operations
	ViaRoot   bool
	Tables    map[uint32]publishedTable
}

// publishedTable is a table of a publication.
type publishedTable struct {
	Columns  []string // nil when it has no column list
	Filtered bool     // it has a row filter
}

// readPublication reads a publication, nil if there is none.
func readPublication(ctx context.Context, conn *pgx.Conn, name string) (*publicationState, error) {
	const head = `
SELECT p.oid, pg_catalog.pg_get_userbyid(p.pubowner)::text, pg_catalog.pg_has_role(p.pubowner, 'USAGE'), p.puballtables,
  EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid),
  p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot
FROM pg_catalog.pg_publication p WHERE p.pubname = $1`
	p := &publicationState{Tables: map[uint32]publishedTable{}}
	var oid uint32
	err := conn.QueryRow(ctx, head, name).Scan(&oid, &p.Owner, &p.Owned, &p.AllTables, &p.Schemas, &p.Whole, &p.ViaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	const members = `
SELECT r.prrelid, r.prqual IS NOT NULL, r.prattrs IS NOT NULL,
  coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[])), '{}')
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = $1`
	rows, err := conn.Query(ctx, members, oid)
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var table uint32
		var t publishedTable
		var listed bool
		if err := rows.Scan(&table, &t.Filtered, &listed, &t.Columns); err != nil {
			return nil, fmt.Errorf("read publication %s: %w", name, err)
		}
		if !listed {
			t.Columns = nil
		}
		p.Tables[table] = t
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	return p, nil
}

// matches says whether the publication is what the tables need; reason says
// what differs.
func (p *publicationState) matches(tables []*sourceTable) (reason string, ok bool) {
	switch {
	case p.AllTables:
		return "it is FOR ALL TABLES, without column lists", false
	case p.Schemas:
		return "it publishes whole schemas, without column lists", false
	case !p.Whole:
		return "it does not publish all of " + publish, false
	case !p.ViaRoot:
		return "publish_via_partition_root is off", false
	}
	wanted := map[uint32]bool{}
	for _, t := range tables {
		wanted[t.OID] = true
		has, there := p.Tables[t.OID]
		switch {
		case !there:
			return "it lacks table " + t.String(), false
		case has.Filtered:
			return "it filters rows of table " + t.String(), false
		case t.full() && has.Columns != nil:
			return "it has a column list for table " + t.String() + ", which has REPLICA IDENTITY FULL", false
		case !t.full() && has.Columns == nil:
			return "it has no column list for table " + t.String(), false
		case !t.full() && !sameNames(has.Columns, t.named()):
			return "its column list of table " + t.String() + " is another", false
		}
	}
	for oid := range p.Tables {
		if !wanted[oid] {
			return "it publishes a table that the definition does not name", false
		}
	}
	return "", true
}

// lacks says what of the definition the publication leaves out, "" for
// nothing. What it leaves out once a feed has begun never gets into the
// stream, and neither does the state from before.
func (p *publicationState) lacks(tables []*sourceTable) string {
	if !p.Whole {
		return "it does not publish all of " + publish
	}
	if p.AllTables {
		return ""
	}
	for _, t := range tables {
		has, there := p.Tables[t.OID]
		switch {
		case !there && p.Schemas:
			continue // the schema may publish it: matches refuses that
		case !there:
			return "it lacks table " + t.String()
		case has.Filtered:
			return "it filters rows of table " + t.String()
		case has.Columns == nil:
			continue // it has them all
		}
		for i := range t.Definition.Columns {
			if name := t.Definition.Columns[i].Name; !slices.Contains(has.Columns, name) {
				return "it lacks column " + t.String() + "." + name
			}
		}
	}
	return ""
}

// filled are the tables that the store has filled: their changes must have been
// published since the feed began.
func (c *Config) filled(tables []*sourceTable) []*sourceTable {
	if c.Unfilled == nil {
		return tables
	}
	unfilled := c.Unfilled()
	return slices.DeleteFunc(slices.Clone(tables), func(t *sourceTable) bool { return slices.Contains(unfilled, t.Definition.Name) })
}

// publicationTables is the table list of the publication.
func publicationTables(tables []*sourceTable) string {
	parts := make([]string, len(tables))
	for i, t := range tables {
		var b strings.Builder
		if t.Kind == 'r' {
			b.WriteString("ONLY ") // tables that inherit have their own keys
		}
		b.WriteString(t.sql())
		if !t.full() {
			b.WriteString(" (" + quoteColumns(t.named()) + ")")
		}
		parts[i] = b.String()
	}
	return "TABLE " + strings.Join(parts, ", ")
}

// createPublicationSQL is the statement that makes the publication.
func createPublicationSQL(name string, tables []*sourceTable) string {
	return "CREATE PUBLICATION " + quoteIdent(name) + " FOR " + publicationTables(tables) +
		" WITH (publish = '" + publish + "', publish_via_partition_root = true)"
}

// alterPublicationSQL is what makes an existing publication the one that is
// needed. One that is FOR ALL TABLES cannot be altered so.
func alterPublicationSQL(name string, now *publicationState, tables []*sourceTable) []string {
	if now.AllTables {
		return []string{"DROP PUBLICATION " + quoteIdent(name), createPublicationSQL(name, tables)}
	}
	alter := "ALTER PUBLICATION " + quoteIdent(name) + " SET "
	return []string{
		alter + "(publish = '" + publish + "', publish_via_partition_root = true)",
		alter + publicationTables(tables),
	}
}

// ensurePublication makes or alters the publication. It must run before the
// slot is made, since the decoder looks the publication up as of each change.
// changed says what it did, "" for nothing.
func ensurePublication(ctx context.Context, conn *pgx.Conn, name string, now *publicationState, tables []*sourceTable, hook durable.Hook) (changed string, err error) {
	if len(tables) == 0 {
		return "", fmt.Errorf("publication %s: the definition names no table", name)
	}
	if now == nil {
		if err := hook.Before(durable.CreatePublication); err != nil {
			return "", fmt.Errorf("create publication %s: %w", name, err)
		}
		if _, err := conn.Exec(ctx, createPublicationSQL(name, tables)); err != nil {
			return "", fmt.Errorf("create publication %s: %w", name, err)
		}
		return "created", nil
	}
	if _, ok := now.matches(tables); ok {
		return "", nil
	}
	if now.AllTables {
		return "", &PublicationForeignError{Publication: name, Mend: strings.Join(alterPublicationSQL(name, now, tables), "; ")}
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return "", fmt.Errorf("alter publication %s: %w", name, err)
	}
	// After a commit this does nothing.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range alterPublicationSQL(name, now, tables) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("alter publication %s: %w", name, err)
		}
	}
	if err := hook.Before(durable.CreatePublication); err != nil {
		return "", fmt.Errorf("alter publication %s: %w", name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return "", fmt.Errorf("alter publication %s: %w", name, err)
	}
	return "altered", nil
}

// PublicationMissingError says that the stream holds a feed but its publication
// does not exist, so that changes meanwhile cannot be decoded.
type PublicationMissingError struct {
	Publication string
}

func (e *PublicationMissingError) Error() string {
	return fmt.Sprintf("publication %s does not exist, or did not when the changes to be read were made, so that they cannot be decoded: "+beginAnew,
		e.Publication)
}

// PublicationNarrowError says that a feed has begun and its publication leaves
// out what the definition names, and what the store has filled: somebody has
// altered the publication or renamed a column. The stream lacks it, and altering
// the publication would hide that.
type PublicationNarrowError struct {
	Publication string
	Lacks       string
}

func (e *PublicationNarrowError) Error() string {
	return fmt.Sprintf("publication %s: %s, so that the stream lacks what was written there until now: "+beginAnew,
		e.Publication, e.Lacks)
}

// PublicationForeignError says that a publication of our name is of a kind that
// cannot be altered into ours.
type PublicationForeignError struct {
	Publication string
	Mend        string // SQL
}

func (e *PublicationForeignError) Error() string {
	return fmt.Sprintf("publication %s is FOR ALL TABLES, so that columns the definition does not name would leave the database: choose another name with --publication, or run: %s",
		e.Publication, e.Mend)
}

// leafOf returns the tables that are themselves partitions of other tables of
// the list: their changes would come under the root's name.
func leafOf(tables []*sourceTable) []*sourceTable {
	var both []*sourceTable
	for _, t := range tables {
		for _, root := range tables {
			if slices.ContainsFunc(root.Leaves, func(l *sourceTable) bool { return l.OID == t.OID }) {
				both = append(both, t)
			}
		}
	}
	return both
}
