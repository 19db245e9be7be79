package pit

import (
	"fmt"
	"math"

	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// keyReader reads the keys that the versions of a row have in a relation.
type keyReader struct {
	cells []row.Cell
	key   []byte
	last  []byte
	until []int64
}

// each calls fn with the key of each version that has all columns of the
// relation; equal keys of versions that follow one another are given once. A
// column that a version did not capture is that of a newer one. Before the moment
// unsure (µs) nobody knew what a version's key is, since it had not captured a
// column; 0 if every version has all.
func (k *keyReader) each(r *history.Row, rel *relation, fn func(key []byte)) (unsure int64, err error) {
	newer := make([][]byte, len(rel.slots)) // text of each column in the version before
	known := make([]bool, len(rel.slots))
	k.last, k.until = k.last[:0], k.until[:0] // until: known time of the newer version that has the column
	for range rel.slots {
		k.until = append(k.until, math.MaxInt64)
	}
	for i := range r.Versions {
		v := &r.Versions[i]
		if v.Deleted {
			clear(known)
			for n := range k.until {
				k.until[n] = v.Known
			}
			continue
		}
		if len(k.cells) < rel.table.width {
			k.cells = make([]row.Cell, rel.table.width)
		}
		var err error
		if k.cells, err = row.DecodeSome(v.Data, k.cells, rel.table.wanted); err != nil {
			return 0, fmt.Errorf("decode a row of table %s at version %s: %w", rel.table.name, v.Version, err)
		}
		k.key = k.key[:0]
		whole := true
		for n, slot := range rel.slots {
			c := &k.cells[slot]
			switch {
			case c.Kind == row.Null:
				known[n], k.until[n] = false, v.Known
			case c.Kind != row.NotCaptured:
				newer[n], known[n], k.until[n] = c.AppendText(newer[n][:0]), true, v.Known
			default:
				unsure = max(unsure, k.until[n])
			}
			whole = whole && known[n]
			k.key = appendPart(k.key, newer[n])
		}
		if whole && string(k.key) != string(k.last) {
			fn(k.key)
			k.last = append(k.last[:0], k.key...)
		}
	}
	return unsure, nil
}
