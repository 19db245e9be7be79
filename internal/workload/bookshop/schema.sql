-- A reading club's database: numbers for keys, time zones, cascades of its own,
-- and nothing in common with a travel application.

CREATE TABLE readers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    born date,
    city text
);

CREATE TABLE titles (
    isbn text PRIMARY KEY,
    pages int,
    genre text
);

CREATE TABLE offers (
    id uuid PRIMARY KEY,
    reader bigint NOT NULL REFERENCES readers (id) ON DELETE CASCADE,
    isbn text REFERENCES titles (isbn) ON DELETE SET NULL,
    shown_at timestamptz NOT NULL,
    opened_at timestamptz,
    taken_at timestamptz,
    relevance real NOT NULL
);
CREATE INDEX ON offers (reader);
CREATE INDEX ON offers (isbn);

CREATE TABLE visits (
    id bigint PRIMARY KEY,
    reader bigint REFERENCES readers (id) ON DELETE SET NULL,
    at timestamptz NOT NULL
);
CREATE INDEX ON visits (reader);
