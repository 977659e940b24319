-- What was deleted because its time was over, a row for each run and class, in the transactions of the deletions.
-- ids_sha256 is a chain: SHA-256 of the hash before and of the ids of each batch; it begins with nothing. What was
-- deleted is not in here. Never deleted itself.
CREATE TABLE deletions (
    number BIGINT PRIMARY KEY,
    class TEXT NOT NULL,
    -- The rule as it was then, in words.
    rule TEXT NOT NULL,
    actor TEXT NOT NULL,
    -- The oldest and the newest of what was deleted.
    from_ms BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    ids_sha256 TEXT NOT NULL,
    began_ms BIGINT NOT NULL,
    -- When the run ended; it has its entry in the audit log from then on.
    ended_ms BIGINT
);

-- The oldest rows of a class, without a look at their bytes.
CREATE INDEX chunks_retention ON chunks (retention, stored_ms, id, occurred_max_ms);

-- When an agent last came with this life of its spool, or sent something of it.
ALTER TABLE positions ADD COLUMN asked_ms BIGINT NOT NULL DEFAULT 0;

-- How far a copy into this database has come, a row for each table; there are none once it is whole. A hub does not
-- run on a database that has any.
CREATE TABLE copying (
    name TEXT PRIMARY KEY,
    last_key TEXT NOT NULL,
    copied BIGINT NOT NULL
);
