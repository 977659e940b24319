-- When the agent received an event of a rule that looks back, whole seconds since 1970 UTC, and whether it was reported when
-- it happened: 0 live, 1 replayed, 2 imported history. Nothing is known of the rows of before: they never make a finding fresh.
ALTER TABLE occurrences ADD COLUMN received_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE occurrences ADD COLUMN delivery SMALLINT NOT NULL DEFAULT 0;
