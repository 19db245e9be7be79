package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// programs runs the built programs one after the other.
type programs struct {
	settings
	stdout, stderr io.Writer
	say            func(format string, a ...any)
}

// command runs one of the programs and shows what it prints.
func (p *programs) command(ctx context.Context, name string, args ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(p.bin, name), append(args, "--log-level", "warn")...)
	command.Stdout, command.Stderr = p.stdout, p.stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return nil
}

func (p *programs) in(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// travel builds a dataset of an earlier moment and one of now, and the earlier
// one again from a store that is rebuilt for its moment.
func (p *programs) travel(ctx context.Context, moment string) error {
	p.say("snapshot --version 1.0 --as-of %s", moment)
	if err := p.command(ctx, "snapshot", "--version", "1.0", "--as-of", moment, "--data-dir", p.in("data"), "--output", p.in("datasets")); err != nil {
		return err
	}
	p.say("snapshot --version 1.1 --as-of now")
	if err := p.command(ctx, "snapshot", "--version", "1.1", "--as-of", "now", "--data-dir", p.in("data"), "--output", p.in("datasets")); err != nil {
		return err
	}
	p.say("ingest rebuild --until %s: the store of that moment from the stream", moment)
	if err := p.command(ctx, "ingest", "rebuild", "--until", moment, "--into", p.in("rebuilt"), "--data-dir", p.in("data")); err != nil {
		return err
	}
	p.say("snapshot --version 1.0 of the rebuilt store")
	if err := p.command(ctx, "snapshot", "--version", "1.0", "--data-dir", p.in("rebuilt"), "--output", p.in("rebuilt", "datasets")); err != nil {
		return err
	}
	for _, file := range []string{"train_v1.0.parquet", "test_v1.0.parquet"} {
		then, err := sum(p.in("datasets", "v1.0", file))
		if err != nil {
			return err
		}
		again, err := sum(p.in("rebuilt", "datasets", "v1.0", file))
		if err != nil {
			return err
		}
		if then != again {
			return fmt.Errorf("%s differs between the store (SHA-256 %s) and the one rebuilt for the same moment (%s)", file, then, again)
		}
		p.say("%s of the rebuilt store is the same: SHA-256 %s", file, then)
	}
	return nil
}

// sum is the SHA-256 of a file, in hex.
func sum(path string) (_ string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
