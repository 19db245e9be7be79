package workload

import (
	"fmt"
	"strings"
	"time"
)

// item is what recommendations need to know of an item.
type item struct {
	id, destinationID, destinationType, name string
}

func (d *draw) item(number int) item {
	it := item{
		id: d.cuid(), destinationID: fmt.Sprintf("dest-%04d-%04x", number, d.IntN(1<<16)),
		destinationType: pick(d, itemTypes),
	}
	it.name = pick(d, placeHeads) + pick(d, placeTails)
	return it
}

// itemRow is an item's row; counts say how popular it is already.
func (d *draw) itemRow(it item, bookingCount, searchCount int, created, updated time.Time) row {
	country := any(pick(d, itemCountries))
	if d.dirty() {
		country = d.maybe(0.7, pick(d, dirtyItemCountries))
	}
	coordinates := fmt.Sprintf(`{"lat": %.4f, "lng": %.4f}`, d.Float64()*140-70, d.Float64()*360-180)
	seasons := fmt.Sprintf(`{"high": [%d, %d], "low": [%d]}`, d.between(5, 7), d.between(8, 9), d.between(1, 3))
	popularity := d.measure(popularityOf(bookingCount))
	return row{
		it.id, it.destinationID, it.destinationType, it.name, country, d.maybe(0.9, coordinates),
		d.vectorJSON(d.vector()), d.between(1, 4), popularity, bookingCount, searchCount, d.maybe(0.5, seasons),
		created, updated, d.maybe(0.8, updated),
	}
}

// popularityOf is between 0 and 100, and what the booking of an item makes it
// anew.
func popularityOf(bookingCount int) float64 {
	return 100 * float64(bookingCount) / float64(bookingCount+50)
}

// userRow is a user's row, with a secret in each column that must stay.
func (d *draw) userRow(id string, onboarded bool, now, created, updated time.Time) row {
	first, last := pick(d, firstNames), pick(d, lastNames)
	tail := strings.ReplaceAll(id, "-", "") // unique, whatever the number of users
	category := "LEISURE"
	if d.chance(0.2) {
		category = "BUSINESS"
	}
	role := "USER"
	if x := d.Float64(); x < 0.01 {
		role = "ADMIN"
	} else if x < 0.03 {
		role = "MODERATOR"
	}
	var onboardedAt any
	if onboarded {
		onboardedAt = created.Add(d.within(time.Hour))
	}
	return row{
		id, tail + "@" + secretMark + ".example", "$2b$10$" + secretMark + d.cuid(),
		secretMark + "-" + tail, first + " " + secretMark, last + " " + secretMark,
		d.maybe(0.6, fmt.Sprintf("%s%06d", secretPhone, d.IntN(1e6))), d.dateOfBirth(now), d.nationality(),
		category, d.chance(0.8), role, onboarded, onboardedAt, d.chance(0.02), created, updated,
	}
}

func (d *draw) vectorRow(id, userID string, v [8]float64, version int, created, updated, used time.Time) row {
	source := "onboarding"
	if version > 1 {
		source = pick(d, []string{"behavior", "hybrid"})
	}
	segment := pick(d, segments)
	confidence := d.Float64()
	all := fmt.Sprintf(`[{"name": %q, "confidence": %.3f}]`, segment, confidence)
	return row{
		id, userID, d.vectorJSON(v), version, source, d.maybe(0.92, d.words(segment)),
		d.maybe(0.92, d.measure(confidence)), d.maybe(0.8, all), d.IntN(200), d.maybe(0.9, used),
		d.maybe(0.7, updated), created, updated,
	}
}

func (d *draw) profileRow(id, userID string, created, updated time.Time) row {
	completed := d.chance(0.85)
	step := 9
	if !completed {
		step = d.IntN(9)
	}
	types := any(some(d, travelTypes, 1, 4))
	if d.dirty() {
		types = d.maybe(0.5, []string{})
	}
	children := d.chance(0.3)
	var ages any
	if children {
		ages = some(d, []string{"0-2", "3-6", "7-12", "13-17"}, 1, 3)
	}
	return row{
		id, userID, completed, step, types, d.budgetJSON(true), d.maybe(0.85, pick(d, flexibilities)),
		d.maybe(0.85, pick(d, activities)), d.maybe(0.85, pick(d, accommodations)), children, ages,
		d.maybe(0.8, some(d, climates, 0, 3)), d.maybe(0.7, pick(d, risks)), some(d, groups, 1, 2),
		d.maybe(0.4, some(d, airlines, 1, 3)), some(d, diets, 0, 1),
		[]string{},
		some(d, languages, 1, 3),
		d.maybe(0.3, fmt.Sprintf(`{"program": "miles", "tier": %d}`, d.between(1, 4))), d.maybe(0.5, d.chance(0.4)),
		d.maybe(0.6, d.between(2, 21)), fmt.Sprintf(`{"name": "%s", "phone": "%s000000"}`, secretMark, secretPhone),
		d.maybe(0.2, "allergic to "+secretMark), created, updated,
	}
}

func (d *draw) preferencesRow(id, userID string) row {
	return row{
		id, userID, d.budgetJSON(false), d.maybe(0.8, d.words(pick(d, cabins))), d.maybe(0.7, pick(d, airports)),
		"EUR", pick(d, languages), d.chance(0.4),
	}
}

// recommendation is one with what happened to it so far.
type recommendation struct {
	id, userID      string
	vectorID        any
	item            item
	noItemID        bool // the row names the destination but not the item
	created         time.Time
	expires         time.Time
	viewed, clicked time.Time // zero: it did not
	booked          time.Time
	rejected        time.Time
	rating          any
	expired         time.Time // when the nightly job found it
}

// recommendationRow is the row of rec as of its last moment.
func (d *draw) recommendationRow(rec recommendation) row {
	status, updated := "GENERATED", rec.created
	for _, step := range []struct {
		at     time.Time
		status string
	}{
		{rec.viewed, "VIEWED"},
		{rec.clicked, "CLICKED"},
		{rec.booked, "BOOKED"},
		{rec.rejected, "REJECTED"},
		{rec.expired, "EXPIRED"},
	} {
		if !step.at.IsZero() {
			status = step.status
			if step.at.After(updated) {
				updated = step.at
			}
		}
	}
	itemID := any(rec.item.id)
	if rec.noItemID {
		itemID = nil
	}
	confidence := d.maybe(0.9, d.measure(d.Float64()))
	reasons := fmt.Sprintf(`["segment", %q]`, pick(d, climates))
	return row{
		rec.id, rec.userID, rec.vectorID, itemID, rec.item.destinationID, rec.item.name,
		rec.item.destinationType, 0.2 + 0.8*d.Float64(), confidence, d.maybe(0.8, reasons), d.words(pick(d, contexts)),
		d.maybe(0.3, `{"page": 1}`), status, orNull(rec.viewed), orNull(rec.clicked), orNull(rec.booked),
		orNull(rec.rejected), rec.rating, rec.expires, status != "EXPIRED" && status != "REJECTED", rec.created, updated,
	}
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// searchRow is a search; userID is nil for a session that is not logged in.
func (d *draw) searchRow(id string, userID any, at time.Time) row {
	departure := at.Truncate(24*time.Hour).AddDate(0, 0, d.between(1, 180))
	if d.dirty() {
		departure = departure.AddDate(0, -d.between(8, 24), 0)
	}
	return row{
		id, userID, "session-" + d.cuid(), d.words(pick(d, airports)), pick(d, airports), departure,
		d.maybe(0.7, departure.AddDate(0, 0, d.between(1, 21))), d.passengersJSON(),
		d.maybe(0.85, d.words(pick(d, cabins))), at, d.maybe(0.9, d.IntN(300)),
	}
}

// bookingRow is a booking; confirmed is nil until it is paid.
func (d *draw) bookingRow(id, userID, status string, confirmed any, created, updated time.Time) row {
	currency := "EUR"
	if d.dirty() {
		currency = pick(d, currencies)
	}
	data := fmt.Sprintf(`{"travellers": %d, "refundable": %t}`, d.between(1, 4), d.chance(0.5))
	return row{
		id, userID, pick(d, bookingTypes), "REF-" + strings.ToUpper(strings.ReplaceAll(id, "-", ""))[:16],
		status, cents(d.between(4_000, 400_000)), currency, data, confirmed,
		d.maybe(0.8, "pi_"+secretMark+"_"+d.cuid()), created, updated,
	}
}

func (d *draw) favoriteRow(id, userID, kind, entity string, at time.Time) row {
	return row{id, userID, kind, entity, d.maybe(0.2, "for the summer"), at, at}
}

func (d *draw) consentRow(id, userID string, at time.Time) row {
	return row{
		id, userID, d.chance(0.6), d.chance(0.4), true, d.chance(0.6), at,
		d.maybe(0.9, fmt.Sprintf("%s%d", secretAddress, d.IntN(256))),
	}
}

func (d *draw) gdprRow(id, userID, kind, status string, requested time.Time, processed, completed any) row {
	return row{
		id, userID, kind, status, d.maybe(0.5, "because "+secretMark), d.maybe(0.2, "seen, "+secretMark),
		requested, processed, completed,
	}
}
