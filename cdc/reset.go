package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dreamfeed/internal/change"
)

// Reset is the beginning of a feed anew: a new epoch behind what the store
// holds. History stays; from the store's newest moment until the new backfill
// is complete, changes may be missing: that time is a gap.
type Reset struct {
	// Idle says that there is nothing to do: no feed has begun, or one is being
	// begun anew already. The next start backfills.
	Idle bool
	// Epoch is the one that begins.
	Epoch change.Epoch
	// Stream and Server are the servers that the feed was read from and that it
	// is read from now on; Stream is zero when no feed has begun.
	Stream, Server change.Origin
	// Resume is where the stream ends, 0 when the first backfill is not complete.
	Resume change.LSN
	// Slot says that our slot exists, Confirmed up to where it is confirmed. The
	// next start drops it and makes another.
	Slot      bool
	Confirmed change.LSN
	// Renew says why the stream cannot be continued and is replaced by another,
	// so that what it holds and the store has not applied is lost; nil when the
	// new epoch is written behind what the stream holds.
	Renew error

	cfg      Config
	at       Place
	last     change.Header
	sequence uint64
	moment   change.Version
}

// ErrDiscarded is the Reset.Renew of a stream that is replaced because that
// was asked for.
var ErrDiscarded = errors.New("its changes that are not applied are discarded, as was asked for")

// PlanReset looks what a reset would do, and changes nothing. Of cfg it needs
// what Check needs, and Log. No Source may run. at is where the store stands;
// with discard the stream is replaced in any case, for a store that cannot apply
// what it holds. Errors: those of Check, *FaultsError, *SlotHeldError,
// *SlotForeignError, *ClockError, and errors of the Log.
func PlanReset(ctx context.Context, cfg Config, at Place, discard bool) (*Reset, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validSource(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		return nil, errors.New("reset: no log is given")
	}
	r := &Reset{cfg: cfg, at: at}
	now, err := r.readSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.readStream(ctx, discard); err != nil {
		return nil, err
	}
	r.Stream, r.Resume, r.Epoch = r.last.Origin, r.last.Resume, r.last.Epoch+1
	begun := r.last.Epoch != 0
	r.Idle = r.Renew == nil && (!begun && !r.Slot || begun && r.last.Resume == 0 && r.last.Origin == r.Server)
	if r.moment, _, err = newVersioner(cfg.Clock, now, cfg.AcceptClock).assign(now.UnixMicro(), r.last.Last, 0); err != nil {
		return nil, err
	}
	return r, nil
}

// readSource examines the source as a start would, and returns its clock.
func (r *Reset) readSource(ctx context.Context) (now time.Time, err error) {
	admin, err := connect(ctx, r.cfg.DatabaseURL)
	if err != nil {
		return now, err
	}
	defer closeConn(admin.PgConn())
	found, err := inspect(ctx, admin, r.cfg)
	if err != nil {
		return now, err
	}
	if err := found.fatal(); err != nil {
		return now, err
	}
	repl, err := connectReplication(ctx, r.cfg.DatabaseURL)
	if err != nil {
		return now, err
	}
	defer closeConn(repl)
	sys, err := identify(ctx, repl)
	if err != nil {
		return now, err
	}
	slot, err := (&Source{cfg: r.cfg}).freeSlot(ctx, admin, found.Slot)
	if err != nil {
		return now, err
	}
	if slot != nil {
		if err := slot.usable(sys.Database); err != nil {
			return now, err
		}
		r.Slot, r.Confirmed = true, slot.confirmed
	}
	r.Server = sys.Origin
	return readClock(ctx, admin)
}

// readStream finds what the new epoch follows: the stream's last message, or
// where the store stands if the stream does not go on there.
func (r *Reset) readStream(ctx context.Context, discard bool) error {
	log := r.cfg.Log
	_, err := log.Locate(ctx, r.at)
	if err == nil {
		r.last, r.sequence, _, err = log.Last(ctx)
	}
	var tail *LostTailError
	var gap *GapError
	var other *OtherStreamError
	var corrupt *CorruptMessageError
	switch {
	case errors.As(err, &tail), errors.As(err, &gap), errors.As(err, &other), errors.As(err, &corrupt):
		r.Renew = err
	case err != nil:
		return err
	case discard && !r.at.empty():
		r.Renew = ErrDiscarded
	}
	if r.Renew != nil {
		r.last, r.sequence = r.at.State, 0
	}
	return nil
}

// Do begins the new epoch: it publishes a tick at position 0 as its first
// message, which says that its first backfill is not complete (see decide),
// after giving up what is open. The next start drops the slot, alters the
// publication and backfills. A Reset that was killed is begun again from
// PlanReset.
func (r *Reset) Do(ctx context.Context) error {
	if r.Idle {
		return nil
	}
	log := r.cfg.Log
	if r.Renew != nil {
		if err := log.replace(ctx, r.at); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	err := log.write(ctx, r.sequence, messageWriterConfig{Origin: r.Server, Epoch: r.Epoch, Last: r.last}, func(w *messageWriter) error {
		if _, open := w.resumed(); open {
			if err := w.abandon(ctx); err != nil {
				return err
			}
		}
		return w.tick(ctx, r.moment, 0)
	})
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return nil
}
