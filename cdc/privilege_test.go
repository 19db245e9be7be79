package cdc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/pgtest"
)

// leastPrivileges is what docs/OPERATIONS.md says that the role needs, and no
// more: the owner of the tables makes the publication.
var leastPrivileges = map[string]string{
	"LOGIN":           `ALTER ROLE feeder LOGIN`,
	"REPLICATION":     `ALTER ROLE feeder REPLICATION`,
	"CONNECT":         `GRANT CONNECT ON DATABASE app TO feeder`,
	"USAGE":           `GRANT USAGE ON SCHEMA shop TO feeder`,
	"SELECT":          `GRANT SELECT (id, n) ON shop.a TO feeder`,
	"SELECT, another": `GRANT SELECT (id, text) ON shop.b TO feeder`,
	"the publication": `SET ROLE keeper; CREATE PUBLICATION "dreamfeed" FOR TABLE ONLY "shop"."a" ("id", "n"), ONLY "shop"."b" ("id", "text") WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true); RESET ROLE`,
	"EXECUTE":         `GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO feeder`,
}

// restricted is a server on which everybody has no rights but those that
// PostgreSQL needs to log in, with two tables of keeper's.
func restricted(t *testing.T) (server *pgtest.Server, url, feeder string) {
	t.Helper()
	ownHome(t)
	server = pgtest.New(t)
	execOn(t, session(t, server.URL("postgres")), "CREATE DATABASE app")
	url = server.URL("app")
	admin := session(t, url)
	execOn(t, admin, `CREATE ROLE feeder NOLOGIN; CREATE ROLE keeper; GRANT CREATE ON DATABASE app TO keeper;
		CREATE SCHEMA shop AUTHORIZATION keeper;
		CREATE TABLE shop.a (id int PRIMARY KEY, n int, secret text); CREATE TABLE shop.b (id int PRIMARY KEY, text text, secret text);
		ALTER TABLE shop.a OWNER TO keeper; ALTER TABLE shop.b OWNER TO keeper;
		INSERT INTO shop.a SELECT g, g, 'x' FROM generate_series(1, 2000) g; INSERT INTO shop.b SELECT g, repeat('long ', 2000), 'x' FROM generate_series(1, 50) g;
		REVOKE ALL ON DATABASE app FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
		REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC`)
	return server, url, asRole(url, "feeder")
}

// With exactly the least privileges everything works: check, backfill, stream,
// barrier, refill, and the snapshot that verify reads.
func TestLeastPrivilegesAreEnoughForEverything(t *testing.T) {
	_, url, feeder := restricted(t)
	admin := session(t, url)
	for _, statement := range leastPrivileges {
		execOn(t, admin, statement)
	}
	r := newRig(t, url, "", define(table("shop.a", "id:int|n:int"), table("shop.b", "id:int|text:text")))
	r.cfg.DatabaseURL = feeder
	if faults := check(t, r.cfg); len(faults) != 0 {
		t.Fatalf("faults %v, want none", faults)
	}
	f := r.follow()
	r.start()
	r.streaming()
	execOn(t, admin, `UPDATE shop.a SET n = -n WHERE id % 3 = 0; DELETE FROM shop.a WHERE id > 1990; INSERT INTO shop.b VALUES (51, 'new', 'x'); UPDATE shop.b SET secret = 'y'`)
	f.same()
	f.refill("shop.a", "shop.b")
	f.same()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	snapshot, err := cdc.OpenSnapshot(ctx, r.cfg, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	if rows := readSnapshot(t, snapshot, "shop.a", 2); len(rows) != 1990 {
		t.Errorf("the snapshot shows %d rows, want 1990", len(rows))
	}
	// And it can do no more.
	as := session(t, feeder)
	for _, statement := range []string{
		"SELECT secret FROM shop.a", "UPDATE shop.a SET n = 0", "DELETE FROM shop.b", "CREATE TABLE shop.c ()", "CREATE TABLE public.c ()",
		"ALTER PUBLICATION dreamfeed ADD TABLES IN SCHEMA shop", "CREATE PUBLICATION another", "CREATE SCHEMA own",
	} {
		if _, err := as.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s is allowed", statement)
		}
	}
}

// Each privilege that is missing has its own sentence, whose statement mends it.
func TestEachMissingPrivilegeIsNamedWithWhatGrantsIt(t *testing.T) {
	_, url, feeder := restricted(t)
	admin := session(t, url)
	for _, statement := range leastPrivileges {
		execOn(t, admin, statement)
	}
	cfg := cdc.Config{DatabaseURL: feeder, Definition: define(table("shop.a", "id:int|n:int"), table("shop.b", "id:int|text:text"))}
	for name, c := range map[string]struct{ revoke, mend string }{
		"LOGIN":           {`ALTER ROLE feeder NOLOGIN`, `ALTER ROLE "feeder" LOGIN`},
		"REPLICATION":     {`ALTER ROLE feeder NOREPLICATION`, `ALTER ROLE "feeder" REPLICATION`},
		"CONNECT":         {`REVOKE CONNECT ON DATABASE app FROM feeder`, `GRANT CONNECT ON DATABASE "app" TO "feeder"`},
		"USAGE":           {`REVOKE USAGE ON SCHEMA shop FROM feeder`, `GRANT USAGE ON SCHEMA "shop" TO "feeder"`},
		"SELECT":          {`REVOKE SELECT (n) ON shop.a FROM feeder`, `GRANT SELECT ("n") ON "shop"."a" TO "feeder"`},
		"SELECT, another": {`REVOKE SELECT (id) ON shop.b FROM feeder`, `GRANT SELECT ("id") ON "shop"."b" TO "feeder"`},
		"the publication": {`DROP PUBLICATION dreamfeed`, `CREATE PUBLICATION "dreamfeed" FOR TABLE ONLY "shop"."a" ("id", "n"), ONLY "shop"."b" ("id", "text") WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)`},
		"EXECUTE": {
			`REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM feeder`,
			`GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text) TO "feeder"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			execOn(t, admin, c.revoke)
			said := ""
			faults, err := cdc.Check(t.Context(), cfg)
			if err != nil {
				said = err.Error()
			}
			for _, f := range faults {
				said += f.String() + "\n"
			}
			if !strings.Contains(said, c.mend) {
				t.Errorf("it says %q, without %s", said, c.mend)
			}
			for _, f := range faults {
				if !f.Fatal || !strings.Contains(f.Mend, c.mend) {
					t.Errorf("fatal %v: %s: want fatal, and nothing but what is missing", f.Fatal, f)
				}
			}
			execOn(t, admin, c.mend)
			if faults, err := cdc.Check(t.Context(), cfg); err != nil || len(faults) != 0 {
				t.Errorf("once mended: %v, %v", faults, err)
			}
		})
	}
}

// A right that is lost while the daemon runs ends it with the sentence, or
// alarms, but is never passed over.
func TestReplicationRightLostWhileStreamingStopsWithItsSentence(t *testing.T) {
	_, url, feeder := restricted(t)
	admin := session(t, url)
	for _, statement := range leastPrivileges {
		execOn(t, admin, statement)
	}
	r := newRig(t, url, "", define(table("shop.a", "id:int|n:int"), table("shop.b", "id:int|text:text")))
	r.cfg.DatabaseURL, r.cfg.CheckEvery = feeder, 50*time.Millisecond
	r.start()
	r.streaming()
	execOn(t, admin, `ALTER ROLE feeder NOREPLICATION`)
	execOn(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'feeder'`)
	if err := r.failure(); !strings.Contains(err.Error(), `ALTER ROLE "feeder" REPLICATION`) {
		t.Errorf("error %v", err)
	}
}
