package cdc

import (
	"encoding/binary"

	"dreamfeed/internal/change"
)

// columnBytes is the least that a column takes in a Relation message: flags, an
// empty name, type and modifier.
const columnBytes = 1 + 1 + 4 + 4

// decodeRelation decodes a Relation message. The result borrows nothing.
func decodeRelation(data []byte) (*change.Relation, error) {
	r := open(data, msgRelation)
	rel := &change.Relation{
		ID:      r.uint32("the table's OID"),
		Schema:  string(r.cstring("the schema's name")),
		Name:    string(r.cstring("the table's name")),
		Replica: r.uint8("the replica identity"),
	}
	if rel.Schema == "" && r.reason == "" {
		rel.Schema = "pg_catalog" // which pgoutput sends as an empty name
	}
	n := int(r.uint16("the number of columns"))
	if n*columnBytes > len(data)-r.at {
		r.fail("the number of columns does not fit the message")
	}
	if r.reason == "" && n > 0 {
		rel.Columns = make([]change.Column, n)
	}
	for i := range rel.Columns {
		rel.Columns[i] = change.Column{
			Key:      r.uint8("a column's flags")&1 != 0,
			Name:     string(r.cstring("a column's name")),
			Type:     r.uint32("a column's type"),
			Modifier: int32(r.uint32("a column's type modifier")),
		}
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	return rel, nil
}

// appendRelation appends rel as a Relation message, as pgoutput would send it.
func appendRelation(dst []byte, rel *change.Relation) []byte {
	dst = append(dst, msgRelation)
	dst = binary.BigEndian.AppendUint32(dst, rel.ID)
	if rel.Schema != "pg_catalog" {
		dst = append(dst, rel.Schema...)
	}
	dst = append(dst, 0)
	dst = append(dst, rel.Name...)
	dst = append(dst, 0, rel.Replica)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(rel.Columns)))
	for i := range rel.Columns {
		c := &rel.Columns[i]
		var flags byte
		if c.Key {
			flags = 1
		}
		dst = append(dst, flags)
		dst = append(dst, c.Name...)
		dst = append(dst, 0)
		dst = binary.BigEndian.AppendUint32(dst, c.Type)
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.Modifier))
	}
	return dst
}
