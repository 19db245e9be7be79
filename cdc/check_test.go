package cdc_test

import (
	"errors"
	"strings"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/pgtest"
)

// asRole returns the URL for another role.
func asRole(url, role string) string { return strings.Replace(url, "postgres@", role+"@", 1) }

func TestCheckFindsFaultsAndSaysWhatMendsThem(t *testing.T) {
	cases := map[string]struct {
		schema string
		table  definition.Table
		object string // of the fault
		mend   string // part of it
		sql    bool   // the mend is SQL that, run, mends it
	}{
		"a table without a key": {
			schema: `CREATE TABLE "Odd ""Name""" (id text, n int)`, table: table(`Odd "Name"`, "id:text|n:int"),
			object: `table public.Odd "Name"`, mend: "ADD PRIMARY KEY", sql: true,
		},
		"replica identity nothing": {
			schema: `CREATE TABLE a (id text PRIMARY KEY); ALTER TABLE a REPLICA IDENTITY NOTHING`, table: table("a", "id:text|"),
			object: "table public.a", mend: `REPLICA IDENTITY DEFAULT`, sql: true,
		},
		"replica identity nothing and no key but a unique index": {
			schema: `CREATE TABLE a (id text NOT NULL UNIQUE); ALTER TABLE a REPLICA IDENTITY NOTHING`, table: table("a", "id:text|"),
			object: "table public.a", mend: `REPLICA IDENTITY USING INDEX "a_id_key"`, sql: true,
		},
		"replica identity full with a column not named": {
			schema: `CREATE TABLE a (id text PRIMARY KEY, secret text); ALTER TABLE a REPLICA IDENTITY FULL`, table: table("a", "id:text|"),
			object: "table public.a", mend: `REPLICA IDENTITY DEFAULT`, sql: true,
		},
		"another key in the definition, for which there is an index": {
			schema: `CREATE TABLE a (id text PRIMARY KEY, code text NOT NULL UNIQUE)`, table: table("a", "code:text|id:text"),
			object: "table public.a", mend: `USING INDEX "a_code_key"`, sql: true,
		},
		"another key in the definition": {
			schema: `CREATE TABLE a (id text PRIMARY KEY, n int)`, table: table("a", "n:int|id:text"),
			object: "table public.a", mend: "set key: [id] in the definition",
		},
		"a misspelt table": {
			schema: `CREATE TABLE search_history (id text PRIMARY KEY)`, table: table("search_histroy", "id:text|"),
			object: "table search_histroy", mend: "public.search_history",
		},
		"a column in another case": {
			schema: `CREATE TABLE a (id text PRIMARY KEY, "userId" text)`, table: table("a", "id:text|userid:text"),
			object: "column public.a.userid", mend: "userId",
		},
		"a type that does not fit": {
			schema: `CREATE DOMAIN small AS int; CREATE TABLE a (id text PRIMARY KEY, n small)`, table: table("a", "id:text|n:text"),
			object: "column public.a.n", mend: "set n: int in the definition",
		},
		"a generated column": {
			schema: `CREATE TABLE a (id text PRIMARY KEY, n int GENERATED ALWAYS AS (length(id)) STORED)`, table: table("a", "id:text|n:int"),
			object: "column public.a.n", mend: "take it out of the definition",
		},
		"an unlogged table": {
			schema: `CREATE UNLOGGED TABLE a (id text PRIMARY KEY)`, table: table("a", "id:text|"),
			object: "table public.a", mend: "SET LOGGED", sql: true,
		},
		"a view": {
			schema: `CREATE VIEW a AS SELECT 'x'::text AS id`, table: table("a", "id:text|"),
			object: "table public.a", mend: "name a table",
		},
		"a partition with another identity": {
			schema: `CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); ALTER TABLE p1 REPLICA IDENTITY NOTHING`,
			table:  table("p", "id:int|"), object: "partition public.p1 of public.p", mend: "REPLICA IDENTITY DEFAULT", sql: true,
		},
		"a publication for all tables": {
			schema: `CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION dreamfeed FOR ALL TABLES`,
			table:  table("a", "id:int|"), object: "publication dreamfeed", mend: "DROP PUBLICATION", sql: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			url := shared.NewDatabase(t)
			conn := session(t, url)
			execOn(t, conn, c.schema)
			cfg := cdc.Config{DatabaseURL: url, Definition: define(c.table)}
			fault := oneFault(t, cfg)
			if fault.Object != c.object || !strings.Contains(fault.Mend, c.mend) || !fault.Fatal {
				t.Fatalf("fault %+v; want object %q, mend with %q", fault, c.object, c.mend)
			}
			if !c.sql {
				return
			}
			execOn(t, conn, fault.Mend)
			if faults := check(t, cfg); len(faults) != 0 {
				t.Errorf("after %s: %v", fault.Mend, faults)
			}
		})
	}
}

func check(t testing.TB, cfg cdc.Config) []cdc.Fault {
	t.Helper()
	faults, err := cdc.Check(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return faults
}

func oneFault(t testing.TB, cfg cdc.Config) cdc.Fault {
	t.Helper()
	faults := check(t, cfg)
	if len(faults) != 1 {
		t.Fatalf("faults %v, want one", faults)
	}
	return faults[0]
}

func TestMendsOfAPoorRoleLetItRun(t *testing.T) {
	url := shared.NewDatabase(t)
	admin := session(t, url)
	role := "poor_" + pgtest.SlotName(t)[:20]
	execOn(t, admin, "CREATE ROLE "+role+` LOGIN; CREATE ROLE `+role+`_owner; CREATE SCHEMA "App"; CREATE TABLE "App".a (id int PRIMARY KEY, n int, secret text);
		INSERT INTO "App".a SELECT g, g, 'x' FROM generate_series(1, 10) g; ALTER TABLE "App".a OWNER TO `+role+`_owner; ALTER TABLE "App".a ENABLE ROW LEVEL SECURITY; ALTER TABLE "App".a FORCE ROW LEVEL SECURITY`)
	r := newRig(t, url, "", define(table("App.a", "id:int|n:int")))
	r.cfg.DatabaseURL = asRole(url, role)
	objects := map[string]bool{}
	for range 8 {
		faults := check(t, r.cfg)
		if len(faults) == 0 {
			break
		}
		for _, f := range faults {
			objects[f.Object] = true
			t.Log(f)
			execOn(t, admin, f.Mend)
		}
	}
	for _, want := range []string{"role " + role, "table App.a", "publication dreamfeed"} {
		if !objects[want] {
			t.Errorf("no fault of %s", want)
		}
	}
	r.start()
	r.streaming()
	execOn(t, admin, `UPDATE "App".a SET n = 2; DELETE FROM "App".a WHERE id = 3`)
	if m := r.same(); m.counts.Backfilled != 10 {
		t.Errorf("backfilled %d rows, want 10", m.counts.Backfilled)
	}
}

func TestServerThatCannotReplicateIsTold(t *testing.T) {
	server := pgtest.New(t, "wal_level=replica", "max_replication_slots=0")
	url := server.NewDatabase(t)
	execOn(t, session(t, url), "CREATE TABLE a (id int PRIMARY KEY)")
	cfg := cdc.Config{DatabaseURL: url, Definition: define(table("a", "id:int|"))}
	faults := check(t, cfg)
	if len(faults) != 2 {
		t.Fatalf("faults %v, want two", faults)
	}
	for i, want := range []string{"wal_level", "max_replication_slots"} {
		if faults[i].Object != want {
			t.Errorf("fault %v, want one of %s", faults[i], want)
		}
		sql, _, _ := strings.Cut(faults[i].Mend, ";")
		execOn(t, session(t, url), sql)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if faults := check(t, cfg); len(faults) != 0 {
		t.Errorf("after the mends: %v", faults)
	}
}

func TestDefinitionThatGotNarrowerChangesThePublication(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, n int, m int)`, define(table("a", "id:int|n:int,m:int")))
	r.start()
	r.streaming()
	r.end()
	r.cfg.Definition = define(table("a", "id:int|n:int"))
	if f := oneFault(t, r.cfg); f.Fatal || !strings.Contains(f.Mend, `("id", "n")`) {
		t.Errorf("fault %+v", f)
	}
	r.start()
	r.streaming()
	r.exec("INSERT INTO a VALUES (1, 2, 3)")
	r.same()
}

// What the publication has left out since the feed began is not in the stream,
// neither its state from before nor its changes: to add it now would hide that.
func TestPublicationThatLeavesOutWhatTheDefinitionNamesStops(t *testing.T) {
	one, both := table("a", "id:int|n:int"), table("b", "id:int|n:int")
	for name, c := range map[string]struct {
		sql   string
		gains definition.Table
		lacks string
	}{
		"the definition gains a column": {"", table("a", "id:int|n:int,m:int"), "public.a.m"},
		"a table was taken out":         {"ALTER PUBLICATION dreamfeed DROP TABLE a", one, "public.a"},
		"a column was taken out":        {"ALTER PUBLICATION dreamfeed SET TABLE ONLY a (id), b (id, n)", one, "public.a.n"},
		"deletes were taken out":        {"ALTER PUBLICATION dreamfeed SET (publish = 'insert, update, truncate')", one, "delete"},
		"rows were filtered":            {"ALTER PUBLICATION dreamfeed SET TABLE ONLY a (id, n) WHERE (id > 5), b (id, n)", one, "filters rows"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, shared.NewDatabase(t),
				`CREATE TABLE a (id int PRIMARY KEY, n int, m int); CREATE TABLE b (id int PRIMARY KEY, n int)`, define(one, both))
			r.start()
			r.streaming()
			r.catchUp()
			r.end()
			if c.sql != "" {
				r.exec(c.sql)
			}
			r.exec("INSERT INTO a VALUES (1, 2)")
			r.cfg.Definition = define(c.gains, both)
			err := r.fails()
			var narrow *cdc.PublicationNarrowError
			if !errors.As(err, &narrow) || !strings.Contains(narrow.Lacks, c.lacks) {
				t.Errorf("run: %T %v", err, err)
			}
			// To widen it by hand would hide what is missing.
			if f := oneFault(t, r.cfg); strings.Contains(f.Mend, "ALTER") {
				t.Errorf("the check advises %s", f.Mend)
			}
		})
	}
}

func TestPublicationNarrowedWhileStreamingStops(t *testing.T) {
	for name, sql := range map[string]string{
		"a table was taken out": "ALTER PUBLICATION dreamfeed DROP TABLE a",
		"a column was renamed":  "ALTER TABLE a RENAME n TO k; INSERT INTO a VALUES (1, 2)",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, shared.NewDatabase(t),
				`CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int)`,
				define(table("a", "id:int|n:int"), table("b", "id:int|n:int")))
			r.cfg.CheckEvery = pollInterval
			r.start()
			r.streaming()
			r.exec(sql)
			var narrow *cdc.PublicationNarrowError
			if err := r.failure(); !errors.As(err, &narrow) {
				t.Errorf("run: %T %v", err, err)
			}
		})
	}
}

func TestIdentityBrokenWhileStreamingAlarms(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), `CREATE TABLE a (id int PRIMARY KEY, secret int)`, define(table("a", "id:int|")))
	r.cfg.CheckEvery = pollInterval
	r.start()
	r.streaming()
	r.exec("ALTER TABLE a REPLICA IDENTITY FULL")
	s := r.until("the alarm is there", func(s cdc.Status) bool { return len(s.Faults) > 0 })
	r.exec(s.Faults[0].Mend)
	r.until("the alarm is over", func(s cdc.Status) bool { return len(s.Faults) == 0 })
}
