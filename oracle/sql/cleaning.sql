-- Steps 7 and 8: negative sampling and cleaning.

CREATE TEMP TABLE labelled AS SELECT raw.* FROM raw, setting WHERE has_vector AND (features_exact OR NOT drop_inexact);

CREATE TEMP TABLE quota AS
SELECT m0, least(m0, floor(ratio * positives)::bigint) AS m
FROM (SELECT count(*) FILTER (WHERE interaction_type = 'NOT_VIEWED') AS m0,
        count(*) FILTER (WHERE engagement_score > 0) AS positives FROM labelled) x, setting;

CREATE TEMP TABLE sampled AS
SELECT *, CASE WHEN interaction_type = 'NOT_VIEWED' THEN (SELECT m0::numeric / m FROM quota)::float8 ELSE 1 END AS sample_weight
FROM (SELECT *, row_number() OVER (PARTITION BY interaction_type
        ORDER BY oracle.h('negatives', (SELECT seed FROM setting), id), id COLLATE "C") AS place FROM labelled) x
WHERE interaction_type <> 'NOT_VIEWED' OR place <= (SELECT m FROM quota);

-- (a) A row that lacks several required values counts for the first of them.
CREATE TEMP TABLE lacking AS
SELECT id, CASE WHEN user_climate_pref IS NULL THEN 'user_climate_pref'
    WHEN user_culture_pref IS NULL THEN 'user_culture_pref'
    WHEN user_budget_level IS NULL THEN 'user_budget_level'
    WHEN user_activity_level IS NULL THEN 'user_activity_level'
    WHEN item_destination_id IS NULL THEN 'item_destination_id'
    WHEN recommendation_score IS NULL THEN 'recommendation_score' END AS required
FROM sampled;

CREATE TEMP TABLE clipped AS
SELECT * FROM sampled WHERE id IN (SELECT id FROM lacking WHERE required IS NULL);

-- (b)
UPDATE clipped SET
    user_climate_pref = oracle.clip(user_climate_pref), user_culture_pref = oracle.clip(user_culture_pref),
    user_budget_level = oracle.clip(user_budget_level), user_activity_level = oracle.clip(user_activity_level),
    user_group_type = oracle.clip(user_group_type), user_urban_pref = oracle.clip(user_urban_pref),
    user_gastronomy_pref = oracle.clip(user_gastronomy_pref), user_popularity_pref = oracle.clip(user_popularity_pref),
    item_climate = oracle.clip(item_climate), item_culture = oracle.clip(item_culture),
    item_budget = oracle.clip(item_budget), item_activity = oracle.clip(item_activity),
    item_group = oracle.clip(item_group), item_urban = oracle.clip(item_urban),
    item_gastronomy = oracle.clip(item_gastronomy), item_popularity = oracle.clip(item_popularity);

-- (c) All bounds come from the rows leaving (b). An item that is not known has
-- no booking count and takes no part: gaps are filled in step 10.
CREATE TEMP TABLE bounds AS
SELECT x.name, avg(v) - 3 * stddev_samp(v) AS low, avg(v) + 3 * stddev_samp(v) AS high
FROM clipped CROSS JOIN LATERAL (VALUES ('budget_max', budget_max::numeric), ('user_age', user_age::numeric),
    ('item_booking_count', item_booking_count::numeric)) x (name, v)
WHERE v IS NOT NULL GROUP BY x.name HAVING count(v) >= 2 AND stddev_samp(v) > 0;

CREATE TEMP TABLE outlying AS
SELECT DISTINCT ON (id) id, x.name FROM clipped
CROSS JOIN LATERAL (VALUES (1, 'budget_max', budget_max::numeric), (2, 'user_age', user_age::numeric),
    (3, 'item_booking_count', item_booking_count::numeric)) x (rank, name, v)
JOIN bounds USING (name) WHERE (v < low OR v > high) AND NOT (SELECT keep_outliers FROM setting)
ORDER BY id, rank;

CREATE TEMP TABLE clean AS
SELECT *, oracle.h('split', (SELECT seed FROM setting), id) AS split FROM clipped WHERE id NOT IN (SELECT id FROM outlying);

CREATE TEMP VIEW funnel AS
SELECT 'candidates' AS step, count(*) AS rows FROM example
UNION ALL SELECT 'deleted', count(*) FROM example WHERE gone
UNION ALL SELECT 'no_vector', count(*) FROM raw WHERE NOT has_vector
UNION ALL SELECT 'inexact', count(*) FROM raw, setting WHERE has_vector AND drop_inexact AND NOT features_exact
UNION ALL SELECT 'not_sampled', m0 - m FROM quota
UNION ALL SELECT 'missing_required:' || required, count(*) FROM lacking WHERE required IS NOT NULL GROUP BY required
UNION ALL SELECT 'outlier:' || name, count(*) FROM outlying GROUP BY name
UNION ALL SELECT 'kept', count(*) FROM clean;
