package featurestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// The crash test runs this test binary again as a child, with the store's
// directory in this variable and the seed of the feed in the other.
const (
	childEnv = "DREAMFEED_STORE_CHILD"
	seedEnv  = "DREAMFEED_STORE_CHILD_SEED"
	// replayEnv is set for a child whose store is replayable.
	replayEnv = "DREAMFEED_STORE_CHILD_REPLAY"
)

// crashFeed is the feed of the crash test: the same for a seed, in parent and child.
func crashFeed(seed uint64) *world {
	return eventfulFeed(rand.New(rand.NewPCG(seed, 2)), 1500, 0)
}

// list gives batches as an Input that is always ready.
type list struct {
	batches []*change.Batch
	on      func(*change.Batch)
}

func (l *list) Next(ctx context.Context) (*change.Batch, error) {
	if len(l.batches) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b := l.batches[0]
	l.batches = l.batches[1:]
	if l.on != nil {
		l.on(b)
	}
	return b, nil
}

func (l *list) Ready() bool { return len(l.batches) > 0 && l.batches[0].Sequence%3 != 0 }

// child applies the feed from where the store is, and says each sequence that
// it begins, and up to which the store is durable. It is killed.
func child(dir string) {
	n, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
	if err != nil {
		panic(err)
	}
	g := crashFeed(n)
	replayable := os.Getenv(replayEnv) != ""
	s, err := featurestore.Open(dir, featurestore.Options{Definition: g.def, Memory: 48 << 20, GroupEntries: 64, Replayable: replayable})
	if err != nil {
		panic(err)
	}
	in := &list{batches: g.f.batches[s.Watermark().Sequence:], on: func(b *change.Batch) {
		if replayable && b.Sequence%60 == 0 {
			if err := s.Checkpoint(context.Background()); err != nil {
				panic(err)
			}
		}
		fmt.Println(b.Sequence, s.Durable().Sequence)
	}}
	if err := s.Run(context.Background(), in); err != nil {
		panic(err)
	}
}

// TestKilledStoreEqualsUnkilled (I2, I3), in the middle of refills too: a process that applies is killed over
// and over, some with a replayable store and some with one that syncs; what it had
// reported as durable is there, and in the end the store equals the model.
func TestKilledStoreEqualsUnkilled(t *testing.T) {
	r := seed(t)
	n := r.Uint64()
	g := crashFeed(n)
	dir := t.TempDir()
	var last, durable uint64
	kills, back := 0, 0
	for last < uint64(len(g.f.batches)) && kills < 12 {
		k := kill{seed: n, from: last, total: uint64(len(g.f.batches)), replayable: r.IntN(3) > 0}
		k.run(t, r, dir)
		durable = max(durable, k.durable)
		var unclean *featurestore.UncleanError
		if _, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true}); !errors.As(err, &unclean) {
			t.Errorf("a killed store opened read-only: %v, want an UncleanError", err)
		}
		if r.IntN(2) == 0 { // else the next child finds what this one left
			s, err := featurestore.Open(dir, featurestore.Options{Definition: g.def, Memory: 48 << 20, Replayable: r.IntN(2) == 0})
			if err != nil {
				t.Fatal(err)
			}
			got := s.Watermark().Sequence
			if got < durable {
				t.Fatalf("message %d was reported as durable, after the kill the store is at %d", durable, got)
			}
			if k.replayable && got < k.begun-1 {
				back++
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		last = k.begun
		kills++
	}
	t.Logf("%d kills, of which %d took the store back, message %d of %d begun", kills, back, last, len(g.f.batches))
	s := open(t, dir, featurestore.Options{Definition: g.def})
	if got := s.Watermark().Sequence; got < durable {
		t.Fatalf("message %d was reported as durable, in the end the store is at %d", durable, got)
	}
	apply(t, s, g.f.batches...)
	v := view(t, s, 0)
	sameRows(t, g.asOf(v.Info()), dump(t, v, 3, g.ends))
	for _, table := range g.tables() {
		if got := s.Status().Rows[table]; got != int64(len(g.src[table])) {
			t.Errorf("table %s: the store counts %d live rows, the source has %d", table, got, len(g.src[table]))
		}
	}
}

// kill is a run of the child that ends by a signal at a random message after from.
type kill struct {
	seed, from, total uint64
	replayable        bool
	begun, durable    uint64 // what the child said last
}

func (k *kill) run(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, seedEnv+"="+strconv.FormatUint(k.seed, 10))
	if k.replayable {
		cmd.Env = append(cmd.Env, replayEnv+"=1")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := k.from + 1 + r.Uint64N(k.total/8)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscan(lines.Text(), &k.begun, &k.durable); err != nil {
			t.Fatalf("the child said %q: %v", lines.Text(), err)
		}
		if k.begun >= stop || k.begun >= k.total {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if k.replayable {
		damageLogs(t, r, dir)
	}
}

// damageLogs does to the logs of a replayable store what a power cut may do.
func damageLogs(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		switch at := r.Int64N(info.Size() + 1); r.IntN(4) {
		case 0:
			err = os.Remove(path)
		case 1:
			err = os.Truncate(path, at)
		case 2: // pages that were not written
			var f *os.File
			if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				_, err = f.WriteAt(make([]byte, min(info.Size()-at, 64<<10)), at)
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
