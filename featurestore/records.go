package featurestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Records of any kind go from process to process in the frames of a streamed
// view (wire.go), each with its size as uvarint before it. The end counts them,
// and their bytes.

// maxRecord is the largest record that is accepted, in bytes: more than the
// largest message of a stream, which is the largest thing that is sent so.
const maxRecord = 80 << 20

// ServeRecords answers a Client's Records with what fn sends. The memory of a
// record is the caller's again when send returns. An error of fn before the first
// record becomes an HTTP status, a later one stands in place of what is missing;
// errors of send need not be told apart: nobody is there to tell. The server
// should have no WriteTimeout: deadlines are set a frame at a time.
func ServeRecords(w http.ResponseWriter, r *http.Request, fn func(ctx context.Context, send func(record []byte) error) error) {
	err := serveFrames(w, r, func(ctx context.Context, out *frameWriter) error {
		return fn(ctx, func(record []byte) error { return out.record(record, uint64(len(record))) })
	})
	if err != nil {
		Refuse(w, err)
	}
}

// serveFrames hands out a frameWriter whose frames are sent as they fill up, and
// ends the answer. An error before the first frame is returned, a later one sent.
func serveFrames(w http.ResponseWriter, r *http.Request, fn func(context.Context, *frameWriter) error) error {
	control := http.NewResponseController(w)
	begun := false
	deadline := func() error {
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
	if err := deadline(); err != nil {
		return err
	}
	// The connection may serve other requests: none of them inherits the deadline.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	out := newFrameWriter(writerFunc(func(p []byte) (int, error) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		n, err := w.Write(p)
		if err != nil {
			err = errors.Join(errGone, err)
		}
		return n, err
	}), deadline)
	err := fn(r.Context(), out)
	switch {
	case errors.Is(err, errGone):
	case err != nil && !begun:
		return err
	case err != nil:
		text, _ := json.Marshal(encodeWireError(err)) // of strings and numbers: it cannot fail
		_ = out.fail(text)                            // who is gone sees the cut
	default:
		_ = out.end() // who is gone sees the cut
	}
	return nil
}

// Records reads what a daemon sends with ServeRecords. It is for one goroutine.
type Records struct {
	body   io.Closer
	frames *frameReader
}

// Records asks the daemon a question and reads the records of its answer. Errors
// are those of Ask.
func (c *Client) Records(ctx context.Context, path string, question any) (*Records, error) {
	resp, err := c.post(ctx, path, question) //nolint:bodyclose // Records.Close closes it
	if err != nil {
		return nil, err
	}
	frames := newFrameReader(resp.Body)
	frames.most = maxRecord
	return &Records{body: resp.Body, frames: frames}, nil
}

// Next returns the next record, nil behind the last. It is valid until the next
// call. An answer that was cut off or damaged wraps ErrCut; what the daemon could
// not go on with is its error.
func (r *Records) Next() ([]byte, error) {
	record, err := r.frames.nextRecord()
	if err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	if record == nil {
		return nil, nil
	}
	r.frames.entities++
	r.frames.versions += uint64(len(record))
	return record, nil
}

// Ready says whether a part of the next record is there already.
func (r *Records) Ready() bool { return len(r.frames.rest) > 0 || r.frames.r.Buffered() > 0 }

// Close ends the reading, also before its end.
func (r *Records) Close() error { return r.body.Close() }
