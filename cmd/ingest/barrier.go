package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

const (
	// maxBarrierQuestion bounds the body of a question, in bytes.
	maxBarrierQuestion = 4 << 10
	// maxBarrierWait is the longest that a question may wait.
	maxBarrierWait = time.Hour
	// barrierEvery is how often a source that is away is asked again.
	barrierEvery = 250 * time.Millisecond
)

// barrier answers featurestore.PathBarrier: with the newest closed moment, once
// everything that was committed on the source before the question is applied. No
// table is read.
func (s *server) barrier(w http.ResponseWriter, r *http.Request) {
	var question featurestore.BarrierQuestion
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBarrierQuestion)).Decode(&question); err != nil {
		featurestore.Refuse(w, fmt.Errorf("read the question: %w", err))
		return
	}
	if question.Wait <= 0 || question.Wait > maxBarrierWait.Milliseconds() {
		featurestore.Refuse(w, fmt.Errorf("barrier: a wait of %d ms: want 1 to %d", question.Wait, maxBarrierWait.Milliseconds()))
		return
	}
	answer, err := s.await(r.Context(), time.Duration(question.Wait)*time.Millisecond)
	if err != nil {
		featurestore.Refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.Logger.Debug("the answer to a barrier was not delivered", "error", err)
	}
}

// await puts a barrier into the source's log and waits until it is applied. A
// source that is away may come back within the time.
func (s *server) await(ctx context.Context, wait time.Duration) (answer featurestore.BarrierAnswer, err error) {
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		connections, lsn, err := s.position(bounded)
		if err != nil {
			if ctx.Err() != nil {
				return answer, context.Cause(ctx)
			}
			return answer, s.away(wait, err)
		}
		answer.LSN = lsn
		// A position says nothing to a store that still stands in an epoch before,
		// whose positions may be another server's.
		err = s.Store.WaitEpoch(bounded, s.Epoch)
		if err == nil {
			answer.Version, err = s.Store.Wait(bounded, lsn)
		}
		switch {
		case err != nil && bounded.Err() != nil && ctx.Err() == nil:
			return answer, &featurestore.LagError{LSN: lsn, Applied: s.Store.Watermark().EndLSN, Waited: wait}
		case err != nil, s.Source.Status().Reconnects == connections:
			return answer, err
		}
		// Where the connection was lost meanwhile, the position may be that of a
		// server which took the place of the one that is followed.
	}
}

// position asks the source for a barrier's position until it answers, and
// returns how often the connection had been lost before. When ctx ends, the
// error is the last answer.
func (s *server) position(ctx context.Context) (reconnects uint64, lsn change.LSN, err error) {
	tick := time.NewTicker(barrierEvery)
	defer tick.Stop()
	var last error
	for {
		status := s.Source.Status()
		if status.State == cdc.Reconnecting {
			last = errors.New(status.Fault)
		} else {
			lsn, err := s.Source.Barrier(ctx)
			if err == nil {
				return status.Reconnects, lsn, nil
			}
			if last == nil || ctx.Err() == nil {
				last = err // the end of the time is no answer of the source
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, 0, last
		}
	}
}

// away says that the source gave no position, and what could be built instead.
func (s *server) away(wait time.Duration, err error) error {
	mark := s.Store.Watermark()
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer (state %s)", s.Source.Status().State)
	}
	if mark.Birth == 0 {
		return fmt.Errorf("the source gave no position within %s: %w; nothing is applied yet: try again when /readyz answers", wait, err)
	}
	return fmt.Errorf("the source gave no position within %s: %w; applied is %s, as of %s: build as of that moment, or try again when /readyz answers",
		wait, err, mark.EndLSN, mark.Version)
}
