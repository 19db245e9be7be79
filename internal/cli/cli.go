// Package cli is what the programs share at their edge: the flags that both
// take, how a command line is parsed and how an error becomes an exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // definitions may name a zone on a host without zoneinfo

	"github.com/alecthomas/kong"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/secret"
)

// The exit codes of both programs.
const (
	ExitDone  = 0
	ExitError = 1
	ExitUsage = 2
	ExitGate  = 3 // a quality gate failed, nothing was published
)

// Common are the flags that both programs take. Flags win over the environment.
type Common struct {
	DataDir    string `name:"data-dir" env:"DATA_DIR" default:"data" placeholder:"DIR" help:"Directory of stream, store and key."`
	Definition string `name:"definition" env:"DEFINITION" placeholder:"FILE" help:"Definition of the feature set; without it the embedded Dreamscape definition."`
	LogLevel   string `name:"log-level" env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error,DEBUG,INFO,WARN,ERROR" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFile    string `name:"log-file" env:"LOG_FILE" placeholder:"FILE" help:"Where logs go instead of stderr."`
	LogFormat  string `name:"log-format" env:"LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORMAT" help:"text or json."`
}

// LoadDefinition reads and validates the definition in force.
func (c *Common) LoadDefinition() (*definition.Definition, error) {
	if c.Definition == "" {
		return definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	}
	data, err := os.ReadFile(c.Definition)
	if err != nil {
		return nil, &UsageError{Err: fmt.Errorf("read definition %s: %w; name an existing file with --definition or DEFINITION", c.Definition, errors.Unwrap(err))}
	}
	return definition.Load(data, c.Definition)
}

// Logger opens the log that the flags ask for. The returned function closes it.
func (c *Common) Logger(stderr io.Writer) (*slog.Logger, func() error, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", c.LogLevel)
	}
	w, done := stderr, func() error { return nil }
	if c.LogFile != "" {
		if err := os.MkdirAll(filepath.Dir(c.LogFile), 0o755); err != nil {
			return nil, nil, fmt.Errorf("make the directory of the log file: %w; name a file that can be written with --log-file", err)
		}
		f, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w; name a file that can be written with --log-file", err)
		}
		w, done = f, f.Close
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), done, nil
	}
	return slog.New(slog.NewTextHandler(w, options)), done, nil
}

// UsageError is a command line that cannot be understood; it exits with 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the parser's error.
func (e *UsageError) Unwrap() error { return e.Err }

// errHelp ends a parse that only printed help.
var errHelp = errors.New("help was shown")

// Parse fills grammar, a pointer to a kong command structure, from args. The
// returned context runs the chosen command. A nil context with a nil error
// means that help was printed and there is nothing to run.
func Parse(name, description string, grammar any, args []string, stdout, stderr io.Writer) (ctx *kong.Context, err error) {
	// kong leaves the program after printing help; here that becomes a return.
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(error); ok && errors.Is(e, errHelp) {
				ctx, err = nil, nil
				return
			}
			panic(r)
		}
	}()
	parser, err := kong.New(grammar,
		kong.Name(name), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { panic(errHelp) }),
		kong.Help(help), kong.ValueFormatter(valueHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		return nil, fmt.Errorf("command line grammar: %w", err)
	}
	ignoreEmptyEnvironment(parser.Model.Node)
	ctx, err = parser.Parse(args)
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	if err := refuseEmpty(ctx.Path); err != nil {
		return nil, err
	}
	return ctx, refuseSecrets(ctx.Path)
}

// help prints the program's help with the flags of its default command, which
// is what most people look for, or the help of the command that was named.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if main := ctx.Model.DefaultCmd; ctx.Selected() == nil && main != nil {
		ctx.Model.Flags = append(ctx.Model.Flags, main.Flags...)
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// valueHelp adds to a flag's help its default and its environment variable.
func valueHelp(value *kong.Value) string {
	var notes []string
	if value.HasDefault && value.Default != "" {
		notes = append(notes, "default "+value.Default)
	}
	for _, env := range value.Tag.Envs {
		notes = append(notes, "$"+env)
	}
	if len(notes) == 0 {
		return value.Help
	}
	return fmt.Sprintf("%s [%s]", value.Help, strings.Join(notes, ", "))
}

// ignoreEmptyEnvironment makes an environment variable that is set to nothing
// count as not set: composed environments pass variables on in this way.
func ignoreEmptyEnvironment(node *kong.Node) {
	for _, flag := range node.Flags {
		empty := func(env string) bool {
			text, set := os.LookupEnv(env)
			return set && text == ""
		}
		flag.Tag.Envs = slices.DeleteFunc(flag.Tag.Envs, empty)
	}
	for _, child := range node.Children {
		ignoreEmptyEnvironment(child)
	}
}

// refuseEmpty refuses a flag that is given with nothing, as a script does whose
// variable is not set: without its value the command would do something else, a full
// backup in place of an increment, or a dataset of another moment. What comes from
// the environment is not on the path.
func refuseEmpty(path []*kong.Path) error {
	for _, element := range path {
		flag := element.Flag
		if flag == nil || !flag.Target.IsValid() {
			continue
		}
		empty := false
		switch value := flag.Target.Interface().(type) {
		case string:
			empty = value == ""
		case []string:
			empty = slices.Contains(value, "")
		}
		if empty {
			return &UsageError{Err: fmt.Errorf("--%s is given without a value: give it one, or leave it out", flag.Name)}
		}
	}
	return nil
}

// Interruptible returns a context that ends at the first SIGINT or SIGTERM. From
// then on, and after stop, a signal ends the process at once.
func Interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Report prints err as one sentence after the program's name and returns the
// exit code for it.
func Report(name string, err error, stderr io.Writer) int {
	if err == nil {
		return ExitDone
	}
	fmt.Fprintf(stderr, "%s: %s\n", name, secret.Redact(strings.TrimSpace(err.Error())))
	var usage *UsageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "Run %s --help for the flags.\n", name)
		return ExitUsage
	}
	return ExitError
}

// ProgramVersion is the version of the program for metadata and status: the
// stamp if the build set one, else the module's version.
func ProgramVersion(stamp string) string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// LimitMemory sets what the garbage collector aims to stay below, in bytes,
// unless GOMEMLIMIT says otherwise.
func LimitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}
