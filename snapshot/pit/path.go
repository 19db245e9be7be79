package pit

import (
	"strconv"

	"dreamfeed/internal/definition"
)

// path compiles the text of a column, or of a field of a JSON object in it,
// for a gate that compares it among examples.
func (c *compiler) path(name string, p definition.Path) error {
	s := step{name: name, out: len(c.p.def.Columns) + len(c.p.def.Values) + c.paths}
	c.paths++
	rests, err := c.resting(func() (err error) {
		s.derive, err = c.text(p)
		return err
	})
	if err != nil {
		return err
	}
	c.steady(&s, rests)
	c.order = append(c.order, s)
	return nil
}

func (c *compiler) text(p definition.Path) (derive, error) {
	of, err := c.ref(p.Ref)
	if err != nil {
		return nil, err
	}
	if of.source == fromDerived {
		return func(j *Joiner, out *Value) fault {
			text, ok := of.appendText(j, j.left[:0])
			j.left = text[:0]
			if ok {
				*out = Value{Valid: true, Text: j.texts.string(text)}
			}
			return ""
		}, nil
	}
	get := c.once(of, "path\x00"+strconv.Itoa(of.slot)+"\x00"+p.Field, func(j *Joiner, v *version, m *memo) {
		cell, _ := j.cell(v, of.slot)
		if !present(cell) {
			return
		}
		text := cell.AppendText(j.right[:0])
		j.right = text[:0]
		if p.Field != "" {
			b := validJSON(text)
			if b == nil {
				return
			}
			if text = jsonMember(b, p.Field); text == nil || isNull(text) {
				return
			}
			if s, ok := jsonString(text); ok {
				m.value = Value{Valid: true, Text: s}
				return
			}
		}
		m.value = Value{Valid: true, Text: j.texts.string(text)}
	})
	return func(j *Joiner, out *Value) fault {
		if m := get(j); m != nil {
			*out = m.value
		}
		return ""
	}, nil
}
