package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A publication that is dropped and made again, or a table that is taken out of
// one and added again, looks as before, but the changes between were never
// published. What tells the two apart are the identities of the rows of the
// catalogue. They are kept with the stream, so that a restart knows them.

// publicationKey is where the stream's metadata hold the publication's identity.
const publicationKey = "dreamfeed-publication"

// publicationMark is the identity of a publication.
type publicationMark struct {
	OID uint32 `json:"o"`
	// Row is the transaction that wrote the publication's row last: each ALTER
	// PUBLICATION … SET (…), OWNER or RENAME writes it again.
	Row    string                `json:"r"`
	Owner  uint32                `json:"w"`
	Tables map[string]memberMark `json:"t"` // by tableMark

	names map[string]string // of the tables, qualified, by tableMark
}

// memberMark is the identity of a table in a publication.
type memberMark struct {
	Table  uint32 `json:"t"` // OID of the table
	Member uint32 `json:"m"` // OID of its membership
	// Columns is a hash of the column list; PostgreSQL replaces a membership
	// whose list is altered by another.
	Columns string `json:"c,omitempty"`
}

// tableMark stands for a table's qualified name, in few bytes.
func tableMark(name string) string { return hashText(name) }

func hashText(parts ...string) string {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // it cannot fail
		_, _ = h.Write([]byte{0})
	}
	return fmt.Sprintf("%x", h.Sum64())
}

// readPublicationMark reads a publication's identity, nil if there is none.
func readPublicationMark(ctx context.Context, conn queryer, name string) (*publicationMark, error) {
	m := &publicationMark{Tables: map[string]memberMark{}, names: map[string]string{}}
	err := conn.QueryRow(ctx, `SELECT oid, xmin::text, pubowner FROM pg_catalog.pg_publication WHERE pubname = $1`, name).
		Scan(&m.OID, &m.Row, &m.Owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	const members = `
SELECT n.nspname || '.' || c.relname, r.prrelid, r.oid,
  coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[])), '{}')
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.prpubid = $1`
	rows, err := conn.Query(ctx, members, m.OID)
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		var t memberMark
		var columns []string
		if err := rows.Scan(&table, &t.Table, &t.Member, &columns); err != nil {
			return nil, fmt.Errorf("read publication %s: %w", name, err)
		}
		if len(columns) > 0 {
			slices.Sort(columns)
			t.Columns = hashText(columns...)
		}
		m.Tables[tableMark(table)], m.names[tableMark(table)] = t, table
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	return m, nil
}

// replaced says what of a publication is not what it was, though it may look
// so, "" for nothing. matches says that the publication is now what the
// definition asks for: then other column lists and other tables come from the
// statement that a check has printed for its owner, which is one transaction.
func (m *publicationMark) replaced(now *publicationMark, matches bool) string {
	if m.OID != now.OID {
		return "it was dropped and made again"
	}
	altered := len(m.Tables) != len(now.Tables)
	var found []string
	for mark, was := range m.Tables {
		is, there := now.Tables[mark]
		switch {
		case !there: // of a table that the definition names, lacks tells it
			altered = true
		case was.Table != is.Table:
			found = append(found, "table "+now.names[mark]+" was dropped and made again")
		case was.Columns != is.Columns:
			altered = true
			if was.Member != is.Member && !matches {
				found = append(found, "table "+now.names[mark]+" was taken out and added again with other columns")
			}
		case was.Member != is.Member:
			found = append(found, "table "+now.names[mark]+" was taken out and added again")
		}
	}
	if len(found) > 0 {
		slices.Sort(found)
		return strings.Join(found, ", ")
	}
	if m.Row != now.Row && m.Owner == now.Owner && (!altered || !matches) {
		return "its settings or its name were altered and set back"
	}
	return ""
}

// PublicationChangedError says that the publication, or a table's membership
// in it, was replaced by another since it was last looked at: it may look as
// before, but what was written between was not published.
type PublicationChangedError struct {
	Publication string
	What        string
}

// Error says what happened and what mends it.
func (e *PublicationChangedError) Error() string {
	return fmt.Sprintf("publication %s: %s while ingest did not look, so that changes may have been left out of the stream: "+beginAnew,
		e.Publication, e.What)
}

// checkPublicationMark compares a publication with what is known of it, and
// returns what it is now. A feed of which nothing is known passes.
func (s *Source) checkPublicationMark(ctx context.Context, conn queryer, found *inspection) (*publicationMark, error) {
	now, err := readPublicationMark(ctx, conn, s.cfg.Publication)
	if err != nil {
		return nil, err
	}
	if now == nil {
		return nil, &PublicationMissingError{Publication: s.cfg.Publication}
	}
	known := s.publication
	if known == nil {
		text, err := s.cfg.Log.noted(ctx, publicationKey)
		if err != nil {
			return nil, &streamError{err}
		}
		if text == "" {
			return now, nil
		}
		known = new(publicationMark)
		if err := json.Unmarshal([]byte(text), known); err != nil {
			return nil, fmt.Errorf("read what the stream holds of publication %s: %w", s.cfg.Publication, err)
		}
	}
	_, matches := found.Publication.matches(found.Tables)
	if what := known.replaced(now, matches); what != "" {
		return nil, &PublicationChangedError{Publication: s.cfg.Publication, What: what}
	}
	return now, nil
}

// markPublication notes the publication as it is now: it was just made or
// altered by us, or the backfill that follows reads all there is.
func (s *Source) markPublication(ctx context.Context, conn queryer) error {
	now, err := readPublicationMark(ctx, conn, s.cfg.Publication)
	if err != nil {
		return err
	}
	if now == nil {
		return &PublicationMissingError{Publication: s.cfg.Publication}
	}
	return s.notePublication(ctx, now)
}

// notePublication keeps what a publication is, with the stream too.
func (s *Source) notePublication(ctx context.Context, now *publicationMark) error {
	text, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("note publication %s: %w", s.cfg.Publication, err)
	}
	if err := s.cfg.Log.note(ctx, publicationKey, string(text)); err != nil {
		return &streamError{err}
	}
	s.publication = now
	return nil
}
