package workload

import (
	"context"
	"slices"
)

// The steps that a user takes apart from recommendations.

func (p *person) remember(search row) {
	p.searches = append(p.searches, search)
	p.searches = p.searches[max(0, len(p.searches)-mostSearches):]
}

func (a *actor) search(ctx context.Context) error {
	p := a.anyone()
	r := a.searchRow(a.cuid(), p.id, a.now)
	p.remember(r)
	return a.insert(ctx, searches, r)
}

func (a *actor) searchAsNobody(ctx context.Context) error {
	id := a.cuid()
	a.anonymous = append(a.anonymous, id)
	return a.insert(ctx, searches, a.searchRow(id, nil, a.now))
}

// adoptSearch gives a search of nobody to the user who logs in: the row changes
// its entity.
func (a *actor) adoptSearch(ctx context.Context) error {
	if len(a.anonymous) == 0 {
		return a.searchAsNobody(ctx)
	}
	last := len(a.anonymous) - 1
	id := a.anonymous[last]
	a.anonymous = a.anonymous[:last]
	return a.exec(ctx, `UPDATE search_history SET "userId" = $2 WHERE id = $1`, id, a.anyone().id)
}

func (a *actor) addBooking(ctx context.Context, p *person, status string) error {
	b := booking{a.uuid(), status}
	var confirmed any
	if status == "CONFIRMED" {
		confirmed = a.now
	}
	p.bookings = append(p.bookings, b)
	p.bookings = p.bookings[max(0, len(p.bookings)-mostBookings):]
	return a.insert(ctx, bookings, a.bookingRow(b.id, p.id, status, confirmed, a.now, a.now))
}

func (a *actor) bookFreely(ctx context.Context) error { return a.addBooking(ctx, a.anyone(), "DRAFT") }

// moveBookingOn takes a booking one step further in its life.
func (a *actor) moveBookingOn(ctx context.Context) error {
	p := a.someone(func(p *person) bool { return len(p.bookings) > 0 })
	if p == nil {
		return a.bookFreely(ctx)
	}
	i := a.IntN(len(p.bookings))
	b := &p.bookings[i]
	next := map[string][]string{
		"DRAFT":           {"PENDING_PAYMENT", "PENDING_PAYMENT", "CANCELLED"},
		"PENDING_PAYMENT": {"PENDING", "PENDING", "FAILED"},
		"PENDING":         {"CONFIRMED", "CONFIRMED", "CONFIRMED", "FAILED", "CANCELLED"},
		"CONFIRMED":       {"COMPLETED", "COMPLETED", "COMPLETED", "CANCELLED"},
	}
	b.status = pick(a.draw, next[b.status])
	id, status := b.id, b.status
	if next[status] == nil {
		p.bookings = slices.Delete(p.bookings, i, i+1)
	}
	if status == "CONFIRMED" {
		return a.exec(ctx, `UPDATE booking_data SET status = 'CONFIRMED', "confirmedAt" = $2, "updatedAt" = $2
			WHERE id = $1`, id, a.now)
	}
	return a.exec(ctx, `UPDATE booking_data SET status = $2, "updatedAt" = $3 WHERE id = $1`, id, status, a.now)
}

func (a *actor) addFavorite(ctx context.Context) error {
	p := a.anyone()
	f := favorite{a.cuid(), "DESTINATION", a.popular().destinationID}
	if a.chance(0.2) {
		f.kind, f.entity = pick(a.draw, otherFavorites), a.cuid()
	}
	if slices.ContainsFunc(p.favorites, func(g favorite) bool { return g.kind == f.kind && g.entity == f.entity }) {
		f.kind, f.entity = "BOOKING", a.cuid()
	}
	p.favorites = append(p.favorites, f)
	return a.insert(ctx, favorites, a.favoriteRow(f.id, p.id, f.kind, f.entity, a.now))
}

func hasFavorite(p *person) bool { return len(p.favorites) > 0 }

func (a *actor) removeFavorite(ctx context.Context) error {
	p := a.someone(hasFavorite)
	if p == nil {
		return a.addFavorite(ctx)
	}
	i := a.IntN(len(p.favorites))
	id := p.favorites[i].id
	p.favorites = slices.Delete(p.favorites, i, i+1)
	return a.exec(ctx, `DELETE FROM favorites WHERE id = $1`, id)
}

// renameFavorite changes a primary key.
func (a *actor) renameFavorite(ctx context.Context) error {
	p := a.someone(hasFavorite)
	if p == nil {
		return a.addFavorite(ctx)
	}
	f := &p.favorites[a.IntN(len(p.favorites))]
	before := f.id
	f.id = a.cuid()
	return a.exec(ctx, `UPDATE favorites SET id = $2, updated_at = $3 WHERE id = $1`, before, f.id, a.now)
}

func (a *actor) changePreferences(ctx context.Context) error {
	p := a.anyone()
	if p.prefsID == "" {
		p.prefsID = a.cuid()
		return a.insert(ctx, preferences, a.preferencesRow(p.prefsID, p.id))
	}
	return a.exec(ctx, `UPDATE user_preferences SET "budgetRange" = $2, "preferredCabinClass" = $3 WHERE id = $1`,
		p.prefsID, a.budgetJSON(false), a.words(pick(a.draw, cabins)))
}

func (a *actor) changeProfile(ctx context.Context) error {
	p := a.anyone()
	if p.profileID == "" {
		p.profileID = a.uuid()
		return a.insert(ctx, profiles, a.profileRow(p.profileID, p.id, a.now, a.now))
	}
	return a.exec(ctx, `UPDATE travel_onboarding_profiles SET "isCompleted" = true, "travelTypes" = $2,
		"globalBudgetRange" = $3, "accommodationLevel" = $4, "travelWithChildren" = $5, "updatedAt" = $6 WHERE id = $1`,
		p.profileID, some(a.draw, travelTypes, 0, 4), a.budgetJSON(true), pick(a.draw, accommodations), a.chance(0.3), a.now)
}

func (a *actor) changeUser(ctx context.Context) error {
	p := a.anyone()
	if a.chance(0.5) {
		return a.exec(ctx, `UPDATE users SET nationality = $2, "dateOfBirth" = $3, updated_at = $4 WHERE id = $1`,
			p.id, a.nationality(), a.dateOfBirth(a.now), a.now)
	}
	return a.exec(ctx, `UPDATE users SET "isVerified" = true, "isSuspended" = $2, "phoneNumber" = $3, updated_at = $4
		WHERE id = $1`, p.id, a.chance(0.1), secretPhone+"000000", a.now)
}

// changeNothing writes a row as it is: an update all the same.
func (a *actor) changeNothing(ctx context.Context) error {
	return a.exec(ctx, `UPDATE users SET nationality = nationality WHERE id = $1`, a.anyone().id)
}

// deleteUser deletes a user, in half of the cases by the request of the user,
// which is completed in the very transaction and goes with it.
func (a *actor) deleteUser(ctx context.Context) error {
	if len(a.people) < 3 {
		return a.signUp(ctx)
	}
	p := a.anyone()
	if q := a.someone(func(p *person) bool { return p.requestID != "" }); q != nil && a.chance(0.5) {
		p = q
		if err := a.exec(ctx, `UPDATE gdpr_requests SET status = 'COMPLETED', "processedAt" = $2, "completedAt" = $2
			WHERE id = $1`, p.requestID, a.now); err != nil {
			return err
		}
	}
	i := slices.Index(a.people, p)
	a.people = slices.Delete(a.people, i, i+1)
	p.gone = true
	return a.exec(ctx, `DELETE FROM users WHERE id = $1`, p.id)
}

func (a *actor) consent(ctx context.Context) error {
	p := a.anyone()
	if p.consentID == "" {
		p.consentID = a.uuid()
		return a.insert(ctx, consents, a.consentRow(p.consentID, p.id, a.now))
	}
	return a.exec(ctx, `UPDATE user_consents SET analytics = $2, marketing = $3, preferences = $4, "lastUpdatedAt" = $5
		WHERE id = $1`, p.consentID, a.chance(0.6), a.chance(0.4), a.chance(0.6), a.now)
}

// request files a request, to be deleted in a third of the cases.
func (a *actor) request(ctx context.Context) error {
	p, id, kind := a.anyone(), a.uuid(), pick(a.draw, requestTypes)
	if p.requestID == "" && a.chance(0.35) {
		kind, p.requestID = "DATA_DELETION", id
	}
	return a.insert(ctx, gdprRequests, a.gdprRow(id, p.id, kind, "PENDING", a.now, nil, nil))
}

// replaceRow deletes a row and inserts another with the same id at once.
func (a *actor) replaceRow(ctx context.Context) error {
	if p, rec := a.recIn(unseen); rec != nil && a.chance(0.5) {
		if err := a.exec(ctx, `DELETE FROM recommendations WHERE id = $1`, rec.id); err != nil {
			return err
		}
		rec.created, rec.item, rec.vectorID, rec.noItemID = a.now, a.popular(), nil, false
		rec.expires = a.now.Add(expiry)
		if p.vectorID != "" {
			rec.vectorID = p.vectorID
		}
		return a.insert(ctx, recommendations, a.recommendationRow(*rec))
	}
	p := a.someone(hasFavorite)
	if p == nil {
		return a.addFavorite(ctx)
	}
	f := pick(a.draw, p.favorites)
	if err := a.exec(ctx, `DELETE FROM favorites WHERE id = $1`, f.id); err != nil {
		return err
	}
	return a.insert(ctx, favorites, a.favoriteRow(f.id, p.id, f.kind, f.entity, a.now))
}

// burySearch deletes a search that raiseSearch inserts again later.
func (a *actor) burySearch(ctx context.Context) error {
	p := a.someone(func(p *person) bool { return len(p.searches) > 0 })
	if p == nil {
		return a.search(ctx)
	}
	last := len(p.searches) - 1
	r := p.searches[last]
	p.searches = p.searches[:last]
	a.buried = append(a.buried, grave{p, r})
	return a.exec(ctx, `DELETE FROM search_history WHERE id = $1`, r[0])
}

// raiseSearch inserts a deleted search with its old id, for nobody when its
// user is gone.
func (a *actor) raiseSearch(ctx context.Context) error {
	if len(a.buried) == 0 {
		return a.burySearch(ctx)
	}
	last := len(a.buried) - 1
	g := a.buried[last]
	a.buried = a.buried[:last]
	if g.owner.gone {
		g.row[1] = nil
	} else {
		g.owner.remember(g.row)
	}
	return a.insert(ctx, searches, g.row)
}
