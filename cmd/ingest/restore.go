package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
)

type restoreCommand struct {
	From   []string `name:"from" required:"" sep:"none" placeholder:"FILE" help:"A full backup; then its increments, each with another --from, oldest first."`
	Verify bool     `name:"verify" help:"Only read the files and check them."`
}

// Run makes the store of a data directory of backups.
func (c *restoreCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = errors.New("restore was interrupted; nothing is left of it")
		}
	}()
	if c.Verify {
		return c.verify(ctx, p.stdout)
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	cli.LimitMemory(memoryLimit)
	dir := filepath.Join(p.common.DataDir, "store")
	info, err := featurestore.Restore(ctx, dir, featurestore.RestoreOptions{Logger: logger, Hook: p.hook}, c.From...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, `restored %s as of %s, from message %d of the stream on
Start ingest now: it catches up from the stream. If the stream does not reach back that far, it stops and says so; then restore a newer backup, or run: ingest reset --confirm
The anonymisation key is in no backup: put back the one that this store's datasets were built with.
`, dir, info.Watermark.Version, info.Watermark.Sequence+1)
	return err
}

// refuseUnrestored keeps ingest from beginning a new store where one is to be
// restored: the restore would find it in its place, and PostgreSQL would be read anew.
func refuseUnrestored(dataDir string) error {
	dir := filepath.Join(dataDir, "store")
	if !featurestore.Unrestored(dir) {
		return nil
	}
	return fmt.Errorf("a restore of %s was cut off, or still runs: run ingest restore again, or, to begin without the backup, remove %s.restoring", dir, dir)
}

// verify reads the backups and says what they are of.
func (c *restoreCommand) verify(ctx context.Context, w io.Writer) error {
	infos, counts, err := featurestore.VerifyBackup(ctx, c.From...)
	if err != nil {
		return err
	}
	for i, info := range infos {
		_, err := fmt.Fprintf(w, "ok %s: backup %s, as of %s, with %d versions of rows\n", c.From[i], info.ID, info.Watermark.Version, counts[i].Rows)
		if err != nil {
			return err
		}
	}
	return nil
}
