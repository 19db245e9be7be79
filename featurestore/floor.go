package featurestore

import (
	"fmt"
	"strconv"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// loadRetention reads the retention floor and the kept versions.
func (s *Store) loadRetention(txn *badger.Txn) error {
	floor, err := readFloor(txn)
	if err != nil {
		return err
	}
	data, err := readMeta(txn, metaKept)
	if err != nil {
		return err
	}
	kept, err := decodeKept(data)
	if err != nil {
		return err
	}
	s.leases.floor, s.leases.kept = floor, kept
	return nil
}

// Floor is the moment from which on history is whole: the store's birth until
// something older was removed. 0 without a complete backfill. It never falls, unless a
// crash takes back what was removed, too (Options.Replayable).
func (s *Store) Floor() change.Version {
	return max(s.published.Load().state.Birth, s.leases.floorNow())
}

// noteFloor writes a new retention floor. It is there before anything below it is
// removed, after a crash too, since commits get to disk in their order.
func (s *Store) noteFloor(floor change.Version) error {
	if err := s.hook.Before(durable.RaiseFloor); err != nil {
		return fmt.Errorf("note the retention floor %s: %w", floor, err)
	}
	data := strconv.AppendUint(nil, uint64(floor), 10)
	if err := s.update(func(txn *badger.Txn) error { return txn.Set(metaKey(metaFloor), data) }); err != nil {
		return fmt.Errorf("note the retention floor %s: %w", floor, err)
	}
	return nil
}

// readFloor reads the retention floor.
func readFloor(txn *badger.Txn) (change.Version, error) {
	data, err := readMeta(txn, metaFloor)
	if err != nil || data == nil {
		return 0, err
	}
	floor, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil {
		return 0, &CorruptError{What: "a retention floor that is no number", Key: metaKey(metaFloor)}
	}
	return change.Version(floor), nil
}
