package featurestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/disk"
)

// burialAge is how much older than the newest closed moment a tombstone must be
// to be removed: a refill that read its table before the deletion may still be on
// its way, and must find that the row is gone.
const burialAge = change.Version(24 * time.Hour / time.Microsecond)

// Passes follow each other at a twentieth of the history that is kept, so that
// at most so much more than that is held.
const (
	passesPerHistory = 20
	shortestRest     = time.Second
	longestRest      = 24 * time.Hour
)

// SweepOptions say what Sweep may remove.
type SweepOptions struct {
	// History is how far back from the newest closed moment every version of every
	// row stays.
	History time.Duration
}

// rest is the time between two passes.
func (o *SweepOptions) rest() time.Duration {
	return min(max(o.History/passesPerHistory, shortestRest), longestRest)
}

// Swept says what a pass removed.
type Swept struct {
	// Floor is where the retention floor was during the pass.
	Floor change.Version
	// Versions are those of rows, Bytes the keys and values of everything.
	Versions, Bytes uint64
	Took            time.Duration
}

// Sweep removes history that nobody needs any more, pass after pass, until ctx
// ends, and returns its cause then. The first pass comes after LeaseTime at most,
// so that readers which a process before this one had can come back.
//
// A pass raises the retention floor to the newest closed moment less the history,
// but never above what a view's lease, a kept version or an open refill needs,
// and writes that. Then it removes of each row the versions that were
// superseded at the floor; the one that holds there stays, unless it is a
// tombstone. Tombstones also stay for a day, for a refill that is under way.
// Versions of abandoned transactions go too. What is removed nobody can meet:
// neither a view at or above the floor nor the writer. So it goes beside Run, in
// transactions of its own (docs/adr/0012). A pass that is cut short is begun anew.
func (s *Store) Sweep(ctx context.Context, o SweepOptions) error {
	timer := time.NewTimer(min(o.rest(), LeaseTime))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closing:
			return ErrClosed
		case <-timer.C:
		}
		if _, err := s.SweepOnce(ctx, o); err != nil {
			return err
		}
		timer.Reset(o.rest())
	}
}

// SweepOnce is one pass of Sweep. ErrBusy says that one is under way.
func (s *Store) SweepOnce(ctx context.Context, o SweepOptions) (Swept, error) {
	if o.History <= 0 {
		return Swept{}, fmt.Errorf("sweep the store: the history to keep is %s, want longer than 0", o.History)
	}
	if s.readOnly {
		return Swept{}, ErrReadOnly
	}
	if !s.sweeping.TryLock() {
		return Swept{}, ErrBusy
	}
	defer s.sweeping.Unlock()
	done, err := s.read()
	if err != nil {
		return Swept{}, err
	}
	defer done()
	p := &pass{s: s, ctx: ctx, began: time.Now()}
	if err := p.run(o.History); err != nil {
		return p.swept, fmt.Errorf("sweep the store below %s: %w", p.floor, err)
	}
	return p.swept, nil
}

// pass is one going through the whole store.
type pass struct {
	s     *Store
	ctx   context.Context
	began time.Time
	swept Swept

	// floor is what history is superseded at. Tombstones at or below buried are
	// old enough to go.
	floor, buried change.Version
	// voids are all abandoned versions, closed those that nothing comes of any more.
	voids, closed map[change.Version]struct{}
	marks         map[uint16][]mark // at or below the floor, newest first
	batch         removal
}

// run raises the floor and removes what lies below it. Rows go after their
// locators: a locator that leads to no row would be damage.
func (p *pass) run(history time.Duration) error {
	some, err := p.begin(history)
	if err != nil || !some {
		return err
	}
	for _, prefix := range [...]byte{prefixLocator, prefixRow} {
		if err := p.keySpace(prefix); err != nil {
			return err
		}
	}
	// Everything that the marks and voids speak of is gone from disk.
	if err := p.batch.commit(); err != nil {
		return err
	}
	if err := p.rest(); err != nil {
		return err
	}
	p.swept.Took = time.Since(p.began)
	p.s.sweptTo = p.floor
	p.s.meters.sweepNanos.Store(uint64(p.swept.Took))
	if p.swept.Bytes > 0 {
		p.s.log.Info("history was swept", "floor", p.floor.String(), "versions", p.swept.Versions, "bytes", p.swept.Bytes, "took", p.swept.Took)
	}
	return p.compact()
}

// begin finds out where the floor may be, raises it, and says whether there is
// anything to look for below it.
func (p *pass) begin(history time.Duration) (some bool, err error) {
	s := p.s
	published := s.published.Load()
	st := published.state
	newest := st.newest()
	if newest == 0 {
		return false, nil
	}
	target := earlier(newest, change.Version(history.Microseconds()))
	if st.Scope != nil {
		target = min(target, st.Scope.Low)
	}
	if p.floor, err = s.leases.raise(target, s.noteFloor); err != nil {
		return false, err
	}
	p.swept.Floor = max(p.floor, st.Birth)
	p.buried = min(p.floor, earlier(newest, burialAge))
	p.batch = removal{p: p}
	p.voids = published.voids
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	p.closed = map[change.Version]struct{}{}
	err = eachKey(txn, []byte{prefixVoid}, func(key []byte) error {
		v, ok := parseVoidKey(key)
		if !ok {
			return &CorruptError{What: "a void version", Key: key}
		}
		if _, void := p.voids[v]; void && v < st.Version && v != st.OpenVersion {
			p.closed[v] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if len(p.closed) == 0 && (p.floor <= st.Birth || p.floor == s.sweptTo) {
		return false, nil
	}
	if p.marks, err = readMarks(txn, p.voids); err != nil {
		return false, err
	}
	for table, marks := range p.marks {
		for len(marks) > 0 && marks[0].version > p.floor {
			marks = marks[1:]
		}
		p.marks[table] = marks
	}
	return true, nil
}

// earlier is v less µs, not below 0.
func earlier(v, us change.Version) change.Version {
	if us > v {
		return 0
	}
	return v - us
}

// check says whether to go on.
func (p *pass) check() error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	select {
	case <-p.s.closing:
		return ErrClosed
	default:
		return nil
	}
}

// awaitRoom returns when there is more free disk than the reserve: what is
// removed takes some before it gives back more.
func (p *pass) awaitRoom() error {
	if p.s.reserve == 0 {
		return p.check()
	}
	var poll *time.Ticker
	for {
		p.s.measureMerge()
		free, err := disk.Free(p.s.dir)
		if err != nil {
			return err
		}
		if free >= p.s.DiskReserve() {
			return p.check()
		}
		if poll == nil {
			poll = time.NewTicker(diskPoll)
			defer poll.Stop()
			p.s.log.Warn("sweeping is paused until disk is freed", "dir", p.s.dir, "free_bytes", free, "reserve_bytes", p.s.DiskReserve())
		}
		select {
		case <-poll.C:
		case <-p.s.closing:
			return ErrClosed
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

// rest removes what speaks of nothing any more: truncations, void versions, and
// position samples before the one that holds at the floor.
func (p *pass) rest() error {
	err := p.each(prefixTruncate, func(key []byte) (bool, error) {
		_, v, _, ok := parseTruncateKey(key)
		if !ok {
			return false, &CorruptError{What: "a truncation", Key: key}
		}
		if _, void := p.voids[v]; void {
			_, closed := p.closed[v]
			return closed, nil
		}
		return v <= p.buried, nil
	})
	if err != nil {
		return err
	}
	held := false
	err = p.each(prefixSample, func(key []byte) (bool, error) {
		v, ok := parseSampleKey(key)
		if !ok {
			return false, &CorruptError{What: "a position sample", Key: key}
		}
		older := held
		held = held || v <= p.floor
		return older, nil
	})
	if err != nil {
		return err
	}
	// The truncations of void versions are gone from disk before the voids.
	if err := p.batch.commit(); err != nil {
		return err
	}
	err = p.each(prefixVoid, func(key []byte) (bool, error) {
		v, _ := parseVoidKey(key)
		_, closed := p.closed[v]
		return closed, nil
	})
	return errors.Join(err, p.batch.commit())
}

// each removes the keys under a prefix that gone says so of.
func (p *pass) each(prefix byte, gone func(key []byte) (bool, error)) error {
	keys := &walk{db: p.s.db, prefix: []byte{prefix}, check: p.check}
	keys.begin(keys.prefix)
	defer keys.close()
	for key := keys.key(); key != nil; key = keys.key() {
		yes, err := gone(key)
		if err != nil {
			return err
		}
		if yes {
			if err := p.batch.add(key, keys.it.Item().ValueSize()); err != nil {
				return err
			}
		}
		keys.next()
	}
	return keys.err
}
