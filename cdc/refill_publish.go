package cdc

import (
	"context"
	"errors"
	"time"

	"dreamfeed/internal/change"
)

// refillJob is a refill that is read and waits to be published.
type refillJob struct {
	relations  [][]byte // Relation messages of the tables
	scope      change.Scope
	consistent change.LSN // what the rows are the state as of
	commitTime int64      // the source's clock at the reading, µs since the Unix epoch
	rows       *spill
	cancelled  <-chan struct{}    // closed when nobody wants it any more
	done       chan refillOutcome // takes the one outcome
}

// refillOutcome says what became of a refill.
type refillOutcome struct {
	version change.Version
	took    time.Duration // by the publishing
	err     error
}

// finish tells the outcome and removes the file.
func (j *refillJob) finish(outcome refillOutcome) {
	outcome.err = errors.Join(outcome.err, j.rows.remove())
	j.done <- outcome
}

// errRefillStopped says that a refill was given up because the end has come.
var errRefillStopped = &retryError{errors.New("refill: the source is being stopped")}

// jobs is where refills come from, nil while one waits.
func (f *framer) jobs() <-chan *refillJob {
	if f.refill != nil {
		return nil
	}
	return f.refills
}

// refillDue says whether the refill that waits can be published: the stream has
// come as far as it was read, and is between two transactions.
func (f *framer) refillDue() bool {
	if f.refill == nil || f.inside || f.position < f.refill.consistent {
		return false
	}
	_, open := f.feed.writer.resumed()
	return !open
}

// dropRefill gives up the refill that waits, when the framer ends.
func (f *framer) dropRefill() {
	if f.refill != nil {
		f.refill.finish(refillOutcome{err: errSessionOver})
		f.refill = nil
	}
}

// publishRefill puts the refill that waits into the stream, as one transaction
// at the present position. What goes wrong with the refill itself is told to
// who asked for it; the error returned is one of the stream.
//
// The receiver goes on meanwhile: it fills its queue, then stops receiving, and
// keeps the server patient.
func (f *framer) publishRefill(ctx context.Context) error {
	job := f.refill
	f.refill = nil
	f.source.status.refilling(RefillPublishing)
	began := time.Now()
	version, failed, err := f.frameRefill(ctx, job)
	if err == nil {
		err = f.feed.flush(ctx)
	}
	job.finish(refillOutcome{version: version, took: time.Since(began), err: errors.Join(failed, err)})
	if err != nil {
		return err
	}
	f.source.status.update(func(now *Status) { now.LastMoment = max(now.LastMoment, f.feed.writer.previous()) })
	return nil
}

// frameRefill frames the refill. failed is an error of the refill, after which
// nothing of it counts; err is one of the stream.
//
// The version follows the one before it, so that transactions that are still to
// come keep their own times: the rows were so at a position that is framed.
func (f *framer) frameRefill(ctx context.Context, job *refillJob) (version change.Version, failed, err error) {
	w := f.feed.writer
	lent, err := w.lend(job.relations)
	if err != nil {
		return 0, nil, err
	}
	defer w.takeBack(lent)
	version = w.previous() + 1
	if err := w.begin(ctx, change.Refill, version, job.commitTime, f.position, 0); err != nil {
		return 0, nil, err
	}
	if err := w.scope(ctx, job.scope); err != nil {
		return 0, nil, err
	}
	failed = job.rows.each(f.source.cfg.MaxRowBytes, func(message []byte) error {
		select {
		case <-job.cancelled:
			return context.Canceled
		case <-f.stopping:
			return errRefillStopped
		default:
		}
		err = w.row(ctx, message)
		return err
	})
	switch {
	case err != nil:
		return 0, nil, err
	case failed != nil:
		return 0, failed, w.abandon(ctx)
	}
	return version, nil, w.commit(ctx, f.position)
}

// lend puts descriptions of tables in force beside those of the source, and
// returns the source's for takeBack.
func (w *messageWriter) lend(relations [][]byte) (map[uint32]*writerRelation, error) {
	lent := map[uint32]*writerRelation{}
	for _, raw := range relations {
		rel, err := decodeRelation(raw)
		if err != nil {
			return nil, w.fail(err)
		}
		lent[rel.ID] = w.relations[rel.ID]
		if err := w.relation(raw); err != nil {
			return nil, err
		}
	}
	return lent, nil
}

// takeBack puts the source's descriptions in force again: rows that follow are
// as the source described their tables last, which may have been altered
// before or after the refill was read.
func (w *messageWriter) takeBack(lent map[uint32]*writerRelation) {
	for id, rel := range lent {
		switch {
		case rel == w.relations[id]:
		case rel == nil:
			delete(w.relations, id)
		default:
			rel.message = 0 // the message being built may hold the other one
			w.relations[id] = rel
		}
	}
}

// abandonRefill declares what a killed process left open of a refill abandoned:
// its rows are gone, and it is read anew. It comes before anything else.
func (f *outlet) abandonRefill(ctx context.Context) error {
	if open, ok := f.writer.resumed(); !ok || open.Kind == change.Live {
		return nil
	}
	if err := f.writer.abandon(ctx); err != nil {
		return err
	}
	return f.flush(ctx)
}
