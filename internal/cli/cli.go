// Package cli is what the programs share at their edge: the flags that both
// take, how a command line is parsed and how an error becomes an exit code.
package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // definitions may name a zone on a host without zoneinfo

	"github.com/alecthomas/kong"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
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
	Definition string `name:"definition" env:"DEFINITION" placeholder:"FILE" help:"Definition of the feature set (default: the embedded Dreamscape definition)."`
	LogLevel   string `name:"log-level" env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error,DEBUG,INFO,WARN,ERROR" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFile    string `name:"log-file" env:"LOG_FILE" placeholder:"FILE" help:"Where logs go (default: stderr)."`
	LogFormat  string `name:"log-format" env:"LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORMAT" help:"text or json."`
}

// LoadDefinition reads and validates the definition in force.
func (c *Common) LoadDefinition() (*definition.Definition, error) {
	if c.Definition == "" {
		return definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	}
	data, err := os.ReadFile(c.Definition)
	if err != nil {
		return nil, fmt.Errorf("read definition %s: %w; name an existing file with --definition or DEFINITION", c.Definition, errors.Unwrap(err))
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
			return nil, nil, fmt.Errorf("make the directory of --log-file: %w", err)
		}
		f, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("open --log-file: %w", err)
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
		kong.Name(name), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { panic(errHelp) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		return nil, fmt.Errorf("command line grammar: %w", err)
	}
	ctx, err = parser.Parse(args)
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	return ctx, nil
}

// Report prints err as one sentence after the program's name and returns the
// exit code for it.
func Report(name string, err error, stderr io.Writer) int {
	if err == nil {
		return ExitDone
	}
	fmt.Fprintf(stderr, "%s: %s\n", name, strings.TrimSpace(err.Error()))
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
