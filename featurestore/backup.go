package featurestore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
)

// BackupID names one backup: 128 random bits.
type BackupID [16]byte

func (id BackupID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the id as 32 hexadecimal digits.
func (id BackupID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *BackupID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("a backup's id has %d digits, want %d", len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Backup is the header of a backup: what it is of. It is all that an increment
// needs to know of its base.
type Backup struct {
	ID BackupID `json:"id"`
	// Base is the backup that an increment continues; zero for a full one.
	Base    BackupID  `json:"base,omitzero"`
	Created time.Time `json:"created"`
	// StoreFormat is the number of the format of the keys in it (Format).
	StoreFormat int       `json:"store_format"`
	Watermark   Watermark `json:"watermark"`
	// Definition is the hash of the definition that was in force.
	Definition string `json:"definition"`
	// Gaps and Catalog tell the history that the backup belongs to from others.
	Gaps    []gap    `json:"gaps,omitempty"`
	Catalog *catalog `json:"catalog"`
}

// Increment says that the backup continues another.
func (b *Backup) Increment() bool { return b.Base != BackupID{} }

// BackupCounts say how much a backup holds.
type BackupCounts struct {
	Keys uint64 // of any kind
	Rows uint64 // versions of rows among them, a large one once for each of its pieces
	Raw  uint64 // bytes of keys and values
	File uint64 // bytes of the file
}

// Backup writes the store to w in the format of a backup file (docs/FORMAT.md):
// everything that one Badger transaction sees, while changes are applied beside
// it. With a base it leaves out what the base holds already. Errors for a caller
// to tell apart: ErrEmpty, *BackupBaseError, ErrClosed, and those of w.
//
// An increment goes by our own versions, never by those of Badger's entries: a
// version above the closed moment of the base came after it, or belongs to a
// transaction that was open then and comes again as a whole. What changes in
// place, the meta keys and the marks of open refills, comes again in each.
func (s *Store) Backup(ctx context.Context, w io.Writer, base *Backup) (*Backup, BackupCounts, error) {
	return s.backup(ctx, newBackupWriter(w), base, reopenBytes)
}

// backup is Backup with an iterator for so many bytes.
func (s *Store) backup(ctx context.Context, out *backupWriter, base *Backup, reopen int) (*Backup, BackupCounts, error) {
	done, err := s.read()
	if err != nil {
		return nil, BackupCounts{}, err
	}
	defer done()
	// The one transaction keeps what it sees from being dropped by compactions; its
	// iterators are made anew again and again, so that no old file is kept whole.
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	info, floor, err := describeBackup(txn)
	if err != nil {
		return nil, BackupCounts{}, err
	}
	wants := func([]byte) (bool, error) { return true, nil }
	if base != nil {
		if err := info.continues(base, floor); err != nil {
			return nil, BackupCounts{}, err
		}
		info.Base = base.ID
		wants = since(base.Watermark.Version, info.Catalog.keyParts)
	}
	if _, err := rand.Read(info.ID[:]); err != nil {
		return nil, BackupCounts{}, fmt.Errorf("name the backup: %w", err)
	}
	info.Created = time.Now().UTC().Truncate(time.Second)
	if err := out.begin(info); err != nil {
		return nil, BackupCounts{}, err
	}
	c := &keyCopier{s: s, txn: txn, out: out, wants: wants, reopen: reopen}
	if err := c.run(ctx); err != nil {
		return nil, BackupCounts{}, err
	}
	if err := out.end(); err != nil {
		return nil, BackupCounts{}, err
	}
	return info, out.counts, nil
}

// describeBackup reads what the transaction says of the store as a whole, and
// the retention floor that it holds.
func describeBackup(txn *badger.Txn) (*Backup, change.Version, error) {
	data, err := readMeta(txn, metaState)
	if err != nil {
		return nil, 0, err
	}
	if data == nil {
		return nil, 0, ErrEmpty
	}
	st, err := decodeState(data)
	if err != nil {
		return nil, 0, err
	}
	if st.Birth == 0 {
		return nil, 0, ErrEmpty
	}
	info := &Backup{Watermark: st.Watermark, Gaps: st.Gaps}
	if data, err = readMeta(txn, metaFormat); err != nil {
		return nil, 0, err
	}
	if info.StoreFormat, err = strconv.Atoi(string(data)); err != nil {
		return nil, 0, &CorruptError{What: "a format that is no number", Key: metaKey(metaFormat)}
	}
	if data, err = readMeta(txn, metaCatalog); err != nil {
		return nil, 0, err
	}
	if info.Catalog, err = decodeCatalog(data); err != nil {
		return nil, 0, err
	}
	info.Definition = info.Catalog.Definition
	floor, err := readFloor(txn)
	return info, floor, err
}

// since says which keys an increment holds whose base is closed up to a moment; a
// restore takes these from the increment alone. Those that change in place, and
// the marks of a refill, which go when it ends, are among them.
func since(closed change.Version, parts func(table uint16) int) func(key []byte) (bool, error) {
	return func(key []byte) (bool, error) {
		v, dated, err := keyVersion(key, parts)
		if err != nil || !dated || key[0] == prefixSeen {
			return err == nil, err
		}
		// A sample may be written for the closed moment after it was backed up.
		return v > closed || key[0] == prefixSample && v == closed, nil
	}
}

// keyCopier writes every key that is wanted, in order.
type keyCopier struct {
	s      *Store
	txn    *badger.Txn
	out    *backupWriter
	wants  func(key []byte) (bool, error)
	reopen int // bytes after which a new iterator is made
}

func (c *keyCopier) run(ctx context.Context) error {
	var next []byte
	for more := true; more; {
		var err error
		if more, next, err = c.some(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// some writes with one iterator, for a while, and returns the key to go on with.
func (c *keyCopier) some(ctx context.Context, from []byte) (more bool, next []byte, err error) {
	it := c.txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	began, read, n := time.Now(), 0, 0
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		if n++; n%256 == 0 || read > c.reopen {
			if ctx.Err() != nil {
				return false, nil, context.Cause(ctx)
			}
			select {
			case <-c.s.closing:
				return false, nil, ErrClosed
			default:
			}
			if read > c.reopen || time.Since(began) > reopenAfter {
				return true, item.KeyCopy(nil), nil
			}
		}
		key := item.Key()
		wanted, err := c.wants(key)
		if err != nil {
			return false, nil, err
		}
		if !wanted {
			continue
		}
		err = item.Value(func(value []byte) error {
			read += len(key) + len(value)
			return c.out.add(key, value, item.UserMeta())
		})
		if err != nil {
			return false, nil, err
		}
	}
	return false, nil, nil
}
