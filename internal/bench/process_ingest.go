package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dreamfeed/internal/change"
)

// pollEvery is how often ingest is asked whether it is where it should be: asking
// costs it some half a millisecond, which is contained in what is measured.
const pollEvery = 10 * time.Millisecond

// ingestConfig says how ingest is to run.
type ingestConfig struct {
	data       string // name of the data directory, in the suite's
	url        string // of the database
	definition string // path; empty for the embedded one
	args       []string
}

// daemon is a running ingest.
type daemon struct {
	*process
	base string // http://host:port
	data string // path of the data directory
	http *http.Client
}

// startIngest starts ingest and returns without waiting for it to answer. Whoever
// starts it calls stop.
func (s *suite) startIngest(ctx context.Context, c ingestConfig) (*daemon, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d := &daemon{base: "http://" + listen, data: filepath.Join(s.dir, c.data)}
	d.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}
	args := []string{"--data-dir", d.data, "--listen", listen, "--log-level", "warn"}
	if c.definition != "" {
		args = append(args, "--definition", c.definition)
	}
	d.process, err = s.start(ctx, command{path: s.ingest, args: append(args, c.args...), env: []string{"DATABASE_URL=" + c.url}, log: "ingest.log"})
	return d, err
}

// stop ends ingest in order and waits for it.
func (d *daemon) stop() error {
	d.http.CloseIdleConnections()
	return d.process.stop()
}

// status is what of /v1/status is of interest here.
type status struct {
	State   string `json:"state"`
	Applied struct {
		LSN string `json:"lsn"`
	} `json:"applied"`
	Rows map[string]int64 `json:"rows"`
}

// applied is the end of the newest transaction that the store shows.
func (st *status) applied() (change.LSN, error) { return change.ParseLSN(st.Applied.LSN) }

func (d *daemon) status(ctx context.Context) (st status, err error) {
	body, err := d.get(ctx, "/v1/status")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("read /v1/status: %w", err)
	}
	return st, nil
}

func (d *daemon) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, response.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// metric is the value of a metric without labels in /metrics.
func (d *daemon) metric(ctx context.Context, name string) (float64, error) {
	body, err := d.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(strings.NewReader(string(body))); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// awaitApplied returns when everything up to a position of the source can be read
// in the store.
func (d *daemon) awaitApplied(ctx context.Context, lsn change.LSN) error {
	return d.until(ctx, func() (bool, error) {
		st, err := d.status(ctx)
		if err != nil {
			return false, nil //nolint:nilerr // it does not answer yet; until notices when it has ended
		}
		applied, err := st.applied()
		return applied >= lsn, err
	})
}

// awaitReady returns when /readyz is green: the first backfill is applied, and the
// changes after it are followed.
func (d *daemon) awaitReady(ctx context.Context) error {
	return d.until(ctx, func() (bool, error) {
		_, err := d.get(ctx, "/readyz")
		return err == nil, nil
	})
}

// idleWithin bounds awaitIdle; a daemon that merges its tables longer is measured so.
const idleWithin = time.Minute

// awaitIdle returns when the daemon has taken less than a tenth of a core for half a
// second: what is measured next does not pay for what it merges of what came before.
func (d *daemon) awaitIdle(ctx context.Context) error {
	const sample = 500 * time.Millisecond
	deadline := time.Now().Add(idleWithin)
	since, before := time.Now(), d.used().cpu
	return d.until(ctx, func() (bool, error) {
		took := time.Since(since)
		if took < sample {
			return false, nil
		}
		now := d.used().cpu
		idle := now-before < took/10 || time.Now().After(deadline)
		since, before = time.Now(), now
		return idle, nil
	})
}

// until asks every pollEvery, until the answer is yes or ingest has ended.
func (d *daemon) until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-d.done:
			_, err := d.wait()
			return errors.Join(errors.New("ingest ended while it was measured; its log is "+d.log), err)
		}
	}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
