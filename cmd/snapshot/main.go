// Command snapshot builds a training dataset from the feature store.
//
//	snapshot --version 1.1                       build a dataset version
//	snapshot --version 1.1 --stage features      write the rows of its step 5
//	snapshot pseudonym --version 1.1 --user ID   print a user's pseudonym in it
//	snapshot kept                                list the versions whose history is kept
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"dreamfeed/internal/cli"
	"dreamfeed/snapshot"
)

// version is set by the build.
var version string

const description = "Builds a windowed, point-in-time-correct, pseudonymised training dataset from the feature store."

type grammar struct {
	cli.Common

	Build     buildCommand     `cmd:"" default:"withargs" help:"Build a dataset version (the default)."`
	Pseudonym pseudonymCommand `cmd:"" help:"Print the pseudonyms of users in a dataset version, for whoever holds the key."`
	Kept      keptCommand      `cmd:"" help:"List the versions whose history is kept (--keep), or let one go."`
}

// program is what every command of snapshot is given.
type program struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	common         *cli.Common
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	command, err := cli.Parse("snapshot", description, &g, args, stdout, stderr)
	if err != nil || command == nil {
		return cli.Report("snapshot", err, stderr)
	}
	err = command.Run(&program{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, common: &g.Common})
	var failed *snapshot.GateError
	if errors.As(err, &failed) {
		printGates(stderr, failed.Gates)
		cli.Report("snapshot", errGates(len(failed.Gates)), stderr)
		return cli.ExitGate
	}
	return cli.Report("snapshot", err, stderr)
}

// errGates ends a build whose gates failed; they are printed already.
type errGates int

func (n errGates) Error() string {
	gates := "1 quality gate fails"
	if n != 1 {
		gates = fmt.Sprintf("%d quality gates fail", int(n))
	}
	return "nothing was published, because " + gates + ", as shown"
}
