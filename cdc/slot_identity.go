package cdc

import (
	"context"
	"fmt"

	"dreamfeed/internal/change"
)

// The place from which on a slot needs the server's log only moves forward,
// and the server syncs it before it counts. A slot that needs older log again is
// therefore from an older state of the server's disk: even if the server has
// written past our position since, its log is another one than we read.

// slotKey is where the stream's metadata hold that place, with the epoch.
const slotKey = "dreamfeed-slot"

// slotMark is what is known of our slot. Run's goroutine uses it between
// connections, watch's during one.
type slotMark struct {
	Epoch change.Epoch
	// Restart is the newest place that the slot has told at two looks, so that
	// it is on the server's disk; seen is that of the last look.
	Restart, seen change.LSN
}

func (m slotMark) String() string { return fmt.Sprintf("%d %s", m.Epoch, m.Restart) }

// parseSlotMark reads what String wrote; anything else is as if nothing were
// known.
func parseSlotMark(text string) slotMark {
	var m slotMark
	var lsn string
	if _, err := fmt.Sscanf(text, "%d %s", &m.Epoch, &lsn); err != nil {
		return slotMark{}
	}
	restart, err := change.ParseLSN(lsn)
	if err != nil {
		return slotMark{}
	}
	m.Restart = restart
	return m
}

// SlotBehindError says that a slot needs log which it had done with: the
// server's disk was put back to an older state.
type SlotBehindError struct {
	Slot    string
	Restart change.LSN // from where on the slot needs the log
	Known   change.LSN // from where on it once did
}

// Error says what happened and what mends it.
func (e *SlotBehindError) Error() string {
	return fmt.Sprintf("replication slot %s needs the server's log from %s on, but was at %s once: the server was restored from an older state, or the slot is a copy of another, so that the log may not be the one that was read; "+beginAnew,
		e.Slot, e.Restart, e.Known)
}

// checkSlotMark compares our slot with what is known of it in the epoch.
func (s *Source) checkSlotMark(ctx context.Context, slot *slotState, epoch change.Epoch) error {
	known := s.slot
	if known.Epoch != epoch {
		text, err := s.cfg.Log.noted(ctx, slotKey)
		if err != nil {
			return &streamError{err}
		}
		if known = parseSlotMark(text); known.Epoch != epoch {
			known = slotMark{Epoch: epoch}
		}
	}
	if slot.restart < known.Restart {
		return &SlotBehindError{Slot: s.cfg.Slot, Restart: slot.restart, Known: known.Restart}
	}
	known.seen = 0
	s.slot = known
	return nil
}

// markSlot takes in what a look at the slot has found, and notes with the
// stream what the look before has found too.
func (s *Source) markSlot(ctx context.Context, slot *slotState) error {
	m := &s.slot
	if slot == nil || m.Epoch == 0 {
		return nil
	}
	before := m.seen
	m.seen = slot.restart
	if before <= m.Restart {
		return nil
	}
	m.Restart = before
	if err := s.cfg.Log.note(ctx, slotKey, m.String()); err != nil {
		return fmt.Errorf("note replication slot %s: %w", s.cfg.Slot, err)
	}
	return nil
}
