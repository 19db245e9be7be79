package cdc

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/internal/alloctest"
	"dreamfeed/internal/change"
)

// Whatever a message claims, what is allocated for it is bounded by its size
// (times the size of a decoded value), not by the claim.
func TestDecodersAllocateForWhatIsThereNotForWhatIsClaimed(t *testing.T) {
	const perByte, fixed = 64, 16 << 10
	be := binary.BigEndian
	wide := &change.Relation{ID: 1, Schema: "s", Name: "n", Columns: make([]change.Column, math.MaxUint16)}
	narrow := &change.Relation{ID: 1, Schema: "s", Name: "n", Columns: []change.Column{{Name: "a"}}}
	relation := func(columns uint16) []byte {
		return be.AppendUint16([]byte("R\x00\x00\x00\x01s\x00n\x00d"), columns)
	}
	insert := func(columns uint16, rest string) []byte {
		return append(be.AppendUint16([]byte("I\x00\x00\x00\x01N"), columns), rest...)
	}
	frame := func(carrier bool, kind byte, payload []byte, claimed uint64) []byte {
		data := make([]byte, headerBytes)
		h := change.Header{Epoch: 1, First: 9, Last: 9, Previous: 8}
		putHeader(data, &h, carrier)
		data = binary.AppendUvarint(append(data, kind), claimed)
		data = append(data, payload...)
		return seal(append(data, make([]byte, trailerBytes)...))
	}
	fragment := make([]byte, fragmentBytes+10)
	binary.LittleEndian.PutUint64(fragment, DefaultMaxRowBytes)
	scope := binary.AppendUvarint(make([]byte, 8), math.MaxUint32)
	spilled := func(size uint32) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, size), make([]byte, 20)...)
	}
	decode := func(data []byte) {
		var d Decoder
		var batch change.Batch
		_, _ = d.Decode(1, data, &batch)
	}
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte)
	}{
		"a relation of 65535 columns":         {relation(math.MaxUint16), func(b []byte) { _, _ = decodeRelation(b) }},
		"a row of 65535 columns":              {insert(math.MaxUint16, "nnn"), func(b []byte) { var r change.Row; _, _ = decodeRow(b, wide, &r, nil) }},
		"a value of 4 GiB":                    {insert(1, "t\xff\xff\xff\xffx"), func(b []byte) { var r change.Row; _, _ = decodeRow(b, narrow, &r, nil) }},
		"a truncate of 2^32 tables":           {[]byte("T\xff\xff\xff\xff\x00\x00\x00\x00\x01"), func(b []byte) { _, _ = decodeTruncate(b, nil) }},
		"a truncate whose size overflows":     {[]byte("T\x40\x00\x00\x00\x00"), func(b []byte) { _, _ = decodeTruncate(b, nil) }},
		"a logical message of 4 GiB":          {[]byte("M\x0012345678p\x00\xff\xff\xff\xffx"), func(b []byte) { _, _ = decodeLogical(b) }},
		"a record of 2^63 bytes":              {frame(false, recordRow, nil, math.MaxInt64), decode},
		"a relation record of 65535 columns":  {frame(false, recordRelation, relation(math.MaxUint16), uint64(len(relation(0)))), decode},
		"a fragment of a row of 64 MiB":       {frame(true, recordFragment, fragment, uint64(len(fragment))), decode},
		"a scope of 2^32 tables":              {scope, func(b []byte) { _, _ = decodeScope(b) }},
		"a scope with a name of 2^32 bytes":   {append(binary.AppendUvarint(append(make([]byte, 8), 1), math.MaxUint32), "xx"...), func(b []byte) { _, _ = decodeScope(b) }},
		"a line of COPY text of many columns": {[]byte(strings.Repeat("\t", 1000)), func(b []byte) { var d copyDecoder; _, _ = d.decode(b, math.MaxInt) }},
		"a line with escapes":                 {[]byte(strings.Repeat("\\", 1001)), func(b []byte) { var d copyDecoder; _, _ = d.decode(b, 1) }},
		"a spilled row of 4 GiB":              {spilled(math.MaxUint32), func(b []byte) { readSpill(t, b, math.MaxInt) }},
	} {
		t.Run(name, func(t *testing.T) {
			limit := uint64(perByte*len(c.data) + fixed)
			if strings.HasPrefix(name, "a spilled") {
				limit += 2*spillBuffer + 64<<10 // its file
			}
			if got := alloctest.Bytes(func() { c.decode(c.data) }); got > limit {
				t.Errorf("%d bytes are allocated for a message of %d", got, len(c.data))
			}
		})
	}
}

// readSpill reads a spill file with the given content.
func readSpill(t testing.TB, content []byte, limit int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spill")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := &spill{file: file, rows: math.MaxUint32, bytes: uint64(len(content))}
	if err := s.each(limit, func([]byte) error { return nil }); err == nil {
		t.Error("a damaged file is read to its end")
	}
}

// A row in fragments is put together whatever their sizes, in memory that does
// not exceed the row by much.
func TestFragmentsOfAnySizeMakeTheRow(t *testing.T) {
	ctx := t.Context()
	for _, size := range []int{3 << 20, 5<<20 + 7} {
		rel := &change.Relation{ID: 1, Schema: "s", Name: "n", Replica: 'd', Columns: []change.Column{{Name: "a"}}}
		var messages []frameMessage
		cfg := frameConfig(&messages)
		cfg.MaxRowBytes = 8 << 20
		w := mustWriter(t, cfg)
		body := []byte(strings.Repeat("0123456", size/7))
		row := appendInsert(nil, 1, []change.Value{{Kind: change.Text, Text: body}})
		for _, err := range []error{
			w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, 10, 1, 16, 1), w.row(ctx, row), w.commit(ctx, 24), w.flush(ctx),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var d Decoder
		var batch change.Batch
		for i, m := range messages {
			full, err := d.Decode(uint64(i), m.data, &batch)
			if err != nil {
				t.Fatal(err)
			}
			if c := cap(d.carried); c > len(row) {
				t.Fatalf("%d bytes are held for a row of %d", c, len(row))
			}
			if full && string(batch.Entries[0].Transaction.Rows[0].New[0].Text) != string(body) {
				t.Fatal("the row is another one")
			}
		}
	}
}
