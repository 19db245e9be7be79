package featurestore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// A streamed view is a sequence of frames:
//
//	frame  = size u32 LE | CRC-32C u32 LE | type u8 | payload     size and CRC are of type and payload
//	'D'    a piece of the records, at most frameBytes
//	'Z'    the end: entities uvarint, versions uvarint, both counted
//	'X'    the end by an error: JSON, see wireError
//
// Records are entities, one after the other without regard to frames:
//
//	record  = size uvarint | entity
//	entity  = id bytes | rows uvarint | row × rows
//	row     = table uvarint | key bytes | versions uvarint | version × versions
//	version = version uvarint | ordinal uvarint | flags u8 | [age uvarint] | [data bytes]
//	bytes   = size uvarint | the bytes
//
// flags are those of a stored row: deleted (no data), backfilled, known (age =
// version − known follows).
const (
	frameData  = 'D'
	frameEnd   = 'Z'
	frameError = 'X'

	frameHead  = 8
	frameBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameWriter cuts records into frames.
type frameWriter struct {
	w                  io.Writer
	buf                []byte // the frame being filled, head and type first
	entities, versions uint64
	// sent is called after every frame.
	sent func() error
}

func newFrameWriter(w io.Writer, sent func() error) *frameWriter {
	f := &frameWriter{w: w, sent: sent, buf: make([]byte, frameHead, frameHead+1+frameBytes)}
	f.buf = append(f.buf, frameData)
	return f
}

func (f *frameWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room := cap(f.buf) - len(f.buf)
		if room == 0 {
			if err := f.flush(); err != nil {
				return 0, err
			}
			continue
		}
		take := min(room, len(p))
		f.buf = append(f.buf, p[:take]...)
		p = p[take:]
	}
	return n, nil
}

// flush sends the data gathered so far.
func (f *frameWriter) flush() error {
	if len(f.buf) == frameHead+1 {
		return nil
	}
	return f.send()
}

func (f *frameWriter) send() error {
	body := f.buf[frameHead:]
	binary.LittleEndian.PutUint32(f.buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(f.buf[4:], crc32.Checksum(body, castagnoli))
	if _, err := f.w.Write(f.buf); err != nil {
		return err
	}
	f.buf = append(f.buf[:frameHead], frameData)
	return f.sent()
}

// end sends what is left and the final count.
func (f *frameWriter) end() error {
	if err := f.flush(); err != nil {
		return err
	}
	f.buf = append(f.buf[:frameHead], frameEnd)
	f.buf = binary.AppendUvarint(f.buf, f.entities)
	f.buf = binary.AppendUvarint(f.buf, f.versions)
	return f.send()
}

// fail sends an error in place of what is missing.
func (f *frameWriter) fail(text []byte) error {
	if len(text) > frameBytes {
		text = text[:frameBytes]
	}
	f.buf = append(append(f.buf[:frameHead], frameError), text...)
	return f.send()
}

// entity sends one entity; scratch is reused from call to call.
func (f *frameWriter) entity(e *history.Entity, scratch []byte) ([]byte, error) {
	b := appendEntity(scratch[:0], e)
	var versions uint64
	for i := range e.Rows {
		versions += uint64(len(e.Rows[i].Versions))
	}
	return b, f.record(b, versions)
}

// record sends one record, which counts as so many versions.
func (f *frameWriter) record(b []byte, versions uint64) error {
	f.entities++
	f.versions += versions
	var head [binary.MaxVarintLen64]byte
	if _, err := f.Write(head[:binary.PutUvarint(head[:], uint64(len(b)))]); err != nil {
		return err
	}
	_, err := f.Write(b)
	return err
}

func appendEntity(b []byte, e *history.Entity) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.ID)))
	b = append(b, e.ID...)
	b = binary.AppendUvarint(b, uint64(len(e.Rows)))
	for i := range e.Rows {
		r := &e.Rows[i]
		b = binary.AppendUvarint(b, uint64(r.Table))
		b = binary.AppendUvarint(b, uint64(len(r.Key)))
		b = append(b, r.Key...)
		b = binary.AppendUvarint(b, uint64(len(r.Versions)))
		for j := range r.Versions {
			v := &r.Versions[j]
			b = binary.AppendUvarint(b, uint64(v.Version))
			b = binary.AppendUvarint(b, uint64(v.Ordinal))
			var flags byte
			if v.Deleted {
				flags |= flagDeleted
			}
			if v.Moved {
				flags |= flagMoved
			}
			if v.Backfilled {
				flags |= flagBackfilled
			}
			if v.Arrived {
				flags |= flagArrived
			}
			if v.Known != int64(v.Version) {
				flags |= flagKnown
			}
			b = append(b, flags)
			if flags&flagKnown != 0 {
				b = binary.AppendUvarint(b, uint64(int64(v.Version)-v.Known))
			}
			if !v.Deleted {
				b = binary.AppendUvarint(b, uint64(len(v.Data)))
				b = append(b, v.Data...)
			}
		}
	}
	return b
}

// wireReader takes an entity apart; it fails once and stays failed.
type wireReader struct {
	b   []byte
	bad bool
}

func (r *wireReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that take at least size bytes each.
func (r *wireReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *wireReader) bytes() []byte {
	n := r.count(1)
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *wireReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

var errRecord = errors.New("a record of the streamed view is malformed")

// decodeEntity reads what appendEntity wrote. e's memory is reused, its bytes
// borrow b; versions is the memory of all versions.
func decodeEntity(b []byte, e *history.Entity, versions []history.Version) ([]history.Version, error) {
	r := &wireReader{b: b}
	e.ID = string(r.bytes())
	e.Rows, versions = e.Rows[:0], versions[:0]
	for range r.count(3) {
		table := r.uvarint()
		row := history.Row{Table: uint16(table), Key: r.bytes()}
		first := len(versions)
		for range r.count(3) {
			v := history.Version{Version: change.Version(r.uvarint())}
			ordinal := r.uvarint()
			v.Ordinal = uint32(ordinal)
			flags := r.byte()
			v.Known = int64(v.Version)
			if flags&flagKnown != 0 {
				v.Known -= int64(r.uvarint())
			}
			v.Backfilled, v.Deleted, v.Moved = flags&flagBackfilled != 0, flags&flagDeleted != 0, flags&flagMoved != 0
			v.Arrived = flags&flagArrived != 0
			if !v.Deleted {
				v.Data = r.bytes()
			}
			if ordinal != uint64(v.Ordinal) {
				r.bad = true
			}
			versions = append(versions, v)
		}
		if r.bad || table != uint64(row.Table) || len(versions) == first {
			return versions, errRecord
		}
		row.Versions = versions[first:len(versions):len(versions)]
		e.Rows = append(e.Rows, row)
	}
	if r.bad || len(r.b) > 0 {
		return versions, errRecord
	}
	return versions, nil
}

// frameReader puts records together again from frames.
type frameReader struct {
	r                  *bufio.Reader
	body, rest         []byte // the frame at hand, and what of it is not read
	record             []byte
	most               uint64 // the largest record accepted, 0 for any
	entities, versions uint64
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10), record: []byte{}} // never nil, which is the end
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w after what was read: %w", ErrCut, err)
}

// next reads a frame; ended says that it was the final count, and that the
// count is right.
func (f *frameReader) next() (ended bool, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return false, cut(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size == 0 || size > frameBytes+1 {
		return false, fmt.Errorf("%w: a frame of %d bytes", ErrCut, size)
	}
	if cap(f.body) < int(size) {
		f.body = make([]byte, frameBytes+1)
	}
	f.body = f.body[:size]
	if _, err := io.ReadFull(f.r, f.body); err != nil {
		return false, cut(err)
	}
	if crc32.Checksum(f.body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return false, fmt.Errorf("%w: a frame's checksum is wrong", ErrCut)
	}
	switch f.body[0] {
	case frameData:
		f.rest = f.body[1:]
		return false, nil
	case frameError:
		return false, decodeWireError(f.body[1:])
	case frameEnd:
		r := &wireReader{b: f.body[1:]}
		entities, versions := r.uvarint(), r.uvarint()
		if r.bad || entities != f.entities || versions != f.versions {
			return false, fmt.Errorf("%w: it counts %d entities and %d versions, %d and %d came", ErrCut, entities, versions, f.entities, f.versions)
		}
		return true, nil
	}
	return false, fmt.Errorf("%w: a frame of the unknown type %q", ErrCut, f.body[0])
}

// next record, nil at the end. It is valid until the next call.
func (f *frameReader) nextRecord() ([]byte, error) {
	var size uint64
	for shift := 0; ; shift += 7 {
		for len(f.rest) == 0 {
			if ended, err := f.next(); err != nil {
				return nil, err
			} else if ended {
				if shift > 0 {
					return nil, fmt.Errorf("%w: in the middle of a record", ErrCut)
				}
				return nil, nil
			}
		}
		c := f.rest[0]
		f.rest = f.rest[1:]
		if shift > 56 {
			return nil, errRecord
		}
		size |= uint64(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	if f.most > 0 && size > f.most {
		return nil, errRecord
	}
	// Most records lie in one frame, and are handed out where they are.
	if size <= uint64(len(f.rest)) {
		record := f.rest[:size:size]
		f.rest = f.rest[size:]
		return record, nil
	}
	// The record grows as its bytes come: a size alone allocates nothing.
	f.record = f.record[:0]
	for uint64(len(f.record)) < size {
		if len(f.rest) == 0 {
			if ended, err := f.next(); err != nil {
				return nil, err
			} else if ended {
				return nil, fmt.Errorf("%w: in the middle of a record", ErrCut)
			}
			continue
		}
		take := min(size-uint64(len(f.record)), uint64(len(f.rest)))
		f.record = append(f.record, f.rest[:take]...)
		f.rest = f.rest[take:]
	}
	return f.record, nil
}
