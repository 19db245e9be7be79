package pit

import (
	"strconv"

	"dreamfeed/internal/definition"
)

// path compiles the text of a column, or of a field of a JSON object in it,
// for a gate that compares it among examples.
func (c *compiler) path(name string, rule, index int, p definition.Path) error {
	of, err := c.ref(p.Ref)
	if err != nil {
		return err
	}
	out := func(j *Joiner) *Value { return &j.ex.Uniform[rule][index] }
	if of.source == fromDerived {
		c.order = append(c.order, step{name: name, run: func(j *Joiner) fault {
			text, ok := of.appendText(j, j.left[:0])
			j.left = text[:0]
			if ok {
				*out(j) = Value{Valid: true, Text: j.texts.string(text)}
			}
			return ""
		}})
		return nil
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
	c.order = append(c.order, step{name: name, run: func(j *Joiner) fault {
		if m := get(j); m != nil {
			*out(j) = m.value
		}
		return ""
	}})
	return nil
}
