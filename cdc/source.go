package cdc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/internal/change"
)

const (
	// slotPatience is how long a start waits for a slot that is in use: the
	// server may need a moment to notice that its last user has gone. After a
	// lost connection of our own it is wal_sender_timeout more, which the server
	// may need to notice that.
	slotPatience = 5 * time.Second
	slotAgain    = 200 * time.Millisecond
	// stopGrace bounds how long a stop waits for the stream to take what was
	// received.
	stopGrace = 10 * time.Second
	// reconnectGood is how long a connection must have streamed before the next
	// pause is a short one again: a server that lets us in only to end us at once
	// is not asked four times a second.
	reconnectGood = 5 * time.Second
)

// Source feeds the stream from PostgreSQL: it checks the source, makes
// publication and slot, reads the tables once, and then follows the changes.
type Source struct {
	cfg     Config
	status  statusBoard
	refills refillDesk
	// senderTimeout is wal_sender_timeout as of the last connection that
	// streamed, 0 before. For Run's goroutine only.
	senderTimeout time.Duration
	// silence is how long the server may say nothing, at least.
	silence time.Duration
	// publication is what our publication was when it was last checked or
	// altered by us, nil before. Run's goroutine writes it, between connections.
	publication *publicationMark
	slot        slotMark
	// acknowledged is the newest message that the stream has taken from us.
	acknowledged atomic.Uint64
}

// NewSource makes a Source. It does no I/O; Run does.
func NewSource(cfg Config) (*Source, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validSource(); err != nil {
		return nil, err
	}
	switch {
	case cfg.Log == nil:
		return nil, errors.New("source: no log is given")
	case cfg.BackfillWorkers < 0:
		return nil, fmt.Errorf("source: %d backfill workers: give at least 1", cfg.BackfillWorkers)
	}
	s := &Source{cfg: cfg, silence: silence}
	s.status.init()
	s.refills.init()
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(&collector{source: s}); err != nil {
			return nil, fmt.Errorf("source: register metrics: %w", err)
		}
	}
	return s, nil
}

// Run feeds the stream until ctx ends, and then returns nil, after what was
// received has been published and confirmed. Faults that may pass, such as a
// lost connection, it answers by connecting again; the very first connection
// must succeed, unless the server says itself that it is starting up. Errors:
// *ConnectError, *FaultsError, *SlotHeldError, *SlotForeignError, *SlotGoneError,
// *SlotLostError, *SlotAheadError, *SlotBehindError, *SlotOrphanError, *OriginError, *BehindError,
// *PublicationMissingError, *PublicationNarrowError, *PublicationChangedError,
// *PublicationForeignError, *ClockError,
// *ForeignTableError, *RowTooLargeError, *MessageError, and errors of the Log.
func (s *Source) Run(ctx context.Context) error {
	if !s.cfg.Log.Durable() && s.cfg.Durable == nil {
		return errors.New("source: the stream is external, so that Config.Durable must tell what the store has synced")
	}
	if s.cfg.SpillDir != "" {
		if err := clearSpills(s.cfg.SpillDir); err != nil {
			return err
		}
	}
	s.refills.set(nil, false)
	defer s.refills.set(nil, true)
	defer s.status.state(Stopped)
	s.status.state(Starting)
	for again := (backoff{}); ; {
		began := time.Now()
		connected, streamed, err := s.attempt(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || passing(err)) {
			return nil
		}
		if err == nil {
			err = &retryError{errors.New("source: the server ended the replication")}
		}
		if !passing(err) || s.hopeless(err, connected) {
			return err
		}
		if streamed && time.Since(began) >= reconnectGood {
			again = backoff{}
		}
		wait := again.next()
		s.status.reconnecting(err)
		s.cfg.Logger.Warn("source connection lost", "error", err, "again_in", wait)
		if pause(ctx, wait) != nil {
			return nil
		}
	}
}

// hopeless says whether an error that may pass is better told at once: when
// there never was a connection, the address is more likely wrong than the
// server away. A server that answers with an SQLSTATE is there.
func (s *Source) hopeless(err error, connected bool) bool {
	var connect *ConnectError
	if !errors.As(err, &connect) || connected || s.status.everConnected() {
		return false
	}
	// A protocol violation at the very first word is what a pooler answers that
	// does not know our settings.
	state := sqlState(err)
	return state == "" || state == stateProtocolViolation
}

// attempt is one connection from its start to its end. connected says that the
// server let us in, streamed that changes could be followed.
func (s *Source) attempt(ctx context.Context) (connected, streamed bool, err error) {
	admin, err := connect(ctx, s.cfg.DatabaseURL)
	if err != nil {
		return false, false, err
	}
	defer func() { closeConn(admin.PgConn()) }()
	s.status.connected()

	found, err := inspect(ctx, admin, s.cfg)
	if err != nil {
		return true, false, err
	}
	s.report(found.Faults)
	if err := found.fatal(); err != nil {
		return true, false, err
	}
	repl, err := connectReplication(ctx, s.cfg.DatabaseURL)
	if err != nil {
		return true, false, err
	}
	defer func() { closeConn(repl) }()
	sys, err := identify(ctx, repl)
	if err != nil {
		return true, false, err
	}
	last, sequence, ok, err := s.cfg.Log.Last(ctx)
	if err != nil {
		return true, false, &streamError{err}
	}
	// What readers have of the end that is lost would be followed by other messages
	// with the same numbers.
	if held := s.acknowledged.Load(); sequence < held {
		return true, false, &streamError{&LostTailError{Stream: s.cfg.Log.cfg.Name, Want: held, Last: sequence}}
	}
	slot, err := s.freeSlot(ctx, admin, found.Slot)
	if err != nil {
		return true, false, err
	}
	plan, err := decide(last, ok, sys, slot, s.cfg.Slot, found.Publication != nil, s.cfg.Publication)
	if err != nil {
		return true, false, err
	}
	if plan == startResume {
		if what := found.Publication.lacks(s.cfg.filled(found.Tables)); what != "" {
			return true, false, &PublicationNarrowError{Publication: s.cfg.Publication, Lacks: what}
		}
		if err := s.checkSlotMark(ctx, slot, last.Epoch); err != nil {
			return true, false, err
		}
		mark, err := s.checkPublicationMark(ctx, admin, found)
		if err != nil {
			return true, false, err
		}
		if err := s.notePublication(ctx, mark); err != nil {
			return true, false, err
		}
	}
	s.status.verify()
	changed, err := ensurePublication(ctx, admin, s.cfg.Publication, found.Publication, found.Tables, s.cfg.Hook)
	if err != nil {
		return true, false, err
	}
	if changed != "" {
		s.report(nil) // what is left of the faults has just been mended
		s.cfg.Logger.Info("publication "+changed, "publication", s.cfg.Publication, "tables", len(found.Tables))
	}
	if changed != "" || plan != startResume {
		if err := s.markPublication(ctx, admin); err != nil {
			return true, false, err
		}
	}
	now, err := readClock(ctx, admin)
	if err != nil {
		return true, false, err
	}
	f, err := s.openOutlet(sys.Origin, last, sequence, newVersioner(s.cfg.Clock, now, s.cfg.AcceptClock))
	if err != nil {
		return true, false, err
	}
	defer f.close()

	if plan == startResume {
		if err := f.abandonRefill(ctx); err != nil {
			return true, false, err
		}
	} else {
		if err := s.begin(ctx, f, admin, slot, plan, now); err != nil {
			return true, false, err
		}
		s.status.state(Backfilling)
		if err := s.backfill(ctx, f, admin, repl); err != nil {
			return true, false, err
		}
		s.slot = slotMark{Epoch: f.writer.last().Epoch}
		// The session that made the slot has done its work; a fresh one streams.
		closeConn(repl)
		if repl, err = connectReplication(ctx, s.cfg.DatabaseURL); err != nil {
			return true, false, err
		}
	}
	return true, true, s.stream(ctx, f, sys.Origin, admin, repl)
}

// freeSlot waits for a slot that is in use, as long as slotPatience says, and
// returns its state.
func (s *Source) freeSlot(ctx context.Context, admin queryer, slot *slotState) (*slotState, error) {
	if slot == nil || !slot.Active {
		return slot, nil
	}
	patience := time.NewTimer(slotPatience + s.senderTimeout)
	defer patience.Stop()
	again := time.NewTicker(slotAgain)
	defer again.Stop()
	for slot != nil && slot.Active {
		select {
		case <-again.C:
		case <-patience.C:
			return slot, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var err error
		if slot, err = readSlot(ctx, admin, s.cfg.Slot); err != nil {
			return nil, err
		}
	}
	return slot, nil
}

// report logs the faults that were not there before, and shows them in Status.
func (s *Source) report(faults []Fault) {
	for _, f := range s.status.newFaults(faults) {
		s.cfg.Logger.Error("source fault", "object", f.Object, "problem", f.Problem, "mend", f.Mend, "fatal", f.Fatal)
	}
}

// streamError marks an error of the stream: it is for the operator, whatever
// it wraps, since the Log has tried again itself what can be.
type streamError struct{ err error }

func (e *streamError) Error() string { return e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

// slotFault turns what the server says of a slot or publication into our own
// errors. begun says that replication had started.
func (s *Source) slotFault(ctx context.Context, admin queryer, err error, begun bool, resume change.LSN) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	slot, readErr := readSlot(ctx, admin, s.cfg.Slot)
	switch server.Code {
	case stateObjectInUse:
		held := &SlotHeldError{Slot: s.cfg.Slot}
		if readErr == nil && slot != nil {
			held.PID = slot.ActivePID
		}
		return held
	case stateUndefinedObject:
		if begun {
			return &PublicationMissingError{Publication: s.cfg.Publication}
		}
		return &SlotGoneError{Slot: s.cfg.Slot, Resume: resume}
	case stateNotInPrerequisite, stateUndefinedFile:
		return &SlotLostError{Slot: s.cfg.Slot, Reason: server.Message}
	}
	if readErr == nil && slot != nil {
		// A sender that held back too much log is ended by an administrator's
		// signal (57P01), and its slot is lost.
		if reason := slot.lost(); reason != "" {
			return &SlotLostError{Slot: s.cfg.Slot, Reason: reason}
		}
	}
	return err
}
