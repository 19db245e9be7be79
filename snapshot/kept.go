package snapshot

import "dreamfeed/snapshot/spill"

// keptRows remembers of each spilled row what was decided, in two bits, so that the
// passes behind the decision read neither ids nor what it rests on again.
type keptRows [partitions][]byte

const (
	rowStays = 1 << iota // it leaves step 9
	rowTests             // it goes to test

	rowBits    = 2
	rowsInByte = 8 / rowBits
)

func newKeptRows(set *spill.Set) *keptRows {
	k := &keptRows{}
	for p := range k {
		k[p] = make([]byte, (set.Rows(p)+rowsInByte-1)/rowsInByte)
	}
	return k
}

// note adds what is known of a row of a batch that was read.
func (k *keptRows) note(rows *spill.Batch, i int, what byte) {
	at := rows.First + i
	k[rows.Partition][at/rowsInByte] |= what << (at % rowsInByte * rowBits)
}

// is says whether something is known of the row.
func (k *keptRows) is(rows *spill.Batch, i int, what byte) bool {
	at := rows.First + i
	return k[rows.Partition][at/rowsInByte]>>(at%rowsInByte*rowBits)&what != 0
}
