package definition

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// canonical is what the hash is taken of: its JSON, without empty members, the
// keys of each object sorted.
type canonical struct {
	Format     int
	Zone       string
	Definition Definition
}

// hash returns the hex SHA-256 of the canonical form. Lists whose order means
// nothing are sorted by name; that of columns, values, outcomes, needs and
// charts means something.
func hash(d *Definition) string {
	c := canonical{Format: Format, Zone: d.Zone.String(), Definition: *d}
	c.Definition.Entities = byName(d.Entities, func(e Entity) string { return e.Name })
	c.Definition.Maps = byName(d.Maps, func(m Map) string { return m.Name })
	c.Definition.Rows = byName(d.Rows, func(r Row) string { return r.Name })
	c.Definition.Tables = byName(d.Tables, func(t Table) string { return t.Name })
	for i := range c.Definition.Tables {
		t := &c.Definition.Tables[i]
		t.Columns = byName(t.Columns, func(c SourceColumn) string { return c.Name })
	}
	if slices.Equal(d.Labels.Recall, DefaultRecall()) {
		c.Definition.Labels.Recall = nil // as if it were not named
	}
	sum := sha256.Sum256(encode(prune(decode(encode(c)))))
	return hex.EncodeToString(sum[:])
}

// prune takes the empty members out of objects, so that a program that knows
// more keys gives a file that has none of them the hash that it had. Numbers
// stay: in a bin, zero is not an open end.
func prune(v any) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = prune(x[i])
		}
	case map[string]any:
		for key, member := range x {
			switch m := prune(member).(type) {
			case nil:
				delete(x, key)
			case string:
				if m == "" {
					delete(x, key)
				}
			case bool:
				if !m {
					delete(x, key)
				}
			case []any:
				if len(m) == 0 {
					delete(x, key)
				}
			case map[string]any:
				if len(m) == 0 {
					delete(x, key)
				}
			}
		}
	}
	return v
}

// encode and decode are JSON of what a definition holds: strings, finite
// numbers, and lists and maps of them, which cannot fail.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("marshal definition: " + err.Error())
	}
	return data
}

func decode(data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // as they are written
	var v any
	if err := d.Decode(&v); err != nil {
		panic("unmarshal definition: " + err.Error())
	}
	return v
}

func byName[T any](list []T, name func(T) string) []T {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return list
}
