package spill

// EncodeColumn and DecodeColumn expose the codec of a segment.
func EncodeColumn(c *Column, rows int) []byte { return new(encoder).appendColumn(nil, c, rows) }

func DecodeColumn(seg []byte, c *Column, rows int) error {
	return new(decoder).decodeColumn(seg, c, rows, false)
}

// Unmap makes a set read chunks as where files cannot be mapped.
func (s *Set) Unmap() error {
	for _, w := range s.writers {
		if err := w.unmap(); err != nil {
			return err
		}
	}
	return nil
}

// Lose makes the disk lose what was written.
func (s *Set) Lose() error {
	for _, w := range s.writers {
		if err := w.file.Truncate(0); err != nil {
			return err
		}
	}
	return nil
}

// Mapped says whether all that was written is read where it is mapped.
func (s *Set) Mapped() bool {
	for _, w := range s.writers {
		if int64(len(w.mapped)) != w.offset {
			return false
		}
	}
	return true
}
