package cdc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

// frameEvent is something that a source says: a transaction (rows set or
// not) or a tick.
type frameEvent struct {
	tick    bool
	kind    change.Kind
	version change.Version
	lsn     change.LSN // of the commit; the end is 8 further
	scope   *change.Scope
	raw     [][]byte // Relation and row messages
}

func (e *frameEvent) end() change.LSN { return e.lsn + 8 }

// frameMessage is a message that a writer emitted.
type frameMessage struct {
	header change.Header
	data   []byte
}

// frameHistory makes a random history. Large rows are above the largest message.
func frameHistory(r *rand.Rand, n int) []frameEvent {
	rels := make([]*change.Relation, 4)
	for i := range rels {
		rels[i] = randomRelation(r, uint32(i+1))
		rels[i].Columns = append(rels[i].Columns, change.Column{Name: "wide"})
	}
	var events []frameEvent
	version, lsn := change.Version(1000), change.LSN(5000)
	for range n {
		version += change.Version(1 + r.IntN(9))
		lsn += change.LSN(16 + r.IntN(99))
		if r.IntN(8) == 0 {
			events = append(events, frameEvent{tick: true, version: version, lsn: lsn})
			continue
		}
		e := frameEvent{kind: change.Live, version: version, lsn: lsn}
		if r.IntN(9) == 0 {
			e.kind = []change.Kind{change.Backfill, change.Refill}[r.IntN(2)]
			e.scope = &change.Scope{Low: change.Version(r.Uint64N(uint64(version)))}
			for _, rel := range rels[:1+r.IntN(len(rels))] {
				e.scope.Tables = append(e.scope.Tables, change.Table{Schema: rel.Schema, Name: rel.Name})
			}
		}
		described := map[uint32]bool{}
		for range []int{0, 1, 2, 3, 40}[r.IntN(5)] {
			i := r.IntN(len(rels))
			if !described[rels[i].ID] || r.IntN(20) == 0 {
				if r.IntN(6) == 0 { // a column was added
					altered := *rels[i]
					altered.Columns = append([]change.Column{{Name: "added"}}, altered.Columns...)
					rels[i] = &altered
				}
				described[rels[i].ID] = true
				e.raw = append(e.raw, appendRelation(nil, rels[i]))
			}
			raw, _ := randomRow(r, rels[i])
			if r.IntN(30) == 0 {
				values := make([]change.Value, len(rels[i].Columns))
				for j := range values {
					values[j].Kind = change.Null
				}
				values[0] = change.Value{Kind: change.Text, Text: bytes.Repeat([]byte("wide"), 200+r.IntN(1500))}
				raw = appendInsert(nil, rels[i].ID, values)
			}
			e.raw = append(e.raw, raw)
		}
		events = append(events, e)
	}
	return events
}

// frameConfig has small limits, so that histories are cut everywhere.
func frameConfig(out *[]frameMessage) messageWriterConfig {
	return messageWriterConfig{
		Origin: change.Origin{System: 77, Timeline: 1}, Epoch: 1, TargetBytes: 700, MaxBytes: 1500, MaxRowBytes: 1 << 20,
		Emit: func(_ context.Context, h change.Header, data []byte) error {
			*out = append(*out, frameMessage{h, data})
			return nil
		},
	}
}

// writeEvents replays the events that end after the writer's resume position.
func writeEvents(t testing.TB, w *messageWriter, events []frameEvent) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	resume := w.last().Resume
	for _, e := range events {
		if e.tick {
			if e.lsn > resume {
				check(w.tick(ctx, e.version, e.lsn))
			}
			continue
		}
		if e.end() <= resume {
			continue
		}
		check(w.begin(ctx, e.kind, e.version, int64(e.version)-3, e.lsn, uint32(e.version)))
		if e.scope != nil {
			check(w.scope(ctx, *e.scope))
		}
		for _, raw := range e.raw {
			if raw[0] == msgRelation {
				check(w.relation(raw))
			} else {
				check(w.row(ctx, raw))
			}
		}
		check(w.commit(ctx, e.end()))
	}
	check(w.flush(ctx))
}

// frameRow is a row as read back, or a scope, without borrowed memory.
type frameRow struct {
	Version  change.Version
	Ordinal  uint32
	Relation change.Relation
	Op       change.Op
	Row      string
}

// readMessages decodes messages, checks their chain, and returns what they say.
func readMessages(t testing.TB, d *Decoder, messages []frameMessage) (rows []frameRow, ends map[change.Version]change.LSN) {
	t.Helper()
	ends = map[change.Version]change.LSN{}
	var batch change.Batch
	var prev change.Header
	for i, m := range messages {
		whole, err := d.Decode(uint64(i+1), m.data, &batch)
		if err != nil {
			t.Fatal(err)
		}
		if batch.Header != m.header {
			t.Fatalf("message %d: header emitted and decoded differ", i+1)
		}
		if !whole {
			if m.header != prev {
				t.Fatalf("message %d: a carrier has a header of its own", i+1)
			}
			continue
		}
		if err := CheckChain(prev, batch.Header); err != nil {
			t.Fatal(err)
		}
		prev = batch.Header
		for _, e := range batch.Entries {
			if e.Abandoned != 0 {
				for len(rows) > 0 && rows[len(rows)-1].Version == e.Abandoned {
					rows = rows[:len(rows)-1]
				}
			}
			if e.Tick != nil {
				ends[e.Tick.Moment] = e.Tick.LSN
			}
			if e.Transaction == nil {
				continue
			}
			if e.Transaction.Scope != nil {
				rows = append(rows, scopeRow(e.Transaction.Kind, e.Transaction.Version, e.Transaction.Scope))
			}
			for _, row := range e.Transaction.Rows {
				rows = append(rows, frameRow{e.Transaction.Version, row.Ordinal, *row.Relation, row.Op, fmt.Sprintf("%v %v %q %q", row.OldFull, row.New == nil, row.Old, row.New)})
			}
			if e.Transaction.Last {
				ends[e.Transaction.Version] = e.Transaction.EndLSN
			}
		}
	}
	return rows, ends
}

// scopeRow stands for a scope among the rows.
func scopeRow(kind change.Kind, version change.Version, s *change.Scope) frameRow {
	return frameRow{Version: version, Row: fmt.Sprintf("kind %d reads behind %d: %q", kind, s.Low, s.Tables)}
}

// meaning is what a reader should make of events.
func meaning(t testing.TB, events []frameEvent) (rows []frameRow, ends map[change.Version]change.LSN) {
	t.Helper()
	ends = map[change.Version]change.LSN{}
	rels := map[uint32]*change.Relation{}
	for _, e := range events {
		if e.tick {
			ends[e.version] = e.lsn
			continue
		}
		ends[e.version] = e.end()
		if e.scope != nil {
			rows = append(rows, scopeRow(e.kind, e.version, e.scope))
		}
		ordinal := uint32(0)
		for _, raw := range e.raw {
			if raw[0] == msgRelation {
				rel, err := decodeRelation(raw)
				if err != nil {
					t.Fatal(err)
				}
				rels[rel.ID] = rel
				continue
			}
			id, err := rowRelation(raw)
			if err != nil {
				t.Fatal(err)
			}
			var row change.Row
			if _, err := decodeRow(raw, rels[id], &row, nil); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, frameRow{e.version, ordinal, *rels[id], row.Op, fmt.Sprintf("%v %v %q %q", row.OldFull, row.New == nil, row.Old, row.New)})
			ordinal++
		}
	}
	return rows, ends
}

func compareFrames(t testing.TB, d *Decoder, messages []frameMessage, events []frameEvent) {
	t.Helper()
	rows, ends := readMessages(t, d, messages)
	wantRows, wantEnds := meaning(t, events)
	if reflect.DeepEqual(wantRows, rows) && reflect.DeepEqual(wantEnds, ends) {
		return // cmp.Diff is slow, and the histories are many
	}
	if diff := cmp.Diff(wantRows, rows); diff != "" {
		t.Fatalf("rows written (-) and read (+) differ:\n%s", diff)
	}
	if diff := cmp.Diff(wantEnds, ends); diff != "" {
		t.Fatalf("ends written (-) and read (+) differ:\n%s", diff)
	}
}

func mustWriter(t testing.TB, cfg messageWriterConfig) *messageWriter {
	t.Helper()
	w, err := newMessageWriter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// entries tells in short what messages say.
func entries(t testing.TB, messages []frameMessage) string {
	t.Helper()
	var d Decoder
	var batch change.Batch
	var all []string
	for i, m := range messages {
		if _, err := d.Decode(uint64(i), m.data, &batch); err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.Entries {
			switch {
			case e.Abandoned != 0:
				all = append(all, fmt.Sprintf("abandon%d", e.Abandoned))
			case e.Tick != nil:
				all = append(all, fmt.Sprintf("tick%d", e.Tick.Moment))
			case e.Transaction.Last:
				all = append(all, fmt.Sprintf("%d-end", e.Transaction.Version))
			default:
				all = append(all, fmt.Sprintf("%d-part", e.Transaction.Version))
			}
		}
	}
	return string(bytes.Join(func() (b [][]byte) {
		for _, s := range all {
			b = append(b, []byte(s))
		}
		return b
	}(), []byte(" ")))
}
