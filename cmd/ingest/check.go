package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"dreamfeed/cdc"
)

type sourceFlags struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"The source, as postgres://user@host:port/database. Prefer the environment: arguments are visible to other users of the machine."`
	Publication string `name:"publication" env:"PUBLICATION" default:"dreamfeed" placeholder:"NAME" help:"Name of the publication."`
	Slot        string `name:"slot" env:"SLOT" default:"dreamfeed" placeholder:"NAME" help:"Name of the replication slot."`
}

type checkCommand struct {
	sourceFlags
}

// errFaults ends a check that found something; the faults are printed already.
type errFaults int

func (n errFaults) Error() string {
	return fmt.Sprintf("the source cannot be followed as it is: %d faults, each mended as shown", int(n))
}

func (c *checkCommand) Run(p *program) (err error) {
	ctx, stop := signal.NotifyContext(p.ctx, os.Interrupt, syscall.SIGTERM)
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
		fmt.Fprintf(p.stdout, "%s  %s: %s\n       %s\n", word, f.Object, f.Problem, f.Mend)
	}
	if fatal > 0 {
		return errFaults(fatal)
	}
	fmt.Fprintf(p.stdout, "ok: %d tables of definition %s can be followed\n", len(def.Tables), def.Name)
	return nil
}
