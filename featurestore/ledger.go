package featurestore

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"dreamfeed/internal/durable"
)

// LedgerFile is the name of the erasure ledger in a data directory.
const LedgerFile = "erasures"

// The ledger is a file of a head and records, which are only ever appended:
//
//	head   = "DRFERASE" | format u32 LE | key check, 16 | CRC-32C u32 LE of what stands before
//	record = kind u8 | keyed hash, 16 | CRC-32C u32 LE of kind and hash, begun with the CRC before it
//
// A keyed hash is the first half of an HMAC-SHA-256 under the sub-key of the
// anonymisation key for ledgerInfo, of
//
//	'E' | size of the kind's name uvarint | kind of entity | id
//	'K' | size of the table's name uvarint | table | encoded key
//	'C'                                                       the key check
const (
	ledgerMagic  = "DRFERASE"
	ledgerFormat = 1
	// ledgerInfo derives the sub-key. No column of a dataset can have such a name.
	ledgerInfo = "erasure ledger"

	erasedEntity = 'E'
	erasedRow    = 'K'
	ledgerCheck  = 'C'

	keyedSize        = 16
	ledgerHeadSize   = len(ledgerMagic) + 4 + keyedSize + 4
	ledgerRecordSize = 1 + keyedSize + 4
)

// keyed is a keyed hash.
type keyed [keyedSize]byte

// Erasure is something that was erased: an entity, or a row of one.
type Erasure struct {
	// Entity is the kind of an entity and ID its id, as the source writes it.
	Entity, ID string
	// Table is the table of a row, as the definition names it, and Key its key as
	// the source writes it, in the definition's order. Rows are named besides their
	// entity because a deletion names the key alone.
	Table string
	Key   []string
}

// Ledger is the list of what was erased and must not come back: not out of the
// stream, and not out of a backup. It holds no id, only hashes that mean nothing
// without the anonymisation key. Its methods may be called from several
// goroutines; a file has one writer.
type Ledger struct {
	path string
	hook durable.Hook
	key  []byte

	mu    sync.Mutex
	size  int64 // of the head and the whole records; 0 while there is no file
	crc   uint32
	known map[keyed]struct{} // 30 to 40 bytes each
	count [2]int             // entities, rows
	// noted are rows of erased entities that were met, beside those in the file.
	noted map[keyed]struct{}
}

// LedgerError says that a ledger cannot be used.
type LedgerError struct {
	Path, Problem string
}

func (e *LedgerError) Error() string {
	return fmt.Sprintf("erasure ledger %s: %s", e.Path, e.Problem)
}

// OpenLedger reads the ledger at path with the anonymisation key, of 32 bytes. A
// file that is missing is an empty ledger. A record that a crash has cut at the
// end was never reported as added, and is passed over; any other damage, and
// another key, is a *LedgerError.
func OpenLedger(path string, key []byte, hook durable.Hook) (*Ledger, error) {
	sub, err := hkdf.Key(sha256.New, key, nil, ledgerInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the erasure ledger: %w", err)
	}
	l := &Ledger{path: path, hook: hook, key: sub, known: map[keyed]struct{}{}, noted: map[keyed]struct{}{}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the erasure ledger: %w", err)
	}
	defer f.Close()
	return l, l.read(f)
}

func (l *Ledger) fault(format string, args ...any) error {
	return &LedgerError{Path: l.path, Problem: fmt.Sprintf(format, args...)}
}

// read takes in the file.
func (l *Ledger) read(f io.Reader) error {
	in := newLedgerReader(f)
	head, err := in.take(ledgerHeadSize)
	if err != nil {
		return fmt.Errorf("read the erasure ledger: %w", err)
	}
	switch {
	case len(head) < ledgerHeadSize || !bytes.HasPrefix(head, []byte(ledgerMagic)):
		return l.fault("it does not begin as one does: restore the file")
	case crc32.Checksum(head[:ledgerHeadSize-4], castagnoli) != binary.LittleEndian.Uint32(head[ledgerHeadSize-4:]):
		return l.fault("its head is damaged: restore the file")
	case binary.LittleEndian.Uint32(head[len(ledgerMagic):]) != ledgerFormat:
		return l.fault("its format is unknown: it was written by a newer program")
	case !hmac.Equal(head[len(ledgerMagic)+4:][:keyedSize], l.head()[len(ledgerMagic)+4:][:keyedSize]):
		return l.fault("it was written under another anonymisation key, so that nobody could be recognised in it: give the key that belongs to it")
	}
	l.size, l.crc = int64(ledgerHeadSize), binary.LittleEndian.Uint32(head[ledgerHeadSize-4:])
	for {
		record, err := in.take(ledgerRecordSize)
		if err != nil {
			return fmt.Errorf("read the erasure ledger: %w", err)
		}
		if len(record) < ledgerRecordSize {
			return nil
		}
		crc := crc32.Update(l.crc, castagnoli, record[:1+keyedSize])
		kind := record[0]
		if crc != binary.LittleEndian.Uint32(record[1+keyedSize:]) || kind != erasedEntity && kind != erasedRow {
			// A file that was made longer, and not written before the power went.
			if blank, err := in.blank(record); err != nil {
				return fmt.Errorf("read the erasure ledger: %w", err)
			} else if blank {
				return nil
			}
			return l.fault("it is damaged at byte %d: restore the file", l.size)
		}
		l.take(kind, keyed(record[1:]))
		l.size, l.crc = l.size+int64(ledgerRecordSize), crc
	}
}

// take notes a record as held.
func (l *Ledger) take(kind byte, h keyed) {
	if _, ok := l.known[h]; ok {
		return
	}
	l.known[h] = struct{}{}
	if kind == erasedEntity {
		l.count[0]++
	} else {
		l.count[1]++
	}
}

// head is what the file begins with.
func (l *Ledger) head() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(ledgerMagic), ledgerFormat)
	check := l.hasher().sum([]byte{ledgerCheck})
	b = append(b, check[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Add puts erasures into the ledger and returns when they are on disk. What it
// holds already is not written again.
func (l *Ledger) Add(list ...Erasure) error {
	h := l.hasher()
	l.mu.Lock()
	defer l.mu.Unlock()
	type added struct {
		kind byte
		hash keyed
	}
	var fresh []added
	data, crc, size := []byte(nil), l.crc, l.size
	if size == 0 {
		data = l.head()
		crc = binary.LittleEndian.Uint32(data[ledgerHeadSize-4:])
	}
	seen := map[keyed]struct{}{}
	for i := range list {
		e := &list[i]
		kind, hash := byte(erasedEntity), h.entity(e.Entity, []byte(e.ID))
		if e.Table != "" {
			kind, hash = erasedRow, h.row(e.Table, encodeKey(e.Key))
		}
		_, held := l.known[hash]
		if _, twice := seen[hash]; held || twice {
			continue
		}
		seen[hash] = struct{}{}
		fresh = append(fresh, added{kind, hash})
		from := len(data)
		data = append(append(data, kind), hash[:]...)
		crc = crc32.Update(crc, castagnoli, data[from:])
		data = binary.LittleEndian.AppendUint32(data, crc)
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := l.write(data, size); err != nil {
		return fmt.Errorf("write the erasure ledger: %w", err)
	}
	l.size, l.crc = size+int64(len(data)), crc
	for _, a := range fresh {
		l.take(a.kind, a.hash)
	}
	return nil
}

// write appends to the file behind its whole records, and makes it first.
func (l *Ledger) write(data []byte, size int64) error {
	if size == 0 {
		return durable.ReplaceFile(l.path, data, 0o600, l.hook)
	}
	if err := l.hook.Before(durable.WriteFile); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// What a crash has cut is not kept.
	if err = f.Truncate(size); err == nil {
		_, err = f.WriteAt(data, size)
	}
	if err == nil {
		err = l.hook.Before(durable.SyncFile)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Len says how many entities and rows the ledger names.
func (l *Ledger) Len() (entities, rows int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[0], l.count[1]
}

// HasEntity says whether an entity was erased; HasRow says it of a row.
func (l *Ledger) HasEntity(kind, id string) bool {
	return l.has(l.hasher().entity(kind, []byte(id)))
}

// HasRow says whether a row of an erased entity had the key.
func (l *Ledger) HasRow(table string, key ...string) bool {
	return l.has(l.hasher().row(table, encodeKey(key)))
}

func (l *Ledger) has(h keyed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[h]; ok {
		return true
	}
	_, ok := l.noted[h]
	return ok
}

// note remembers the key of a row of an erased entity that was met, so that its
// deletion is recognised, for as long as the ledger is open.
func (l *Ledger) note(h keyed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[h]; !ok {
		l.noted[h] = struct{}{}
	}
}

// encodeKey encodes a key as it stands in the store's keys.
func encodeKey(key []string) (out []byte) {
	for _, part := range key {
		out = appendID(out, []byte(part))
	}
	return out
}

// ledgerHasher makes keyed hashes. It is for one goroutine.
type ledgerHasher struct {
	mac hash.Hash
	buf []byte
	out [sha256.Size]byte
}

func (l *Ledger) hasher() *ledgerHasher { return &ledgerHasher{mac: hmac.New(sha256.New, l.key)} }

func (h *ledgerHasher) entity(kind string, id []byte) keyed {
	return h.named(erasedEntity, kind, id)
}

func (h *ledgerHasher) row(table string, key []byte) keyed { return h.named(erasedRow, table, key) }

func (h *ledgerHasher) named(what byte, name string, rest []byte) keyed {
	h.buf = binary.AppendUvarint(append(h.buf[:0], what), uint64(len(name)))
	h.buf = append(append(h.buf, name...), rest...)
	return h.sum(h.buf)
}

func (h *ledgerHasher) sum(text []byte) keyed {
	h.mac.Reset()
	h.mac.Write(text)
	return keyed(h.mac.Sum(h.out[:0])[:keyedSize])
}

// ledgerReader reads pieces of a fixed size.
type ledgerReader struct {
	in  io.Reader
	buf [max(ledgerHeadSize, ledgerRecordSize)]byte
}

func newLedgerReader(f io.Reader) *ledgerReader { return &ledgerReader{in: bufio.NewReader(f)} }

// take reads the next n bytes, less at the end. They are valid until the next call.
func (r *ledgerReader) take(n int) ([]byte, error) {
	got, err := io.ReadFull(r.in, r.buf[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return r.buf[:got], err
}

// blank says whether a piece and all that follows it is zero.
func (r *ledgerReader) blank(piece []byte) (bool, error) {
	for len(piece) > 0 {
		for _, b := range piece {
			if b != 0 {
				return false, nil
			}
		}
		var err error
		if piece, err = r.take(len(r.buf)); err != nil {
			return false, err
		}
	}
	return true, nil
}
