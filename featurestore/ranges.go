package featurestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/history"
)

// pointsPerRange is how many places are known for each range that is asked for,
// before they are gathered into ranges: the more, the more alike these are. Each
// place that is looked for takes two seeks.
const pointsPerRange = 16

// splitPoint is the place of an entity, and the weight of what lies from there to
// the next one.
type splitPoint struct {
	place  []byte
	weight uint64
}

// Ranges cuts the key space of an entity kind into at most n parts of similar
// size, in order, without gap or overlap. No entity lies in two of them.
func (v *View) Ranges(ctx context.Context, entity string, n int) ([]history.Range, error) {
	kind, done, err := v.begin(entity)
	if err != nil {
		return nil, err
	}
	defer done()
	prefix := []byte{prefixRow, kind}
	whole := history.Range{From: prefix, To: after(prefix)}
	if n <= 1 {
		return []history.Range{whole}, nil
	}
	tables := v.s.db.Tables()
	places := tablePlaces(prefix, tables)
	if want := n * pointsPerRange; len(places) < want {
		if places, err = v.probe(ctx, prefix, places, want); err != nil {
			return nil, err
		}
	}
	points := weigh(prefix, places, tables)
	var total, before uint64
	for _, p := range points {
		total += p.weight
	}
	var out []history.Range
	from := whole.From
	for _, p := range points {
		// Here a range begins if the last one has its share.
		if before >= total*uint64(len(out)+1)/uint64(n) && bytes.Compare(p.place, from) > 0 {
			out = append(out, history.Range{From: from, To: p.place})
			from = p.place
		}
		before += p.weight
	}
	return append(out, history.Range{From: from, To: whole.To}), nil
}

// entityStart cuts a row key after its entity; nil if it is not one.
func entityStart(key []byte) []byte {
	if len(key) < 2 || key[0] != prefixRow {
		return nil
	}
	n := skipPlace(key[1:])
	if n < 0 {
		return nil
	}
	return key[:1+n]
}

// tablePlaces are the entities in which tables of the database begin, in order.
func tablePlaces(prefix []byte, tables []badger.TableInfo) [][]byte {
	var places [][]byte
	for _, t := range tables {
		if p := entityStart(t.Left); p != nil && bytes.HasPrefix(p, prefix) {
			places = append(places, bytes.Clone(p))
		}
	}
	slices.SortFunc(places, bytes.Compare)
	return slices.CompactFunc(places, bytes.Equal)
}

// probe adds entities to places until they are so many, or all there are. It halves
// the space between two entities again and again, and asks for the neighbours of
// its middle: the time it takes does not depend on how many entities there are.
func (v *View) probe(ctx context.Context, prefix []byte, places [][]byte, want int) ([][]byte, error) {
	txn := v.s.db.NewTransaction(false)
	defer txn.Discard()
	forth := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer forth.Close()
	back := txn.NewIterator(badger.IteratorOptions{Reverse: true})
	defer back.Close()
	// at is the first entity at or behind a key, before the last one before it; nil
	// if there is none.
	at := func(it *badger.Iterator, key []byte) ([]byte, error) {
		if it.Seek(key); !it.Valid() || !bytes.HasPrefix(it.Item().Key(), prefix) {
			return nil, nil
		}
		p := entityStart(it.Item().Key())
		if p == nil {
			return nil, &CorruptError{What: "a row key", Key: it.Item().KeyCopy(nil)}
		}
		return bytes.Clone(p), nil
	}
	first, err := at(forth, prefix)
	if err != nil || first == nil {
		return nil, err
	}
	last, err := at(back, after(prefix))
	if err != nil || last == nil {
		return nil, err
	}
	places = append(places, first, last)
	slices.SortFunc(places, bytes.Compare)
	places = slices.CompactFunc(places, bytes.Equal)
	// Gaps between two entities, of which it is not known what lies between them.
	type gap struct{ from, to []byte }
	var gaps []gap
	for i := 1; i < len(places); i++ {
		gaps = append(gaps, gap{places[i-1], places[i]})
	}
	for ; len(gaps) > 0 && len(places) < want; gaps = gaps[1:] {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		g := gaps[0]
		mid := middle(after(g.from), g.to)
		if mid == nil {
			continue
		}
		right, err := at(forth, mid)
		if err != nil {
			return nil, err
		}
		left, err := at(back, mid)
		if err != nil {
			return nil, err
		}
		if left != nil && bytes.Compare(left, g.from) > 0 {
			places, gaps = append(places, left), append(gaps, gap{g.from, left})
		}
		if right != nil && bytes.Compare(right, g.to) < 0 {
			if !bytes.Equal(right, left) { // as they are if the middle lies in an entity
				places = append(places, right)
			}
			gaps = append(gaps, gap{right, g.to})
		}
	}
	slices.SortFunc(places, bytes.Compare)
	return slices.CompactFunc(places, bytes.Equal), nil
}

// middle is a key about half way between two others, as far as the eight bytes tell
// in which they begin to differ; nil if these lie next to each other, or a is not
// before b.
func middle(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	var low, high [8]byte
	copy(low[:], a[n:])
	copy(high[:], b[n:])
	x, y := binary.BigEndian.Uint64(low[:]), binary.BigEndian.Uint64(high[:])
	if y <= x || y-x < 2 {
		return nil
	}
	return binary.BigEndian.AppendUint64(bytes.Clone(a[:n]), x+(y-x)/2)
}

// weigh gives each place its share of the tables that have it: the size of a table
// is divided among the places that lie in it.
func weigh(prefix []byte, places [][]byte, tables []badger.TableInfo) []splitPoint {
	points := make([]splitPoint, len(places))
	for i, p := range places {
		points[i] = splitPoint{place: p, weight: 1}
	}
	for _, t := range tables {
		if bytes.Compare(t.Right, prefix) < 0 || bytes.Compare(t.Left, after(prefix)) >= 0 {
			continue
		}
		// A key lies in the last place that is not behind it.
		from, _ := slices.BinarySearchFunc(places, t.Left, bytes.Compare)
		to, _ := slices.BinarySearchFunc(places, t.Right, bytes.Compare)
		from = max(from-1, 0)
		for i := from; i < to; i++ {
			points[i].weight += uint64(t.UncompressedSize) / uint64(to-from)
		}
	}
	return points
}
