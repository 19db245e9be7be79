package cli

import (
	"fmt"

	"github.com/alecthomas/kong"

	"dreamfeed/internal/secret"
)

// refuseSecrets refuses a password on the command line, which every user of the
// machine can read there as long as the program runs (ADR 0008). A flag that
// could hold one says so in its tag secret: "database" or "nats", after the form
// of its address. What comes from the environment is not on the path.
func refuseSecrets(path []*kong.Path) error {
	for _, element := range path {
		flag := element.Flag
		if flag == nil || !flag.Target.IsValid() {
			continue
		}
		text := fmt.Sprint(flag.Target.Interface())
		switch flag.Tag.Get("secret") {
		case "database":
			if secret.InDatabaseURL(text) {
				return &UsageError{Err: fmt.Errorf("--%s holds a password, which other users of the machine can read in the list of processes: "+
					"leave it out and set PGPASSWORD or PGPASSFILE, or put the whole URL into the environment as %s", flag.Name, flag.Tag.Get("env"))}
			}
		case "nats":
			if secret.InNATSURL(text) {
				return &UsageError{Err: fmt.Errorf("--%s holds a password or a token, which other users of the machine can read in the list of processes: "+
					"put the whole URL into the environment as %s, or use a file of credentials", flag.Name, flag.Tag.Get("env"))}
			}
		}
	}
	return nil
}
