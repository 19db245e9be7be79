package main

import (
	"fmt"

	"dreamfeed/internal/definition"
)

type definitionCommand struct {
	Docs bool `help:"Print the data dictionary as Markdown instead."`
}

func (c *definitionCommand) Run(p *program) error {
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	if c.Docs {
		return definition.Dictionary(p.stdout, def)
	}
	_, err = fmt.Fprintf(p.stdout, "# definition %s, hash %s\n%s", def.Name, def.Hash, def.Source)
	return err
}
