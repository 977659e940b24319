-- Only agents of stations report what only stations know: disputes, incidents, dangers. An agent is a station's where its join
-- token was, or the directory of organisations names it. Those that stations were told something through were stations' before.
ALTER TABLE join_tokens ADD COLUMN station SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN station SMALLINT NOT NULL DEFAULT 0;
UPDATE agents SET station = 1 WHERE agent IN (SELECT agent FROM stations);
-- The agent says that its clock is synchronised: 0 no, 1 yes; NULL: it was not heard since this column is there.
ALTER TABLE agents ADD COLUMN clock_set SMALLINT;
-- 1: what only stations may report is in this chunk, and its agent was none. It is stored, and nothing is made of it.
ALTER TABLE chunks ADD COLUMN withheld SMALLINT NOT NULL DEFAULT 0;
