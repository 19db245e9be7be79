package featurestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// Rebuild makes the store one as of a moment: it applies what in gives, as Run
// does, until the moment is closed, and hides what it holds behind it. in is nil
// where the store holds the moment already; it returns io.EOF behind its last
// message. The next batch that Run or Apply applies shows what was hidden.
//
// Errors for a caller to tell apart: those of in and of Run, *NotClosedError when
// the moment is not closed at the end of in, *TooEarlyError, *GapError, ErrEmpty
// when there is no complete backfill.
func (s *Store) Rebuild(ctx context.Context, in Input, until change.Version) error {
	err := s.write(ctx, func(ctx context.Context, w *writer) error {
		for in != nil && (w.state.Version < until || w.state.Birth == 0) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b, err := in.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if cause := context.Cause(ctx); cause != nil {
					return cause
				}
				return err
			}
			if err := w.apply(b); err != nil {
				return err
			}
			if w.full(0) {
				if err := w.flush(); err != nil {
					return err
				}
			}
		}
		w.state.Until = 0
		if _, err := w.state.moment(until); err != nil {
			return err
		}
		w.state.Until = until
		w.current.durable = true
		return w.flush()
	})
	if err != nil {
		return err
	}
	// The retention floor of a base may lie above it.
	v, err := s.ViewWithin(until, 0)
	if err != nil {
		return err
	}
	return v.Close()
}

// Until is the moment that the store was rebuilt as of, 0 of any other.
func (s *Store) Until() change.Version { return s.published.Load().state.Until }

// RebuiltFile is the name of the mark that a rebuilt data directory bears.
const RebuiltFile = "rebuilt.json"

// Rebuilt is the mark of a data directory whose store was rebuilt as of a moment.
type Rebuilt struct {
	Until  change.Version `json:"until"`
	Moment time.Time      `json:"moment"` // Until, for people
	// Base are the ids of the backups that the store was built from, oldest first.
	Base       []string `json:"base,omitempty"`
	Definition string   `json:"definition"` // hash of it
	Program    string   `json:"program"`
	// KeyInFile says that the anonymisation key was copied into the directory. If
	// not, it was given in the environment and has to be given again.
	KeyInFile bool `json:"key_in_file"`
	// Erased says how many changes and stored versions of erased entities were
	// left out.
	Erased uint64 `json:"erased"`
}

// WriteRebuilt marks a data directory.
func WriteRebuilt(dataDir string, r Rebuilt, hook durable.Hook) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = durable.ReplaceFile(filepath.Join(dataDir, RebuiltFile), append(data, '\n'), 0o600, hook)
	}
	if err != nil {
		return fmt.Errorf("mark the rebuilt directory %s: %w", dataDir, err)
	}
	return nil
}

// ReadRebuilt reads the mark of a data directory; found is false where there is none.
func ReadRebuilt(dataDir string) (r Rebuilt, found bool, err error) {
	path := filepath.Join(dataDir, RebuiltFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return Rebuilt{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return Rebuilt{}, true, fmt.Errorf("read the mark of a rebuilt directory %s: %w", path, err)
	}
	return r, true, nil
}

// BackupHeaders reads what backups that are one chain, oldest first, say of
// themselves, without what they hold. Errors: those of Restore.
func BackupHeaders(files ...string) (infos []*Backup, err error) {
	readers, closeFiles, err := openBackups(files)
	if err != nil {
		return nil, err
	}
	for _, r := range readers {
		infos = append(infos, r.info)
	}
	return infos, closeFiles()
}
