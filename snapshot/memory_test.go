package snapshot_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// TestMemoryStaysFlat is I10: a build of some 760,000 examples, which alone
// would take more than 500 MiB if they were held, needs the buffers of a few
// row groups.
func TestMemoryStaysFlat(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	list := randomExamples(rand.New(rand.NewPCG(1, 1)), 200, testDefinition())
	peak := func(stage string, parts int) (bytes uint64, rows int64) {
		def := testDefinition()
		def.Charts = nil
		c := config(t, def)
		c.Stage = stage
		c.Progress = func(string, int64, int64) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			bytes = max(bytes, m.HeapInuse)
		}
		s := &snapshot.TestSource{Count: parts, Make: func(part int, emit func(*pit.Example) error) error {
			prefix := fmt.Sprint(part, "-")
			for _, e := range list {
				e.EntityID = prefix + e.EntityID
				e.ID = prefix + e.ID
				if err := emit(&e); err != nil {
					return err
				}
			}
			return nil
		}}
		got, err := snapshot.BuildFrom(context.Background(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		return bytes, got.Funnel[0].Count
	}
	const most = 256 << 20
	for _, stage := range []string{snapshot.StageDataset, snapshot.StageFeatures} {
		bytes, rows := peak(stage, 700)
		t.Logf("%s: %d rows took %d MiB", stage, rows, bytes>>20)
		if rows < 700_000 || bytes > most {
			t.Errorf("%s: %d rows took %d MiB, want at most %d for 700,000 or more", stage, rows, bytes>>20, most>>20)
		}
	}
}
