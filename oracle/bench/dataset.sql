-- The dataset of the history, with the columns that snapshot writes, as one would
-- write it for DuckDB. {to} and {from} are the window, as timestamps, {out} is
-- where the files go.
--
-- It is the easier task of the two: identifiers are not made pseudonyms, nothing
-- is sampled, cleaned, filled with medians, merged for rarity, sorted, measured or
-- reported. It relies on what the history of the benchmark is like: all that it
-- selects was known by the cut-off (so that features_exact is true), every
-- recommendation names its item, users, profiles and searches are never deleted
-- and searches and bookings never change. The program compares the result with
-- the dataset of snapshot column by column, so that nothing of this goes unnoticed.

-- One row a recommendation: what its first version says, and how its last one ends.
CREATE TEMP TABLE example AS
SELECT f.id, f.entity AS user_id, f.created AS t,
    CASE WHEN f.backfilled THEN f.created ELSE least(f.created, f.v - INTERVAL 1 microsecond) END AS c,
    f.item, f.destination_id, f.destination_name, f.destination_type, f.score, f.confidence, f.context,
    l.status, l.viewed, l.clicked, l.booked, l.rejected, l.rating
FROM (SELECT id, min(v) AS first, max(v) AS last FROM recommendations WHERE v <= {to} GROUP BY id) b
JOIN recommendations f ON f.id = b.id AND f.v = b.first
JOIN recommendations l ON l.id = b.id AND l.v = b.last
WHERE NOT l.deleted AND f.created >= {from} AND f.created < {to};

-- Recommendations come in slates: what is known of a user is found once for all
-- that share user, moment and cut-off.
CREATE TEMP TABLE moment AS
SELECT row_number() OVER () AS n, * FROM (SELECT DISTINCT user_id, t, c FROM example);

-- The versions of the items are found with slim rows, which is quicker here than
-- one ASOF join of all columns.
CREATE TEMP TABLE seen AS
SELECT e.id, i.rowid AS version FROM example e ASOF JOIN items i ON i.id = e.item AND e.c >= i.known;

CREATE TEMP TABLE known AS
WITH search AS (
    SELECT n, count(*) FILTER (searched >= t - INTERVAL 90 days) AS number,
        arg_max({'origin': origin, 'departure': departure, 'passengers': passengers, 'cabin': cabin, 'searched': searched},
            {'searched': searched, 'known': known, 'id': id}) AS last
    FROM moment JOIN searches ON entity = user_id AND known <= c AND searched < t GROUP BY n
), booking AS (
    SELECT n, count(*) AS number, avg(amount) AS mean, max(coalesce(confirmed, created)) AS last
    FROM moment JOIN bookings ON entity = user_id AND known <= c
    WHERE status IN ('CONFIRMED', 'COMPLETED') AND coalesce(confirmed, created) < t GROUP BY n
), held AS (
    SELECT entity, type, target, deleted, known, lead(known) OVER (PARTITION BY id ORDER BY v) AS until FROM favourites
), favourite AS (
    SELECT n, count(*) AS number, list(target) AS targets
    FROM moment JOIN held ON entity = user_id AND known <= c AND (until IS NULL OR until > c)
    WHERE NOT deleted AND type = 'DESTINATION' GROUP BY n
)
SELECT m.n, m.user_id, m.t, m.c,
    vector.e0, vector.e1, vector.e2, vector.e3, vector.e4, vector.e5, vector.e6, vector.e7,
    vector.segment, vector.confidence AS segment_confidence,
    CASE WHEN person.born <= m.t THEN date_sub('year', person.born, m.t) END AS age,
    CASE WHEN trim(person.nationality) = '' OR person.nationality IS NULL THEN NULL ELSE coalesce(regions.region, 'Other') END AS region,
    person.category, profile.travel_types, profile.accommodation, profile.activity, profile.flexibility, profile.children,
    CASE WHEN coalesce(profile.budget_min, profile.budget_max) IS NOT NULL
        THEN {'low': profile.budget_min, 'high': profile.budget_max}
        ELSE {'low': preferences.budget_min, 'high': preferences.budget_max} END AS budget,
    favourite.number AS favourite_number, favourite.targets,
    search.number AS search_number, search.last AS search, booking.number AS booking_number, booking.mean, booking.last AS booked
FROM moment m
ASOF JOIN user_vectors vector ON vector.entity = m.user_id AND m.c >= vector.known
ASOF LEFT JOIN users person ON person.entity = m.user_id AND m.c >= person.known
ASOF LEFT JOIN profiles profile ON profile.entity = m.user_id AND m.c >= profile.known
ASOF LEFT JOIN preferences ON preferences.entity = m.user_id AND m.c >= preferences.known
LEFT JOIN regions ON regions.code = upper(trim(person.nationality))
LEFT JOIN search ON search.n = m.n
LEFT JOIN booking ON booking.n = m.n
LEFT JOIN favourite ON favourite.n = m.n;

COPY (
    SELECT e.user_id AS user_hash, e.id AS interaction_id, e.t AS "timestamp",
        k.e0 AS user_climate_pref, k.e1 AS user_culture_pref, k.e2 AS user_budget_level, k.e3 AS user_activity_level,
        k.e4 AS user_group_type, k.e5 AS user_urban_pref, k.e6 AS user_gastronomy_pref, k.e7 AS user_popularity_pref,
        said(k.segment) AS primary_segment, k.segment_confidence::FLOAT AS segment_confidence,
        CASE WHEN k.age BETWEEN 18 AND 25 THEN '18-25' WHEN k.age BETWEEN 26 AND 35 THEN '26-35' WHEN k.age BETWEEN 36 AND 50 THEN '36-50'
            WHEN k.age BETWEEN 51 AND 65 THEN '51-65' WHEN k.age BETWEEN 66 AND 120 THEN '65+' ELSE 'UNKNOWN' END AS user_age_group,
        said(k.region) AS user_region, said(k.category) AS user_category,
        said(k.travel_types) AS travel_types, said(k.accommodation) AS accommodation_level, said(k.activity) AS activity_level_enum,
        said(k.flexibility) AS budget_flexibility,
        CASE WHEN NOT coalesce(k.budget.low > k.budget.high OR k.budget.low < 0 OR k.budget.high < 0, false) THEN k.budget.low END::FLOAT AS budget_min,
        CASE WHEN NOT coalesce(k.budget.low > k.budget.high OR k.budget.low < 0 OR k.budget.high < 0, false) THEN k.budget.high END::FLOAT AS budget_max,
        coalesce(k.children, false) AS travel_with_children,
        coalesce(k.favourite_number, 0)::INTEGER AS user_favorite_count,
        i.id AS item_vector_id, e.destination_id AS item_destination_id, said(e.destination_name) AS item_destination_name,
        said(e.destination_type) AS item_destination_type, said(i.country) AS item_country,
        i.e0 AS item_climate, i.e1 AS item_culture, i.e2 AS item_budget, i.e3 AS item_activity,
        i.e4 AS item_group, i.e5 AS item_urban, i.e6 AS item_gastronomy, i.e7 AS item_popularity,
        i.popularity::FLOAT AS item_popularity_score, coalesce(i.bookings, 0)::INTEGER AS item_booking_count,
        coalesce(i.searches, 0)::INTEGER AS item_search_count,
        coalesce(list_contains(k.targets, e.destination_id), false) AS item_is_favorite,
        said(e.context) AS context_type,
        said(k.search.origin) AS search_origin, k.search.passengers AS search_passengers, said(k.search.cabin) AS search_cabin_class,
        greatest(0, least(365, days(e.t, k.search.departure)))::INTEGER AS days_until_departure,
        CASE WHEN month(e.t) IN (12, 1, 2) THEN 'winter' WHEN month(e.t) <= 5 THEN 'spring' WHEN month(e.t) <= 8 THEN 'summer' ELSE 'autumn' END AS season,
        isodow(e.t) >= 6 AS is_weekend,
        e.score::FLOAT AS recommendation_score, e.confidence::FLOAT AS recommendation_confidence,
        coalesce(k.search_number, 0)::INTEGER AS user_search_count, coalesce(k.booking_number, 0)::INTEGER AS user_booking_count,
        k.mean::FLOAT AS user_avg_booking_value,
        days(k.search.searched, e.t)::INTEGER AS days_since_last_search, days(k.booked, e.t)::INTEGER AS days_since_last_booking,
        l.name AS interaction_type, l.score AS engagement_score, (l.name = 'BOOKED')::INTEGER AS booking_probability,
        e.rating AS user_rating,
        CASE WHEN least(e.viewed, e.clicked, e.booked, e.rejected) >= e.t
            THEN floor(epoch_us(least(e.viewed, e.clicked, e.booked, e.rejected) - e.t) / 1e6) END::INTEGER AS time_to_interaction,
        true AS features_exact, 1::FLOAT AS sample_weight,
        i.id AS "itemVectorId", i.e0 AS item_climate_pref, i.e1 AS item_culture_pref, i.e2 AS item_budget_level, i.e3 AS item_activity_level,
        i.e4 AS item_group_type, i.e5 AS item_urban_pref, i.e6 AS item_gastronomy_pref, i.e7 AS item_popularity_pref,
        said(k.segment) AS "primarySegment",
        CASE WHEN hash(e.id) % 5 = 0 THEN 'test' ELSE 'train' END AS split
    FROM example e
    JOIN known k ON k.user_id = e.user_id AND k.t = e.t AND k.c = e.c
    LEFT JOIN seen ON seen.id = e.id
    LEFT JOIN items i ON i.rowid = seen.version
    CROSS JOIN LATERAL (SELECT CASE
        WHEN e.status = 'BOOKED' OR e.booked IS NOT NULL THEN 'BOOKED' WHEN e.status = 'REJECTED' OR e.rejected IS NOT NULL THEN 'REJECTED'
        WHEN e.status = 'CLICKED' OR e.clicked IS NOT NULL THEN 'CLICKED' WHEN e.status = 'VIEWED' OR e.viewed IS NOT NULL THEN 'VIEWED'
        ELSE 'NOT_VIEWED' END AS name) n
    JOIN (VALUES ('BOOKED', 5::FLOAT), ('REJECTED', -1::FLOAT), ('CLICKED', 3::FLOAT), ('VIEWED', 1::FLOAT), ('NOT_VIEWED', 0::FLOAT)) l (name, score)
        ON l.name = n.name
) TO '{out}' (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (split));
