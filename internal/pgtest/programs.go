package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// MinVersion is the oldest major version of PostgreSQL that is accepted.
const MinVersion = 15

// ErrNoPrograms is returned, wrapped, when initdb and postgres of at least
// MinVersion are not installed where this package looks for them.
var ErrNoPrograms = errors.New("no PostgreSQL server programs (initdb, postgres) of version 15 or newer: " +
	"install the Debian package postgresql-15, or set PG_BIN to the directory that holds them")

// debianBin is where Debian and Ubuntu install server programs.
const debianBin = "/usr/lib/postgresql/*/bin"

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// programs returns the directory of initdb and postgres. $PG_BIN, when set, is
// the only place looked at, so that a mistyped one is noticed.
func programs(ctx context.Context) (string, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		major, err := version(ctx, dir)
		if err != nil {
			return "", fmt.Errorf("PG_BIN=%s: %w (%w)", dir, ErrNoPrograms, err)
		}
		if major < MinVersion {
			return "", fmt.Errorf("PG_BIN=%s is version %d: %w", dir, major, ErrNoPrograms)
		}
		return dir, nil
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		dir := filepath.Dir(initdb)
		if major, err := version(ctx, dir); err == nil && major >= MinVersion {
			return dir, nil
		}
	}
	dirs, err := filepath.Glob(debianBin)
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", debianBin, err)
	}
	best, bestMajor := "", MinVersion-1
	for _, dir := range dirs {
		if major, err := version(ctx, dir); err == nil && major > bestMajor {
			best, bestMajor = dir, major
		}
	}
	if best == "" {
		return "", ErrNoPrograms
	}
	return best, nil
}

// version returns the major version of the programs in dir. Both must be there.
func version(ctx context.Context, dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, err
	}
	postgres := filepath.Join(dir, "postgres")
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", postgres, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s --version: no version in %q", postgres, out)
	}
	return strconv.Atoi(string(m[1]))
}
