package cdc

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

// A refill describes its tables as they were read; the rows behind it are as the
// source has described them, also in the same message.
func TestRefillLeavesTheSourcesDescriptions(t *testing.T) {
	ctx := t.Context()
	column := func(names ...string) (columns []change.Column) {
		for _, name := range names {
			columns = append(columns, change.Column{Name: name, Type: 25, Modifier: -1})
		}
		return columns
	}
	described := &change.Relation{ID: 1, Schema: "public", Name: "t", Replica: 'd', Columns: column("a")}
	read := &change.Relation{ID: 1, Schema: "public", Name: "t", Replica: 'd', Columns: column("a", "b")}
	other := &change.Relation{ID: 2, Schema: "public", Name: "u", Replica: 'd', Columns: column("c")}
	null := change.Value{Kind: change.Null}
	for name, tc := range map[string]struct {
		described []*change.Relation
		abandoned bool
		flushed   bool
		want      string
	}{
		"in one message":       {[]*change.Relation{described}, false, false, "t(a) t(a,b) u(c) t(a)"},
		"in different ones":    {[]*change.Relation{described}, false, true, "t(a) t(a,b) u(c) t(a)"},
		"after an abandonment": {[]*change.Relation{described}, true, false, "t(a) t(a)"},
		"of the same columns":  {[]*change.Relation{described, other}, false, false, "t(a) t(a,b) u(c) t(a) u(c)"},
	} {
		t.Run(name, func(t *testing.T) {
			var messages []frameMessage
			w := mustWriter(t, frameConfig(&messages))
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			step := change.Version(0)
			live := func(rel *change.Relation) {
				step += 10
				check(w.begin(ctx, change.Live, step, 1, change.LSN(step), 1))
				values := make([]change.Value, len(rel.Columns))
				for i := range values {
					values[i] = null
				}
				check(w.row(ctx, appendInsert(nil, rel.ID, values)))
				check(w.commit(ctx, change.LSN(step)+1))
			}
			for _, rel := range tc.described {
				check(w.relation(appendRelation(nil, rel)))
			}
			live(described)
			lent, err := w.lend([][]byte{appendRelation(nil, read), appendRelation(nil, other)})
			check(err)
			step++
			check(w.begin(ctx, change.Refill, step, 1, 11, 0))
			check(w.scope(ctx, change.Scope{Tables: []change.Table{{Name: "t"}, {Name: "u"}}}))
			check(w.row(ctx, appendInsert(nil, 1, []change.Value{null, null})))
			check(w.row(ctx, appendInsert(nil, 2, []change.Value{null})))
			if tc.flushed {
				check(w.flush(ctx))
			}
			if tc.abandoned {
				check(w.abandon(ctx))
			} else {
				check(w.commit(ctx, 11))
			}
			w.takeBack(lent)
			for _, rel := range tc.described {
				live(rel)
			}
			if w.relations[2] != nil && len(tc.described) == 1 {
				t.Error("a description that the source did not send is kept")
			}
			check(w.flush(ctx))
			var d Decoder
			rows, _ := readMessages(t, &d, messages)
			var got []string
			for _, row := range rows {
				if row.Op == 0 {
					continue // a scope
				}
				var names []string
				for _, c := range row.Relation.Columns {
					names = append(names, c.Name)
				}
				got = append(got, fmt.Sprintf("%s(%s)", row.Relation.Name, bytes.Join(toBytes(names), []byte(","))))
			}
			if shown := string(bytes.Join(toBytes(got), []byte(" "))); shown != tc.want {
				t.Errorf("the stream holds %q, want %q", shown, tc.want)
			}
		})
	}
}

func toBytes(words []string) (b [][]byte) {
	for _, w := range words {
		b = append(b, []byte(w))
	}
	return b
}

// I3: what a killed process left open of a refill is abandoned before anything
// else; a transaction of the source goes on.
func TestOnlyRefillsLeftOpenAreAbandoned(t *testing.T) {
	rel := appendRelation(nil, &change.Relation{ID: 1, Schema: "public", Name: "t", Replica: 'd', Columns: []change.Column{{Name: "a"}}})
	for kind, want := range map[change.Kind]bool{change.Live: true, change.Refill: false} {
		ctx := t.Context()
		log, err := OpenLog(ctx, LogConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s := &Source{cfg: Config{Log: log}.withDefaults()}
		open := func() *outlet {
			t.Helper()
			last, sequence, _, err := log.Last(ctx)
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.openOutlet(change.Origin{System: 1, Timeline: 1}, last, sequence, newVersioner(time.Now, time.Now(), false))
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		f := open()
		steps := []error{f.writer.tick(ctx, 5, 50), f.writer.relation(rel), f.writer.begin(ctx, kind, 10, 1, 60, 0)}
		if kind == change.Refill {
			steps = append(steps, f.writer.scope(ctx, change.Scope{Low: 5, Tables: []change.Table{{Name: "t"}}}))
		}
		steps = append(steps, f.writer.row(ctx, appendInsert(nil, 1, []change.Value{{Kind: change.Null}})), f.flush(ctx))
		if err := errors.Join(steps...); err != nil {
			t.Fatal(err)
		}
		f.close()
		f = open()
		if err := f.abandonRefill(ctx); err != nil {
			t.Fatal(err)
		}
		if _, got := f.writer.resumed(); got != want {
			t.Errorf("kind %d: still open is %t, want %t", kind, got, want)
		}
		f.close()
		header, _, _, err := log.Last(ctx)
		if err != nil || header.Open != want || header.Resume != 50 {
			t.Errorf("kind %d: the stream ends with %+v, %v", kind, header, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSpillHoldsWhatWasAdded(t *testing.T) {
	r := newStreamRand(t)
	dir := t.TempDir()
	s, err := newSpill(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	for range 2000 {
		message := make([]byte, r.IntN(900))
		for i := range message {
			message[i] = byte(r.Uint32())
		}
		want = append(want, message)
		if err := s.add(message); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	collect := func(message []byte) error {
		got = append(got, bytes.Clone(message))
		return nil
	}
	for range 2 {
		got = nil
		if err := s.each(1000, collect); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || !cmp.Equal(bytes.Join(want, nil), bytes.Join(got, nil)) {
			t.Fatal("rows read differ from those written")
		}
	}
	stop := errors.New("stop")
	if err := s.each(1000, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the caller's error", err)
	}
	if err := s.each(100, collect); !errors.Is(err, errSpillDamaged) {
		t.Errorf("a row above the limit: got %v", err)
	}
	whole, err := os.ReadFile(s.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	damage := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(s.file.Name(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.each(1000, func([]byte) error { return nil }); !errors.Is(err, errSpillDamaged) {
			t.Errorf("%s: got %v, want damage", what, err)
		}
	}
	for range 200 {
		at := r.IntN(len(whole))
		data := bytes.Clone(whole)
		data[at] ^= 1 << r.IntN(8)
		damage(fmt.Sprintf("byte %d", at), data)
	}
	for range 50 {
		damage("a cut file", whole[:r.IntN(len(whole))])
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestSpillLeavesTheReserveAlone(t *testing.T) {
	dir := t.TempDir()
	var room *SpillRoomError
	if _, err := newSpill(dir, func() uint64 { return 1 << 62 }); !errors.As(err, &room) || room.Dir != dir || room.Reserve != 1<<62 {
		t.Errorf("got %v, want a *SpillRoomError", err)
	}
	s, err := newSpill(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.reserve = func() uint64 { return 1 << 62 } // as if the disk had filled up meanwhile
	row := make([]byte, 64<<10)
	for err == nil && s.bytes < 2*spillCheckEvery {
		err = s.add(row)
	}
	if !errors.As(err, &room) || s.bytes > spillCheckEvery {
		t.Errorf("after %d bytes: got %v, want a *SpillRoomError", s.bytes, err)
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
}

// Files of a killed process go at the start; what is not ours stays.
func TestSpillsOfAKilledProcessAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "refill")
	if err := clearSpills(dir); err != nil {
		t.Fatal(err)
	}
	killed, err := newSpill(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clearSpills(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "notes.txt" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// I3: rows of a transaction of which the stream holds a part are found again by
// counting; when a table's rows are left out that may not have been, or the other
// way round, the transaction is framed anew.
func TestTransactionUnderWayIsFramedAnewUnderAnotherDefinition(t *testing.T) {
	ctx := t.Context()
	relation := func(id uint32, name string) []byte {
		return appendRelation(nil, &change.Relation{ID: id, Schema: "public", Name: name, Replica: 'd', Columns: []change.Column{{Name: "a"}}})
	}
	row := func(id uint32) []byte { return appendInsert(nil, id, []change.Value{{Kind: change.Null}}) }
	for name, tc := range map[string]struct {
		dropped, doubtful map[uint32]bool
		held              int // rows in the stream
		anew              bool
	}{
		"a table that was dropped":         {map[uint32]bool{2: true}, nil, 2, true},
		"a table that is to be refilled":   {nil, map[uint32]bool{2: true}, 2, true},
		"behind what the stream holds":     {map[uint32]bool{2: true}, nil, 1, false},
		"no other definition":              {nil, map[uint32]bool{3: true}, 2, false},
		"nothing of it is in the stream":   {map[uint32]bool{2: true}, nil, 0, false},
		"all of it is, and it is refilled": {nil, map[uint32]bool{1: true}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			log := openTestLog(t, LogConfig{})
			s := &Source{cfg: Config{Log: log}.withDefaults()}
			s.status.init()
			open := func() *outlet {
				t.Helper()
				last, sequence, _, err := log.Last(ctx)
				if err != nil {
					t.Fatal(err)
				}
				f, err := s.openOutlet(change.Origin{System: 1, Timeline: 1}, last, sequence, newVersioner(time.Now, time.Now(), false))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(f.close)
				return f
			}
			f := open()
			if err := errors.Join(f.writer.tick(ctx, 5, 50), f.writer.relation(relation(1, "t")), f.writer.relation(relation(2, "u")), f.writer.begin(ctx, change.Live, 10, 1, 60, 0)); err != nil {
				t.Fatal(err)
			}
			for i := range tc.held {
				if err := f.writer.row(ctx, row(uint32(1+i%2))); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.flush(ctx); err != nil {
				t.Fatal(err)
			}
			if tc.held == 0 {
				f.writer.tx = writerTransaction{} // nothing was written of it
			}
			f.close()

			f = open()
			frame := &framer{source: s, feed: f, skipped: tc.dropped, doubtful: tc.doubtful, foreign: map[uint32]string{}}
			for id := range tc.dropped {
				frame.foreign[id] = "u"
			}
			if err := errors.Join(f.writer.relation(relation(1, "t")), f.writer.relation(relation(2, "u")), f.writer.begin(ctx, change.Live, 10, 1, 60, 0)); err != nil {
				t.Fatal(err)
			}
			err := frame.sift(ctx, row(1))
			if err == nil {
				err = frame.sift(ctx, row(2))
			}
			if anew := errors.Is(err, errOtherRows); anew != tc.anew || err != nil && !anew {
				t.Fatalf("got %v, want it framed anew: %t", err, tc.anew)
			}
			if last := f.writer.last(); tc.anew && (last.Open || !passing(err)) {
				t.Errorf("the stream ends with %+v", last)
			}
		})
	}
}
