package featurestore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

// A backup is a file of frames:
//
//	file  = "DFBACKUP" | format u32 LE | frame × n
//	frame = size u32 LE | CRC-32C u32 LE | type u8 | payload      size and CRC are of type and payload
//	'H'   the header, JSON of Backup, in pieces of at most 256 KiB
//	'D'   at most 256 KiB of the entries, as an S2 block
//	'Z'   the end: keys uvarint | rows uvarint | bytes uvarint | SHA-256 of all bytes of the file before this frame
//	'X'   on the wire only: the end by an error, JSON, see wireError
//
// Entries follow each other in the order of keys, without regard to frames:
//
//	entry = shared uvarint | rest uvarint | value uvarint | flags u8 | the rest of the key | the value
//
// shared is how many bytes the key has in common with the one before.
const (
	backupMagic  = "DFBACKUP"
	backupFormat = 1

	backupHeader = 'H'
	backupData   = 'D'

	// backupPiece is how much of the header or the entries a frame holds.
	backupPiece = 256 << 10
	// Bounds of what is read: of a header, of a key (Badger's), and of a value.
	maxBackupHeader = 16 << 20
	maxBackupKey    = 65_000
	maxBackupValue  = 64 << 20
)

// maxBackupFrame is the largest size of a frame: no piece grows by more when it
// does not compress.
var maxBackupFrame = 1 + s2.MaxEncodedLen(backupPiece)

// backupWriter cuts entries into frames.
type backupWriter struct {
	w      io.Writer
	sum    hash.Hash
	frame  []byte // head and type first
	data   []byte // entries that are not sent yet
	last   []byte // the key before
	head   []byte
	begun  bool
	counts BackupCounts
}

func newBackupWriter(w io.Writer) *backupWriter {
	return &backupWriter{w: w, sum: sha256.New()}
}

// begin writes what stands before the entries.
func (b *backupWriter) begin(info *Backup) error {
	text, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("write the header of the backup: %w", err)
	}
	b.begun = true
	b.data = make([]byte, 0, backupPiece)
	if err := b.write(binary.LittleEndian.AppendUint32([]byte(backupMagic), backupFormat)); err != nil {
		return err
	}
	for len(text) > 0 {
		n := min(len(text), backupPiece)
		if err := b.send(append(b.open(backupHeader), text[:n]...)); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// open begins a frame.
func (b *backupWriter) open(kind byte) []byte {
	if b.frame == nil {
		b.frame = make([]byte, frameHead, frameHead+maxBackupFrame)
	}
	return append(b.frame[:frameHead], kind)
}

func (b *backupWriter) send(frame []byte) error {
	body := frame[frameHead:]
	binary.LittleEndian.PutUint32(frame, uint32(len(body)))
	binary.LittleEndian.PutUint32(frame[4:], crc32.Checksum(body, castagnoli))
	return b.write(frame)
}

func (b *backupWriter) write(p []byte) error {
	b.sum.Write(p)
	b.counts.File += uint64(len(p))
	_, err := b.w.Write(p)
	return err
}

// flush sends the entries gathered so far.
func (b *backupWriter) flush() error {
	if len(b.data) == 0 {
		return nil
	}
	frame := b.open(backupData)
	n := len(frame)
	frame = frame[:n+len(s2.Encode(frame[n:cap(frame)], b.data))]
	b.data = b.data[:0]
	return b.send(frame)
}

func (b *backupWriter) put(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), backupPiece-len(b.data))
		b.data = append(b.data, p[:n]...)
		p = p[n:]
		if len(b.data) == backupPiece {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// add writes an entry.
func (b *backupWriter) add(key, value []byte, flags byte) error {
	shared := commonPrefix(b.last, key)
	b.head = binary.AppendUvarint(b.head[:0], uint64(shared))
	b.head = binary.AppendUvarint(b.head, uint64(len(key)-shared))
	b.head = binary.AppendUvarint(b.head, uint64(len(value)))
	b.head = append(append(b.head, flags), key[shared:]...)
	b.last = append(b.last[:shared], key[shared:]...)
	b.counts.note(key, value)
	if err := b.put(b.head); err != nil {
		return err
	}
	return b.put(value)
}

func (c *BackupCounts) note(key, value []byte) {
	c.Keys++
	c.Raw += uint64(len(key) + len(value))
	if key[0] == prefixRow {
		c.Rows++
	}
}

// end writes what is left, the counts and the checksum.
func (b *backupWriter) end() error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.send(b.sum.Sum(b.counts.append(b.open(frameEnd))))
}

func (c *BackupCounts) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, c.Keys)
	dst = binary.AppendUvarint(dst, c.Rows)
	return binary.AppendUvarint(dst, c.Raw)
}

// fail sends an error in place of what is missing.
func (b *backupWriter) fail(text []byte) error {
	return b.send(append(b.open(frameError), text[:min(len(text), backupPiece)]...))
}

// backupReader reads a backup and checks all of it on the way.
type backupReader struct {
	name   string
	in     *bufio.Reader
	sum    hash.Hash
	info   *Backup
	body   []byte // the frame at hand, without its head
	data   []byte // memory of entries that were compressed
	rest   []byte // what of them is not read
	ended  bool
	counts BackupCounts

	// The entry at hand, until the next one is read.
	key, value []byte
	flags      byte
}

// newBackupReader reads a backup up to its entries. name is what errors call it.
func newBackupReader(name string, r io.Reader) (*backupReader, error) {
	b := &backupReader{name: name, in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	head := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(b.in, head); err != nil {
		return nil, b.short(err)
	}
	if !bytes.HasPrefix(head, []byte(backupMagic)) {
		return nil, b.damaged("it does not begin as a backup does")
	}
	if format := binary.LittleEndian.Uint32(head[len(backupMagic):]); format == 0 || format > backupFormat {
		return nil, &BackupFormatError{Name: name, Have: int(format), Newest: backupFormat}
	}
	b.read(head)
	return b, b.header()
}

// read notes bytes as read.
func (b *backupReader) read(p []byte) {
	b.sum.Write(p)
	b.counts.File += uint64(len(p))
}

func (b *backupReader) damaged(what string) error {
	return &BackupDamagedError{Name: b.name, Offset: b.counts.File, What: what}
}

// short is the error of a read that did not get what it wanted.
func (b *backupReader) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return b.damaged("it ends before its end")
	}
	return fmt.Errorf("read backup %s at byte %d: %w", b.name, b.counts.File, err)
}

// header reads the header; the first frame of entries, or the end, is at hand then.
func (b *backupReader) header() error {
	var text []byte
	for {
		if err := b.frame(); err != nil {
			return err
		}
		if b.ended || b.body[0] != backupHeader {
			break
		}
		if len(text)+len(b.body) > maxBackupHeader {
			return b.damaged("its header is too long")
		}
		text = append(text, b.body[1:]...)
	}
	b.info = new(Backup)
	if err := json.Unmarshal(text, b.info); err != nil {
		return b.damaged("its header cannot be read")
	}
	switch i := b.info; {
	case i.ID == BackupID{} || i.Catalog == nil || i.Watermark.Birth == 0 || i.StoreFormat < 1:
		return b.damaged("its header is not complete")
	case i.StoreFormat > Format:
		return &BackupFormatError{Name: b.name, Store: true, Have: i.StoreFormat, Newest: Format}
	}
	return nil
}

// frame reads the next frame.
func (b *backupReader) frame() error {
	var head [frameHead]byte
	if _, err := io.ReadFull(b.in, head[:]); err != nil {
		return b.short(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size == 0 || size > uint32(maxBackupFrame) {
		return b.damaged(fmt.Sprintf("a frame of %d bytes", size))
	}
	if cap(b.body) < int(size) {
		b.body = make([]byte, maxBackupFrame)
	}
	b.body = b.body[:size]
	if _, err := io.ReadFull(b.in, b.body); err != nil {
		return b.short(err)
	}
	if crc32.Checksum(b.body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return b.damaged("a frame's checksum is wrong")
	}
	switch kind := b.body[0]; {
	case kind == frameEnd:
		return b.end(size)
	case kind == frameError:
		return decodeWireError(b.body[1:])
	case kind == backupHeader && b.info == nil:
	case kind == backupData && len(b.rest) == 0:
		if err := b.expand(); err != nil {
			return err
		}
	default:
		return b.damaged(fmt.Sprintf("a frame of type %q is out of place", kind))
	}
	b.read(head[:])
	b.read(b.body)
	return nil
}

// expand makes the entries of the frame at hand readable.
func (b *backupReader) expand() error {
	size, err := s2.DecodedLen(b.body[1:])
	if err != nil || size == 0 || size > backupPiece {
		return b.damaged("a frame holds no entries")
	}
	if b.data == nil {
		b.data = make([]byte, backupPiece)
	}
	if b.rest, err = s2.Decode(b.data[:backupPiece], b.body[1:]); err != nil {
		return b.damaged("a frame's entries cannot be expanded")
	}
	return nil
}

// end checks the last frame against what was read, and that nothing follows.
func (b *backupReader) end(size uint32) error {
	if want := b.sum.Sum(b.counts.append([]byte{frameEnd})); !bytes.Equal(b.body, want) {
		return b.damaged("its counts or its checksum are wrong")
	}
	b.counts.File += frameHead + uint64(size)
	b.ended = true
	if _, err := b.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			return b.damaged("something follows its end")
		}
		return b.short(err)
	}
	return nil
}

// more sees to it that there is something of the entries to read.
func (b *backupReader) more() (bool, error) {
	for len(b.rest) == 0 {
		if b.ended {
			return false, nil
		}
		if err := b.frame(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (b *backupReader) byte() (byte, error) {
	if len(b.rest) == 0 {
		if more, err := b.more(); err != nil {
			return 0, err
		} else if !more {
			return 0, b.damaged("it ends in the middle of an entry")
		}
	}
	c := b.rest[0]
	b.rest = b.rest[1:]
	return c, nil
}

// count reads a number that is at most limit.
func (b *backupReader) count(limit int) (int, error) {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		c, err := b.byte()
		if err != nil {
			return 0, err
		}
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if n > uint64(limit) {
				break
			}
			return int(n), nil
		}
	}
	return 0, b.damaged("an entry's sizes are out of bounds")
}

// take appends the next n bytes of the entries. dst grows as they come: a size
// alone allocates nothing.
func (b *backupReader) take(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if more, err := b.more(); err != nil {
			return dst, err
		} else if !more {
			return dst, b.damaged("it ends in the middle of an entry")
		}
		some := min(n, len(b.rest))
		dst = append(dst, b.rest[:some]...)
		b.rest = b.rest[some:]
		n -= some
	}
	return dst, nil
}

// next reads an entry, false at the end.
func (b *backupReader) next() (bool, error) {
	if more, err := b.more(); err != nil || !more {
		return false, err
	}
	shared, err := b.count(len(b.key))
	if err != nil {
		return false, err
	}
	rest, err := b.count(maxBackupKey - shared)
	if err != nil {
		return false, err
	}
	size, err := b.count(maxBackupValue)
	if err != nil {
		return false, err
	}
	if b.flags, err = b.byte(); err != nil {
		return false, err
	}
	// What is left of the key before is only known until the new one is written.
	var after byte
	longer := shared < len(b.key)
	if longer {
		after = b.key[shared]
	}
	if b.key, err = b.take(b.key[:shared], rest); err != nil {
		return false, err
	}
	if rest == 0 || longer && b.key[shared] <= after {
		return false, b.damaged("its keys are out of order")
	}
	if b.value, err = b.take(b.value[:0], size); err != nil {
		return false, err
	}
	b.counts.note(b.key, b.value)
	return true, nil
}

// commonPrefix is the number of bytes that a and b begin with alike.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if binary.LittleEndian.Uint64(a[i:]) != binary.LittleEndian.Uint64(b[i:]) {
			break
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
