-- What people may be looking at has changed: a row for each object, written by the transaction that changed it. Numbers rise
-- without gaps in the order of commits. `orgs`: the organisations that a case was with before the change, where it is with
-- others now, each with a comma before and after it.
CREATE TABLE changes (
    number BIGINT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    site TEXT NOT NULL,
    agent TEXT NOT NULL,
    orgs TEXT NOT NULL,
    version BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX changes_at ON changes (at_ms);
