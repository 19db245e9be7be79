package pit

import (
	"bytes"
	"slices"
	"strings"
)

// parseArray reads PostgreSQL's text form of a one-dimensional array, such as
// {A,"b c",NULL}, and calls add for each element that is not NULL. It says
// whether the text was one; elements seen before a fault were added already.
func parseArray(b []byte, add func([]byte)) bool {
	if len(b) > 0 && b[0] == '[' { // bounds other than 1, such as [0:2]={a,b,c}
		_, rest, ok := bytes.Cut(b, []byte("="))
		if !ok {
			return false
		}
		b = rest
	}
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return false
	}
	b = b[1 : len(b)-1]
	if len(b) == 0 {
		return true
	}
	var buf []byte
	for {
		if len(b) > 0 && b[0] == '"' {
			buf = buf[:0]
			i := 1
			for ; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
					if i == len(b) {
						return false
					}
				}
				buf = append(buf, b[i])
			}
			if i >= len(b) {
				return false
			}
			add(buf)
			b = b[i+1:]
		} else {
			end := bytes.IndexByte(b, ',')
			if end < 0 {
				end = len(b)
			}
			element := b[:end]
			// PostgreSQL quotes an element with any of these.
			if len(element) == 0 || bytes.ContainsAny(element, `{}"\`) {
				return false
			}
			if !strings.EqualFold(string(element), "NULL") {
				add(element)
			}
			b = b[end:]
		}
		if len(b) == 0 {
			return true
		}
		if b[0] != ',' {
			return false
		}
		b = b[1:]
	}
}

// joined is the distinct elements of an array's text, sorted by bytes, joined
// by commas.
func joined(b []byte) (string, bool) {
	var elements []string
	if !parseArray(b, func(e []byte) { elements = append(elements, string(e)) }) {
		return "", false
	}
	slices.Sort(elements)
	return strings.Join(slices.Compact(elements), ","), true
}
