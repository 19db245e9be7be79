// Command ingest follows a PostgreSQL database and keeps a feature store up to
// date with it.
//
//	ingest                 follow the database until stopped
//	ingest check           examine the source and print what mends each fault
//	ingest definition      print the definition in force and its hash
package main

import (
	"context"
	"io"
	"os"

	"dreamfeed/internal/cli"
)

// version is set by the build.
var version string

const description = "Follows a PostgreSQL database through logical replication and keeps a versioned feature store up to date."

type grammar struct {
	cli.Common

	Run        runCommand        `cmd:"" default:"withargs" help:"Follow the database until stopped (the default)."`
	Check      checkCommand      `cmd:"" help:"Examine the source; print for each fault what mends it."`
	Definition definitionCommand `cmd:"" help:"Print the definition in force and its hash, or the data dictionary."`
}

// program is what every command of ingest is given.
type program struct {
	ctx            context.Context
	stdout, stderr io.Writer
	common         *cli.Common
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var g grammar
	command, err := cli.Parse("ingest", description, &g, args, stdout, stderr)
	if err != nil || command == nil {
		return cli.Report("ingest", err, stderr)
	}
	return cli.Report("ingest", command.Run(&program{ctx: ctx, stdout: stdout, stderr: stderr, common: &g.Common}), stderr)
}
