package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"dreamfeed/featurestore"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
)

// lookupPath is where the programs of this machine ask what POST /v1/features
// answers to all others.
const lookupPath = "/v1/lookup"

// maxLookup bounds the body of a question on lookupPath, in bytes.
const maxLookup = 1 << 20

type featuresCommand struct {
	User         string        `name:"user" aliases:"entity" required:"" placeholder:"ID" help:"Id of the user, or whatever kind of entity the definition's examples belong to."`
	Item         []string      `name:"item" sep:"none" placeholder:"ID" help:"Id of an item that might be shown; repeat it for more."`
	Context      []string      `name:"context" sep:"none" placeholder:"COLUMN=VALUE" help:"Column of the example itself; repeat it for more. Its moment may lie in the past or ahead."`
	At           string        `name:"at" placeholder:"MOMENT" help:"Answer as of a moment, such as 2026-11-01T00:00:00Z, instead of the newest."`
	MaxStaleness time.Duration `name:"max-staleness" placeholder:"DURATION" help:"Refuse when the store lags by more."`
	JSON         bool          `name:"json" help:"Print the answer as POST /v1/features gives it."`
}

// Run asks the daemon that runs on the data directory, else the store itself.
func (c *featuresCommand) Run(p *program) error {
	def, err := p.common.LoadDefinition()
	if err != nil {
		return err
	}
	question, err := c.question(def)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	answer, err := c.ask(ctx, p, def, question)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := fmt.Fprintf(p.stdout, "%s\n", answer)
		return err
	}
	return printFeatures(p.stdout, def, answer)
}

// question is what is asked, in JSON.
func (c *featuresCommand) question(def *definition.Definition) (json.RawMessage, error) {
	for _, text := range slices.Concat([]string{c.User}, c.Item, c.Context) {
		// The parser of the command line has put it in the place of what is no text.
		if strings.ContainsRune(text, utf8.RuneError) {
			return nil, errors.New("--user, --item or --context is no text in UTF-8")
		}
	}
	table := def.Table(def.Example.Table)
	q := map[string]any{table.Entity: c.User}
	if len(c.Item) > 0 {
		items := make([]any, len(c.Item))
		column := table.Column(def.Example.Item)
		for i, id := range c.Item {
			items[i] = id
			if column != nil && column.Type == definition.Int && json.Valid([]byte(id)) {
				items[i] = json.RawMessage(id)
			}
		}
		q["items"] = items
	}
	given := map[string]any{}
	for _, text := range c.Context {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--context %q: write COLUMN=VALUE", text)
		}
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("--context %s is given twice", name)
		}
		given[name] = value
		// The daemon says what is wrong with a value; here it is only told a text
		// from what is not.
		column := table.Column(name)
		if column != nil && column.Type != definition.Text && column.Type != definition.Timestamp && json.Valid([]byte(value)) {
			given[name] = json.RawMessage(value)
		}
	}
	if len(given) > 0 {
		q["context"] = given
	}
	switch {
	case c.MaxStaleness < 0:
		return nil, fmt.Errorf("--max-staleness %s: want 0, which is none, or longer", c.MaxStaleness)
	case c.MaxStaleness > 0:
		q["max_staleness"] = c.MaxStaleness.String()
	}
	if c.At != "" {
		if _, err := online.ParseAsOf(c.At); err != nil {
			return nil, fmt.Errorf("--at: %w", err)
		}
		q["at"] = c.At
	}
	return json.Marshal(q)
}

// ask asks the daemon, and where none answers the directory. The lock of the
// store is the truth about who holds it, the daemon's address only a hint.
func (c *featuresCommand) ask(ctx context.Context, p *program, def *definition.Definition, question json.RawMessage) (json.RawMessage, error) {
	var unanswered error
	if endpoint, err := featurestore.ReadEndpoint(p.common.DataDir); err == nil {
		client := endpoint.Client()
		defer client.Close()
		var answer json.RawMessage
		err := client.Ask(ctx, lookupPath, question, &answer)
		var told *featurestore.RemoteError
		switch {
		case err == nil:
			return answer, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.As(err, &told):
			return nil, err
		}
		unanswered = err
	}
	store, err := featurestore.OpenUnanswered(p.common.DataDir, unanswered, featurestore.Options{})
	if err != nil {
		return nil, err
	}
	answer, err := lookup(ctx, store, def, question)
	return answer, errors.Join(err, store.Close())
}

// lookup answers from a store of our own.
func lookup(ctx context.Context, store *featurestore.Store, def *definition.Definition, question json.RawMessage) (json.RawMessage, error) {
	service, err := online.New(onlineStore{store}, online.Options{Definition: def})
	if err != nil {
		return nil, err
	}
	defer service.Close()
	q, err := service.ParseQuestion(question)
	if err != nil {
		return nil, err
	}
	a, err := service.Features(ctx, q)
	if err != nil {
		return nil, err
	}
	return service.AppendAnswer(nil, q, a), nil
}

// lookup answers lookupPath.
func (s *server) lookup(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxLookup))
	if err != nil {
		featurestore.Refuse(w, fmt.Errorf("read the question: %w", err))
		return
	}
	q, err := s.Features.ParseQuestion(body)
	if err != nil {
		featurestore.Refuse(w, err)
		return
	}
	a, err := s.Features.Features(r.Context(), q)
	if err != nil {
		featurestore.Refuse(w, errors.New(err.Error())) // one sentence, of whatever type
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(s.Features.AppendAnswer(nil, q, a)); err != nil {
		s.Logger.Debug("online features were not delivered", "error", err)
	}
}

// printedFeatures is an answer as it is printed.
type printedFeatures struct {
	Moment    string          `json:"moment"`
	Staleness float64         `json:"staleness_seconds"`
	Columns   []printedColumn `json:"columns"`
	Items     []struct {
		Item    json.RawMessage `json:"item"`
		Columns []printedColumn `json:"columns"`
	} `json:"items"`
}

type printedColumn struct {
	Name   string          `json:"name"`
	Value  json.RawMessage `json:"value"`
	Status string          `json:"status"`
}

// plain is an id as it was asked, without the quotes of JSON.
func plain(id json.RawMessage) string {
	var text string
	if json.Unmarshal(id, &text) != nil {
		return string(id)
	}
	return text
}

// printFeatures prints an answer as a table.
func printFeatures(out io.Writer, def *definition.Definition, data []byte) error {
	var a printedFeatures
	var asked map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &a), json.Unmarshal(data, &asked)); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	kind := def.Table(def.Example.Table).Entity
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s %s as of %s, %.1f s ago\n", kind, plain(asked[kind]), a.Moment, a.Staleness)
	rows := func(columns []printedColumn) {
		fmt.Fprintln(t, "column\tvalue\tstatus")
		for _, c := range columns {
			fmt.Fprintf(t, "%s\t%s\t%s\n", c.Name, c.Value, c.Status)
		}
	}
	for _, item := range a.Items {
		fmt.Fprintf(t, "\nitem %s\n", plain(item.Item))
		rows(item.Columns)
	}
	if a.Items == nil {
		rows(a.Columns)
	}
	return t.Flush()
}
