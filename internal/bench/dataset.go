package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

func datasetSection() section {
	return section{
		name: "dataset", smoke: true, run: runDataset,
		doc: "candidates/s of the whole command snapshot through the daemon, beside DuckDB making the same columns and parquet-go writing the finished rows",
	}
}

// datasetSizes are the sizes that are asked for, smallest first.
func datasetSizes(s *suite) []datasetSize {
	if s.smoke {
		return []datasetSize{{name: "20k", users: 400, runs: smokeRounds}}
	}
	sizes := []datasetSize{
		{name: "0.1M", users: 2_000, runs: s.runs},
		{name: "1M", users: 20_000, runs: s.long, rate: traits{atLeast: 150e3, aim: 300e3}, duck: traits{atLeast: 1.5, aim: 0.8}},
	}
	if s.full {
		// Without DuckDB, which takes 2.8 GB for a tenth of it.
		sizes = append(sizes, datasetSize{name: "10M", users: 200_000, runs: s.long, memory: traits{atLeast: 1024, aim: 400}, alone: true})
	}
	return sizes
}

func runDataset(ctx context.Context, s *suite) error {
	var walls []float64
	sizes := datasetSizes(s)
	for _, z := range sizes {
		m := &datasetRun{suite: s, size: z}
		if err := m.run(ctx); err != nil {
			return fmt.Errorf("%s candidates: %w", z.name, err)
		}
		walls = append(walls, middle(m.walls))
	}
	// With an exponent of 1 ten times the candidates take ten times as long.
	for i := 1; i < len(sizes); i++ {
		exponent := math.Log(walls[i]/walls[i-1]) / math.Log(float64(sizes[i].candidates())/float64(sizes[i-1].candidates()))
		s.record("dataset", "growth/"+sizes[i-1].name+"-"+sizes[i].name, "exponent", traits{lower: true}, exponent)
	}
	return nil
}

// middle is the median.
func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// datasetRun is the measurement of one size.
type datasetRun struct {
	*suite
	size  datasetSize
	data  string // data directory of ingest
	walls []float64
	// What the last run of snapshot took and left.
	cpu     float64 // seconds, with those of ingest
	version string  // directory
	asOf    change.Version
	history string // that DuckDB is given, "" until it is exported
}

// record records a figure; of the smallest size only what is compared.
func (m *datasetRun) record(name, unit string, t traits, value float64) {
	if m.smoke && !t.guard {
		return
	}
	m.suite.record("dataset", m.size.name+"/"+name, unit, t, value)
}

func (m *datasetRun) run(ctx context.Context) (err error) {
	src, err := m.source(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close(ctx)) }()
	d, err := m.startIngest(ctx, ingestConfig{data: "data-" + src.name, url: src.url, args: []string{"--stream-max-bytes", strconv.Itoa(64 << 30)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	m.data = d.data
	if err := m.fill(ctx, src, d); err != nil {
		return err
	}
	output := filepath.Join(m.dir, "datasets-"+m.size.name)
	duck := filepath.Join(m.dir, "duckdb-"+m.size.name)
	defer func() { err = errors.Join(err, os.RemoveAll(output), os.RemoveAll(duck)) }()
	// In turns: what else the machine does meets all of them.
	for i := range m.size.runs {
		if err := os.RemoveAll(output); err != nil {
			return err
		}
		if err := m.snapshot(ctx, d, output, fmt.Sprintf("1.%d", i)); err != nil {
			return err
		}
		if err := m.besideParquet(); err != nil {
			return err
		}
		if m.duck == "" || m.smoke || m.size.alone {
			continue
		}
		if err := m.besideDuck(ctx, duck); err != nil {
			return err
		}
	}
	return nil
}

// source makes the database and what is in it before ingest comes.
func (m *datasetRun) source(ctx context.Context) (*source, error) {
	src := &source{suite: m.suite, name: "dataset_" + strconv.Itoa(m.size.users)}
	src.url = m.pg.URL(src.name)
	if err := m.pg.CreateDatabase(ctx, src.name); err != nil {
		return nil, err
	}
	var err error
	if src.Conn, err = datasetConn(ctx, src.url); err != nil {
		return nil, err
	}
	if err := populateDataset(ctx, src.Conn, m.size); err != nil {
		return nil, errors.Join(err, src.close(ctx))
	}
	return src, nil
}

// fill makes the changes, and returns when ingest has applied them all and is idle.
func (m *datasetRun) fill(ctx context.Context, src *source, d *daemon) error {
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	if err := changeDataset(ctx, src.Conn, m.size); err != nil {
		return err
	}
	var text string
	if err := src.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return err
	}
	m.say("dataset %s: %d candidates are made", m.size.name, m.size.candidates())
	end, err := change.ParseLSN(text)
	if err != nil {
		return err
	}
	if err := d.awaitApplied(ctx, end); err != nil {
		return err
	}
	return d.awaitIdle(ctx)
}

// snapshot measures one run of the command.
func (m *datasetRun) snapshot(ctx context.Context, d *daemon, output, version string) error {
	before := d.used().cpu
	took, used, err := m.finish(ctx, command{
		path: m.snap, log: "snapshot.log",
		args: []string{"--data-dir", m.data, "--output", output, "--version", version, "--log-level", "warn"},
	})
	if err != nil {
		return err
	}
	daemon := d.used().cpu - before
	m.version = filepath.Join(output, "v"+version)
	candidates, asOf, err := readDatasetMetadata(filepath.Join(m.version, "metadata_v"+version+".json"))
	if err != nil {
		return err
	}
	if candidates != m.size.candidates() {
		return fmt.Errorf("snapshot found %d candidates, the source made %d", candidates, m.size.candidates())
	}
	m.asOf = asOf
	rate := float64(candidates) / took.Seconds()
	m.walls, m.cpu = append(m.walls, took.Seconds()), (used.cpu + daemon).Seconds()
	millions := float64(candidates) / 1e6
	m.record("snapshot", "candidates/s", m.size.rate, rate)
	m.record("wall", "s", traits{lower: true}, took.Seconds())
	memory := m.size.memory
	memory.lower = true
	m.record("memory", "MiB", memory, mebibytes(used.memory))
	m.record("cpu", "s/Mcandidates", traits{lower: true}, used.cpu.Seconds()/millions)
	m.record("ingest-cpu", "s/Mcandidates", traits{lower: true}, daemon.Seconds()/millions)
	return nil
}

// readDatasetMetadata reads how many candidates a dataset was made of, and of
// which moment it is.
func readDatasetMetadata(path string) (candidates int, asOf change.Version, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	var meta struct {
		AsOf   string `json:"as_of"`
		Funnel []struct {
			Key   string `json:"key"`
			Count int    `json:"count"`
		} `json:"funnel"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", path, err)
	}
	at, err := change.ParseMoment(meta.AsOf)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", path, err)
	}
	for _, step := range meta.Funnel {
		if step.Key == "candidates" {
			candidates = step.Count
		}
	}
	return candidates, change.VersionAt(at), nil
}

// besideParquet compares the last run with a writer that has the finished rows in
// memory.
func (m *datasetRun) besideParquet() error {
	name := "train_" + filepath.Base(m.version) + ".parquet"
	written, err := writeRows(filepath.Join(m.version, name), filepath.Join(m.dir, "rows.parquet"), 3)
	if err != nil {
		return err
	}
	rate := float64(m.size.candidates()) / m.walls[len(m.walls)-1]
	m.record("parquet-go", "rows/s", traits{}, middle(written))
	m.record("parquet-go/ratio", "ratio", traits{guard: true}, rate/middle(written))
	return nil
}

// duckRuns are those of DuckDB beside one of snapshot, of which the middle one counts:
// the first of a process is the slowest.
const duckRuns = 3

// besideDuck compares the last run with DuckDB, which is given the same history and
// must make the same rows.
func (m *datasetRun) besideDuck(ctx context.Context, dir string) error {
	if err := m.exportHistory(ctx, dir); err != nil {
		return err
	}
	answer, work := filepath.Join(dir, "answer.json"), filepath.Join(dir, "work")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	_, used, err := m.finish(ctx, command{
		path: m.duck, log: "duckdb.log",
		args: []string{
			"-history", m.history, "-ours", m.version, "-dir", work, "-o", answer,
			"-to", strconv.FormatUint(uint64(m.asOf), 10), "-runs", strconv.Itoa(duckRuns),
		},
	})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(answer)
	if err != nil {
		return err
	}
	var r struct {
		DuckDB  string    `json:"duckdb"`
		Seconds []float64 `json:"seconds"`
		CPU     []float64 `json:"cpu_seconds"`
		Columns int       `json:"columns_compared"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read %s: %w", answer, err)
	}
	if len(r.Seconds) != duckRuns || len(r.CPU) != duckRuns {
		return fmt.Errorf("read %s: %d measured runs, want %d", answer, len(r.Seconds), duckRuns)
	}
	wall, cpu := middle(r.Seconds), middle(r.CPU)
	m.versions["DuckDB"] = r.DuckDB
	m.say("dataset %s: %d columns of DuckDB's rows are the same as snapshot's", m.size.name, r.Columns)
	lower := traits{lower: true}
	m.record("duckdb/wall", "s", lower, wall)
	m.record("duckdb/cpu", "s/Mcandidates", lower, cpu/float64(m.size.candidates())*1e6)
	m.record("duckdb/memory", "MiB", lower, mebibytes(used.memory))
	ratio := m.size.duck
	ratio.lower = true
	m.record("duckdb/ratio", "ratio", ratio, m.walls[len(m.walls)-1]/wall)
	m.record("duckdb/cpu-ratio", "ratio", lower, m.cpu/cpu)
	return nil
}

// exportHistory exports the history for DuckDB, once: it is the same for all runs.
func (m *datasetRun) exportHistory(ctx context.Context, dir string) error {
	if m.history != "" {
		return nil
	}
	endpoint, err := featurestore.ReadEndpoint(m.data)
	if err != nil {
		return err
	}
	view, err := endpoint.Dial(ctx, m.asOf)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "history")
	err = exportHistory(ctx, view, path)
	if err = errors.Join(err, view.Close()); err != nil {
		return err
	}
	m.history = path
	m.say("dataset %s: the history is exported for DuckDB", m.size.name)
	return nil
}
