package cdc

import (
	"encoding/binary"

	"dreamfeed/internal/change"
)

// A scope record is low u64 | tables uvarint | (schema, name) × tables, each a
// text with its length as uvarint before it.

// appendScope appends the payload of a scope record.
func appendScope(dst []byte, s change.Scope) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Low))
	dst = binary.AppendUvarint(dst, uint64(len(s.Tables)))
	for _, t := range s.Tables {
		for _, text := range [...]string{t.Schema, t.Name} {
			dst = binary.AppendUvarint(dst, uint64(len(text)))
			dst = append(dst, text...)
		}
	}
	return dst
}

// decodeScope reads what appendScope wrote; ok is false for anything else.
func decodeScope(p []byte) (s *change.Scope, ok bool) {
	if len(p) < 8 {
		return nil, false
	}
	s = &change.Scope{Low: change.Version(binary.LittleEndian.Uint64(p))}
	p = p[8:]
	count, n := binary.Uvarint(p)
	// A table takes at least the two lengths.
	if n <= 0 || count == 0 || count > uint64(len(p)-n)/2 {
		return nil, false
	}
	p = p[n:]
	text := func() string {
		size, n := binary.Uvarint(p)
		if n <= 0 || size > uint64(len(p)-n) {
			ok = false
			return ""
		}
		t := string(p[n : n+int(size)])
		p = p[n+int(size):]
		return t
	}
	ok = true
	for range count {
		t := change.Table{Schema: text(), Name: text()}
		if !ok {
			return nil, false
		}
		s.Tables = append(s.Tables, t)
	}
	return s, len(p) == 0
}

// scopeOf is the scope of a reading of tables behind version low.
func scopeOf(tables []*sourceTable, low change.Version) change.Scope {
	s := change.Scope{Low: low}
	for _, t := range tables {
		s.Tables = append(s.Tables, change.Table{Schema: t.Schema, Name: t.Name})
	}
	return s
}
