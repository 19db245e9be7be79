package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// daemon is the running ingest.
type daemon struct {
	command *exec.Cmd
	base    string
	log     string
	done    chan struct{}
	err     error
}

func startIngest(ctx context.Context, s settings, url string) (*daemon, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d := &daemon{base: "http://" + listen, log: filepath.Join(s.dir, "ingest.log"), done: make(chan struct{})}
	d.command = exec.CommandContext(ctx, filepath.Join(s.bin, "ingest"),
		"--data-dir", filepath.Join(s.dir, "data"), "--listen", listen, "--log-file", d.log)
	d.command.Env = append(os.Environ(), "DATABASE_URL="+url)
	d.command.Stderr = os.Stderr
	d.command.Cancel = func() error { return d.command.Process.Signal(syscall.SIGTERM) }
	d.command.WaitDelay = 20 * time.Second
	if err := d.command.Start(); err != nil {
		return nil, fmt.Errorf("start ingest: %w; `make build` makes it", err)
	}
	go func() {
		d.err = d.command.Wait()
		close(d.done)
	}()
	return d, nil
}

func (d *daemon) stop() error {
	select {
	case <-d.done:
	default:
		if err := d.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-d.done
	}
	return d.err
}

// waitReady polls /readyz until it is green or ingest has ended.
func (d *daemon) waitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.done:
			return fmt.Errorf("ingest ended early: %w; its log is %s", d.err, d.log)
		case <-tick.C:
		}
	}
}

// waitIdle waits until everything that the database has written is applied.
func (d *daemon) waitIdle(ctx context.Context) (status, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := d.waitReady(ctx); err != nil {
			return status{}, err
		}
		s, err := d.status(ctx)
		if err != nil || s.Lag.Bytes == 0 {
			return s, err
		}
		select {
		case <-ctx.Done():
			return status{}, ctx.Err()
		case <-tick.C:
		}
	}
}

type status struct {
	Applied struct {
		Moment string `json:"moment"`
	} `json:"applied"`
	Lag struct {
		Bytes int64 `json:"bytes"`
	} `json:"lag"`
}

func (d *daemon) status(ctx context.Context) (status, error) {
	var s status
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	return s, json.NewDecoder(response.Body).Decode(&s)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
