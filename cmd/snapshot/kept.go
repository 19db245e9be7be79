package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/history"
)

// keepTimeout bounds letting go of a kept version after a build that failed or
// was stopped.
const keepTimeout = 10 * time.Second

// keeper keeps the history that a version is built from: retention does not
// pass its window then, so that it can be built again for as long.
type keeper struct {
	endpoint featurestore.Endpoint
	name     string
	created  time.Time // when this build asked; zero before
}

// newKeeper finds the daemon that keeps versions, and hears from it.
func newKeeper(ctx context.Context, dataDir, name string) (*keeper, error) {
	endpoint, err := featurestore.FindEndpoint(dataDir, "--keep has the one that runs keep history")
	if err != nil {
		return nil, err
	}
	k := &keeper{endpoint: endpoint, name: name}
	client := endpoint.Client()
	defer client.Close()
	_, err = client.Kept(ctx)
	return k, k.unheard(err)
}

func (k *keeper) unheard(err error) error {
	if err == nil {
		return nil
	}
	return k.endpoint.Unanswered(fmt.Errorf("keep version %s: %w", k.name, err))
}

// keep keeps the version: what a view of it shows, from a window before its
// moment on. A version that is kept already with the same moments stays what it
// is; one with others is refused.
func (k *keeper) keep(ctx context.Context, info history.Info, window time.Duration) error {
	client := k.endpoint.Client()
	defer client.Close()
	k.created = time.Now().UTC().Truncate(time.Microsecond)
	err := client.Keep(ctx, featurestore.Keep{Name: k.name, AsOf: info.AsOf, From: windowStart(info, window), Created: k.created})
	var taken *featurestore.KeepError
	if errors.As(err, &taken) && taken.Have != nil {
		return fmt.Errorf("version %s is kept already, as of %s with history from %s on: choose another --version, or let it go with snapshot kept --release %s", k.name, taken.Have.AsOf, taken.Have.From, k.name)
	}
	return k.unheard(err)
}

// windowStart is the first moment of the history that a dataset needs. Nothing
// is known before the store's birth.
func windowStart(info history.Info, window time.Duration) change.Version {
	return change.Version(max(int64(info.AsOf)-window.Microseconds(), int64(info.Birth)))
}

// undo lets go of what this build kept, also after ctx has ended and where the
// answer was lost. What another build of the version had kept before stays. If it
// cannot be let go, the log says so: the error of the build is the other one.
func (k *keeper) undo(ctx context.Context, logger *slog.Logger) {
	if k.created.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	client := k.endpoint.Client()
	defer client.Close()
	list, err := client.Kept(ctx)
	if err == nil && slices.ContainsFunc(list, func(held featurestore.Keep) bool {
		return held.Name == k.name && held.Created.Equal(k.created)
	}) {
		_, err = client.Release(ctx, k.name)
	}
	if err != nil {
		logger.Error("the version is not built but may still be kept: look with snapshot kept, and let it go with snapshot kept --release", "version", k.name, "error", err)
	}
}

type keptCommand struct {
	Release string `name:"release" placeholder:"VERSION" help:"Let go of a version, so that its history may be removed; the dataset's files stay."`
}

// Run lists the kept versions, or lets one go.
func (c *keptCommand) Run(p *program) error {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	if c.Release != "" {
		return c.release(ctx, p)
	}
	list, err := listKept(ctx, p.common.DataDir)
	if err != nil {
		return err
	}
	return printKept(p.stdout, list)
}

// listKept asks the daemon, or the directory when none runs.
func listKept(ctx context.Context, dataDir string) (list []featurestore.Keep, err error) {
	var unanswered error
	if endpoint, err := featurestore.ReadEndpoint(dataDir); err == nil {
		client := endpoint.Client()
		defer client.Close()
		if list, unanswered = client.Kept(ctx); unanswered == nil {
			return list, nil
		}
	}
	store, err := featurestore.OpenUnanswered(dataDir, unanswered, featurestore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return store.Kept(), nil
}

func (c *keptCommand) release(ctx context.Context, p *program) error {
	endpoint, err := featurestore.FindEndpoint(p.common.DataDir, "kept versions are let go by the one that runs")
	if err != nil {
		return err
	}
	client := endpoint.Client()
	defer client.Close()
	found, err := client.Release(ctx, c.Release)
	switch {
	case err != nil:
		return endpoint.Unanswered(fmt.Errorf("let go of version %s: %w", c.Release, err))
	case !found:
		return fmt.Errorf("version %s is not kept: snapshot kept lists those that are", c.Release)
	}
	_, err = fmt.Fprintf(p.stdout, "version %s is not kept any more\n", c.Release)
	return err
}

// printKept writes a line for each version: its name, moment, and from when on
// history is kept for it.
func printKept(w io.Writer, list []featurestore.Keep) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no version is kept")
		return err
	}
	width := len("version")
	for i := range list {
		width = max(width, len(list[i].Name))
	}
	moment := len(change.Version(0).String())
	fmt.Fprintf(w, "%-*s  %-*s  %s\n", width, "version", moment, "as of", "pinned from")
	var err error
	for i := range list {
		_, err = fmt.Fprintf(w, "%-*s  %s  %s\n", width, list[i].Name, list[i].AsOf, list[i].From)
	}
	return err
}
