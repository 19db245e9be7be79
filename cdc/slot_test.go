package cdc_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/cdc"
	"dreamfeed/internal/pgtest"
)

// holdSlot follows a slot as another process would, and returns how to let go.
func holdSlot(t testing.TB, url, slot, publication string) (release func()) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names '" + publication + "'"},
	}); err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.Close(t.Context()) }
}

func TestContradictionsStopWithTheirOwnError(t *testing.T) {
	dropSlot := func(r *rig) { r.exec("SELECT pg_drop_replication_slot($1)", r.cfg.Slot) }
	makeSlot := func(r *rig, plugin string) {
		r.exec("SELECT pg_create_logical_replication_slot($1, $2)", r.cfg.Slot, plugin)
	}
	cases := map[string]struct {
		spoil func(r *rig)
		want  func(err error) bool
		mends string
	}{
		"the slot was dropped": {
			spoil: dropSlot,
			want:  func(err error) bool { var e *cdc.SlotGoneError; return errors.As(err, &e) },
			mends: "ingest reset --confirm",
		},
		"the slot was dropped and made again": {
			spoil: func(r *rig) { dropSlot(r); r.exec("INSERT INTO a VALUES (99, 1)"); makeSlot(r, "pgoutput") },
			want:  func(err error) bool { var e *cdc.SlotAheadError; return errors.As(err, &e) && e.Confirmed > e.Resume },
			mends: "ingest reset --confirm",
		},
		"the slot was advanced by somebody else": {
			spoil: func(r *rig) {
				r.exec("INSERT INTO a VALUES (99, 1)")
				r.exec("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", r.cfg.Slot)
			},
			want:  func(err error) bool { var e *cdc.SlotAheadError; return errors.As(err, &e) },
			mends: "ingest reset --confirm",
		},
		"the slot is of another plugin": {
			spoil: func(r *rig) { dropSlot(r); makeSlot(r, "test_decoding") },
			want:  func(err error) bool { var e *cdc.SlotForeignError; return errors.As(err, &e) },
			mends: "pg_drop_replication_slot",
		},
		"another process holds the slot": {
			spoil: func(r *rig) { r.t.Cleanup(holdSlot(r.t, r.cfg.DatabaseURL, r.cfg.Slot, "dreamfeed")) },
			want:  func(err error) bool { var e *cdc.SlotHeldError; return errors.As(err, &e) && e.PID != 0 },
			mends: "pg_terminate_backend(",
		},
		"the publication is gone": {
			spoil: func(r *rig) { r.exec("DROP PUBLICATION dreamfeed") },
			want:  func(err error) bool { var e *cdc.PublicationMissingError; return errors.As(err, &e) },
			mends: "ingest reset --confirm",
		},
		"the publication was made after the changes": {
			spoil: func(r *rig) {
				r.exec("DROP PUBLICATION dreamfeed")
				r.exec("INSERT INTO a VALUES (99, 1)")
				r.exec("CREATE PUBLICATION dreamfeed FOR TABLE a (id, n) WITH (publish_via_partition_root)")
			},
			want:  func(err error) bool { var e *cdc.PublicationChangedError; return errors.As(err, &e) },
			mends: "ingest reset --confirm",
		},
		"the stream is empty but the slot is there": {
			spoil: func(r *rig) { r.newStream(0) },
			want:  func(err error) bool { var e *cdc.SlotOrphanError; return errors.As(err, &e) },
			mends: "ingest reset --confirm",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
			r.exec("INSERT INTO a SELECT g, g FROM generate_series(1, 10) g")
			r.start()
			r.streaming()
			r.catchUp()
			r.end()
			c.spoil(r)
			err := r.fails()
			if !c.want(err) {
				t.Fatalf("run: %T %v", err, err)
			}
			if !strings.Contains(err.Error(), c.mends) {
				t.Errorf("the message does not say %q: %v", c.mends, err)
			}
			t.Log(err)
		})
	}
}

func TestAnotherServerIsRefused(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.end()
	other := pgtest.New(t).NewDatabase(t)
	execOn(t, session(t, other), pairSchema)
	r.cfg.DatabaseURL = other
	err := r.fails()
	var origin *cdc.OriginError
	if !errors.As(err, &origin) || origin.Stream == origin.Server {
		t.Fatalf("run: %v", err)
	}
}

func TestLostSlotStops(t *testing.T) {
	server := pgtest.New(t, "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB")
	r := newRig(t, server.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.catchUp()
	r.end()
	for range 6 {
		r.exec("SELECT pg_switch_wal()")
		r.exec("INSERT INTO b SELECT coalesce((SELECT max(id) FROM b), 0) + g, 1 FROM generate_series(1, 1000) g")
		r.exec("CHECKPOINT")
	}
	err := r.fails()
	var lost *cdc.SlotLostError
	if !errors.As(err, &lost) {
		t.Fatalf("run: %v", err)
	}
}

func TestSlotHeldForAMomentIsWaitedFor(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), pairSchema, define(table("a", "id:int|n:int")))
	r.start()
	r.streaming()
	r.end()
	release := holdSlot(t, r.cfg.DatabaseURL, r.cfg.Slot, "dreamfeed")
	r.start()
	r.until("the source has connected", func(s cdc.Status) bool { return s.State == cdc.Starting })
	release()
	r.streaming()
	r.exec("INSERT INTO a VALUES (1, 1)")
	r.same()
}

func TestConnectErrorsNameThePlaceAndNeverThePassword(t *testing.T) {
	url := shared.NewDatabase(t)
	role := "nologin_" + pgtest.SlotName(t)[len("testconnecterrors"):][:20]
	admin := session(t, url)
	execOn(t, admin, fmt.Sprintf("CREATE ROLE %s NOLOGIN", role))
	t.Cleanup(func() { execOnLate(t, url, "DROP ROLE "+role) })
	host := strings.TrimPrefix(strings.SplitN(url, "@", 2)[1], "")
	address, database, _ := strings.Cut(host, "/")
	database, _, _ = strings.Cut(database, "?")
	for name, c := range map[string]struct{ url, want string }{
		"no such database":       {"postgres://postgres:pa55word@" + address + "/nowhere?sslmode=disable", "CREATE DATABASE"},
		"nobody listens":         {"postgres://postgres:pa55word@127.0.0.1:1/x?sslmode=disable", "start PostgreSQL"},
		"role may not log in":    {"postgres://" + role + ":pa55word@" + address + "/" + database + "?sslmode=disable", "role"},
		"the URL cannot be read": {"postgres://postgres:pa55word@[::1/x", "postgres://user@host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cdc.Check(t.Context(), cdc.Config{DatabaseURL: c.url, Definition: define(table("a", "id:int|"))})
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the message lacks %q: %v", c.want, err)
			}
			if strings.Contains(err.Error(), "pa55word") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the message is not one sentence without the password: %v", err)
			}
			t.Log(err)
		})
	}
}
