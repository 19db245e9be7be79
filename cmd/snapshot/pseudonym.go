package main

import (
	"bufio"
	"errors"
	"fmt"

	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
)

type pseudonymCommand struct {
	Version    string `name:"version" env:"DATASET_VERSION" default:"1.0" placeholder:"VERSION" help:"Version of the dataset."`
	User       string `name:"user" placeholder:"ID" help:"Id to look up; without it one id a line on standard input."`
	Column     string `name:"column" placeholder:"NAME" help:"Pseudonym column; without it that of the examples' entity."`
	Pseudonyms string `name:"pseudonyms" default:"per-version" enum:"per-version,stable" placeholder:"per-version|stable" help:"How the version was built."`
}

func (c *pseudonymCommand) Run(p *program) error {
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	column, err := c.column(def)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	env, err := snapshot.EnvironmentKey()
	if err != nil {
		return err
	}
	// Only a key that was there when the dataset was built can tell anything.
	root, err := snapshot.ReadKey(p.common.DataDir, env)
	if err != nil {
		return err
	}
	pseudonym := func(id string) error {
		text, err := snapshot.Pseudonym(root, column.Name, c.Version, c.Pseudonyms == snapshot.Stable, column.Derive.Pseudonym.Length, id)
		if err == nil {
			_, err = fmt.Fprintln(p.stdout, text)
		}
		return err
	}
	if c.User != "" {
		return pseudonym(c.User)
	}
	lines := bufio.NewScanner(p.stdin)
	for lines.Scan() {
		if err := pseudonym(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// column finds the pseudonym column that was asked for, or the one made of the
// id of the examples' entity.
func (c *pseudonymCommand) column(def *definition.Definition) (*definition.Column, error) {
	by := def.Table(def.Example.Table).By
	for i := range def.Columns {
		col := &def.Columns[i]
		if col.Derive.Pseudonym == nil {
			continue
		}
		of := col.Derive.Pseudonym.Of
		if col.Name == c.Column || c.Column == "" && of.Row == "example" && of.Column == by {
			return col, nil
		}
	}
	if c.Column != "" {
		return nil, fmt.Errorf("definition %s has no pseudonym column %q", def.Name, c.Column)
	}
	return nil, errors.New("the definition has no pseudonym of its entity: name a column with --column")
}
