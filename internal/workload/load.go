package workload

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// load learns what the database holds of this actor's part of the users: every
// of-th one, in the order of their ids.
func (a *actor) load(ctx context.Context, number, of int) error {
	items, err := query(ctx, a.conn, `SELECT id, "destinationId", "destinationType", name FROM item_vectors
		ORDER BY "bookingCount" DESC, id COLLATE "C"`, func(r pgx.CollectableRow) (item, error) {
		var it item
		err := r.Scan(&it.id, &it.destinationID, &it.destinationType, &it.name)
		return it, err
	})
	if err != nil {
		return err
	}
	a.items = items
	everybody, err := query(ctx, a.conn, `SELECT u.id, coalesce(v.id, ''), v.vector, coalesce(v.version, 0),
			coalesce(p.id, ''), coalesce(f.id, ''), coalesce(c.id, '')
		FROM users u LEFT JOIN user_vectors v ON v."userId" = u.id
			LEFT JOIN travel_onboarding_profiles p ON p."userId" = u.id
			LEFT JOIN user_preferences f ON f."userId" = u.id
			LEFT JOIN user_consents c ON c."userId" = u.id
		ORDER BY u.id COLLATE "C"`, func(r pgx.CollectableRow) (*person, error) {
		p, vector := &person{}, []byte(nil)
		err := r.Scan(&p.id, &p.vectorID, &vector, &p.version, &p.profileID, &p.prefsID, &p.consentID)
		var clean []float64
		if json.Unmarshal(vector, &clean) == nil && len(clean) == len(p.vector) {
			copy(p.vector[:], clean) // what is dirty starts again from zeros
		}
		return p, err
	})
	if err != nil {
		return err
	}
	byID := map[string]*person{}
	for i, p := range everybody {
		if i%of == number {
			a.people = append(a.people, p)
			byID[p.id] = p
		}
	}
	return a.loadBelongings(ctx, byID)
}

// loadBelongings learns what the users have, as far as it can still change.
func (a *actor) loadBelongings(ctx context.Context, byID map[string]*person) error {
	type belonging struct{ userID, id, kind, entity string }
	scan := func(r pgx.CollectableRow) (belonging, error) {
		var b belonging
		err := r.Scan(&b.userID, &b.id, &b.kind, &b.entity)
		return b, err
	}
	favorites, err := query(ctx, a.conn, `SELECT "userId", id, "entityType"::text, "entityId" FROM favorites
		ORDER BY id COLLATE "C"`, scan)
	if err != nil {
		return err
	}
	for _, b := range favorites {
		if p := byID[b.userID]; p != nil {
			p.favorites = append(p.favorites, favorite{b.id, b.kind, b.entity})
		}
	}
	bookings, err := query(ctx, a.conn, `SELECT "userId", id, status::text, '' FROM booking_data
		WHERE status IN ('DRAFT', 'PENDING_PAYMENT', 'PENDING', 'CONFIRMED') ORDER BY id COLLATE "C"`, scan)
	if err != nil {
		return err
	}
	for _, b := range bookings {
		if p := byID[b.userID]; p != nil && len(p.bookings) < mostBookings {
			p.bookings = append(p.bookings, booking{b.id, b.kind})
		}
	}
	requests, err := query(ctx, a.conn, `SELECT "userId", id, '', '' FROM gdpr_requests
		WHERE "requestType" = 'DATA_DELETION' AND status = 'PENDING' ORDER BY id COLLATE "C"`, scan)
	if err != nil {
		return err
	}
	for _, b := range requests {
		if p := byID[b.userID]; p != nil {
			p.requestID = b.id
		}
	}
	recs, err := query(ctx, a.conn, `SELECT id, "userId", coalesce("itemVectorId", ''), "destinationId",
			"destinationType", "destinationName", "createdAt", "expiresAt"
		FROM (SELECT *, row_number() OVER (PARTITION BY "userId" ORDER BY "createdAt" DESC, id COLLATE "C") AS place
			FROM recommendations WHERE status = 'GENERATED') r
		WHERE place <= 20 ORDER BY "createdAt", id COLLATE "C"`, func(r pgx.CollectableRow) (*recommendation, error) {
		rec := &recommendation{}
		err := r.Scan(&rec.id, &rec.userID, &rec.item.id, &rec.item.destinationID, &rec.item.destinationType,
			&rec.item.name, &rec.created, &rec.expires)
		return rec, err
	})
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if p := byID[rec.userID]; p != nil {
			p.recs = append(p.recs, rec)
		}
	}
	return nil
}

func query[T any](ctx context.Context, conn *pgx.Conn, sql string, scan pgx.RowToFunc[T]) ([]T, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read what is there: %w", err)
	}
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read what is there: %w", err)
	}
	return out, nil
}
