package cdc

import (
	"bytes"
	"fmt"

	"dreamfeed/internal/change"
)

// copyDecoder decodes lines of COPY … TO STDOUT in text format (PostgreSQL
// manual, "COPY", "Text Format": columns are divided by tabs, \N is NULL, and a
// backslash escapes b, f, n, r, t, v, octal and hexadecimal bytes). It keeps
// its memory between lines; the zero value is ready.
type copyDecoder struct {
	values []change.Value
	text   []byte // unescaped text of the current line
}

// copyLineType stands for a line of COPY text in a MessageError.
const copyLineType = 'c'

// decode decodes one line, with or without its newline, that must have the
// given number of columns. The values borrow line and the decoder until the
// next call. Only the kinds Null and Text occur.
func (d *copyDecoder) decode(line []byte, columns int) ([]change.Value, error) {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	d.values, d.text = d.values[:0], d.text[:0]
	if cap(d.text) < len(line) && bytes.IndexByte(line, '\\') >= 0 {
		// Unescaping never lengthens, so that what is cut from text below
		// does not move while the line is read.
		d.text = make([]byte, 0, len(line)+len(line)/4)
	}
	if columns == 0 && len(line) == 0 {
		return d.values, nil
	}
	for at := 0; ; {
		end := bytes.IndexByte(line[at:], '\t')
		if end < 0 {
			end = len(line)
		} else {
			end += at
		}
		if len(d.values) == columns {
			return nil, &MessageError{Type: copyLineType, Offset: at, Reason: fmt.Sprintf("the line has more than %d columns", columns)}
		}
		field := line[at:end:end]
		switch escape := bytes.IndexByte(field, '\\'); {
		case escape < 0:
			d.values = append(d.values, change.Value{Kind: change.Text, Text: field})
		case len(field) == 2 && field[1] == 'N':
			d.values = append(d.values, change.Value{Kind: change.Null})
		default:
			start := len(d.text)
			if bad := d.unescape(field); bad >= 0 {
				return nil, &MessageError{Type: copyLineType, Offset: at + bad, Reason: "a backslash ends the column"}
			}
			d.values = append(d.values, change.Value{Kind: change.Text, Text: d.text[start:len(d.text):len(d.text)]})
		}
		if end == len(line) {
			break
		}
		at = end + 1
	}
	if len(d.values) != columns {
		return nil, &MessageError{Type: copyLineType, Offset: len(line), Reason: fmt.Sprintf("the line has %d columns, want %d", len(d.values), columns)}
	}
	return d.values, nil
}

// unescape appends field to d.text without its escapes. It returns the place of
// a backslash that escapes nothing, or -1.
func (d *copyDecoder) unescape(field []byte) int {
	for i := 0; i < len(field); {
		next := bytes.IndexByte(field[i:], '\\')
		if next < 0 {
			d.text = append(d.text, field[i:]...)
			break
		}
		d.text = append(d.text, field[i:i+next]...)
		i += next + 1
		if i == len(field) {
			return i - 1
		}
		c := field[i]
		i++
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'v':
			c = '\v'
		case 'x':
			if v, n := number(field[i:], 16, 2); n > 0 {
				c = v
				i += n
			}
		case '0', '1', '2', '3', '4', '5', '6', '7':
			v, n := number(field[i-1:], 8, 3)
			c = v
			i += n - 1
		}
		d.text = append(d.text, c)
	}
	return -1
}

// number reads up to limit digits of the base at the start of b; as in
// PostgreSQL, an octal number above 255 loses its high bits.
func number(b []byte, base, limit int) (value byte, n int) {
	for n < limit && n < len(b) {
		var digit byte
		switch c := b[n]; {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			digit = c - 'A' + 10
		default:
			return value, n
		}
		if int(digit) >= base {
			return value, n
		}
		value = value*byte(base) + digit
		n++
	}
	return value, n
}
