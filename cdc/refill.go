package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dreamfeed/internal/change"
)

const (
	// DefaultOpenWait is how long Refill waits for transactions that were open on
	// the source before it.
	DefaultOpenWait = 30 * time.Second
	// unfilledOpenWait is the same for refills that nobody waits for. A longer wait
	// gets further than many short ones, since each begins anew.
	unfilledOpenWait = 5 * time.Minute
	// unfilledFirst and unfilledMost bound the pause before such a refill is tried
	// again.
	unfilledFirst = time.Second
	unfilledMost  = time.Minute
)

// RefillPhase is what a refill is doing.
type RefillPhase string

// The phases of a refill: it waits for transactions that are open on the source,
// reads the tables into a file, waits until the stream has come as far, and is
// published, during which live changes wait.
const (
	RefillWaiting    RefillPhase = "waiting"
	RefillReading    RefillPhase = "reading"
	RefillFollowing  RefillPhase = "following"
	RefillPublishing RefillPhase = "publishing"
)

// RefillResult tells what a refill published.
type RefillResult struct {
	// Tables are the definition's names of what was read.
	Tables []string
	// Version is the moment from which the refilled rows hold.
	Version change.Version
	// Rows were read and published; a store writes those that differ.
	Rows uint64
	// LSN is the position of the source as of which the tables were read.
	LSN change.LSN
	// Low is the version of the last transaction that the reading saw.
	Low change.Version
	// Paused is how long live changes waited for the refill to be published.
	Paused time.Duration
}

// RefillTableError says that a refill was asked for a table that the definition
// does not name.
type RefillTableError struct {
	Table string   // "" when none was named
	Known []string // the definition's tables
}

func (e *RefillTableError) Error() string {
	if e.Table == "" {
		return "refill: no table is named: name one or more of " + strings.Join(e.Known, ", ")
	}
	return fmt.Sprintf("refill table %s: the definition does not name it: name one or more of %s", e.Table, strings.Join(e.Known, ", "))
}

// NotStreamingError says that a refill found no running feed.
type NotStreamingError struct {
	State State
	Fault string // why the connection was lost, "" when that is not known
	Err   error  // the end of the context that bounded the wait, nil if none did
}

func (e *NotStreamingError) Error() string {
	why := ""
	if e.Fault != "" {
		why = " (" + e.Fault + ")"
	}
	return fmt.Sprintf("refill: the source is not followed at the moment, it is %s%s: refill when GET /v1/status says streaming", e.State, why)
}

// Unwrap returns the end of the context.
func (e *NotStreamingError) Unwrap() error { return e.Err }

// refilling notes the phase of the refill under way.
func (b *statusBoard) refilling(phase RefillPhase) {
	b.update(func(now *Status) {
		if now.RefillTables != nil {
			now.RefillPhase = phase
		}
	})
}

// refillDesk is where those who ask for refills meet the connection that
// streams.
type refillDesk struct {
	turn chan struct{} // holds a token while a refill is under way

	mu      sync.Mutex
	current *refillSession // nil while nothing is streamed
	ended   bool           // Run has returned
	changed chan struct{}  // closed and replaced when current or ended changes
}

// refillSession is one connection that streams, as refills see it.
type refillSession struct {
	origin change.Origin
	// jobs takes what is read, one at a time.
	jobs chan *refillJob
	// over is closed when the framer has ended.
	over chan struct{}
}

// errSessionOver says that the connection ended before a refill was published.
var errSessionOver = &retryError{errors.New("refill: the connection to the source was lost before it was published")}

func (d *refillDesk) init() {
	d.turn = make(chan struct{}, 1)
	d.changed = make(chan struct{})
}

// set announces the connection that streams, nil for none.
func (d *refillDesk) set(current *refillSession, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current, d.ended = current, ended
	close(d.changed)
	d.changed = make(chan struct{})
}

// session waits for a connection that streams.
func (s *Source) refillSession(ctx context.Context) (*refillSession, error) {
	d := &s.refills
	for {
		d.mu.Lock()
		current, ended, changed := d.current, d.ended, d.changed
		d.mu.Unlock()
		if current != nil {
			return current, nil
		}
		if ended {
			return nil, &NotStreamingError{State: Stopped}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			now := s.Status()
			return nil, &NotStreamingError{State: now.State, Fault: now.Fault, Err: ctx.Err()}
		}
	}
}

// Refill reads tables of the definition, by their names in it, once more, and
// puts what they hold into the stream as one transaction of kind change.Refill,
// while changes go on. It returns when the stream has it. Refills wait for each
// other.
//
// A connection that is lost in the middle begins the refill again when the
// source is back, for as long as ctx lasts. Nothing that was not complete counts.
// Errors: *RefillTableError, *NotStreamingError, *OpenTransactionsError when
// transactions of the source stayed open for DefaultOpenWait, *SpillRoomError,
// *NoFreeSlotError, *PublicationNarrowError, *RowTooLargeError, and what the
// server says.
func (s *Source) Refill(ctx context.Context, tables []string) (RefillResult, error) {
	return s.RefillWithin(ctx, tables, DefaultOpenWait)
}

// RefillWithin is Refill with another limit of the wait for transactions that
// were open on the source before it.
func (s *Source) RefillWithin(ctx context.Context, tables []string, wait time.Duration) (RefillResult, error) {
	names, err := s.refillNames(tables)
	if err != nil {
		return RefillResult{}, err
	}
	select {
	case s.refills.turn <- struct{}{}:
		defer func() { <-s.refills.turn }()
	case <-ctx.Done():
		return RefillResult{}, fmt.Errorf("refill %s: wait for the refill before it: %w", strings.Join(names, ", "), ctx.Err())
	}
	for again := reconnectFirst; ; again = min(2*again, reconnectMost) {
		session, err := s.refillSession(ctx)
		if err != nil {
			return RefillResult{}, err
		}
		result, err := s.refill(ctx, session, names, wait)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil || !passing(err) {
			return RefillResult{}, fmt.Errorf("refill %s: %w", strings.Join(names, ", "), err)
		}
		s.cfg.Logger.Warn("refill was interrupted: it begins again", "tables", names, "error", err)
		if err := pause(ctx, again); err != nil {
			return RefillResult{}, fmt.Errorf("refill %s: %w", strings.Join(names, ", "), err)
		}
	}
}

// refillNames checks what is asked for, and puts it in the definition's order.
func (s *Source) refillNames(tables []string) ([]string, error) {
	if s.cfg.VersionBefore == nil || s.cfg.SpillDir == "" {
		return nil, errors.New("refill: Config.VersionBefore and Config.SpillDir are not set")
	}
	var known, names []string
	for i := range s.cfg.Definition.Tables {
		name := s.cfg.Definition.Tables[i].Name
		known = append(known, name)
		if slices.Contains(tables, name) {
			names = append(names, name)
		}
	}
	for _, name := range tables {
		if !slices.Contains(known, name) {
			return nil, &RefillTableError{Table: name, Known: known}
		}
	}
	if len(names) == 0 {
		return nil, &RefillTableError{Known: known}
	}
	return names, nil
}

// refill is one attempt, within one connection.
func (s *Source) refill(ctx context.Context, session *refillSession, names []string, wait time.Duration) (RefillResult, error) {
	began := time.Now()
	s.status.update(func(now *Status) { now.RefillTables, now.RefillPhase, now.RefillRows = names, RefillWaiting, 0 })
	defer s.status.update(func(now *Status) { now.RefillTables, now.RefillPhase, now.RefillRows = nil, "", 0 })
	// What is read is of no use once the connection that was to publish it is lost.
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(ended)
	watching.Go(func() {
		select {
		case <-session.over:
			cancel(errSessionOver)
		case <-ended:
		}
	})
	job, err := s.readRefill(reading, session, names, wait)
	if err != nil {
		if cause := context.Cause(reading); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return RefillResult{}, err
	}
	result := RefillResult{Tables: names, Rows: uint64(job.rows.rows), LSN: job.consistent, Low: job.scope.Low}
	read := time.Since(began)
	s.status.refilling(RefillFollowing)
	outcome, err := session.publish(ctx, job)
	if err != nil {
		return RefillResult{}, err
	}
	result.Version, result.Paused = outcome.version, outcome.took
	s.status.update(func(now *Status) { now.Refills++ })
	s.cfg.Logger.Info("refill complete", "tables", names, "version", result.Version.String(), "rows", result.Rows,
		"lsn", result.LSN.String(), "read", read.Round(time.Millisecond), "paused", result.Paused.Round(time.Millisecond))
	return result, nil
}

// publish hands a refill to the framer, to which its file belongs from then on,
// and waits until the stream has it.
func (r *refillSession) publish(ctx context.Context, job *refillJob) (refillOutcome, error) {
	job.cancelled = ctx.Done()
	select {
	case r.jobs <- job:
	case <-r.over:
		return refillOutcome{}, errors.Join(errSessionOver, job.rows.remove())
	case <-ctx.Done():
		return refillOutcome{}, errors.Join(ctx.Err(), job.rows.remove())
	}
	select {
	case outcome := <-job.done:
		return outcome, outcome.err
	case <-ctx.Done():
		return refillOutcome{}, ctx.Err()
	}
}

// isUnfilled says whether the store has not filled a table.
func (s *Source) isUnfilled(name string) bool {
	return s.cfg.Unfilled != nil && slices.Contains(s.cfg.Unfilled(), name)
}

// refillUnfilled refills what the store lacks, one table after the other, until
// nothing is left or the connection ends. What the stream holds already, up to
// resume, may tell the store that it lacks more.
func (s *Source) refillUnfilled(ctx context.Context, resume change.LSN) {
	if s.cfg.Unfilled == nil || s.cfg.VersionBefore == nil {
		return
	}
	if _, err := s.cfg.VersionBefore(ctx, resume); ctx.Err() != nil {
		return
	} else if err != nil { // there may be no transaction yet; the store has come as far
		s.cfg.Logger.Debug("the store was not asked for a version", "lsn", resume.String(), "error", err)
	}
	for again := unfilledFirst; ; {
		if len(s.cfg.Unfilled()) == 0 {
			return
		}
		table, err := s.refillNext(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			again = unfilledFirst
			continue
		}
		s.cfg.Logger.Error("a table that the definition has gained, or gained columns of, was not refilled", "table", table, "error", err, "again_in", again)
		if pause(ctx, again) != nil {
			return
		}
		again = min(2*again, unfilledMost)
	}
}

// refillNext refills one table that the store lacks, if there still is one once
// the store has applied what is in the stream: that may hold a refill of it.
func (s *Source) refillNext(ctx context.Context) (table string, err error) {
	lsn, err := s.Barrier(ctx)
	if err != nil {
		return "", err
	}
	if _, err := s.cfg.VersionBefore(ctx, lsn); err != nil {
		return "", err
	}
	left := s.cfg.Unfilled()
	if len(left) == 0 {
		return "", nil
	}
	s.cfg.Logger.Info("a table that the definition has gained, or gained columns of, is refilled", "table", left[0], "left", len(left))
	_, err = s.RefillWithin(ctx, left[:1], unfilledOpenWait)
	return left[0], err
}
