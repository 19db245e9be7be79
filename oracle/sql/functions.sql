-- The rules for single values, as the dataset contract words them.

CREATE SCHEMA oracle;

-- NaN and infinities are missing everywhere.
CREATE FUNCTION oracle.finite(x float8) RETURNS float8 IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN x NOT IN ('NaN', 'Infinity', '-Infinity') THEN x END
$$;

-- A vector that is not an array of exactly 8 is wholly missing; an element that
-- is no number is missing.
CREATE FUNCTION oracle.element(vector jsonb, i int) RETURNS float8 IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN jsonb_typeof(vector) = 'array' THEN
           CASE WHEN jsonb_array_length(vector) = 8 THEN
           CASE WHEN jsonb_typeof(vector -> i) = 'number' THEN (vector ->> i)::float8 END END END
$$;

CREATE FUNCTION oracle.number(j jsonb) RETURNS float8 IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN jsonb_typeof(j) = 'number' THEN (j #>> '{}')::float8 END
$$;

-- min and max of the first range that has a numeric one of them; both missing
-- when upside down or negative.
CREATE FUNCTION oracle.budget(a jsonb, b jsonb, OUT low float8, OUT high float8) IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    chosen jsonb := a;
BEGIN
    IF oracle.number(a -> 'min') IS NULL AND oracle.number(a -> 'max') IS NULL THEN
        chosen := b;
    END IF;
    low := oracle.number(chosen -> 'min');
    high := oracle.number(chosen -> 'max');
    IF low > high OR low < 0 OR high < 0 THEN
        low := NULL;
        high := NULL;
    END IF;
END
$$;

-- A whole number of at least 0, or nothing.
CREATE FUNCTION oracle.whole(j jsonb) RETURNS int IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN jsonb_typeof(j) = 'number' THEN
           CASE WHEN (j #>> '{}')::numeric >= 0 AND (j #>> '{}')::numeric % 1 = 0 THEN (j #>> '{}')::numeric::int END END
$$;

-- Read so: a part that is there but is no whole number of at least 0 makes the
-- sum missing.
CREATE FUNCTION oracle.passengers(j jsonb) RETURNS int IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE jsonb_typeof(j)
        WHEN 'number' THEN oracle.whole(j)
        WHEN 'string' THEN CASE WHEN j #>> '{}' ~ '^[0-9]+$' THEN (j #>> '{}')::int END
        WHEN 'object' THEN CASE WHEN j ?| ARRAY['adults', 'children', 'infants'] THEN
            (CASE WHEN j ? 'adults' THEN oracle.whole(j -> 'adults') ELSE 0 END)
            + (CASE WHEN j ? 'children' THEN oracle.whole(j -> 'children') ELSE 0 END)
            + (CASE WHEN j ? 'infants' THEN oracle.whole(j -> 'infants') ELSE 0 END) END
        END
$$;

-- Completed years, missing outside of 0 to 120.
CREATE FUNCTION oracle.years(t timestamp, born timestamp) RETURNS int IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN born <= t AND extract(year FROM age(t, born)) <= 120 THEN extract(year FROM age(t, born))::int END
$$;

CREATE FUNCTION oracle.age_group(years int) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN years BETWEEN 18 AND 25 THEN '18-25' WHEN years BETWEEN 26 AND 35 THEN '26-35'
        WHEN years BETWEEN 36 AND 50 THEN '36-50' WHEN years BETWEEN 51 AND 65 THEN '51-65'
        WHEN years BETWEEN 66 AND 120 THEN '65+' END
$$;

-- Read so: a nationality without content is missing, any other that is no code
-- of a region is Other.
CREATE FUNCTION oracle.region(nationality text) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE
        WHEN btrim(nationality) = '' OR nationality IS NULL THEN NULL
        WHEN code = ANY (string_to_array('AL AD AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA UK VA XK', ' ')) THEN 'Europe'
        WHEN code = ANY (string_to_array('US CA BM GL PM MX GT BZ SV HN NI CR PA CU DO HT JM BS BB TT PR GD LC VC AG DM KN AI AW BL BQ CW GP KY MF MQ MS SX TC VG VI', ' ')) THEN 'North America'
        WHEN code = ANY (string_to_array('BR AR CL CO PE VE EC BO PY UY GY SR GF FK GS BV', ' ')) THEN 'South America'
        WHEN code = ANY (string_to_array('MA DZ TN LY EG SD EH ZA BW LS NA SZ SN NG GH CI ML BF BJ TG NE GM GN GW CV LR MR SL SH KE ET TZ UG RW BI DJ ER SO MG MW MZ ZM ZW MU SC KM RE YT SS IO TF CM CD CG CF TD GA GQ ST AO', ' ')) THEN 'Africa'
        WHEN code = ANY (string_to_array('AU NZ NF CC CX HM FJ PG SB VU NC FM GU KI MH MP NR PW UM AS CK NU PF PN TK TO TV WF WS', ' ')) THEN 'Oceania'
        WHEN code = ANY (string_to_array('AE SA QA KW BH OM YE IQ JO LB SY PS IL TR CY AM AZ GE', ' ')) THEN 'Middle East'
        WHEN code = ANY (string_to_array('JP CN IN KR KP MN HK MO TW TH VN MY SG ID PH MM KH LA BN TL PK BD LK NP BT MV IR AF KZ KG TJ TM UZ', ' ')) THEN 'Asia'
        ELSE 'Other' END
    FROM upper(btrim(nationality)) AS code
$$;

-- The distinct elements, sorted by bytes and joined.
CREATE FUNCTION oracle.joined(list jsonb) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN jsonb_typeof(list) = 'array' THEN
        (SELECT string_agg(e, ',' ORDER BY e COLLATE "C") FROM (SELECT DISTINCT jsonb_array_elements_text(list) AS e) x) END
$$;

CREATE FUNCTION oracle.days(later timestamp, earlier timestamp) RETURNS int IMMUTABLE LANGUAGE sql AS $$
    SELECT floor(extract(epoch FROM later - earlier) / 86400)::int
$$;

-- Strict, since least and greatest pass over what is null.
CREATE FUNCTION oracle.clip(x float8, low float8 = 0, high float8 = 1) RETURNS float8 STRICT IMMUTABLE LANGUAGE sql AS $$
    SELECT least(greatest(x, low), high)
$$;

-- h(domain, id): compared as bytes, which is as unsigned big-endian numbers.
CREATE FUNCTION oracle.h(domain text, seed text, id text) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
    SELECT substring(sha256(convert_to(domain, 'UTF8') || '\x00'::bytea || convert_to(seed, 'UTF8') || '\x00'::bytea
        || convert_to(id, 'UTF8')) FOR 8)
$$;

-- Every version of every row of the tables that features are made of. v is the
-- version as a moment, pos the place in its transaction, filled whether it came
-- by the backfill, gone whether it is a deletion, k when it was known, made the
-- row's creation column (null: it has none), r the row.
CREATE TABLE oracle.version (
    tbl text NOT NULL,
    id text NOT NULL,
    owner text,
    v timestamp NOT NULL,
    pos bigint NOT NULL,
    filled bool NOT NULL,
    gone bool NOT NULL,
    k timestamp NOT NULL,
    made timestamp,
    r jsonb
);
