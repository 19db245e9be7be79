package featurestore

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
)

// catalog is what the store knows of tables and entity kinds. Numbers are given
// once and never again, columns are only ever added.
type catalog struct {
	// Definition is the hash of the definition in force.
	Definition string `json:"definition"`
	// Entities are the entity kinds; a kind's number is its place, from 1.
	Entities []string `json:"entities"`
	// Tables by number, from 1.
	Tables []catalogTable `json:"tables"`
}

type catalogTable struct {
	history.Table
	By string `json:"by,omitempty"`
}

// direct says that a row's place follows from its key: the table has no
// entity, or the column that tells it is part of the key.
func (t *catalogTable) direct() bool { return t.Entity == "" || slices.Contains(t.Key, t.By) }

// kind returns the number of an entity kind, noKind for "", -1 if there is none.
func (c *catalog) kind(entity string) int {
	if entity == "" {
		return noKind
	}
	if i := slices.Index(c.Entities, entity); i >= 0 {
		return i + 1
	}
	return -1
}

// keyParts gives the number of ids in a table's key, 0 for an unknown table.
func (c *catalog) keyParts(table uint16) int {
	if table == 0 || int(table) > len(c.Tables) {
		return 0
	}
	return len(c.Tables[table-1].Key)
}

func (c *catalog) table(name string) *catalogTable {
	for i := range c.Tables {
		if c.Tables[i].Name == name {
			return &c.Tables[i]
		}
	}
	return nil
}

func (c *catalog) encode() ([]byte, error) { return json.Marshal(c) }

func decodeCatalog(data []byte) (*catalog, error) {
	c := new(catalog)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read the store's catalog: %w", err)
	}
	for i := range c.Tables {
		if int(c.Tables[i].ID) != i+1 {
			return nil, &CorruptError{What: "a catalog with gaps", Key: metaKey(metaCatalog)}
		}
	}
	return c, nil
}

// adopt returns the catalog with the definition's tables and columns added,
// and whether that changed anything.
func (c *catalog) adopt(def *definition.Definition) (*catalog, bool, error) {
	out := &catalog{Definition: def.Hash, Entities: slices.Clone(c.Entities)}
	for _, t := range c.Tables {
		t.Columns = slices.Clone(t.Columns)
		out.Tables = append(out.Tables, t)
	}
	changed := c.Definition != def.Hash
	for _, e := range def.Entities {
		if out.kind(e.Name) < 0 {
			out.Entities = append(out.Entities, e.Name)
			changed = true
		}
	}
	if len(out.Entities) > math.MaxUint8 {
		return nil, false, fmt.Errorf("the definition names %d entities, the store holds at most %d", len(out.Entities), math.MaxUint8)
	}
	for i := range def.Tables {
		added, err := out.adoptTable(&def.Tables[i])
		if err != nil {
			return nil, false, err
		}
		changed = changed || added
	}
	return out, changed, nil
}

func (c *catalog) adoptTable(def *definition.Table) (changed bool, err error) {
	if len(def.Key) == 0 {
		return false, fmt.Errorf("table %s: the definition names no key column", def.Name)
	}
	if c.kind(def.Entity) < 0 {
		return false, fmt.Errorf("table %s: the definition does not list its entity %q", def.Name, def.Entity)
	}
	by := def.By
	if def.Entity == "" {
		by = ""
	}
	t := c.table(def.Name)
	if t == nil {
		if len(c.Tables) == math.MaxUint16 {
			return false, fmt.Errorf("table %s: the store has no number left for it", def.Name)
		}
		c.Tables = append(c.Tables, catalogTable{
			Table: history.Table{ID: uint16(len(c.Tables) + 1), Name: def.Name, Entity: def.Entity, Key: slices.Clone(def.Key)},
			By:    by,
		})
		t = &c.Tables[len(c.Tables)-1]
		changed = true
	}
	for _, x := range [...]struct{ what, have, want string }{
		{"entity", t.Entity, def.Entity},
		{"by", t.By, by},
		{"key", strings.Join(t.Key, ", "), strings.Join(def.Key, ", ")},
	} {
		if x.have != x.want {
			return false, &CatalogError{Table: def.Name, What: x.what, Have: x.have, Want: x.want}
		}
	}
	for _, col := range def.Columns {
		if t.Slot(col.Name) < 0 {
			t.Columns = append(t.Columns, col.Name)
			changed = true
		}
	}
	return changed, nil
}

// tables returns the tables as readers get them.
func (c *catalog) tables() []history.Table {
	out := make([]history.Table, len(c.Tables))
	for i := range c.Tables {
		out[i] = c.Tables[i].Table
	}
	return out
}

// sortedKeys returns a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
