package cdc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"dreamfeed/internal/change"
)

// Decoder decodes stream messages. It keeps its memory between messages, and
// hands out the same *change.Relation for equal Relation messages as long as it
// lives. The zero value is ready; it is for one goroutine.
type Decoder struct {
	// MaxRowBytes is the largest row accepted in fragments, DefaultMaxRowBytes
	// when 0.
	MaxRowBytes int

	cache   map[string]*change.Relation // by raw Relation message
	current map[uint32]*change.Relation // of the message being decoded
	newest  *change.Relation            // the one looked up last

	// Memory of the batch handed out last.
	transactions []*change.Transaction
	ticks        []*change.Tick
	values       []change.Value

	// carried is the row in fragments, as far as it has come; size is what it
	// will be, 0 when there is none.
	carried []byte
	size    uint64
}

// keepCarried is the largest buffer for rows in fragments that is kept, in bytes.
const keepCarried = 1 << 20

// decoding is the state of one call of Decode.
type decoding struct {
	*Decoder
	sequence uint64
	data     []byte
	at       int // start of the record being decoded
	dst      *change.Batch
	tx       *change.Transaction // that has begun and not ended
	ordinal  uint32              // of the next row
	begun    int                 // transactions begun
	ticked   int
	got      change.Header // as told by the records
	want     change.Header // as told by the header
	resume   bool          // got.Resume is known
	alone    bool          // nothing may follow
	large    bool          // the carried row was used
}

// Decode checks and decodes the message at sequence into dst, whose entries it
// reuses. It returns false for a carrier of row fragments, which holds nothing
// to apply: the message that completes the row follows. The batch borrows data
// and the decoder until the next call. Errors are of type *CorruptMessageError.
//
// The checksum, all bounds, ordinals and part numbers are checked, and that the
// header says what the records say. Whether the message continues the one
// before is for CheckChain.
func (d *Decoder) Decode(sequence uint64, data []byte, dst *change.Batch) (bool, error) {
	h, carrier, records, err := openFrame(sequence, data)
	if err != nil {
		return false, err
	}
	dst.Sequence, dst.Header, dst.Bytes, dst.Entries = sequence, h, len(data), dst.Entries[:0]
	c := decoding{Decoder: d, sequence: sequence, data: data[:headerBytes+len(records)], at: headerBytes, dst: dst, want: h}
	if carrier {
		return false, c.fragment()
	}
	d.values, d.newest = d.values[:0], nil
	if d.cache == nil {
		d.cache, d.current = map[string]*change.Relation{}, map[uint32]*change.Relation{}
	}
	clear(d.current)
	for c.at < len(c.data) {
		kind, payload, next, err := c.record()
		if err != nil {
			return false, err
		}
		if c.alone {
			return false, c.corrupt("a record stands behind one that must be the last")
		}
		if err := c.apply(kind, payload); err != nil {
			return false, err
		}
		c.at = next
	}
	if err := c.finish(); err != nil {
		return false, err
	}
	d.release(c.large)
	return true, nil
}

// release forgets the carried row. A batch that borrows its memory keeps it.
func (d *Decoder) release(borrowed bool) {
	d.size = 0
	if borrowed || cap(d.carried) > keepCarried {
		d.carried = nil
		return
	}
	d.carried = d.carried[:0]
}

func (c *decoding) corrupt(format string, args ...any) error {
	return &CorruptMessageError{Sequence: c.sequence, Offset: c.at, Reason: fmt.Sprintf(format, args...)}
}

// record reads type, length and payload of the record at c.at.
func (c *decoding) record() (kind byte, payload []byte, next int, err error) {
	rest := c.data[c.at:]
	size, n := binary.Uvarint(rest[1:])
	if n <= 0 || size > uint64(len(rest)-1-n) {
		return 0, nil, 0, c.corrupt("a record is cut short")
	}
	next = c.at + 1 + n + int(size)
	return rest[0], c.data[c.at+1+n : next : next], next, nil
}

// apply takes in one record.
func (c *decoding) apply(kind byte, p []byte) error {
	le := binary.LittleEndian
	sized := func(n int) bool { return len(p) == n }
	switch {
	case kind == recordBegin && sized(beginBytes):
		return c.begin(p)
	case kind == recordScope:
		return c.scope(p)
	case kind == recordRelation:
		return c.relation(p)
	case kind == recordRow:
		return c.row(p)
	case kind == recordAssembled && sized(assembledBytes):
		if c.size == 0 || uint64(len(c.carried)) != c.size || c.size != le.Uint64(p) || c.large {
			return c.corrupt("the fragments of a large row, in the messages before, are missing")
		}
		if crc32.Checksum(c.carried, castagnoli) != le.Uint32(p[8:]) {
			return c.corrupt("the checksum of a large row does not match")
		}
		c.large = true
		return c.row(c.carried)
	case kind == recordEnd && sized(endBytes):
		return c.end(change.LSN(le.Uint64(p)), le.Uint32(p[8:]))
	case kind == recordTick && sized(tickBytes):
		return c.tick(change.Version(le.Uint64(p)), change.LSN(le.Uint64(p[8:])))
	case kind == recordAbandon && sized(abandonBytes):
		v := change.Version(le.Uint64(p))
		if c.at != headerBytes || v != c.want.Previous || v == 0 {
			return c.corrupt("only the version before can be abandoned, in a message of its own")
		}
		c.got.First, c.got.Last, c.alone = v, v, true
		c.dst.Entries = append(c.dst.Entries, change.Entry{Abandoned: v})
		return nil
	}
	return c.corrupt("record type %d with %d bytes is unknown", kind, len(p))
}

// version counts in the version of a new entry. One that goes on with a
// transaction may repeat the version before.
func (c *decoding) version(v change.Version, goesOn bool) error {
	if above := max(c.got.Last, c.want.Previous); v < above || v == above && !goesOn {
		return c.corrupt("version %d is not above %d", v, above)
	}
	if c.got.First == 0 {
		c.got.First = v
	}
	c.got.Last = v
	return nil
}

func (c *decoding) begin(p []byte) error {
	le := binary.LittleEndian
	kind, version, part := change.Kind(p[0]), change.Version(le.Uint64(p[1:])), le.Uint32(p[29:])
	goesOn := part > 0
	switch {
	case c.tx != nil:
		return c.corrupt("a transaction begins within another one")
	case kind < change.Live || kind > change.Refill:
		return c.corrupt("the kind %d of a transaction is unknown", kind)
	case goesOn && (c.at != headerBytes || version != c.want.Previous):
		return c.corrupt("part %d of a transaction stands behind something else", part)
	}
	if err := c.version(version, goesOn); err != nil {
		return err
	}
	c.ordinal = 0
	if goesOn {
		c.ordinal = c.want.FirstOrdinal
	}
	if c.begun == len(c.transactions) {
		c.transactions = append(c.transactions, new(change.Transaction))
	}
	tx := c.transactions[c.begun]
	c.begun++
	*tx = change.Transaction{
		Kind: kind, Version: version, CommitTime: int64(le.Uint64(p[9:])), CommitLSN: change.LSN(le.Uint64(p[17:])),
		XID: le.Uint32(p[25:]), Part: part, Rows: tx.Rows[:0],
	}
	c.tx = tx
	c.dst.Entries = append(c.dst.Entries, change.Entry{Transaction: tx})
	c.got.CommitLSN, c.got.EndLSN, c.got.Part, c.got.NextOrdinal = tx.CommitLSN, 0, part, c.ordinal
	if len(c.dst.Entries) == 1 {
		c.got.FirstOrdinal = c.ordinal
	}
	return nil
}

// scope takes in what a backfill or refill reads.
func (c *decoding) scope(p []byte) error {
	if c.tx == nil || c.tx.Kind == change.Live || c.tx.Part > 0 || c.tx.Scope != nil || len(c.tx.Rows) > 0 {
		return c.corrupt("a scope stands elsewhere than behind the beginning of a backfill or refill")
	}
	s, ok := decodeScope(p)
	if !ok || s.Low >= c.tx.Version {
		return c.corrupt("the scope of a backfill or refill is malformed")
	}
	c.tx.Scope = s
	return nil
}

// scoped says whether the open transaction has the scope that its kind needs.
func (c *decoding) scoped() bool {
	return c.tx.Kind == change.Live || c.tx.Part > 0 || c.tx.Scope != nil
}

func (c *decoding) relation(p []byte) error {
	rel := c.cache[string(p)]
	if rel == nil {
		var err error
		if rel, err = decodeRelation(p); err != nil {
			return c.corrupt("%v", err)
		}
		c.cache[string(p)] = rel
	}
	c.current[rel.ID], c.newest = rel, rel
	return nil
}

func (c *decoding) row(p []byte) error {
	if c.tx == nil {
		return c.corrupt("a row stands outside a transaction")
	}
	if c.ordinal+1 == 0 {
		return c.corrupt("the transaction has too many rows")
	}
	if !c.scoped() {
		return c.corrupt("a backfill or refill does not say what it reads")
	}
	id, err := rowRelation(p)
	if err != nil {
		return c.corrupt("%v", err)
	}
	rel := c.newest
	if rel == nil || rel.ID != id {
		if rel = c.current[id]; rel == nil {
			return c.corrupt("the message does not describe table %d", id)
		}
		c.newest = rel
	}
	c.tx.Rows = append(c.tx.Rows, change.Row{Ordinal: c.ordinal})
	if c.values, err = decodeRow(p, rel, &c.tx.Rows[len(c.tx.Rows)-1], c.values); err != nil {
		return c.corrupt("table %s.%s: %v", rel.Schema, rel.Name, err)
	}
	c.ordinal++
	c.got.NextOrdinal = c.ordinal
	return nil
}

func (c *decoding) end(lsn change.LSN, rows uint32) error {
	switch {
	case c.tx == nil:
		return c.corrupt("a transaction ends that has not begun")
	case rows != c.ordinal:
		return c.corrupt("the transaction ends after %d rows, not after %d as it says", c.ordinal, rows)
	case !c.scoped():
		return c.corrupt("a backfill or refill does not say what it reads")
	}
	c.tx.EndLSN, c.tx.Last = lsn, true
	c.alone = c.tx.Part > 0
	c.tx = nil
	c.got.EndLSN, c.got.Resume, c.resume = lsn, lsn, true
	return nil
}

func (c *decoding) tick(moment change.Version, lsn change.LSN) error {
	if c.tx != nil {
		return c.corrupt("a tick stands within a transaction")
	}
	if err := c.version(moment, false); err != nil {
		return err
	}
	if c.ticked == len(c.ticks) {
		c.ticks = append(c.ticks, new(change.Tick))
	}
	t := c.ticks[c.ticked]
	c.ticked++
	*t = change.Tick{Moment: moment, LSN: lsn}
	c.dst.Entries = append(c.dst.Entries, change.Entry{Tick: t})
	c.got.CommitLSN, c.got.EndLSN, c.got.Resume, c.resume = lsn, lsn, lsn, true
	c.got.Part, c.got.NextOrdinal = 0, 0
	return nil
}

// finish checks that the header says what the records say.
func (c *decoding) finish() error {
	if len(c.dst.Entries) == 0 {
		return c.corrupt("the message says nothing")
	}
	c.got.Origin, c.got.Epoch, c.got.Previous = c.want.Origin, c.want.Epoch, c.want.Previous
	if !c.resume {
		c.got.Resume = c.want.Resume
	}
	if c.tx != nil {
		c.got.Open, c.got.OpenKind = true, c.tx.Kind
	}
	if c.got != c.want {
		return c.corrupt("the header contradicts the records")
	}
	return nil
}

// fragment takes in a carrier. One that begins a row forgets what came before:
// the publisher was restarted and sends the row again.
func (c *decoding) fragment() error {
	var kind byte
	var p []byte
	var next int
	if len(c.data) > headerBytes {
		var err error
		if kind, p, next, err = c.record(); err != nil {
			return err
		}
	}
	if kind != recordFragment || next != len(c.data) || len(p) <= fragmentBytes {
		return c.corrupt("a carrier holds one fragment of a row and nothing else")
	}
	limit := c.MaxRowBytes
	if limit == 0 {
		limit = DefaultMaxRowBytes
	}
	size, offset := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	p = p[fragmentBytes:]
	if size > uint64(limit) {
		return c.corrupt("a row of %d bytes is above the limit of %d: raise --max-row-bytes", size, limit)
	}
	if offset == 0 {
		c.release(false)
		c.Decoder.size = size
	}
	if c.size != size || offset != uint64(len(c.carried)) || uint64(len(p)) > size-offset {
		return c.corrupt("a fragment of a large row is missing before this one")
	}
	if need := len(c.carried) + len(p); need > cap(c.carried) {
		// The memory grows with what has come: a size alone allocates nothing.
		grown := make([]byte, len(c.carried), min(max(need, 2*len(c.carried)), int(size)))
		copy(grown, c.carried)
		c.carried = grown
	}
	c.carried = append(c.carried, p...)
	return nil
}
