package cdc_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"dreamfeed/cdc"
)

func ExampleOpenLog() {
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	log, err := cdc.OpenLog(ctx, cdc.LogConfig{Dir: dir, MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	// The reader goes on behind what the store has applied.
	const applied = 0
	reader, err := log.Reader(ctx, applied)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reader.Close()
	_, _, found, err := log.Last(ctx)
	fmt.Println(log.Durable(), reader.Ready(), found, err)
	// Output: true false false <nil>
}
