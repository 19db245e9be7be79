package cdc_test

import (
	"context"
	"log/slog"
	"os"
	"os/signal"

	"dreamfeed/cdc"
	"dreamfeed/internal/definition"
)

// A daemon checks its source first, tells what is wrong with it, and then
// feeds the stream until it is told to stop.
func ExampleSource() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var def *definition.Definition // from definition.Load
	var log *cdc.Log               // from cdc.OpenLog
	cfg := cdc.Config{DatabaseURL: "postgres://feeder@db.example/app", Definition: def, Log: log}

	faults, err := cdc.Check(ctx, cfg)
	if err != nil {
		slog.Error("the source cannot be asked", "error", err)
		return
	}
	for _, f := range faults {
		slog.Warn("source fault", "object", f.Object, "problem", f.Problem, "mend", f.Mend)
	}
	source, err := cdc.NewSource(cfg)
	if err != nil {
		slog.Error("source", "error", err)
		return
	}
	if err := source.Run(ctx); err != nil {
		slog.Error("source", "error", err)
	}
}
