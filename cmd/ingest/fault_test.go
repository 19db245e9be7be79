package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"dreamfeed/internal/durable"
)

// The test binary as ingest writes its durable steps to the file that traceEnv
// names, one a line with the position, and adds to what stands there. faultEnv
// says what becomes of the k-th line, from 0, or of this process's first step of
// a name: "kill:7" or "kill:drop slot" ends the process by SIGKILL right before
// the step, "fail:7" fails the step in its place. "kill:publish>0" waits for a
// position above 0. With armEnv, the lines are counted from the moment on at which
// the file that it names is there.
//
// With slowEnv, an acknowledgement of a position and the store's showing it are
// held back for a while, longer than what is between two confirmations, so that
// a confirmation that does not wait for them comes before.
const (
	traceEnv = "DREAMFEED_TEST_DURABLE"
	faultEnv = "DREAMFEED_TEST_FAULT"
	armEnv   = "DREAMFEED_TEST_ARMED"
	slowEnv  = "DREAMFEED_TEST_SLOW"
)

// How long a step is held back. A confirmation follows within half a second of
// what allows it.
const (
	slowAcknowledge = 700 * time.Millisecond
	slowShow        = 1400 * time.Millisecond
)

var errInjected = errors.New("a fault was injected")

// faultHook makes the hook that the environment asks for, nil for none.
func faultHook() (durable.Hook, error) {
	path := os.Getenv(traceEnv)
	if path == "" {
		return nil, nil
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	trace, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	how, where, armed := strings.Cut(os.Getenv(faultEnv), ":")
	where, positive := strings.CutSuffix(where, ">0")
	at, err := strconv.Atoi(where)
	if err != nil {
		at = -1 // it is the name of a step
	}
	slow := map[durable.Step]uint64{durable.Acknowledge: 0, durable.Show: 0} // the newest position held back
	if os.Getenv(slowEnv) == "" {
		clear(slow)
	}
	arm := os.Getenv(armEnv)
	var mu sync.Mutex
	n := strings.Count(string(before), "\n")
	return func(s durable.Step, position uint64) error {
		mu.Lock()
		newest, held := slow[s]
		if held = held && position > newest; held {
			slow[s] = position
		}
		mu.Unlock()
		if held {
			<-time.After(map[durable.Step]time.Duration{durable.Acknowledge: slowAcknowledge, durable.Show: slowShow}[s])
		}
		mu.Lock()
		defer mu.Unlock()
		// Whoever counts the lines and then arms is ahead of the first that counts.
		if arm != "" {
			if _, err := os.Stat(arm); err == nil {
				arm, n = "", 0
			}
		}
		if _, err := fmt.Fprintf(trace, "%s\t%d\n", s, position); err != nil {
			return err
		}
		if n++; arm != "" {
			return nil // not armed yet
		}
		if !armed || n-1 != at && (string(s) != where || positive && position == 0) {
			return nil
		}
		armed = false
		if how == "fail" {
			return errInjected
		}
		// The lock is kept: nobody takes another step until the signal comes.
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return err
		}
		select {}
	}, nil
}

// durableCall is a line of a trace.
type durableCall struct {
	step     durable.Step
	position uint64
}

func parseTrace(text string) ([]durableCall, error) {
	var calls []durableCall
	for line := range strings.Lines(text) {
		step, position, found := strings.Cut(strings.TrimSpace(line), "\t")
		at, err := strconv.ParseUint(position, 10, 64)
		if !found || err != nil {
			return nil, fmt.Errorf("trace line %q", line)
		}
		calls = append(calls, durableCall{durable.Step(step), at})
	}
	return calls, nil
}
