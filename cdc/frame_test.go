package cdc

import (
	"bytes"
	"errors"
	"testing"

	"dreamfeed/internal/change"
)

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
