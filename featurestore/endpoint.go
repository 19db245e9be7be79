package featurestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Endpoint is where a daemon can be asked for views of the store it holds.
type Endpoint struct {
	PID     int    `json:"pid"`
	Address string `json:"address"` // host:port
	Token   string `json:"token"`
}

// endpointName is the file in the data directory. It is a hint: the store's
// lock is the truth about who holds it.
const endpointName = "endpoint.json"

// ErrNoEndpoint is returned when no daemon left its address.
var ErrNoEndpoint = errors.New("no daemon has left its address in the data directory")

// WriteEndpoint leaves a daemon's address in its data directory, readable by
// its owner only and never seen half-written.
func WriteEndpoint(dataDir string, e Endpoint) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the daemon's address to %s: %w", dataDir, err)
		}
	}()
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dataDir, endpointName+".*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dataDir, endpointName)); err != nil {
		return err
	}
	return syncDir(dataDir)
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
	return e, nil
}

// RemoveEndpoint removes the address that the process with this pid left;
// another one's stays.
func RemoveEndpoint(dataDir string, pid int) error {
	e, err := ReadEndpoint(dataDir)
	if errors.Is(err, ErrNoEndpoint) || err == nil && e.PID != pid {
		return nil
	}
	if err == nil {
		err = os.Remove(filepath.Join(dataDir, endpointName))
	}
	if err != nil {
		return fmt.Errorf("remove the daemon's address from %s: %w", dataDir, err)
	}
	return syncDir(dataDir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
