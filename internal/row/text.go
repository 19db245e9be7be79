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
	asText := Cell{Kind: Text, Bytes: text}
	c := asText
	switch oid {
	case oidBool:
		switch string(text) {
		case "t":
			return Cell{Kind: True}
		case "f":
			return Cell{Kind: False}
		}
		return asText
	case oidInt2, oidInt4, oidInt8:
		v, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return asText
		}
		c = Cell{Kind: Int, Int: v}
	case oidFloat4, oidFloat8:
		// The shortest text of a float4 is exact as decimal text but not as a
		// float64 rendering; it is kept only where both agree.
		v, err := strconv.ParseFloat(string(text), 64)
		if err != nil || math.IsNaN(v) {
			return asText
		}
		c = Cell{Kind: Float, Float: v}
	case oidTimestamp:
		v, ok := parseTimestamp(text)
		if !ok {
			return asText
		}
		c = Cell{Kind: Timestamp, Int: v}
	case oidTimestampTZ:
		if !bytes.HasSuffix(text, []byte("+00")) {
			return asText
		}
		v, ok := parseTimestamp(text[:len(text)-3])
		if !ok {
			return asText
		}
		c = Cell{Kind: TimestampTZ, Int: v}
	case oidDate:
		if len(text) != 10 {
			return asText
		}
		d, ok := parseDay(text)
		if !ok {
			return asText
		}
		c = Cell{Kind: Date, Int: d}
	case oidNumeric:
		var ok bool
		if c, ok = parseDecimal(text); !ok {
			return asText
		}
	default:
		if len(text) != 36 {
			return asText
		}
		id, ok := AppendUUID(make([]byte, 0, 16), text)
		if !ok {
			return asText
		}
		return Cell{Kind: UUID, Bytes: id}
	}
	var buf [64]byte
	if !bytes.Equal(c.AppendText(buf[:0]), text) {
		return asText
	}
	return c
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

// parseDay reads YYYY-MM-DD, years 0001 to 9999, as days since 1970-01-01.
func parseDay(b []byte) (int64, bool) {
	if len(b) < 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	y, ok1 := digits(b[:4])
	m, ok2 := digits(b[5:7])
	d, ok3 := digits(b[8:10])
	if !ok1 || !ok2 || !ok3 || y < 1 || m < 1 || m > 12 || d < 1 || d > 31 {
		return 0, false
	}
	t := time.Date(int(y), time.Month(m), int(d), 0, 0, 0, 0, time.UTC)
	if t.Day() != int(d) {
		return 0, false
	}
	return t.Unix() / 86400, true
}

// parseTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff] as µs since the epoch.
// Leap seconds and 24:00:00 are left to the text form.
func parseTimestamp(b []byte) (int64, bool) {
	if len(b) < 19 || len(b) > 26 || b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	day, ok := parseDay(b[:10])
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
		if b[19] != '.' || len(b) == 20 {
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
	for _, part := range uuidParts {
		for i := part.from; i < part.to; i += 2 {
			hi, lo := nibble(text[i]), nibble(text[i+1])
			if hi|lo > 15 {
				return dst, false
			}
			dst = append(dst, hi<<4|lo)
		}
	}
	return dst, true
}

// uuidParts are the runs of digits in a uuid's text.
var uuidParts = [...]struct{ from, to int }{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}}

// nibble is the value of a lower-case hexadecimal digit, 255 for anything else.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

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
