package featurestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// The crash test runs this test binary again as a child, with the store's
// directory in this variable and the seed of the feed in the other.
const (
	childEnv = "DREAMFEED_STORE_CHILD"
	seedEnv  = "DREAMFEED_STORE_CHILD_SEED"
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
// it begins. It is killed.
func child(dir string) {
	n, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
	if err != nil {
		panic(err)
	}
	g := crashFeed(n)
	s, err := featurestore.Open(dir, featurestore.Options{Definition: g.def, Memory: 48 << 20, GroupEntries: 64})
	if err != nil {
		panic(err)
	}
	in := &list{batches: g.f.batches[s.Watermark().Sequence:], on: func(b *change.Batch) {
		fmt.Println(b.Sequence, s.Watermark().Sequence)
	}}
	if err := s.Run(context.Background(), in); err != nil {
		panic(err)
	}
}

// TestKilledStoreEqualsUnkilled (I2, I3), in the middle of refills too: a process that applies is killed over
// and over; what it had reported as applied is there, and in the end the store
// equals the model.
func TestKilledStoreEqualsUnkilled(t *testing.T) {
	r := seed(t)
	n := r.Uint64()
	g := crashFeed(n)
	dir := t.TempDir()
	var last uint64
	kills := 0
	for last < uint64(len(g.f.batches)) && kills < 8 {
		last = killedRun(t, r, dir, g.def, n, last, len(g.f.batches))
		kills++
	}
	t.Logf("%d kills, message %d of %d begun", kills, last, len(g.f.batches))
	s := open(t, dir, featurestore.Options{Definition: g.def})
	apply(t, s, g.f.batches...)
	v := view(t, s, 0)
	sameRows(t, g.asOf(v.Info()), dump(t, v, 3, g.ends))
	for _, table := range g.tables() {
		if got := s.Status().Rows[table]; got != int64(len(g.src[table])) {
			t.Errorf("table %s: the store counts %d live rows, the source has %d", table, got, len(g.src[table]))
		}
	}
}

// killedRun runs the child and kills it at a random message after from.
func killedRun(t *testing.T, r *rand.Rand, dir string, def *definition.Definition, seed, from uint64, total int) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, seedEnv+"="+strconv.FormatUint(seed, 10))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := from + 1 + r.Uint64N(uint64(total)/8)
	var begun, applied uint64
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscan(lines.Text(), &begun, &applied); err != nil {
			t.Fatalf("the child said %q: %v", lines.Text(), err)
		}
		if begun >= stop || begun >= uint64(total) {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	var unclean *featurestore.UncleanError
	if _, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true}); !errors.As(err, &unclean) {
		t.Errorf("a killed store opened read-only: %v, want an UncleanError", err)
	}
	s, err := featurestore.Open(dir, featurestore.Options{Definition: def, Memory: 48 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Watermark().Sequence; got < applied {
		t.Fatalf("the child reported message %d as applied, after the kill the store is at %d", applied, got)
	}
	return begun
}
