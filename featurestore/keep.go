package featurestore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// Keep is a version of a dataset that can be built again: the history of
// [From, AsOf] stays whole until it is released.
type Keep struct {
	Name string         `json:"name"`
	AsOf change.Version `json:"as_of"`
	// From is the first moment that is kept, as a rule AsOf less the window.
	From    change.Version `json:"from"`
	Created time.Time      `json:"created"`
}

// All kept versions are one record: a thousand names of at most 128 bytes each
// take a quarter of a MiB.
const (
	maxKept     = 1000
	maxKeepName = 128
)

// KeepError says that a version cannot be kept under a name.
type KeepError struct {
	Name string
	// Have is what is kept under the name already, nil if that is not the reason.
	Have *Keep
	// What is wrong otherwise.
	What string
}

func (e *KeepError) Error() string {
	if e.Have != nil {
		return fmt.Sprintf("version %q is kept already, as of %s and from %s on: release it first, or choose another name", e.Name, e.Have.AsOf, e.Have.From)
	}
	return fmt.Sprintf("keep version %q: %s", e.Name, e.What)
}

// Keep keeps the history of [k.From, k.AsOf] until Release, also over restarts.
// It is on disk when Keep returns. Keeping the same moments under the same name
// again changes nothing. A zero Created becomes the present time. Errors for a
// caller to tell apart: those of View for the moment k.AsOf; *TooEarlyError if
// history after k.From was removed already; *KeepError; ErrReadOnly.
func (s *Store) Keep(k Keep) error {
	done, err := s.read()
	if err != nil {
		return err
	}
	defer done()
	if s.readOnly {
		return ErrReadOnly
	}
	if err := s.keep(k); err != nil {
		return err
	}
	return s.keepDurable()
}

// keepDurable returns when the list of kept versions is on disk. It may be in force
// before: a crash that takes it back takes back all that was removed since.
func (s *Store) keepDurable() error {
	if err := s.Checkpoint(context.Background()); err != nil {
		return fmt.Errorf("write the kept versions: %w", err)
	}
	return nil
}

func (s *Store) keep(k Keep) error {
	switch {
	case k.Name == "" || len(k.Name) > maxKeepName || strings.ContainsFunc(k.Name, func(r rune) bool { return r < ' ' }):
		return &KeepError{Name: k.Name, What: fmt.Sprintf("a name has 1 to %d bytes and no control characters", maxKeepName)}
	case k.AsOf == 0:
		return &KeepError{Name: k.Name, What: "its moment is not given"}
	case k.From > k.AsOf:
		return &KeepError{Name: k.Name, What: fmt.Sprintf("its window begins at %s, after its moment %s", k.From, k.AsOf)}
	}
	st := s.published.Load().state
	if _, err := st.moment(k.AsOf); err != nil {
		return err
	}
	if k.Created.IsZero() {
		k.Created = time.Now()
	}
	k.Created = k.Created.UTC().Truncate(time.Microsecond)
	l := s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	at, found := l.keptAt(k.Name)
	switch floor := max(st.Birth, l.floor); {
	case found && l.kept[at].AsOf == k.AsOf && l.kept[at].From == k.From:
		return nil
	case found:
		have := l.kept[at]
		return &KeepError{Name: k.Name, Have: &have}
	case len(l.kept) >= maxKept:
		return &KeepError{Name: k.Name, What: fmt.Sprintf("%d versions are kept already: release some first", maxKept)}
	case k.AsOf < floor || k.From < floor && floor > st.Birth:
		return &TooEarlyError{AsOf: k.AsOf, Earliest: floor + (k.AsOf - k.From)}
	}
	return s.noteKept(slices.Insert(slices.Clone(l.kept), at, k))
}

// Release gives a kept version up; found says whether there was one of the name.
func (s *Store) Release(name string) (found bool, err error) {
	done, err := s.read()
	if err != nil {
		return false, err
	}
	defer done()
	if s.readOnly {
		return false, ErrReadOnly
	}
	if found, err = s.releaseKept(name); err == nil {
		err = s.keepDurable()
	}
	return found, err
}

func (s *Store) releaseKept(name string) (found bool, err error) {
	l := s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	at, found := l.keptAt(name)
	if !found {
		return false, nil
	}
	return true, s.noteKept(slices.Delete(slices.Clone(l.kept), at, at+1))
}

// Kept returns the kept versions in the order of their names.
func (s *Store) Kept() []Keep {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	return slices.Clone(s.leases.kept)
}

// keptAt is where a name stands in the list, or would.
func (l *leases) keptAt(name string) (int, bool) {
	return slices.BinarySearchFunc(l.kept, name, func(k Keep, name string) int { return strings.Compare(k.Name, name) })
}

// noteKept writes the list of kept versions, and then puts it in force. The
// leases are locked: the floor stands still meanwhile.
func (s *Store) noteKept(list []Keep) error {
	data, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write the kept versions: %w", err)
	}
	if err := s.hook.Before(durable.KeepVersion); err != nil {
		return fmt.Errorf("write the kept versions: %w", err)
	}
	if err := s.update(func(txn *badger.Txn) error { return txn.Set(metaKey(metaKept), data) }); err != nil {
		return fmt.Errorf("write the kept versions: %w", err)
	}
	s.leases.kept = list
	return nil
}

// decodeKept reads what noteKept wrote; nothing was written before the first.
func decodeKept(data []byte) (list []Keep, err error) {
	if data == nil {
		return nil, nil
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, &CorruptError{What: "a list of kept versions that cannot be read", Key: metaKey(metaKept)}
	}
	slices.SortFunc(list, func(a, b Keep) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Keep is Store.Keep of the daemon's store.
func (c *Client) Keep(ctx context.Context, k Keep) error {
	var nothing struct{}
	return c.Ask(ctx, PathKeep, k, &nothing)
}

// Release is Store.Release of the daemon's store.
func (c *Client) Release(ctx context.Context, name string) (found bool, err error) {
	var answer releaseAnswer
	err = c.Ask(ctx, PathKeepRelease, releaseRequest{Name: name}, &answer)
	return answer.Found, err
}

// Kept is Store.Kept of the daemon's store.
func (c *Client) Kept(ctx context.Context) (list []Keep, err error) {
	err = c.Ask(ctx, PathKeepList, struct{}{}, &list)
	return list, err
}
