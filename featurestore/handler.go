package featurestore

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// Paths of the view handler. Every request is a POST whose body is a viewRequest
// in JSON: ids of persons stand in no URL, which others might log.
const (
	PathView    = "/v1/view"         // → history.Info in JSON, with a lease
	PathRanges  = "/v1/view/ranges"  // → list of ranges in JSON
	PathScan    = "/v1/view/scan"    // → frames
	PathEntity  = "/v1/view/entity"  // → frames with at most one entity
	PathRelease = "/v1/view/release" // ends the lease
)

// maxRequestBytes bounds a request, writeTimeout the time that a reader may
// leave a frame unread.
const (
	maxRequestBytes = 256 << 10
	writeTimeout    = 60 * time.Second
	maxRanges       = 1024
	maxWait         = time.Hour
)

type viewRequest struct {
	AsOf   change.Version `json:"as_of"`
	Entity string         `json:"entity,omitempty"`
	ID     []byte         `json:"id,omitempty"` // bytes: an id need not be UTF-8
	From   []byte         `json:"from,omitempty"`
	To     []byte         `json:"to,omitempty"`
	N      int            `json:"n,omitempty"`
	// Latest asks a scan for the newest versions only (View.ScanLatest).
	Latest bool `json:"latest,omitempty"`
	// Window asks PathView for a view that promises so many µs before its moment
	// (Store.ViewWithin), not all the history that there is.
	Window *int64 `json:"window_us,omitempty"`
	// Lease is what PathView gave, and Promised the moment from which on it keeps
	// history whole.
	Lease    uint64         `json:"lease,omitempty"`
	Promised change.Version `json:"promised,omitempty"`
	// LSN asks PathView for the view as of the last transaction that ended at or
	// before this position of the source, and to wait so many milliseconds until
	// everything up to it is applied. Origin is the server that it belongs to.
	LSN    change.LSN    `json:"lsn,omitempty"`
	Wait   int64         `json:"wait_ms,omitempty"`
	Origin change.Origin `json:"origin,omitzero"`
}

// viewAnswer is the answer to PathView.
type viewAnswer struct {
	history.Info
	Lease uint64 `json:"lease"`
	// Promised is the moment from which on the view's history stays whole.
	Promised change.Version `json:"promised"`
}

// reach is how far back the view asked for is to promise history.
func (q *viewRequest) reach() reach {
	if q.Window == nil {
		return wholeReach
	}
	return reach{bounded: true, window: change.Version(max(*q.Window, 0))}
}

// NewHandler serves views of the store to who knows the token, under the paths
// /v1/view…, backups, and the versions that are kept, under /v1/keep…. It keeps
// nothing between requests but leases: every request for a view names its moment,
// so that several ranges may be read at once, and a process that is started anew on
// the same store goes on where the one before ended. Its server should have no
// WriteTimeout; the handler sets deadlines of its own, a frame at a time.
func NewHandler(s *Store, token string) http.Handler {
	h := &handler{s: s, token: sha256.Sum256([]byte(token)), locked: token == ""}
	mux := http.NewServeMux()
	mux.Handle("POST "+PathView, h.wrap(h.view))
	mux.Handle("POST "+PathRanges, h.wrap(h.ranges))
	mux.Handle("POST "+PathScan, h.wrap(h.scan))
	mux.Handle("POST "+PathEntity, h.wrap(h.entity))
	mux.Handle("POST "+PathRelease, h.wrap(h.release))
	mux.Handle("POST "+PathKeep, asked(h, h.keep))
	mux.Handle("POST "+PathKeepRelease, asked(h, h.releaseKept))
	mux.Handle("POST "+PathKeepList, asked(h, h.kept))
	mux.Handle("POST "+PathBackup, h.guard((&backupHandler{s: s, patience: writeTimeout}).ServeHTTP))
	return mux
}

type handler struct {
	s      *Store
	token  [sha256.Size]byte
	locked bool // no token: nobody is let in
}

type endpointFunc func(w http.ResponseWriter, r *http.Request, v *View, q *viewRequest) error

// guard checks the token before it hands a request on.
func (h *handler) guard(fn http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(sum[:], h.token[:]) != 1 || h.locked {
			refuse(w, wireError{Code: codeToken, Message: ErrToken.Error()})
			return
		}
		fn(w, r)
	})
}

// readRequest reads the body of a request, JSON of at most limit bytes. If it
// cannot be read it is refused, and readRequest returns false.
func readRequest(w http.ResponseWriter, r *http.Request, limit int64, request any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		err = json.Unmarshal(body, request)
	}
	if err != nil {
		refuse(w, wireError{Code: codeRequest, Message: fmt.Sprintf("read the request: %v", err)})
	}
	return err == nil
}

// wrap checks the token, reads the request and opens the view.
func (h *handler) wrap(fn endpointFunc) http.Handler {
	return h.guard(func(w http.ResponseWriter, r *http.Request) {
		var q viewRequest
		if !readRequest(w, r, maxRequestBytes, &q) {
			return
		}
		asOf, err := h.moment(r.Context(), &q)
		if err == nil {
			var v *View
			if v, err = h.s.view(asOf, q.reach(), q.Lease, q.Promised); err == nil {
				if err = fn(w, r, v, &q); q.Lease == 0 && (err != nil || r.URL.Path != PathView) {
					v.Close() // the lease was for this request
				}
			}
		}
		if err != nil {
			refuse(w, encodeWireError(err))
		}
	})
}

// moment is the one that a request asks for.
func (h *handler) moment(ctx context.Context, q *viewRequest) (change.Version, error) {
	if q.LSN == 0 {
		return q.AsOf, nil
	}
	mark := h.s.Watermark()
	if mark.Birth == 0 {
		return 0, ErrEmpty
	}
	if mark.Origin != q.Origin {
		return 0, &OriginError{Store: mark.Origin, Source: q.Origin}
	}
	wait := min(time.Duration(max(q.Wait, 0))*time.Millisecond, maxWait)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, &LagError{LSN: q.LSN, Waited: wait})
	defer cancel()
	if _, err := h.s.Wait(ctx, q.LSN); err != nil {
		var lag *LagError
		if errors.As(err, &lag) {
			lag.Applied = h.s.Watermark().EndLSN
			return 0, lag
		}
		return 0, err
	}
	return h.s.VersionBefore(q.LSN)
}

func refuse(w http.ResponseWriter, e wireError) { answer(w, e.status(), e) }

func answer(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"message":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // a reader that is gone needs no answer
}

func (h *handler) view(w http.ResponseWriter, _ *http.Request, v *View, _ *viewRequest) error {
	answer(w, http.StatusOK, viewAnswer{Info: v.Info(), Lease: v.lease, Promised: v.promised})
	return nil
}

func (h *handler) release(w http.ResponseWriter, _ *http.Request, v *View, _ *viewRequest) error {
	answer(w, http.StatusOK, struct{}{})
	return v.Close()
}

func (h *handler) ranges(w http.ResponseWriter, r *http.Request, v *View, q *viewRequest) error {
	ranges, err := v.Ranges(r.Context(), q.Entity, min(q.N, maxRanges))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, ranges)
	return nil
}

func (h *handler) scan(w http.ResponseWriter, r *http.Request, v *View, q *viewRequest) error {
	return stream(w, r, func(ctx context.Context, fn func(*history.Entity) error) error {
		return v.scanRange(ctx, q.Entity, history.Range{From: q.From, To: q.To}, q.Latest, fn)
	})
}

func (h *handler) entity(w http.ResponseWriter, r *http.Request, v *View, q *viewRequest) error {
	return stream(w, r, func(ctx context.Context, fn func(*history.Entity) error) error {
		e, err := v.Entity(ctx, q.Entity, string(q.ID))
		if err != nil || e == nil {
			return err
		}
		return fn(e)
	})
}

// errGone says that the reader cannot be reached: there is nobody to tell.
var errGone = errors.New("the reader of the view is gone")

// stream sends entities in frames. An error before the first frame becomes an
// HTTP status, a later one a frame.
func stream(w http.ResponseWriter, r *http.Request, scan func(context.Context, func(*history.Entity) error) error) error {
	return serveFrames(w, r, func(ctx context.Context, out *frameWriter) error {
		var scratch []byte
		return scan(ctx, func(e *history.Entity) error {
			var err error
			if scratch, err = out.entity(e, scratch); err != nil {
				return errors.Join(errGone, err)
			}
			if cap(scratch) > keepArena {
				scratch = nil
			}
			return nil
		})
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
