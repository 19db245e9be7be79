package featurestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dreamfeed/internal/durable"
)

// Endpoint is where a daemon can be asked for views of the store it holds. Its
// Client asks.
type Endpoint struct {
	PID     int    `json:"pid"`
	Address string `json:"address"` // host:port
	Token   string `json:"token"`
	// Certificate is the PEM text of the certificate that the daemon shows under
	// LocalName; empty when it does not speak TLS.
	Certificate string `json:"certificate,omitempty"`
	// dir is the data directory that it was read from: who loses the daemon looks
	// there for its successor.
	dir string
}

// endpointName is the file in the data directory. It is a hint: the store's
// lock is the truth about who holds it.
const endpointName = "endpoint.json"

// ErrNoEndpoint is returned when no daemon left its address.
var ErrNoEndpoint = errors.New("no daemon has left its address in the data directory")

// WriteEndpoint leaves a daemon's address in its data directory, readable by
// its owner only and never seen half-written. The hook is told of every durable
// step; nil for none.
func WriteEndpoint(dataDir string, e Endpoint, hook durable.Hook) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the daemon's address to %s: %w", dataDir, err)
		}
	}()
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(dataDir, endpointName), data, 0o600, hook)
}

// ReadEndpoint reads what WriteEndpoint left. It fails with ErrNoEndpoint if
// there is nothing.
func ReadEndpoint(dataDir string) (Endpoint, error) {
	path := filepath.Join(dataDir, endpointName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Endpoint{}, ErrNoEndpoint
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("read the daemon's address: %w", err)
	}
	var e Endpoint
	if err := json.Unmarshal(data, &e); err != nil {
		return Endpoint{}, fmt.Errorf("read the daemon's address from %s: %w", path, err)
	}
	e.dir = dataDir
	return e, nil
}

// RemoveEndpoint removes the address that the process with this pid left;
// another one's stays.
func RemoveEndpoint(dataDir string, pid int, hook durable.Hook) error {
	e, err := ReadEndpoint(dataDir)
	if errors.Is(err, ErrNoEndpoint) || err == nil && e.PID != pid {
		return nil
	}
	if err == nil {
		err = durable.Remove(filepath.Join(dataDir, endpointName), hook)
	}
	if err != nil {
		return fmt.Errorf("remove the daemon's address from %s: %w", dataDir, err)
	}
	return nil
}

// FindEndpoint is ReadEndpoint for who cannot do without a daemon: where none has
// left its address the error says so, what it is needed for, and what to do.
func FindEndpoint(dataDir, need string) (Endpoint, error) {
	e, err := ReadEndpoint(dataDir)
	if errors.Is(err, ErrNoEndpoint) {
		if mark, found, _ := ReadRebuilt(dataDir); found {
			return Endpoint{}, fmt.Errorf("data directory %s holds a store that was rebuilt as of %s, on which no ingest runs, and %s: leave it out, or name the feed's own data directory with --data-dir", dataDir, mark.Until, need)
		}
		return Endpoint{}, fmt.Errorf("no ingest runs on data directory %s, and %s: start ingest there, or name its directory with --data-dir", dataDir, need)
	}
	return e, err
}

// Unanswered says of an error that is no answer of the daemon what to do about it.
func (e Endpoint) Unanswered(err error) error {
	var told *RemoteError
	if errors.As(err, &told) || Answered(err) || errors.Is(err, ErrToken) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("the ingest that left its address in data directory %s (process %d) does not answer: look at its log, or start ingest there: %w", e.dir, e.PID, err)
}

// OpenUnanswered opens the store of a data directory to read, where no daemon
// answers for it: unanswered is why the one that left its address did not, nil if
// none did. The lock of the store is the truth about who holds it.
func OpenUnanswered(dataDir string, unanswered error, o Options) (*Store, error) {
	o.ReadOnly = true
	store, err := Open(filepath.Join(dataDir, "store"), o)
	var locked *LockedError
	if errors.As(err, &locked) && unanswered != nil {
		return nil, fmt.Errorf("process %d holds the store and does not answer for it: %w: look at its log, or stop it and try again", locked.PID, unanswered)
	}
	return store, err
}
