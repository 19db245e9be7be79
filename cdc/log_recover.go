package cdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Between two attempts while the stream is full or away, the publisher waits
// backoffFirst, and then twice as long each time, up to backoffMost.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// Error codes of JetStream (server/errors.json).
const (
	codeStoreFailed      jetstream.ErrorCode = 10077 // the stream is full
	codeNoStorage        jetstream.ErrorCode = 10047 // the server's disk allowance is used up
	codeNoResources      jetstream.ErrorCode = 10023
	codeMessageTooLarge  jetstream.ErrorCode = 10054
	codeWrongLastID      jetstream.ErrorCode = 10070
	codeWrongLast        jetstream.ErrorCode = 10071
	codeWrongLastInQueue jetstream.ErrorCode = 10164
)

// recover waits until nothing is in flight, reads what the stream holds, and
// prepares to send the rest again. It returns an error if that is final.
func (p *Publisher) recover(ctx context.Context, cause error) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	p.careful = true
	log := p.log.cfg.Logger
	unanswered := 0
	for wait := backoffFirst; ; wait = min(2*wait, backoffMost) {
		full := isFull(cause)
		if errors.Is(cause, jetstream.ErrAsyncPublishTimeout) {
			unanswered++
		}
		if unanswered > 1 && p.log.Embedded() {
			return ErrStuck
		}
		if errors.Is(cause, errNoRoom) {
			if p.full.CompareAndSwap(false, true) {
				log.Error("reading from PostgreSQL is paused until disk is freed", keyStream, p.log.cfg.Name, keySequence, p.last, keyError, cause)
			}
		} else if full && p.full.CompareAndSwap(false, true) {
			log.Warn("the stream is full: reading from PostgreSQL pauses until the applied part is trimmed",
				keyStream, p.log.cfg.Name, keySequence, p.last)
		} else if !full {
			log.Warn("publishing was interrupted: it goes on from what the stream holds",
				keyStream, p.log.cfg.Name, keySequence, p.last, keyError, cause, keyWait, wait)
		}
		before := p.last
		err := p.reconcile(ctx)
		switch {
		case isFinal(err):
			return err
		case isFinal(cause):
			return cause
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if err != nil {
			cause = err
		} else if p.last != before {
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		if err == nil {
			// Try the oldest message alone.
			if err = p.attempt(ctx); err == nil {
				return nil
			}
			cause = err
		}
	}
}

// attempt sends the oldest message and waits for what becomes of it.
func (p *Publisher) attempt(ctx context.Context) error {
	if err := p.send(); err != nil {
		return errors.Join(err, p.settle(ctx))
	}
	head := p.head()
	if head == nil {
		return nil
	}
	select {
	case ack := <-head.future.Ok():
		if err := p.take(head, ack); err != nil {
			return errors.Join(err, p.settle(ctx))
		}
		return nil
	case err := <-head.future.Err():
		p.sent = 0
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits for the outcome of all that is in flight. Each has a time limit
// (LogConfig.AckTimeout), so that this ends.
func (p *Publisher) settle(ctx context.Context) error {
	p.mu.Lock()
	flying := append([]*publication(nil), p.queue[:p.sent]...)
	p.mu.Unlock()
	for _, f := range flying {
		if f.known {
			continue
		}
		select {
		case <-f.future.Ok():
		case <-f.future.Err(): //nolint:errcheck // the stream tells what is stored
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.sent = 0
	return nil
}

// reconcile confirms the messages of the queue that the stream holds.
func (p *Publisher) reconcile(ctx context.Context) error {
	state, err := p.log.State(ctx)
	if err != nil {
		return err
	}
	if state.Last < p.last {
		return &LostTailError{Stream: p.log.cfg.Name, Want: p.last, Last: state.Last}
	}
	for p.last < state.Last {
		p.mu.Lock()
		var head *publication
		if len(p.queue) > 0 {
			head = p.queue[0]
		}
		p.mu.Unlock()
		if head == nil {
			return fmt.Errorf("message %d is not ours: %w", p.last+1, ErrNotSingleWriter)
		}
		stored, err := p.log.message(ctx, p.last+1)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored, head.data) {
			return fmt.Errorf("message %d is not ours: %w", p.last+1, ErrNotSingleWriter)
		}
		if err := p.confirm(head); err != nil {
			return err
		}
	}
	return nil
}

// isFull says whether the stream refused a message for want of room.
func isFull(err error) bool {
	switch errorCode(err) {
	case codeStoreFailed, codeNoStorage, codeNoResources:
		return true
	}
	return false
}

// isFinal says whether trying again cannot help.
func isFinal(err error) bool {
	var incarnation *IncarnationError
	var tail *LostTailError
	switch {
	case err == nil:
		return false
	case errors.As(err, &incarnation), errors.As(err, &tail), errors.Is(err, ErrNotSingleWriter),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrMaxPayload):
		return true
	}
	switch code := errorCode(err); code {
	case 0, codeWrongLastID, codeWrongLast, codeWrongLastInQueue, codeStoreFailed, codeNoStorage, codeNoResources:
		return false
	case codeMessageTooLarge:
		return true
	default:
		// Server trouble (5xx) passes; a request that it calls wrong does not.
		var api *jetstream.APIError
		return errors.As(err, &api) && api.Code >= 400 && api.Code < 500 && api.Code != 408 && api.Code != 409
	}
}

// errorCode is the JetStream code of err, 0 when it has none.
func errorCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}
