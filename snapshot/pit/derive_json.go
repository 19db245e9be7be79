package pit

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"dreamfeed/internal/definition"
)

// element takes an element of a vector. The vector is read once; clipping is
// left to the cleaning of the dataset.
func (c *compiler) element(e *definition.Element, o output) (derive, error) {
	of, err := c.ref(e.From)
	if err != nil {
		return nil, err
	}
	if of.source == fromDerived {
		return nil, fmt.Errorf("%s is no source column", e.From)
	}
	if e.Index < 0 || e.Index >= e.Length {
		return nil, fmt.Errorf("element %d lies outside an array of %d", e.Index, e.Length)
	}
	index, length := e.Index, e.Length
	o.clip = nil
	get := c.fromCell(of, "vector\x00"+strconv.Itoa(length), func(v *version, m *memo, text []byte) {
		list := v.mem.floats.take(length)
		if plainNumbers(text, list) {
			m.list = list
			return
		}
		b := validJSON(text)
		if b == nil {
			m.fault = notJSON
			return
		}
		count := 0
		if !jsonElements(b, func(int, []byte) { count++ }) || count != length {
			m.fault = vectorLength
			return
		}
		jsonElements(b, func(i int, element []byte) {
			f, ok := jsonNumber(element)
			if !ok {
				f = math.NaN()
			}
			list[i] = f
		})
		m.list = list
	})
	return func(j *Joiner, out *Value) fault {
		m := get(j)
		if m == nil || m.list == nil {
			if m != nil {
				return m.fault
			}
			return ""
		}
		return o.setFloat(out, m.list[index])
	}, nil
}

// Parts of what a bound's object is read into.
const (
	boundMin = 1 << iota // a numeric min
	boundMax
	badMin // a min that is no number
	badMax
)

func (c *compiler) bound(b *definition.Bound, o output) (derive, error) {
	var refs []operand
	err := c.any(func() error {
		for _, r := range b.Of {
			of, err := c.ref(r)
			if err != nil {
				return err
			}
			refs = append(refs, of)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var gets []func(*Joiner) *memo
	for i, of := range refs {
		if of.source == fromDerived {
			return nil, fmt.Errorf("%s is no source column", b.Of[i])
		}
		gets = append(gets, c.fromCell(of, "bound", func(v *version, m *memo, text []byte) {
			b := validJSON(text)
			if b == nil {
				m.fault = notJSON
				return
			}
			if b[0] != '{' && !isNull(b) {
				m.fault = notANumber
				return
			}
			m.list = v.mem.floats.take(2)
			for i, name := range [...]string{"min", "max"} {
				value := jsonMember(b, name)
				f, ok := jsonNumber(value)
				switch {
				case ok:
					m.list[i] = f
					m.value.Int |= boundMin << i
				case value != nil && !isNull(value):
					m.value.Int |= badMin << i
				}
			}
		}))
	}
	take, good, bad := 0, int64(boundMin), int64(badMin)
	switch b.Take {
	case "min":
	case "max":
		take, good, bad = 1, boundMax, badMax
	default:
		return nil, fmt.Errorf("takes %q: want min or max", b.Take)
	}
	return func(j *Joiner, out *Value) (fault fault) {
		for _, get := range gets {
			m := get(j)
			if m == nil {
				continue
			}
			flags := m.value.Int
			if flags&(boundMin|boundMax) == 0 {
				if fault == "" {
					fault = m.fault
				}
				if fault == "" && flags != 0 {
					fault = notANumber
				}
				continue
			}
			hasMin, hasMax := flags&boundMin != 0, flags&boundMax != 0
			switch {
			case hasMin && m.list[0] < 0, hasMax && m.list[1] < 0:
				return negative
			case hasMin && hasMax && m.list[0] > m.list[1]:
				return minOverMax
			case flags&good != 0:
				return o.setFloat(out, m.list[take])
			case flags&bad != 0:
				return notANumber
			}
			return ""
		}
		return fault
	}, nil
}

func (c *compiler) total(t *definition.Total, o output) (derive, error) {
	of, err := c.ref(t.Of)
	if err != nil {
		return nil, err
	}
	if of.source == fromDerived {
		return nil, fmt.Errorf("%s is no source column", t.Of)
	}
	isJSON := of.typ == definition.JSON
	get := c.fromCell(of, "total\x00"+strings.Join(t.Parts, "\x00"), func(_ *version, m *memo, text []byte) {
		if !isJSON {
			var ok bool
			if m.value.Int, ok = digitCount(string(text)); !ok {
				m.fault = notACount
				return
			}
			m.value.Valid = true
			return
		}
		b := validJSON(text)
		if b == nil {
			m.fault = notJSON
			return
		}
		if isNull(b) {
			return
		}
		n, ok := totalOf(b, t.Parts)
		if !ok {
			m.fault = notACount
			return
		}
		m.value = Value{Valid: true, Int: n}
	})
	return func(j *Joiner, out *Value) fault {
		m := get(j)
		if m == nil || !m.value.Valid {
			if m != nil {
				return m.fault
			}
			return ""
		}
		return o.setInt(out, m.value.Int)
	}, nil
}

// totalOf reads a count: a number, a string of digits, or the sum of parts.
func totalOf(b []byte, parts []string) (int64, bool) {
	switch b[0] {
	case '"':
		s, _ := jsonString(b)
		return digitCount(s)
	case '{':
		var total int64
		found := false
		for _, name := range parts {
			value := jsonMember(b, name)
			if value == nil || isNull(value) {
				continue
			}
			n, ok := jsonCount(value)
			if !ok || total > math.MaxInt64-n {
				return 0, false
			}
			total += n
			found = true
		}
		return total, found
	}
	return jsonCount(b)
}
