package featurestore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// The sizes go together (docs/adr/0021). tableBytes is that of a table below level 0.
	// Badger builds a table in memory that it begins with twice that, doubles as it needs
	// more, and keeps for the next table: a memtable may be as large as fits 8 and 16 MiB.
	// Small blocks of wide rows would waste some of it.
	tableBytes  = 4 << 20
	maxMemtable = 20 << 20
	blockBytes  = 32 << 10
	// memtables is how many there may be beside the one that is written to.
	memtables = 2
	// levelZeroTables is how many tables, of a memtable each, are merged at once. Keys are
	// random, so that a merge of level 0 writes the level below anew, all of it: it should
	// bring as much as lies there, and few levels should follow.
	levelZeroTables = 28
)

// openBadger opens the database, which syncs every write or none.
func (s *Store) openBadger(o Options, sync bool) (*badger.DB, error) {
	db, err := badger.Open(s.badgerOptions(o).WithSyncWrites(sync))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w: if its files are damaged, restore a backup, or begin a new store in an empty data directory", s.dir, err)
	}
	return db, nil
}

// badgerOptions divides the budget of memory.
func (s *Store) badgerOptions(o Options) badger.Options {
	memory := o.Memory
	if memory == 0 {
		memory = defaultMemory
	}
	memory = max(memory, minMemory)
	// Three memtables and the cache of indices take at most all of the budget, by default
	// a bit more than half. Most of the rest is for the tables that are being built.
	memtable := min(memory/4, maxMemtable)
	s.memtable = memtable
	b := badger.DefaultOptions(s.dir).
		WithReadOnly(o.ReadOnly).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithMetricsEnabled(false).
		WithMemTableSize(memtable).
		WithNumMemtables(memtables - 1). // one more is being made a table
		WithNumCompactors(2).
		WithNumLevelZeroTables(levelZeroTables).
		WithNumLevelZeroTablesStall(2 * levelZeroTables).
		WithBaseLevelSize(levelZeroTables * memtable).
		WithBaseTableSize(tableBytes).
		WithBlockSize(blockBytes).
		WithIndexCacheSize(memory / 4).
		// Blocks are read where the files are mapped, neither unpacked nor cached
		// (docs/adr/0020).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithValueThreshold(1 << 20). // above pieceBytes: nothing reaches the value log
		WithValueLogFileSize(16 << 20).
		WithLogger(badgerLog{s.log})
	b.TableSizeMultiplier = 1
	// What a group adds when it is closed (position sample, removals of old
	// entries of the index, state) has room in the rest.
	s.groupBytes = memtable*15/100 - 128<<10
	// Badger counts at most one entry per 96 bytes of it (its largest node).
	s.groupEntries = int(s.groupBytes / 128)
	if o.GroupBytes > 0 {
		s.groupBytes = min(s.groupBytes, o.GroupBytes)
	}
	if o.GroupEntries > 0 {
		s.groupEntries = min(s.groupEntries, o.GroupEntries)
	}
	return b
}

// badgerLog hands Badger's log lines to slog. Its Info lines are debugging
// to us.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger", "text", fmt.Sprintf(format, args...))
	}
}

func (l badgerLog) Errorf(f string, a ...any) { l.write(slog.LevelError, f, a) }

func (l badgerLog) Warningf(f string, a ...any) { l.write(slog.LevelWarn, f, a) }

func (l badgerLog) Infof(f string, a ...any) { l.write(slog.LevelDebug, f, a) }

func (l badgerLog) Debugf(f string, a ...any) { l.write(slog.LevelDebug, f, a) }
