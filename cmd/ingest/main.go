// Command ingest follows a PostgreSQL database and keeps a feature store up to
// date with it.
//
//	ingest                 follow the database until stopped
//	ingest check           examine the source and print what mends each fault
//	ingest reset           begin the feed anew where it cannot go on
//	ingest verify          compare the store with the source while both go on
//	ingest refill          have the running ingest read tables again
//	ingest backup          write the store to a file, while it is fed
//	ingest restore         make a store of backups
//	ingest rebuild         make a store as of a moment of backups and the stream
//	ingest features        print the online features of one user
//	ingest definition      print the definition in force and its hash
package main

import (
	"context"
	"io"
	"os"

	"dreamfeed/internal/cli"
	"dreamfeed/internal/durable"
)

// version is set by the build.
var version string

const description = "Follows a PostgreSQL database through logical replication and keeps a versioned feature store up to date."

type grammar struct {
	cli.Common

	Run        runCommand        `cmd:"" default:"withargs" help:"Follow the database until stopped (the default)."`
	Verify     verifyCommand     `cmd:"" help:"Compare the store with the source while both go on; name the keys that differ."`
	Check      checkCommand      `cmd:"" help:"Examine the source; print for each fault what mends it."`
	Reset      resetCommand      `cmd:"" help:"Begin the feed anew where it cannot go on: history stays, the tables are read again."`
	Refill     refillCommand     `cmd:"" help:"Have the running ingest read tables again, beside the changes that go on; what the source has lost is deleted."`
	Backup     backupCommand     `cmd:"" help:"Write the store to a file, all of it or what came after an earlier backup; a running ingest goes on meanwhile."`
	Restore    restoreCommand    `cmd:"" help:"Make the store of a data directory that has none of a full backup and its increments."`
	Rebuild    rebuildCommand    `cmd:"" help:"Make a data directory with the store as it was at a moment, of a backup and the stream, or of the stream alone."`
	Features   featuresCommand   `cmd:"" help:"Print the features that a user, and items, would be served with now."`
	Definition definitionCommand `cmd:"" help:"Print the definition in force and its hash, or the data dictionary."`
}

// program is what every command of ingest is given.
type program struct {
	ctx            context.Context
	stdout, stderr io.Writer
	common         *cli.Common
	hook           durable.Hook // told of every durable step; nil outside tests
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runHooked(ctx, args, stdout, stderr, nil)
}

// runHooked is run with a hook that is told of every durable step.
func runHooked(ctx context.Context, args []string, stdout, stderr io.Writer, hook durable.Hook) int {
	var g grammar
	command, err := cli.Parse("ingest", description, &g, args, stdout, stderr)
	if err != nil || command == nil {
		return cli.Report("ingest", err, stderr)
	}
	return cli.Report("ingest", command.Run(&program{ctx: ctx, stdout: stdout, stderr: stderr, common: &g.Common, hook: hook}), stderr)
}
