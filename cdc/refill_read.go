package cdc

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"dreamfeed/internal/change"
)

// readRefill reads tables as of one position of the source into a file. It is
// the caller's to remove, unless there is an error.
func (s *Source) readRefill(ctx context.Context, session *refillSession, names []string, wait time.Duration) (_ *refillJob, err error) {
	admin, err := connect(ctx, s.cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer closeConn(admin.PgConn())
	snapshot, err := openSnapshot(ctx, &s.cfg, admin, wait)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close()
	if snapshot.origin != session.origin {
		return nil, &retryError{errors.New("refill: the server is another one than that which is followed")}
	}
	if err := snapshot.lock(ctx, names); err != nil {
		return nil, err
	}
	if err := s.checkRefill(ctx, snapshot); err != nil {
		return nil, err
	}
	job := &refillJob{consistent: snapshot.lsn, done: make(chan refillOutcome, 1)}
	now, err := readClock(ctx, admin)
	if err != nil {
		return nil, err
	}
	job.commitTime = now.UnixMicro()
	for _, t := range snapshot.tables {
		job.relations = append(job.relations, appendRelation(nil, t.relation()))
	}
	if job.rows, err = newSpill(s.cfg.SpillDir, s.cfg.DiskReserve); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, job.rows.remove())
		}
	}()
	s.status.refilling(RefillReading)
	// The store gets to the position while the tables are read.
	var low change.Version
	group, together := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		low, err = s.cfg.VersionBefore(together, snapshot.lsn)
		return err
	})
	group.Go(func() error { return s.spillTables(together, snapshot, job.rows) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	job.scope = scopeOf(snapshot.tables, low)
	return job, job.rows.close()
}

// checkRefill checks that the snapshot's tables were published as they are read:
// the changes behind the snapshot must come whole.
func (s *Source) checkRefill(ctx context.Context, snapshot *Snapshot) error {
	publication, err := readPublication(ctx, snapshot.guard, s.cfg.Publication)
	if err != nil {
		return err
	}
	if publication == nil {
		return &PublicationMissingError{Publication: s.cfg.Publication}
	}
	if what := publication.lacks(snapshot.tables); what != "" {
		return &PublicationNarrowError{Publication: s.cfg.Publication, Lacks: what}
	}
	in := &inspection{Role: snapshot.guard.Config().User}
	for _, t := range snapshot.tables {
		in.checkTable(t)
	}
	return in.fatal()
}

// spillTables reads the tables' rows into a file.
func (s *Source) spillTables(ctx context.Context, snapshot *Snapshot, rows *spill) error {
	workers, err := snapshot.sessions(ctx, min(s.cfg.BackfillWorkers, max(len(snapshot.ranges), 1)))
	if err != nil {
		return err
	}
	defer func() { snapshot.release(workers, false) }()
	return readInserts(ctx, workers, snapshot.ranges, s.cfg.MaxRowBytes, func(b *rowBlock) error {
		err := b.each(func(message []byte) error {
			if len(message) > s.cfg.MaxRowBytes {
				return &RowTooLargeError{Table: b.table.String(), Bytes: len(message), Limit: s.cfg.MaxRowBytes}
			}
			return rows.add(message)
		})
		s.status.update(func(now *Status) { now.RefillRows = uint64(rows.rows) })
		return err
	})
}
