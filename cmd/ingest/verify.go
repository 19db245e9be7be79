package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/verify"
)

type verifyCommand struct {
	sourceFlags
	Tables []string      `name:"table" sep:"none" placeholder:"NAME" help:"A table to compare, as the definition names it; may be repeated. All tables without it."`
	Wait   time.Duration `name:"wait" default:"30s" placeholder:"DURATION" help:"How long to wait for open transactions of the source to end, and then for the store to catch up."`
	JSON   bool          `name:"json" help:"Print the result as one JSON document."`
}

// Run compares source and store as of one position of the source's log, while
// both go on:
//
//	PostgreSQL ──snapshot at L──▶ verify ◀──view as of L── daemon ◀── store
//
// The daemon is found by its endpoint file. Keys are printed, values never.
func (c *verifyCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = errors.New("verify was interrupted; nothing is left behind on the source")
		}
	}()
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	if !cdc.SourceGiven(c.DatabaseURL) {
		return errNoDatabase
	}
	tables, err := c.chosen(def)
	if err != nil {
		return err
	}
	cfg := c.config(def, logger)
	if err := cfg.Validate(); err != nil {
		return &cli.UsageError{Err: err}
	}
	endpoint, origin, err := findDaemon(ctx, p.common.DataDir, def)
	if err != nil {
		return err
	}
	began := time.Now()
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	snapshot, err := cdc.OpenSnapshot(ctx, cfg, c.Wait, names...)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	if origin.Origin != snapshot.Origin() {
		return &featurestore.OriginError{Store: origin.Origin, Source: snapshot.Origin()}
	}
	view, err := endpoint.DialAt(ctx, snapshot.Origin(), snapshot.LSN(), c.Wait)
	if err != nil {
		return err
	}
	defer view.Close()
	config := verify.Config{}
	for _, t := range tables {
		config.Tables = append(config.Tables, compared(t))
	}
	report, err := verify.Compare(ctx, config, &sourceRows{snapshot, tables}, &storeRows{view, tables})
	if err != nil {
		return err
	}
	result := newVerifyResult(report, tables, snapshot, view.Info())
	result.Seconds = time.Since(began).Seconds()
	if c.JSON {
		err = result.json(p.stdout)
	} else {
		err = result.text(p.stdout)
	}
	if err != nil {
		return err
	}
	if !report.Equal() {
		return &differError{result}
	}
	return nil
}

// chosen returns the tables to compare, in the definition's order.
func (c *verifyCommand) chosen(def *definition.Definition) ([]*definition.Table, error) {
	wanted := map[string]bool{}
	for _, name := range c.Tables {
		if def.Table(name) == nil {
			var known []string
			for i := range def.Tables {
				known = append(known, def.Tables[i].Name)
			}
			return nil, &cli.UsageError{Err: fmt.Errorf("--table %s: the definition has no such table; it has %s", name, strings.Join(known, ", "))}
		}
		wanted[name] = true
	}
	var tables []*definition.Table
	for i := range def.Tables {
		if t := &def.Tables[i]; len(wanted) == 0 || wanted[t.Name] {
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// findDaemon finds the daemon of a data directory and asks it what it holds,
// before anything is asked of the source.
func findDaemon(ctx context.Context, dataDir string, def *definition.Definition) (featurestore.Endpoint, history.Info, error) {
	endpoint, err := featurestore.FindEndpoint(dataDir, "the store is read through it")
	if err != nil {
		return endpoint, history.Info{}, err
	}
	view, err := endpoint.Dial(ctx, 0)
	var remote *featurestore.RemoteError
	switch {
	case err == nil:
	case errors.Is(err, featurestore.ErrEmpty), ctx.Err() != nil:
		return endpoint, history.Info{}, err
	case errors.Is(err, featurestore.ErrToken), errors.As(err, &remote):
		return endpoint, history.Info{}, fmt.Errorf("at %s no ingest of data directory %s answers, and the store is read through it: start ingest there (%w)", endpoint.Address, dataDir, err)
	default:
		return endpoint, history.Info{}, fmt.Errorf("the ingest that left its address in data directory %s (process %d) cannot be asked, and the store is read through it: start ingest there (%w)", dataDir, endpoint.PID, err)
	}
	info := view.Info()
	if err := view.Close(); err != nil {
		return endpoint, info, err
	}
	if info.Definition != def.Hash {
		return endpoint, info, fmt.Errorf("ingest runs with another definition (%.12s) than this one (%.12s): give the --definition that it was started with", info.Definition, def.Hash)
	}
	return endpoint, info, nil
}

// differError ends a verify that found differences; they are printed already.
type differError struct{ result *verifyResult }

func (e *differError) Error() string {
	var tables []string
	for _, t := range e.result.Tables {
		if !t.Equal {
			tables = append(tables, "--table "+t.Name)
		}
	}
	return fmt.Sprintf("the store differs from the source at %s: read what differs again with ingest refill %s", e.result.LSN, strings.Join(tables, " "))
}

// verifyResult is what verify prints.
type verifyResult struct {
	// LSN is the position of the source's log at which both were compared, Moment
	// that of the store's view.
	LSN     string             `json:"lsn"`
	Moment  string             `json:"moment"`
	Equal   bool               `json:"equal"`
	Seconds float64            `json:"seconds"`
	Tables  []verifyTableState `json:"tables"`
}

type verifyTableState struct {
	Name        string             `json:"name"`
	Equal       bool               `json:"equal"`
	SourceRows  uint64             `json:"source_rows"`
	StoreRows   uint64             `json:"store_rows"`
	Differences []verifyDifference `json:"differences,omitempty"`
	// UnnamedRows is how many rows of both sides lie where there are further
	// differences that are not named.
	UnnamedRows uint64 `json:"unnamed_rows,omitempty"`
	unnamed     int
}

type verifyDifference struct {
	Kind    verify.Kind `json:"kind"`
	Key     []verifyKey `json:"key"`
	Columns []string    `json:"columns,omitempty"`
}

// verifyKey is one column of a key, as the source writes it.
type verifyKey struct {
	Column string `json:"column"`
	Value  string `json:"value"`
}

func newVerifyResult(report *verify.Report, tables []*definition.Table, snapshot *cdc.Snapshot, info history.Info) *verifyResult {
	out := &verifyResult{LSN: snapshot.LSN().String(), Moment: info.AsOf.String(), Equal: report.Equal()}
	for i := range report.Tables {
		r := &report.Tables[i]
		t := verifyTableState{Name: r.Name, Equal: r.Equal(), SourceRows: r.SourceRows, StoreRows: r.StoreRows, UnnamedRows: r.UnnamedRows, unnamed: r.UnnamedParts}
		for _, d := range r.Differences {
			found := verifyDifference{Kind: d.Kind, Columns: d.Columns}
			// What both sides encoded can be taken apart; else it is shown as it is.
			texts, err := featurestore.KeyTexts(d.Key)
			if err != nil || len(texts) != len(tables[i].Key) {
				texts = []string{fmt.Sprintf("%x", d.Key)}
			}
			for k, text := range texts {
				found.Key = append(found.Key, verifyKey{Column: tables[i].Key[k], Value: text})
			}
			t.Differences = append(t.Differences, found)
		}
		out.Tables = append(out.Tables, t)
	}
	return out
}

func (r *verifyResult) json(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// text prints a line for each table and each difference; the first word of a
// line says what it is.
func (r *verifyResult) text(w io.Writer) error {
	var b strings.Builder
	var rows uint64
	width := 0
	for i := range r.Tables {
		width = max(width, len(r.Tables[i].Name))
	}
	for i := range r.Tables {
		t := &r.Tables[i]
		rows += t.SourceRows
		if t.Equal {
			fmt.Fprintf(&b, "equal       %-*s  %s\n", width, t.Name, counted(t.SourceRows, "row"))
			continue
		}
		fmt.Fprintf(&b, "differs     %-*s  %s in the source, %d in the store, %s named\n",
			width, t.Name, counted(t.SourceRows, "row"), t.StoreRows, counted(uint64(len(t.Differences)), "difference"))
		for _, d := range t.Differences {
			fmt.Fprintf(&b, "%-10s  %-*s  %s", d.Kind, width, t.Name, keyText(d.Key))
			if len(d.Columns) > 0 {
				fmt.Fprintf(&b, "  columns %s", strings.Join(d.Columns, ","))
			}
			b.WriteByte('\n')
		}
		if t.unnamed > 0 {
			fmt.Fprintf(&b, "further     %-*s  at least %s among %s of both sides, not named\n",
				width, t.Name, counted(uint64(t.unnamed), "difference"), counted(t.UnnamedRows, "row"))
		}
	}
	if r.Equal {
		fmt.Fprintf(&b, "ok: %s, %s: the store equals the source at %s (as of %s)\n", counted(uint64(len(r.Tables)), "table"), counted(rows, "row"), r.LSN, r.Moment)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func counted(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// keyText writes a key as column=value, quoted where it would be mistaken.
func keyText(key []verifyKey) string {
	parts := make([]string, len(key))
	for i, k := range key {
		value := k.Value
		if value == "" || strings.ContainsAny(value, " ,=\"'\\") || strconv.Quote(value) != `"`+value+`"` {
			value = strconv.Quote(value)
		}
		parts[i] = k.Column + "=" + value
	}
	return strings.Join(parts, ",")
}
