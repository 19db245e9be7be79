package cdc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pressureEvery is how often the server is asked how much log it keeps for
	// our slot, at most; Config.CheckEvery when that is shorter.
	pressureEvery = 10 * time.Second
	// pressureTimeout bounds the question.
	pressureTimeout = 30 * time.Second
	// growthWindow is how far back the growth of the kept log is measured. A slot
	// lets go in steps, at the server's snapshots of running transactions (every
	// 15 s of a busy server) and checkpoints, which a shorter one would take for
	// changes of the rate.
	growthWindow = 5 * time.Minute
	// growthLeast is the least time between two measures that a rate is made of.
	growthLeast = 5 * time.Second
	// pressureAgain is the least time between two warnings that say the same.
	pressureAgain = 10 * time.Minute
	// pressureSoon is how much time is left, at the present rate, when it is
	// warned of.
	pressureSoon = time.Hour
	// pressureKept is how much kept log is warned of where the server has no
	// limit: its disk is the limit then, which cannot be seen from here.
	pressureKept = 8 << 30
)

// Pressure is how much of its log (WAL) the server keeps for our slot, and for
// how long it will.
type Pressure struct {
	// Measured is when the server was asked, zero when it was not yet.
	Measured time.Time
	// KeptBytes is the log from the slot's restart_lsn to its end.
	KeptBytes uint64
	// Limited tells whether max_slot_wal_keep_size is set. LimitBytes is its
	// value, and SafeBytes how much more the server may write before it gives the
	// slot up (safe_wal_size).
	Limited    bool
	LimitBytes uint64
	SafeBytes  uint64
	// WALStatus is the server's word: reserved, extended, unreserved, lost.
	WALStatus string
	// Growth is by how much KeptBytes has grown over the last minutes, in bytes a
	// second; 0 when it has not.
	Growth float64
	// Left is the time until the limit is reached at the rate of Growth, 0 when
	// there is no limit or no growth.
	Left time.Duration
	// Held tells that it is not us who hold the log: what we have confirmed is
	// far ahead of what the slot keeps, as it is with a transaction that is left
	// open.
	Held bool
	// Warning is what the operator is told, "" when all is well.
	Warning string
}

// heldBytes is by how much the slot's restart_lsn may stay behind what we have
// confirmed before a transaction left open is suspected: PostgreSQL moves it
// with each checkpoint, which come after max_wal_size (1 GB) at most.
const heldBytes = 2 << 30

// keptSample is one measure of the kept log.
type keptSample struct {
	at   time.Time
	kept uint64
}

// pressureGauge turns measures into Pressure. It is for one goroutine.
type pressureGauge struct {
	samples []keptSample // of the last growthWindow, oldest first
	warned  time.Time
	level   int
}

// Levels of pressure.
const (
	pressureNone = iota
	pressureWarn
	pressureHigh
)

// walKept is what the server says about our slot.
type walKept struct {
	Kept, Unconfirmed uint64 // bytes behind the end of the log
	Status            string
	Safe              *int64 // NULL without a limit, and of a lost slot
	LimitMB           int64  // -1 is no limit
}

// readKept asks the server how much log it keeps for the slot. found is false
// when there is no slot. Every role may ask.
func readKept(ctx context.Context, conn queryer, slot string) (k walKept, found bool, err error) {
	const sql = `SELECT greatest(pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), 0)::bigint,
			greatest(pg_catalog.pg_wal_lsn_diff(w.lsn, s.confirmed_flush_lsn), 0)::bigint,
			coalesce(s.wal_status, ''), s.safe_wal_size,
			(SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size')
		FROM pg_catalog.pg_replication_slots s, (SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
			THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) w
		WHERE s.slot_name = $1`
	var kept, unconfirmed *int64 // NULL of a slot that is lost
	err = conn.QueryRow(ctx, sql, slot).Scan(&kept, &unconfirmed, &k.Status, &k.Safe, &k.LimitMB)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, false, nil
	}
	if err != nil {
		return k, false, fmt.Errorf("read how much log replication slot %s keeps: %w", slot, err)
	}
	if kept != nil {
		k.Kept = uint64(*kept)
	}
	if unconfirmed != nil {
		k.Unconfirmed = uint64(*unconfirmed)
	}
	return k, true, nil
}

// take makes Pressure of a measure.
func (g *pressureGauge) take(now time.Time, k walKept) Pressure {
	p := Pressure{Measured: now, KeptBytes: k.Kept, WALStatus: k.Status}
	if k.LimitMB >= 0 {
		p.Limited, p.LimitBytes = true, uint64(k.LimitMB)<<20
		if k.Safe != nil && *k.Safe > 0 {
			p.SafeBytes = uint64(*k.Safe)
		}
	}
	first := 0
	for first < len(g.samples) && now.Sub(g.samples[first].at) > growthWindow {
		first++
	}
	// At most growthWindow / pressureEvery of them, or a few more of a short
	// Config.CheckEvery.
	g.samples = append(g.samples[:0], g.samples[first:]...)
	if len(g.samples) > 0 {
		if past := g.samples[0]; now.Sub(past.at) >= growthLeast && k.Kept > past.kept {
			p.Growth = float64(k.Kept-past.kept) / now.Sub(past.at).Seconds()
		}
	}
	g.samples = append(g.samples, keptSample{now, k.Kept})
	if p.Limited && p.Growth > 0 {
		// Not above what a Duration holds.
		p.Left = time.Duration(min(float64(p.SafeBytes)/p.Growth, (10*365*24*time.Hour).Seconds()) * float64(time.Second))
	}
	p.Held = k.Kept > k.Unconfirmed && k.Kept-k.Unconfirmed > heldBytes
	return p
}

// level says how bad it is.
func (p *Pressure) level() int {
	switch {
	case p.WALStatus == "unreserved" || p.WALStatus == "lost":
		return pressureHigh
	case p.Limited && p.SafeBytes < p.LimitBytes/10:
		return pressureHigh
	case p.Limited && p.KeptBytes > p.LimitBytes/2:
		return pressureWarn
	// A healthy slot keeps some log too, which grows between two checkpoints:
	// time alone says nothing before a good part is used.
	case p.Limited && p.Left > 0 && p.Left < pressureSoon && p.KeptBytes > p.LimitBytes/4:
		return pressureWarn
	case !p.Limited && p.KeptBytes > pressureKept:
		return pressureWarn
	}
	return pressureNone
}

// warning tells the operator what comes and what helps. parked says that the
// stream takes nothing more.
func (p *Pressure) warning(slot string, parked bool) string {
	if p.level() == pressureNone {
		return ""
	}
	what := fmt.Sprintf("the server keeps %s of its log for replication slot %s", byteSize(float64(p.KeptBytes)), slot)
	switch {
	case p.WALStatus == "lost":
		return what + ", but has given it up"
	case !p.Limited:
		what += ", without a limit, until its disk is full"
		if p.Growth > 0 {
			what += fmt.Sprintf("; it grows by %s an hour", byteSize(p.Growth*time.Hour.Seconds()))
		}
	case p.WALStatus == "unreserved":
		what += fmt.Sprintf(", more than max_slot_wal_keep_size (%s): it may give the slot up at its next checkpoint", byteSize(float64(p.LimitBytes)))
	default:
		what += fmt.Sprintf(" and may write %s more before it gives it up (max_slot_wal_keep_size is %s)", byteSize(float64(p.SafeBytes)), byteSize(float64(p.LimitBytes)))
		if p.Left > 0 {
			what += fmt.Sprintf(", in about %s at %s an hour", p.Left.Round(leftRound(p.Left)), byteSize(p.Growth*time.Hour.Seconds()))
		}
	}
	switch {
	case p.Held:
		what += "; what holds it is a transaction left open: end the oldest of pg_stat_activity by xact_start, or of pg_prepared_xacts"
	case parked:
		what += "; the stream takes nothing more: free disk in the data directory, or mend what keeps the store from applying"
	default:
		what += "; let ingest catch up"
	}
	if p.Limited {
		what += ", or raise max_slot_wal_keep_size and SELECT pg_reload_conf()"
	}
	return what
}

func leftRound(d time.Duration) time.Duration {
	if d > time.Hour {
		return time.Minute
	}
	return time.Second
}

// byteSize renders a size for a person.
func byteSize(n float64) string {
	unit := 0
	for n >= 1024 && unit < 4 {
		n /= 1024
		unit++
	}
	digits := 0
	if n < 10 && unit > 0 {
		digits = 2
	}
	return fmt.Sprintf("%.*f %s", digits, n, [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// measure asks the server how much log it keeps, shows it, and warns.
func (s *Source) measure(ctx context.Context, conn queryer, g *pressureGauge) error {
	ctx, cancel := context.WithTimeout(ctx, pressureTimeout)
	defer cancel()
	kept, found, err := readKept(ctx, conn, s.cfg.Slot)
	if err != nil || !found {
		return err // of a slot that is gone the stream hears by itself
	}
	p := g.take(time.Now(), kept)
	var parked bool
	s.status.update(func(now *Status) {
		parked = now.Parked
		p.Warning = p.warning(s.cfg.Slot, parked)
		now.Pressure = p
	})
	level := p.level()
	now := p.Measured
	switch {
	case level == pressureNone && g.level > pressureNone:
		s.cfg.Logger.Info("the source's log is let go again", "slot", s.cfg.Slot, "kept_bytes", p.KeptBytes)
	case level > g.level || level > pressureNone && now.Sub(g.warned) >= pressureAgain:
		g.warned = now
		s.cfg.Logger.Warn("the source's log fills up", "slot", s.cfg.Slot, "warning", p.Warning,
			"kept_bytes", p.KeptBytes, "safe_bytes", p.SafeBytes, "bytes_per_hour", int64(p.Growth*time.Hour.Seconds()),
			"left", p.Left.Round(time.Second), "wal_status", p.WALStatus, "confirmed_lsn", s.Status().DurableLSN.String())
	}
	g.level = level
	return nil
}

// orInfinite is a number that a limit gives, +Inf without one, NaN when the
// server was not asked yet.
func (p *Pressure) orInfinite(has bool, n float64) float64 {
	switch {
	case p.Measured.IsZero():
		return math.NaN()
	case !has:
		return math.Inf(1)
	}
	return n
}
