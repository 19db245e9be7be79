package main

import "errors"

// The rows that DuckDB is given, by table. Pointers are columns that may lack a
// value; moments are microseconds since the epoch.

type vectorElements struct {
	E0 *float32 `parquet:"e0"`
	E1 *float32 `parquet:"e1"`
	E2 *float32 `parquet:"e2"`
	E3 *float32 `parquet:"e3"`
	E4 *float32 `parquet:"e4"`
	E5 *float32 `parquet:"e5"`
	E6 *float32 `parquet:"e6"`
	E7 *float32 `parquet:"e7"`
}

type userRow struct {
	versionRow
	Born        *int64  `parquet:"born"`
	Nationality *string `parquet:"nationality"`
	Category    *string `parquet:"category"`
}

type userVectorRow struct {
	versionRow
	vectorElements
	Segment    *string  `parquet:"segment"`
	Confidence *float64 `parquet:"confidence"`
}

type profileRow struct {
	versionRow
	budgetRange
	TravelTypes   *string `parquet:"travel_types"`
	Flexibility   *string `parquet:"flexibility"`
	Activity      *string `parquet:"activity"`
	Accommodation *string `parquet:"accommodation"`
	Children      *bool   `parquet:"children"`
}

type preferencesRow struct {
	versionRow
	budgetRange
}

type budgetRange struct {
	Min *float64 `parquet:"budget_min" json:"min"`
	Max *float64 `parquet:"budget_max" json:"max"`
}

type itemRow struct {
	versionRow
	vectorElements
	Country    *string  `parquet:"country"`
	Popularity *float64 `parquet:"popularity"`
	Bookings   *int32   `parquet:"bookings"`
	Searches   *int32   `parquet:"searches"`
}

type recommendationRow struct {
	versionRow
	Item            *string  `parquet:"item"`
	DestinationID   *string  `parquet:"destination_id"`
	DestinationName *string  `parquet:"destination_name"`
	DestinationType *string  `parquet:"destination_type"`
	Score           *float64 `parquet:"score"`
	Confidence      *float64 `parquet:"confidence"`
	Context         *string  `parquet:"context"`
	Status          *string  `parquet:"status"`
	Viewed          *int64   `parquet:"viewed"`
	Clicked         *int64   `parquet:"clicked"`
	Booked          *int64   `parquet:"booked"`
	Rejected        *int64   `parquet:"rejected"`
	Rating          *int32   `parquet:"rating"`
	Created         *int64   `parquet:"created"`
}

type searchRow struct {
	versionRow
	Origin     *string `parquet:"origin"`
	Departure  *int64  `parquet:"departure"`
	Passengers *int32  `parquet:"passengers"`
	Cabin      *string `parquet:"cabin"`
	Searched   *int64  `parquet:"searched"`
}

type bookingRow struct {
	versionRow
	Status    *string  `parquet:"status"`
	Amount    *float64 `parquet:"amount"`
	Confirmed *int64   `parquet:"confirmed"`
	Created   *int64   `parquet:"created"`
}

type favouriteRow struct {
	versionRow
	Type   *string `parquet:"type"`
	Target *string `parquet:"target"`
}

// open begins the files of all tables.
func (x *exporter) open() error {
	return errors.Join(
		exportTable(x, "users", func(h versionRow, v *values) userRow {
			return userRow{h, v.moment("dateOfBirth"), v.text("nationality"), v.text("userCategory")}
		}),
		exportTable(x, "user_vectors", func(h versionRow, v *values) userVectorRow {
			return userVectorRow{h, v.elements("vector"), v.text("primarySegment"), v.number("segmentConfidence")}
		}),
		exportTable(x, "travel_onboarding_profiles", func(h versionRow, v *values) profileRow {
			return profileRow{
				h, v.budget("globalBudgetRange"), v.joined("travelTypes"), v.text("budgetFlexibility"), v.text("activityLevel"),
				v.text("accommodationLevel"), v.truth("travelWithChildren"),
			}
		}),
		exportTable(x, "user_preferences", func(h versionRow, v *values) preferencesRow {
			return preferencesRow{h, v.budget("budgetRange")}
		}),
		exportTable(x, "item_vectors", func(h versionRow, v *values) itemRow {
			return itemRow{
				h, v.elements("vector"), v.text("country"), v.number("popularityScore"), v.whole("bookingCount"), v.whole("searchCount"),
			}
		}),
		exportTable(x, "recommendations", func(h versionRow, v *values) recommendationRow {
			return recommendationRow{
				h, v.text("itemVectorId"), v.text("destinationId"), v.text("destinationName"), v.text("destinationType"),
				v.number("score"), v.number("confidence"), v.text("contextType"), v.text("status"), v.moment("viewedAt"),
				v.moment("clickedAt"), v.moment("bookedAt"), v.moment("rejectedAt"), v.whole("userRating"), v.moment("createdAt"),
			}
		}),
		exportTable(x, "search_history", func(h versionRow, v *values) searchRow {
			return searchRow{
				h, v.text("origin"), v.moment("departureDate"), v.passengers("passengers"), v.text("cabinClass"), v.moment("searchedAt"),
			}
		}),
		exportTable(x, "booking_data", func(h versionRow, v *values) bookingRow {
			return bookingRow{h, v.text("status"), v.number("totalAmount"), v.moment("confirmedAt"), v.moment("createdAt")}
		}),
		exportTable(x, "favorites", func(h versionRow, v *values) favouriteRow {
			return favouriteRow{h, v.text("entityType"), v.text("entityId")}
		}),
	)
}
