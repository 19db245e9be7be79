package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// keepInTouch sends a status when progress is to be confirmed, the server
// wants one, or a third of its patience has passed; once a second with a
// request to answer. It gives up on a server that has gone silent.
func (r *receiver) keepInTouch() error {
	now := time.Now()
	if limit := max(r.source.silence, 2*r.timeout); now.Sub(r.heard) > limit {
		return &retryError{fmt.Errorf("receive changes: the server has said nothing for %s", limit)}
	}
	since := now.Sub(r.stated)
	ask := now.Sub(r.asked) >= askEvery
	switch {
	case ask, r.reply, since >= r.timeout/3:
	case since >= confirmEvery:
		if lsn, _ := r.feed.confirmable(); lsn <= r.confirmed {
			return nil
		}
	default:
		return nil
	}
	return r.state(now, ask)
}

// state sends a status update. All three positions are set to what may be
// forgotten, since a flush position of zero would be replaced by the write
// position (DESIGN §3).
func (r *receiver) state(now time.Time, ask bool) error {
	lsn, _ := r.feed.confirmable()
	lsn = max(lsn, r.confirmed)
	if lsn > r.confirmed {
		if err := r.source.cfg.Hook.At(durable.Confirm, uint64(lsn)); err != nil {
			return fmt.Errorf("confirm %s: %w", lsn, err)
		}
	}
	if err := r.conn.Conn().SetWriteDeadline(now.Add(writeTimeout)); err != nil {
		return fmt.Errorf("confirm %s: %w", lsn, err)
	}
	position := pglogrepl.LSN(lsn)
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), r.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: position, WALFlushPosition: position, WALApplyPosition: position, ReplyRequested: ask,
	})
	if err != nil {
		return fmt.Errorf("confirm %s: %w", lsn, err)
	}
	r.confirmed, r.stated, r.reply = lsn, now, false
	if ask {
		r.asked = now
	}
	r.source.status.update(func(s *Status) { s.DurableLSN = max(s.DurableLSN, lsn) })
	return nil
}

// confirmable is the one place that decides what the server may be told to
// forget, and why (I1): an end position of a whole transaction, or of an idle
// stretch, exactly, and only if everything up to it is on disk.
//
// Nothing is confirmed before this connection has seen an acknowledgement,
// even if the stream was found to hold more: what a killed process wrote last
// may not have been synced, until the sync of the message behind it.
func (f *outlet) confirmable() (lsn change.LSN, why string) {
	lsn = change.LSN(f.acknowledged.Load())
	if f.source.cfg.Log.Durable() {
		return lsn, "the stream has synced it"
	}
	// An external stream's acknowledgement says nothing about its disk.
	return min(lsn, f.source.cfg.Durable()), "the store has synced it"
}

// await waits for the framer to end, and keeps the server patient meanwhile.
func (r *receiver) await(framed <-chan error) error {
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	for {
		select {
		case err := <-framed:
			return err
		case <-again.C:
			r.gone = r.gone || r.keepInTouch() != nil
		}
	}
}

// farewell sends the last confirmation and ends the replication in order. The
// server may be gone; the next start would then confirm again.
func (r *receiver) farewell() {
	deadline := time.Now().Add(closeTimeout)
	if r.state(time.Now(), false) != nil {
		return
	}
	r.conn.Frontend().Send(&pgproto3.CopyDone{})
	if r.conn.Frontend().Flush() != nil {
		return
	}
	if r.conn.Conn().SetReadDeadline(deadline) != nil {
		return
	}
	for {
		// What still comes is not looked at; it is sent again at the next start.
		msg, err := r.conn.ReceiveMessage(context.Background())
		if err != nil {
			return
		}
		switch msg.(type) {
		case *pgproto3.ReadyForQuery, *pgproto3.ErrorResponse:
			return
		}
	}
}
