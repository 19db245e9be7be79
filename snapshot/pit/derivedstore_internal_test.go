package pit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// parted is a program of one part of steps with values of all packings, which stand
// in runs of some length among the values of an example, and a table with versions
// that show it.
func parted(r *rand.Rand, steps int) (*Program, *part, int) {
	p := &part{place: r.IntN(3)}
	out := r.IntN(3)
	for k := range steps {
		p.steps = append(p.steps, step{out: out})
		p.packings = append(p.packings, packing(r.IntN(4)))
		if n := len(p.runs); n > 0 && p.runs[n-1].out+p.runs[n-1].n == out {
			p.runs[n-1].n++
		} else {
			p.runs = append(p.runs, run{k, out, 1})
		}
		out += 1 + r.IntN(5)/4
	}
	t := &table{shows: p.place + 1 + r.IntN(2)}
	return &Program{relations: []relation{{table: t}}}, p, out
}

func randomValue(r *rand.Rand, how packing) Value {
	if r.IntN(4) == 0 {
		return Value{}
	}
	v := Value{Valid: true}
	switch how {
	case packFloat:
		v.Float = []float32{float32(r.NormFloat64()), 0, float32(math.Copysign(0, -1)), float32(math.Inf(1))}[r.IntN(4)]
	case packWord:
		v.Int = int64(int32(r.Uint32()))
	case packLong:
		v.Int = int64(r.Uint64())
	case packText:
		v.Text = []string{"", "a", strconv.Itoa(r.IntN(50)), "Zürich"}[r.IntN(4)]
	}
	return v
}

// TestDerivedStoreShowsWhatWasKept holds the store against a map of what two joiners
// gave it, until it is full and beyond.
func TestDerivedStoreShowsWhatWasKept(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		const versions = 500
		program, p, all := parted(r, 1+r.IntN(70))
		limit := int64(4*versions*program.relations[0].table.shows + 4*chunkWords*(1+r.IntN(4)))
		d := newDerivedStore(program, versions, limit)
		joiners := []*derivedWriter{d.writer(), d.writer()}
		type record struct {
			values []Value
			standing
		}
		kept := map[uint64]record{}
		for range 3000 {
			j, v := joiners[r.IntN(2)], uint64(r.IntN(versions))
			values := make([]Value, all)
			for k, s := range p.steps {
				values[s.out] = randomValue(r, p.packings[k])
			}
			left := standing{late: r.IntN(5) == 0}
			for range r.IntN(8) / 6 * r.IntN(3) {
				left.faults = append(left.faults, faultCount{"c" + strconv.Itoa(r.IntN(3)), "bad"})
			}
			got, standing := slices.Repeat([]Value{{Valid: true, Text: "as it was"}}, all), standing{late: true}
			if !j.show(v, p, got, &standing) {
				if _, ok := kept[v]; ok {
					t.Fatalf("version %d is kept and not shown", v)
				}
				if j.keep(v, p, values, &left); d.refs[v*uint64(d.places)+uint64(p.place)].Load() != 0 {
					kept[v] = record{values, left}
				}
				continue
			}
			want := kept[v]
			if standing.late != want.late || !slices.Equal(standing.faults, want.faults) {
				t.Fatalf("version %d leaves %+v, want %+v", v, standing, want.standing)
			}
			places := map[int]bool{}
			for _, s := range p.steps {
				places[s.out] = true
			}
			for i := range got {
				switch {
				case !places[i] && got[i].Text != "as it was":
					t.Fatalf("value %d is not of the part, and was set", i)
				case places[i] && (got[i] != want.values[i] || math.Float32bits(got[i].Float) != math.Float32bits(want.values[i].Float)):
					t.Fatalf("version %d: value %d is %+v, want %+v", v, i, got[i], want.values[i])
				}
			}
		}
		if words := int64(4 * chunkWords * len(d.chunks)); words+int64(4*len(d.refs)) > limit {
			t.Errorf("%d bytes where %d are allowed", words+int64(4*len(d.refs)), limit)
		}
		if len(kept) == 0 {
			t.Error("nothing was kept")
		}
	}
}

// TestDerivedStoreKeepsNothingThatDoesNotFit: what is not kept is not shown.
func TestDerivedStoreKeepsNothingThatDoesNotFit(t *testing.T) {
	one := &part{steps: make([]step, 1), runs: []run{{0, 0, 1}}, packings: []packing{packWord}}
	program := &Program{relations: []relation{{table: &table{shows: 1}}}}
	shows := func(d *derivedWriter, version uint64) bool {
		return d.show(version, one, make([]Value, 1), &standing{})
	}

	none := newDerivedStore(program, 10, 4*chunkWords-1).writer()
	none.keep(3, one, []Value{{Valid: true, Int: 1}}, &standing{})
	d := newDerivedStore(program, 1<<20, 64<<20).writer()
	d.keep(0, one, []Value{{Valid: true, Int: math.MaxInt32 + 1}}, &standing{})
	d.keep(1<<20, one, []Value{{Valid: true, Int: 1}}, &standing{}) // a version that the store does not know
	if shows(none, 3) || shows(d, 0) || shows(d, 1<<20) {
		t.Error("no room, a wide integer or an unknown version is kept")
	}
	for i := range mostStandings + 10 {
		d.keep(uint64(1+i), one, []Value{{Valid: true, Int: 1}}, &standing{faults: []faultCount{{fmt.Sprint(i), "bad"}}})
	}
	if !shows(d, mostStandings-1) || shows(d, mostStandings) {
		t.Error("not just so many kinds of faults are kept as may be")
	}
	one.packings[0] = packText
	for i := range mostNames + 10 {
		d.keep(uint64(1000+i), one, []Value{{Valid: true, Text: fmt.Sprint("text ", i)}}, &standing{})
	}
	if !shows(d, 1000+mostNames-1) || shows(d, 1000+mostNames) {
		t.Error("not just so many texts are kept as may be")
	}
}
