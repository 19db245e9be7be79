package featurestore

import (
	"fmt"

	"dreamfeed/internal/disk"
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
	if err := p.awaitRoom(); err != nil {
		return err
	}
	s.sweptSince = 0
	// A memtable of removals hides many times its size, and merging does not look at it.
	if err := s.rotate(p.ctx); err != nil {
		return err
	}
	if err := s.db.Flatten(compactWorkers); err != nil {
		return fmt.Errorf("merge the tables of store %s: %w", s.dir, err)
	}
	return nil
}
