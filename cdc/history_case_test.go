package cdc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/pgtest"
)

// program runs a program of the server's as its account.
func program(t *testing.T, server *pgtest.Server, name string, args ...string) {
	t.Helper()
	bin := os.Getenv("PG_BIN")
	if bin == "" {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		if len(found) == 0 {
			path, err := exec.LookPath("postgres")
			if err != nil {
				t.Fatal(err)
			}
			found = []string{filepath.Dir(path)}
		}
		bin = found[len(found)-1]
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...)
	cmd.Dir = server.Dir
	asOwner(t, cmd, server.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// copyData copies a stopped server's data directory, as a backup of its disk.
func copyData(t *testing.T, server *pgtest.Server) (back func()) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	run := func(args ...string) {
		if out, err := exec.CommandContext(context.Background(), "cp", args...).CombinedOutput(); err != nil {
			t.Fatalf("cp %v: %v\n%s", args, err, out)
		}
	}
	run("-a", server.Dir, saved)
	return func() {
		if err := os.RemoveAll(server.Dir); err != nil {
			t.Fatal(err)
		}
		run("-a", saved, server.Dir)
	}
}

// noted is what the stream holds of the slot.
func noted(t *testing.T, r *rig) string {
	t.Helper()
	text, err := cdc.NotedSlot(t.Context(), r.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func stopServer(t *testing.T, server *pgtest.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func restart(t *testing.T, r *rig, server *pgtest.Server) {
	t.Helper()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.conn = session(t, r.cfg.DatabaseURL)
}

// Another history of the same cluster is refused, whether it is told by the
// timeline, by the end of its log, or by a log that is gone.
func TestAnotherHistoryIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, r *rig, server *pgtest.Server)
		want  func(error) bool
		mends string
	}{
		"a standby that was promoted": {
			spoil: func(t *testing.T, r *rig, server *pgtest.Server) {
				stopServer(t, server)
				// A standby that has all of the log, promoted.
				if err := os.WriteFile(filepath.Join(server.Dir, "standby.signal"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				restart(t, r, server)
				r.exec("SELECT pg_promote()")
			},
			want: func(err error) bool {
				var e *cdc.OriginError
				return errors.As(err, &e) && e.Server.Timeline == e.Stream.Timeline+1 && e.Server.System == e.Stream.System
			},
			mends: "a standby was promoted or a backup restored",
		},
		"the old disk put back, behind our position": {
			spoil: func(t *testing.T, r *rig, server *pgtest.Server) {
				stopServer(t, server)
				back := copyData(t, server)
				restart(t, r, server)
				r.start()
				r.streaming()
				r.exec("INSERT INTO a SELECT g, g FROM generate_series(1000, 1999) g")
				r.catchUp()
				r.end()
				stopServer(t, server)
				back()
				restart(t, r, server)
			},
			want:  is[*cdc.BehindError],
			mends: resetCommand,
		},
		"the old disk put back, past our position": {
			spoil: func(t *testing.T, r *rig, server *pgtest.Server) {
				stopServer(t, server)
				back := copyData(t, server)
				restart(t, r, server)
				r.cfg.CheckEvery = 50 * time.Millisecond
				r.start()
				r.streaming()
				base := noted(t, r)
				for i := 0; base == "" || noted(t, r) == base; i++ {
					if base == "" {
						base = noted(t, r)
					}
					// The slot's place moves on with checkpoints.
					r.exec("INSERT INTO a SELECT 1000 + $1::int, 1; ", i)
					r.exec("CHECKPOINT")
					r.catchUp()
				}
				r.end()
				stopServer(t, server)
				back()
				restart(t, r, server)
				r.exec("INSERT INTO b SELECT g, g FROM generate_series(1, 100000) g")
			},
			want:  is[*cdc.SlotBehindError],
			mends: resetCommand,
		},
		"pg_resetwal": {
			spoil: func(t *testing.T, r *rig, server *pgtest.Server) {
				stopServer(t, server)
				program(t, server, "pg_resetwal", "-f", "-D", server.Dir)
				restart(t, r, server)
			},
			want:  is[*cdc.SlotLostError],
			mends: resetCommand,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t)
			r := fed(t, server.NewDatabase(t))
			r.end()
			c.spoil(t, r, server)
			stopsAgain(t, r, r.fails(), c.want, c.mends)
			// And a reset takes the feed up again.
			r.reset(cdc.Place{}, false)
			r.start()
			r.streaming()
			if h, _, _, err := r.cfg.Log.Last(t.Context()); err != nil || h.Epoch != 2 || h.Resume == 0 {
				t.Errorf("after the reset the stream ends with %+v (%v)", h, err)
			}
		})
	}
}
