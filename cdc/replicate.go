package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"dreamfeed/internal/change"
)

const (
	// walBlockBytes is the size at which received messages are handed over.
	// Beyond queueBytes waiting, or queueBlocks of them, nothing is received
	// until there is room; one more block may be under way, with a row of any size.
	walBlockBytes = 64 << 10
	queueBytes    = 4 << 20
	queueBlocks   = 64
	// pollEvery is how long a receive waits at most, so that progress is
	// confirmed and the end is noticed.
	pollEvery = 250 * time.Millisecond
	// confirmEvery is the least time between two confirmations of progress.
	confirmEvery = 200 * time.Millisecond
	// askEvery is how often the server is asked for its position: its answer
	// becomes a tick when nothing else comes.
	askEvery = time.Second
	// defaultSenderTimeout is wal_sender_timeout when it is switched off.
	defaultSenderTimeout = time.Minute
	// silence is how long a server that is asked every second may say nothing
	// before the connection is taken for dead, at least.
	silence = 2 * time.Minute
	// writeTimeout bounds one status update.
	writeTimeout = 10 * time.Second
)

// walBlock is a run of messages from the server.
type walBlock struct {
	data  []byte
	items []walItem
}

// walItem is one message of a block: pgoutput data, or a keepalive, which has
// no data.
type walItem struct {
	end       int // where its data ends in the block
	keepalive bool
	walEnd    change.LSN // of a keepalive: the server has sent all up to here
	time      int64      // of a keepalive: the server's clock, µs since the Unix epoch
}

// receiver owns the replication connection.
type receiver struct {
	source *Source
	feed   *outlet
	conn   *pgconn.PgConn
	blocks chan *walBlock
	free   chan *walBlock
	queued atomic.Int64  // bytes in blocks
	room   chan struct{} // one token when a block has been taken

	block     *walBlock
	timeout   time.Duration // the server's wal_sender_timeout
	confirmed change.LSN    // newest position sent
	stated    time.Time     // when the last status was sent
	asked     time.Time     // when an answer was last asked for
	heard     time.Time     // when the server last sent anything
	reply     bool          // the server wants a status
	parked    bool          // the queue is full
	gone      bool          // the connection has ended
}

// stream follows the changes from where the stream ends, until ctx ends or
// the connection does. On the way out everything received is published and
// confirmed.
func (s *Source) stream(ctx context.Context, f *outlet, origin change.Origin, admin *pgx.Conn, repl *pgconn.PgConn) error {
	timeout, err := senderTimeout(ctx, repl)
	if err != nil {
		return err
	}
	row, err := simpleRow(ctx, repl, "SELECT pg_catalog.pg_current_wal_flush_lsn()")
	if err != nil {
		return fmt.Errorf("read the end of the server's log: %w", err)
	}
	target, err := change.ParseLSN(row[0])
	if err != nil {
		return fmt.Errorf("read the end of the server's log: %w", err)
	}
	s.senderTimeout = timeout
	resume := f.writer.last().Resume
	repl.Frontend().SetMaxBodyLen(bodyLimit(s.cfg.MaxRowBytes))
	if err := startReplication(ctx, repl, s.cfg.Slot, s.cfg.Publication, resume); err != nil {
		return s.slotFault(ctx, admin, err, false, resume)
	}
	// What was decided by is a moment old. From now on the slot is ours alone.
	if err := s.verifySlot(ctx, admin, resume); err != nil {
		return err
	}
	s.status.state(Streaming)
	s.status.update(func(now *Status) { now.Fault = "" })
	s.cfg.Logger.Info("streaming", "slot", s.cfg.Slot, "from_lsn", resume.String())

	// What was received is still framed and published after ctx has ended, but
	// not for ever.
	work, cancelWork := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelWork()
	stopped := context.AfterFunc(ctx, func() {
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancelWork()
		case <-work.Done():
		}
	})
	defer stopped()

	now := time.Now()
	r := &receiver{
		source: s, feed: f, conn: repl, timeout: timeout,
		blocks: make(chan *walBlock, queueBlocks), free: make(chan *walBlock, 8), room: make(chan struct{}, 1),
		stated: now, asked: now, heard: now,
	}
	session := &refillSession{origin: origin, jobs: make(chan *refillJob), over: make(chan struct{})}
	receiving, cancelReceiving := context.WithCancelCause(ctx)
	defer cancelReceiving(nil)
	framed := make(chan error, 1)
	go func() {
		defer close(session.over)
		err := (&framer{
			receiver: r, feed: f, source: s, position: resume, target: target, refills: session.jobs, stopping: ctx.Done(),
		}).run(work)
		if err != nil {
			cancelReceiving(err)
		}
		framed <- err
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := s.watch(receiving); err != nil {
			cancelReceiving(err)
		}
	}()
	s.refills.set(session, false)
	refilled := make(chan struct{})
	go func() {
		defer close(refilled)
		s.refillUnfilled(receiving, resume)
	}()
	err = r.run(receiving)
	s.refills.set(nil, false)
	cancelReceiving(err)
	close(r.blocks)
	if down := (*goingDownError)(nil); errors.As(context.Cause(receiving), &down) {
		// The server waits for us before it ends. What was received may take long
		// to publish, and what is not confirmed is sent again.
		closeConn(repl)
		r.gone = true
	}
	framedErr := r.await(framed)
	f.hopeless = work.Err() != nil
	<-watched
	<-refilled
	if cause := context.Cause(receiving); err == nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	if framedErr != nil && !errors.Is(framedErr, context.Canceled) {
		return framedErr
	}
	if err == nil {
		r.farewell()
		return nil
	}
	return s.slotFault(ctx, admin, err, true, resume)
}

// senderTimeout reads wal_sender_timeout, after which the server ends a
// connection that it has not heard of.
func senderTimeout(ctx context.Context, conn *pgconn.PgConn) (time.Duration, error) {
	row, err := simpleRow(ctx, conn, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	ms, err := strconv.Atoi(row[0])
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	if ms == 0 {
		return defaultSenderTimeout, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func startReplication(ctx context.Context, conn *pgconn.PgConn, slot, publication string, from change.LSN) error {
	err := pglogrepl.StartReplication(ctx, conn, slot, pglogrepl.LSN(from), pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names " + quoteLiteral(quoteIdent(publication)),
			"messages 'true'",
		},
	})
	if err != nil {
		return fmt.Errorf("start replication of slot %s at %s: %w", slot, from, err)
	}
	return nil
}

// run receives until ctx ends, which is no error, or the connection fails.
func (r *receiver) run(ctx context.Context) error {
	// Wake a receive that waits when the end comes.
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Conn().SetReadDeadline(time.Now()) })
	defer stop()
	r.next()
	// A wait may end within a message, of which the connection then holds a part:
	// the next wait goes on with it.
	waited, held := true, 0
	for {
		if err := r.keepInTouch(); err != nil {
			return err
		}
		if full := r.queued.Load() >= queueBytes || len(r.blocks) == queueBlocks; full != r.parked {
			r.parked = full
			r.source.status.update(func(now *Status) { now.Parked = full })
		}
		if r.parked {
			if !r.park(ctx) {
				return nil
			}
			continue
		}
		if waited || r.conn.Frontend().ReadBufferLen() == 0 {
			waited = false
			r.hand()
			if err := r.conn.Conn().SetReadDeadline(time.Now().Add(pollEvery)); err != nil {
				return fmt.Errorf("receive changes: %w", err)
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		msg, err := r.conn.ReceiveMessage(context.Background())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if pgconn.Timeout(err) {
				waited = true
				if n := r.conn.Frontend().ReadBufferLen(); n != held {
					held, r.heard = n, time.Now() // a large row is coming
				}
				continue
			}
			return r.receiveFault(err)
		}
		if err := r.take(msg); err != nil {
			return err
		}
	}
}

// park waits until there is room in the queue, but not longer than a poll. It
// returns false when ctx has ended.
func (r *receiver) park(ctx context.Context) bool {
	wait := time.NewTimer(pollEvery)
	defer wait.Stop()
	select {
	case <-r.room:
	case <-wait.C:
	case <-ctx.Done():
		return false
	}
	r.heard = time.Now() // we did not listen
	return true
}

func (r *receiver) receiveFault(err error) error {
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return &RowTooLargeError{
			Table: "(not read)", CommitLSN: r.feed.source.Status().ReceivedLSN,
			Bytes: large.ActualBodyLen, Limit: r.source.cfg.MaxRowBytes,
		}
	}
	return fmt.Errorf("receive changes: %w", err)
}

// take puts a message from the server into the block.
func (r *receiver) take(msg pgproto3.BackendMessage) error {
	r.heard = time.Now()
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return r.copyData(msg.Data)
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("receive changes: %w", pgconn.ErrorResponseToPgError(msg))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return &retryError{errors.New("receive changes: the server ended the replication")}
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		return nil
	}
	return fmt.Errorf("receive changes: message %T was not expected", msg)
}

func (r *receiver) copyData(data []byte) error {
	if len(data) == 0 {
		return errors.New("receive changes: the server sent an empty message")
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("receive changes: %w", err)
		}
		r.reply = r.reply || k.ReplyRequested
		r.source.status.update(func(now *Status) { now.SourceLSN = max(now.SourceLSN, change.LSN(k.ServerWALEnd)) })
		r.block.items = append(r.block.items, walItem{
			end: len(r.block.data), keepalive: true,
			walEnd: change.LSN(k.ServerWALEnd), time: k.ServerTime.UnixMicro(),
		})
	case pglogrepl.XLogDataByteID:
		// start (8), server's end of log (8), time (8), then what pgoutput made
		const head = 1 + 24
		if len(data) < head {
			return fmt.Errorf("receive changes: a message of %d bytes is too short", len(data))
		}
		if len(r.block.items) == 0 { // the server's position is noted once a block
			end := change.LSN(binary.BigEndian.Uint64(data[9:]))
			r.source.status.update(func(now *Status) { now.SourceLSN = max(now.SourceLSN, end) })
		}
		r.block.data = append(r.block.data, data[head:]...)
		r.block.items = append(r.block.items, walItem{end: len(r.block.data)})
		if len(r.block.data) >= walBlockBytes {
			r.hand()
		}
	default:
		return fmt.Errorf("receive changes: message of type %q was not expected", data[0])
	}
	return nil
}

// hand passes the block to the framer. There is room: run has looked, and
// nobody else puts blocks in.
func (r *receiver) hand() {
	if len(r.block.items) == 0 {
		return
	}
	r.queued.Add(int64(len(r.block.data)))
	r.blocks <- r.block
	r.next()
}

func (r *receiver) next() {
	select {
	case r.block = <-r.free:
		r.block.data, r.block.items = r.block.data[:0], r.block.items[:0]
	default:
		r.block = &walBlock{data: make([]byte, 0, walBlockBytes+walBlockBytes/4)}
	}
}

// taken is called by the framer when it is through with a block.
func (r *receiver) taken(b *walBlock) {
	r.queued.Add(-int64(len(b.data)))
	if cap(b.data) <= 4*walBlockBytes {
		select {
		case r.free <- b:
		default: // there are enough
		}
	}
	select {
	case r.room <- struct{}{}:
	default: // a token is there already
	}
}
