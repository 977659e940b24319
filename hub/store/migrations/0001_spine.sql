-- The tables of a hub, in SQL that SQLite and PostgreSQL both take. Numbers are given by the hub's one
-- writer, times are milliseconds since 1970 UTC, 64-bit epochs are stored as their signed twins.

CREATE TABLE agents (
    agent TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    serial TEXT NOT NULL,
    joined_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    software TEXT NOT NULL DEFAULT '',
    seen_ms BIGINT NOT NULL DEFAULT 0,
    watermark_ms BIGINT NOT NULL DEFAULT 0,
    waiting_events BIGINT NOT NULL DEFAULT 0,
    skew_ms BIGINT
);

-- What the hub wants next of each lane of each life of a spool.
CREATE TABLE positions (
    agent TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    next_seq BIGINT NOT NULL,
    PRIMARY KEY (agent, lane, epoch)
);

-- Events as rows of chunks. kinds is ",a.b,c.d,"; clock_offset_ms turns monotonic times of the chunk's
-- boot into wall times; skew_ms is by how much the agent's clock was ahead, where that was worth a correction.
CREATE TABLE chunks (
    id BIGINT PRIMARY KEY,
    site TEXT NOT NULL,
    agent TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    retention SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    end_seq BIGINT NOT NULL,
    occurred_min_ms BIGINT NOT NULL,
    occurred_max_ms BIGINT NOT NULL,
    stored_ms BIGINT NOT NULL,
    clock_offset_ms BIGINT,
    skew_ms BIGINT,
    kinds TEXT NOT NULL,
    bytes BYTEA NOT NULL
);
CREATE UNIQUE INDEX chunks_identity ON chunks (agent, lane, epoch, first_seq);
-- The newest rows of one site or agent, without a look at those of the others.
CREATE INDEX chunks_site ON chunks (site, id);
CREATE INDEX chunks_agent ON chunks (agent, id);

-- Ranges that an agent says will never come.
CREATE TABLE lost_ranges (
    agent TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    end_seq BIGINT NOT NULL,
    reason TEXT NOT NULL,
    noted_ms BIGINT NOT NULL,
    PRIMARY KEY (agent, lane, epoch, first_seq)
);

-- Chunks that came with a number that is taken by other content, or that cannot be read.
CREATE TABLE quarantine (
    id BIGINT PRIMARY KEY,
    agent TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    reason TEXT NOT NULL,
    noted_ms BIGINT NOT NULL,
    bytes BYTEA NOT NULL
);
CREATE INDEX quarantine_place ON quarantine (agent, lane, epoch, first_seq);

-- One row, written anew after a transaction has failed: once it commits, the disk takes writes again.
CREATE TABLE probe (
    id BIGINT PRIMARY KEY,
    bytes BYTEA NOT NULL
);

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    secret_sha256 TEXT NOT NULL,
    site TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT,
    used_by TEXT
);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    -- What it may do, and for which organisation; empty: for the centre.
    role TEXT NOT NULL,
    org TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT
);

-- at_ms and until_ms are the first and the last hit. ack_due_ms is set as long as an acknowledgement is due.
CREATE TABLE warnings (
    id BIGINT PRIMARY KEY,
    rule TEXT NOT NULL,
    rule_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    site TEXT NOT NULL,
    agent TEXT NOT NULL,
    rule_key TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    raised_ms BIGINT NOT NULL,
    late SMALLINT NOT NULL,
    shadow SMALLINT NOT NULL,
    state TEXT NOT NULL,
    ended_ms BIGINT,
    watermark_ms BIGINT NOT NULL,
    reading TEXT NOT NULL,
    reasons TEXT NOT NULL,
    route TEXT NOT NULL,
    ack_ms BIGINT,
    ack_due_ms BIGINT,
    acked_ms BIGINT,
    acked_by TEXT,
    escalations BIGINT NOT NULL DEFAULT 0,
    escalated_to TEXT NOT NULL DEFAULT '',
    muted_by BIGINT,
    inhibited_by BIGINT
);
CREATE INDEX warnings_rule ON warnings (rule, rule_key, at_ms);
CREATE INDEX warnings_ack_due ON warnings (ack_due_ms) WHERE ack_due_ms IS NOT NULL;
-- What goes on, few at any time: for inhibition, and for the silence of agents.
CREATE INDEX warnings_open ON warnings (rule) WHERE state = 'active' AND ended_ms IS NULL AND kind IN ('absent', 'silent');

-- What became of warnings, in order; append-only.
CREATE TABLE warning_changes (
    warning_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (warning_id, number)
);

-- Mutes and maintenance windows; an empty field is any.
CREATE TABLE mutes (
    id BIGINT PRIMARY KEY,
    rule TEXT NOT NULL,
    site TEXT NOT NULL,
    rule_key TEXT NOT NULL,
    reason TEXT NOT NULL,
    owner TEXT NOT NULL,
    from_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    life SMALLINT NOT NULL,
    created_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    -- It has kept back what waited when it began.
    begun SMALLINT NOT NULL DEFAULT 0
);
CREATE INDEX mutes_until ON mutes (until_ms);
CREATE INDEX mutes_beginning ON mutes (from_ms) WHERE begun = 0;

-- Events of rules that look back further than the horizon.
CREATE TABLE occurrences (
    rule TEXT NOT NULL,
    rule_key TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    agent TEXT NOT NULL,
    lane SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    site TEXT NOT NULL,
    steps INTEGER NOT NULL,
    PRIMARY KEY (rule, rule_key, at_ms, agent, lane, epoch, sequence)
);

-- The content of each rule that runs, and since when it is that.
CREATE TABLE rules (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    since_ms BIGINT NOT NULL
);

-- Cases as they are; each is what its actions come to. `detail` is the whole of it, `narrative` what only some may
-- see, both sealed. `event` is the identity of the event that reported the incident, `incident` the number that
-- the station gave it.
CREATE TABLE cases (
    id BIGINT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    risk TEXT NOT NULL,
    site TEXT NOT NULL,
    place TEXT NOT NULL,
    case_key TEXT NOT NULL,
    route TEXT NOT NULL,
    source TEXT NOT NULL,
    agent TEXT NOT NULL,
    incident TEXT NOT NULL,
    event TEXT NOT NULL,
    lead TEXT NOT NULL,
    supervision TEXT NOT NULL,
    named_only SMALLINT NOT NULL,
    opened_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- When the clock that is due first is due, and when time alone brings about something next.
    due_ms BIGINT,
    wake_ms BIGINT,
    version BIGINT NOT NULL,
    detail TEXT NOT NULL,
    narrative TEXT NOT NULL
);
CREATE INDEX cases_open ON cases (kind, case_key, state);
CREATE INDEX cases_key ON cases (case_key, id);
CREATE INDEX cases_state ON cases (state, id);
CREATE INDEX cases_opened ON cases (opened_ms);
CREATE INDEX cases_kind ON cases (kind, id);
CREATE INDEX cases_site ON cases (site, id);
CREATE INDEX cases_wake ON cases (wake_ms) WHERE wake_ms IS NOT NULL;
CREATE UNIQUE INDEX cases_incident ON cases (agent, incident) WHERE incident <> '';
CREATE INDEX cases_event ON cases (event) WHERE event <> '';

-- The organisations that a case is with: its lead, joint ones, those above them, and those of its place. The state is
-- that of the case, so that a list of an organisation's cases in a state is one walk along an index.
CREATE TABLE case_orgs (
    org TEXT NOT NULL,
    case_id BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (org, case_id)
);
CREATE INDEX case_orgs_state ON case_orgs (org, state, case_id);
CREATE INDEX case_orgs_case ON case_orgs (case_id);

-- Who may see a case that is for named handlers only.
CREATE TABLE case_named (
    login TEXT NOT NULL,
    case_id BIGINT NOT NULL,
    PRIMARY KEY (login, case_id)
);
CREATE INDEX case_named_case ON case_named (case_id);

CREATE TABLE case_warnings (
    case_id BIGINT NOT NULL,
    warning_id BIGINT NOT NULL,
    PRIMARY KEY (case_id, warning_id)
);
CREATE INDEX case_warnings_warning ON case_warnings (warning_id);

-- What was done, append-only. `detail` is the action, sealed: its texts are of people.
CREATE TABLE case_actions (
    case_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    organisation TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (case_id, number)
);
