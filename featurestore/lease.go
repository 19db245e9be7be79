package featurestore

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dreamfeed/internal/change"
)

// LeaseTime is how long a view that is not read keeps what it shows from being
// removed. Every call of its methods, and every second of a scan, begins the
// time again.
const LeaseTime = 60 * time.Second

// leases are the promises made to views, and the versions that are kept: what
// lies at or above one of them is not removed while it lasts. The retention floor
// stands under the same lock, so that no promise can come between asking for the
// oldest one and raising the floor.
type leases struct {
	now func() time.Time

	mu    sync.Mutex
	floor change.Version
	held  map[uint64]lease
	kept  []Keep // in the order of names; the list is replaced, never changed
}

type lease struct {
	floor   change.Version
	expires time.Time
}

func newLeases(now func() time.Time) *leases {
	return &leases{now: now, held: map[uint64]lease{}}
}

// reach is how far back a view promises to show history: all that there is, or
// a window before its moment.
type reach struct {
	bounded bool
	window  change.Version // µs
}

// wholeReach is all that there is.
var wholeReach = reach{}

func within(window time.Duration) reach {
	return reach{bounded: true, window: change.Version(max(window.Microseconds(), 0))}
}

// from is the first moment that a view as of a moment is to show.
func (r reach) from(asOf change.Version) change.Version {
	if !r.bounded || r.window > asOf {
		return 0
	}
	return asOf - r.window
}

// grant is a lease as it was taken.
type grant struct {
	id uint64
	// floor is where the retention floor was, promised the moment from which on
	// history stays whole while the lease lasts.
	floor, promised change.Version
}

// take makes a lease on the history that a view as of a moment reaches back to.
// While nothing was removed since the store's birth, a window may begin before it.
func (l *leases) take(birth, asOf change.Version, r reach) (grant, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	floor := max(birth, l.floor)
	from := r.from(asOf)
	if asOf < floor || r.bounded && from < floor && floor > birth {
		return grant{}, &TooEarlyError{AsOf: asOf, Earliest: floor + r.window, Window: time.Duration(r.window) * time.Microsecond}
	}
	g := grant{floor: floor, promised: max(floor, from)}
	for taken := true; g.id == 0 || taken; _, taken = l.held[g.id] {
		g.id = rand.Uint64()
	}
	l.held[g.id] = lease{floor: g.promised, expires: l.now().Add(LeaseTime)}
	return g, nil
}

// renew begins the time of a lease again. An expired one, or one of a process
// before this one, is taken again if nothing that it promised was removed since;
// else the error is a *LeaseError.
func (l *leases) renew(id uint64, asOf, promised change.Version) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if held, ok := l.held[id]; (!ok || !now.Before(held.expires)) && promised < l.floor {
		delete(l.held, id)
		return &LeaseError{AsOf: asOf, Promised: promised, Floor: l.floor}
	}
	l.held[id] = lease{floor: promised, expires: now.Add(LeaseTime)}
	return nil
}

func (l *leases) release(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
}

// oldest returns the lowest floor that a lease keeps, and how many there are.
func (l *leases) oldest() (floor change.Version, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldestLocked()
}

func (l *leases) oldestLocked() (floor change.Version, n int) {
	now := l.now()
	for id, held := range l.held {
		if !now.Before(held.expires) {
			delete(l.held, id)
			continue
		}
		if n == 0 || held.floor < floor {
			floor = held.floor
		}
		n++
	}
	return floor, n
}

// floorNow is where the retention floor is.
func (l *leases) floorNow() change.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor
}

// raise moves the retention floor towards to, as far as leases and kept versions
// let it, and returns where it is then. note makes the new floor durable before
// anybody is told of it; without that it stays where it was. Only what lies below
// the floor may be removed.
func (l *leases) raise(to change.Version, note func(change.Version) error) (change.Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest, n := l.oldestLocked(); n > 0 {
		to = min(to, oldest)
	}
	for i := range l.kept {
		to = min(to, l.kept[i].From)
	}
	if to <= l.floor {
		return l.floor, nil
	}
	if err := note(to); err != nil {
		return l.floor, err
	}
	l.floor = to
	return to, nil
}

// oldestLease returns the lowest floor that a reader's lease keeps, and how
// many leases there are: the retention floor never passes it.
func (s *Store) oldestLease() (floor change.Version, n int) { return s.leases.oldest() }

// LeaseError says that a view was left unread for longer than its lease, and
// that history which it had promised was removed meanwhile. An expired lease
// alone is no error: as long as nothing was removed, reading takes it again.
type LeaseError struct {
	AsOf change.Version // of the view
	// Promised is the moment from which on the view's history was whole, Floor
	// the one from which on the store's is now.
	Promised, Floor change.Version
}

func (e *LeaseError) Error() string {
	return fmt.Sprintf("the view as of %s was not read for over %s, and history before %s that it showed was removed meanwhile: begin again",
		e.AsOf, LeaseTime, e.Floor)
}
