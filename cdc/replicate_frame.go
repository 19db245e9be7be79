package cdc

import (
	"context"
	"time"

	"dreamfeed/internal/change"
)

// framesInFlight is how many messages may be under way to the stream while a
// small one is held back to grow: with one on its way and one waiting, the
// stream is never idle, and syncs as few messages as it can.
const framesInFlight = 2

// framer turns what the receiver hands over into stream messages. It is one
// goroutine, the only one that writes to the feed.
type framer struct {
	source   *Source
	feed     *outlet
	receiver *receiver

	inside   bool       // a transaction is open
	position change.LSN // end of the newest transaction or tick framed
	target   change.LSN // end of the server's log when we connected
	busy     time.Time  // when the newest transaction was framed
	rows     uint64     // of the blocks since the last update of the status
	ticked   int64      // server's clock at the last tick, µs
	// foreign are tables that were described but are not the definition's:
	// pgoutput describes a partition beside the root that its changes come as.
	foreign map[uint32]string
	// skipped are those of them that are not published any more, doubtful are
	// tables of the definition that the store has not filled.
	skipped, doubtful map[uint32]bool

	tables  []uint32 // memory for sift
	scratch []byte

	refills  <-chan *refillJob
	refill   *refillJob      // it is read and waits for its place
	stopping <-chan struct{} // closed when the end has come
}

// run frames blocks until their channel is closed, and then publishes what is
// left. Messages are published when they are full, and else when nothing more
// waits to be framed and the stream is not busy.
func (f *framer) run(ctx context.Context) error {
	defer f.dropRefill()
	publisher := f.feed.publisher
	for {
		select {
		case b, more := <-f.receiver.blocks:
			if !more {
				return f.feed.flush(ctx)
			}
			err := f.take(ctx, b)
			f.receiver.taken(b)
			if err != nil {
				return err
			}
		case f.refill = <-f.jobs():
			if f.refillDue() {
				if err := f.publishRefill(ctx); err != nil {
					return err
				}
			}
		case <-f.feed.acks:
		case <-publisher.Done():
			return &streamError{publisher.Err()}
		case <-ctx.Done():
			return ctx.Err()
		}
		if !f.inside && len(f.receiver.blocks) == 0 && f.feed.inFlight.Load() < framesInFlight {
			if err := f.feed.writer.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// take frames a block.
func (f *framer) take(ctx context.Context, b *walBlock) error {
	begin := 0
	for i := range b.items {
		item := &b.items[i]
		var err error
		if item.keepalive {
			err = f.keepalive(ctx, item)
		} else {
			err = f.message(ctx, b.data[begin:item.end])
		}
		if err != nil {
			return err
		}
		begin = item.end
		if f.refillDue() {
			if err := f.publishRefill(ctx); err != nil {
				return err
			}
		}
	}
	f.source.status.update(func(now *Status) {
		now.Rows += f.rows
		now.ReceivedLSN = max(now.ReceivedLSN, f.position)
		now.LastMoment = max(now.LastMoment, f.feed.writer.previous())
	})
	f.rows = 0
	return nil
}

// message frames one pgoutput message.
func (f *framer) message(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return &MessageError{Reason: "the message is empty"}
	}
	w := f.feed.writer
	switch data[0] {
	case msgInsert, msgUpdate, msgDelete, msgTruncate:
		f.rows++
		if len(f.foreign) > 0 || len(f.doubtful) > 0 {
			return f.sift(ctx, data)
		}
		return w.row(ctx, data)
	case msgBegin:
		m, err := decodeBegin(data)
		if err != nil {
			return err
		}
		return f.begin(ctx, m)
	case msgCommit:
		m, err := decodeCommit(data)
		if err != nil {
			return err
		}
		f.inside, f.position, f.busy = false, m.EndLSN, time.Now()
		f.source.status.update(func(now *Status) { now.Transactions++ })
		return w.commit(ctx, m.EndLSN)
	case msgRelation:
		return f.relation(data)
	case msgLogical:
		// Ours are barriers: their transaction is what counts. Those of others
		// count as empty transactions too, so that the position moves.
		if _, err := decodeLogical(data); err != nil {
			return err
		}
		f.source.status.update(func(now *Status) { now.Messages++ })
		return nil
	case msgOrigin, msgType:
		return nil
	}
	return &MessageError{Type: data[0], Reason: "the type is unknown"}
}

// begin opens a transaction, or goes on with the one of which the stream holds
// the first parts, which keeps its version.
func (f *framer) begin(ctx context.Context, m beginMessage) error {
	w := f.feed.writer
	f.inside = true
	version := change.Version(0)
	if open, ok := w.resumed(); ok && open.CommitLSN == m.CommitLSN {
		version = open.Version
	} else if !ok {
		var err error
		if version, err = f.feed.version(m.CommitTime, m.CommitLSN); err != nil {
			return err
		}
	}
	return w.begin(ctx, change.Live, version, m.CommitTime, m.CommitLSN, m.XID)
}

// keepalive makes a tick of the server's word that it has sent everything up
// to a position, at most once a second. A keepalive stands in the connection
// behind all transactions that end at or before its position.
//
// The tick's moment is assigned like a version, but only of an idle source: while
// transactions come, or those of an interruption are still to come, the server's
// clock is ahead of them, and a tick may only move the position. If the clock has gone back it
// is written only when the position has moved, so that an idle source is
// confirmed all the same.
func (f *framer) keepalive(ctx context.Context, item *walItem) error {
	w := f.feed.writer
	if f.inside {
		// A transaction takes its time: what came before it need not wait.
		return w.flush(ctx)
	}
	if _, open := w.resumed(); open || item.walEnd < f.position {
		return nil
	}
	moved := item.walEnd > f.position
	if since := item.time - f.ticked; since >= 0 && since < askEvery.Microseconds()*9/10 {
		return nil
	}
	if !moved && item.time <= int64(w.previous()) {
		return nil
	}
	moment := w.previous() + 1
	if item.walEnd >= f.target && time.Since(f.busy) >= askEvery {
		var err error
		if moment, err = f.feed.version(item.time, 0); err != nil {
			return err
		}
	} else if !moved {
		return nil
	}
	if err := w.tick(ctx, moment, item.walEnd); err != nil {
		return err
	}
	f.ticked, f.position = item.time, item.walEnd
	f.source.status.update(func(now *Status) { now.Ticks++ })
	return nil
}
