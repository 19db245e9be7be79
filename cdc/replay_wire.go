package cdc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// A passage of a stream goes to another process as records, which whoever
// carries them keeps apart and whole:
//
//	'P' | JSON of Passage                          first: what follows
//	'M' | sequence uvarint | the message           as it is stored
//	'F' | JSON of what is wrong                    in place of what is missing
const (
	wirePassage = 'P'
	wireMessage = 'M'
	wireFault   = 'F'
)

// AppendPassage appends the record that begins a passage.
func AppendPassage(dst []byte, p Passage) []byte {
	text, _ := json.Marshal(p) // of a text and numbers: it cannot fail
	return append(append(dst, wirePassage), text...)
}

// AppendMessage appends the record of a message.
func AppendMessage(dst []byte, m Message) []byte {
	dst = binary.AppendUvarint(append(dst, wireMessage), m.Sequence)
	return append(dst, m.Data...)
}

// streamFault is an error of a stream on its way to another process. One of its
// fields is set.
type streamFault struct {
	Gap         *GapError         `json:"gap,omitempty"`
	Tail        *LostTailError    `json:"tail,omitempty"`
	Other       *OtherStreamError `json:"other,omitempty"`
	Incarnation *IncarnationError `json:"incarnation,omitempty"`
}

// AppendFault appends the record of an error of Follows or Messages; ok is false,
// and nothing is appended, for one that a reader need not tell apart.
func AppendFault(dst []byte, err error) (_ []byte, ok bool) {
	var f streamFault
	if !errors.As(err, &f.Gap) && !errors.As(err, &f.Tail) && !errors.As(err, &f.Other) && !errors.As(err, &f.Incarnation) {
		return dst, false
	}
	text, _ := json.Marshal(f) // of texts and numbers: it cannot fail
	return append(append(dst, wireFault), text...), true
}

// errWire refuses a record that is none of the above.
var errWire = errors.New("read the stream of another process: a record is malformed")

// ReadPassage reads the record that begins a passage. The error is that of the
// record, if it tells of one.
func ReadPassage(record []byte) (p Passage, err error) {
	if len(record) == 0 || record[0] != wirePassage {
		return Passage{}, readFault(record)
	}
	if json.Unmarshal(record[1:], &p) != nil || p.Last < p.After || p.Incarnation == 0 {
		return Passage{}, errWire
	}
	return p, nil
}

// ReadMessage reads the record of a message, which borrows it. The error is that
// of the record, if it tells of one.
func ReadMessage(record []byte) (Message, error) {
	if len(record) == 0 || record[0] != wireMessage {
		return Message{}, readFault(record)
	}
	sequence, n := binary.Uvarint(record[1:])
	if n <= 0 {
		return Message{}, errWire
	}
	return Message{Sequence: sequence, Data: record[1+n:]}, nil
}

func readFault(record []byte) error {
	if len(record) == 0 || record[0] != wireFault {
		return errWire
	}
	var f streamFault
	if err := json.Unmarshal(record[1:], &f); err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	switch {
	case f.Gap != nil:
		return f.Gap
	case f.Tail != nil:
		return f.Tail
	case f.Other != nil:
		return f.Other
	case f.Incarnation != nil:
		return f.Incarnation
	}
	return errWire
}
