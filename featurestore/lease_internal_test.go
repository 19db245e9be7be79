package featurestore

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// raise raises the floor of leases that nothing writes down.
func raise(t *testing.T, l *leases, to change.Version) change.Version {
	t.Helper()
	floor, err := l.raise(to, func(change.Version) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return floor
}

func TestFloorNeverPassesALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(time.Now)
		if got := raise(t, l, 100); got != 100 {
			t.Fatalf("without a lease the floor is %d, want 100", got)
		}
		first, err := l.take(50, 900, wholeReach)
		if err != nil || first.floor != 100 || first.promised != 100 {
			t.Errorf("history begins at %+v, %v: want 100", first, err)
		}
		if got := raise(t, l, 500); got != 100 {
			t.Errorf("the floor is %d, want 100: a lease is held there", got)
		}
		young, err := l.take(200, 900, wholeReach)
		if err != nil {
			t.Fatal(err)
		}
		l.release(first.id)
		if got := raise(t, l, 500); got != 200 {
			t.Errorf("the floor is %d, want 200: a lease is held there", got)
		}
		time.Sleep(LeaseTime - time.Nanosecond)
		if floor, n := l.oldest(); floor != 200 || n != 1 {
			t.Errorf("oldest lease %d of %d, want 200 of 1", floor, n)
		}
		if err := l.renew(young.id, 900, 200); err != nil {
			t.Errorf("renewed in time: %v", err)
		}
		time.Sleep(LeaseTime - time.Nanosecond)
		if got := raise(t, l, 500); got != 200 {
			t.Errorf("the floor is %d, want 200: the lease was renewed", got)
		}
		time.Sleep(time.Nanosecond)
		if floor, n := l.oldest(); n != 0 {
			t.Errorf("oldest lease %d of %d, want none after its time", floor, n)
		}
		if got := raise(t, l, 150); got != 200 {
			t.Errorf("the floor went back to %d", got)
		}
	})
}

func TestExpiredLeaseIsTakenAgainUnlessTheFloorHasPassedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(time.Now)
		taken, err := l.take(100, 900, wholeReach)
		if err != nil {
			t.Fatal(err)
		}
		id := taken.id
		time.Sleep(2 * LeaseTime)
		if err := l.renew(id, 900, 100); err != nil {
			t.Errorf("nothing was removed, but: %v", err)
		}
		if got := raise(t, l, 500); got != 100 {
			t.Errorf("the floor is %d, want 100: the lease was taken again", got)
		}
		time.Sleep(2 * LeaseTime)
		raise(t, l, 500)
		var expired *LeaseError
		err = l.renew(id, 900, 100)
		if !errors.As(err, &expired) || *expired != (LeaseError{AsOf: 900, Promised: 100, Floor: 500}) {
			t.Errorf("after removal: %v", err)
		}
		if _, n := l.oldest(); n != 0 {
			t.Errorf("%d leases, want none", n)
		}
		// One of a process that is gone: its id means nothing here, its floor does.
		if err := l.renew(id+1, 900, 500); err != nil {
			t.Errorf("a lease of the process before: %v", err)
		}
		if got := raise(t, l, change.Version(600)); got != 500 {
			t.Errorf("the floor is %d, want 500", got)
		}
	})
}

func TestViewIsReadAfterItsLeaseUnlessHistoryWasRemoved(t *testing.T) {
	s := people(t, 30)
	now := time.Unix(0, 0)
	s.leases.now = func() time.Time { return now }
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	v.reopenBytes = 1 // the scan looks up from its work at every entity
	ranges, err := v.Ranges(t.Context(), "user", 1)
	if err != nil {
		t.Fatal(err)
	}
	scan := func(each func()) error {
		return v.Scan(t.Context(), "user", ranges[0], func(*history.Entity) error { each(); return nil })
	}
	seen := 0
	err = scan(func() {
		seen++
		now = now.Add(LeaseTime - time.Second)
		if floor := raise(t, s.leases, 1500); floor != v.promised {
			t.Fatalf("the floor rose to %d under a scan of a view from %d on", floor, v.info.Floor)
		}
	})
	if err != nil || seen != 30 {
		t.Fatalf("a scan of %d entities that takes longer than a lease: %v", seen, err)
	}
	now = now.Add(2 * LeaseTime)
	if err := scan(func() {}); err != nil {
		t.Errorf("nothing was removed, but: %v", err)
	}
	now = now.Add(2 * LeaseTime)
	if floor := raise(t, s.leases, 1500); floor != 1500 {
		t.Fatalf("the floor is %d, want 1500", floor)
	}
	want := LeaseError{AsOf: v.asOf, Promised: v.promised, Floor: 1500}
	err = scan(func() {})
	var lost *LeaseError
	if !errors.As(err, &lost) || *lost != want {
		t.Fatalf("after history was removed: %v", err)
	}
	text, err := json.Marshal(encodeWireError(lost))
	if err != nil {
		t.Fatal(err)
	}
	if err := decodeWireError(text); !errors.As(err, &lost) || *lost != want {
		t.Errorf("over the wire it is %v", err)
	}
	var early *TooEarlyError
	if _, err := s.View(1001); !errors.As(err, &early) || early.Earliest != 1500 {
		t.Errorf("a new view below the floor: %v", err)
	}
}
