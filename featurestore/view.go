package featurestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// View is the store as of a closed moment. It never changes, however much is
// applied meanwhile, and holds nothing open between calls but a lease: for
// LeaseTime after its last use nothing that it shows is removed. Used later, it
// goes on unless something was, which is a *LeaseError. It is safe for concurrent
// use; several ranges may be scanned at once.
type View struct {
	s     *Store
	info  history.Info
	asOf  change.Version
	since change.Version // samples before it are of another epoch
	voids map[change.Version]struct{}
	lease uint64
	// promised is the moment from which on the view's history stays whole.
	promised change.Version
	marks    map[uint16][]mark // up to asOf, without abandoned ones, newest first
	// reopenBytes is after how many bytes a scan begins a new transaction.
	reopenBytes int
}

// View returns the store as of a moment; 0 is the newest closed one. Errors for
// a caller to tell apart: ErrEmpty, *NotClosedError, *TooEarlyError, *GapError.
// While a gap is open (a new epoch, before its backfill is complete), 0 is the
// moment before it.
//
// It promises all the history that there is, so that nothing is removed from the
// store while it is read. Who knows how far back it looks takes ViewWithin.
func (s *Store) View(asOf change.Version) (*View, error) {
	return s.view(asOf, wholeReach, 0, 0)
}

// ViewWithin is View with a promise of the window before the moment alone: the
// history of [asOf − window, asOf] is whole, and may be removed before it. With
// the window 0 it is what holds at the moment. A window that begins before the
// retention floor is a *TooEarlyError, unless nothing was removed since the
// store's birth: then it is cut there.
func (s *Store) ViewWithin(asOf change.Version, window time.Duration) (*View, error) {
	return s.view(asOf, within(window), 0, 0)
}

// view is a view with a reach, or with a lease that was taken before, see hold.
func (s *Store) view(asOf change.Version, r reach, lease uint64, promised change.Version) (*View, error) {
	done, err := s.read()
	if err != nil {
		return nil, err
	}
	defer done()
	p := s.published.Load()
	st := p.state
	if asOf, err = st.moment(asOf); err != nil {
		return nil, err
	}
	v := &View{
		s: s, asOf: asOf, voids: p.voids, reopenBytes: reopenBytes,
		info: history.Info{
			AsOf: asOf, Applied: st.closed(), Birth: st.Birth,
			Definition: s.catalog.Definition, Tables: s.catalog.tables(),
		},
	}
	v.since = st.describe(&v.info)
	if err := v.hold(r, lease, promised); err != nil {
		return nil, err
	}
	if err := v.load(); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// load reads what belongs to the view as a whole.
func (v *View) load() (err error) {
	txn := v.s.db.NewTransaction(false)
	defer txn.Discard()
	if v.info.LSN, err = sampledLSN(txn, v.since, v.asOf); err != nil {
		return err
	}
	if v.marks, err = readMarks(txn, v.voids); err != nil {
		return err
	}
	for t, marks := range v.marks {
		v.marks[t] = slices.DeleteFunc(marks, func(m mark) bool { return m.version > v.asOf })
	}
	return nil
}

// hold gives the view a lease: a new one, or that of a view that another
// request opened, whose history was promised from a moment on.
func (v *View) hold(r reach, lease uint64, promised change.Version) error {
	if lease != 0 {
		v.lease, v.promised = lease, promised
		v.info.Floor = max(v.info.Birth, v.s.leases.floorNow())
		return v.renew()
	}
	g, err := v.s.leases.take(v.info.Birth, v.asOf, r)
	if err != nil {
		return err
	}
	v.lease, v.promised, v.info.Floor = g.id, g.promised, g.floor
	return nil
}

func (v *View) renew() error { return v.s.leases.renew(v.lease, v.asOf, v.promised) }

// Info describes the view.
func (v *View) Info() history.Info { return v.info }

// Close ends the view and its lease. Scans under way are not affected.
func (v *View) Close() error {
	v.s.leases.release(v.lease)
	return nil
}

// begin begins a read of an entity kind; done ends it.
func (v *View) begin(entity string) (kind byte, done func(), err error) {
	k := v.s.catalog.kind(entity)
	if k < 0 {
		return 0, nil, &EntityError{Entity: entity}
	}
	if done, err = v.s.read(); err != nil {
		return 0, nil, err
	}
	if err := v.renew(); err != nil {
		done()
		return 0, nil, err
	}
	return byte(k), done, nil
}

// Entity returns one entity, nil if the view holds no version of any of its
// rows. The id is given as the source writes it. The result is the caller's.
func (v *View) Entity(ctx context.Context, entity, id string) (*history.Entity, error) {
	kind, done, err := v.begin(entity)
	if err != nil {
		return nil, err
	}
	defer done()
	if kind == noKind {
		return nil, fmt.Errorf("read an entity: rows without entity have no id: scan them")
	}
	if len(id) > maxKeyBytes/2 {
		return nil, nil // longer than any that is held
	}
	prefix := appendID([]byte{prefixRow, kind}, []byte(id))
	var found *history.Entity
	err = v.scan(ctx, kind, prefix, history.Range{From: prefix, To: after(prefix)}, false, func(e *history.Entity) error {
		found = e.Clone()
		return nil
	})
	return found, err
}

// Scan calls fn for every entity of the kind in the range, in key order. What
// fn is given is valid until it returns; an error of fn ends the scan and is
// returned. For entity "" fn is called for every row of the tables that have
// no entity, with an empty ID.
func (v *View) Scan(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error {
	return v.scanRange(ctx, entity, r, false, fn)
}

// ScanLatest is Scan for the rows that are alive at the view's moment, each with
// the version that holds then and no older one.
func (v *View) ScanLatest(ctx context.Context, entity string, r history.Range, fn func(*history.Entity) error) error {
	return v.scanRange(ctx, entity, r, true, fn)
}

func (v *View) scanRange(ctx context.Context, entity string, r history.Range, latest bool, fn func(*history.Entity) error) error {
	kind, done, err := v.begin(entity)
	if err != nil {
		return err
	}
	defer done()
	return v.scan(ctx, kind, []byte{prefixRow, kind}, r, latest, fn)
}

// newTransaction begins reading the keys with a prefix, at the present state.
// The iterator shows all that Badger holds of a key, newest first, also that it
// was removed: keys have our version in them and are written once, so that there
// is hardly ever more than one, and Badger need not keep and compare each key, and
// decode each value twice, to leave others out. A scanner sees to it itself.
func (v *View) newTransaction(prefix []byte) (*badger.Txn, *badger.Iterator) {
	txn := v.s.db.NewTransaction(false)
	return txn, txn.NewIterator(badger.IteratorOptions{Prefix: prefix, AllVersions: true})
}
