package cdc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"dreamfeed/internal/change"
	"dreamfeed/internal/pgtest"
)

// What a real server sends for random work on random tables is decoded here as
// pglogrepl decodes it, message by message, and every type of message comes.
func TestWhatAServerSendsDecodesAsPglogreplDecodesIt(t *testing.T) {
	r := newStreamRand(t)
	url := pgtest.New(t).NewDatabase(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	work := newRandomWork(r)
	exec(work.schema())
	exec("CREATE PUBLICATION everything FOR ALL TABLES; SELECT pg_replication_origin_create('elsewhere')")
	repl, err := connectReplication(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(repl)
	if _, err := pglogrepl.CreateReplicationSlot(ctx, repl, "compared", outputPlugin, pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, Temporary: true}); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		exec(work.transaction())
	}
	exec("SELECT pg_replication_origin_session_setup('elsewhere')")
	exec("BEGIN; SELECT pg_replication_origin_xact_setup('0/123', '2020-01-01'); INSERT INTO t0 DEFAULT VALUES; COMMIT; SELECT pg_replication_origin_session_reset()")
	exec("SELECT pg_logical_emit_message(false, 'end', 'of it')")

	if err := startReplication(ctx, repl, "compared", "everything", 0); err != nil {
		t.Fatal(err)
	}
	relations, seen := map[uint32]*change.Relation{}, map[byte]int{}
	for {
		msg, err := repl.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		raw := data.Data[25:]
		seen[raw[0]]++
		compareWithPglogrepl(t, raw, relations)
		if raw[0] == msgLogical && strings.Contains(string(raw), "end\x00") {
			break
		}
	}
	t.Logf("messages by type: %v", seen)
	for _, kind := range "BCORYIUDTM" {
		if seen[byte(kind)] == 0 {
			t.Errorf("no message of type %q came", kind)
		}
	}
}

// compareWithPglogrepl decodes a message with both and compares.
func compareWithPglogrepl(t *testing.T, raw []byte, relations map[uint32]*change.Relation) {
	t.Helper()
	same := func(want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatalf("%q: pglogrepl (-) and we (+) differ:\n%s", raw, diff)
		}
	}
	row := func(op change.Op, id uint32, oldKind uint8, old, next *pglogrepl.TupleData) {
		t.Helper()
		var got change.Row
		_, err := decodeRow(raw, relations[id], &got, nil)
		same(change.Row{Relation: relations[id], Op: op, Old: oracleValues(old), OldFull: oldKind == 'O', New: oracleValues(next)}, got, err)
		if err := checkRow(raw, relations[id]); err != nil {
			t.Fatalf("check %q: %v", raw, err)
		}
	}
	if raw[0] == msgInsert && len(raw) == 8 {
		return // a row without columns, which pglogrepl refuses
	}
	switch m := oracle[pglogrepl.Message](t, raw).(type) {
	case *pglogrepl.BeginMessage:
		got, err := decodeBegin(raw)
		same(beginMessage{change.LSN(m.FinalLSN), m.CommitTime.UnixMicro(), m.Xid}, got, err)
	case *pglogrepl.CommitMessage:
		got, err := decodeCommit(raw)
		same(commitMessage{change.LSN(m.CommitLSN), change.LSN(m.TransactionEndLSN), m.CommitTime.UnixMicro()}, got, err)
	case *pglogrepl.OriginMessage:
		got, err := decodeOrigin(raw)
		same(originMessage{change.LSN(m.CommitLSN), []byte(m.Name)}, got, err)
	case *pglogrepl.TypeMessage:
		got, err := decodeType(raw)
		same(typeMessage{m.DataType, m.Namespace, m.Name}, got, err)
	case *pglogrepl.LogicalDecodingMessage:
		got, err := decodeLogical(raw)
		same(logicalMessage{m.Transactional, change.LSN(m.LSN), []byte(m.Prefix), m.Content}, got, err)
	case *pglogrepl.RelationMessage:
		want := &change.Relation{ID: m.RelationID, Schema: m.Namespace, Name: m.RelationName, Replica: m.ReplicaIdentity}
		for _, c := range m.Columns {
			want.Columns = append(want.Columns, change.Column{Name: c.Name, Type: c.DataType, Modifier: c.TypeModifier, Key: c.Flags == 1})
		}
		got, err := decodeRelation(raw)
		same(want, got, err)
		if again := appendRelation(nil, got); string(again) != string(raw) {
			t.Fatalf("encoded again: %q, want %q", again, raw)
		}
		relations[got.ID] = got
	case *pglogrepl.InsertMessage:
		row(change.Insert, m.RelationID, 0, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		row(change.Update, m.RelationID, m.OldTupleType, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		row(change.Delete, m.RelationID, m.OldTupleType, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		got, err := decodeTruncate(raw, nil)
		same(truncateMessage{m.Option, m.RelationIDs}, got, err)
	default:
		t.Fatalf("%q: pglogrepl decodes a %T", raw, m)
	}
}

// randomWork makes tables and transactions at random.
type randomWork struct {
	r      *rand.Rand
	tables [][]string // expressions that give a value of each column
	sql    string
}

func newRandomWork(r *rand.Rand) *randomWork {
	w := &randomWork{r: r, sql: "CREATE TYPE mood AS ENUM ('sad', 'so, so', 'gl\"ad'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int CHECK (VALUE < 10);"}
	types := []struct{ name, value string }{
		{"int", "(random() * 1e6)::int"},
		{"text", "repeat(chr(1 + (random() * 1000)::int), (random() * 20)::int)"},
		{"text", "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200))"}, // not in line
		{"mood", "'gl\"ad'"},
		{"pair", "ROW((random() * 9)::int, E'x\\ty')"},
		{"small", "(random() * 9)::int"},
		{"bytea", "decode(md5(random()::text), 'hex')"},
		{"numeric(12,3)", "random() * 1000"},
		{"timestamptz", "now() - random() * interval '9 years'"},
		{"jsonb", "jsonb_build_object('k', random())"},
		{"int[]", "ARRAY[1, NULL, (random() * 9)::int]"},
		{"boolean", "random() < 0.5"},
	}
	for i := range 6 {
		var columns, values []string
		for j := range r.IntN(7) {
			typ := types[r.IntN(len(types))]
			columns = append(columns, fmt.Sprintf(", %s %s", pgx.Identifier{fmt.Sprintf("Column %d", j)}.Sanitize(), typ.name))
			values = append(values, fmt.Sprintf("(%s)::%s", typ.value, typ.name))
		}
		w.tables = append(w.tables, values)
		w.sql += fmt.Sprintf("CREATE TABLE t%d (id serial PRIMARY KEY%s);", i, strings.Join(columns, ""))
		if i%3 == 2 {
			w.sql += fmt.Sprintf("ALTER TABLE t%d REPLICA IDENTITY FULL;", i)
		}
	}
	// One of each that chance may leave out.
	w.tables = append(w.tables, []string{"'sad'::mood", "repeat(md5(random()::text), 200)"})
	w.sql += `CREATE TABLE t6 (id serial PRIMARY KEY, "Column 0" mood, "Column 1" text); ALTER TABLE t6 ALTER "Column 1" SET STORAGE EXTERNAL; CREATE TABLE bare ();`
	return w
}

func (w *randomWork) schema() string { return w.sql }

// transaction makes a transaction of some statements.
func (w *randomWork) transaction() string {
	var b strings.Builder
	b.WriteString("BEGIN;")
	for range 1 + w.r.IntN(4) {
		i := w.r.IntN(len(w.tables))
		value := func(j int) string {
			if w.r.IntN(4) == 0 {
				return "NULL"
			}
			return w.tables[i][j]
		}
		switch n := w.r.IntN(20); {
		case n < 8:
			b.WriteString(fmt.Sprintf("INSERT INTO t%d SELECT nextval('t%d_id_seq')", i, i))
			for j := range w.tables[i] {
				b.WriteString(", " + value(j))
			}
			b.WriteString(fmt.Sprintf(" FROM generate_series(1, %d);", w.r.IntN(4)))
		case n < 13 && len(w.tables[i]) > 0:
			j := w.r.IntN(len(w.tables[i]))
			b.WriteString(fmt.Sprintf(`UPDATE t%d SET "Column %d" = %s WHERE id %% 3 = %d;`, i, j, value(j), w.r.IntN(3)))
		case n < 15:
			b.WriteString(fmt.Sprintf("UPDATE t%d SET id = nextval('t%d_id_seq') WHERE id %% 5 = %d;", i, i, w.r.IntN(5)))
		case n < 17:
			b.WriteString(fmt.Sprintf("DELETE FROM t%d WHERE id %% 4 = %d;", i, w.r.IntN(4)))
		case n < 18:
			b.WriteString(fmt.Sprintf("TRUNCATE t%d, t%d RESTART IDENTITY CASCADE;", i, w.r.IntN(len(w.tables))))
		case n < 19:
			b.WriteString("INSERT INTO bare DEFAULT VALUES;")
		default:
			b.WriteString(fmt.Sprintf("SELECT pg_logical_emit_message(%t, 'prefix', decode(md5(random()::text), 'hex'));", w.r.IntN(2) == 0))
		}
	}
	b.WriteString("COMMIT;")
	return b.String()
}
