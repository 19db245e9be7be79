-- Tables of the stream and the backfill. The number in a name is the size of a row
-- as the text of its columns, in bytes. All keys are random.

CREATE TABLE events_200 (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  kind text NOT NULL,
  position int NOT NULL,
  score double precision NOT NULL,
  active boolean NOT NULL,
  price numeric(10,2),
  seen_at timestamp,
  created_at timestamp NOT NULL,
  note text NOT NULL
);

CREATE TABLE events_400 (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  item_id uuid NOT NULL,
  kind text NOT NULL,
  status text NOT NULL,
  country text NOT NULL,
  position int NOT NULL,
  score double precision NOT NULL,
  confidence double precision NOT NULL,
  active boolean NOT NULL,
  price numeric(10,2),
  seen_at timestamp,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  note text NOT NULL
);

CREATE TABLE events_1600 (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  item_id uuid NOT NULL,
  kind text NOT NULL,
  status text NOT NULL,
  country text NOT NULL,
  position int NOT NULL,
  score double precision NOT NULL,
  confidence double precision NOT NULL,
  active boolean NOT NULL,
  price numeric(10,2),
  seen_at timestamp,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  vector jsonb NOT NULL,
  title text NOT NULL,
  note text NOT NULL
) WITH (fillfactor = 70);

-- A row of 1.6 kB, and one value outside of it that its updates leave alone.
CREATE TABLE wide (
  LIKE events_1600 INCLUDING ALL,
  story text NOT NULL
) WITH (fillfactor = 70);
ALTER TABLE wide ALTER COLUMN story SET STORAGE EXTERNAL;

CREATE TABLE hot (LIKE events_400 INCLUDING ALL) WITH (fillfactor = 20);

-- Values that rows draw from: what is drawn from an array costs little, so that
-- rows are made faster than they are read. Only keys are new for each row.
CREATE TABLE bench_values (people uuid[], tiny text[], small text[], large text[], story text[]);

INSERT INTO bench_values
SELECT (SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 100000)),
       array_agg(left(body, 46)), array_agg(left(body, 160)), array_agg(left(body, 1150)), array_agg(left(body, 2500))
FROM (
  SELECT (SELECT string_agg(md5(n::text || ' ' || i::text), ' ') FROM generate_series(1, 80) i) AS body
  FROM generate_series(1, 1000) n
) AS bodies;
