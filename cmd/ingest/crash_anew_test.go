package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// faultsOf and strideOf are what continuous integration leaves out of resets and
// refills, and `make soak` does not.
func faultsOf(every bool) []string {
	if every {
		return []string{"kill", "fail"}
	}
	return []string{"kill"}
}

func strideOf(every bool) int {
	if every {
		return 1
	}
	return 4
}

// A process that dies at a durable call of a reset, or of the start that follows
// it, leaves what another reset and start go on from. History stays: it is one
// data directory for all of them.
func TestCrashAtEveryDurableCallOfAReset(t *testing.T) {
	for _, how := range faultsOf(*everyCrash) {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newCrashSite(t)
			s.requireRecovered("--until-caught-up")
			reset := func(env ...string) int {
				t.Helper()
				d := startCommand(t, env, s.url, append([]string{"reset", "--confirm", "--data-dir", s.dataDir}, s.args[:4]...)...)
				return d.wait()
			}
			stride := strideOf(*everyCrash)
			for k, reached := 0, true; reached; k += stride {
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					s.t, s.ledger.t = t, t
					if err := os.WriteFile(s.trace, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					tx := s.ledger.begin(s.ledger.conn)
					tx.insert("entries", fmt.Sprintf("before_reset_%d", k), "body", "not read yet")
					tx.commit()
					env := []string{traceEnv + "=" + s.trace, fmt.Sprintf("%s=%s:%d", faultEnv, how, k)}
					code := reset(env...)
					reached = len(s.calls()) > k
					if !reached && code != 0 {
						t.Fatalf("reset ended with exit code %d, though no fault was met", code)
					}
					if !reached {
						s.start(fmt.Sprintf("%s:%d", how, k), "--until-caught-up")
						reached = len(s.calls()) > k
					} else if code != 0 {
						if code := reset(); code != 0 {
							t.Fatalf("the reset after it ended with exit code %d", code)
						}
					}
					if reached {
						t.Logf("%s at %s", how, s.calls()[k].step)
					}
					catchUp(t, s.dataDir, s.url, append(s.args, "--until-caught-up")...)
					requireEqual(t, loadLedger(t), s.dataDir, s.url)
				})
			}
		})
	}
}

// A process that dies at a durable call while it reads a table again: each change
// is still there once.
func TestCrashAtEveryDurableCallOfARefill(t *testing.T) {
	for _, how := range faultsOf(*everyCrash) {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newCrashSite(t)
			s.requireRecovered("--until-caught-up")
			stride := strideOf(*everyCrash)
			for k, reached := 0, true; reached; k += stride {
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					s.t, s.ledger.t = t, t
					if err := os.WriteFile(s.trace, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					armed := filepath.Join(t.TempDir(), "armed")
					env := []string{traceEnv + "=" + s.trace, armEnv + "=" + armed, fmt.Sprintf("%s=%s:%d", faultEnv, how, k)}
					d := startWith(t, env, s.dataDir, s.url, s.args...)
					d.waitReady()
					before := len(s.calls())
					if err := os.WriteFile(armed, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					tx := s.ledger.begin(s.ledger.conn)
					tx.insert("entries", fmt.Sprintf("beside_refill_%d", k), "body", "live")
					tx.commit()
					code, stdout, stderr := command(t, "refill", "--table", "entries", "--data-dir", s.dataDir)
					if calls := s.calls(); len(calls) > before+k {
						t.Logf("%s at %s", how, calls[before+k].step)
					} else if reached = false; code != 0 {
						t.Fatalf("refill ended with exit code %d, though no fault was met: %s%s", code, stdout, stderr)
					}
					d.kill()
					s.requireRecovered("--until-caught-up")
				})
			}
		})
	}
}

// A process that dies at a durable call while it renews an external stream that
// was lost: what PostgreSQL still holds comes, each change once.
func TestCrashAtEveryDurableCallOfARenewal(t *testing.T) {
	for _, how := range faultsOf(*everyCrash) {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newCrashSite(t)
			s.requireRecovered("--until-caught-up", "--nats-url", externalStream(t))
			stride := strideOf(*everyCrash)
			for k, reached := 0, true; reached; k += stride {
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					s.t, s.ledger.t = t, t
					if err := os.WriteFile(s.trace, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					tx := s.ledger.begin(s.ledger.conn)
					tx.insert("entries", fmt.Sprintf("before_renewal_%d", k), "body", "not read yet")
					tx.commit()
					args := []string{"--until-caught-up", "--nats-url", externalStream(t)} // it is empty
					code := s.start(fmt.Sprintf("%s:%d", how, k), args...)
					calls := s.calls()
					if reached = len(calls) > k; reached {
						t.Logf("%s at %s", how, calls[k].step)
					} else if code != 0 {
						t.Fatalf("ingest ended with exit code %d, though no fault was met", code)
					}
					s.requireRecovered(args...)
				})
			}
		})
	}
}
