-- Organisations and places as they are, and those that are retired. `detail` is the entry as JSON.
CREATE TABLE orgs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    retired_ms BIGINT
);
CREATE TABLE places (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    retired_ms BIGINT
);

-- How often something that the hub holds in memory has been changed: it reads it again when this is another.
CREATE TABLE versions (
    name TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);

-- Who uses the API and the web. password is a PHC string of Argon2id, empty for who cannot sign in with one.
CREATE TABLE users (
    login TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    org TEXT NOT NULL,
    password TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    ended_ms BIGINT
);
CREATE INDEX sessions_login ON sessions (login);

-- What was done and seen, in a chain: hash is that of the row and of the hash before it.
CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_object ON audit (object, number);
