package main

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/workload"
)

//go:embed dataset_source.sql
var datasetSQL string

// datasetSize says how much of a source the section "dataset" reads, how often,
// and what is to be reached with it.
type datasetSize struct {
	name  string
	users int
	runs  int
	// rate is of candidates/s, memory of the command's peak, duck of the ratio.
	rate, memory, duck traits
	alone              bool // DuckDB does not make it
}

const (
	// datasetWaves is in how many waves the recommendations are made: each brings
	// every user a slate and a version of the vector.
	datasetWaves = 10
	// datasetSlate is how many recommendations are made of a user at once.
	datasetSlate = 5
	// datasetBlock is how many users' changes are one transaction: about 650 rows.
	datasetBlock = 40
	// usersPerItem makes the catalogue grow with the users.
	usersPerItem = 40
)

func (z datasetSize) candidates() int { return z.users * datasetWaves * datasetSlate }
func (z datasetSize) items() int      { return max(1, z.users/usersPerItem) }

// datasetSession spares the source what is not measured: foreign keys are not
// checked, commits not waited for, and rows are found by their keys, also in
// tables that were empty when they were last analysed.
const datasetSession = `SET session_replication_role = replica; SET synchronous_commit = off;
	SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off`

func datasetConn(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, datasetSession); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// populateDataset makes the tables, and what is in them before ingest comes.
func populateDataset(ctx context.Context, conn *pgx.Conn, z datasetSize) error {
	if err := workload.CreateSchema(ctx, conn); err != nil {
		return err
	}
	for _, statement := range []string{
		datasetSQL,
		fmt.Sprintf("CALL bench.populate(%d, %d)", z.users, z.items()),
		"ANALYZE",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("populate the source of the dataset: %w", err)
		}
	}
	return nil
}

// changeDataset makes the recommendations and the history, while ingest follows.
// The last two waves only bring the last slates their further versions.
func changeDataset(ctx context.Context, conn *pgx.Conn, z datasetSize) error {
	for wave := range datasetWaves + 2 {
		call := fmt.Sprintf("CALL bench.wave(%d, %d, %d, %d, %d, %d)", wave+1, datasetWaves, datasetSlate, z.users, z.items(), datasetBlock)
		if _, err := conn.Exec(ctx, call); err != nil {
			return fmt.Errorf("wave %d of the dataset's changes: %w", wave+1, err)
		}
	}
	return nil
}
