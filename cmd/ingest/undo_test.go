package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
)

// leftBehind counts the publications of a source's database and the replication
// slots of its server that belong to that database.
const leftBehind = `SELECT (SELECT count(*) FROM pg_publication)
	+ (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())`

// A source that is refused is left as it was found. Once the fault is mended,
// the data directory that the refused start has used serves the next one.
func TestRefusedSourceIsLeftAsItWasAndFollowedOnceMended(t *testing.T) {
	for name, c := range map[string]struct {
		role       string // that ingest connects as, instead of the owner
		spoil      string
		mend       []string
		want       string
		ownReplica bool // a server of its own, whose level a restart raises
	}{
		"wal_level replica": {
			ownReplica: true, want: "wal_level",
			mend: []string{"ALTER SYSTEM SET wal_level = logical"},
		},
		"no privilege": {
			role: "newcomer", want: "REPLICATION",
			spoil: "CREATE ROLE newcomer LOGIN",
			mend:  []string{"ALTER ROLE newcomer REPLICATION", "GRANT postgres TO newcomer"},
		},
		"a missing table": {
			want:  "favorites",
			spoil: "ALTER TABLE favorites RENAME TO favourites",
			mend:  []string{"ALTER TABLE favourites RENAME TO favorites"},
		},
		"a missing column": {
			want:  "cabinClass",
			spoil: `ALTER TABLE search_history RENAME "cabinClass" TO cabin`,
			mend:  []string{`ALTER TABLE search_history RENAME cabin TO "cabinClass"`},
		},
		"a table without identity": {
			want:  "REPLICA IDENTITY",
			spoil: "ALTER TABLE favorites REPLICA IDENTITY NOTHING",
			mend:  []string{"ALTER TABLE favorites REPLICA IDENTITY DEFAULT"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var server *pgtest.Server
			var owner string
			if c.ownReplica {
				server = pgtest.New(t, "wal_level=replica")
				owner = server.URL("postgres")
				populate(t, owner, 15)
			} else {
				owner = populated(t, 15)
			}
			dataDir, url := filepath.Join(t.TempDir(), "data"), owner
			if c.role != "" {
				url = strings.Replace(owner, "postgres@", c.role+"@", 1)
				t.Cleanup(func() { dropRole(t, owner, c.role) })
			}
			if c.spoil != "" {
				execute(t, owner, c.spoil)
			}
			refused(t, dataDir, url, []string{"--until-caught-up"}, c.want)
			if n := count(t, owner, leftBehind); n != 0 {
				t.Errorf("the refused start left %d publications and slots behind, want none", n)
			}

			execute(t, owner, c.mend...)
			if server != nil {
				if err := server.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			catchUp(t, dataDir, url)
			if n := count(t, owner, leftBehind); n != 2 {
				t.Errorf("the accepted start made %d publications and slots, want one of each", n)
			}
			if rows := requireEqual(t, dreamscape(t), dataDir, owner); rows == 0 {
				t.Error("the source holds no rows, so that equality says nothing")
			}
		})
	}
}

// dropRole removes a role with all that it owns in a database.
func dropRole(t *testing.T, url, role string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
		t.Error(err)
	}
}
