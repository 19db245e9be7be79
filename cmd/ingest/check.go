package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"dreamfeed/cdc"
	"dreamfeed/internal/cli"
)

type sourceFlags struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" secret:"database" placeholder:"URL" help:"The source, as postgres://user@host:port/database. Without it the variables of libpq: PGHOST, PGDATABASE, PGSERVICE and so on. A password stands in the environment or a file, never here."`
	Publication string `name:"publication" env:"PUBLICATION" default:"dreamfeed" placeholder:"NAME" help:"Name of the publication."`
	Slot        string `name:"slot" env:"SLOT" default:"dreamfeed" placeholder:"NAME" help:"Name of the replication slot."`
}

// statement is how SQL begins that mends a fault.
var statement = regexp.MustCompile(`^(ALTER|CREATE|DROP|GRANT|SELECT) `)

// ended ends SQL with a semicolon, so that the remedies of several faults can be
// given to psql together.
func ended(mend string) string {
	if statement.MatchString(mend) && !strings.Contains(mend, "; --") && !strings.HasSuffix(mend, ";") {
		return mend + ";"
	}
	return mend
}

type checkCommand struct {
	sourceFlags
}

// errNoDatabase is the answer to a command line without a source.
var errNoDatabase = &cli.UsageError{Err: errors.New("no source database: set DATABASE_URL or --database-url to postgres://user@host:port/database, or PGHOST and PGDATABASE, or PGSERVICE")}

// errFaults ends a check that found something; the faults are printed already.
type errFaults int

func (n errFaults) Error() string {
	faults := "1 fault, mended as shown"
	if n != 1 {
		faults = fmt.Sprintf("%d faults, each mended as shown", int(n))
	}
	return "the source cannot be followed as it is: " + faults
}

func (c *checkCommand) Run(p *program) (err error) {
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	logger, closeLog, err := p.common.Logger(p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	if !cdc.SourceGiven(c.DatabaseURL) {
		return errNoDatabase
	}
	faults, err := cdc.Check(ctx, c.config(def, logger))
	if err != nil {
		return err
	}
	fatal := 0
	for _, f := range faults {
		word := "note "
		if f.Fatal {
			word = "fault"
			fatal++
		}
		fmt.Fprintf(p.stdout, "%s  %s: %s\n       %s\n", word, f.Object, f.Problem, ended(f.Mend))
	}
	if fatal > 0 {
		return errFaults(fatal)
	}
	fmt.Fprintf(p.stdout, "ok: %d tables of definition %s can be followed\n", len(def.Tables), def.Name)
	return nil
}
