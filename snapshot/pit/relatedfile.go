package pit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// spilledRow says where in a file the data of a row's versions stand, one behind
// another: those of the version i end ends[i] bytes behind the offset.
type spilledRow struct {
	file   *os.File
	offset int64
	ends   []uint32
}

// bytesOfLent is the memory that the lentRows of an entity take.
func bytesOfLent(e *history.Entity) int64 {
	n := int64(len(e.Rows)) * int64(unsafe.Sizeof(lentRow{}))
	for i := range e.Rows {
		n += int64(len(e.Rows[i].Versions)) * 8
	}
	return n
}

// bytesOfSpilled is the memory that the spilledRows of an entity take.
func bytesOfSpilled(e *history.Entity) int64 {
	n := int64(len(e.Rows)) * int64(unsafe.Sizeof(spilledRow{}))
	for i := range e.Rows {
		n += int64(len(e.Rows[i].Versions)) * 4
	}
	return n
}

// place is where the data of a version stand.
func (r *spilledRow) place(i int) (offset int64, size int) {
	from := uint32(0)
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.offset + int64(from), int(r.ends[i] - from)
}

// read fills data.
func (r *spilledRow) read(data []byte, offset int64) ([]byte, error) {
	if _, err := r.file.ReadAt(data, offset); err != nil {
		return nil, fmt.Errorf("read related rows from %s: %w", r.file.Name(), err)
	}
	return data, nil
}

// readRows returns a copy of an entity with the data of its versions.
func readRows(e *history.Entity, rows []lentRow) (*history.Entity, error) {
	whole := &history.Entity{ID: e.ID, Rows: make([]history.Row, len(e.Rows))}
	for i := range e.Rows {
		whole.Rows[i] = history.Row{Table: e.Rows[i].Table, Versions: append([]history.Version(nil), e.Rows[i].Versions...)}
		for k := range whole.Rows[i].Versions {
			offset, size := rows[i].data.place(k)
			var err error
			if whole.Rows[i].Versions[k].Data, err = rows[i].data.read(make([]byte, size), offset); err != nil {
				return nil, err
			}
		}
	}
	return whole, nil
}

// The form in which a history is kept, all numbers varints:
//
//	entity  = id length | id | row count | row × count
//	row     = table | version count | version × count
//	version = version | ordinal | known − version (signed) | flags | length | data
const (
	flagBackfilled = 1 << iota
	flagDeleted
	flagMoved
	flagArrived
)

func appendEntity(dst []byte, e *history.Entity) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.ID)))
	dst = append(dst, e.ID...)
	dst = binary.AppendUvarint(dst, uint64(len(e.Rows)))
	for i := range e.Rows {
		r := &e.Rows[i]
		dst = binary.AppendUvarint(dst, uint64(r.Table))
		dst = binary.AppendUvarint(dst, uint64(len(r.Versions)))
		for k := range r.Versions {
			v := &r.Versions[k]
			dst = binary.AppendUvarint(dst, uint64(v.Version))
			dst = binary.AppendUvarint(dst, uint64(v.Ordinal))
			dst = binary.AppendVarint(dst, v.Known-int64(v.Version))
			var flags uint64
			for i, set := range [...]bool{v.Backfilled, v.Deleted, v.Moved, v.Arrived} {
				if set {
					flags |= 1 << i
				}
			}
			dst = binary.AppendUvarint(dst, flags)
			dst = binary.AppendUvarint(dst, uint64(len(v.Data)))
			dst = append(dst, v.Data...)
		}
	}
	return dst
}

// errHistory says that a kept history cannot be read back.
var errHistory = errors.New("kept history of a related entity is corrupt")

// decodeEntity reads what appendEntity wrote; the entity borrows data.
func decodeEntity(data []byte) (*history.Entity, error) {
	bad := false
	number := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			bad, data = true, nil
			return 0
		}
		data = data[n:]
		return v
	}
	bytes := func() []byte {
		n := number()
		if n > uint64(len(data)) {
			bad, data = true, nil
			return nil
		}
		b := data[:n:n]
		data = data[n:]
		return b
	}
	e := &history.Entity{ID: string(bytes())}
	rows := number()
	if rows > uint64(len(data)) {
		return nil, errHistory
	}
	e.Rows = make([]history.Row, 0, rows)
	for range rows {
		r := history.Row{Table: uint16(number())}
		versions := number()
		if versions > uint64(len(data)) {
			return nil, errHistory
		}
		r.Versions = make([]history.Version, versions)
		for i := range r.Versions {
			v := &r.Versions[i]
			v.Version = change.Version(number())
			v.Ordinal = uint32(number())
			zigzag := number()
			v.Known = int64(v.Version) + (int64(zigzag>>1) ^ -int64(zigzag&1))
			flags := number()
			v.Backfilled, v.Deleted, v.Moved = flags&flagBackfilled != 0, flags&flagDeleted != 0, flags&flagMoved != 0
			v.Arrived = flags&flagArrived != 0
			v.Data = bytes()
		}
		e.Rows = append(e.Rows, r)
	}
	if bad || len(data) != 0 {
		return nil, errHistory
	}
	return e, nil
}
