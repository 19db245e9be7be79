-- Steps 4 to 6: one row a recommendation, with its features and its label.

CREATE TEMP TABLE last_search AS
SELECT DISTINCT ON (n) n, r, (r ->> 'searchedAt')::timestamp AS at FROM known
WHERE tbl = 'search_history' AND (r ->> 'searchedAt')::timestamp < t
ORDER BY n, at DESC, k DESC, id COLLATE "C" DESC;

CREATE TEMP TABLE searches AS
SELECT n, count(*)::int AS number FROM known
WHERE tbl = 'search_history' AND (r ->> 'searchedAt')::timestamp < t
    AND (r ->> 'searchedAt')::timestamp >= t - interval '90 days'
GROUP BY n;

CREATE TEMP TABLE bookings AS
SELECT n, count(*)::int AS number, avg((r ->> 'totalAmount')::numeric)::float8 AS mean, max(at) AS last
FROM known CROSS JOIN LATERAL (SELECT coalesce((r ->> 'confirmedAt')::timestamp, (r ->> 'createdAt')::timestamp) AS at) e
WHERE tbl = 'booking_data' AND r ->> 'status' IN ('CONFIRMED', 'COMPLETED') AND at < t
GROUP BY n;

CREATE TEMP TABLE favourites AS
SELECT n, count(*)::int AS number, array_agg(r ->> 'entityId') AS ids FROM known
WHERE tbl = 'favorites' AND r ->> 'entityType' = 'DESTINATION' GROUP BY n;

-- Read so: every row that belongs to the example counts, used or not, and every
-- row of the user in a table that is counted over, also those that the count's
-- filter leaves out (a booking that was cancelled later may have been confirmed
-- then).
CREATE TEMP TABLE exactness AS
SELECT n, bool_or(inexact) AS inexact FROM known GROUP BY n;

CREATE TEMP TABLE raw AS
SELECT e.id, e.user_id, e.filled,
    e.t AT TIME ZONE 'UTC' AS "timestamp",
    oracle.element(vector.r -> 'vector', 0) AS user_climate_pref,
    oracle.element(vector.r -> 'vector', 1) AS user_culture_pref,
    oracle.element(vector.r -> 'vector', 2) AS user_budget_level,
    oracle.element(vector.r -> 'vector', 3) AS user_activity_level,
    oracle.element(vector.r -> 'vector', 4) AS user_group_type,
    oracle.element(vector.r -> 'vector', 5) AS user_urban_pref,
    oracle.element(vector.r -> 'vector', 6) AS user_gastronomy_pref,
    oracle.element(vector.r -> 'vector', 7) AS user_popularity_pref,
    vector.r ->> 'primarySegment' AS primary_segment,
    oracle.finite((vector.r ->> 'segmentConfidence')::float8) AS segment_confidence,
    oracle.years(e.t, (person.r ->> 'dateOfBirth')::timestamp) AS user_age,
    oracle.age_group(oracle.years(e.t, (person.r ->> 'dateOfBirth')::timestamp)) AS user_age_group,
    oracle.region(person.r ->> 'nationality') AS user_region,
    person.r ->> 'userCategory' AS user_category,
    oracle.joined(profile.r -> 'travelTypes') AS travel_types,
    profile.r ->> 'accommodationLevel' AS accommodation_level,
    profile.r ->> 'activityLevel' AS activity_level_enum,
    profile.r ->> 'budgetFlexibility' AS budget_flexibility,
    budget.low AS budget_min,
    budget.high AS budget_max,
    (profile.r ->> 'travelWithChildren')::bool AS travel_with_children,
    coalesce(favourites.number, 0) AS user_favorite_count,
    item.id AS item_vector_id,
    e.was ->> 'destinationId' AS item_destination_id,
    e.was ->> 'destinationName' AS item_destination_name,
    e.was ->> 'destinationType' AS item_destination_type,
    item.r ->> 'country' AS item_country,
    oracle.element(item.r -> 'vector', 0) AS item_climate,
    oracle.element(item.r -> 'vector', 1) AS item_culture,
    oracle.element(item.r -> 'vector', 2) AS item_budget,
    oracle.element(item.r -> 'vector', 3) AS item_activity,
    oracle.element(item.r -> 'vector', 4) AS item_group,
    oracle.element(item.r -> 'vector', 5) AS item_urban,
    oracle.element(item.r -> 'vector', 6) AS item_gastronomy,
    oracle.element(item.r -> 'vector', 7) AS item_popularity,
    oracle.finite((item.r ->> 'popularityScore')::float8) AS item_popularity_score,
    (item.r ->> 'bookingCount')::int AS item_booking_count,
    (item.r ->> 'searchCount')::int AS item_search_count,
    coalesce(e.was ->> 'destinationId' = ANY (favourites.ids), false) AS item_is_favorite,
    e.was ->> 'contextType' AS context_type,
    last_search.r ->> 'origin' AS search_origin,
    oracle.passengers(last_search.r -> 'passengers') AS search_passengers,
    last_search.r ->> 'cabinClass' AS search_cabin_class,
    oracle.clip(oracle.days((last_search.r ->> 'departureDate')::timestamp, e.t), 0, 365)::int AS days_until_departure,
    CASE WHEN extract(month FROM e.t) IN (12, 1, 2) THEN 'winter' WHEN extract(month FROM e.t) <= 5 THEN 'spring'
        WHEN extract(month FROM e.t) <= 8 THEN 'summer' ELSE 'autumn' END AS season,
    extract(isodow FROM e.t) >= 6 AS is_weekend,
    oracle.finite((e.was ->> 'score')::float8) AS recommendation_score,
    oracle.finite((e.was ->> 'confidence')::float8) AS recommendation_confidence,
    coalesce(searches.number, 0) AS user_search_count,
    coalesce(bookings.number, 0) AS user_booking_count,
    bookings.mean AS user_avg_booking_value,
    oracle.days(e.t, last_search.at) AS days_since_last_search,
    oracle.days(e.t, bookings.last) AS days_since_last_booking,
    label.name AS interaction_type,
    label.score::float8 AS engagement_score,
    (label.name = 'BOOKED')::int AS booking_probability,
    (e.now ->> 'userRating')::int AS user_rating,
    CASE WHEN reaction.at >= e.t THEN floor(extract(epoch FROM reaction.at - e.t))::int END AS time_to_interaction,
    NOT (e.behind OR coalesce(exactness.inexact, false) OR coalesce(item.inexact, false)) AS features_exact,
    vector.n IS NOT NULL AS has_vector
FROM example e
JOIN moment m USING (user_id, t, c)
LEFT JOIN known person ON person.tbl = 'users' AND person.n = m.n
LEFT JOIN known vector ON vector.tbl = 'user_vectors' AND vector.n = m.n
LEFT JOIN known profile ON profile.tbl = 'travel_onboarding_profiles' AND profile.n = m.n
LEFT JOIN known preferences ON preferences.tbl = 'user_preferences' AND preferences.n = m.n
LEFT JOIN item ON item.example = e.id
LEFT JOIN last_search ON last_search.n = m.n
LEFT JOIN searches ON searches.n = m.n
LEFT JOIN bookings ON bookings.n = m.n
LEFT JOIN favourites ON favourites.n = m.n
LEFT JOIN exactness ON exactness.n = m.n
CROSS JOIN LATERAL oracle.budget(profile.r -> 'globalBudgetRange', preferences.r -> 'budgetRange') budget
CROSS JOIN LATERAL (
    SELECT least((e.now ->> 'viewedAt')::timestamp, (e.now ->> 'clickedAt')::timestamp,
        (e.now ->> 'bookedAt')::timestamp, (e.now ->> 'rejectedAt')::timestamp) AS at
) reaction
CROSS JOIN LATERAL (
    SELECT name, score FROM (VALUES (1, 'BOOKED', 5, 'bookedAt'), (2, 'REJECTED', -1, 'rejectedAt'),
        (3, 'CLICKED', 3, 'clickedAt'), (4, 'VIEWED', 1, 'viewedAt'), (5, 'NOT_VIEWED', 0, NULL)) l (rank, name, score, moment)
    WHERE e.now ->> 'status' = name OR e.now ->> moment IS NOT NULL OR moment IS NULL
    ORDER BY rank LIMIT 1
) label
WHERE NOT e.gone;
