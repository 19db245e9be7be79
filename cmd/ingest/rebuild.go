package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/durable"
	"dreamfeed/snapshot"
)

type rebuildCommand struct {
	natsFlags
	Until       string   `name:"until" required:"" placeholder:"MOMENT" help:"Moment to rebuild the store as of, like 2026-11-01T00:00:00Z."`
	Into        string   `name:"into" required:"" placeholder:"DIR" help:"Data directory to make; it must not exist or be empty."`
	From        []string `name:"from" sep:"none" placeholder:"FILE" help:"Backup to begin with; then its increments, each with another --from, oldest first. Without it the stream must still hold the backfill."`
	MaxRowBytes int      `name:"max-row-bytes" env:"MAX_ROW_BYTES" default:"67108864" placeholder:"BYTES" help:"Largest row that is taken, as of the daemon."`
	DiskReserve uint64   `name:"disk-reserve" env:"DISK_RESERVE" default:"268435456" placeholder:"BYTES" help:"Free disk below which the rebuild gives up."`
}

// rebuild is one run of the command.
type rebuild struct {
	*rebuildCommand
	*program
	until  change.Version
	def    *definition.Definition
	logger *slog.Logger
	stage  *featurestore.Stage
	ledger *featurestore.Ledger // nil where nothing was erased
	mark   featurestore.Rebuilt
}

// Run makes a data directory with the store as of a moment, of backups and of
// what the stream holds behind them:
//
//	backups ──▶ restore ──▶ leave out ──▶ store ◀── replay ◀── stream
//	                            ▲            ▲                 daemon, directory or NATS server
//	                            └── ledger ──┘
//
// It is made beside the directory and gets its name when it is whole.
func (c *rebuildCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("rebuild was interrupted; nothing is left of it")
		}
	}()
	r := &rebuild{rebuildCommand: c, program: p}
	if r.until, err = parseUntil(c.Until, time.Now()); err != nil {
		return err
	}
	if c.MaxRowBytes < 1<<20 || c.MaxRowBytes > 1<<30 {
		return &cli.UsageError{Err: fmt.Errorf("--max-row-bytes %d: want %d (1 MiB) to %d (1 GiB)", c.MaxRowBytes, 1<<20, 1<<30)}
	}
	if _, err := c.options(); err != nil {
		return err
	}
	if r.def, err = p.common.LoadDefinition(); err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	r.logger = logger
	key, inFile, err := rebuildKey(p.common.DataDir)
	if err != nil {
		return err
	}
	ledger, err := featurestore.OpenLedger(filepath.Join(p.common.DataDir, featurestore.LedgerFile), key, p.hook)
	if err != nil {
		return err
	}
	if entities, rows := ledger.Len(); entities+rows > 0 {
		r.ledger = ledger
	}
	cli.LimitMemory(memoryLimit)
	if r.stage, err = featurestore.NewStage(c.Into, p.hook); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stage.Discard())
		}
	}()
	r.mark = featurestore.Rebuilt{
		Until: r.until, Moment: r.until.Time(), Definition: r.def.Hash, Program: cli.ProgramVersion(version), KeyInFile: inFile,
	}
	if err := roomToStart(r.stage.Dir, c.DiskReserve); err != nil {
		return err
	}
	if err := r.base(ctx); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	if inFile {
		text := hex.AppendEncode(nil, key)
		if err := durable.ReplaceFile(filepath.Join(r.stage.Dir, snapshot.KeyFile), append(text, '\n'), 0o600, p.hook); err != nil {
			return fmt.Errorf("copy the anonymisation key: %w", err)
		}
	}
	if err := featurestore.WriteRebuilt(r.stage.Dir, r.mark, p.hook); err != nil {
		return err
	}
	if err := r.stage.Publish(); err != nil {
		return err
	}
	return r.tell()
}

// parseUntil reads --until.
func parseUntil(text string, now time.Time) (change.Version, error) {
	t, err := change.ParseMoment(text)
	if err != nil {
		return 0, &cli.UsageError{Err: fmt.Errorf("--until %w", err)}
	}
	if t.After(now) {
		return 0, fmt.Errorf("--until %s lies in the future: a store can only be rebuilt as of a moment that has passed", text)
	}
	if !t.After(time.Unix(0, 0)) {
		return 0, fmt.Errorf("--until %s lies before the history of any store: choose a moment after its first backfill", text)
	}
	return change.VersionAt(t), nil
}

// rebuildKey reads the anonymisation key that a rebuild was given; it makes none,
// since another one than the feed's would recognise nobody who was erased, and
// make other pseudonyms. inFile says that it stands in the data directory.
func rebuildKey(dataDir string) (key []byte, inFile bool, err error) {
	env, err := snapshot.EnvironmentKey()
	if err != nil {
		return nil, false, err
	}
	key, err = snapshot.ReadKey(dataDir, env)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("a rebuild needs the anonymisation key that the datasets of this feed are built with, and never makes one: set %s, or name the data directory that holds %s with --data-dir",
			snapshot.KeyVariable, snapshot.KeyFile)
	}
	return key, env == "", err
}

// base restores the backups, without what was erased since.
func (r *rebuild) base(ctx context.Context) error {
	if len(r.From) == 0 {
		return nil
	}
	infos, err := featurestore.BackupHeaders(r.From...)
	if err != nil {
		return err
	}
	for _, info := range infos {
		r.mark.Base = append(r.mark.Base, info.ID.String())
	}
	// A restore locks the directory in which it makes the store.
	store, restored := filepath.Join(r.stage.Dir, "store"), filepath.Join(r.stage.Dir, "base", "store")
	if _, err := featurestore.Restore(ctx, restored, featurestore.RestoreOptions{Logger: r.logger, DiskReserve: r.DiskReserve, Hook: r.hook}, r.From...); err != nil {
		return err
	}
	if r.ledger == nil {
		err = os.Rename(restored, store)
	} else {
		r.mark.Erased, err = featurestore.LeaveOut(ctx, restored, store, r.ledger, featurestore.Options{Logger: r.logger})
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(restored))
}

// fill makes the store one as of the moment, with what the stream holds behind
// the base if that does not reach so far.
func (r *rebuild) fill(ctx context.Context) (err error) {
	store, err := featurestore.Open(filepath.Join(r.stage.Dir, "store"), featurestore.Options{
		Definition: r.def, Logger: r.logger, MaxRowBytes: r.MaxRowBytes, DiskReserve: r.DiskReserve, Ledger: r.ledger, Hook: r.hook,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	mark := store.Watermark()
	var replay featurestore.Input
	if mark.Version < r.until || mark.Birth == 0 {
		stream := streamFlags{dataDir: r.common.DataDir, nats: &r.natsFlags, maxRowBytes: r.MaxRowBytes}
		passage, err := stream.open(ctx, placeOf(mark), r.logger)
		if err != nil {
			return r.unfit(err)
		}
		defer func() { err = errors.Join(err, passage.close()) }()
		r.logger.Info("applying the stream", "after", passage.After, "last", passage.Last)
		replay = cdc.NewReplay(passage.messages, passage.Passage, r.MaxRowBytes)
	}
	before := store.Status().Counters.Erased
	if err := store.Rebuild(ctx, replay, r.until); err != nil {
		return r.unfit(err)
	}
	r.mark.Erased += store.Status().Counters.Erased - before
	return nil
}

// unfit says of an error what mends it, if the error does not say so itself.
func (r *rebuild) unfit(err error) error {
	var other *cdc.OtherStreamError
	var tail *cdc.LostTailError
	var chain *featurestore.ChainError
	switch missing, gap := cdc.FirstMissing(err); {
	case gap && len(r.From) == 0:
		return fmt.Errorf("%w: message %d is the first that is missing, and the backfill with it: begin with a backup, --from FILE", err, missing)
	case gap:
		return fmt.Errorf("%w: message %d is the first that is missing behind the base: begin with a newer backup, or with its increments too, each with --from FILE", err, missing)
	case errors.As(err, &other):
		return fmt.Errorf("the base does not belong to the stream: %s: name backups of this feed with --from, or its stream with --data-dir or --nats-url", other.Problem())
	case errors.As(err, &tail):
		return fmt.Errorf("the base does not belong to the stream: %w: name backups of this feed with --from, or its stream with --data-dir or --nats-url", err)
	case errors.As(err, &chain):
		return fmt.Errorf("the stream does not continue the base at %s: %s is %s where %s was expected: name backups of this feed with --from, or its stream with --data-dir or --nats-url",
			chain.Position, chain.Field, chain.Have, chain.Want)
	case errors.Is(err, featurestore.ErrEmpty):
		return errors.New("the stream holds no complete backfill up to now, so that there is nothing to rebuild: run ingest until /readyz answers")
	}
	return err
}

// tell says what was made, and what it needs.
func (r *rebuild) tell() error {
	_, err := fmt.Fprintf(r.stdout, "rebuilt %s as of %s\n", r.Into, r.until)
	if err == nil && r.mark.Erased > 0 {
		_, err = fmt.Fprintf(r.stdout, "%d changes and stored versions of erased entities were left out\n", r.mark.Erased)
	}
	if err == nil && !r.mark.KeyInFile {
		_, err = fmt.Fprintf(r.stdout, "The anonymisation key came from %s and is not in the directory: give it again to whoever builds from it.\n", snapshot.KeyVariable)
	}
	return err
}
