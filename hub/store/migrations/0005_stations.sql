-- Messages to stations: what became of the cases whose incidents their agents reported, and notices of
-- danger. Numbered for each agent from 1 without gaps; the number of a message never changes.
CREATE TABLE stations (
    agent TEXT PRIMARY KEY,
    last_number BIGINT NOT NULL
);
CREATE TABLE station_messages (
    agent TEXT NOT NULL,
    number BIGINT NOT NULL,
    case_code TEXT NOT NULL,
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    text TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    acked_ms BIGINT,
    PRIMARY KEY (agent, number)
);
CREATE INDEX station_messages_acked ON station_messages (acked_ms, created_ms);
