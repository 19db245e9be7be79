package snapshot_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"syscall"
	"testing"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// joined are the examples that the join makes of a world, as copies.
func joined(tb testing.TB, view *memoryView, def *definition.Definition) []pit.Example {
	tb.Helper()
	p, err := pit.Compile(def, &view.info)
	if err != nil {
		tb.Fatal(err)
	}
	o := pit.Options{AsOf: view.info.AsOf, Window: 90 * 24 * time.Hour, CacheBytes: 16 << 20}
	related, err := pit.LoadRelated(context.Background(), view, def, o, tb.TempDir(), 64<<20)
	if err != nil {
		tb.Fatal(err)
	}
	defer related.Close()
	j := p.NewJoiner(related, o)
	var list []pit.Example
	all := history.Range{From: []byte("0"), To: strconv.AppendInt(nil, int64(len(view.entities["user"])), 10)}
	err = view.Scan(context.Background(), p.Entity(), all, func(e *history.Entity) error {
		return j.Entity(e, &pit.Tally{}, func(e *pit.Example) error {
			c := *e
			c.ID, c.EntityID = e.ID, e.EntityID
			c.Columns = append([]pit.Value(nil), e.Columns...)
			c.Values = append([]pit.Value(nil), e.Values...)
			c.Uniform, c.Same = nil, nil
			for _, of := range e.Uniform {
				c.Uniform = append(c.Uniform, append([]pit.Value(nil), of...))
			}
			list = append(list, c)
			return nil
		})
	})
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

// processCPU is the processor time that the process has taken, user and system.
func processCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRows measures all of a Dreamscape dataset but the join, whose examples
// are handed out again and again under other ids. A machine that is shared tells
// more by cpu-ns/candidate than by candidates/s.
func BenchmarkRows(b *testing.B) {
	view, def := dreamscape(b, 100, 11)
	list := joined(b, view, def)
	for _, size := range []int{10_000, 400_000} {
		parts := int(math.Ceil(float64(size) / float64(len(list))))
		b.Run(fmt.Sprintf("candidates=%d", size), func(b *testing.B) {
			s := &snapshot.TestSource{Count: parts, Make: func(part int, emit func(*pit.Example) error) error {
				prefix := strconv.Itoa(part) + "-"
				from, entity := "", ""
				for _, e := range list {
					if e.EntityID != from {
						from, entity = e.EntityID, prefix+e.EntityID
					}
					e.EntityID = entity
					e.ID = prefix + e.ID
					if err := emit(&e); err != nil {
						return err
					}
				}
				return nil
			}}
			began := processCPU()
			for b.Loop() {
				c := snapshot.Config{
					View: view, Definition: def, Version: "1.0", NegativeRatio: "2.0", TestSize: "0.2", Seed: 42, Output: b.TempDir(), Key: key,
					Workers: 2, Program: "bench",
				}
				if _, err := snapshot.BuildFrom(context.Background(), c, s); err != nil {
					b.Fatal(err)
				}
			}
			candidates := float64(parts * len(list) * b.N)
			b.ReportMetric(candidates/b.Elapsed().Seconds(), "candidates/s")
			b.ReportMetric(float64((processCPU()-began).Nanoseconds())/candidates, "cpu-ns/candidate")
		})
	}
}
