package featurestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"dreamfeed/internal/disk"
	"dreamfeed/internal/durable"
)

// Removed keys give their space back when Badger merges the tables that they
// lie in. On a large store it does so by itself in time: what is still to be
// merged is bounded by the sizes of its upper levels. On a small one these are as
// large as the rest, so a pass that removed a good part of it merges all.
const (
	// compactShare is the part of the store (one in so many bytes) that must have
	// been removed since the last time.
	compactShare = 8
	// compactBytes is the largest store on disk that is merged: Badger cannot be
	// stopped while it does so.
	compactBytes = 1 << 30
	// compactWorkers leaves the other processor to who applies.
	compactWorkers = 1
)

// fillBytes is the size of a write that fills a memtable, rotateWait how long a
// memtable may take to become a table: a reader that is under way keeps its file.
const (
	fillBytes  = 256 << 10
	rotateWait = 5 * time.Second
	rotatePoll = 20 * time.Millisecond
)

// rotate has Badger turn the memtables that hold the removals into tables, which
// it does only when one is full: one of removals hides many times its size, and
// merging does not look at it. What fills it is one record over and over, of which
// merging leaves nothing.
func (p *pass) rotate() error {
	before, err := filepath.Glob(filepath.Join(p.s.dir, "*.mem"))
	if err != nil {
		return fmt.Errorf("list the files of store %s: %w", p.s.dir, err)
	}
	turned := func() bool {
		before = slices.DeleteFunc(before, func(path string) bool {
			_, err := os.Stat(path)
			return errors.Is(err, os.ErrNotExist)
		})
		return len(before) == 0
	}
	filler := make([]byte, fillBytes)
	for written := int64(0); written <= p.s.memtable && !turned(); written += fillBytes {
		if err := p.fill(filler); err != nil {
			return err
		}
	}
	if err := p.fill(nil); err != nil {
		return err
	}
	poll := time.NewTicker(rotatePoll)
	defer poll.Stop()
	for until := time.Now().Add(rotateWait); !turned() && time.Now().Before(until); {
		select {
		case <-poll.C:
		case <-p.s.closing:
			return ErrClosed
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
	return nil
}

// fill writes the record that fills a memtable; nil removes it.
func (p *pass) fill(value []byte) error {
	if err := p.awaitRoom(); err != nil {
		return err
	}
	err := p.s.hook.Before(durable.Sweep)
	if err == nil {
		err = p.s.update(func(txn *badger.Txn) error {
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

// compact merges the store's tables if that is worth while.
func (p *pass) compact() error {
	s := p.s
	var size, content uint64
	for _, t := range s.db.Tables() {
		size += uint64(t.OnDiskSize)
		content += uint64(t.UncompressedSize)
	}
	if size > compactBytes || s.sweptSince < content/compactShare || s.sweptSince == 0 {
		return nil
	}
	if s.reserve > 0 {
		free, err := disk.Free(s.dir)
		if err != nil {
			return err
		}
		if free < s.reserve+size {
			return nil // old and new tables lie side by side for a while
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	s.sweptSince = 0
	if err := p.rotate(); err != nil {
		return err
	}
	if err := s.db.Flatten(compactWorkers); err != nil {
		return fmt.Errorf("merge the tables of store %s: %w", s.dir, err)
	}
	return nil
}
