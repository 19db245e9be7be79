package cdc

import (
	"bytes"
	"context"
	"errors"
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

func TestMessagesSayWhatWasWritten(t *testing.T) {
	r := newStreamRand(t)
	var d Decoder
	for range 50 {
		events := frameHistory(r, 40)
		var messages []frameMessage
		writeEvents(t, mustWriter(t, frameConfig(&messages)), events)
		compareFrames(t, &d, messages, events)
		for i, m := range messages {
			if len(m.data) > 1500 {
				t.Errorf("message %d has %d bytes", i+1, len(m.data))
			}
		}
	}
}

// I3: wherever the publisher is stopped, another one that goes on from the last
// message completes the same stream.
func TestWriterResumedAfterAnyMessageCompletesTheSameStream(t *testing.T) {
	r := newStreamRand(t)
	for range 8 {
		events := frameHistory(r, 25)
		var whole []frameMessage
		writeEvents(t, mustWriter(t, frameConfig(&whole)), events)
		for cut := range whole {
			messages := append([]frameMessage(nil), whole[:cut]...)
			cfg := frameConfig(&messages)
			if cut > 0 {
				cfg.Last = whole[cut-1].header
			}
			cfg.TargetBytes = 500 + r.IntN(400) // parts need not be cut at the same place
			writeEvents(t, mustWriter(t, cfg), events)
			var d Decoder
			compareFrames(t, &d, messages, events)
		}
	}
}

func TestAbandonedTransactionLeavesNoRow(t *testing.T) {
	ctx := t.Context()
	rel := &change.Relation{ID: 1, Schema: "public", Name: "t", Replica: 'd', Columns: []change.Column{{Name: "a"}}}
	row := appendInsert(nil, 1, []change.Value{{Kind: change.Text, Text: bytes.Repeat([]byte("x"), 300)}})
	write := func(w *messageWriter, version change.Version, rows int) {
		t.Helper()
		if err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, version, 1, change.LSN(version), 1)); err != nil {
			t.Fatal(err)
		}
		for range rows {
			if err := w.row(ctx, row); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		rows    int
		resumed bool
		epoch   change.Epoch
		entries string
	}{
		"begun and not written":      {0, false, 1, "1-end 3-end"},
		"in the message being built": {1, false, 1, "1-end 3-end"},
		"with parts in the stream":   {3, false, 1, "1-end 2-part 2-part abandon2 3-end"},
		"found on resuming":          {3, true, 1, "1-end 2-part 2-part 2-part abandon2 3-end"},
		"found by a feed begun anew": {3, true, 2, "1-end 2-part 2-part 2-part abandon2 3-end"},
		"all of it in one part":      {1, true, 1, "1-end 2-part abandon2 3-end"},
	} {
		t.Run(name, func(t *testing.T) {
			var messages []frameMessage
			w := mustWriter(t, frameConfig(&messages))
			write(w, 1, 1)
			if err := w.commit(ctx, 2); err != nil {
				t.Fatal(err)
			}
			write(w, 2, tc.rows)
			if tc.resumed {
				if err := w.flush(ctx); err != nil {
					t.Fatal(err)
				}
				cfg := frameConfig(&messages)
				cfg.Last, cfg.Epoch = w.last(), tc.epoch
				w = mustWriter(t, cfg)
				open, ok := w.resumed()
				if !ok || open.Version != 2 || open.CommitLSN != 2 || open.Kind != change.Live || open.NextOrdinal != uint32(tc.rows) {
					t.Errorf("the open transaction is %+v, %v", open, ok)
				}
			}
			if err := w.abandon(ctx); err != nil {
				t.Fatal(err)
			}
			if w.previous() != 2 {
				t.Errorf("the highest version used is %d, want that of the abandoned one", w.previous())
			}
			write(w, 3, 1)
			if err := errors.Join(w.commit(ctx, 4), w.flush(ctx)); err != nil {
				t.Fatal(err)
			}
			var d Decoder
			rows, _ := readMessages(t, &d, messages)
			if len(rows) != 2 || rows[0].Version != 1 || rows[1].Version != 3 {
				t.Errorf("rows left: %v", rows)
			}
			if got := entries(t, messages); got != tc.entries {
				t.Errorf("the stream says %q, want %q", got, tc.entries)
			}
		})
	}
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

func TestWriterRefusesWhatDoesNotContinueTheStream(t *testing.T) {
	ctx := t.Context()
	rel := &change.Relation{ID: 1, Schema: "public", Name: "t", Columns: []change.Column{{Name: "a"}}}
	row := appendInsert(nil, 1, []change.Value{{Kind: change.Null}})
	open := func(t *testing.T) *messageWriter {
		var messages []frameMessage
		w := mustWriter(t, frameConfig(&messages))
		if err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, 10, 1, 10, 1),
			w.row(ctx, row), w.row(ctx, row), w.flush(ctx)); err != nil {
			t.Fatal(err)
		}
		cfg := frameConfig(&messages)
		cfg.Last = w.last()
		return mustWriter(t, cfg)
	}
	var large *RowTooLargeError
	var other *OpenTransactionError
	t.Run("another transaction than the open one", func(t *testing.T) {
		if err := open(t).begin(ctx, change.Live, 10, 1, 11, 1); !errors.As(err, &other) {
			t.Errorf("got %v, want an *OpenTransactionError", err)
		}
	})
	t.Run("the open transaction under another version", func(t *testing.T) {
		if err := open(t).begin(ctx, change.Live, 12, 1, 10, 1); !errors.As(err, &other) {
			t.Errorf("got %v, want an *OpenTransactionError", err)
		}
	})
	t.Run("a tick instead of the open transaction", func(t *testing.T) {
		if err := open(t).tick(ctx, 12, 12); !errors.As(err, &other) {
			t.Errorf("got %v, want an *OpenTransactionError", err)
		}
	})
	t.Run("fewer rows than the stream holds", func(t *testing.T) {
		w := open(t)
		err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, 10, 1, 10, 1), w.row(ctx, row), w.commit(ctx, 11))
		if !errors.As(err, &other) {
			t.Errorf("got %v, want an *OpenTransactionError", err)
		}
	})
	fresh := func(t *testing.T) *messageWriter {
		var messages []frameMessage
		w := mustWriter(t, frameConfig(&messages))
		if err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, 10, 1, 10, 1)); err != nil {
			t.Fatal(err)
		}
		return w
	}
	t.Run("a row above the limit", func(t *testing.T) {
		err := fresh(t).row(ctx, appendInsert(nil, 1, []change.Value{{Kind: change.Text, Text: make([]byte, 1<<20)}}))
		if !errors.As(err, &large) || large.Table != "public.t" || large.Limit != 1<<20 || large.CommitLSN != 10 {
			t.Errorf("got %v, want a *RowTooLargeError", err)
		}
	})
	t.Run("a row of an unknown table", func(t *testing.T) {
		w := fresh(t)
		err := w.row(ctx, appendInsert(nil, 2, nil))
		if err == nil || !errors.Is(w.commit(ctx, 11), err) {
			t.Errorf("got %v, and not the same for what follows", err)
		}
	})
	t.Run("a row that cannot be decoded", func(t *testing.T) {
		var bad *MessageError
		if err := fresh(t).row(ctx, row[:len(row)-1]); !errors.As(err, &bad) {
			t.Errorf("got %v, want a *MessageError", err)
		}
	})
	scope := change.Scope{Low: 9, Tables: []change.Table{{Schema: "public", Name: "t"}}}
	for name, tc := range map[string]struct {
		kind  change.Kind
		steps func(w *messageWriter) error
	}{
		"a row of a refill that does not say what it reads": {change.Refill, func(w *messageWriter) error { return w.row(ctx, row) }},
		"the end of a backfill that does not":               {change.Backfill, func(w *messageWriter) error { return w.commit(ctx, 11) }},
		"a scope of what the source committed":              {change.Live, func(w *messageWriter) error { return w.scope(ctx, scope) }},
		"a second scope": {change.Refill, func(w *messageWriter) error {
			if err := w.scope(ctx, scope); err != nil {
				t.Fatal(err)
			}
			return w.scope(ctx, scope)
		}},
		"a scope without a table":              {change.Refill, func(w *messageWriter) error { return w.scope(ctx, change.Scope{Low: 9}) }},
		"a scope that is not below its refill": {change.Refill, func(w *messageWriter) error { return w.scope(ctx, change.Scope{Low: 10, Tables: scope.Tables}) }},
		"a scope above the largest message": {change.Refill, func(w *messageWriter) error {
			return w.scope(ctx, change.Scope{Tables: make([]change.Table, 800)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var messages []frameMessage
			w := mustWriter(t, frameConfig(&messages))
			if err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, tc.kind, 10, 1, 10, 1)); err != nil {
				t.Fatal(err)
			}
			if err := tc.steps(w); err == nil {
				t.Error("it is accepted")
			}
		})
	}
	t.Run("a version that is not above the one before", func(t *testing.T) {
		w := fresh(t)
		if err := w.commit(ctx, 11); err != nil {
			t.Fatal(err)
		}
		if err := w.begin(ctx, change.Live, 10, 1, 12, 1); err == nil {
			t.Error("it is accepted")
		}
	})
}
