package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
)

type backupCommand struct {
	To   string `name:"to" required:"" placeholder:"FILE" help:"The file to make; nothing that exists is replaced."`
	Base string `name:"base" placeholder:"FILE" help:"An earlier backup, full or not: only what came after it is written, and a restore needs both."`
}

// Run backs the store up: through the daemon that holds it, or from its directory
// when none does. The anonymisation key and the stream are no part of it.
func (c *backupCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = errors.New("backup was interrupted; nothing is left of it")
		}
	}()
	var base *featurestore.Backup
	if c.Base != "" {
		// All of it is read: an increment on a backup that is damaged is worth nothing.
		if base, _, err = featurestore.ReadBackup(ctx, c.Base); err != nil {
			return err
		}
	}
	var info *featurestore.Backup
	var counts featurestore.BackupCounts
	err = featurestore.WriteBackup(c.To, p.hook, func(w io.Writer) (err error) {
		info, counts, err = backUp(ctx, p.common.DataDir, w, base, logger)
		return err
	})
	if err != nil {
		return err
	}
	kind := "full backup"
	if info.Increment() {
		kind = fmt.Sprintf("increment on backup %s", info.Base)
	}
	_, err = fmt.Fprintf(p.stdout, "backed up %s to %s: backup %s, %s, as of %s, with %d versions of rows in %d bytes\n",
		filepath.Join(p.common.DataDir, "store"), c.To, info.ID, kind, info.Watermark.Version, counts.Rows, counts.File)
	return err
}

// backUp writes a backup of the store of a data directory. The directory's lock
// is the truth about who holds it, the daemon's file only a hint.
func backUp(ctx context.Context, dataDir string, w io.Writer, base *featurestore.Backup, logger *slog.Logger) (*featurestore.Backup, featurestore.BackupCounts, error) {
	none := featurestore.BackupCounts{}
	store, opened := featurestore.Open(filepath.Join(dataDir, "store"), featurestore.Options{Logger: logger, ReadOnly: true})
	if opened == nil {
		info, counts, err := store.Backup(ctx, w, base)
		return info, counts, errors.Join(err, store.Close())
	}
	var locked *featurestore.LockedError
	if !errors.As(opened, &locked) {
		return nil, none, opened
	}
	endpoint, err := featurestore.ReadEndpoint(dataDir)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", opened, err)
	}
	client := endpoint.Client()
	defer client.Close()
	info, counts, err := client.Backup(ctx, w, base)
	var told *featurestore.RemoteError
	if err != nil && !featurestore.Answered(err) && !errors.As(err, &told) && ctx.Err() == nil {
		return nil, none, fmt.Errorf("back up through process %d, which holds the store: %w", locked.PID, err)
	}
	return info, counts, err
}
