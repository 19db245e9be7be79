package featurestore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// RemoteView is a View of a store that another process holds, read through
// its handler. It has the methods of View and is as safe for concurrent use. A
// read that is cut off goes on where it ended, see resume.go.
type RemoteView struct {
	endpoint Endpoint
	info     history.Info
	lease    uint64
	promised change.Version // the moment from which on history stays whole
	retries  int            // how often without progress a read is tried again

	mu     sync.Mutex
	client *Client
}

const (
	// maxAnswerBytes bounds an answer in JSON.
	maxAnswerBytes = 16 << 20
	// releaseTimeout bounds the farewell to a daemon that may be gone: the lease
	// ends by itself soon.
	releaseTimeout = 2 * time.Second
)

// Dial is Endpoint.Dial for a daemon at addr ("host:port") without TLS.
func Dial(ctx context.Context, addr, token string, asOf change.Version) (*RemoteView, error) {
	return Endpoint{Address: addr, Token: token}.Dial(ctx, asOf)
}

// Dial opens a view as of a moment, 0 for the newest closed one, on the daemon
// that left the endpoint. Errors for a caller to tell apart: those of
// Store.View, ErrToken, *RemoteError.
func (e Endpoint) Dial(ctx context.Context, asOf change.Version) (*RemoteView, error) {
	return dial(ctx, e, viewRequest{AsOf: asOf})
}

// DialWithin opens the view of Store.ViewWithin on the daemon that left the
// endpoint, with the errors of Dial.
func (e Endpoint) DialWithin(ctx context.Context, asOf change.Version, window time.Duration) (*RemoteView, error) {
	us := max(window.Microseconds(), 0)
	return dial(ctx, e, viewRequest{AsOf: asOf, Window: &us})
}

// DialAt opens the view as of the last transaction that ended at or before a
// position of the source: it holds exactly what a snapshot of the source at that
// position shows. The daemon waits until everything up to the position is
// applied, for at most wait (and an hour); then the error is *LagError. Other
// errors: those of Dial and Store.VersionBefore, and *OriginError if the store is
// not fed from the server that the position belongs to.
func (e Endpoint) DialAt(ctx context.Context, origin change.Origin, lsn change.LSN, wait time.Duration) (*RemoteView, error) {
	return dial(ctx, e, viewRequest{LSN: lsn, Origin: origin, Wait: wait.Milliseconds()})
}

func dial(ctx context.Context, e Endpoint, q viewRequest) (*RemoteView, error) {
	v := &RemoteView{endpoint: e, client: e.Client(), retries: maxRetries}
	var answer viewAnswer
	if err := v.client.Ask(ctx, PathView, q, &answer); err != nil {
		v.client.Close()
		return nil, err
	}
	v.info, v.lease, v.promised = answer.Info, answer.Lease, answer.Promised
	return v, nil
}

// request is what every request of the view says.
func (v *RemoteView) request() viewRequest {
	return viewRequest{AsOf: v.info.AsOf, Lease: v.lease, Promised: v.promised}
}

// Info describes the view.
func (v *RemoteView) Info() history.Info { return v.info }

// Close gives up the view's lease and frees the connections. No read may be
// under way.
func (v *RemoteView) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	client := v.connection()
	var nothing struct{}
	// A daemon that does not answer forgets the lease by itself.
	_ = client.Ask(ctx, PathRelease, v.request(), &nothing)
	client.Close()
	return nil
}

// Ranges is View.Ranges.
func (v *RemoteView) Ranges(ctx context.Context, entity string, n int) (out []history.Range, err error) {
	q := v.request()
	q.Entity, q.N = entity, n
	err = v.again(ctx, func(client *Client) (bool, error) {
		return false, client.Ask(ctx, PathRanges, q, &out)
	})
	return out, err
}

// Scan is View.Scan. A stream that is cut off goes on with the next entity, if
// the daemon or one that took its place serves the view's moment; else, or if it
// is damaged, the error wraps ErrCut, and fn has been called for what came
// before. When Scan returns nil, every entity has come: each piece of the stream
// ends with its counts.
func (v *RemoteView) Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error {
	return v.scan(ctx, entity, r, false, fn)
}

// ScanLatest is View.ScanLatest, with the promises of Scan.
func (v *RemoteView) ScanLatest(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error {
	return v.scan(ctx, entity, r, true, fn)
}

func (v *RemoteView) scan(ctx context.Context, entity string, r history.Range, latest bool, fn func(*history.Entity) error) error {
	q := v.request()
	q.Entity, q.From, q.To, q.Latest = entity, r.From, r.To, latest
	return v.again(ctx, func(client *Client) (progress bool, err error) {
		var failed error
		var last place
		err = readEntities(ctx, client, PathScan, q, func(e *history.Entity) error {
			if failed = fn(e); failed == nil {
				last.note(e)
			}
			return failed
		})
		if failed != nil {
			return false, &finalError{failed}
		}
		if last.some {
			q.From = last.after(r.From)
		}
		return last.some, err
	})
}

// Entity is View.Entity.
func (v *RemoteView) Entity(ctx context.Context, entity, id string) (found *history.Entity, err error) {
	q := v.request()
	q.Entity, q.ID = entity, []byte(id)
	err = v.again(ctx, func(client *Client) (bool, error) {
		found = nil
		return false, readEntities(ctx, client, PathEntity, q, func(e *history.Entity) error {
			found = cloneEntity(e)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// cloneEntity copies an entity out of a reader's memory.
func cloneEntity(e *history.Entity) *history.Entity {
	out := &history.Entity{ID: e.ID, Rows: slices.Clone(e.Rows)}
	for i := range out.Rows {
		r := &out.Rows[i]
		r.Key, r.Versions = bytes.Clone(r.Key), slices.Clone(r.Versions)
		for j := range r.Versions {
			r.Versions[j].Data = bytes.Clone(r.Versions[j].Data)
		}
	}
	return out
}

// readEntities reads entities until the final count.
func readEntities(ctx context.Context, client *Client, path string, q viewRequest, fn func(*history.Entity) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the request when fn fails
	resp, err := client.post(ctx, path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := newFrameReader(resp.Body)
	var entity history.Entity
	var versions []history.Version
	for {
		record, err := in.nextRecord()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		if record == nil {
			return nil
		}
		if versions, err = decodeEntity(record, &entity, versions); err != nil {
			return errors.Join(ErrCut, err)
		}
		in.entities++
		in.versions += uint64(len(versions))
		if err := fn(&entity); err != nil {
			return err
		}
	}
}
