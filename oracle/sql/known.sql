-- What was known at each example's cut-off. Expects pg_temp.setting with one row
-- (as_of, since, ratio, seed, drop_inexact, keep_outliers), and oracle.version.

-- A view as of T holds the versions up to T. What a newer version had replaced by
-- T - window is not looked at, nor is a row that was gone by then (ADR 0014).
CREATE TEMP TABLE ver AS
SELECT *, row_number() OVER (PARTITION BY tbl, id ORDER BY v, pos) = 1 AS first
FROM (
    SELECT *, lead(v) OVER (PARTITION BY tbl, id ORDER BY v, pos) AS next
    FROM oracle.version WHERE v <= (SELECT as_of FROM setting)
) x
WHERE v > (SELECT since FROM setting) OR NOT gone AND (next IS NULL OR next > (SELECT since FROM setting));
CREATE INDEX ON ver (tbl, id);
ANALYZE ver;

-- One row a recommendation of the window, deleted ones included. "First version
-- held" is taken to the letter: of all versions of that id, also those before it
-- was deleted and inserted again. One that came live before its window is dated by
-- the border of the window, and inexact.
CREATE TEMP TABLE example AS
SELECT f.id, f.owner AS user_id, e.t,
    CASE WHEN f.filled THEN e.t ELSE greatest(least(e.t, f.v - interval '1 microsecond'), (SELECT since FROM setting)) END AS c,
    NOT f.filled AND f.v <= (SELECT since FROM setting) AS behind,
    f.filled, f.r AS was, l.r AS now, l.gone
FROM ver f
CROSS JOIN LATERAL (SELECT (f.r ->> 'createdAt')::timestamp AS t) e
CROSS JOIN LATERAL (SELECT r, gone FROM ver w WHERE w.tbl = f.tbl AND w.id = f.id ORDER BY v DESC, pos DESC LIMIT 1) l
WHERE f.tbl = 'recommendations' AND f.first
    AND e.t >= (SELECT since FROM setting) AND e.t < (SELECT as_of FROM setting);

-- Recommendations come in slates: what is known of a user is computed once for
-- all that share user, moment and cut-off.
CREATE TEMP TABLE moment AS
SELECT row_number() OVER () AS n, * FROM (SELECT DISTINCT user_id, t, c FROM example WHERE NOT gone) x;
CREATE INDEX ON moment (user_id, t, c);

CREATE TEMP TABLE belongs AS
SELECT DISTINCT owner, tbl, id FROM ver WHERE owner IS NOT NULL AND tbl NOT IN ('recommendations', 'item_vectors');
CREATE INDEX ON belongs (owner);
ANALYZE example;
ANALYZE moment;
ANALYZE belongs;

-- Rule 2 for every row that ever was the user's: (a) its last version with
-- k <= c, else (b) its first version, if it was backfilled and had been created
-- by c (or does not say). What is the user's then, and not deleted, is known.
CREATE TEMP TABLE known AS
SELECT m.n, m.t, x.tbl, x.id, x.r, x.k, x.inexact
FROM moment m
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (w.tbl, w.id) w.*, w.k > m.c AS inexact
    FROM belongs b JOIN ver w ON w.tbl = b.tbl AND w.id = b.id
    WHERE b.owner = m.user_id
        AND (w.k <= m.c OR w.first AND w.filled AND (w.made IS NULL OR w.made <= m.c))
    ORDER BY w.tbl, w.id, w.k <= m.c DESC, w.v DESC, w.pos DESC
) x
WHERE NOT x.gone AND x.owner = m.user_id;
CREATE INDEX ON known (tbl, n);
ANALYZE known;

-- The item by its id, else by destination.
CREATE TEMP TABLE catalogue AS
SELECT DISTINCT id, r ->> 'destinationId' AS destination, r ->> 'destinationType' AS type FROM ver
WHERE tbl = 'item_vectors' AND r IS NOT NULL;
CREATE INDEX ON catalogue (id);
CREATE INDEX ON catalogue (destination, type);
ANALYZE catalogue;

CREATE TEMP TABLE item AS
SELECT e.id AS example, x.id, x.r, x.inexact
FROM example e
CROSS JOIN LATERAL (
    SELECT y.* FROM (
        SELECT DISTINCT ON (w.id) w.*, w.k > e.c AS inexact
        FROM (
            SELECT id FROM catalogue WHERE id = e.was ->> 'itemVectorId'
            UNION SELECT id FROM catalogue WHERE destination = e.was ->> 'destinationId' AND type = e.was ->> 'destinationType'
        ) i JOIN ver w ON w.tbl = 'item_vectors' AND w.id = i.id
        WHERE w.k <= e.c OR w.first AND w.filled AND (w.made IS NULL OR w.made <= e.c)
        ORDER BY w.id, w.k <= e.c DESC, w.v DESC, w.pos DESC
    ) y
    WHERE NOT y.gone AND (y.id = e.was ->> 'itemVectorId'
        OR y.r ->> 'destinationId' = e.was ->> 'destinationId' AND y.r ->> 'destinationType' = e.was ->> 'destinationType')
    ORDER BY y.id IS NOT DISTINCT FROM e.was ->> 'itemVectorId' DESC
    LIMIT 1
) x
WHERE NOT e.gone;
CREATE INDEX ON item (example);
