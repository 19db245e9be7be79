package featurestore

import (
	"bytes"
	"math"
	"strconv"
	"testing"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

func TestIDsTakeFewBytesAndComeBack(t *testing.T) {
	for _, c := range []struct {
		text string
		size int
	}{
		{"3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f", 17},
		{"3F2B8C1E-9A4D-4F6B-8E21-0C5D7A9B1E3F", 39}, // not canonical: as text
		{"0", 1},
		{"1", 2},
		{"255", 2},
		{"256", 3},
		{"-1", 1},
		{"-2", 2},
		{"-257", 3},
		{strconv.Itoa(math.MaxInt64), 9},
		{strconv.Itoa(math.MinInt64), 9},
		{"9223372036854775808", 22},
		{"007", 6},
		{"-0", 5},
		{"", 3},
		{"a\x00b", 7},
		{"\x00\x01", 6},
		{"clh3k2j", 10},
	} {
		b := appendID(nil, []byte(c.text))
		if len(b) != c.size {
			t.Errorf("%q takes %d bytes, want %d", c.text, len(b), c.size)
		}
		if n := skipID(append(b, "rest"...)); n != len(b) {
			t.Errorf("%q: its end is found at %d of %d", c.text, n, len(b))
		}
		if got := string(appendIDText(nil, b)); got != c.text {
			t.Errorf("%q comes back as %q", c.text, got)
		}
		for i := range len(b) {
			if n := skipID(b[:i]); n >= 0 && n <= i && c.size != 1 {
				t.Errorf("%q: cut after %d bytes it is taken for an id of %d", c.text, i, n)
			}
		}
	}
}

func FuzzID(f *testing.F) {
	f.Add([]byte("a\x00b"), []byte("-17"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, y := appendID(nil, a), appendID(nil, b)
		if got := appendIDText(nil, x); !bytes.Equal(got, a) {
			t.Fatalf("%q comes back as %q", a, got)
		}
		if n := skipID(append(bytes.Clone(x), y...)); n != len(x) {
			t.Fatalf("%q before %q: end at %d of %d", a, b, n, len(x))
		}
		if !bytes.Equal(a, b) && bytes.HasPrefix(x, y) {
			t.Fatalf("the encoding of %q begins with that of %q", a, b)
		}
	})
}

func FuzzParseRowKey(f *testing.F) {
	key := appendRowPrefix(nil, appendID([]byte{1}, []byte("u1")), 2, appendID(nil, []byte("k")))
	f.Add(appendSuffix(key, 17, 3), byte(1))
	f.Fuzz(func(t *testing.T, key []byte, parts byte) {
		if skipped := skipID(key); skipped > len(key) {
			t.Fatalf("an id of %d bytes in %d", skipped, len(key))
		}
		k, ok := parseRowKey(key, func(uint16) int { return int(parts % 4) })
		if !ok || key[0] != prefixRow {
			return
		}
		again := appendSuffix(appendRowPrefix(nil, k.place, k.table, k.key), k.version, k.ordinal)
		if !bytes.HasPrefix(key, again) || len(key)-len(again) != 0 && len(key)-len(again) != pieceSize {
			t.Fatalf("%x is put together again as %x", key, again)
		}
	})
}

func TestNewerVersionsSortFirst(t *testing.T) {
	type at struct {
		v change.Version
		o uint32
	}
	var before []byte
	for _, x := range []at{{math.MaxUint64, 0}, {9, 1}, {9, 0}, {8, math.MaxUint32}, {8, 7}, {0, 0}} {
		k := appendSuffix([]byte("p"), x.v, x.o)
		if before != nil && bytes.Compare(before, k) >= 0 {
			t.Errorf("%v does not sort after the newer one before it", x)
		}
		if v, o := suffix(k); v != x.v || o != x.o {
			t.Errorf("%v comes back as %d, %d", x, v, o)
		}
		before = k
	}
}

func FuzzDecodeEntity(f *testing.F) {
	f.Add(appendEntity(nil, &history.Entity{ID: "u1", Rows: []history.Row{{Table: 1, Key: []byte("k"), Versions: []history.Version{
		{Version: 9, Ordinal: 1, Known: 9, Deleted: true}, {Version: 7, Known: 3, Backfilled: true, Data: []byte("data")},
	}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e history.Entity
		versions, err := decodeEntity(data, &e, nil)
		if len(versions) > len(data) || len(e.Rows) > len(data) {
			t.Fatalf("%d versions, %d rows from %d bytes", len(versions), len(e.Rows), len(data))
		}
		if err != nil {
			return
		}
		var again history.Entity
		if _, err := decodeEntity(appendEntity(nil, &e), &again, nil); err != nil || again.ID != e.ID || len(again.Rows) != len(e.Rows) {
			t.Fatalf("comes back as %+v, %v", again, err)
		}
	})
}

func FuzzFrameReader(f *testing.F) {
	var b bytes.Buffer
	w := newFrameWriter(&b, func() error { return nil })
	if _, err := w.entity(&history.Entity{ID: "u1"}, nil); err != nil {
		f.Fatal(err)
	}
	if err := w.end(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newFrameReader(bytes.NewReader(data))
		for {
			record, err := r.nextRecord()
			if err != nil || record == nil {
				return
			}
			if len(record) > len(data) {
				t.Fatalf("a record of %d bytes from %d", len(record), len(data))
			}
			r.entities++
		}
	})
}
