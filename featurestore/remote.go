package featurestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// RemoteView is a View of a store that another process holds, read through
// its handler. It has the methods of View and is as safe for concurrent use.
type RemoteView struct {
	base, token string
	client      *http.Client
	transport   *http.Transport
	info        history.Info
}

// maxAnswerBytes bounds an answer in JSON.
const maxAnswerBytes = 16 << 20

// Dial opens a view as of a moment, 0 for the newest closed one, on the daemon
// at addr ("host:port"). Errors for a caller to tell apart: those of
// Store.View, ErrToken, *RemoteError.
func Dial(ctx context.Context, addr, token string, asOf change.Version) (*RemoteView, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{}).DialContext,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true,
	}
	v := &RemoteView{base: "http://" + addr, token: token, transport: transport, client: &http.Client{Transport: transport}}
	if err := v.ask(ctx, PathView, viewRequest{AsOf: asOf}, &v.info); err != nil {
		transport.CloseIdleConnections()
		return nil, err
	}
	return v, nil
}

// Info describes the view.
func (v *RemoteView) Info() history.Info { return v.info }

// Close frees the connections.
func (v *RemoteView) Close() error {
	v.transport.CloseIdleConnections()
	return nil
}

// Ranges is View.Ranges.
func (v *RemoteView) Ranges(ctx context.Context, entity string, n int) ([]history.Range, error) {
	var out []history.Range
	err := v.ask(ctx, PathRanges, viewRequest{AsOf: v.info.AsOf, Entity: entity, N: n}, &out)
	return out, err
}

// Scan is View.Scan. A stream that is cut off, or damaged, fails with an error
// that wraps ErrCut; fn may have been called for what came before.
func (v *RemoteView) Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error {
	return v.stream(ctx, PathScan, viewRequest{AsOf: v.info.AsOf, Entity: entity, From: r.From, To: r.To}, fn)
}

// Entity is View.Entity.
func (v *RemoteView) Entity(ctx context.Context, entity, id string) (*history.Entity, error) {
	var found *history.Entity
	err := v.stream(ctx, PathEntity, viewRequest{AsOf: v.info.AsOf, Entity: entity, ID: []byte(id)}, func(e *history.Entity) error {
		found = cloneEntity(e)
		return nil
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

func (v *RemoteView) post(ctx context.Context, path string, q viewRequest) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+v.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, frameBytes))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %s: %w", resp.Status, err)
	}
	if resp.Header.Get("Content-Type") != "application/json" {
		return nil, &RemoteError{Message: resp.Status + " for " + path}
	}
	return nil, decodeWireError(text)
}

func (v *RemoteView) ask(ctx context.Context, path string, q viewRequest, into any) error {
	resp, err := v.post(ctx, path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// stream reads entities until the final count.
func (v *RemoteView) stream(ctx context.Context, path string, q viewRequest, fn func(*history.Entity) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the request when fn fails
	resp, err := v.post(ctx, path, q)
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
