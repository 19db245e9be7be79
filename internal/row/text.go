package row

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// OIDs of the PostgreSQL types that have a typed form here (pg_type.dat).
const (
	oidBool        = 16
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidFloat4      = 700
	oidFloat8      = 701
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidNumeric     = 1700
)

// Parse turns the text of a PostgreSQL value into a cell: typed if the cell
// renders to exactly the same text again, else as text. It never fails. The
// cell borrows text, except for a UUID, whose 16 bytes are new.
func Parse(oid uint32, text []byte) Cell {
	var p Parser
	return p.Parse(oid, text)
}

// Parser is Parse for many values: the bytes of its UUIDs are the Parser's, and the
// cells that have them are valid until Reset. The zero value is ready to use.
type Parser struct{ ids []byte }

// Reset makes the memory of the cells parsed so far free for others.
func (p *Parser) Reset() { p.ids = p.ids[:0] }

// Parse is the function Parse. Most types need no rendering to know that a value
// renders to its text again: their texts are checked to be as PostgreSQL writes them.
func (p *Parser) Parse(oid uint32, text []byte) Cell {
	asText := Cell{Kind: Text, Bytes: text}
	switch oid {
	case oidBool:
		switch string(text) {
		case "t":
			return Cell{Kind: True}
		case "f":
			return Cell{Kind: False}
		}
	case oidInt2, oidInt4, oidInt8:
		if v, ok := parseInt(text); ok {
			return Cell{Kind: Int, Int: v}
		}
	case oidFloat4, oidFloat8:
		// The shortest text of a float4 is exact as decimal text but not as a
		// float64 rendering; it is kept only where both agree.
		v, err := strconv.ParseFloat(string(text), 64)
		if c := (Cell{Kind: Float, Float: v}); err == nil && !math.IsNaN(v) && c.renders(text) {
			return c
		}
	case oidTimestamp:
		if v, ok := parseTimestamp(text); ok {
			return Cell{Kind: Timestamp, Int: v}
		}
	case oidTimestampTZ:
		if utc, ok := bytes.CutSuffix(text, []byte("+00")); ok {
			if v, ok := parseTimestamp(utc); ok {
				return Cell{Kind: TimestampTZ, Int: v}
			}
		}
	case oidDate:
		if d, ok := parseDay(text); ok && len(text) == 10 {
			return Cell{Kind: Date, Int: d}
		}
	case oidNumeric:
		if c, ok := parseDecimal(text); ok && c.renders(text) {
			return c
		}
	default:
		if len(text) != 36 {
			break
		}
		from := len(p.ids)
		if ids, ok := AppendUUID(p.ids, text); ok {
			p.ids = ids
			return Cell{Kind: UUID, Bytes: ids[from:len(ids):len(ids)]}
		}
	}
	return asText
}

// renders says whether the cell's text is the given one.
func (c *Cell) renders(text []byte) bool {
	var buf [64]byte
	return bytes.Equal(c.AppendText(buf[:0]), text)
}

// AppendText appends the value as PostgreSQL writes it. For Null and
// NotCaptured it appends nothing.
func (c *Cell) AppendText(dst []byte) []byte {
	switch c.Kind {
	case Text:
		return append(dst, c.Bytes...)
	case Int:
		return strconv.AppendInt(dst, c.Int, 10)
	case Float:
		return appendFloat(dst, c.Float)
	case Timestamp:
		return appendTimestamp(dst, c.Int)
	case TimestampTZ:
		return append(appendTimestamp(dst, c.Int), "+00"...)
	case Date:
		return time.Unix(c.Int*86400, 0).UTC().AppendFormat(dst, "2006-01-02")
	case True:
		return append(dst, 't')
	case False:
		return append(dst, 'f')
	case UUID:
		return appendUUID(dst, c.Bytes)
	case Decimal:
		return appendDecimal(dst, c.Int, c.Scale)
	}
	return dst
}

// String is the value's text, for keys, ids and tests.
func (c *Cell) String() string { return string(c.AppendText(nil)) }

// parseInt reads an int64 that is written as PostgreSQL writes integers.
func parseInt(text []byte) (int64, bool) {
	d, neg := text, false
	if len(d) > 0 && d[0] == '-' {
		d, neg = d[1:], true
	}
	if len(d) == 0 || len(d) > 19 || d[0] == '0' && len(text) > 1 {
		return 0, false
	}
	var u uint64 // 19 digits fit
	for _, c := range d {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	switch {
	case !neg:
		return int64(u), u <= math.MaxInt64
	default:
		return -int64(u), u <= 1<<63
	}
}

func digits(b []byte) (int64, bool) {
	var v int64
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		v = v*10 + int64(d-'0')
	}
	return v, true
}

// monthDays are the days of the months of a year that is no leap year.
var monthDays = [...]int64{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// parseDay reads YYYY-MM-DD at the beginning of b, years 0001 to 9999, as days
// since 1970-01-01.
func parseDay(b []byte) (int64, bool) {
	if len(b) < 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	y, ok1 := digits(b[:4])
	m, ok2 := digits(b[5:7])
	d, ok3 := digits(b[8:10])
	if !ok1 || !ok2 || !ok3 || y < 1 || m < 1 || m > 12 || d < 1 {
		return 0, false
	}
	last := monthDays[m-1]
	if m == 2 && y%4 == 0 && (y%100 != 0 || y%400 == 0) {
		last++
	}
	if d > last {
		return 0, false
	}
	return dayNumber(y, m, d), true
}

// dayNumber is the number of days from 1970-01-01 to a day of the proleptic
// Gregorian calendar, year 1 or later. Years are counted from March, so that the
// leap day is a year's last: 365 days a year, one more every 4, not every 100, every
// 400; and 153 days every five months.
func dayNumber(y, m, d int64) int64 {
	if m -= 3; m < 0 {
		m += 12
		y--
	}
	const epoch = 719468 // from 0000-03-01 to 1970-01-01
	return 365*y + y/4 - y/100 + y/400 + (153*m+2)/5 + d - 1 - epoch
}

// parseTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff] as µs since the epoch, written
// as PostgreSQL writes it: the fraction has no zero at its end. Leap seconds and
// 24:00:00 are left to the text form.
func parseTimestamp(b []byte) (int64, bool) {
	if len(b) < 19 || len(b) > 26 || b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	day, ok := parseDay(b)
	if !ok {
		return 0, false
	}
	h, ok1 := digits(b[11:13])
	m, ok2 := digits(b[14:16])
	s, ok3 := digits(b[17:19])
	if !ok1 || !ok2 || !ok3 || h > 23 || m > 59 || s > 59 {
		return 0, false
	}
	var micros int64
	if len(b) > 19 {
		if b[19] != '.' || len(b) == 20 || b[len(b)-1] == '0' {
			return 0, false
		}
		f, ok := digits(b[20:])
		if !ok {
			return 0, false
		}
		for range 26 - len(b) {
			f *= 10
		}
		micros = f
	}
	return ((day*24+h)*60+m)*60_000_000 + s*1_000_000 + micros, true
}

func appendTimestamp(dst []byte, micros int64) []byte {
	t := time.UnixMicro(micros).UTC()
	dst = t.AppendFormat(dst, "2006-01-02 15:04:05")
	f := t.Nanosecond() / 1000
	if f == 0 {
		return dst
	}
	dst = append(dst, '.')
	for div := 100_000; f > 0; div /= 10 {
		dst = append(dst, byte('0'+f/div))
		f %= div
	}
	return dst
}

// appendFloat writes the shortest form as float8out does: scientific when the
// exponent is below -4 or at least 15 (PostgreSQL 12 and newer, ryu).
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	}
	if a := math.Abs(f); a == 0 || a >= 1e-4 && a < 1e15 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// parseDecimal reads a number of at most 18 digits.
func parseDecimal(b []byte) (Cell, bool) {
	i, neg := 0, false
	if len(b) > 0 && b[0] == '-' {
		i, neg = 1, true
	}
	var v int64
	scale, point, n := uint32(0), false, 0
	for ; i < len(b); i++ {
		if b[i] == '.' && !point {
			point = true
			continue
		}
		if b[i] < '0' || b[i] > '9' || n == 18 {
			return Cell{}, false
		}
		v = v*10 + int64(b[i]-'0')
		n++
		if point {
			scale++
		}
	}
	if n == 0 {
		return Cell{}, false
	}
	if neg {
		v = -v
	}
	return Cell{Kind: Decimal, Int: v, Scale: scale}, true
}

func appendDecimal(dst []byte, v int64, scale uint32) []byte {
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	if scale == 0 {
		return strconv.AppendUint(dst, uint64(v), 10)
	}
	var buf [24]byte
	d := strconv.AppendUint(buf[:0], uint64(v), 10)
	if len(d) <= int(scale) {
		dst = append(dst, '0', '.')
		for range int(scale) - len(d) {
			dst = append(dst, '0')
		}
		return append(dst, d...)
	}
	dst = append(dst, d[:len(d)-int(scale)]...)
	dst = append(dst, '.')
	return append(dst, d[len(d)-int(scale):]...)
}

// AppendUUID appends the 16 bytes of a uuid in canonical form: 36 bytes, lower
// case. If text is none it returns false, and dst is to be thrown away.
func AppendUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	var id [16]byte
	bad := byte(0)
	for i, at := range uuidPlaces {
		hi, lo := nibbles[text[at]], nibbles[text[at+1]]
		bad |= hi | lo
		id[i] = hi<<4 | lo
	}
	if bad > 15 {
		return dst, false
	}
	return append(dst, id[:]...), true
}

// uuidPlaces is where the pairs of digits stand in a uuid's text.
var uuidPlaces = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// nibbles are the values of the lower-case hexadecimal digits, 255 for anything else.
var nibbles = func() (n [256]byte) {
	for i := range n {
		n[i] = 255
	}
	for v, c := range []byte("0123456789abcdef") {
		n[c] = byte(v)
	}
	return n
}()

func appendUUID(dst, id []byte) []byte {
	if len(id) != 16 {
		return dst
	}
	const digits = "0123456789abcdef"
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[b>>4], digits[b&15])
	}
	return dst
}
