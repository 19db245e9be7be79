-- The application's own record of every change, kept by triggers: the oracle
-- that a captured history is compared with. pg_xact_commit_timestamp(xid) of a
-- row is the commit time of its transaction; seq orders the changes of one
-- transaction. Rows of rolled back transactions vanish with them.

CREATE SCHEMA audit;

CREATE TABLE audit.history (
    seq bigserial PRIMARY KEY,
    xid xid NOT NULL DEFAULT pg_current_xact_id()::xid,
    table_name text NOT NULL,
    op text NOT NULL CHECK (op IN ('INSERT', 'UPDATE', 'DELETE')),
    id text NOT NULL,
    row_new jsonb,
    row_old jsonb
);

CREATE FUNCTION audit.record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO audit.history (table_name, op, id, row_old)
        VALUES (TG_TABLE_NAME, TG_OP, OLD.id, to_jsonb(OLD));
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO audit.history (table_name, op, id, row_new)
        VALUES (TG_TABLE_NAME, TG_OP, NEW.id, to_jsonb(NEW));
    ELSE
        INSERT INTO audit.history (table_name, op, id, row_new, row_old)
        VALUES (TG_TABLE_NAME, TG_OP, NEW.id, to_jsonb(NEW), to_jsonb(OLD));
    END IF;
    RETURN NULL;
END
$$;

-- The changes with the commit times of their transactions. Commit times may be
-- equal or step back; what orders transactions exactly is the commit record's
-- place in the WAL, which no trigger can see.
CREATE VIEW audit.changes AS
SELECT seq, xid, pg_xact_commit_timestamp(xid) AS committed_at, table_name, op, id, row_new, row_old
FROM audit.history;
