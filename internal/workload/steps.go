package workload

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// step is a transaction that the application runs, and how often among others.
type step struct {
	name   string
	weight int
	do     func(a *actor, ctx context.Context) error
}

// steps by weight. What has nothing to act on shows recommendations instead.
var steps = []step{
	{"sign up", 40, (*actor).signUp},
	{"drift vector", 60, (*actor).driftVector},
	{"use vector", 180, (*actor).useVector},
	{"recommend", 80, (*actor).recommend},
	{"view", 140, (*actor).view},
	{"click", 80, (*actor).click},
	{"book", 55, (*actor).book},
	{"reject", 30, (*actor).reject},
	{"expire", 8, (*actor).expire},
	{"search", 120, (*actor).search},
	{"search as nobody", 20, (*actor).searchAsNobody},
	{"adopt search", 12, (*actor).adoptSearch},
	{"move booking on", 60, (*actor).moveBookingOn},
	{"book freely", 20, (*actor).bookFreely},
	{"add favourite", 40, (*actor).addFavorite},
	{"remove favourite", 20, (*actor).removeFavorite},
	{"rename favourite", 5, (*actor).renameFavorite},
	{"change preferences", 30, (*actor).changePreferences},
	{"change profile", 30, (*actor).changeProfile},
	{"change user", 25, (*actor).changeUser},
	{"change nothing", 10, (*actor).changeNothing},
	{"delete user", 7, (*actor).deleteUser},
	{"consent", 20, (*actor).consent},
	{"request", 14, (*actor).request},
	{"add item", 7, (*actor).addItem},
	{"sync item", 12, (*actor).syncItem},
	{"delete item", 4, (*actor).deleteItem},
	{"replace row", 10, (*actor).replaceRow},
	{"bury search", 8, (*actor).burySearch},
	{"raise search", 8, (*actor).raiseSearch},
	{"roll back", 18, (*actor).rollBack},
	{"savepoints", 18, (*actor).savepoints},
}

// The first steps on an empty database, without which the others have nothing
// to act on.
var firstItem, firstUser = step{"add item", 0, (*actor).addItem}, step{"sign up", 0, (*actor).signUp}

func (a *actor) choose() step {
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	x := a.IntN(total)
	if len(a.items)+len(a.own) == 0 {
		return firstItem
	}
	if len(a.people) == 0 {
		return firstUser
	}
	for _, s := range steps {
		if x -= s.weight; x < 0 {
			return s
		}
	}
	return firstUser // not reached: x is below the sum of the weights
}

func (a *actor) anyone() *person { return pick(a.draw, a.people) }

// someone draws a user who has what is asked, nil when twenty have not.
func (a *actor) someone(has func(*person) bool) *person {
	for range 20 {
		if p := a.anyone(); has(p) {
			return p
		}
	}
	return nil
}

// popular draws an item, much more often one of the first.
func (a *actor) popular() item {
	if len(a.own) > 0 && (len(a.items) == 0 || a.chance(0.1)) {
		return pick(a.draw, a.own)
	}
	x := a.Float64()
	return a.items[int(x*x*float64(len(a.items)))]
}

func (a *actor) signUp(ctx context.Context) error {
	p := &person{id: a.uuid(), vectorID: a.uuid(), vector: a.vector(), version: 1}
	err := a.insert(ctx, users, a.userRow(p.id, true, a.now, a.now, a.now))
	if err != nil {
		return err
	}
	if err := a.insert(ctx, userVectors, a.vectorRow(p.vectorID, p.id, p.vector, 1, a.now, a.now, a.now)); err != nil {
		return err
	}
	if a.chance(0.9) {
		p.profileID = a.uuid()
		if err := a.insert(ctx, profiles, a.profileRow(p.profileID, p.id, a.now, a.now)); err != nil {
			return err
		}
	}
	if a.chance(0.8) {
		p.prefsID = a.cuid()
		if err := a.insert(ctx, preferences, a.preferencesRow(p.prefsID, p.id)); err != nil {
			return err
		}
	}
	if a.chance(0.7) {
		p.consentID = a.uuid()
		if err := a.insert(ctx, consents, a.consentRow(p.consentID, p.id, a.now)); err != nil {
			return err
		}
	}
	a.people = append(a.people, p)
	return nil
}

func hasVector(p *person) bool { return p.vectorID != "" }

// driftVector moves a vector, or makes the one that is missing.
func (a *actor) driftVector(ctx context.Context) error {
	p := a.anyone()
	p.vector, p.version = a.drift(p.vector), p.version+1
	if p.vectorID == "" {
		p.vectorID = a.uuid()
		return a.insert(ctx, userVectors, a.vectorRow(p.vectorID, p.id, p.vector, p.version, a.now, a.now, a.now))
	}
	return a.exec(ctx, `UPDATE user_vectors SET vector = $2, version = $3, source = 'behavior', "primarySegment" = $4,
		"segmentConfidence" = $5, "lastSegmentUpdate" = $6, "updatedAt" = $6 WHERE id = $1`, p.vectorID,
		a.vectorJSON(p.vector), p.version, a.words(pick(a.draw, segments)), a.measure(a.Float64()), a.now)
}

// useVector is the update that scoring makes and that changes no feature.
func (a *actor) useVector(ctx context.Context) error {
	p := a.someone(hasVector)
	if p == nil {
		return a.recommend(ctx)
	}
	return a.exec(ctx, `UPDATE user_vectors SET "usageCount" = "usageCount" + 1, "lastUsedAt" = $2 WHERE id = $1`,
		p.vectorID, a.now)
}

// recommend makes a slate of 5 to 20. Some offers expire within seconds, so
// that the expiry job has work in a short run.
func (a *actor) recommend(ctx context.Context) error {
	p := a.anyone()
	expires := a.now.Add(expiry)
	if a.chance(0.2) {
		expires = a.now.Add(time.Duration(a.between(200, 3_000)) * time.Millisecond)
	}
	var rows []row
	for range a.between(5, 20) {
		rec := &recommendation{id: a.uuid(), userID: p.id, item: a.popular(), noItemID: a.dirty(), created: a.now, expires: expires}
		if p.vectorID != "" {
			rec.vectorID = p.vectorID
		}
		p.recs = append(p.recs, rec)
		rows = append(rows, a.recommendationRow(*rec))
	}
	p.recs = p.recs[max(0, len(p.recs)-mostRecs):]
	return a.insert(ctx, recommendations, rows...)
}

// recIn draws a recommendation in a state, nil when none is found.
func (a *actor) recIn(state func(*recommendation) bool) (*person, *recommendation) {
	p := a.someone(func(p *person) bool { return slices.ContainsFunc(p.recs, state) })
	if p == nil {
		return nil, nil
	}
	i := a.IntN(len(p.recs))
	for !state(p.recs[i]) {
		i = (i + 1) % len(p.recs)
	}
	return p, p.recs[i]
}

func unseen(r *recommendation) bool { return r.viewed.IsZero() && r.expired.IsZero() }

func seen(r *recommendation) bool {
	return !r.viewed.IsZero() && r.clicked.IsZero() && r.rejected.IsZero() && r.expired.IsZero()
}

func clicked(r *recommendation) bool {
	return !r.clicked.IsZero() && r.booked.IsZero() && r.rejected.IsZero() && r.expired.IsZero()
}

// view shows one to five recommendations of a user at once.
func (a *actor) view(ctx context.Context) error {
	p, rec := a.recIn(unseen)
	if rec == nil {
		return a.recommend(ctx)
	}
	most := a.between(1, 5)
	for _, rec := range p.recs {
		if most == 0 {
			return nil
		}
		if !unseen(rec) {
			continue
		}
		most--
		rec.viewed = a.now
		if a.dirty() {
			rec.viewed = rec.created.Add(-time.Minute)
		}
		if err := a.exec(ctx, `UPDATE recommendations SET status = 'VIEWED', "viewedAt" = $2, "updatedAt" = $3
			WHERE id = $1`, rec.id, rec.viewed, a.now); err != nil {
			return err
		}
	}
	return nil
}

func (a *actor) click(ctx context.Context) error {
	_, rec := a.recIn(seen)
	if rec == nil {
		return a.view(ctx)
	}
	rec.clicked = a.now
	return a.exec(ctx, `UPDATE recommendations SET status = 'CLICKED', "clickedAt" = $2, "userRating" = $3,
		"updatedAt" = $2 WHERE id = $1`, rec.id, a.now, a.maybe(0.2, a.between(1, 5)))
}

// book books what was clicked. The item's counter is a hot row, and only the
// last statement touches it, so that connections wait for one another briefly
// and never in a circle.
func (a *actor) book(ctx context.Context) error {
	p, rec := a.recIn(clicked)
	if rec == nil {
		return a.click(ctx)
	}
	rec.booked = a.now
	if err := a.exec(ctx, `UPDATE recommendations SET status = 'BOOKED', "bookedAt" = $2, "userRating" = $3,
		"updatedAt" = $2 WHERE id = $1`, rec.id, a.now, a.maybe(0.4, a.between(3, 5))); err != nil {
		return err
	}
	if err := a.addBooking(ctx, p, "CONFIRMED"); err != nil {
		return err
	}
	return a.exec(ctx, `UPDATE item_vectors SET "bookingCount" = "bookingCount" + 1,
		"popularityScore" = 100.0 * ("bookingCount" + 1) / ("bookingCount" + 51), "updatedAt" = $2 WHERE id = $1`,
		rec.item.id, a.now)
}

func (a *actor) reject(ctx context.Context) error {
	_, rec := a.recIn(seen)
	if rec == nil {
		return a.view(ctx)
	}
	rec.rejected = a.now
	return a.exec(ctx, `UPDATE recommendations SET status = 'REJECTED', "rejectedAt" = $2, "userRating" = $3,
		"isActive" = false, "updatedAt" = $2 WHERE id = $1`, rec.id, a.now, a.maybe(0.4, a.between(1, 3)))
}

// expire is the nightly job, for this connection's users: EXPIRED whatever
// happened before.
func (a *actor) expire(ctx context.Context) error {
	ids := make([]string, len(a.people))
	for i, p := range a.people {
		ids[i] = p.id
		for _, rec := range p.recs {
			if rec.expires.Before(a.now) {
				rec.expired = a.now
			}
		}
	}
	return a.exec(ctx, `UPDATE recommendations SET status = 'EXPIRED', "isActive" = false, "updatedAt" = $2
		WHERE "userId" = ANY($1::text[]) AND "expiresAt" < $2 AND status <> 'EXPIRED'`, ids, a.now)
}

func (a *actor) addItem(ctx context.Context) error {
	a.itemCount++
	it := a.item(a.itemCount)
	it.destinationID += "-" + a.cuid()
	a.own = append(a.own, it)
	return a.insert(ctx, itemVectors, a.itemRow(it, 0, 0, a.now, a.now))
}

func (a *actor) syncItem(ctx context.Context) error {
	return a.exec(ctx, `UPDATE item_vectors SET vector = $2, version = version + 1, "searchCount" = "searchCount" + $3,
		"lastSyncedAt" = $4, "updatedAt" = $4 WHERE id = $1`, a.popular().id, a.vectorJSON(a.vector()), a.between(1, 9), a.now)
}

// deleteItem deletes an item that only this connection recommends; its
// recommendations keep their destination.
func (a *actor) deleteItem(ctx context.Context) error {
	if len(a.own) == 0 || len(a.own)+len(a.items) == 1 {
		return a.addItem(ctx)
	}
	i := a.IntN(len(a.own))
	id := a.own[i].id
	a.own = slices.Delete(a.own, i, i+1)
	return a.exec(ctx, `DELETE FROM item_vectors WHERE id = $1`, id)
}

// rollBack does a good deal and takes all of it back.
func (a *actor) rollBack(ctx context.Context) error {
	p, id := a.anyone(), a.uuid()
	if err := a.insert(ctx, users, a.userRow(id, false, a.now, a.now, a.now)); err != nil {
		return err
	}
	if err := a.insert(ctx, searches, a.searchRow(a.cuid(), p.id, a.now), a.searchRow(a.cuid(), id, a.now)); err != nil {
		return err
	}
	if err := a.exec(ctx, `DELETE FROM users WHERE id = $1`, p.id); err != nil {
		return err
	}
	return errRollback
}

// savepoints keeps what stands before and after a part that is taken back.
func (a *actor) savepoints(ctx context.Context) error {
	p := a.anyone()
	for i := range 4 {
		keep := i%2 == 0
		if err := a.exec(ctx, fmt.Sprintf("SAVEPOINT s%d", i)); err != nil {
			return err
		}
		r := a.searchRow(a.cuid(), p.id, a.now)
		if err := a.insert(ctx, searches, r); err != nil {
			return err
		}
		if keep {
			p.remember(r)
			continue
		}
		if err := a.exec(ctx, `DELETE FROM favorites WHERE "userId" = $1`, p.id); err != nil {
			return err
		}
		if err := a.exec(ctx, fmt.Sprintf("ROLLBACK TO SAVEPOINT s%d", i)); err != nil {
			return err
		}
	}
	return nil
}
