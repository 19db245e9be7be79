package cdc

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// shortSession is the life of a session below which its end is no news.
const shortSession = 100 * time.Millisecond

// goingDownError says that the server is shutting down.
type goingDownError struct{ err error }

func (e *goingDownError) Error() string { return e.err.Error() }
func (e *goingDownError) Unwrap() error { return e.err }

// watch looks at the source again and again while it is streamed: at
// everything each Config.CheckEvery, with a warning of what mends it, and more
// often at how much log the server keeps for us. It returns an error only when
// the server is going down, since a sender that waits for our confirmation would
// keep it from that, and when the publication leaves changes out or may have left
// some out, which are lost.
//
// Its session stays open between the looks: a fast shutdown ends it, so that we
// hear of one at once even while the stream takes nothing. A smart shutdown does
// not end sessions but takes no new ones: that is why each check makes a new one.
func (s *Source) watch(ctx context.Context) error {
	look := min(pressureEvery, s.cfg.CheckEvery)
	gauge := new(pressureGauge)
	var conn *pgx.Conn
	drop := func() {
		if conn != nil {
			closeConn(conn.PgConn())
			conn = nil
		}
	}
	defer drop()
	check := time.Now().Add(s.cfg.CheckEvery) // the start has checked already
	var opened time.Time
	for {
		if conn == nil {
			var err error
			conn, err = connect(ctx, s.cfg.DatabaseURL)
			opened = time.Now()
			switch {
			case ctx.Err() != nil:
				return nil
			case sqlState(err) == stateCannotConnectNow:
				return &goingDownError{err}
			case err != nil:
				conn = nil
				s.cfg.Logger.Warn("source could not be checked", "error", err)
			}
		}
		if conn != nil {
			due := !time.Now().Before(check)
			err := s.look(ctx, conn, gauge, due)
			switch {
			case ctx.Err() != nil:
				return nil
			case publicationFault(err):
				return err
			case err != nil:
				s.cfg.Logger.Warn("source could not be checked", "error", err)
				if conn.IsClosed() {
					drop()
				}
			}
			if due {
				check = time.Now().Add(s.cfg.CheckEvery)
			}
		}
		if !pauseOrEnd(ctx, conn, look) {
			return nil
		}
		// Sessions that end at once are not made again without pause.
		if conn != nil && conn.IsClosed() && time.Since(opened) < shortSession && !pauseOrEnd(ctx, nil, look) {
			return nil
		}
		if conn != nil && (conn.IsClosed() || !time.Now().Before(check)) {
			drop()
		}
	}
}

// look measures the pressure, and checks everything when that is due.
func (s *Source) look(ctx context.Context, conn *pgx.Conn, gauge *pressureGauge, all bool) error {
	if err := s.measure(ctx, conn, gauge); err != nil || !all {
		return err
	}
	found, err := inspect(ctx, conn, s.cfg)
	if err != nil {
		return err
	}
	s.report(found.Faults)
	if found.Publication == nil {
		// Newer servers pass over changes while it is missing, with a warning.
		return &PublicationMissingError{Publication: s.cfg.Publication}
	}
	if len(found.Tables) == len(s.cfg.Definition.Tables) {
		if what := found.Publication.lacks(found.Tables); what != "" {
			return &PublicationNarrowError{Publication: s.cfg.Publication, Lacks: what}
		}
	} else if err := found.fatal(); err != nil {
		return err // a table or column that the definition names is gone
	}
	if _, err := s.checkPublicationMark(ctx, conn, found); err != nil {
		return err
	}
	return s.markSlot(ctx, found.Slot)
}

// publicationFault says whether changes may have been left out of the stream,
// so that the feed must not go on.
func publicationFault(err error) bool {
	var missing *PublicationMissingError
	var narrow *PublicationNarrowError
	var changed *PublicationChangedError
	var faults *FaultsError
	return errors.As(err, &missing) || errors.As(err, &narrow) || errors.As(err, &changed) || errors.As(err, &faults)
}

// pauseOrEnd waits, and returns early when the session ends. It returns false
// when ctx has ended. Without a session it only waits.
func pauseOrEnd(ctx context.Context, conn *pgx.Conn, d time.Duration) bool {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for conn != nil && wait.Err() == nil {
		// Nobody notifies us: what comes is the end, or the wait's.
		if err := conn.PgConn().WaitForNotification(wait); err != nil {
			if !pgconn.Timeout(err) && wait.Err() == nil {
				return ctx.Err() == nil // the session has ended
			}
			break
		}
	}
	<-wait.Done()
	return ctx.Err() == nil
}
