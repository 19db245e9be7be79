package featurestore

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"dreamfeed/internal/change"
	"dreamfeed/internal/row"
)

// The first byte of every key.
const (
	prefixMeta     = 0x00
	prefixRow      = 0x10
	prefixLocator  = 0x20
	prefixTruncate = 0x30
	prefixVoid     = 0x40
	prefixSample   = 0x50
	prefixIndex    = 0x60
	prefixSeen     = 0x70
)

// The tag of an encoded id. An id is encoded by its text alone, whatever the
// column's type: the same id written in a uuid and in a text column is the
// same bytes, and the text comes back exactly.
const (
	idText    = 0x01 // bytes with 00 as 00 FF, ended by 00 01
	idUUID    = 0x02 // 16 bytes: a uuid in canonical form
	idNatural = 0x10 // 10+n: an integer ≥ 0 in canonical form, n bytes
	idNegate  = 0x20 // 20+n: an integer < 0 in canonical form, −1−v in n bytes
)

// suffixSize is the size of ^version | ^ordinal, pieceSize that of a piece number.
const (
	suffixSize = 12
	pieceSize  = 4
)

// noKind is the kind of rows without an entity; their entity is one byte, a
// hash of table and key, so that they spread over 256 places.
const noKind = 0

// maxKeyBytes bounds a key; Badger holds at most 65,000 bytes.
const maxKeyBytes = 60_000

// appendID appends the encoding of an id given as the source's text.
func appendID(dst, text []byte) []byte {
	if len(text) == 36 {
		if with, ok := row.AppendUUID(append(dst, idUUID), text); ok {
			return with
		}
	}
	if v, ok := canonicalInt(text); ok {
		tag := byte(idNatural)
		u := uint64(v)
		if v < 0 {
			tag, u = idNegate, uint64(^v)
		}
		n := 0
		for x := u; x > 0; x >>= 8 {
			n++
		}
		dst = append(dst, tag+byte(n))
		for i := n - 1; i >= 0; i-- {
			dst = append(dst, byte(u>>(8*i)))
		}
		return dst
	}
	dst = append(dst, idText)
	for {
		i := bytes.IndexByte(text, 0)
		if i < 0 {
			break
		}
		dst = append(dst, text[:i]...)
		dst = append(dst, 0x00, 0xff)
		text = text[i+1:]
	}
	dst = append(dst, text...)
	return append(dst, 0x00, 0x01)
}

// canonicalInt reads an int64 that is written as PostgreSQL writes integers.
func canonicalInt(text []byte) (int64, bool) {
	if len(text) == 0 || len(text) > 20 {
		return 0, false
	}
	digits := text
	if text[0] == '-' {
		digits = text[1:]
	}
	if len(digits) == 0 || digits[0] == '0' && len(text) > 1 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	return v, err == nil
}

// skipID returns the size of the encoded id at the start of b, -1 if there is none.
func skipID(b []byte) int {
	if len(b) == 0 {
		return -1
	}
	switch tag := b[0]; {
	case tag == idText:
		at := 1
		for {
			i := bytes.IndexByte(b[at:], 0)
			if i < 0 || at+i+1 >= len(b) {
				return -1
			}
			at += i + 2
			switch b[at-1] {
			case 0x01:
				return at
			case 0xff:
			default:
				return -1
			}
		}
	case tag == idUUID:
		return sized(b, 17)
	case tag >= idNatural && tag <= idNatural+8:
		return sized(b, 1+int(tag-idNatural))
	case tag >= idNegate && tag <= idNegate+8:
		return sized(b, 1+int(tag-idNegate))
	}
	return -1
}

func sized(b []byte, n int) int {
	if len(b) < n {
		return -1
	}
	return n
}

// appendIDText appends the text of one encoded id that skipID accepted.
func appendIDText(dst, id []byte) []byte {
	switch tag := id[0]; {
	case tag == idText:
		body := id[1 : len(id)-2]
		for {
			i := bytes.IndexByte(body, 0)
			if i < 0 {
				return append(dst, body...)
			}
			dst = append(dst, body[:i+1]...)
			body = body[i+2:]
		}
	case tag == idUUID:
		c := row.Cell{Kind: row.UUID, Bytes: id[1:]}
		return c.AppendText(dst)
	}
	var u uint64
	for _, b := range id[1:] {
		u = u<<8 | uint64(b)
	}
	v := int64(u)
	if id[0] >= idNegate {
		v = ^v
	}
	return strconv.AppendInt(dst, v, 10)
}

// appendSuffix appends the part of a key that orders a row's versions.
func appendSuffix(dst []byte, v change.Version, ordinal uint32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(v))
	return binary.BigEndian.AppendUint32(dst, ^ordinal)
}

// suffix reads the last 12 bytes of a row or locator key.
func suffix(key []byte) (change.Version, uint32) {
	at := len(key) - suffixSize
	return change.Version(^binary.BigEndian.Uint64(key[at:])), ^binary.BigEndian.Uint32(key[at+8:])
}

// appendRowPrefix appends a row's key without version. place is kind | entity.
func appendRowPrefix(dst, place []byte, table uint16, key []byte) []byte {
	dst = append(dst, prefixRow)
	dst = append(dst, place...)
	dst = binary.BigEndian.AppendUint16(dst, table)
	return append(dst, key...)
}

func appendLocatorPrefix(dst []byte, table uint16, key []byte) []byte {
	dst = append(dst, prefixLocator)
	dst = binary.BigEndian.AppendUint16(dst, table)
	return append(dst, key...)
}

func truncateKey(table uint16, v change.Version, ordinal uint32) []byte {
	k := binary.BigEndian.AppendUint16([]byte{prefixTruncate}, table)
	return appendSuffix(k, v, ordinal)
}

func voidKey(v change.Version) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixVoid}, uint64(v))
}

func metaKey(name string) []byte { return append([]byte{prefixMeta}, name...) }

// appendNowhere appends the place of a row without entity.
func appendNowhere(dst []byte, table uint16, key []byte) []byte {
	h := hashByte(hashByte(fnvOffset, byte(table>>8)), byte(table))
	for _, b := range key {
		h = hashByte(h, b)
	}
	return append(dst, noKind, byte(h))
}

// skipPlace returns the size of kind | entity at the start of b, -1 if there is none.
func skipPlace(b []byte) int {
	if len(b) < 2 {
		return -1
	}
	if b[0] == noKind {
		return 2
	}
	n := skipID(b[1:])
	if n < 0 {
		return -1
	}
	return 1 + n
}

// rowKey is a row's key taken apart; its slices borrow the key.
type rowKey struct {
	place   []byte // kind | entity
	table   uint16
	key     []byte
	prefix  []byte // everything before the version
	version change.Version
	ordinal uint32
	piece   uint32 // 0 for the row itself, else the number of a further piece
}

// parseRowKey takes a key with prefixRow apart. parts gives the number of ids
// in a table's key, 0 for a table that the catalog does not have.
func parseRowKey(k []byte, parts func(table uint16) int) (rowKey, bool) {
	n := -1
	if len(k) > 1 {
		n = skipPlace(k[1:])
	}
	if n < 0 || len(k) < 1+n+2+suffixSize {
		return rowKey{}, false
	}
	r := rowKey{place: k[1 : 1+n], table: binary.BigEndian.Uint16(k[1+n:])}
	at := 1 + n + 2
	count := parts(r.table)
	for range count {
		size := skipID(k[at:])
		if size < 0 {
			return rowKey{}, false
		}
		at += size
	}
	r.key, r.prefix = k[1+n+2:at], k[:at]
	switch rest := len(k) - at; {
	case count == 0:
		return rowKey{}, false
	case rest == suffixSize:
	case rest == suffixSize+pieceSize:
		r.piece = binary.BigEndian.Uint32(k[len(k)-pieceSize:])
		k = k[:len(k)-pieceSize]
	default:
		return rowKey{}, false
	}
	r.version, r.ordinal = suffix(k)
	return r, true
}

// after returns the first key that sorts after every key with the prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// FNV-1a: part of the format, since it says where rows without entity lie.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * fnvPrime }

func hashKey(b []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range b {
		h = hashByte(h, c)
	}
	return h
}

func parseVoidKey(k []byte) (change.Version, bool) {
	if len(k) != 9 {
		return 0, false
	}
	return change.Version(binary.BigEndian.Uint64(k[1:])), true
}

func parseTruncateKey(k []byte) (table uint16, v change.Version, ordinal uint32, ok bool) {
	if len(k) != 3+suffixSize {
		return 0, 0, 0, false
	}
	v, ordinal = suffix(k)
	return binary.BigEndian.Uint16(k[1:]), v, ordinal, true
}

// keyVersion is the version in a key of any kind; dated says that its kind has one.
func keyVersion(key []byte, parts func(table uint16) int) (v change.Version, dated bool, err error) {
	var ok bool
	switch key[0] {
	case prefixRow:
		var k rowKey
		k, ok = parseRowKey(key, parts)
		v = k.version
	case prefixLocator:
		if ok = len(key) > suffixSize; ok {
			v, _ = suffix(key)
		}
	case prefixTruncate:
		_, v, _, ok = parseTruncateKey(key)
	case prefixVoid:
		v, ok = parseVoidKey(key)
	case prefixSample:
		v, ok = parseSampleKey(key)
	case prefixIndex:
		var e indexed
		e, ok = parseIndexKey(key)
		v = e.version
	case prefixSeen:
		if ok = len(key) > 9; ok {
			v = change.Version(binary.BigEndian.Uint64(key[1:]))
		}
	default:
		return 0, false, nil
	}
	if !ok {
		return 0, false, &CorruptError{What: "a key", Key: bytes.Clone(key)}
	}
	return v, true, nil
}
