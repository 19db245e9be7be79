package spill

// EncodeColumn and DecodeColumn expose the codec of a segment.
func EncodeColumn(c *Column, rows int) []byte { return new(encoder).appendColumn(nil, c, rows) }

func DecodeColumn(seg []byte, c *Column, rows int) error {
	return new(decoder).decodeColumn(seg, c, rows)
}
