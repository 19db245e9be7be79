package featurestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"dreamfeed/internal/history"
)

// A read of a RemoteView that is cut off, because the connection broke or the
// daemon was started anew, is tried again, up to maxRetries times without
// progress: at once, and then after pauses that double, 16 s in all. That is
// time for a daemon to stop and start.
const (
	maxRetries = 7
	firstPause = 250 * time.Millisecond
)

// finalError marks an error that trying again does not help.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// again calls read until it succeeds, fails for good, or has failed too often
// without progress.
func (v *RemoteView) again(ctx context.Context, read func(*Client) (progress bool, err error)) error {
	var pause time.Duration
	for failures := 0; ; {
		client := v.connection()
		progress, err := read(client)
		var final *finalError
		if errors.As(err, &final) {
			return final.err
		}
		if err == nil || ctx.Err() != nil || !interrupted(err) {
			return err
		}
		if progress {
			failures, pause = 0, 0
		}
		for {
			if failures++; failures > v.retries {
				return err
			}
			if !rest(ctx, pause) {
				return context.Cause(ctx)
			}
			pause = max(2*pause, firstPause)
			err := v.reconnect(ctx, client)
			if err == nil {
				break
			}
			if ctx.Err() != nil || !interrupted(err) {
				return err
			}
		}
	}
}

// interrupted says whether an error may come of a daemon or a connection that
// went away. Damage to what was read is none.
func interrupted(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, ErrClosed) || errors.Is(err, ErrToken)
}

// rest waits; it returns false when ctx ended.
func rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connection is the client in use.
func (v *RemoteView) connection() *Client {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.client
}

// reconnect replaces a client that failed, unless another read has done so, by
// one of the daemon that now stands in the endpoint file, and makes sure that it
// holds the same store.
func (v *RemoteView) reconnect(ctx context.Context, failed *Client) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.client != failed {
		return nil
	}
	endpoint := v.endpoint
	if endpoint.dir != "" {
		var err error
		if endpoint, err = ReadEndpoint(endpoint.dir); errors.Is(err, ErrNoEndpoint) {
			return ErrClosed // between two daemons
		} else if err != nil {
			return err
		}
	}
	client := endpoint.Client()
	var answer viewAnswer
	if err := client.Ask(ctx, PathView, v.request(), &answer); err != nil {
		client.Close()
		var behind *NotClosedError
		if errors.As(err, &behind) || errors.Is(err, ErrEmpty) {
			// A store that was killed applies again what it has shown.
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return err
	}
	same := answer.Birth == v.info.Birth && answer.Definition == v.info.Definition &&
		(answer.Epoch > v.info.Epoch || answer.Epoch == v.info.Epoch && answer.Origin == v.info.Origin)
	if !same {
		client.Close()
		return &OtherStoreError{Address: endpoint.Address}
	}
	v.client, v.endpoint = client, endpoint
	failed.Close()
	return nil
}

// OtherStoreError says that the daemon that took the place of the one that a
// view was opened on holds another store, or has another definition.
type OtherStoreError struct{ Address string }

func (e *OtherStoreError) Error() string {
	return "the daemon at " + e.Address + " was started anew with another store or definition while a view of it was read: begin again"
}

// place is how far a scan has come: behind an entity, or behind a row without
// one, which is handed out alone.
type place struct {
	some  bool
	id    string
	table uint16
	key   []byte
}

func (p *place) note(e *history.Entity) {
	if len(e.Rows) == 0 {
		return // no view hands out such a one
	}
	p.some, p.id = true, e.ID
	p.table, p.key = e.Rows[0].Table, append(p.key[:0], e.Rows[0].Key...)
}

// after is the first key behind the place, in a range that began at from.
func (p *place) after(from []byte) []byte {
	if len(from) < 2 || from[1] == noKind {
		return after(appendRowPrefix(nil, appendNowhere(nil, p.table, p.key), p.table, p.key))
	}
	return after(appendID([]byte{prefixRow, from[1]}, []byte(p.id)))
}
