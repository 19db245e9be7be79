package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"dreamfeed/internal/change"
)

// messageWriterConfig configures a messageWriter.
type messageWriterConfig struct {
	Origin change.Origin
	Epoch  change.Epoch
	// Last is the header of the stream's last message, zero for an empty
	// stream. Epoch is Last.Epoch, or one more for a feed begun anew.
	Last change.Header
	// TargetBytes is the size at which a message is closed, DefaultTargetBytes
	// when 0.
	TargetBytes int
	// MaxBytes is the largest message the stream takes (Log.MaxMessage); a row
	// that does not fit is sent in fragments. DefaultMaxMessage when 0.
	MaxBytes int
	// MaxRowBytes is the largest row taken, DefaultMaxRowBytes when 0.
	MaxRowBytes int
	// Buffer hands out an empty buffer for the next message; nil allocates.
	Buffer func() []byte
	// Emit takes a finished message, which belongs to it from then on. It may
	// block. An error ends the writer.
	Emit func(ctx context.Context, header change.Header, data []byte) error
}

// openTransaction is a transaction of which parts, but not the last, are
// in the stream.
type openTransaction struct {
	Kind        change.Kind
	Version     change.Version
	CommitLSN   change.LSN
	Part        uint32 // the newest part in the stream
	NextOrdinal uint32 // the first row that is not in the stream
}

// messageWriter frames transactions, ticks and abandonments into stream
// messages (docs/FORMAT.md): small transactions share a message, a large one is
// cut into parts. It continues the chain from cfg.Last. Its methods are for one
// goroutine; after an error every method returns that error.
type messageWriter struct {
	cfg  messageWriterConfig
	err  error
	prev change.Header  // of the newest emitted message
	used change.Version // highest version used, also by what is not emitted

	relations map[uint32]*writerRelation
	resume    *openTransaction // left open by cfg.Last, not yet begun or abandoned

	buf     []byte        // the message being built, nil when there is none
	header  change.Header // of the message being built
	message uint64        // counts messages, for writerRelation.message

	tx       writerTransaction
	truncate []uint32 // memory for decodeTruncate
	scratch  []byte   // memory for a Truncate message of one table
}

// writerRelation is the Relation message that holds for a table's rows.
type writerRelation struct {
	raw      []byte
	relation *change.Relation
	message  uint64 // the message being built holds it, if equal to the writer's
	offset   int    // and here
}

// writerTransaction is the transaction that is being written.
type writerTransaction struct {
	active     bool
	kind       change.Kind
	version    change.Version
	commitTime int64
	commitLSN  change.LSN
	xid        uint32
	part       uint32 // number of the part being built
	rows       uint32 // rows received
	held       uint32 // rows that the stream holds from an earlier run
	scoped     bool   // what it reads is said, or need not be
	// begun says that the message being built holds the part's begin record, at
	// offset; header is the message's header before it.
	begun  bool
	offset int
	header change.Header
}

// newMessageWriter makes a writer that continues cfg.Last.
func newMessageWriter(cfg messageWriterConfig) (*messageWriter, error) {
	if cfg.TargetBytes == 0 {
		cfg.TargetBytes = DefaultTargetBytes
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxMessage
	}
	if cfg.MaxRowBytes == 0 {
		cfg.MaxRowBytes = DefaultMaxRowBytes
	}
	cfg.TargetBytes = min(cfg.TargetBytes, cfg.MaxBytes)
	if cfg.Buffer == nil {
		cfg.Buffer = func() []byte { return make([]byte, 0, cfg.TargetBytes) }
	}
	switch {
	case cfg.MaxBytes < minMessageBytes:
		return nil, fmt.Errorf("open message writer: messages of %d bytes are too small, the least is %d", cfg.MaxBytes, minMessageBytes)
	case cfg.Epoch == 0:
		return nil, errors.New("open message writer: an epoch counts from 1")
	case cfg.Last.Epoch != 0 && cfg.Epoch != cfg.Last.Epoch && cfg.Epoch != cfg.Last.Epoch+1:
		return nil, fmt.Errorf("open message writer: epoch %d does not follow the stream's epoch %d", cfg.Epoch, cfg.Last.Epoch)
	case cfg.Epoch == cfg.Last.Epoch && cfg.Origin != cfg.Last.Origin:
		return nil, fmt.Errorf("open message writer: epoch %d belongs to source %d timeline %d, not to %d timeline %d",
			cfg.Epoch, cfg.Last.Origin.System, cfg.Last.Origin.Timeline, cfg.Origin.System, cfg.Origin.Timeline)
	}
	w := &messageWriter{cfg: cfg, prev: cfg.Last, used: cfg.Last.Last, message: 1, relations: map[uint32]*writerRelation{}}
	if l := cfg.Last; l.Open {
		w.resume = &openTransaction{Kind: l.OpenKind, Version: l.Last, CommitLSN: l.CommitLSN, Part: l.Part, NextOrdinal: l.NextOrdinal}
	}
	return w, nil
}

// resumed returns the transaction that the stream's last message left open
// and that has not been begun again or abandoned yet. While there is one,
// only begin with the same kind, version and commit LSN, or abandon, is taken.
func (w *messageWriter) resumed() (openTransaction, bool) {
	if w.resume == nil {
		return openTransaction{}, false
	}
	return *w.resume, true
}

// passing says that rows of a resumed transaction are passed over at the
// moment, since the stream holds them.
func (w *messageWriter) passing() bool { return w.tx.active && w.tx.rows < w.tx.held }

// previous is the highest version used so far, also by what is not emitted yet:
// the next transaction or tick needs a higher one (a resumed one the same).
func (w *messageWriter) previous() change.Version { return w.used }

// last is the header of the newest emitted message, or cfg.Last.
func (w *messageWriter) last() change.Header { return w.prev }

// relation takes a raw Relation message, from the source or made by
// appendRelation. It is copied. It holds for the rows that follow, until
// another one for the same table comes, also across transactions.
func (w *messageWriter) relation(raw []byte) error {
	if w.err != nil {
		return w.err
	}
	rel, err := decodeRelation(raw)
	if err != nil {
		return w.fail(err)
	}
	if old := w.relations[rel.ID]; old != nil && string(old.raw) == string(raw) {
		return nil
	}
	w.relations[rel.ID] = &writerRelation{raw: append([]byte(nil), raw...), relation: rel}
	return nil
}

// begin opens a transaction. commitTime is in microseconds since the Unix
// epoch, as the source sent it. Nothing is written before the first row.
func (w *messageWriter) begin(_ context.Context, kind change.Kind, version change.Version, commitTime int64, commitLSN change.LSN, xid uint32) error {
	if w.err != nil {
		return w.err
	}
	tx := writerTransaction{active: true, kind: kind, version: version, commitTime: commitTime, commitLSN: commitLSN, xid: xid, scoped: kind == change.Live}
	switch r := w.resume; {
	case w.tx.active:
		return w.fail(fmt.Errorf("begin transaction at %s: the one at %s has not ended", commitLSN, w.tx.commitLSN))
	case kind < change.Live || kind > change.Refill:
		return w.fail(fmt.Errorf("begin transaction at %s: kind %d is unknown", commitLSN, kind))
	case r == nil && version <= w.used:
		return w.fail(fmt.Errorf("begin transaction at %s: version %d is not above %d", commitLSN, version, w.used))
	case r != nil && w.cfg.Epoch != w.cfg.Last.Epoch:
		return w.fail(&OpenTransactionError{Version: r.Version, CommitLSN: r.CommitLSN, Reason: "it belongs to an earlier epoch: abandon it first"})
	case r != nil && (r.CommitLSN != commitLSN || r.Version != version || r.Kind != kind):
		return w.fail(&OpenTransactionError{
			Version: r.Version, CommitLSN: r.CommitLSN,
			Reason: fmt.Sprintf("the source goes on with another one, at %s: abandon it first", commitLSN),
		})
	case r != nil:
		tx.part, tx.held, tx.scoped = r.Part+1, r.NextOrdinal, true
		w.resume = nil
	}
	w.tx, w.used = tx, version
	return nil
}

// scope says what a backfill or refill reads. It comes right after begin. Of a
// transaction that goes on it is in the stream already.
func (w *messageWriter) scope(ctx context.Context, s change.Scope) error {
	if w.err != nil {
		return w.err
	}
	if w.tx.active && w.tx.part > 0 {
		return nil
	}
	switch {
	case !w.tx.active || w.tx.scoped:
		return w.fail(errors.New("write scope: it stands right behind the beginning of a backfill or refill"))
	case len(s.Tables) == 0 || s.Low >= w.tx.version:
		return w.fail(fmt.Errorf("write scope: %d tables read behind version %d, in transaction %d", len(s.Tables), s.Low, w.tx.version))
	}
	payload := appendScope(nil, s)
	if need := headerBytes + beginBytes + len(payload) + endBytes + 3*recordOverhead + trailerBytes; need > w.cfg.MaxBytes {
		return w.fail(fmt.Errorf("write scope of %d tables: a message of %d bytes cannot hold it: raise the server's max_payload", len(s.Tables), w.cfg.MaxBytes))
	}
	if err := w.room(ctx, beginBytes+len(payload)+endBytes+3*recordOverhead+trailerBytes); err != nil {
		return w.fail(err)
	}
	w.openPart()
	w.record(recordScope, len(payload))
	w.buf = append(w.buf, payload...)
	w.tx.scoped = true
	return nil
}

// row adds a raw Insert, Update, Delete or Truncate message to the open
// transaction (a Truncate of n tables counts as n rows). The message is checked
// and copied. Rows of a resumed transaction that the stream holds already are
// passed over. A row above MaxRowBytes is a RowTooLargeError.
func (w *messageWriter) row(ctx context.Context, raw []byte) error {
	if w.err != nil {
		return w.err
	}
	if !w.tx.active {
		return w.fail(errors.New("write row: no transaction has begun"))
	}
	if len(raw) == 0 || raw[0] != msgTruncate {
		return w.fail(w.addRow(ctx, raw))
	}
	m, err := decodeTruncate(raw, w.truncate[:0])
	if err != nil {
		return w.fail(err)
	}
	w.truncate = m.Relations
	for _, id := range m.Relations {
		w.scratch = appendTruncate(w.scratch[:0], id, m.Options)
		if err := w.addRow(ctx, w.scratch); err != nil {
			return w.fail(err)
		}
	}
	return nil
}

// addRow adds a row message about one table.
func (w *messageWriter) addRow(ctx context.Context, raw []byte) error {
	ordinal := w.tx.rows
	if !w.tx.scoped {
		return fmt.Errorf("write row of the transaction at %s: it does not say what it reads", w.tx.commitLSN)
	}
	if ordinal == math.MaxUint32 {
		return fmt.Errorf("write row of the transaction at %s: it has more than %d rows", w.tx.commitLSN, uint32(math.MaxUint32))
	}
	id, err := rowRelation(raw)
	if err != nil {
		return err
	}
	rel := w.relations[id]
	if rel == nil {
		return fmt.Errorf("write row %d of the transaction at %s: the source has not described table %d", ordinal, w.tx.commitLSN, id)
	}
	if len(raw) > w.cfg.MaxRowBytes {
		return &RowTooLargeError{
			Table: rel.relation.Schema + "." + rel.relation.Name, CommitLSN: w.tx.commitLSN,
			Ordinal: ordinal, Bytes: len(raw), Limit: w.cfg.MaxRowBytes,
		}
	}
	if err := checkRow(raw, rel.relation); err != nil {
		return fmt.Errorf("row %d of the transaction at %s in table %s.%s: %w", ordinal, w.tx.commitLSN, rel.relation.Schema, rel.relation.Name, err)
	}
	w.tx.rows++
	if ordinal < w.tx.held {
		return nil
	}
	size := recordOverhead + len(raw)
	if err := w.room(ctx, w.rowRoom(rel, size)); err != nil {
		return err
	}
	if headerBytes+w.rowRoom(rel, size) > w.cfg.MaxBytes {
		// The row does not fit even alone: its bytes go ahead in messages of
		// their own, and the row stands first in the message that follows.
		if err := w.flushMessage(ctx); err != nil {
			return err
		}
		if need := headerBytes + w.rowRoom(rel, recordOverhead+assembledBytes); need > w.cfg.MaxBytes {
			return fmt.Errorf("write row of table %s.%s: a message of %d bytes cannot hold the table's description: raise the server's max_payload",
				rel.relation.Schema, rel.relation.Name, w.cfg.MaxBytes)
		}
		if err := w.carry(ctx, raw); err != nil {
			return err
		}
		w.openPart()
		w.describe(rel)
		w.record(recordAssembled, assembledBytes)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(len(raw)))
		w.buf = binary.LittleEndian.AppendUint32(w.buf, crc32.Checksum(raw, castagnoli))
	} else {
		w.openPart()
		w.describe(rel)
		w.record(recordRow, len(raw))
		w.buf = append(w.buf, raw...)
	}
	w.header.NextOrdinal = ordinal + 1
	return nil
}

// commit ends the open transaction; endLSN is one past its commit record.
func (w *messageWriter) commit(ctx context.Context, endLSN change.LSN) error {
	if w.err != nil {
		return w.err
	}
	if !w.tx.active {
		return w.fail(errors.New("commit: no transaction has begun"))
	}
	if !w.tx.scoped {
		return w.fail(fmt.Errorf("commit the transaction at %s: it does not say what it reads", w.tx.commitLSN))
	}
	if w.tx.rows < w.tx.held {
		return w.fail(&OpenTransactionError{
			Version: w.tx.version, CommitLSN: w.tx.commitLSN,
			Reason: fmt.Sprintf("the source sent %d rows, the stream holds %d already: abandon it", w.tx.rows, w.tx.held),
		})
	}
	if err := w.room(ctx, beginBytes+endBytes+2*recordOverhead+trailerBytes); err != nil {
		return w.fail(err)
	}
	w.openPart()
	w.record(recordEnd, endBytes)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(endLSN))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, w.tx.rows)
	w.header.EndLSN, w.header.Resume = endLSN, endLSN
	w.header.Open, w.header.OpenKind = false, 0
	alone := w.tx.part > 0
	w.tx = writerTransaction{}
	if alone || len(w.buf) >= w.cfg.TargetBytes {
		return w.fail(w.flushMessage(ctx))
	}
	return nil
}

// tick says that the source was idle up to lsn and that nothing more comes at
// or before moment, which must be above previous(). Not inside a transaction.
func (w *messageWriter) tick(ctx context.Context, moment change.Version, lsn change.LSN) error {
	if w.err != nil {
		return w.err
	}
	switch {
	case w.tx.active:
		return w.fail(fmt.Errorf("write tick at %s: the transaction at %s has not ended", lsn, w.tx.commitLSN))
	case w.resume != nil:
		return w.fail(&OpenTransactionError{Version: w.resume.Version, CommitLSN: w.resume.CommitLSN, Reason: "a tick came instead of it"})
	case moment <= w.used:
		return w.fail(fmt.Errorf("write tick at %s: moment %d is not above version %d", lsn, moment, w.used))
	}
	if err := w.room(ctx, recordOverhead+tickBytes+trailerBytes); err != nil {
		return w.fail(err)
	}
	w.start(moment)
	w.record(recordTick, tickBytes)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(moment))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(lsn))
	w.header.CommitLSN, w.header.EndLSN, w.header.Resume = lsn, lsn, lsn
	w.header.Part, w.header.NextOrdinal = 0, 0
	w.used = moment
	return nil
}

// abandon declares that the open transaction (begun here or resumed) will
// never be completed. Rows of it that no message holds yet are dropped; if no
// message holds any part of it, nothing is written. Its version counts as used.
func (w *messageWriter) abandon(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	switch {
	case w.tx.active && w.tx.part == 0:
		if w.tx.begun {
			w.buf, w.header = w.buf[:w.tx.offset], w.tx.header
			for _, rel := range w.relations {
				if rel.message == w.message && rel.offset >= w.tx.offset {
					rel.message = 0
				}
			}
			if len(w.buf) == headerBytes {
				w.drop()
			}
		}
		w.tx = writerTransaction{}
		return nil
	case w.tx.active: // its part is alone in the message being built
		w.drop()
		w.tx = writerTransaction{}
	case w.resume != nil:
		w.resume = nil
	default:
		return w.fail(errors.New("abandon: no transaction is open"))
	}
	w.start(w.prev.Last)
	w.record(recordAbandon, abandonBytes)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(w.prev.Last))
	return w.fail(w.flushMessage(ctx))
}

// flush emits what is framed so far. Within a transaction that makes a part.
func (w *messageWriter) flush(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	return w.fail(w.flushMessage(ctx))
}

// fail keeps the first error, which ends the writer.
func (w *messageWriter) fail(err error) error {
	if err != nil && w.err == nil {
		w.err = err
	}
	return err
}
