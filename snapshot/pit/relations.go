package pit

import (
	"slices"

	"dreamfeed/internal/history"
)

// RelatedKinds are the kinds of entity among which the definition finds rows by
// match. Those of which indexed is true are found by columns that are not the
// entity's id, so that whoever implements Related needs an index of them.
func (p *Program) RelatedKinds() (kinds []string, indexed map[string]bool) {
	indexed = map[string]bool{}
	for i := range p.relations {
		rel := &p.relations[i]
		kind := rel.table.def.Entity
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
		indexed[kind] = indexed[kind] || rel.byEntity < 0
	}
	return kinds, indexed
}

// Relations is the number of relations.
func (p *Program) Relations() int { return len(p.relations) }

// Relation is the kind of entity that a relation finds rows of. With byID the
// keys that Find is given are ids of such entities.
func (p *Program) Relation(relation int) (kind string, byID bool) {
	rel := &p.relations[relation]
	return rel.table.def.Entity, rel.byEntity >= 0
}

// KeyReader reads the keys by which entities are found. It is for one goroutine.
type KeyReader struct {
	program *Program
	keys    keyReader
}

// KeyReader returns a reader of keys.
func (p *Program) KeyReader() *KeyReader { return &KeyReader{program: p} }

// Each calls fn with every key that an entity of the kind has, or ever had, in a
// relation that does not go by its id. Keys may come several times; they are
// borrowed. It calls unsure with the moment of Related.Unsure, as far as the entity
// goes, for every such relation of the kind.
func (k *KeyReader) Each(kind string, e *history.Entity, fn func(relation int, key []byte), unsure func(relation int, until int64)) error {
	for n := range k.program.relations {
		rel := &k.program.relations[n]
		if rel.byEntity >= 0 || rel.table.def.Entity != kind {
			continue
		}
		until := int64(0)
		for i := range e.Rows {
			if e.Rows[i].Table != rel.table.info.ID {
				continue
			}
			row, err := k.keys.each(&e.Rows[i], rel, func(key []byte) { fn(n, key) })
			if err != nil {
				return err
			}
			until = max(until, row)
		}
		unsure(n, until)
	}
	return nil
}
