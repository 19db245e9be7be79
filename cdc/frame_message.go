package cdc

import (
	"context"
	"encoding/binary"
	"hash/crc32"

	"dreamfeed/internal/change"
)

// The part of messageWriter that builds a message out of records.

// rowRoom is what a row's record of the given size may take in the message
// being built, with all that may have to go with it.
func (w *messageWriter) rowRoom(rel *writerRelation, record int) int {
	n := record + recordOverhead + endBytes + trailerBytes
	if !w.tx.begun {
		n += recordOverhead + beginBytes
	}
	if rel.message != w.message {
		n += recordOverhead + len(rel.raw)
	}
	return n
}

// room emits the message being built if n more bytes would lift it over the
// target.
func (w *messageWriter) room(ctx context.Context, n int) error {
	if w.buf == nil || len(w.buf)+n <= w.cfg.TargetBytes {
		return nil
	}
	return w.flushMessage(ctx)
}

// start makes sure that there is a message to add to, and counts version in.
func (w *messageWriter) start(version change.Version) {
	if w.buf == nil {
		w.buf = w.cfg.Buffer()[:0]
		w.buf = append(w.buf, make([]byte, headerBytes)...)
		w.header = change.Header{Origin: w.cfg.Origin, Epoch: w.cfg.Epoch, First: version, Previous: w.prev.Last}
		if w.prev.Epoch == w.cfg.Epoch {
			w.header.Resume = w.prev.Resume
		}
	}
	w.header.Last = version
}

// record appends the type and length of a record; size bytes must follow.
func (w *messageWriter) record(kind byte, size int) {
	w.buf = append(w.buf, kind)
	w.buf = binary.AppendUvarint(w.buf, uint64(size))
}

// openPart makes sure that the message being built holds the transaction's
// begin record.
func (w *messageWriter) openPart() {
	tx := &w.tx
	if tx.begun {
		return
	}
	tx.begun, tx.offset, tx.header = true, headerBytes, w.header
	if w.buf != nil {
		tx.offset = len(w.buf)
	}
	fresh := w.buf == nil
	w.start(tx.version)
	w.record(recordBegin, beginBytes)
	w.buf = append(w.buf, byte(tx.kind))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(tx.version))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(tx.commitTime))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(tx.commitLSN))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, tx.xid)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, tx.part)
	h := &w.header
	h.CommitLSN, h.EndLSN, h.Part, h.Open, h.OpenKind = tx.commitLSN, 0, tx.part, true, tx.kind
	h.NextOrdinal = 0
	if tx.part > 0 {
		h.NextOrdinal = w.prev.NextOrdinal
	}
	if fresh {
		h.FirstOrdinal = h.NextOrdinal
	}
}

// describe makes sure that the message being built holds rel.
func (w *messageWriter) describe(rel *writerRelation) {
	if rel.message == w.message {
		return
	}
	rel.message, rel.offset = w.message, len(w.buf)
	w.record(recordRelation, len(rel.raw))
	w.buf = append(w.buf, rel.raw...)
}

// drop forgets the message being built.
func (w *messageWriter) drop() {
	w.buf, w.header = nil, change.Header{}
	w.message++
}

// flushMessage emits the message being built, if there is one.
func (w *messageWriter) flushMessage(ctx context.Context) error {
	if w.buf == nil {
		return nil
	}
	header, data := w.header, w.buf
	// Nothing that would break the chain for every reader gets into the stream.
	if err := CheckChain(w.prev, header); err != nil {
		return err
	}
	if err := w.emit(ctx, header, data, false); err != nil {
		return err
	}
	w.prev = header
	if w.tx.begun {
		w.tx.begun = false
		w.tx.part++
	}
	w.drop()
	return nil
}

// carry emits raw in fragments. A carrier repeats the header of the message
// before it, so that it leaves the chain as it is: a writer that resumes after
// one sends the row again from its start.
func (w *messageWriter) carry(ctx context.Context, raw []byte) error {
	most := w.cfg.MaxBytes - headerBytes - recordOverhead - fragmentBytes - trailerBytes
	for offset := 0; offset < len(raw); {
		piece := raw[offset:min(len(raw), offset+most)]
		data := make([]byte, headerBytes, headerBytes+recordOverhead+fragmentBytes+len(piece)+trailerBytes)
		data = append(data, recordFragment)
		data = binary.AppendUvarint(data, uint64(fragmentBytes+len(piece)))
		data = binary.LittleEndian.AppendUint64(data, uint64(len(raw)))
		data = binary.LittleEndian.AppendUint64(data, uint64(offset))
		data = append(data, piece...)
		if err := w.emit(ctx, w.prev, data, true); err != nil {
			return err
		}
		offset += len(piece)
	}
	return nil
}

// emit completes a message with its header and checksum and hands it over.
func (w *messageWriter) emit(ctx context.Context, header change.Header, data []byte, carrier bool) error {
	putHeader(data, &header, carrier)
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	return w.cfg.Emit(ctx, header, data)
}
