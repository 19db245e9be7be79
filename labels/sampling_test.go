package labels_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"dreamfeed/labels"
)

func TestHashIsTheFirstEightBytesOfTheContractsDigest(t *testing.T) {
	for _, seed := range []int64{42, 0, -7, math.MaxInt64} {
		h := labels.NewHasher(labels.DomainNegatives, seed)
		for _, id := range []string{"rec-1", "", "é", string(make([]byte, 500)), "rec-1"} {
			sum := sha256.Sum256([]byte("negatives\x00" + fmt.Sprint(seed) + "\x00" + id))
			if got, want := h.Hash(id), binary.BigEndian.Uint64(sum[:]); got != want {
				t.Errorf("hash of %q with seed %d is %x, want %x", id, seed, got, want)
			}
		}
	}
	a := labels.NewHasher(labels.DomainNegatives, 42).Hash("x")
	if b := labels.NewHasher(labels.DomainSplit, 42).Hash("x"); a == b {
		t.Error("two domains hash an id alike")
	}
}

func TestHashingDoesNotAllocate(t *testing.T) {
	h := labels.NewHasher(labels.DomainSplit, 42)
	if n := testing.AllocsPerRun(100, func() { h.Hash("0b8f2c1e-8f55-4c0e-9d0b-1f0e5d8b6a11") }); n != 0 {
		t.Errorf("hashing allocates %v times", n)
	}
}

func TestKeptNegativesAreCountedExactly(t *testing.T) {
	for _, c := range []struct {
		ratio         string
		m0, positives int64
		want          int64
	}{
		{"2.0", 100, 10, 20},
		{"2", 15, 10, 15},
		{"0", 100, 10, 0},
		{"0.1", 100, 10, 1},      // 0.1 × 10 is exactly 1
		{"0.29", 1000, 100, 29},  // a float64 gives 28.999999999999996
		{"1.15", 1000, 100, 115}, // a float64 gives 114.99999999999999
		{"2.999", 1000, 1, 2},    // rounded down
		{".5", 10, 3, 1},         // a leading point
		{"2.0", 100, 0, 0},       // nothing positive, nothing kept
		{"99999999999999999999", 7, math.MaxInt64, 7},
	} {
		ratio, err := labels.ParseRatio(c.ratio)
		if err != nil {
			t.Fatal(err)
		}
		if got := labels.Kept(c.m0, c.positives, ratio); got != c.want {
			t.Errorf("of %d at ratio %s and %d positives %d are kept, want %d", c.m0, c.ratio, c.positives, got, c.want)
		}
	}
	if got := labels.Weight(100, 40); got != 2.5 {
		t.Errorf("weight of 40 kept out of 100 is %v, want 2.5", got)
	}
}

func TestTestRowsAreRoundedHalfUpExactly(t *testing.T) {
	for _, c := range []struct {
		size    string
		n, want int64
	}{
		{"0.2", 10, 2},
		{"0.2", 12, 2},
		{"0.2", 13, 3},
		{"0.5", 1, 1},
		{"0.5", 3, 2},
		{"0.2", 0, 0},
		{"0.2", 2, 0},
		{"0.2", 3, 1},
		{"0.35", 10, 4},                     // 3.5 rounds up
		{"0.145", 100, 15},                  // 14.5; a float64 gives 14.499999999999998
		{"0.49999999999999999999", 1, 0},    // just below a half
		{"0.2", 1_000_000_007, 200_000_001}, // 200,000,001.4
	} {
		size, err := labels.ParseTestSize(c.size)
		if err != nil {
			t.Fatal(err)
		}
		if got := labels.TestCount(size, c.n); got != c.want {
			t.Errorf("test rows of %d at %s: %d, want %d", c.n, c.size, got, c.want)
		}
	}
}

func TestNumbersThatAreNoExactDecimalAreRefused(t *testing.T) {
	for _, s := range []string{"", ".", "-1", "+1", "1e3", "1,5", "0x2", "1.2.3", " 1", "NaN", "inf", "1_000", "²", string(make([]byte, 100))} {
		if _, err := labels.ParseDecimal(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	for _, s := range []string{"0", "0.0", "1", "1.0", "2", "x"} {
		if _, err := labels.ParseTestSize(s); err == nil {
			t.Errorf("test size %q was accepted", s)
		}
	}
}

func TestSelectorChoosesWhatASortChooses(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type pair struct {
		hash uint64
		id   string
	}
	for round := range 400 {
		n := rng.IntN(300)
		pairs := make([]pair, n)
		for i := range pairs {
			h := rng.Uint64()
			if round%3 == 0 { // many equal hashes, so that ids decide
				h = uint64(rng.IntN(4)) << 62
			}
			pairs[i] = pair{h, fmt.Sprintf("id-%03d", i)}
		}
		rng.Shuffle(n, func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		m := int64(rng.IntN(n + 3))
		workers := 1 + rng.IntN(4)
		bits := []uint{0, 1, 4, 16}[rng.IntN(4)]

		total := labels.NewSelectorBits(bits)
		for w := range workers {
			s := labels.NewSelectorBits(bits)
			for i := w; i < n; i += workers {
				s.Add(pairs[i].hash)
			}
			total.Merge(s)
		}
		if total.Len() != int64(n) {
			t.Fatalf("round %d: the selector counts %d of %d", round, total.Len(), n)
		}
		resolver := total.Resolve(m)
		forks := make([]*labels.Resolver, workers)
		for w := range forks {
			forks[w] = resolver.Fork()
			for i := w; i < n; i += workers {
				forks[w].Add(pairs[i].hash, pairs[i].id)
			}
		}
		for _, f := range forks {
			resolver.Merge(f)
		}
		limit := resolver.Threshold()

		sorted := append([]pair(nil), pairs...)
		sort.Slice(sorted, func(i, j int) bool {
			return sorted[i].hash < sorted[j].hash || sorted[i].hash == sorted[j].hash && sorted[i].id < sorted[j].id
		})
		for i, p := range sorted {
			if got, want := limit.Keep(p.hash, p.id), int64(i) < m; got != want {
				t.Fatalf("round %d: pair %d of %d with m %d is kept: %v, want %v", round, i, n, m, got, want)
			}
		}
	}
}

func BenchmarkHash(b *testing.B) {
	h := labels.NewHasher(labels.DomainNegatives, 42)
	b.ReportAllocs()
	for b.Loop() {
		h.Hash("0b8f2c1e-8f55-4c0e-9d0b-1f0e5d8b6a11")
	}
}
