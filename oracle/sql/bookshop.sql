-- Steps 1 to 8 for the bookshop, whose tables were backfilled and have not
-- changed since: the source itself says what was known. readers and titles have
-- no moments of their own, so that they are used as they are, inexactly; offers
-- and visits are known from their creation on. Expects pg_temp.setting.

CREATE TEMP TABLE example AS
SELECT o.*, o.shown_at AS t FROM offers o, setting s
WHERE o.shown_at >= s.since AT TIME ZONE 'UTC' AND o.shown_at < s.as_of AT TIME ZONE 'UTC';

CREATE TEMP TABLE raw AS
SELECT e.id::text AS id, e.reader::text AS user_id,
    e.t AS shown,
    CASE WHEN age.years < 30 THEN 'young' WHEN age.years < 60 THEN 'middle' WHEN age.years >= 60 THEN 'old' END AS generation,
    r.city,
    (SELECT count(*)::int FROM visits v WHERE v.reader = e.reader AND v.at >= e.t - interval '168 hours' AND v.at < e.t) AS visits,
    (SELECT count(*)::int FROM offers o WHERE o.reader = e.reader AND o.shown_at < e.t AND o.relevance >= 0.5) AS offers_before,
    (SELECT avg(o.relevance::text::float8) FROM offers o
        WHERE o.reader = e.reader AND o.shown_at < e.t AND o.shown_at >= e.t - interval '720 hours') AS mean_relevance,
    oracle.clip((SELECT floor(extract(epoch FROM e.t - max(v.at)) / 3600) FROM visits v
        WHERE v.reader = e.reader AND v.at < e.t), 0, 10000)::int AS hours_since_visit,
    CASE upper(btrim(b.genre)) WHEN 'CRIME' THEN 'front' WHEN 'NOVEL' THEN 'front' WHEN 'POETRY' THEN 'back'
        WHEN 'SCIENCE' THEN 'back' ELSE CASE WHEN b.genre IS NOT NULL THEN 'elsewhere' END END AS shelf,
    b.isbn,
    oracle.clip(b.pages, 1, 2000)::int AS pages,
    -- Held at the cut-off; the example's own row is not a feature.
    EXISTS (SELECT FROM offers o WHERE o.reader = e.reader AND o.isbn = b.isbn AND o.shown_at <= e.t AND o.id <> e.id) AS offered_before,
    extract(hour FROM e.t AT TIME ZONE 'UTC')::int AS hour,
    b.pages > 400 AND b.genre <> 'POETRY' AS long_read,
    e.relevance::text::float8 AS relevance,
    b.pages * e.relevance::text::float8 AS weighted_pages,
    'letter' AS channel,
    CASE WHEN e.taken_at IS NOT NULL THEN 'TAKEN' WHEN e.opened_at IS NOT NULL THEN 'OPENED' ELSE 'IGNORED' END AS outcome,
    CASE WHEN e.taken_at IS NOT NULL THEN 2 WHEN e.opened_at IS NOT NULL THEN 0.5 ELSE 0 END::float8 AS worth,
    (e.taken_at IS NOT NULL)::int AS taken,
    CASE WHEN least(e.opened_at, e.taken_at) >= e.t THEN floor(extract(epoch FROM least(e.opened_at, e.taken_at) - e.t) / 3600)::int END
        AS hours_to_reaction,
    false AS exact,
    age.years AS age, b.pages AS last_offer_pages
FROM example e
JOIN readers r ON r.id = e.reader
LEFT JOIN titles b ON b.isbn = e.isbn
CROSS JOIN LATERAL (SELECT oracle.years(e.t AT TIME ZONE 'UTC', r.born::timestamp) AS years) age;

CREATE TEMP TABLE quota AS
SELECT m0, least(m0, floor(ratio * positives)::bigint) AS m
FROM (SELECT count(*) FILTER (WHERE outcome = 'IGNORED') AS m0, count(*) FILTER (WHERE worth > 0) AS positives FROM raw) x, setting;

CREATE TEMP TABLE sampled AS
SELECT *, CASE WHEN outcome = 'IGNORED' THEN (SELECT m0::numeric / m FROM quota)::float8 ELSE 1 END AS weight
FROM (SELECT *, row_number() OVER (PARTITION BY outcome
        ORDER BY oracle.h('negatives', (SELECT seed FROM setting), id), id COLLATE "C") AS place FROM raw) x
WHERE outcome <> 'IGNORED' OR place <= (SELECT m FROM quota);

CREATE TEMP TABLE bounds AS
SELECT x.name, avg(v) - 2.5 * stddev_samp(v) AS low, avg(v) + 2.5 * stddev_samp(v) AS high
FROM sampled CROSS JOIN LATERAL (VALUES ('age', age::numeric), ('last_offer_pages', last_offer_pages::numeric)) x (name, v)
WHERE v IS NOT NULL GROUP BY x.name HAVING count(v) >= 2 AND stddev_samp(v) > 0;

CREATE TEMP TABLE outlying AS
SELECT DISTINCT ON (id) id, x.name FROM sampled
CROSS JOIN LATERAL (VALUES (1, 'age', age::numeric), (2, 'last_offer_pages', last_offer_pages::numeric)) x (rank, name, v)
JOIN bounds USING (name) WHERE v < low OR v > high
ORDER BY id, rank;

CREATE TEMP TABLE clean AS
SELECT *, oracle.h('split', (SELECT seed FROM setting), id) AS split FROM sampled WHERE id NOT IN (SELECT id FROM outlying);

CREATE TEMP VIEW funnel AS
SELECT 'candidates' AS step, count(*) AS rows FROM example
UNION ALL SELECT 'not_sampled', m0 - m FROM quota
UNION ALL SELECT 'outlier:' || name, count(*) FROM outlying GROUP BY name
UNION ALL SELECT 'kept', count(*) FROM clean;
