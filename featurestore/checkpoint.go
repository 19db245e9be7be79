package featurestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/disk"
	"dreamfeed/internal/durable"
)

// What a replayable store applies is on disk already, in the stream that it comes from,
// so that writing it to Badger's log, synced, would be to write it twice. Badger keeps
// the log all the same, but nobody waits for it, and nobody reads it: a power cut may
// take the end of one log and leave the one behind it, which nothing tells from a whole
// one. Who opens the store after a process that did not close it removes the logs. What
// is left are the tables, which are synced, and made of the memtables in the order in
// which these were written: the store as it was at some commit. The stream brings the
// rest once more (docs/adr/0022).
//
// So the stream must have it: what may be trimmed goes by Durable.

// mark is a watermark with the timestamp of Badger's that its group has.
type durableMark struct {
	at        uint64
	watermark Watermark
}

// marks are the watermarks of a replayable store that are not known to lie in tables.
type marks struct {
	mu      sync.Mutex
	durable Watermark     // the newest that is known to
	tables  uint64        // the highest timestamp that was seen in a table
	list    []durableMark // oldest first
}

// maxMarks bounds the list. Of more, every other one is forgotten: Durable then lags
// behind by a group or a few.
const maxMarks = 512

// full says whether there is no room for another. Settling may make some.
func (m *marks) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.list) >= maxMarks
}

// note takes in a group that was written.
func (m *marks) note(at uint64, w Watermark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) >= maxMarks {
		kept := m.list[:0]
		for i := 0; i < len(m.list); i += 2 {
			kept = append(kept, m.list[i])
		}
		m.list = kept
	}
	m.list = append(m.list, durableMark{at, w})
}

// settle takes in that everything below a timestamp lies in tables.
func (m *marks) settle(tables uint64) Watermark {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tables = max(m.tables, tables) // merging may leave nothing of the newest
	n := 0
	for n < len(m.list) && m.list[n].at < m.tables {
		m.durable = m.list[n].watermark
		n++
	}
	m.list = append(m.list[:0], m.list[n:]...)
	return m.durable
}

// Durable is how far no crash takes the store back: the watermark, or of a replayable
// store one before it, behind which the stream must keep what it has (I2).
func (s *Store) Durable() Watermark {
	if !s.replayable {
		return s.Watermark()
	}
	done, err := s.read()
	if err != nil { // it is closing
		return s.marks.settle(0)
	}
	defer done()
	return s.marks.settle(s.inTables())
}

// inTables is the highest of Badger's timestamps that has an entry in a table.
// Everything with a lower one is in tables then, since memtables become tables in the
// order in which they are written.
func (s *Store) inTables() (at uint64) {
	for _, t := range s.db.Tables() {
		at = max(at, t.MaxVersion)
	}
	return at
}

// Checkpoint makes durable what is applied by now (Durable). A store that is not
// replayable has nothing to do. It fails with ErrDiskReserve if there is no disk for it.
func (s *Store) Checkpoint(ctx context.Context) error {
	if !s.replayable {
		return nil
	}
	done, err := s.read()
	if err != nil {
		return err
	}
	defer done()
	if s.reserve > 0 {
		// It is done to make room, too, so that the reserve itself may be used.
		s.measureMerge()
		free, err := disk.Free(s.dir)
		if err != nil {
			return err
		}
		if need := s.mergeBytes.Load(); free < need {
			return fmt.Errorf("write the memtables of store %s: %w (%d bytes free, %d may be needed): free some disk", s.dir, ErrDiskReserve, free, need)
		}
	}
	return s.rotate(ctx)
}

// fillBytes is the size of a write that fills a memtable, rotateWait how long what was
// filled may take to become a table.
const (
	fillBytes  = 256 << 10
	rotateWait = 30 * time.Second
	rotatePoll = 20 * time.Millisecond
)

// rotate has Badger turn the memtables into tables, which it does only when one is full.
// What fills it is one record over and over, of which merging leaves nothing.
func (s *Store) rotate(ctx context.Context) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	txn := s.db.NewTransaction(false)
	at := txn.ReadTs() // of the newest commit
	txn.Discard()
	filler := make([]byte, fillBytes)
	// A memtable's worth is enough even if the newest commit filled one just so: then it
	// is the next one in which something newer is seen.
	for written := int64(0); written <= s.memtable && s.inTables() <= at; written += fillBytes {
		if err := s.fill(filler); err != nil {
			return err
		}
	}
	if err := s.fill(nil); err != nil {
		return err
	}
	poll := time.NewTicker(rotatePoll)
	defer poll.Stop()
	for until := time.Now().Add(rotateWait); s.inTables() <= at; {
		if time.Now().After(until) {
			return fmt.Errorf("write the memtables of store %s: they are no tables after %s: try again when the disk has less to do", s.dir, rotateWait)
		}
		select {
		case <-poll.C:
		case <-s.closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// fill writes the record that fills a memtable; nil removes it.
func (s *Store) fill(value []byte) error {
	err := s.hook.Before(durable.Fill)
	if err == nil {
		err = s.update(func(txn *badger.Txn) error {
			if value == nil {
				return txn.Delete(metaKey(metaFill))
			}
			return txn.Set(metaKey(metaFill), value)
		})
	}
	if err != nil {
		return fmt.Errorf("fill a memtable: %w", err)
	}
	return nil
}

// logs are Badger's logs of memtables. The directory may have any name, so that it is
// no pattern.
func (s *Store) logs() (paths []string, err error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the files of store %s: %w", s.dir, err)
	}
	for _, f := range files {
		if filepath.Ext(f.Name()) == ".mem" {
			paths = append(paths, filepath.Join(s.dir, f.Name()))
		}
	}
	return paths, nil
}

// recover makes a store that was not closed one that Badger can be trusted with.
func (s *Store) recover(o Options) error {
	var err error
	if s.left.replayable {
		err = s.discardLogs()
	} else if err = s.removeUnborn(); err == nil && s.left.unclean && o.Replayable {
		// What its logs hold was synced, and the stream may not have it any more: it
		// goes to tables before anything is written that is not synced.
		var db *badger.DB
		if db, err = s.openBadger(o, true); err == nil {
			err = db.Close()
		}
	}
	if err != nil {
		return err
	}
	return s.own(o.Replayable)
}

// discardLogs removes the logs of memtables of a replayable store, for good: before the
// lock file says anything else of the store.
func (s *Store) discardLogs() error {
	files, err := s.logs()
	if err != nil {
		return err
	}
	for _, path := range files {
		err := s.hook.Before(durable.RemoveFile)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("remove a log of store %s, whose content the stream has: %w", s.dir, err)
		}
	}
	// Also if there is none: somebody who removed them may have been killed right here.
	if err := durable.SyncDir(s.dir, s.hook); err != nil {
		return fmt.Errorf("remove the logs of store %s, whose content the stream has: %w", s.dir, err)
	}
	s.log.Info("the store was not closed: what was not in its tables comes again from the stream", "logs", len(files))
	return nil
}

// removeUnborn removes logs of memtables that have no bytes: the process
// that made one was killed before it gave the file its size, so that nothing was
// ever written to it. Badger takes such a file for a fault and does not open.
func (s *Store) removeUnborn() error {
	files, err := s.logs()
	if err != nil {
		return err
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at a file of store %s: %w", s.dir, err)
		}
		if info.Size() > 0 {
			continue
		}
		err = s.hook.Before(durable.RemoveFile)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("remove an unborn file of store %s: %w", s.dir, err)
		}
	}
	return nil
}
