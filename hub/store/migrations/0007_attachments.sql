-- Files of cases, as the cases have them: what a file is called, its name, its type and who added it stand in the case,
-- sealed. `number` is that of the action that added it. `digest` names the file under data_dir/attachments, and tells
-- nothing of its content. The row goes when the file is removed from the case, or the case is deleted; a file that no
-- row names is deleted by retention.
CREATE TABLE attachments (
    case_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (case_id, number)
);
CREATE INDEX attachments_digest ON attachments (digest);
