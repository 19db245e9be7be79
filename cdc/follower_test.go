package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// follower applies the stream to the rig's map as it comes, as a store does.
type follower struct {
	r       *rig
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every message applied
}

// follow begins to follow, and tells the source what a store tells it.
func (r *rig) follow() *follower {
	r.t.Helper()
	r.model = newModel(r.t, r.cfg.Log)
	f := &follower{r: r, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			b, err := r.model.reader.Next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					r.t.Error(err)
				}
				return
			}
			f.mu.Lock()
			r.model.apply(b)
			close(f.changed)
			f.changed = make(chan struct{})
			f.mu.Unlock()
		}
	}()
	r.t.Cleanup(func() {
		r.end()
		cancel()
		<-ended
	})
	r.cfg.VersionBefore, r.cfg.SpillDir, r.cfg.Unfilled = f.versionBefore, r.t.TempDir(), f.unfilled
	return f
}

// wait waits until ok, which is called with the lock held, says yes.
func (f *follower) wait(ctx context.Context, ok func(m *model) bool) error {
	for {
		f.mu.Lock()
		yes, changed := ok(f.r.model), f.changed
		f.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) versionBefore(ctx context.Context, lsn change.LSN) (version change.Version, err error) {
	err = f.wait(ctx, func(m *model) bool {
		for _, end := range slices.Backward(m.ends) {
			if end.lsn <= lsn {
				version = end.version
				break
			}
		}
		return m.header.EndLSN >= lsn
	})
	return version, err
}

func (f *follower) unfilled() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.r.model.unfilled {
		names = append(names, strings.TrimPrefix(name, "public."))
	}
	return names
}

// gain makes the store's definition a wider one.
func (f *follower) gain(def *definition.Definition, unfilled ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.cfg.Definition = def
	for _, name := range unfilled {
		f.r.model.unfilled["public."+name] = true
	}
}

// same waits until everything committed is applied, and nothing is unfilled any
// more, and compares map and source.
func (f *follower) same() {
	f.r.t.Helper()
	f.filled()
	ctx, cancel := context.WithTimeout(f.r.t.Context(), patience)
	defer cancel()
	lsn, err := f.r.source.Barrier(ctx)
	if err != nil {
		f.r.t.Fatal(err)
	}
	if _, err := f.versionBefore(ctx, lsn); err != nil {
		f.r.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.compare(f.r.model)
}

// refill refills, and waits until the map has it.
func (f *follower) refill(tables ...string) cdc.RefillResult {
	f.r.t.Helper()
	ctx, cancel := context.WithTimeout(f.r.t.Context(), patience)
	defer cancel()
	result, err := f.r.source.Refill(ctx, tables)
	if err != nil {
		f.r.t.Fatal(err)
	}
	if err := f.wait(ctx, func(m *model) bool { return m.last >= result.Version && !m.header.Open }); err != nil {
		f.r.t.Fatal(err)
	}
	return result
}

// clean says whether refills have left nothing behind.
func (r *rig) clean() {
	r.t.Helper()
	left, err := os.ReadDir(r.cfg.SpillDir)
	if err != nil || len(left) != 0 {
		r.t.Errorf("left in the directory for refills: %v, %v", left, err)
	}
}

// writers write to items(id, n, big, …) until stop is called.
func writers(t *testing.T, url string, number int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range number {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		seed := rand.Uint64()
		t.Logf("writer %d has seed %d", i, seed)
		wg.Go(func() {
			defer conn.Close(context.Background())
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				id := random.IntN(3000)
				sql := fmt.Sprintf(`INSERT INTO items (id, n) VALUES (%d, %d) ON CONFLICT (id) DO UPDATE SET n = excluded.n`, id, random.IntN(1000))
				switch random.IntN(10) {
				case 0, 1:
					sql = fmt.Sprintf(`DELETE FROM items WHERE id = %d`, id)
				case 2:
					sql = fmt.Sprintf(`DELETE FROM items WHERE id = %d; UPDATE items SET id = %[1]d WHERE id = %d`, id, random.IntN(3000))
				case 3:
					sql = fmt.Sprintf(`UPDATE items SET n = n + 1 WHERE id BETWEEN %d AND %d`, id, id+20)
				case 4:
					sql = fmt.Sprintf(`BEGIN; UPDATE items SET n = n + 1 WHERE id = %d; DELETE FROM items WHERE id = %d; ROLLBACK`, id, id+1)
				}
				_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
				var server *pgconn.PgError
				switch {
				case err == nil || ctx.Err() != nil:
				case errors.As(err, &server) && (server.Code == "40P01" || server.Code == "23505"): // writers in each other's way
					if _, err := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				default:
					t.Errorf("%s: %v", sql, err)
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func (r *rig) barrier() change.LSN {
	r.t.Helper()
	lsn, err := r.source.Barrier(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

// filled waits until nothing is unfilled.
func (f *follower) filled() {
	f.r.t.Helper()
	ctx, cancel := context.WithTimeout(f.r.t.Context(), patience)
	defer cancel()
	if err := f.wait(ctx, func(m *model) bool { return len(m.unfilled) == 0 }); err != nil {
		f.r.t.Fatalf("tables are not filled: %v; %+v", err, f.r.source.Status())
	}
}
