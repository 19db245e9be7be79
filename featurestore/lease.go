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

// leases are the promises made to views: what lies at or above a view's floor
// is not removed while its lease lasts. The retention floor is kept here, so
// that no lease can come between asking for the oldest one and raising it.
type leases struct {
	now func() time.Time

	mu    sync.Mutex
	floor change.Version
	held  map[uint64]lease
}

type lease struct {
	floor   change.Version
	expires time.Time
}

func newLeases(now func() time.Time) *leases {
	return &leases{now: now, held: map[uint64]lease{}}
}

// take makes a lease on the history that there is: from the retention floor on,
// or from the store's birth.
func (l *leases) take(birth change.Version) (id uint64, floor change.Version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for taken := true; id == 0 || taken; _, taken = l.held[id] {
		id = rand.Uint64()
	}
	floor = max(birth, l.floor)
	l.held[id] = lease{floor: floor, expires: l.now().Add(LeaseTime)}
	return id, floor
}

// renew begins the time of a lease again. An expired one, or one of a process
// before this one, is taken again if nothing that it promised was removed since;
// else the error is a *LeaseError.
func (l *leases) renew(id uint64, asOf, floor change.Version) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if held, ok := l.held[id]; (!ok || !now.Before(held.expires)) && floor < l.floor {
		delete(l.held, id)
		return &LeaseError{AsOf: asOf, Promised: floor, Floor: l.floor}
	}
	l.held[id] = lease{floor: floor, expires: now.Add(LeaseTime)}
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

// raise moves the retention floor towards to, as far as the leases let it, and
// returns where it is then. Only what lies below it may be removed.
func (l *leases) raise(to change.Version) change.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest, n := l.oldestLocked(); n > 0 {
		to = min(to, oldest)
	}
	l.floor = max(l.floor, to)
	return l.floor
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
