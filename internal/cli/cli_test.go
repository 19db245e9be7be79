package cli_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"dreamfeed/internal/cli"
)

// A script whose variable is not set gives a flag with nothing behind it. That is
// not the same as leaving the flag out.
func TestFlagsWithoutTheirValueAreRefused(t *testing.T) {
	type grammar struct {
		cli.Common
		Run struct {
			AsOf string   `name:"as-of" env:"TEST_AS_OF"`
			From []string `name:"from" sep:"none"`
		} `cmd:"" default:"withargs"`
	}
	parse := func(args ...string) error {
		var g grammar
		_, err := cli.Parse("program", "A test.", &g, args, io.Discard, io.Discard)
		return err
	}
	for flag, args := range map[string][]string{
		"--as-of":    {"--as-of", ""},
		"--from":     {"--from", "a", "--from="},
		"--data-dir": {"--data-dir="},
	} {
		var usage *cli.UsageError
		if err := parse(args...); !errors.As(err, &usage) || !strings.Contains(err.Error(), flag+" is given without a value") {
			t.Errorf("%q: %v", args, err)
		}
	}
	// A variable that is set to nothing counts as not set.
	t.Setenv("TEST_AS_OF", "")
	if err := parse("--from", "a"); err != nil {
		t.Errorf("flags with their values: %v", err)
	}
}
