package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/parquet-go/parquet-go"

	"dreamfeed/deploy"
	"dreamfeed/internal/pgtest"
)

// withWindow writes the Dreamscape definition with another default window, and
// returns the flag that names it.
func withWindow(t *testing.T, window string) []string {
	t.Helper()
	const from = "defaults:\n  window: 90d\n"
	if !strings.Contains(string(deploy.Dreamscape), from) {
		t.Fatalf("the definition does not hold %q", from)
	}
	file := filepath.Join(t.TempDir(), "definition.yaml")
	text := strings.Replace(string(deploy.Dreamscape), from, "defaults:\n  window: "+window+"\n", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--definition", file}
}

// recommend inserts a copy of some recommendation under another id, which was
// made at a moment (an SQL expression) and booked: as a positive row it is in
// every dataset of a window that holds the moment.
func recommend(ctx context.Context, tx interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, id, moment string,
) error {
	var made string
	return tx.QueryRow(ctx, `INSERT INTO recommendations (id, "userId", "itemVectorId", "destinationId", "destinationName", "destinationType",
			score, confidence, status, "bookedAt", "expiresAt", "createdAt", "updatedAt")
		SELECT $1, r."userId", r."itemVectorId", r."destinationId", r."destinationName", r."destinationType",
			0.5, 0.5, 'BOOKED', `+moment+`, `+moment+` + interval '1 day', `+moment+`, `+moment+`
		FROM recommendations r JOIN user_vectors v ON v."userId" = r."userId"
		WHERE r.id NOT LIKE 'own-%' AND CASE jsonb_typeof(v.vector) WHEN 'array' THEN jsonb_array_length(v.vector) END = 8 AND v."createdAt" < now() - interval '1 day'
			AND r."createdAt" < now() - interval '1 day'
		ORDER BY md5(r.id || $1) LIMIT 1 RETURNING id`, id).Scan(&made)
}

// interactions are the pseudonyms of the rows of a version, train and test.
func interactions(t *testing.T, output, version string) map[string]bool {
	t.Helper()
	held := map[string]bool{}
	for _, part := range []string{"train", "test"} {
		rows, err := parquet.ReadFile[struct {
			ID string `parquet:"interaction_id"`
		}](filepath.Join(output, "v"+version, part+"_v"+version+".parquet"))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			held[row.ID] = true
		}
	}
	return held
}

// pseudonyms of recommendations in a version.
func (s source) pseudonyms(t *testing.T, version string, ids []string) []string {
	t.Helper()
	code, stdout, stderr := command(t, strings.Join(ids, "\n")+"\n", "pseudonym", "--data-dir", s.dataDir, "--version", version, "--column", "interaction_id")
	list := strings.Fields(stdout)
	if code != 0 || len(list) != len(ids) {
		t.Fatalf("snapshot pseudonym: exit code %d, %d pseudonyms for %d ids: %s", code, len(list), len(ids), stderr)
	}
	return list
}

// momentOf reads a version's moment from its metadata.
func momentOf(t *testing.T, output, version string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(output, "v"+version, "metadata_v"+version+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var metadata struct {
		AsOf string `json:"as_of"`
	}
	if err := json.Unmarshal(data, &metadata); err != nil || metadata.AsOf == "" {
		t.Fatalf("the metadata of version %s tell no moment: %v", version, err)
	}
	return metadata.AsOf
}

// I4, I6: --as-of now holds everything that was committed before the call, and
// of what is committed meanwhile whole transactions only; the moment that it
// chose gives the same bytes again.
func TestI4AsOfNowHoldsWhatWasCommittedBefore(t *testing.T) {
	s, output := follow(t, 60), t.TempDir()
	s.daemon(t)
	const writers, perTransaction = 3, 4
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wait sync.WaitGroup
	var committed [writers]atomic.Int64 // transactions of each writer
	id := func(writer int, transaction int64, row int) string {
		return fmt.Sprintf("own-%d-%d-%d", writer, transaction, row)
	}
	for w := range writers {
		conn := pgtest.Session(t, s.url, pgx.QueryExecModeSimpleProtocol)
		wait.Go(func() {
			defer conn.Close(context.Background())
			for n := int64(0); ctx.Err() == nil; n++ {
				err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					for r := range perTransaction {
						if err := recommend(ctx, tx, id(w, n, r), "(now() AT TIME ZONE 'UTC')"); err != nil {
							return err
						}
					}
					return nil
				})
				if err == nil {
					committed[w].Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("writer %d, transaction %d: %v", w, n, err)
					return
				}
			}
		})
	}
	defer wait.Wait()
	defer stop()
	flags := []string{"--outliers", "keep"}
	for round := range 3 {
		await(t, "some transactions", func() bool {
			for w := range writers {
				if committed[w].Load() < int64(5*(round+1)) {
					return false
				}
			}
			return true
		})
		var before, after [writers]int64
		for w := range writers {
			before[w] = committed[w].Load()
		}
		version := fmt.Sprintf("1.%d", round)
		code, _, stderr := command(t, "", append([]string{"--data-dir", s.dataDir, "--output", output, "--version", version, "--as-of", "now", "--log-level", "warn"}, flags...)...)
		if code != 0 {
			t.Fatalf("--as-of now: exit code %d: %s", code, stderr)
		}
		for w := range writers {
			after[w] = committed[w].Load() + 1 // one may be committed and not counted yet
		}
		held := interactions(t, output, version)
		for w := range writers {
			var ids []string
			for n := range after[w] {
				for r := range perTransaction {
					ids = append(ids, id(w, n, r))
				}
			}
			list := s.pseudonyms(t, version, ids)
			for n := range after[w] {
				rows := 0
				for _, pseudonym := range list[n*perTransaction:][:perTransaction] {
					if held[pseudonym] {
						rows++
					}
				}
				if n < before[w] && rows == 0 {
					t.Errorf("round %d: transaction %d of writer %d was committed before the call and is not in the dataset", round, n, w)
				}
				if rows != 0 && rows != perTransaction {
					t.Errorf("round %d: transaction %d of writer %d is in the dataset with %d of %d rows", round, n, w, rows, perTransaction)
				}
			}
		}
	}
	again := filepath.Join(t.TempDir(), "again")
	build(t, s, again, "1.1", append(flags, "--as-of", momentOf(t, output, "1.1"))...)
	requireSame(t, "the moment that now was", output, again, "1.1")
}
