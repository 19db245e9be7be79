package featurestore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"

	"dreamfeed/internal/alloctest"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// wireFrame is a frame of a streamed view.
func wireFrame(body []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

// Whatever a streamed view claims, what is allocated for it is bounded by its
// size (times the size of a decoded version), not by the claim.
func TestStreamedViewAllocatesForWhatIsThereNotForWhatIsClaimed(t *testing.T) {
	const perByte, fixed = 128, 4 << 10
	huge := binary.AppendUvarint(nil, math.MaxUint64)
	large := binary.AppendUvarint(nil, 1<<40)
	entity := func(parts ...[]byte) []byte { return append([]byte{1, 'u'}, bytes.Join(parts, nil)...) }
	decode := func(b []byte) { var e history.Entity; _, _ = decodeEntity(b, &e, nil) }
	read := func(b []byte) {
		r := newFrameReader(bytes.NewReader(b))
		for {
			if record, err := r.nextRecord(); err != nil || record == nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte)
		fixed  int
	}{
		"an id of 2^64 bytes":       {huge, decode, 0},
		"2^40 rows":                 {entity(large, []byte{1, 1, 'k', 1}), decode, 0},
		"a key of 2^40 bytes":       {entity([]byte{1, 1}, large, []byte("kkk")), decode, 0},
		"2^40 versions":             {entity([]byte{1, 1, 1, 'k'}, large, []byte{9, 0, 0, 0}), decode, 0},
		"data of 2^40 bytes":        {entity([]byte{1, 1, 1, 'k', 1, 9, 0, 0}, large, []byte("x")), decode, 0},
		"a frame of 4 GiB":          {[]byte("\xff\xff\xff\xff\x00\x00\x00\x00D"), read, 128 << 10},
		"a record of 2^40 bytes":    {wireFrame(append([]byte{frameData}, append(large, "abc"...)...)), read, frameBytes + 128<<10},
		"an endless record's size":  {wireFrame(append([]byte{frameData}, bytes.Repeat([]byte{0xff}, 12)...)), read, frameBytes + 128<<10},
		"a final count of 2^64":     {wireFrame(append([]byte{frameEnd}, append(huge, huge...)...)), read, frameBytes + 128<<10},
		"an error that is not JSON": {wireFrame([]byte("X[[[[[[[[[")), read, frameBytes + 128<<10},
	} {
		t.Run(name, func(t *testing.T) {
			limit := uint64(perByte*len(c.data) + fixed + c.fixed)
			if got := alloctest.Bytes(func() { c.decode(c.data) }); got > limit {
				t.Errorf("%d bytes are allocated for %d", got, len(c.data))
			}
		})
	}
}

// FuzzStoreRecord decodes what stands in the store beside rows: the catalog,
// the watermark, marks and index entries, and the errors of a streamed view.
func FuzzStoreRecord(f *testing.F) {
	c := &catalog{Definition: "x", Entities: []string{"user"}}
	c.Tables = append(c.Tables, catalogTable{Table: history.Table{ID: 1, Name: "a", Columns: []string{"id"}, Key: []string{"id"}}})
	text, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	s := state{Watermark: Watermark{Incarnation: 1, Sequence: 2}, Live: map[uint16]int64{1: 2}}
	if text, err = s.encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(appendIndexKey(nil, indexed{1, 2, 3}))
	f.Add([]byte(`{"code":"not_closed","as_of":1,"limit":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decodeCatalog(data); err == nil {
			for i := range 4 {
				c.keyParts(uint16(i))
			}
			c.tables()
			c.table("a")
			c.kind("user")
			if again, err := c.encode(); err != nil {
				t.Fatal(err)
			} else if _, err := decodeCatalog(again); err != nil {
				t.Fatalf("%s does not come back: %v", again, err)
			}
		}
		if s, err := decodeState(data); err == nil {
			s.empty(3)
			s.settle(true)
			s.clone()
		}
		if decodeWireError(data) == nil {
			t.Fatal("an error is none")
		}
		if e, ok := parseIndexKey(data); ok && len(data) > 0 && data[0] == prefixIndex && !bytes.Equal(appendIndexKey(nil, e), data) {
			t.Fatalf("%x is put together again as %x", data, appendIndexKey(nil, e))
		}
		if _, ok := parseVoidKey(data); ok && len(data) > 64 {
			t.Fatal("a long key of a void version")
		}
		if _, _, _, ok := parseTruncateKey(data); ok && len(data) > 64 {
			t.Fatal("a long key of a mark")
		}
		if len(data) > 0 {
			if known, rest, ok := splitKnown(data[1:], data[0], change.Version(9)); ok && len(rest) > len(data) {
				t.Fatalf("%d, %d bytes from %d", known, len(rest), len(data))
			}
		}
	})
}
