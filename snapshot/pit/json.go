package pit

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// The functions here walk a JSON text without building a tree. Whether the
// text is JSON at all is left to encoding/json; what walks it may then rely on
// its grammar, and yet checks every bound.

// validJSON returns the text without surrounding space, nil if it is no JSON.
// JSON is UTF-8 (RFC 8259 §8.1); encoding/json takes other bytes for U+FFFD, so
// that two names could be one.
func validJSON(b []byte) []byte {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil
	}
	b = b[space(b, 0):]
	return b[:valueEnd(b, 0)]
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns where the value that begins at i ends.
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
			if depth == 0 {
				return min(i, len(b))
			}
		case '[', '{':
			depth++
			i++
		case ']', '}':
			if depth == 0 { // the end of what the value stands in
				return i
			}
			depth--
			i++
			if depth == 0 {
				return i
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
		default:
			i++
		}
	}
	return len(b)
}

// jsonElements calls fn with each element of an array, and says whether the
// value is one.
func jsonElements(b []byte, fn func(i int, element []byte)) bool {
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	for i, n := space(b, 1), 0; i < len(b) && b[i] != ']'; n++ {
		end := valueEnd(b, i)
		fn(n, b[i:end])
		i = space(b, end)
		if i < len(b) && b[i] == ',' {
			i = space(b, i+1)
		}
	}
	return true
}

// jsonMember returns the value of an object's member, nil if it has none. Of
// several the last counts, as in jsonb.
func jsonMember(b []byte, name string) (value []byte) {
	if len(b) == 0 || b[0] != '{' {
		return nil
	}
	for i := space(b, 1); i < len(b) && b[i] == '"'; {
		end := valueEnd(b, i)
		key := b[i:end]
		i = space(b, end)
		if i >= len(b) || b[i] != ':' {
			return value
		}
		i = space(b, i+1)
		end = valueEnd(b, i)
		if jsonIs(key, name) {
			value = b[i:end]
		}
		i = space(b, end)
		if i < len(b) && b[i] == ',' {
			i = space(b, i+1)
		}
	}
	return value
}

// jsonIs says whether a quoted JSON string is the text.
func jsonIs(quoted []byte, text string) bool {
	inner := quoted[1:max(1, len(quoted)-1)]
	for _, c := range inner {
		if c == '\\' {
			s, ok := jsonString(quoted)
			return ok && s == text
		}
	}
	return string(inner) == text
}

// jsonString reads a quoted JSON string.
func jsonString(b []byte) (string, bool) {
	if len(b) == 0 || b[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(b, &s)
	return s, err == nil
}

// jsonNumber reads a finite number.
func jsonNumber(b []byte) (float64, bool) {
	if len(b) == 0 || b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// plainNumbers reads an array of exactly so many numbers, such as [0.25, -1, 3],
// as vectors mostly are. It returns false for anything that is not plain, which
// need not be wrong.
func plainNumbers(b []byte, list []float64) bool {
	if len(b) < 2 || b[0] != '[' || b[len(b)-1] != ']' {
		return false
	}
	b = b[1 : len(b)-1]
	for i := range list {
		if i > 0 {
			if len(b) < 2 || b[0] != ',' {
				return false
			}
			if b = b[1:]; b[0] == ' ' {
				b = b[1:]
			}
		}
		f, n := plainNumber(b)
		if n == 0 {
			return false
		}
		list[i], b = f, b[n:]
	}
	return len(b) == 0
}

// tens are powers of ten that a float holds exactly.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// plainNumber reads a number without exponent and of at most 15 digits at the
// beginning of b: its digits and the power of ten that divides them are floats
// exactly, so that the quotient is the nearest float to it (Clinger's fast path).
// size is 0 for anything else.
func plainNumber(b []byte) (f float64, size int) {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	first, digits, point := i, int64(0), -1
	for ; i < len(b); i++ {
		c := b[i]
		if c == '.' && point < 0 {
			point = i
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		if digits = digits*10 + int64(c-'0'); i-first > 15 {
			return 0, 0
		}
	}
	whole, places := i-first, 0
	if point >= 0 {
		whole, places = point-first, i-point-1
		if places == 0 {
			return 0, 0
		}
	}
	switch {
	case whole == 0, whole > 1 && b[first] == '0', digits >= 1e15, i < len(b) && b[i]|0x20 == 'e':
		return 0, 0
	}
	if f = float64(digits) / tens[places]; first > 0 {
		f = -f
	}
	return f, i
}

// jsonCount reads a whole number ≥ 0.
func jsonCount(b []byte) (int64, bool) {
	f, ok := jsonNumber(b)
	if !ok || f < 0 || f != math.Trunc(f) || f >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// digitCount reads a text of ASCII digits.
func digitCount(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func isNull(b []byte) bool { return string(b) == "null" }
