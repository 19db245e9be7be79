package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// defaultDirt is the share of dirty values when a Config names none.
	defaultDirt = 0.02
	// chunkUsers bounds how many users' rows are held in memory at once, about
	// 10 MB with the default of 90 days.
	chunkUsers = 250
	// expiry is how long a recommendation stands.
	expiry = 14 * 24 * time.Hour
	// slateMean is the mean number of recommendations made at once (5 to 20).
	slateMean = 12.5
)

// Config says which history Populate makes. Zero values stand for defaults.
type Config struct {
	// Seed decides everything else; 0 is a seed like any other.
	Seed int64
	// Users registered over twice the length of the history (200).
	Users int
	// Items is the number of destinations (150).
	Items int
	// Days is the length of the history of recommendations, searches and
	// bookings (90).
	Days int
	// RecsPerUserWeek is the mean number of recommendations a user and week (10).
	RecsPerUserWeek float64
	// Now is the end of the history: nothing happens at or after it
	// (2026-01-01T00:00:00Z, so that the rows do not depend on the day).
	Now time.Time
	// Dirt is the share of dirty values; DirtKinds lists the kinds. 0
	// stands for 0.02, a negative number for none.
	Dirt float64
}

func (c Config) withDefaults() Config {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&c.Users, 200)
	def(&c.Items, 150)
	def(&c.Days, 90)
	if c.RecsPerUserWeek == 0 {
		c.RecsPerUserWeek = 10
	}
	if c.Now.IsZero() {
		c.Now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	c.Now = c.Now.UTC().Truncate(time.Millisecond)
	c.Dirt = dirtShare(c.Dirt)
	return c
}

func dirtShare(share float64) float64 {
	if share == 0 {
		return defaultDirt
	}
	return max(0, share)
}

func (c Config) check() error {
	var errs []error
	if c.Users < 0 || c.Items < 1 || c.Days < 1 {
		errs = append(errs, fmt.Errorf("users %d, items %d, days %d: want at least 0, 1 and 1", c.Users, c.Items, c.Days))
	}
	if !(c.RecsPerUserWeek >= 0 && c.RecsPerUserWeek <= 10_000) {
		errs = append(errs, fmt.Errorf("%v recommendations a user and week: want 0 to 10000", c.RecsPerUserWeek))
	}
	if !(c.Dirt <= 1) {
		errs = append(errs, fmt.Errorf("dirt %v: want a share of at most 1", c.Dirt))
	}
	return errors.Join(errs...)
}

// Summary counts what Populate wrote.
type Summary struct {
	// Rows by table.
	Rows map[string]int64
}

// history is the work of one Populate.
type history struct {
	cfg     Config
	items   []item
	weights []float64 // running sums of the items' popularity
	buffers [tableCount][]byte
	counts  [tableCount]int64
}

// Populate fills the tables of Schema, which must be empty, with a history. It
// is one transaction: all of it is there, or nothing.
func Populate(ctx context.Context, conn *pgx.Conn, cfg Config) (Summary, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Summary{}, fmt.Errorf("populate: %w", err)
	}
	h := &history{cfg: cfg}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		h.addItems()
		for i := range cfg.Users {
			h.addUser(i)
			if (i+1)%chunkUsers == 0 {
				if err := h.flush(ctx, conn); err != nil {
					return err
				}
			}
		}
		return h.flush(ctx, conn)
	})
	if err != nil {
		return Summary{}, fmt.Errorf("populate: %w", err)
	}
	// Without statistics the planner takes the tables for empty until
	// autovacuum comes by.
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return Summary{}, fmt.Errorf("populate: %w", err)
	}
	s := Summary{Rows: map[string]int64{}}
	for i, t := range tables {
		s.Rows[t.name] = h.counts[i]
	}
	return s, nil
}

func (h *history) add(table int, r row) {
	h.buffers[table] = r.appendCopy(h.buffers[table])
	h.counts[table]++
}

// flush copies what is buffered, parents first.
func (h *history) flush(ctx context.Context, conn *pgx.Conn) error {
	for i, t := range tables {
		if len(h.buffers[i]) == 0 {
			continue
		}
		if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(h.buffers[i]), t.copySQL()); err != nil {
			return fmt.Errorf("copy into %s: %w", t.name, err)
		}
		h.buffers[i] = h.buffers[i][:0]
	}
	return nil
}

func (h *history) addItems() {
	d := newDraw(h.cfg.Seed, "items", 0, h.cfg.Dirt)
	born := h.cfg.Now.AddDate(-1, 0, 0)
	total := 0.0
	for i := range h.cfg.Items {
		it := d.item(i)
		if i > 0 && d.chance(0.1) { // one destination may be known under two types
			before := h.items[i-1]
			if before.destinationType != "DISTRICT" {
				it.destinationID, it.destinationType = before.destinationID, "DISTRICT"
			}
		}
		weight := math.Pow(float64(i+3), -0.7)
		bookingCount := int(120*weight*d.Float64()) + d.IntN(10)
		created := d.moment(born, h.cfg.Now.AddDate(0, 0, -2*h.cfg.Days))
		h.add(itemVectors, d.itemRow(it, bookingCount, bookingCount*d.between(5, 20), created, d.moment(created, h.cfg.Now)))
		total += weight
		h.items, h.weights = append(h.items, it), append(h.weights, total)
	}
}

// itemFor draws an item by popularity.
func (h *history) itemFor(d *draw) item {
	x := d.Float64() * h.weights[len(h.weights)-1]
	return h.items[min(sort.SearchFloat64s(h.weights, x), len(h.items)-1)]
}

// addUser adds a user with all that is the user's.
func (h *history) addUser(number int) {
	d, now := newDraw(h.cfg.Seed, "user", number, h.cfg.Dirt), h.cfg.Now
	days := time.Duration(h.cfg.Days) * 24 * time.Hour
	id := d.uuid()
	joined := d.moment(now.Add(-2*days), now.Add(-time.Minute))
	changed := d.moment(joined, now)
	missing := min(0.5, 5*h.cfg.Dirt)

	h.add(users, d.userRow(id, d.chance(0.85), now, joined, changed))
	var vectorID any
	if !d.dirty() {
		vector := d.uuid()
		vectorID = vector
		h.add(userVectors, d.vectorRow(vector, id, d.vector(), d.between(1, 12), joined, changed, d.moment(changed, now)))
	}
	if !d.chance(missing) {
		h.add(profiles, d.profileRow(d.uuid(), id, joined, d.moment(joined, now)))
	}
	if !d.chance(missing) {
		h.add(preferences, d.preferencesRow(d.cuid(), id))
	}
	if d.chance(0.8) {
		h.add(consents, d.consentRow(d.uuid(), id, d.moment(joined, now)))
	}
	h.addRequests(d, id, joined)
	h.addFavorites(d, id, joined)

	start := now.Add(-days)
	if joined.After(start) {
		start = joined
	}
	weeks := now.Sub(start).Hours() / (24 * 7) * (0.3 + 1.4*d.Float64())
	for range d.count(weeks * h.cfg.RecsPerUserWeek / slateMean) {
		h.addSlate(d, id, vectorID, d.moment(start, now))
	}
	for range d.count(weeks * 1.5) {
		at, by := d.moment(start, now), any(id)
		if d.chance(0.08) {
			by = nil
		}
		h.add(searches, d.searchRow(d.cuid(), by, at))
	}
	for range d.count(weeks * 0.15) {
		h.addBooking(d, id, d.moment(start, now))
	}
	if d.dirty() { // a booking has no foreign key, and outlives its user
		h.addBooking(d, d.uuid(), d.moment(start, now))
	}
}

// count rounds a mean to a number, up or down by chance.
func (d *draw) count(mean float64) int {
	whole := math.Floor(mean)
	if d.chance(mean - whole) {
		whole++
	}
	return int(whole)
}

func (h *history) addRequests(d *draw, userID string, joined time.Time) {
	if !d.chance(0.03) {
		return
	}
	at := d.moment(joined, h.cfg.Now)
	var processed, completed any
	status := "PENDING"
	if p := at.Add(d.within(48 * time.Hour)); p.Before(h.cfg.Now) {
		processed, status = p, "IN_PROGRESS"
		if c := p.Add(d.within(7 * 24 * time.Hour)); c.Before(h.cfg.Now) {
			completed, status = c, pick(d, []string{"COMPLETED", "COMPLETED", "REJECTED"})
		}
	}
	kind := pick(d, requestTypes)
	if status == "PENDING" && d.chance(0.3) {
		kind = "DATA_DELETION"
	}
	h.add(gdprRequests, d.gdprRow(d.uuid(), userID, kind, status, at, processed, completed))
}

func (h *history) addFavorites(d *draw, userID string, joined time.Time) {
	var seen []string
	for range d.IntN(7) {
		kind, entity := "DESTINATION", h.itemFor(d).destinationID
		if d.chance(0.2) {
			kind, entity = pick(d, otherFavorites), d.cuid()
		}
		id, at := d.cuid(), d.moment(joined, h.cfg.Now)
		if r := d.favoriteRow(id, userID, kind, entity, at); !slices.Contains(seen, entity) {
			h.add(favorites, r)
		}
		seen = append(seen, entity)
	}
}

// addSlate adds the recommendations that one request made, with their fates.
func (h *history) addSlate(d *draw, userID string, vectorID any, at time.Time) {
	for range d.between(5, 20) {
		rec := recommendation{
			id: d.uuid(), userID: userID, vectorID: vectorID, item: h.itemFor(d), noItemID: d.dirty(),
			created: at, expires: at.Add(expiry),
		}
		d.fate(&rec, h.cfg.Now)
		h.add(recommendations, d.recommendationRow(rec))
		if !rec.booked.IsZero() && d.chance(0.7) {
			h.addBooking(d, userID, rec.booked)
		}
	}
}

// Shares of what becomes of a recommendation, in the order none, viewed,
// clicked, booked; the rest is rejected.
const (
	shareNone    = 0.61
	shareViewed  = 0.19
	shareClicked = 0.10
	shareBooked  = 0.065
)

// fate decides what happened to a recommendation before now.
func (d *draw) fate(rec *recommendation, now time.Time) {
	x := d.Float64()
	viewed := rec.created.Add(d.within(3 * 24 * time.Hour))
	clicked := viewed.Add(d.within(time.Hour))
	booked := clicked.Add(d.within(2 * 24 * time.Hour))
	rejected := viewed.Add(d.within(time.Hour))
	stars := d.between(1, 3)
	rated := d.chance(0.3)
	if d.dirty() {
		viewed = rec.created.Add(-d.within(time.Hour))
	}
	var last time.Time
	switch {
	case x < shareNone:
	case x < shareNone+shareViewed:
		rec.viewed, last = viewed, viewed
	case x < shareNone+shareViewed+shareClicked:
		rec.viewed, rec.clicked, last = viewed, clicked, clicked
	case x < shareNone+shareViewed+shareClicked+shareBooked:
		rec.viewed, rec.clicked, rec.booked, last = viewed, clicked, booked, booked
		stars += 2
	default:
		rec.viewed, rec.rejected, last = viewed, rejected, rejected
	}
	for _, at := range []*time.Time{&rec.viewed, &rec.clicked, &rec.booked, &rec.rejected} {
		if !at.Before(now) {
			*at = time.Time{}
		}
	}
	if rated && !last.IsZero() && last.Before(now) && !last.Equal(rec.viewed) {
		rec.rating = stars
	}
	// The nightly job runs at three.
	night := rec.expires.Truncate(24 * time.Hour).Add(3 * time.Hour)
	if night.Before(rec.expires) {
		night = night.Add(24 * time.Hour)
	}
	if night.Before(now) {
		rec.expired = night
	}
}

// addBooking adds a booking as far as it has come by the end of the history.
func (h *history) addBooking(d *draw, userID string, at time.Time) {
	status, updated := pick(d, []string{"DRAFT", "PENDING_PAYMENT", "PENDING"}), at
	paid := at.Add(d.within(2 * time.Hour))
	ended := paid.Add(d.within(30 * 24 * time.Hour))
	outcome := pick(d, []string{"FAILED", "CANCELLED", "COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED"})
	open := d.chance(0.05)
	var confirmed any
	switch {
	case open || !paid.Before(h.cfg.Now):
	case outcome == "FAILED":
		status, updated = outcome, paid
	case ended.Before(h.cfg.Now):
		status, confirmed, updated = outcome, paid, ended
	default:
		status, confirmed, updated = "CONFIRMED", paid, paid
	}
	h.add(bookings, d.bookingRow(d.uuid(), userID, status, confirmed, at, updated))
}
