package cdc_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/pgtest"
)

// is makes a check for one type of error.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// fed is a rig whose feed has begun and was stopped.
func fed(t *testing.T, url string) *rig {
	t.Helper()
	r := newRig(t, url, pairSchema, define(table("a", "id:int|n:int"), table("b", "id:int|n:int")))
	r.exec("INSERT INTO a SELECT g, g FROM generate_series(1, 10) g")
	r.start()
	r.streaming()
	r.catchUp()
	return r
}

// stopsAgain requires an error of a type and a sentence, at once and again at
// the next start.
func stopsAgain(t *testing.T, r *rig, err error, ok func(error) bool, mends string) {
	t.Helper()
	for range 2 {
		if !ok(err) {
			t.Fatalf("run: %T %v", err, err)
		}
		if !strings.Contains(err.Error(), mends) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the message is not one sentence that says %q: %v", mends, err)
		}
		err = r.fails()
	}
	t.Log(err)
}

const resetCommand = "ingest reset --confirm"

// endSender ends the session that follows a slot, as an administrator would.
const endSender = `SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE active AND slot_name = '`

// What is done to the slot while it is followed is found when the connection
// that it takes is made again.
func TestSlotTakenAwayWhileStreamingStops(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string // SLOT stands for the slot's name
		want func(error) bool
	}{
		"dropped": {"SELECT pg_drop_replication_slot('SLOT')", is[*cdc.SlotGoneError]},
		"dropped and made again": {
			"SELECT pg_drop_replication_slot('SLOT'); INSERT INTO a VALUES (99, 1); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')",
			is[*cdc.SlotAheadError],
		},
		"dropped and made again with nothing between": {
			"SELECT pg_drop_replication_slot('SLOT'); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')",
			is[*cdc.SlotAheadError],
		},
		"advanced": {
			"INSERT INTO a VALUES (99, 1); SELECT pg_replication_slot_advance('SLOT', pg_current_wal_lsn())",
			is[*cdc.SlotAheadError],
		},
		"made again as two-phase": {
			"SELECT pg_drop_replication_slot('SLOT'); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput', false, true)",
			is[*cdc.SlotForeignError],
		},
		"made again as a physical one": {
			"SELECT pg_drop_replication_slot('SLOT'); SELECT pg_create_physical_replication_slot('SLOT')",
			is[*cdc.SlotForeignError],
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := fed(t, shared.NewDatabase(t))
			// We come back after a quarter of a second at the earliest.
			for _, sql := range append([]string{endSender + r.cfg.Slot + "'"}, strings.Split(strings.ReplaceAll(c.sql, "SLOT", r.cfg.Slot), "; ")...) {
				r.exec(sql)
			}
			stopsAgain(t, r, r.failure(), c.want, resetMends(c.want))
		})
	}
}

// resetMends is what the sentence of an error says.
func resetMends(want func(error) bool) string {
	if want(new(cdc.SlotForeignError)) {
		return "pg_drop_replication_slot("
	}
	return resetCommand
}

func TestSlotOfAnotherDatabaseIsRefused(t *testing.T) {
	r := fed(t, shared.NewDatabase(t))
	r.end()
	r.exec("SELECT pg_drop_replication_slot($1)", r.cfg.Slot)
	other := shared.NewDatabase(t)
	execOn(t, session(t, other), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", r.cfg.Slot)
	stopsAgain(t, r, r.fails(), is[*cdc.SlotForeignError], "in database")
}

// A slot that is advanced between our decision and START_REPLICATION is found:
// the server passes silently over what it was told to forget.
func TestSlotAdvancedWhileWeConnectStops(t *testing.T) {
	r := fed(t, shared.NewDatabase(t))
	r.end()
	var once sync.Once
	r.cfg.Clock = func() time.Time { // asked for after the decision
		once.Do(func() {
			r.exec("INSERT INTO a VALUES (99, 1)")
			r.exec("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", r.cfg.Slot)
		})
		return time.Now()
	}
	stopsAgain(t, r, r.fails(), is[*cdc.SlotAheadError], resetCommand)
}

// A slot that stands before our position, but whose log is there, is as good as
// ours, unless ours was known to have done with that log (SlotBehindError).
func TestSlotBelowOurPositionLosesNothing(t *testing.T) {
	r := fed(t, shared.NewDatabase(t))
	old := r.cfg.Slot + "_old"
	r.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", old)
	t.Cleanup(func() { execOnLate(t, r.cfg.DatabaseURL, "SELECT pg_drop_replication_slot('"+old+"')") })
	r.exec("INSERT INTO a VALUES (50, 1)")
	r.catchUp()
	r.end()
	r.exec("INSERT INTO a VALUES (51, 1)")
	r.exec("SELECT pg_drop_replication_slot($1)", r.cfg.Slot)
	r.exec("SELECT pg_copy_logical_replication_slot($1, $2)", old, r.cfg.Slot)
	r.start()
	r.streaming()
	r.same()
}

func TestSlotLostWhileStreamingStops(t *testing.T) {
	server := pgtest.New(t, "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB")
	r := newRig(t, server.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.newStream(1 << 20) // it fills up, so that nothing is confirmed
	r.start()
	r.streaming()
	for i := range 200 {
		r.exec("INSERT INTO a SELECT $1::int * 100000 + g, g FROM generate_series(1, 30000) g", i)
		r.exec("SELECT pg_switch_wal()")
		r.exec("CHECKPOINT")
		if len(r.ended) > 0 {
			break
		}
	}
	stopsAgain(t, r, r.failure(), is[*cdc.SlotLostError], "max_slot_wal_keep_size")
}

// A publication that looks as it did, but was not there or not the same
// meanwhile, has left changes out. Found while streaming and after a stop alike.
func TestReplacedPublicationStops(t *testing.T) {
	for name, c := range map[string]struct {
		sql     string
		what    string
		running bool // also while streaming
	}{
		"dropped and made again": {
			"DROP PUBLICATION dreamfeed; CREATE PUBLICATION dreamfeed FOR TABLE ONLY a (id, n), ONLY b (id, n) WITH (publish_via_partition_root)", "dropped and made again", true,
		},
		"a table taken out and added again": {
			"ALTER PUBLICATION dreamfeed DROP TABLE b; ALTER PUBLICATION dreamfeed ADD TABLE ONLY b (id, n)", "public.b was taken out", true,
		},
		"a table added again without its list": {
			"ALTER PUBLICATION dreamfeed DROP TABLE b; ALTER PUBLICATION dreamfeed ADD TABLE ONLY b", "public.b was taken out", false,
		},
		"operations switched off and on": {
			"ALTER PUBLICATION dreamfeed SET (publish = 'insert'); ALTER PUBLICATION dreamfeed SET (publish = 'insert, update, delete, truncate')", "altered and set back", true,
		},
		"renamed away and back": {
			"ALTER PUBLICATION dreamfeed RENAME TO x; ALTER PUBLICATION x RENAME TO dreamfeed", "altered and set back", false,
		},
		"a table dropped and made again": {
			"DROP TABLE b; CREATE TABLE b (id int PRIMARY KEY, n int, t text); ALTER PUBLICATION dreamfeed ADD TABLE ONLY b (id, n)", "public.b was dropped and made again", false,
		},
	} {
		for when, running := range map[string]bool{"while streaming": true, "while stopped": false} {
			if running && !c.running {
				continue
			}
			t.Run(name+" "+when, func(t *testing.T) {
				r := fed(t, shared.NewDatabase(t))
				r.end()
				if running {
					r.cfg.CheckEvery = time.Second
					r.start()
					r.streaming()
				}
				r.exec(strings.ReplaceAll("BEGIN; "+c.sql+"; COMMIT", "; A", "; COMMIT; BEGIN; A"))
				var err error
				if running {
					err = r.failure()
				} else {
					err = r.fails()
				}
				stopsAgain(t, r, err, is[*cdc.PublicationChangedError], resetCommand)
				if !strings.Contains(err.Error(), c.what) {
					t.Errorf("the message does not say %q: %v", c.what, err)
				}
			})
		}
	}
}

// What leaves nothing out is no reason to stop.
func TestHarmlessChangesOfThePublicationPass(t *testing.T) {
	owner := "owner_" + pgtest.SlotName(t)[len("testharmless"):]
	for name, c := range map[string]struct {
		sql    string
		before func(*rig)
	}{
		"another owner":          {sql: "CREATE ROLE " + owner + " SUPERUSER; ALTER PUBLICATION dreamfeed OWNER TO " + owner},
		"set to what it was":     {sql: "ALTER PUBLICATION dreamfeed SET TABLE ONLY a (id, n), ONLY b (id, n)"},
		"a catalogue cleaned up": {sql: "VACUUM (FULL, FREEZE) pg_publication; VACUUM (FULL, FREEZE) pg_publication_rel"},
		"the statement that a check prints for another definition": {
			sql: "BEGIN; ALTER PUBLICATION dreamfeed SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true); ALTER PUBLICATION dreamfeed SET TABLE ONLY a (id, n); COMMIT",
			before: func(r *rig) {
				r.cfg.Definition = define(table("a", "id:int|n:int"))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := fed(t, shared.NewDatabase(t))
			r.end()
			if c.before != nil {
				c.before(r)
			}
			for _, sql := range strings.Split(c.sql, "; ") {
				r.exec(sql)
			}
			t.Cleanup(func() {
				if strings.Contains(c.sql, owner) {
					execOnLate(t, r.cfg.DatabaseURL, "REASSIGN OWNED BY "+owner+" TO postgres; DROP ROLE "+owner)
				}
			})
			for range 2 {
				r.start()
				r.streaming()
				r.exec("INSERT INTO a SELECT max(id) + 1, 1 FROM a")
				r.same()
				r.end()
			}
		})
	}
}

func TestPublicationDroppedWhileStreamingStops(t *testing.T) {
	for name, change := range map[string]string{"with a change": "INSERT INTO a VALUES (77, 1)", "without": "SELECT 1"} {
		t.Run(name, func(t *testing.T) {
			r := fed(t, shared.NewDatabase(t))
			r.end()
			r.cfg.CheckEvery = time.Second
			r.start()
			r.streaming()
			r.exec("DROP PUBLICATION dreamfeed")
			r.exec(change)
			stopsAgain(t, r, r.failure(), is[*cdc.PublicationMissingError], resetCommand)
		})
	}
}

// reset begins the feed anew.
func (r *rig) reset(at cdc.Place, discard bool) *cdc.Reset {
	r.t.Helper()
	plan, err := cdc.PlanReset(r.t.Context(), r.cfg, at, discard)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := plan.Do(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return plan
}
