package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
)

type resetCommand struct {
	sourceFlags
	natsFlags
	StreamMaxBytes int64 `name:"stream-max-bytes" env:"STREAM_MAX_BYTES" default:"10737418240" placeholder:"BYTES" help:"Limit of the stream on disk, as of the daemon."`
	Confirm        bool  `name:"confirm" help:"Do it; without it the command says what it would do."`
	DiscardStream  bool  `name:"discard-stream" help:"Discard what the stream holds and the store has not applied: for a store that cannot apply it."`
	AcceptClock    bool  `name:"accept-clock" help:"Accept a source clock that jumped forward by over an hour."`
}

// errNotConfirmed ends a reset that only said what it would do.
var errNotConfirmed = &cli.UsageError{Err: errors.New("nothing was changed: run it with --confirm to do it")}

// Run begins the feed anew where it cannot go on: history stays, what was
// missed becomes a gap, and the next start reads all tables again.
func (c *resetCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	if !cdc.SourceGiven(c.DatabaseURL) {
		return errNoDatabase
	}
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	cfg := c.config(def, logger)
	cfg.AcceptClock, cfg.Hook = c.AcceptClock, p.hook
	if err := cfg.Validate(); err != nil {
		return &cli.UsageError{Err: err}
	}
	natsOptions, err := c.options()
	if err != nil {
		return err
	}
	if err := refuseRebuilt(p.common.DataDir); err != nil {
		return err
	}
	// The store stays open to the end, so that no daemon starts meanwhile.
	store, err := openForReset(p.common.DataDir, def, logger)
	if err != nil {
		return err
	}
	var mark featurestore.Watermark
	if store != nil {
		defer func() { err = errors.Join(err, store.Close()) }()
		mark = store.Watermark()
	}
	feed, err := cdc.OpenLog(ctx, cdc.LogConfig{
		Dir: filepath.Join(p.common.DataDir, "stream"), URL: c.NATSURL, Options: natsOptions, MaxBytes: c.StreamMaxBytes, Hook: p.hook, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()
	cfg.Log = feed
	reset, err := cdc.PlanReset(ctx, cfg, placeOf(mark), c.DiscardStream)
	if err != nil {
		return err
	}
	if err := describe(p.stdout, reset, mark, c.Slot); err != nil || reset.Idle {
		return err
	}
	if !c.Confirm {
		return errNotConfirmed
	}
	return c.do(ctx, p.stdout, reset)
}

func (c *resetCommand) do(ctx context.Context, w io.Writer, reset *cdc.Reset) error {
	if err := reset.Do(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Done. Start ingest now: it drops and makes the slot, and reads all tables again.")
	return err
}

// openForReset opens the store to learn where it stands, nil if there is none.
func openForReset(dataDir string, def *definition.Definition, logger *slog.Logger) (*featurestore.Store, error) {
	dir := filepath.Join(dataDir, "store")
	store, err := featurestore.Open(dir, featurestore.Options{ReadOnly: true, Logger: logger})
	var unclean *featurestore.UncleanError
	if errors.As(err, &unclean) {
		// To open it for writing repairs it, as the next start would.
		store, err = featurestore.Open(dir, featurestore.Options{Definition: def, Logger: logger})
	}
	var missing *featurestore.MissingError
	var locked *featurestore.LockedError
	switch {
	case errors.As(err, &missing):
		return nil, nil
	case errors.As(err, &locked) && locked.PID != 0:
		return nil, fmt.Errorf("ingest runs as process %d: stop it first (kill %d, or its service), then run ingest reset again", locked.PID, locked.PID)
	case errors.As(err, &locked):
		return nil, fmt.Errorf("%w, then run ingest reset again", err)
	}
	return store, err
}

// describe says what a reset does.
func describe(w io.Writer, r *cdc.Reset, mark featurestore.Watermark, slot string) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if r.Idle {
		say("There is nothing to reset: the next start of ingest reads all tables anyway.")
		_, err := io.WriteString(w, b.String())
		return err
	}
	say("A reset begins epoch %d of the feed:", r.Epoch)
	switch {
	case r.Stream == (change.Origin{}):
		say("- The source is the server with system identifier %d, timeline %d.", r.Server.System, r.Server.Timeline)
	case r.Stream == r.Server:
		say("- The source stays the server with system identifier %d, timeline %d.", r.Server.System, r.Server.Timeline)
	default:
		say("- The source becomes the server with system identifier %d, timeline %d; it was %d, timeline %d.",
			r.Server.System, r.Server.Timeline, r.Stream.System, r.Stream.Timeline)
	}
	if r.Renew != nil {
		say("- The stream is replaced by an empty one: %v.", r.Renew)
	} else if r.Resume != 0 {
		say("- What the stream holds, up to %s, is kept and applied first.", r.Resume)
	}
	if mark.Birth != 0 {
		say("- History stays; it is applied up to %s by now. From its end to the new backfill it has a gap, since changes may be missing: a dataset as of a moment inside is refused.", mark.Version)
	}
	if r.Slot {
		say("- The next start drops replication slot %s, which is confirmed up to %s, and makes another.", slot, r.Confirmed)
	}
	say("- The next start reads all tables again.")
	_, err := io.WriteString(w, b.String())
	return err
}
