package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"dreamfeed/internal/durable"
)

const orderGolden = "testdata/durable.golden"

// I1, I2: the order of the durable calls of a start, a backfill, a small
// transaction, a large one, an idle time and a stop is the one that is
// committed. An acknowledgement that moved ahead of a write is a difference.
func TestOrderOfDurableCalls(t *testing.T) {
	external := externalStream(t)
	var inside, outside string
	t.Run("scenarios", func(t *testing.T) {
		t.Run("embedded", func(t *testing.T) {
			t.Parallel()
			inside = scenario(t, [][]durable.Step{
				{durable.Publish, durable.Acknowledge, durable.Confirm},
				{durable.Publish, durable.Commit, durable.Show},
			})
		})
		t.Run("external", func(t *testing.T) {
			t.Parallel()
			outside = scenario(t, [][]durable.Step{
				{durable.Publish, durable.Acknowledge, durable.Confirm},
				{durable.Publish, durable.Commit, durable.Show, durable.Confirm},
			}, "--nats-url", external)
		})
	})
	if t.Failed() {
		return
	}
	got := "# The stream is inside the process: PostgreSQL is told what the stream has synced.\n" + inside +
		"\n# The stream is another's: PostgreSQL is told what the store has synced.\n" + outside
	if *update {
		if err := os.WriteFile(orderGolden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(orderGolden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("the order of durable calls differs from %s (-update takes it over, once it is sure that nothing is told before it is written):\n%s", orderGolden, diff)
	}
}

// scenario runs a daemon and tells the order of its durable calls. What several
// goroutines do at the same time has no order of its own: each chain of steps
// that depend on each other is told apart, over all positions of the source.
func scenario(t *testing.T, chains [][]durable.Step, args ...string) string {
	t.Helper()
	s := newCrashSite(t)
	d := startWith(t, []string{traceEnv + "=" + s.trace, slowEnv + "=1"}, s.dataDir, s.url, append(args, s.args...)...)
	d.waitReady()
	confirmed := func() {
		t.Helper()
		end := uint64(count(t, s.url, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"))
		await(t, "all that was written to be confirmed and shown", func() bool {
			calls := s.calls()
			return newest(calls, durable.Confirm) >= end && newest(calls, durable.Show) >= end
		})
	}
	s.ledger.small()
	confirmed()
	s.ledger.large()
	confirmed()
	// A log that grows by nothing of ours is idle.
	execute(t, s.url, "SELECT pg_logical_emit_message(false, 'other', 'x')")
	confirmed()
	begun := len(s.calls())
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	calls := s.calls()
	s.ledger.require(s.dataDir)

	var out strings.Builder
	out.WriteString("start\n")
	slot := slices.IndexFunc(calls, func(c durableCall) bool { return c.step == durable.CreateSlot })
	stream := slices.IndexFunc(calls, func(c durableCall) bool { return c.step == durable.Publish })
	for i, c := range calls[:slot+1] {
		// The store may have applied the first message already.
		if i < stream || c.step != durable.Commit && c.step != durable.Show {
			fmt.Fprintf(&out, "  %s\n", c.step)
		}
	}
	out.WriteString("each message\n")
	for _, line := range inTurn(calls, durable.Publish, durable.Acknowledge) {
		fmt.Fprintf(&out, "  %s\n", line)
	}
	out.WriteString("each position\n")
	for _, chain := range chains {
		for _, line := range orders(calls, chain) {
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	out.WriteString("stop\n")
	for _, c := range calls[begun:] {
		if c.position == 0 {
			fmt.Fprintf(&out, "  %s\n", c.step)
		}
	}
	return out.String()
}

// orders tells in which order the steps of a chain were first taken for a
// position or a later one, for all positions that were published, alike ones
// once.
func orders(calls []durableCall, chain []durable.Step) []string {
	// A tick may be under way when the daemon stops.
	upTo := newest(calls, chain[0])
	for _, step := range chain {
		upTo = min(upTo, newest(calls, step))
	}
	var lines []string
	for _, published := range calls {
		if published.step != durable.Publish || published.position == 0 || published.position > upTo {
			continue
		}
		at := map[durable.Step]int{}
		for _, step := range chain {
			at[step] = slices.IndexFunc(calls, func(c durableCall) bool { return c.step == step && c.position >= published.position })
		}
		order := slices.Clone(chain)
		slices.SortStableFunc(order, func(a, b durable.Step) int { return cmp.Compare(at[a], at[b]) })
		var names []string
		for _, step := range order {
			if at[step] >= 0 {
				names = append(names, string(step))
			} else {
				names = append(names, "no "+string(step))
			}
		}
		lines = append(lines, strings.Join(names, " < "))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// newest is the highest position that a step was taken for.
func newest(calls []durableCall, step durable.Step) (position uint64) {
	for _, c := range calls {
		if c.step == step {
			position = max(position, c.position)
		}
	}
	return position
}

// inTurn tells for each n whether the n-th of one step came before the n-th of
// another, alike ones once.
func inTurn(calls []durableCall, first, second durable.Step) []string {
	var lines []string
	var firsts, seconds int
	for _, c := range calls {
		switch c.step {
		case first:
			firsts++
		case second:
			seconds++
			if seconds <= firsts {
				lines = append(lines, fmt.Sprintf("%s < %s", first, second))
			} else {
				lines = append(lines, fmt.Sprintf("%s < %s", second, first))
			}
		}
	}
	if firsts != seconds {
		lines = append(lines, fmt.Sprintf("%s: %d, %s: %d", first, firsts, second, seconds))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
