package featurestore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"dreamfeed/internal/disk"
	"dreamfeed/internal/durable"
)

// restoreBatch is how many bytes of entries are handed to Badger at once. It holds
// four such batches at most, and the tables that it builds, 16 at most.
const restoreBatch = 4 << 20

// merge reads several backups as one, in the order of keys. Of a key that
// several hold, it takes the newest. Of one that an increment is taken on it takes
// what the increment leaves out, and no more: a transaction that was open in the
// base comes again, unless it was given up, and nothing of it may be left then. So
// does what the newest holds ahead of its watermark.
type merge struct {
	readers []*backupReader // those that have an entry at hand
	// again says of each backup what comes again: of the newest in the stream, for
	// it is ahead of its watermark, of the others in the next one.
	again map[*backupReader]func(key []byte) (bool, error)
}

func newMerge(readers []*backupReader) (*merge, error) {
	m := &merge{again: map[*backupReader]func([]byte) (bool, error){}}
	for i, r := range readers {
		m.again[r] = since(r.info.Watermark.Version, r.info.Catalog.keyParts)
		if i == len(readers)-1 {
			m.again[r] = func(key []byte) (bool, error) { return r.info.Watermark.ahead(key, r.info.Catalog.keyParts) }
		}
		if more, err := m.step(r); err != nil {
			return nil, err
		} else if more {
			m.readers = append(m.readers, r)
		}
	}
	return m, nil
}

// step moves a reader to its next entry that counts.
func (m *merge) step(r *backupReader) (bool, error) {
	for {
		more, err := r.next()
		if err != nil || !more {
			return false, err
		}
		if skip, err := m.again[r](r.key); err != nil || !skip {
			return err == nil, err
		}
	}
}

// next is the reader whose entry comes next, nil at the end. The caller passes it
// on when it is done with the entry.
func (m *merge) next() (*backupReader, error) {
	var least *backupReader
	for i := 0; i < len(m.readers); i++ {
		r := m.readers[i]
		if least == nil {
			least = r
			continue
		}
		switch bytes.Compare(r.key, least.key) {
		case -1:
			least = r
		case 0: // no program wrote such a chain
			gone, err := m.pass(least)
			if err != nil {
				return nil, err
			}
			if gone {
				i--
			}
			least = r
		}
	}
	return least, nil
}

// pass moves a reader to its next entry; gone says that it has none.
func (m *merge) pass(r *backupReader) (gone bool, err error) {
	more, err := m.step(r)
	if err != nil || more {
		return false, err
	}
	m.readers = slices.DeleteFunc(m.readers, func(x *backupReader) bool { return x == r })
	return true, nil
}

// writeRestored makes a store of backups in an empty directory, and closes it.
func writeRestored(ctx context.Context, dir string, o RestoreOptions, readers []*backupReader) (err error) {
	if err := o.Hook.Before(durable.WriteFile); err != nil {
		return fmt.Errorf("restore a store: %w", err)
	}
	if err := os.Mkdir(dir, storeDirectory); err != nil {
		return fmt.Errorf("restore a store: %w", err)
	}
	// Only a store that was closed cleanly has an empty lock file.
	if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o600); err != nil {
		return fmt.Errorf("restore a store: %w", err)
	}
	s := &Store{dir: dir, log: o.Logger}
	db, err := badger.Open(s.badgerOptions(Options{Memory: o.Memory}))
	if err != nil {
		return fmt.Errorf("restore a store: %w", err)
	}
	defer func() {
		if closed := db.Close(); closed != nil && err == nil {
			err = fmt.Errorf("restore a store: %w", closed)
		}
	}()
	w := db.NewStreamWriter()
	// What is written in one go needs no compaction: tables are made in order, in
	// the lowest level.
	if err := w.Prepare(); err != nil {
		w.Cancel()
		return fmt.Errorf("restore a store: %w", err)
	}
	err = copyBackups(ctx, dir, o, w, readers)
	if err == nil {
		err = o.Hook.Before(durable.Commit)
	}
	// Also what will be thrown away is flushed: Cancel would leave behind the
	// goroutines that build the table at hand.
	if flushed := w.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return fmt.Errorf("restore a store: %w", err)
	}
	return nil
}

// copyBackups hands the entries of all backups to Badger, a batch at a time.
func copyBackups(ctx context.Context, dir string, o RestoreOptions, w *badger.StreamWriter, readers []*backupReader) error {
	m, err := newMerge(readers)
	if err != nil {
		return err
	}
	batch := z.NewBuffer(restoreBatch+restoreBatch/4, "restore")
	defer func() { _ = batch.Release() }() // of memory it cannot fail
	write := func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := roomToRestore(dir, o.DiskReserve); err != nil {
			return err
		}
		if err := w.Write(batch); err != nil {
			return err
		}
		batch.Reset()
		return nil
	}
	kv := &pb.KV{Version: 1, UserMeta: make([]byte, 1)}
	for {
		r, err := m.next()
		if err != nil {
			return err
		}
		if r == nil {
			return write()
		}
		kv.Key, kv.Value, kv.UserMeta[0] = r.key, r.value, r.flags
		if string(r.key) == string(metaKey(metaState)) {
			if kv.Value, err = restoredState(r.value); err != nil {
				return err
			}
		}
		badger.KVToBuffer(kv, batch)
		if batch.LenNoPadding() >= restoreBatch {
			if err := write(); err != nil {
				return err
			}
		}
		if _, err := m.pass(r); err != nil {
			return err
		}
	}
}

// roomToRestore gives up before the disk is full: Badger maps the files that it
// writes, and a write that finds no block ends the process.
func roomToRestore(dir string, reserve uint64) error {
	free, err := disk.Free(dir)
	if err != nil {
		return err
	}
	if free < reserve {
		return fmt.Errorf("%s has %d bytes of free disk, less than the reserve of %d: %w: free some, or restore elsewhere", filepath.Dir(dir), free, reserve, ErrDiskReserve)
	}
	return nil
}

// restoredState is the state of a store that was made of backups.
func restoredState(data []byte) ([]byte, error) {
	st, err := decodeState(data)
	if err != nil {
		return nil, err
	}
	st.Restored, st.Ahead = true, 0
	return st.encode()
}
