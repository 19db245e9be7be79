package row_test

import (
	"encoding/binary"
	"math"
	"testing"

	"dreamfeed/internal/alloctest"
	"dreamfeed/internal/row"
)

// Whatever a stored row claims, what is allocated for it is bounded by its size
// (times the size of a cell), not by the claim.
func TestDecodeAllocatesForWhatIsThereNotForWhatIsClaimed(t *testing.T) {
	const perByte, fixed = 256, 4 << 10
	tagged := func(kind row.Kind, payload ...byte) []byte { return append([]byte{1, byte(kind)}, payload...) }
	huge := binary.AppendUvarint(nil, math.MaxUint64)
	for name, data := range map[string][]byte{
		"2^64 columns":             huge,
		"2^32 columns":             append(binary.AppendUvarint(nil, 1<<32), 1, 1, 1),
		"a text of 2^64 bytes":     tagged(row.Text, huge...),
		"a text of 2^40 bytes":     tagged(row.Text, append(binary.AppendUvarint(nil, 1<<40), 'x')...),
		"an endless number":        tagged(row.Int, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"a decimal of 2^40 places": tagged(row.Decimal, append(binary.AppendUvarint(nil, 1<<40), 2)...),
		"half a uuid":              tagged(row.UUID, 1, 2, 3),
		"half a float":             tagged(row.Float, 1, 2, 3),
		"an unknown kind":          tagged(99, 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			got := alloctest.Bytes(func() { _, err = row.Decode(data, nil) })
			if err == nil {
				t.Fatal("it is taken for a row")
			}
			if limit := uint64(perByte*len(data) + fixed); got > limit {
				t.Errorf("%d bytes are allocated for %d", got, len(data))
			}
		})
	}
}
