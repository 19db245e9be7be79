package featurestore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/durable"
)

// Format is the number of the store's disk format. It rises when an older
// program could misread a newer store.
const Format = 1

// Names of the meta keys.
const (
	metaFormat  = "format"
	metaCatalog = "catalog"
	metaState   = "state"
	metaFloor   = "floor"
	metaKept    = "kept"
	metaFill    = "fill" // see Store.rotate
)

// Options configure Open. The zero value of each means its default.
type Options struct {
	// Definition names the tables and columns. A read-only store needs none: it
	// goes by the catalog that it holds. A definition may name tables and columns
	// that a store with data lacks: they have no rows and no values until they
	// are refilled (Store.Unfilled).
	Definition *definition.Definition
	Logger     *slog.Logger
	// Memory is the budget in bytes for memtables and tables' indices, 192 MiB by default
	// and at least 48 MiB. Set GOMEMLIMIT beside it.
	Memory int64
	// MaxRowBytes is the largest row that is held, 64 MiB by default.
	MaxRowBytes int
	// DiskReserve is the free space in bytes below which applying pauses; 0 is
	// no reserve, and a full disk then ends the process.
	DiskReserve uint64
	ReadOnly    bool
	// Replayable says that a stream on disk has what Run applies, and keeps all that lies
	// behind Store.Durable. Groups are not synced then: after a crash the store stands
	// at Durable or behind it, and takes the rest from the stream once more.
	Replayable bool
	// Ledger names the erased entities whose changes are left out; nil for none.
	Ledger *Ledger
	// Hook is told of every durable step; nil for none.
	Hook durable.Hook
	// GroupEntries and GroupBytes bound a group. They are lowered to what Badger
	// takes in one transaction, which is also the default.
	GroupEntries int
	GroupBytes   int64
}

// Store is an open feature store. Its methods are safe for concurrent use, but
// only one Run or Apply may be under way.
type Store struct {
	dir      string
	db       *badger.DB
	lock     *os.File
	readOnly bool
	// left is who had the store before (see recover), mine what the lock file says now.
	left, mine owner
	log        *slog.Logger
	catalog    *catalog
	def        *definition.Definition
	ledger     *Ledger

	hook         durable.Hook
	maxRow       int
	reserve      uint64
	groupEntries int
	groupBytes   int64
	memtable     int64         // bytes of a memtable of Badger's
	mergeBytes   atomic.Uint64 // see measureMerge
	replayable   bool
	marks        marks
	rotating     sync.Mutex

	published atomic.Pointer[published]
	leases    *leases
	watches   watches
	writing   sync.Mutex
	// turn is held by who commits, see group.write.
	turn     sync.Mutex
	sweeping sync.Mutex
	// Under sweeping: the floor that the last whole pass of this process swept to,
	// and the bytes removed since the tables were merged.
	sweptTo    change.Version
	sweptSince uint64
	meters     meters

	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	readersMu sync.Mutex // guards the beginning of a read against Close
	readers   sync.WaitGroup
}

const (
	defaultMemory  = 192 << 20
	minMemory      = 48 << 20
	defaultMaxRow  = 64 << 20
	lockName       = "dreamfeed.lock"
	entryOverhead  = 16 // of an entry in Badger's own size count
	diskPoll       = time.Second
	manifestName   = "MANIFEST"
	storeDirectory = 0o700
)

// update runs fn in a transaction of its own, and commits it, synced unless the store
// is replayable.
func (s *Store) update(fn func(*badger.Txn) error) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.db.Update(fn)
}

// Open opens the store in dir, and creates it if there is none (unless
// read-only). Errors for a caller to tell apart: *LockedError, *UncleanError,
// *MissingError, *FormatError, *CatalogError.
func Open(dir string, o Options) (*Store, error) {
	if !o.ReadOnly && o.Definition == nil {
		return nil, errors.New("open store: a definition is needed to write")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, readOnly: o.ReadOnly, log: o.Logger, def: o.Definition, ledger: o.Ledger, hook: o.Hook,
		maxRow: o.MaxRowBytes, reserve: o.DiskReserve, replayable: o.Replayable && !o.ReadOnly, closing: make(chan struct{}),
		leases: newLeases(time.Now),
	}
	if s.maxRow <= 0 {
		s.maxRow = defaultMaxRow
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.open(o); err != nil {
		return nil, errors.Join(err, s.release())
	}
	s.measureMerge()
	return s, nil
}

func (s *Store) open(o Options) error {
	if !s.readOnly {
		if err := s.recover(o); err != nil {
			return err
		}
	}
	db, err := s.openBadger(o, !o.Replayable)
	if err != nil {
		return err
	}
	s.db = db
	found, err := s.load()
	if err != nil {
		return err
	}
	s.marks.durable = s.Watermark() // all of it in tables, or synced
	if s.readOnly {
		if !found {
			return &MissingError{Dir: s.dir}
		}
		return nil
	}
	if found {
		removed, err := s.removeAhead()
		if err == nil && removed > 0 {
			_, err = s.load() // versions were void that are not
		}
		if err != nil {
			return err
		}
	}
	adopted, changed, err := s.catalog.adopt(o.Definition)
	if err != nil {
		return err
	}
	old := s.catalog
	s.catalog = adopted
	if !changed && found {
		return nil
	}
	p := s.published.Load()
	st := p.state.clone()
	var marks []byte
	if st.Sequence > 0 {
		st.adopt(old, adopted, o.Definition)
		if marks, err = st.encode(); err != nil {
			return fmt.Errorf("write the store's watermark: %w", err)
		}
	}
	data, err := adopted.encode()
	if err != nil {
		return fmt.Errorf("write the store's catalog: %w", err)
	}
	if err := s.hook.Before(durable.Commit); err != nil {
		return fmt.Errorf("write the store's catalog: %w", err)
	}
	err = db.Update(func(txn *badger.Txn) error {
		if err := txn.Set(metaKey(metaFormat), []byte(strconv.Itoa(Format))); err != nil {
			return err
		}
		if marks != nil {
			if err := txn.Set(metaKey(metaState), marks); err != nil {
				return err
			}
		}
		return txn.Set(metaKey(metaCatalog), data)
	})
	if err != nil {
		return fmt.Errorf("write the store's catalog: %w", err)
	}
	s.publish(st, p.voids)
	return nil
}

// load reads what stands under the meta keys and the void versions.
func (s *Store) load() (found bool, err error) {
	s.catalog = new(catalog)
	var st state
	voids := map[change.Version]struct{}{}
	err = s.db.View(func(txn *badger.Txn) error {
		format, err := readMeta(txn, metaFormat)
		if err != nil || format == nil {
			return err
		}
		found = true
		n, err := strconv.Atoi(string(format))
		if err != nil {
			return &CorruptError{What: "a format that is no number", Key: metaKey(metaFormat)}
		}
		if n > Format {
			return &FormatError{Dir: s.dir, Have: n, Newest: Format}
		}
		data, err := readMeta(txn, metaCatalog)
		if err != nil {
			return err
		}
		if s.catalog, err = decodeCatalog(data); err != nil {
			return err
		}
		if err := s.loadRetention(txn); err != nil {
			return err
		}
		if data, err = readMeta(txn, metaState); err != nil {
			return err
		}
		if data != nil {
			if st, err = decodeState(data); err != nil {
				return err
			}
		}
		return eachKey(txn, []byte{prefixVoid}, func(key []byte) error {
			v, ok := parseVoidKey(key)
			if !ok {
				return &CorruptError{What: "a void version", Key: key}
			}
			voids[v] = struct{}{}
			return nil
		})
	})
	if err != nil {
		return false, err
	}
	s.publish(st, voids)
	return found, nil
}

// readMeta returns the value of a meta key, nil if there is none.
func readMeta(txn *badger.Txn, name string) ([]byte, error) {
	item, err := txn.Get(metaKey(name))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the store's %s: %w", name, err)
	}
	return item.ValueCopy(nil)
}

// eachKey calls fn with every key under a prefix, in order. The key is only
// valid until fn returns.
func eachKey(txn *badger.Txn, prefix []byte, fn func(key []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := fn(it.Item().Key()); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for reads under way to end, which it tells to, and closes the
// store. End Run before it.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.readersMu.Lock()
		close(s.closing)
		s.readersMu.Unlock()
		s.readers.Wait()
		s.writing.Lock()
		defer s.writing.Unlock()
		s.closeErr = s.release()
	})
	return s.closeErr
}

// read notes a read under way; done ends it. It fails once the store is closing.
func (s *Store) read() (done func(), err error) {
	s.readersMu.Lock()
	defer s.readersMu.Unlock()
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
	}
	s.readers.Add(1)
	return s.readers.Done, nil
}
