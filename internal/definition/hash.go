package definition

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// canonical is what the hash is taken of, as JSON: the keys of objects are in
// the order of the types, or sorted where they are free.
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
	data, err := json.Marshal(c)
	if err != nil {
		// A definition holds strings, finite numbers and lists of them only.
		panic("marshal definition: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func byName[T any](list []T, name func(T) string) []T {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return list
}
