package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"dreamfeed/internal/durable"
)

var everyCrash = flag.Bool("crash.every", false, "crash at every durable call, one after the other, instead of at chosen ones")

// crashSite is a source with a ledger, and a data directory, for one crash.
type crashSite struct {
	t       *testing.T
	url     string
	dataDir string
	trace   string
	args    []string
	ledger  *ledger
}

func newCrashSite(t *testing.T) *crashSite {
	t.Helper()
	s := &crashSite{t: t, url: shared.NewDatabase(t), dataDir: filepath.Join(t.TempDir(), "data"), trace: filepath.Join(t.TempDir(), "trace")}
	database, _, _ := strings.Cut(s.url, "?")
	s.args = []string{
		"--definition", ledgerFile, "--slot", path.Base(database), // these are flags of all commands
		"--backfill-workers", "1", "--log-level", "error",
	}
	s.ledger = newLedger(t, s.url)
	return s
}

// externalStream starts a NATS server in this process, with a stream of its own,
// and returns its address.
func externalStream(t *testing.T) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 8 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

// calls are the durable calls of all starts with a trace so far.
func (s *crashSite) calls() []durableCall {
	s.t.Helper()
	text, err := os.ReadFile(s.trace)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	calls, err := parseTrace(string(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return calls
}

// start runs ingest with a trace and a fault (see faultEnv; "" for none) until
// it ends, and returns its exit code, -1 if it was killed.
func (s *crashSite) start(fault string, args ...string) int {
	s.t.Helper()
	env := []string{traceEnv + "=" + s.trace, faultEnv + "=" + fault}
	return startWith(s.t, env, s.dataDir, s.url, append(args, s.args...)...).wait()
}

// requireRecovered starts ingest without a fault and compares.
func (s *crashSite) requireRecovered(args ...string) {
	s.t.Helper()
	catchUp(s.t, s.dataDir, s.url, append(args, s.args...)...)
	s.ledger.require(s.dataDir)
}

// write makes the transactions that the second start reads. If the stream may
// lack the backfill, which would then show their end only and not each change,
// a start without a fault comes first.
func (s *crashSite) write() {
	s.t.Helper()
	if !slices.ContainsFunc(s.calls(), func(c durableCall) bool { return c.step == durable.Acknowledge && c.position > 0 }) {
		s.requireRecovered("--until-caught-up")
	}
	s.ledger.small()
	s.ledger.interleaved()
	s.ledger.large()
}

// crashAt is a first start with a backfill, the ledger's transactions, and a
// second start that reads them, with a fault at the k-th durable call of both;
// then a start without a fault, after which the store must equal the source. It
// returns the calls up to the fault, how many of them the first start made, and
// whether the fault was reached.
func crashAt(t *testing.T, external bool, how string, k int) (calls []durableCall, second int, reached bool) {
	t.Helper()
	s := newCrashSite(t)
	if external {
		s.args = append(s.args, "--nats-url", externalStream(t))
	}
	faulty := func() {
		t.Helper()
		code := s.start(fmt.Sprintf("%s:%d", how, k), "--until-caught-up")
		calls = s.calls()
		reached = len(calls) > k
		switch {
		case !reached && code != 0:
			t.Fatalf("ingest ended with exit code %d, though no fault was met", code)
		case reached && how == "kill" && code != -1:
			t.Fatalf("ingest was to be killed at call %d, it ended with exit code %d", k, code)
		case reached && how == "fail" && code != 0 && code != 1:
			t.Fatalf("call %d failed and ended ingest with exit code %d, want 1, or 0 if there is an answer to it", k, code)
		}
	}
	faulty()
	second = len(calls)
	s.write()
	if !reached {
		faulty()
	}
	s.requireRecovered("--until-caught-up")
	return calls, second, reached
}

// chosen are the calls at which continuous integration crashes: the first of
// each step in each of the two starts (second is the first call of the second
// one), and every stride-th of the others. Left out are other calls of the same
// steps: further messages of one transaction, further groups of the store.
// `make soak` leaves out none.
func chosen(calls []durableCall, second, stride int) []int {
	var list []int
	seen := map[durable.Step]bool{}
	for k, c := range calls {
		if k == second {
			clear(seen)
		}
		if !seen[c.step] || k%stride == 0 {
			list = append(list, k)
		}
		seen[c.step] = true
	}
	return list
}

// beyond is a call that no run reaches.
const beyond = 1 << 20

// I1, I2, I3: whichever durable call a process dies at, or sees fail, nothing is
// lost and nothing comes twice.
func TestCrashAtEveryDurableCall(t *testing.T) {
	for _, c := range []struct {
		name     string
		how      string
		external bool
		stride   int // 0: left to `make soak`
	}{
		{"killed", "kill", false, 6},
		{"killed with an external stream", "kill", true, beyond},
		{"failed", "fail", false, beyond},
		{"failed with an external stream", "fail", true, 0},
	} {
		if c.stride == 0 && !*everyCrash {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			crash := func(k int) (calls []durableCall, second int, reached bool) {
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					calls, second, reached = crashAt(t, c.external, c.how, k)
					if reached {
						t.Logf("%s at %s", c.how, calls[k].step)
					}
				})
				return calls, second, reached
			}
			if *everyCrash {
				k := 0
				for _, _, reached := crash(k); reached; _, _, reached = crash(k) {
					k++
				}
				t.Logf("%s at each of %d durable calls", c.how, k)
				return
			}
			calls, second, _ := crash(beyond)
			list := chosen(calls, second, c.stride)
			for _, k := range list {
				crash(k)
			}
			t.Logf("%s at %d of %d durable calls", c.how, len(list), len(calls))
		})
	}
}

// A process that dies while it clears away what another left when it died.
func TestCrashWhileAnUnfinishedBackfillIsClearedAway(t *testing.T) {
	for _, how := range []string{"kill", "fail"} {
		for _, step := range []durable.Step{durable.DropSlot, durable.CreateSlot, durable.Publish} {
			t.Run(how+" at "+string(step), func(t *testing.T) {
				s := newCrashSite(t)
				// The last message of the backfill: the first is in the stream.
				if code := s.start("kill:publish>0", "--until-caught-up"); code != -1 {
					t.Fatalf("exit code %d, want the end by the signal", code)
				}
				before := s.calls()
				if !seenStep(before, durable.CreateSlot) || seenStep(before, durable.Confirm) {
					t.Fatalf("the first start was not killed in its backfill: %v", before)
				}
				s.start(how+":"+string(step), "--until-caught-up")
				if !seenStep(s.calls()[len(before):], step) {
					t.Fatalf("the second start did not come to %s", step)
				}
				s.write()
				s.requireRecovered("--until-caught-up")
			})
		}
	}
}

// A process that dies, or fails, while it removes what is applied.
func TestCrashWhileTheStreamIsTrimmed(t *testing.T) {
	s := newCrashSite(t)
	if code := s.start("", "--until-caught-up"); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.write()
	if code := s.start("kill:trim", "--replay-window=0s"); code != -1 {
		t.Fatalf("exit code %d, want the end by the signal", code)
	}
	s.requireRecovered("--until-caught-up", "--replay-window=0s")
}

func seenStep(calls []durableCall, step durable.Step) bool {
	return slices.ContainsFunc(calls, func(c durableCall) bool { return c.step == step })
}
