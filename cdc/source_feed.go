package cdc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// outlet is the way into the stream during one connection: the writer that
// frames, and the publisher. Only acknowledged and inFlight may be used by
// other goroutines than the one that writes.
type outlet struct {
	source    *Source
	writer    *messageWriter
	publisher *Publisher
	versions  *versioner
	// hopeless says that the stream did not take what it was given in time.
	hopeless bool

	inFlight     atomic.Int64
	acknowledged atomic.Uint64 // Header.Resume of the newest message acknowledged
	acks         chan struct{} // one token when something was acknowledged
}

// openOutlet continues the stream behind last, or begins a feed if that is zero.
func (s *Source) openOutlet(origin change.Origin, last change.Header, sequence uint64, versions *versioner) (*outlet, error) {
	f := &outlet{source: s, versions: versions, acks: make(chan struct{}, 1)}
	// Not the connection's context: what was received before the end is still
	// published; close ends the publisher.
	f.publisher = s.cfg.Log.Publisher(context.Background(), sequence, f.acked)
	var err error
	f.writer, err = newMessageWriter(messageWriterConfig{
		Origin: origin, Epoch: max(last.Epoch, 1), Last: last,
		MaxBytes: s.cfg.Log.MaxMessage(), MaxRowBytes: s.cfg.MaxRowBytes,
		Buffer: f.publisher.Buffer, Emit: f.emit,
	})
	if err != nil {
		f.publisher.Close()
		return nil, err
	}
	return f, nil
}

func (f *outlet) emit(ctx context.Context, header change.Header, data []byte) error {
	f.inFlight.Add(1)
	if err := f.publisher.Publish(ctx, header, data); err != nil {
		f.inFlight.Add(-1)
		return f.fault(ctx, err)
	}
	return nil
}

func (f *outlet) acked(sequence uint64, header change.Header) {
	f.inFlight.Add(-1)
	f.source.acknowledged.Store(sequence)
	f.acknowledged.Store(uint64(header.Resume))
	select {
	case f.acks <- struct{}{}:
	default: // a token is there already
	}
}

// flush publishes what is framed and waits until the stream has it.
func (f *outlet) flush(ctx context.Context) error {
	if err := f.writer.flush(ctx); err != nil {
		return err
	}
	return f.fault(ctx, f.publisher.Flush(ctx))
}

// fault tells an error of the stream from the end of ctx.
func (f *outlet) fault(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &streamError{err}
}

// close ends the feed. What was handed over is waited for, so that the next
// connection finds in the stream all that this one put there.
func (f *outlet) close() {
	defer f.publisher.Close()
	if f.hopeless {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	// An error here is one that the publisher's user has seen, or the stream
	// takes nothing; what it lacks then, the source sends again.
	_ = f.publisher.Flush(ctx)
}

// version assigns a version to what the source stamped with moment.
func (f *outlet) version(moment int64, commit change.LSN) (change.Version, error) {
	v, event, err := f.versions.assign(moment, f.writer.previous(), commit)
	if err != nil {
		return 0, err
	}
	s := f.source
	if event.Clamped > 0 || event.Back > 0 {
		var first bool
		s.status.update(func(now *Status) {
			if event.Clamped > 0 {
				now.Clamps++
			}
			if event.Back > 0 {
				now.StepsBack++
			}
			first = s.status.warn(s.cfg.Clock())
		})
		if first {
			s.cfg.Logger.Warn("source clock is off", "commit_lsn", commit.String(), "clamped", event.Clamped, "stepped_back", event.Back)
		}
	}
	return v, nil
}

// begin makes the stream ready for a backfill. A feed starts with a tick at
// position 0, written before the slot is made (see decide); what an earlier
// attempt left behind is abandoned, and its slot dropped.
func (s *Source) begin(ctx context.Context, f *outlet, admin *pgx.Conn, slot *slotState, plan start, now time.Time) error {
	if plan == startFresh {
		moment, err := f.version(now.UnixMicro(), 0)
		if err != nil {
			return err
		}
		if err := f.writer.tick(ctx, moment, 0); err != nil {
			return err
		}
		return f.flush(ctx)
	}
	if slot != nil {
		s.cfg.Logger.Warn("the first backfill was not completed: it begins again", "slot", s.cfg.Slot)
		if err := s.cfg.Hook.Before(durable.DropSlot); err != nil {
			return fmt.Errorf("drop replication slot %s of an unfinished backfill: %w", s.cfg.Slot, err)
		}
		if _, err := admin.Exec(ctx, dropSlotSQL(s.cfg.Slot)); err != nil {
			return fmt.Errorf("drop replication slot %s of an unfinished backfill: %w", s.cfg.Slot, err)
		}
	}
	if _, open := f.writer.resumed(); open {
		if err := f.writer.abandon(ctx); err != nil {
			return err
		}
		return f.flush(ctx)
	}
	return nil
}
