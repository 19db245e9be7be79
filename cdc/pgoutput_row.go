package cdc

import (
	"encoding/binary"
	"fmt"

	"dreamfeed/internal/change"
)

// Marks of a tuple in a row message.
const (
	tupleNew = 'N'
	tupleKey = 'K' // old values of the replica identity's columns
	tupleOld = 'O' // the whole old row, under REPLICA IDENTITY FULL
)

// truncateBytes is the size of a Truncate message of one table.
const truncateBytes = 1 + 4 + 1 + 4

// rowRelation returns the OID of the table that an Insert, Update, Delete or
// single-table Truncate message is about.
func rowRelation(data []byte) (uint32, error) {
	if len(data) == 0 {
		return 0, &MessageError{Reason: "the message is empty"}
	}
	switch data[0] {
	case msgInsert, msgUpdate, msgDelete:
		if len(data) >= 5 {
			return binary.BigEndian.Uint32(data[1:]), nil
		}
	case msgTruncate:
		if len(data) == truncateBytes && binary.BigEndian.Uint32(data[1:]) == 1 {
			return binary.BigEndian.Uint32(data[6:]), nil
		}
		return 0, &MessageError{Type: data[0], Offset: 1, Reason: "want exactly one table"}
	default:
		return 0, &MessageError{Type: data[0], Reason: "this is no row message"}
	}
	return 0, &MessageError{Type: data[0], Offset: 1, Reason: "the table's OID is cut short"}
}

// decodeRow decodes an Insert, Update, Delete or single-table Truncate message
// of table rel into row, whose Relation, Op, Old, OldFull and New it sets (the
// ordinal is left alone). Values are appended to arena, of which row.Old and
// row.New are parts; the extended arena is returned. The values' text borrows
// data. The message must have as many columns as rel.
func decodeRow(data []byte, rel *change.Relation, row *change.Row, arena []change.Value) ([]change.Value, error) {
	row.Relation, row.Old, row.New, row.OldFull = rel, nil, nil, false
	w, err := walkRow(data, rel, arena, true)
	if err != nil {
		return arena, err
	}
	row.Op, row.OldFull = change.Op(data[0]), w.oldFull
	first, n := len(arena), len(rel.Columns)
	if w.arena == nil {
		w.arena = []change.Value{} // old and new rows that were sent are never nil
	}
	if w.hasOld {
		row.Old = w.arena[first : first+n : first+n]
		first += n
	}
	if w.hasNew {
		row.New = w.arena[first : first+n : first+n]
	}
	return w.arena, nil
}

// checkRow says whether decodeRow would take the message, without allocating.
func checkRow(data []byte, rel *change.Relation) error {
	_, err := walkRow(data, rel, nil, false)
	return err
}

// rowWalk is what walkRow found.
type rowWalk struct {
	arena                   []change.Value
	hasOld, oldFull, hasNew bool
}

// walkRow checks a row message and, when keep is set, appends its values to
// arena: the old ones and then the new ones.
func walkRow(data []byte, rel *change.Relation, arena []change.Value, keep bool) (rowWalk, error) {
	w := rowWalk{arena: arena}
	id, err := rowRelation(data)
	if err != nil {
		return w, err
	}
	if id != rel.ID {
		return w, &MessageError{
			Type: data[0], Offset: 1,
			Reason: fmt.Sprintf("the message is about table %d, not about %s.%s with OID %d", id, rel.Schema, rel.Name, rel.ID),
		}
	}
	at, reason, op := 5, "", data[0]
	if op == msgTruncate {
		return w, nil
	}
	mark := func() byte {
		if at >= len(data) {
			return 0
		}
		at++
		return data[at-1]
	}
	tuple := func() {
		w.arena, at, reason = walkTuple(data, at, len(rel.Columns), w.arena, keep)
	}
	m := mark()
	if op != msgInsert && (m == tupleKey || m == tupleOld) {
		w.hasOld, w.oldFull = true, m == tupleOld
		tuple()
		if op == msgUpdate && reason == "" {
			m = mark()
		}
	}
	switch {
	case reason != "":
	case op == msgDelete:
		if !w.hasOld {
			reason = "a Delete needs a key or an old row"
		}
	case m != tupleNew:
		reason = "the new row is missing"
	default:
		w.hasNew = true
		tuple()
	}
	if reason == "" && at != len(data) {
		reason = fmt.Sprintf("%d bytes left over", len(data)-at)
	}
	if reason != "" {
		return w, &MessageError{Type: op, Offset: at, Reason: reason}
	}
	return w, nil
}

// walkTuple reads a tuple of n columns at data[at:]. It returns the place
// behind it, or the place and reason of a fault.
func walkTuple(data []byte, at, n int, arena []change.Value, keep bool) ([]change.Value, int, string) {
	if len(data)-at < 2 {
		return arena, at, "the number of columns is cut short"
	}
	if got := int(binary.BigEndian.Uint16(data[at:])); got != n {
		return arena, at, fmt.Sprintf("the row has %d columns, its table %d", got, n)
	}
	at += 2
	for range n {
		if at >= len(data) {
			return arena, at, "a column is missing"
		}
		kind := data[at]
		switch kind {
		case 't':
			if len(data)-at < 5 {
				return arena, at, "a column's length is cut short"
			}
			size := binary.BigEndian.Uint32(data[at+1:])
			if uint64(size) > uint64(len(data)-at-5) {
				return arena, at, "a column is cut short"
			}
			start := at + 5
			at = start + int(size)
			if keep {
				arena = append(arena, change.Value{Kind: change.Text, Text: data[start:at:at]})
			}
		case 'n', 'u':
			at++
			if keep {
				arena = append(arena, change.Value{Kind: change.ValueKind(kind)})
			}
		case 'b':
			return arena, at, "a column is in binary format: replication must be started with the text format"
		default:
			return arena, at, "a column has an unknown kind"
		}
	}
	return arena, at, ""
}

// appendInsert appends an Insert message with values, one for each column of
// the table.
func appendInsert(dst []byte, relation uint32, values []change.Value) []byte {
	dst = append(dst, msgInsert)
	dst = binary.BigEndian.AppendUint32(dst, relation)
	dst = append(dst, tupleNew)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for i := range values {
		v := &values[i]
		dst = append(dst, byte(v.Kind))
		if v.Kind == change.Text {
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Text)))
			dst = append(dst, v.Text...)
		}
	}
	return dst
}

// appendTruncate appends a Truncate message of one table.
func appendTruncate(dst []byte, relation uint32, options byte) []byte {
	dst = append(dst, msgTruncate)
	dst = binary.BigEndian.AppendUint32(dst, 1)
	dst = append(dst, options)
	return binary.BigEndian.AppendUint32(dst, relation)
}
