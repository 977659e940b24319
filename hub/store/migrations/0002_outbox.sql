-- What people are to be told: a row for each decision and channel, written in the transaction of the
-- decision. `notice` is JSON as it was when it was decided.
CREATE TABLE outbox (
    id BIGINT PRIMARY KEY,
    decision TEXT NOT NULL,
    channel TEXT NOT NULL,
    warning_id BIGINT NOT NULL,
    -- 0 info to 4 life: the gravest goes first.
    severity BIGINT NOT NULL,
    notice TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    -- waiting, sent, dead, dropped
    state TEXT NOT NULL,
    done_ms BIGINT,
    error TEXT,
    UNIQUE (decision, channel)
);
CREATE INDEX outbox_channel ON outbox (channel, state, severity DESC, id);
CREATE INDEX outbox_warning ON outbox (warning_id);
