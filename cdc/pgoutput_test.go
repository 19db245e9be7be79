package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"dreamfeed/internal/change"
)

// newStreamRand returns a random source and logs how to repeat it.
func newStreamRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d: repeat with rand.NewPCG(%d, 1)", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// randomText returns up to n bytes, now and then with bytes that mean
// something to COPY.
func randomText(r *rand.Rand, n int) []byte {
	const special = "\\\t\n\r\b\v\fN.x07é"
	b := make([]byte, r.IntN(n+1))
	for i := range b {
		if b[i] = byte('a' + r.IntN(26)); r.IntN(4) == 0 {
			b[i] = special[r.IntN(len(special))]
		}
	}
	return b
}

func randomRelation(r *rand.Rand, id uint32) *change.Relation {
	rel := &change.Relation{ID: id, Schema: "public", Name: fmt.Sprintf("Table%d", id), Replica: 'd'}
	for i := range r.IntN(6) {
		rel.Columns = append(rel.Columns, change.Column{Name: fmt.Sprintf("column%d", i), Type: r.Uint32(), Modifier: int32(r.Uint32()), Key: i == 0})
	}
	return rel
}

// randomTuple appends a tuple as pgoutput writes it, and the values in it.
func randomTuple(r *rand.Rand, dst []byte, columns int, unchanged bool) ([]byte, []change.Value) {
	dst = binary.BigEndian.AppendUint16(dst, uint16(columns))
	var values []change.Value
	for range columns {
		switch r.IntN(4) {
		case 0:
			dst = append(dst, 'n')
			values = append(values, change.Value{Kind: change.Null})
		case 1:
			if unchanged {
				dst = append(dst, 'u')
				values = append(values, change.Value{Kind: change.Unchanged})
				continue
			}
			fallthrough
		default:
			text := randomText(r, 20)
			dst = append(dst, 't')
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(text)))
			dst = append(dst, text...)
			values = append(values, change.Value{Kind: change.Text, Text: text})
		}
	}
	return dst, values
}

// randomRow makes a row message and the row that it means.
func randomRow(r *rand.Rand, rel *change.Relation) ([]byte, change.Row) {
	n := len(rel.Columns)
	row := change.Row{Relation: rel}
	id := binary.BigEndian.AppendUint32(nil, rel.ID)
	switch r.IntN(7) {
	case 0:
		row.Op = change.Truncate
		return appendTruncate(nil, rel.ID, byte(r.IntN(4))), row
	case 1:
		row.Op = change.Delete
		data := append([]byte{'D'}, id...)
		row.OldFull = r.IntN(2) == 0
		data = append(data, map[bool]byte{true: 'O', false: 'K'}[row.OldFull])
		data, row.Old = randomTuple(r, data, n, false)
		return data, row
	case 2, 3:
		row.Op = change.Update
		data := append([]byte{'U'}, id...)
		if mark := []byte{0, 'K', 'O'}[r.IntN(3)]; mark != 0 {
			row.OldFull = mark == 'O'
			data = append(data, mark)
			data, row.Old = randomTuple(r, data, n, false)
		}
		data = append(data, 'N')
		data, row.New = randomTuple(r, data, n, true)
		return data, row
	}
	row.Op = change.Insert
	data := append(append([]byte{'I'}, id...), 'N')
	data, row.New = randomTuple(r, data, n, false)
	return data, row
}

// oracleValues turns a tuple of pglogrepl into values.
func oracleValues(tuple *pglogrepl.TupleData) []change.Value {
	if tuple == nil {
		return nil
	}
	values := []change.Value{}
	for _, c := range tuple.Columns {
		v := change.Value{Kind: change.ValueKind(c.DataType)}
		if v.Kind == change.Text {
			v.Text = c.Data
		}
		values = append(values, v)
	}
	return values
}

// emptyIsNil makes cmp take a nil slice for an empty one.
var emptyIsNil = cmp.Transformer("emptyIsNil", func(v []change.Value) []change.Value {
	if len(v) == 0 {
		return nil
	}
	return v
})

func sameText(a, b []byte) bool { return bytes.Equal(a, b) }

func TestRowMessagesDecodeAsPglogreplDecodesThem(t *testing.T) {
	r := newStreamRand(t)
	var arena []change.Value
	for range 5_000 {
		rel := randomRelation(r, 1+r.Uint32N(5))
		data, want := randomRow(r, rel)
		got := change.Row{Old: []change.Value{{}}, New: []change.Value{{}}, OldFull: true}
		var err error
		arena, err = decodeRow(data, rel, &got, arena[:0])
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatalf("%q: what was encoded (-) and decoded (+) differ:\n%s", data, diff)
		}
		if err := checkRow(data, rel); err != nil {
			t.Fatalf("check %q: %v", data, err)
		}
		// pglogrepl refuses a row without columns; see the test of that name.
		if len(rel.Columns) == 0 {
			continue
		}
		m, err := pglogrepl.Parse(data)
		if err != nil {
			t.Fatalf("%q: pglogrepl: %v", data, err)
		}
		var oracle change.Row
		switch m := m.(type) {
		case *pglogrepl.InsertMessage:
			oracle = change.Row{Op: change.Insert, New: oracleValues(m.Tuple)}
		case *pglogrepl.UpdateMessage:
			oracle = change.Row{Op: change.Update, Old: oracleValues(m.OldTuple), OldFull: m.OldTupleType == 'O', New: oracleValues(m.NewTuple)}
		case *pglogrepl.DeleteMessage:
			oracle = change.Row{Op: change.Delete, Old: oracleValues(m.OldTuple), OldFull: m.OldTupleType == 'O'}
		case *pglogrepl.TruncateMessage:
			oracle = change.Row{Op: change.Truncate}
			if !cmp.Equal(m.RelationIDs, []uint32{rel.ID}) {
				t.Fatalf("pglogrepl decodes tables %v", m.RelationIDs)
			}
		}
		oracle.Relation = rel
		if diff := cmp.Diff(oracle, got, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatalf("%q: pglogrepl (-) and decodeRow (+) differ:\n%s", data, diff)
		}
	}
}

func TestOtherMessagesDecodeAsPglogreplDecodesThem(t *testing.T) {
	r := newStreamRand(t)
	be := binary.BigEndian
	for range 2_000 {
		// Between the years 1970 and 2100, where both clocks agree on a moment.
		micros := int64(r.Uint64N(100 * 365 * 86400 * 1_000_000))
		lsn, end, xid := r.Uint64(), r.Uint64(), r.Uint32()

		data := be.AppendUint32(be.AppendUint64(be.AppendUint64([]byte{'B'}, lsn), uint64(micros)), xid)
		begin, err := decodeBegin(data)
		if err != nil {
			t.Fatal(err)
		}
		b := oracle[*pglogrepl.BeginMessage](t, data)
		if want := (beginMessage{change.LSN(b.FinalLSN), b.CommitTime.UnixMicro(), b.Xid}); begin != want {
			t.Fatalf("begin: got %+v, want %+v", begin, want)
		}

		data = be.AppendUint64(be.AppendUint64(be.AppendUint64([]byte{'C', 0}, lsn), end), uint64(micros))
		commit, err := decodeCommit(data)
		if err != nil {
			t.Fatal(err)
		}
		c := oracle[*pglogrepl.CommitMessage](t, data)
		if want := (commitMessage{change.LSN(c.CommitLSN), change.LSN(c.TransactionEndLSN), c.CommitTime.UnixMicro()}); commit != want {
			t.Fatalf("commit: got %+v, want %+v", commit, want)
		}

		prefix, content := strings.ReplaceAll(string(randomText(r, 9)), "\x00", ""), randomText(r, 30)
		data = append(be.AppendUint64([]byte{'M', byte(r.IntN(2))}, lsn), prefix+"\x00"...)
		data = append(be.AppendUint32(data, uint32(len(content))), content...)
		logical, err := decodeLogical(data)
		if err != nil {
			t.Fatal(err)
		}
		l := oracle[*pglogrepl.LogicalDecodingMessage](t, data)
		want := logicalMessage{l.Transactional, change.LSN(l.LSN), []byte(l.Prefix), l.Content}
		if diff := cmp.Diff(want, logical, cmp.Comparer(sameText)); diff != "" {
			t.Fatal(diff)
		}

		rel := randomRelation(r, xid)
		data = appendRelation(nil, rel)
		got, err := decodeRelation(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rel, got); diff != "" {
			t.Fatalf("relation: encoded (-) and decoded (+) differ:\n%s", diff)
		}
		m := oracle[*pglogrepl.RelationMessage](t, data)
		if m.RelationID != rel.ID || m.Namespace != rel.Schema || m.RelationName != rel.Name || m.ReplicaIdentity != rel.Replica || len(m.Columns) != len(rel.Columns) {
			t.Fatalf("relation: pglogrepl reads %+v out of %+v", m, rel)
		}
		for i, c := range m.Columns {
			if (change.Column{Name: c.Name, Type: c.DataType, Modifier: c.TypeModifier, Key: c.Flags == 1}) != rel.Columns[i] {
				t.Fatalf("relation: pglogrepl reads column %+v out of %+v", c, rel.Columns[i])
			}
		}

		ids := []uint32{xid, 7, 8}[:1+r.IntN(3)]
		data = append(be.AppendUint32([]byte{'T'}, uint32(len(ids))), byte(r.IntN(4)))
		for _, id := range ids {
			data = be.AppendUint32(data, id)
		}
		truncate, err := decodeTruncate(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		tr := oracle[*pglogrepl.TruncateMessage](t, data)
		if diff := cmp.Diff(truncateMessage{tr.Option, tr.RelationIDs}, truncate); diff != "" {
			t.Fatal(diff)
		}
	}
	origin, err := decodeOrigin([]byte("O\x00\x00\x00\x01\x00\x00\x00\x02other\x00"))
	if err != nil || origin.CommitLSN != 1<<32|2 || string(origin.Name) != "other" {
		t.Errorf("origin: %+v, %v", origin, err)
	}
	typ, err := decodeType([]byte("Y\x00\x00\x00\x09public\x00mood\x00"))
	if err != nil || typ != (typeMessage{9, "public", "mood"}) {
		t.Errorf("type: %+v, %v", typ, err)
	}
}

// oracle decodes with pglogrepl.
func oracle[M pglogrepl.Message](t *testing.T, data []byte) M {
	t.Helper()
	m, err := pglogrepl.Parse(data)
	if err != nil {
		t.Fatalf("pglogrepl: %q: %v", data, err)
	}
	return m.(M)
}

func TestRowOfTableWithoutPublishedColumnsDecodes(t *testing.T) {
	rel := &change.Relation{ID: 3, Schema: "public", Name: "bare"}
	data := appendInsert(nil, 3, nil)
	if len(data) != 8 {
		t.Fatalf("the message has %d bytes", len(data))
	}
	var row change.Row
	if _, err := decodeRow(data, rel, &row, nil); err != nil {
		t.Fatal(err)
	}
	if row.Op != change.Insert || row.New == nil || len(row.New) != 0 {
		t.Errorf("got %+v, want an insert of no columns", row)
	}
}

func TestMessageCutShortIsRefused(t *testing.T) {
	r := newStreamRand(t)
	var all [][]byte
	rel := &change.Relation{ID: 1, Schema: "s", Name: "n", Replica: 'd', Columns: []change.Column{{Name: "a"}, {Name: "b"}}}
	for range 50 {
		data, _ := randomRow(r, rel)
		all = append(all, data)
	}
	all = append(all, appendRelation(nil, rel), append([]byte{'B'}, make([]byte, 20)...), append([]byte{'C'}, make([]byte, 25)...),
		[]byte("O12345678name\x00"), []byte("Y1234s\x00t\x00"), append([]byte("M\x0012345678p\x00"), 0, 0, 0, 1, 'x'))
	for _, whole := range all {
		if err := decodeAny(whole, rel); err != nil {
			t.Errorf("%q: %v", whole, err)
		}
		for n := range whole {
			var want *MessageError
			if err := decodeAny(whole[:n], rel); !errors.As(err, &want) {
				t.Errorf("%q cut from %q: got %v, want a *MessageError", whole[:n], whole, err)
			}
		}
		if err := decodeAny(append(append([]byte(nil), whole...), 0), rel); err == nil {
			t.Errorf("%q with a byte too many is accepted", whole)
		}
	}
}

// decodeAny decodes a message of any type.
func decodeAny(data []byte, rel *change.Relation) error {
	if len(data) == 0 {
		return &MessageError{Reason: "the message is empty"}
	}
	var err error
	switch data[0] {
	case msgBegin:
		_, err = decodeBegin(data)
	case msgCommit:
		_, err = decodeCommit(data)
	case msgOrigin:
		_, err = decodeOrigin(data)
	case msgType:
		_, err = decodeType(data)
	case msgLogical:
		_, err = decodeLogical(data)
	case msgRelation:
		_, err = decodeRelation(data)
	case msgTruncate:
		if _, err = decodeTruncate(data, nil); err != nil {
			return err
		}
		fallthrough
	default:
		var row change.Row
		_, err = decodeRow(data, rel, &row, nil)
	}
	return err
}

func TestRowMessageThatContradictsItsTableIsRefused(t *testing.T) {
	rel := &change.Relation{ID: 1, Schema: "s", Name: "n", Columns: []change.Column{{Name: "a"}}}
	for name, data := range map[string]string{
		"another table":         "I\x00\x00\x00\x02N\x00\x01n",
		"another column count":  "I\x00\x00\x00\x01N\x00\x02nn",
		"a binary value":        "I\x00\x00\x00\x01N\x00\x01b\x00\x00\x00\x01x",
		"an unknown kind":       "I\x00\x00\x00\x01N\x00\x01z",
		"a huge length":         "I\x00\x00\x00\x01N\x00\x01t\xff\xff\xff\xffx",
		"a key on an insert":    "I\x00\x00\x00\x01K\x00\x01n",
		"a delete without key":  "D\x00\x00\x00\x01N\x00\x01n",
		"two new rows":          "U\x00\x00\x00\x01N\x00\x01nN\x00\x01n",
		"an update of old only": "U\x00\x00\x00\x01O\x00\x01n",
		"a begin":               "B\x00\x00\x00\x01N\x00\x01n",
	} {
		var want *MessageError
		if err := checkRow([]byte(data), rel); !errors.As(err, &want) {
			t.Errorf("%s: got %v, want a *MessageError", name, err)
		}
	}
}

func TestDecodingRowsDoesNotAllocate(t *testing.T) {
	rel := &change.Relation{ID: 1, Columns: make([]change.Column, 10)}
	values := make([]change.Value, 10)
	for i := range values {
		values[i] = change.Value{Kind: change.Text, Text: []byte("some value of a column")}
	}
	data := appendInsert(nil, 1, values)
	arena := make([]change.Value, 0, 32)
	var row change.Row
	if n := testing.AllocsPerRun(100, func() {
		if _, err := decodeRow(data, rel, &row, arena[:0]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("decodeRow allocates %v times", n)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	rel := &change.Relation{ID: 1, Schema: "public", Name: "t", Replica: 'd', Columns: []change.Column{{Name: "a", Key: true}, {Name: "b"}}}
	f.Add(appendRelation(nil, rel))
	f.Add(appendInsert(nil, 1, []change.Value{{Kind: change.Text, Text: []byte("x")}, {Kind: change.Null}}))
	f.Add(appendTruncate(nil, 1, 0))
	f.Add([]byte("U\x00\x00\x00\x01K\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012u"))
	f.Add([]byte("D\x00\x00\x00\x01O\x00\x02nn"))
	f.Add([]byte("I\x00\x00\x00\x01N\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := decodeAny(data, rel); err != nil {
			var want *MessageError
			if !errors.As(err, &want) || want.Offset > len(data) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if data[0] == msgInsert {
			var row change.Row
			if _, err := decodeRow(data, rel, &row, nil); err != nil {
				t.Fatal(err)
			}
			if again := appendInsert(nil, 1, row.New); !bytes.Equal(again, data) {
				t.Fatalf("encoded again: %q, want %q", again, data)
			}
		}
	})
}
