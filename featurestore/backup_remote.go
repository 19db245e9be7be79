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

// PathBackup gives a backup: POST {"base": header of a backup} → a backup file.
const PathBackup = "/v1/backup"

type backupQuestion struct {
	Base *Backup `json:"base,omitempty"`
}

// backupHandler serves backups of a store.
type backupHandler struct {
	s *Store
	// patience is how long a reader may leave a frame unread. The backup holds a
	// transaction of the database meanwhile.
	patience time.Duration
}

func (h *backupHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q backupQuestion
	if !readRequest(w, r, maxBackupHeader, &q) {
		return
	}
	control := http.NewResponseController(w)
	// The connection may serve other requests: none of them inherits the deadline.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	out := newBackupWriter(writerFunc(func(p []byte) (int, error) {
		if err := control.SetWriteDeadline(time.Now().Add(h.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, errors.Join(errGone, err)
		}
		n, err := w.Write(p)
		if err != nil {
			err = errors.Join(errGone, err)
		}
		return n, err
	}))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _, err := h.s.backup(r.Context(), out, q.Base, reopenBytes)
	switch {
	case err == nil:
	case errors.Is(err, errGone):
		h.s.log.Warn("a backup was not taken away by who asked for it", "error", err)
	case !out.begun:
		refuse(w, encodeWireError(err))
	default:
		text, _ := json.Marshal(encodeWireError(err)) // of strings and numbers: it cannot fail
		_ = out.fail(text)                            // who is gone sees the cut
	}
}

// Backup writes a backup of the daemon's store to w, checking it as it comes. w
// has a backup when Backup returns nil, else nothing of use. Errors for a caller
// to tell apart: those of Store.Backup, ErrToken, ErrBackupCut, *RemoteError.
func (c *Client) Backup(ctx context.Context, w io.Writer, base *Backup) (*Backup, BackupCounts, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	info, counts, err := c.backup(ctx, w, base)
	var refused *BackupBaseError
	var said *RemoteError
	switch {
	case err == nil:
		return info, counts, nil
	case ctx.Err() != nil:
		return nil, BackupCounts{}, context.Cause(ctx)
	case errors.As(err, &refused), errors.As(err, &said), errors.Is(err, ErrEmpty), errors.Is(err, ErrToken):
		return nil, BackupCounts{}, err
	}
	return nil, BackupCounts{}, fmt.Errorf("%w (%w)", ErrBackupCut, err)
}

func (c *Client) backup(ctx context.Context, w io.Writer, base *Backup) (*Backup, BackupCounts, error) {
	resp, err := c.post(ctx, PathBackup, backupQuestion{Base: base})
	if err != nil {
		return nil, BackupCounts{}, err
	}
	defer resp.Body.Close()
	r, err := newBackupReader("of the daemon", io.TeeReader(resp.Body, w))
	if err == nil {
		err = r.drain(ctx)
	}
	if err != nil {
		return nil, BackupCounts{}, err
	}
	return r.info, r.counts, nil
}
