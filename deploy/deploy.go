// Package deploy embeds the definition that the programs use by default.
package deploy

import _ "embed"

// Dreamscape is the definition of the first user's feature set, in YAML.
//
//go:embed dreamscape.yaml
var Dreamscape []byte
