package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
)

// refillPath is where the daemon takes refills.
const refillPath = "/v1/refill"

// maxRefillQuestion bounds the body of a question, in bytes.
const maxRefillQuestion = 1 << 20

type refillCommand struct {
	Table []string      `name:"table" required:"" sep:"none" placeholder:"TABLE" help:"Table of the definition to read again; repeat it for more."`
	Wait  time.Duration `name:"wait" default:"30s" placeholder:"DURATION" help:"How long to wait for transactions of the source that are open already."`
}

// refillQuestion is what is asked of the daemon, refillAnswer what it did.
type refillQuestion struct {
	Tables []string `json:"tables"`
	Wait   string   `json:"wait"` // a Go duration
}

type refillAnswer struct {
	Tables  []string       `json:"tables"`
	Version change.Version `json:"version"`
	Moment  string         `json:"moment"`
	Rows    uint64         `json:"rows"`
	LSN     string         `json:"lsn"` // what was read is the state as of it
	// PausedSeconds is how long live changes waited.
	PausedSeconds float64 `json:"paused_seconds"`
}

// Run asks the daemon that runs on the data directory, since it alone may write
// to stream and store.
func (c *refillCommand) Run(p *program) error {
	if c.Wait <= 0 {
		return &cli.UsageError{Err: fmt.Errorf("--wait %s: want longer than 0", c.Wait)}
	}
	ctx, stop := cli.Interruptible(p.ctx)
	defer stop()
	endpoint, err := featurestore.FindEndpoint(p.common.DataDir, "a refill is done by the one that runs")
	if err != nil {
		return err
	}
	client := endpoint.Client()
	defer client.Close()
	var answer refillAnswer
	err = client.Ask(ctx, refillPath, refillQuestion{Tables: c.Table, Wait: c.Wait.String()}, &answer)
	if err != nil && ctx.Err() == nil {
		err = endpoint.Unanswered(err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "refilled %s: %d rows as of %s, applied as version %s\n",
		strings.Join(answer.Tables, ", "), answer.Rows, answer.LSN, answer.Moment)
	return err
}

// refill answers refillPath once the store holds what was read.
func (s *server) refill(w http.ResponseWriter, r *http.Request) {
	var question refillQuestion
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRefillQuestion)).Decode(&question); err != nil {
		featurestore.Refuse(w, fmt.Errorf("read the question: %w", err))
		return
	}
	wait, err := time.ParseDuration(question.Wait)
	if question.Wait == "" {
		wait, err = cdc.DefaultOpenWait, nil
	}
	if err != nil || wait <= 0 {
		featurestore.Refuse(w, fmt.Errorf("refill: wait %q is no duration above 0, such as 30s", question.Wait))
		return
	}
	// A refill outlives lost connections once it has begun; one that is asked for
	// while the source is away would wait without a word.
	if source := s.Source.Status(); source.State == cdc.Reconnecting {
		featurestore.Refuse(w, fmt.Errorf("refill: the source is away, and nothing was begun: %s; run it again when /readyz answers", source.Fault))
		return
	}
	result, err := s.Source.RefillWithin(r.Context(), question.Tables, wait)
	if err == nil {
		err = s.applied(r.Context())
	}
	if err != nil {
		featurestore.Refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err = json.NewEncoder(w).Encode(refillAnswer{
		Tables: result.Tables, Version: result.Version, Moment: result.Version.String(), Rows: result.Rows,
		LSN: result.LSN.String(), PausedSeconds: result.Paused.Seconds(),
	})
	if err != nil {
		s.Logger.Debug("the answer to a refill was not delivered", "error", err)
	}
}

// applied waits until the store has applied what the stream holds now.
func (s *server) applied(ctx context.Context) error {
	lsn, err := s.Source.Barrier(ctx)
	if err != nil {
		return err
	}
	_, err = s.Store.Wait(ctx, lsn)
	return err
}

// versionBefore is how the store tells a refill what its snapshot saw.
func versionBefore(store *featurestore.Store, epoch change.Epoch) func(context.Context, change.LSN) (change.Version, error) {
	return func(ctx context.Context, lsn change.LSN) (change.Version, error) {
		// A position of an epoch before says nothing of this one.
		if err := store.WaitEpoch(ctx, epoch); err != nil {
			return 0, err
		}
		if _, err := store.Wait(ctx, lsn); err != nil {
			return 0, err
		}
		return store.VersionBefore(lsn)
	}
}

// refillReport is a refill under way, in the status.
type refillReport struct {
	Tables []string        `json:"tables"`
	Phase  cdc.RefillPhase `json:"phase"`
	Rows   uint64          `json:"rows"` // read so far
}

// reportRefill is nil when none is under way.
func reportRefill(status *cdc.Status) *refillReport {
	if status.RefillTables == nil {
		return nil
	}
	return &refillReport{Tables: status.RefillTables, Phase: status.RefillPhase, Rows: status.RefillRows}
}
