package featurestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

func TestBrokenChainsStop(t *testing.T) {
	rels := relations()
	for name, c := range map[string]struct {
		change func(*change.Batch)
		field  string
	}{
		"another version before":       {func(b *change.Batch) { b.Header.Previous-- }, "the version before"},
		"an older epoch":               {func(b *change.Batch) { b.Header.Epoch-- }, "the epoch"},
		"another origin":               {func(b *change.Batch) { b.Header.Origin.System++ }, "the source's origin"},
		"a stream made anew":           {func(b *change.Batch) { b.Incarnation++; b.Sequence = 1; b.Header.Previous = 0 }, "the stream's incarnation"},
		"a part too many":              {func(b *change.Batch) { b.Entries[0].Transaction.Part = 1 }, "the part"},
		"a version that does not rise": {func(b *change.Batch) { b.Entries[0].Transaction.Version = 1000 }, "the version"},
		"ordinals that do not rise":    {func(b *change.Batch) { b.Entries[0].Transaction.Rows[1].Ordinal = 0 }, "the ordinal of a row"},
		"an open mark without cause":   {func(b *change.Batch) { b.Header.Open = true }, "the header's open mark"},
		"another last version":         {func(b *change.Batch) { b.Header.Last++ }, "the header's last version"},
		"an abandoned closed version":  {func(b *change.Batch) { b.Entries = []change.Entry{{Abandoned: 1000}} }, "the abandoned version"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := smallStore(t)
			f.transaction(change.Live, 2000, []change.Row{
				insert(rels["users"], 0, map[string]string{"id": "3"}), insert(rels["users"], 1, map[string]string{"id": "4"}),
			}, 1, false)
			c.change(f.batches[1])
			before := s.Watermark()
			err := s.Apply(t.Context(), f.batches[1])
			var broken *featurestore.ChainError
			if !errors.As(err, &broken) || broken.Field != c.field {
				t.Errorf("got %v, want a ChainError of %s", err, c.field)
			}
			if s.Watermark() != before {
				t.Error("the watermark moved")
			}
		})
	}
	t.Run("a new incarnation that continues the version is taken", func(t *testing.T) {
		s, f := smallStore(t)
		f.incarnation, f.sequence = 10, 0
		f.tick(2000)
		apply(t, s, f.batches[1])
		if w := s.Watermark(); w.Incarnation != 10 || w.Sequence != 1 || w.Version != 2000 {
			t.Errorf("watermark %+v", w)
		}
	})
	t.Run("a skipped sequence is taken when the chain holds", func(t *testing.T) {
		// The messages between were carriers of pieces of a large row.
		s, f := smallStore(t)
		f.sequence += 3
		f.tick(2000)
		apply(t, s, f.batches[1])
		if w := s.Watermark(); w.Sequence != 5 || w.Version != 2000 {
			t.Errorf("watermark %+v", w)
		}
	})
	t.Run("a part that is missing is seen", func(t *testing.T) {
		for _, missing := range []int{1, 2} {
			s, f := smallStore(t)
			var rows []change.Row
			for i := range 8 {
				rows = append(rows, insert(rels["users"], uint32(i), map[string]string{"id": fmt.Sprint(i)}))
			}
			f.transaction(change.Live, 2000, rows, 4, false)
			apply(t, s, f.batches[1:1+missing]...)
			var broken *featurestore.ChainError
			if err := s.Apply(t.Context(), f.batches[2+missing]); !errors.As(err, &broken) {
				t.Errorf("without part %d: %v", missing, err)
			}
		}
	})
	t.Run("a backfill is tried again in a new epoch", func(t *testing.T) {
		s := open(t, t.TempDir(), featurestore.Options{})
		f := newFeed()
		rows := []change.Row{insert(rels["users"], 0, map[string]string{"id": "1"}), insert(rels["users"], 1, map[string]string{"id": "2"})}
		f.transaction(change.Backfill, 1000, rows, 2, true)
		f.abandon(1000)
		f.batches[2].Header.Epoch = 2
		f.transaction(change.Backfill, 2000, rows[:1], 1, false)
		f.batches[3].Header.Epoch = 2
		apply(t, s, f.batches...)
		got := dump(t, view(t, s, 0), 1)
		if w := s.Watermark(); w.Epoch != 2 || w.Birth != 2000 || len(got) != 1 || len(got["user:1/users/1"]) != 1 {
			t.Errorf("watermark %+v, rows %v", w, got)
		}
	})
	for name, c := range map[string]struct {
		epochs int
		kind   change.Kind
		scope  *change.Scope
		field  string
	}{
		"a second backfill in one epoch is refused":      {0, change.Backfill, &change.Scope{Low: 1000}, "the kind of the transaction"},
		"a live change before a new epoch's backfill is": {1, change.Live, nil, "the kind of the transaction"},
		"a refill before a new epoch's backfill is":      {1, change.Refill, &change.Scope{Low: 1000}, "the kind of the transaction"},
		"a refill without scope is":                      {0, change.Refill, nil, "the scope of a refill"},
		"a new epoch's backfill without scope is":        {1, change.Backfill, nil, "the scope of a backfill"},
		"a refill that saw itself is":                    {0, change.Refill, &change.Scope{Low: 3000}, "the low version of a refill"},
		"an epoch that was passed over is":               {2, change.Backfill, &change.Scope{Low: 1000}, "the epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := smallStore(t)
			f.epoch += change.Epoch(c.epochs)
			f.scope = c.scope
			f.transaction(c.kind, 3000, nil, 1, false)
			var broken *featurestore.ChainError
			if err := s.Apply(t.Context(), f.batches[1:]...); !errors.As(err, &broken) || broken.Field != c.field {
				t.Errorf("got %v, want a ChainError of %s", err, c.field)
			}
		})
	}
	t.Run("a transaction does not go on in another epoch", func(t *testing.T) {
		s, f := smallStore(t)
		rows := []change.Row{insert(rels["users"], 0, map[string]string{"id": "3"}), insert(rels["users"], 1, map[string]string{"id": "4"})}
		f.transaction(change.Live, 2000, rows, 2, false)
		f.batches[2].Header.Epoch++
		var broken *featurestore.ChainError
		if err := s.Apply(t.Context(), f.batches[1:]...); !errors.As(err, &broken) || broken.Field != "the first entry of the epoch" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitReturnsWhenApplied(t *testing.T) {
	s, f := smallStore(t)
	if v, err := s.Wait(t.Context(), 1001); err != nil || v != 1000 {
		t.Errorf("wait for what is applied: %v, %v", v, err)
	}
	f.tick(5000)
	got := make(chan error, 1)
	go func() {
		v, err := s.Wait(t.Context(), 5000)
		if err == nil && v != 5000 {
			err = fmt.Errorf("version %d, want 5000", v)
		}
		got <- err
	}()
	apply(t, s, f.batches[1])
	if err := <-got; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, 1<<40); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for what never comes: %v", err)
	}
	if s.DurableLSN() != 5000 {
		t.Errorf("durable LSN %s", s.DurableLSN())
	}
}

func TestFullDiskPausesApplying(t *testing.T) {
	rels := relations()
	f := newFeed()
	f.transaction(change.Backfill, 1000, []change.Row{insert(rels["users"], 0, map[string]string{"id": "1"})}, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{DiskReserve: 1 << 62})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, &list{batches: f.batches}) }()
	for !s.Status().Paused {
		select {
		case err := <-done:
			t.Fatalf("applying ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, featurestore.ErrDiskReserve) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if w := s.Watermark(); w.Sequence != 0 {
		t.Errorf("something was written: %+v", w)
	}
}

// What a merge of the tables may write before it gives anything back is left alone
// beside the reserve: at least what the tables take by now.
func TestDiskReserveGrowsWithWhatAMergeWrites(t *testing.T) {
	const reserve = 1 << 20
	dir := t.TempDir()
	rels := relations()
	f := newFeed()
	o := featurestore.Options{Memory: 48 << 20, DiskReserve: reserve}
	write := func(id int) uint64 {
		s := open(t, dir, o)
		big := bytes.Repeat([]byte("x"), 200<<10)
		f.transaction(change.Live, change.Version(1000*id), []change.Row{insert(rels["users"], 0, map[string]string{"id": strconv.Itoa(id), "big": string(big)})}, 1, false)
		if err := s.Apply(t.Context(), f.batches...); err != nil {
			t.Fatal(err)
		}
		left := s.DiskReserve()
		if err := s.Close(); err != nil { // the memtable becomes a table
			t.Fatal(err)
		}
		return left
	}
	empty := write(1)
	if empty < reserve+3*12<<20 {
		t.Errorf("%d bytes are left alone, less than the reserve and three memtables of 12 MiB", empty)
	}
	var tables uint64
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		tables += uint64(info.Size())
	}
	if got := write(2); tables < 200<<10 || got != empty+tables {
		t.Errorf("with tables of %d bytes %d more are left alone", tables, got-empty)
	}
	s := open(t, t.TempDir(), featurestore.Options{Memory: 48 << 20})
	if got := s.DiskReserve(); got != 0 {
		t.Errorf("%d bytes are left alone without a reserve", got)
	}
}

func TestRunEndsWithItsContextAndWithTheStore(t *testing.T) {
	s, f := smallStore(t)
	f.tick(2000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, &list{batches: f.batches}) }()
	if _, err := s.Wait(t.Context(), 2000); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context()); !errors.Is(err, featurestore.ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	in := idle{begun: make(chan struct{})}
	go func() { done <- s.Run(t.Context(), in) }()
	<-in.begun
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, featurestore.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := s.View(0); !errors.Is(err, featurestore.ErrClosed) {
		t.Errorf("a view of a closed store: %v", err)
	}
}

// idle is an Input that says when it is asked, and never has anything.
type idle struct{ begun chan struct{} }

func (i idle) Next(ctx context.Context) (*change.Batch, error) {
	close(i.begun)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (idle) Ready() bool { return false }
