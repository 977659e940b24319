//! Warnings: the findings of rules, with their reasons and their changes.
use serde::Serialize;
use sqlx::Row as _;
use std::collections::{BTreeSet, HashMap};

use super::statement::Statement;
use super::{
    Connection, IDS_OF_QUERY_MAX, Pool, Row, StoreError, failed, flag, sequences, snapshot,
};
use linli_domain::correlate::Finding;
use linli_domain::correlate::revise::StandingWarning;
use linli_domain::correlate::rule::Rule;
use linli_domain::orgs::Watched;

/// State of a warning that is valid.
pub const ACTIVE: &str = "active";
/// State of a withdrawn warning: with all events known, it would not have been raised.
pub const WITHDRAWN: &str = "withdrawn";

/// A change of a warning.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ChangeView {
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Actor: a person or a rule.
    pub actor: String,
    /// Action: raised, amended, withdrawn, ended, acknowledged, escalated, muted or inhibited.
    pub action: String,
    /// Reason or details, in words.
    pub note: String,
}

/// A warning as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct WarningView {
    /// Id of the warning.
    pub id: i64,
    /// Id of the rule.
    pub rule: String,
    /// Hash of the rule's content when it fired.
    pub rule_hash: String,
    /// Name of the rule.
    pub name: String,
    /// Kind of the rule.
    pub kind: String,
    /// Severity.
    pub severity: String,
    /// Site of the event of the first hit.
    pub site: String,
    /// Agent of that event.
    pub agent: String,
    /// Key of the rule: the values of its key fields.
    pub key: String,
    /// Time of the first hit, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Time of the last hit, milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// Number of hits.
    pub hits: i64,
    /// When the hub raised it, milliseconds since 1970 UTC.
    pub raised_ms: i64,
    /// It is 补报: delayed on its way to the hub, or replayed.
    pub late: bool,
    /// Age of the last hit when the warning was raised, milliseconds, if it is 补报.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<i64>,
    /// Its rule is in shadow mode: it opens no case and notifies nobody.
    pub shadow: bool,
    /// `active`, or `withdrawn`: with all events known, it would not have been raised.
    pub state: String,
    /// When the missing event occurred after all, milliseconds since 1970 UTC.
    pub ended_ms: Option<i64>,
    /// The agent's watermark when it was raised, milliseconds since 1970 UTC.
    pub watermark_ms: i64,
    /// The counted values, in words.
    pub reading: String,
    /// The events that it rests on, each with its identity and time.
    #[schema(value_type = Vec<Object>)]
    pub reasons: serde_json::Value,
    /// Route of its notices.
    pub route: String,
    /// Deadline of the acknowledgement, milliseconds since 1970 UTC.
    pub ack_due_ms: Option<i64>,
    /// When it was acknowledged, milliseconds since 1970 UTC.
    pub acked_ms: Option<i64>,
    /// Who acknowledged it.
    pub acked_by: Option<String>,
    /// How often it escalated because nobody acknowledged it.
    pub escalations: i64,
    /// Id of the mute that suppressed its notices.
    pub muted_by: Option<i64>,
    /// Id of the warning that suppressed its notices.
    pub inhibited_by: Option<i64>,
    /// Codes of its cases; a case for named handlers only is listed only for those.
    pub cases: Vec<String>,
    /// Its changes, oldest first; only in the view of a single warning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeView>,
}

/// A filter of warnings.
#[derive(Debug, Clone, Default)]
pub struct WarningFilter {
    /// Only these sites and this agent; `None`: all.
    pub watched: Option<Watched>,
    /// Only this site.
    pub site: Option<String>,
    /// Only this rule.
    pub rule: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// True: only valid warnings without an acknowledgement; false: only acknowledged ones.
    pub unacked: Option<bool>,
    /// Only warnings of rules in shadow mode, instead of all others.
    pub shadow: bool,
    /// Earliest first hit, included, milliseconds since 1970 UTC.
    pub from_ms: Option<i64>,
    /// Latest first hit, excluded, milliseconds since 1970 UTC.
    pub to_ms: Option<i64>,
    /// Exclude these rules.
    pub hidden: Vec<String>,
    /// Exclude cases for named handlers only where this login is not named; `None`: exclude none.
    pub login: Option<String>,
    /// Only ids below this one.
    pub before: Option<i64>,
    /// Maximum number of warnings.
    pub limit: usize,
}

/// A warning to be stored.
#[derive(Debug)]
pub struct NewWarning<'a> {
    /// Id.
    pub id: i64,
    /// The rule.
    pub rule: &'a Rule,
    /// Key of the rule.
    pub key: &'a str,
    /// The finding that it stands for.
    pub finding: &'a Finding,
    /// When the hub raised it, milliseconds since 1970 UTC.
    pub raised_ms: i64,
    /// It is 补报.
    pub late: bool,
    /// The agent's watermark, milliseconds since 1970 UTC.
    pub watermark_ms: i64,
    /// Id of the mute that suppresses its notices.
    pub muted_by: Option<i64>,
    /// Id of the warning that suppresses its notices.
    pub inhibited_by: Option<i64>,
    /// Deadline of the acknowledgement, milliseconds since 1970 UTC.
    pub ack_due_ms: Option<i64>,
}

/// Inserts a warning. Errors: [`StoreError`].
pub async fn insert(connection: &mut Connection, new: &NewWarning<'_>) -> Result<(), StoreError> {
    let (rule, finding) = (new.rule, new.finding);
    sqlx::query(
        "INSERT INTO warnings (id, rule, rule_hash, name, kind, severity, site, agent, rule_key, at_ms, until_ms, \
         hits, raised_ms, late, shadow, state, ended_ms, watermark_ms, reading, reasons, route, ack_ms, ack_due_ms, \
         muted_by, inhibited_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20, $21, $22, $23, $24, $25)",
    )
    .bind(new.id)
    .bind(rule.id.as_str())
    .bind(rule.hash.as_str())
    .bind(rule.name.as_str())
    .bind(rule.kind.as_str())
    .bind(rule.severity.as_str())
    .bind(finding.site.as_str())
    .bind(finding.agent.as_str())
    .bind(new.key)
    .bind(finding.from_ms)
    .bind(finding.to_ms)
    .bind(finding.hits)
    .bind(new.raised_ms)
    .bind(i16::from(new.late))
    .bind(i16::from(rule.shadow))
    .bind(ACTIVE)
    .bind(finding.ended_ms)
    .bind(new.watermark_ms)
    .bind(finding.values.as_str())
    .bind(reasons(finding))
    .bind(rule.route.as_str())
    .bind(rule.ack_ms)
    .bind(new.ack_due_ms)
    .bind(new.muted_by)
    .bind(new.inhibited_by)
    .execute(connection)
    .await
    .map_err(failed("writing a warning"))?;
    Ok(())
}

fn reasons(finding: &Finding) -> String {
    serde_json::to_string(&finding.reasons).unwrap_or_default()
}

/// The open warnings of a rule and key that touch a time, ordered by time. Open warnings of a key do not
/// overlap, so at most the last of the earlier ones can touch it. Errors: [`StoreError`].
pub async fn standing(
    connection: &mut Connection,
    rule: &Rule,
    key: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<StandingWarning>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, rule_hash, at_ms, until_ms, hits, reasons, reading, ended_ms, late FROM warnings \
         WHERE rule = $1 AND rule_key = $2 AND state = $5 AND at_ms <= $4 AND at_ms >= COALESCE((SELECT MAX(at_ms) \
         FROM warnings WHERE rule = $1 AND rule_key = $2 AND state = $5 AND at_ms < $3), $3) ORDER BY at_ms, id",
    )
    .bind(rule.id.as_str())
    .bind(key)
    .bind(from_ms)
    .bind(to_ms)
    .bind(ACTIVE)
    .fetch_all(connection)
    .await
    .map_err(failed("looking for the warnings of a key"))?;
    Ok(rows
        .iter()
        .map(|row| StandingWarning {
            id: row.get("id"),
            from_ms: row.get("at_ms"),
            to_ms: row.get("until_ms"),
            hits: row.get("hits"),
            reasons: serde_json::from_str(row.get("reasons")).unwrap_or_default(),
            values: row.get("reading"),
            ended_ms: row.get("ended_ms"),
            late: flag(row, "late"),
            of_other_rule: row.get::<String, _>("rule_hash") != rule.hash,
        })
        .filter(|warning| warning.to_ms >= from_ms)
        .collect())
}

/// Replaces the finding of a warning; `fresh` clears 补报. Errors: [`StoreError`].
pub async fn update(
    connection: &mut Connection,
    id: i64,
    finding: &Finding,
    fresh: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE warnings SET at_ms = $2, until_ms = $3, hits = $4, reasons = $5, reading = $6, ended_ms = $7, \
         late = CASE WHEN $8 = 1 THEN 0 ELSE late END WHERE id = $1",
    )
    .bind(id)
    .bind(finding.from_ms)
    .bind(finding.to_ms)
    .bind(finding.hits)
    .bind(reasons(finding))
    .bind(finding.values.as_str())
    .bind(finding.ended_ms)
    .bind(i16::from(fresh))
    .execute(connection)
    .await
    .map_err(failed("writing what a warning has become"))?;
    Ok(())
}

/// Withdraws a warning and removes its deadline. Errors: [`StoreError`].
pub async fn withdraw(connection: &mut Connection, id: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET state = $2, ack_due_ms = NULL WHERE id = $1")
        .bind(id)
        .bind(WITHDRAWN)
        .execute(connection)
        .await
        .map_err(failed("withdrawing a warning"))?;
    Ok(())
}

/// Ends a warning: the missing event occurred at `at_ms`. Errors: [`StoreError`].
pub async fn end(connection: &mut Connection, id: i64, at_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET ended_ms = $2 WHERE id = $1")
        .bind(id)
        .bind(at_ms)
        .execute(connection)
        .await
        .map_err(failed("ending a warning"))?;
    Ok(())
}

/// Raises the severity of a warning that stands for others to that of the gravest, with its route. Errors:
/// [`StoreError`].
pub async fn make_graver(
    connection: &mut Connection,
    id: i64,
    rule: &Rule,
    ack_due_ms: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE warnings SET severity = $2, route = $3, ack_ms = $4, ack_due_ms = CASE WHEN acked_ms IS NULL \
         AND muted_by IS NULL AND inhibited_by IS NULL THEN $5 ELSE ack_due_ms END WHERE id = $1",
    )
    .bind(id)
    .bind(rule.severity.as_str())
    .bind(rule.route.as_str())
    .bind(rule.ack_ms)
    .bind(ack_due_ms)
    .execute(connection)
    .await
    .map_err(failed("making a warning graver"))?;
    Ok(())
}

/// Sets the deadline of the acknowledgement; `None` removes it. Errors: [`StoreError`].
pub async fn set_ack_due(
    connection: &mut Connection,
    id: i64,
    due_ms: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET ack_due_ms = $2 WHERE id = $1")
        .bind(id)
        .bind(due_ms)
        .execute(connection)
        .await
        .map_err(failed("setting a deadline of a warning"))?;
    Ok(())
}

/// Shifts all deadlines after a jump of hub time, so that the time left stays the same. Errors:
/// [`StoreError`].
pub async fn move_deadlines(connection: &mut Connection, by_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET ack_due_ms = ack_due_ms + $1 WHERE ack_due_ms IS NOT NULL")
        .bind(by_ms)
        .execute(connection)
        .await
        .map_err(failed("moving the deadlines of warnings"))?;
    Ok(())
}

/// Acknowledges a warning; false if it is acknowledged already or does not exist. Errors: [`StoreError`].
pub async fn acknowledge(
    connection: &mut Connection,
    id: i64,
    by: &str,
    at_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE warnings SET acked_ms = $3, acked_by = $2, ack_due_ms = NULL WHERE id = $1 AND acked_ms IS NULL",
    )
    .bind(id)
    .bind(by)
    .bind(at_ms)
    .execute(connection)
    .await
    .map_err(failed("acknowledging a warning"))?;
    Ok(done.rows_affected() > 0)
}

/// The data of a warning that escalation, mutes and notices need.
#[derive(Debug, Clone)]
pub struct NotifiableWarning {
    /// Id.
    pub id: i64,
    /// Id of the rule.
    pub rule: String,
    /// Severity.
    pub severity: String,
    /// Site.
    pub site: String,
    /// Agent.
    pub agent: String,
    /// Key of the rule.
    pub key: String,
    /// Time of the first hit, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Time of the last hit, milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// It is 补报.
    pub late: bool,
    /// Its rule is in shadow mode.
    pub shadow: bool,
    /// State.
    pub state: String,
    /// Name of the rule.
    pub name: String,
    /// Route of its notices.
    pub route: String,
    /// Time allowed for an acknowledgement, milliseconds.
    pub ack_ms: Option<i64>,
    /// When it was acknowledged, milliseconds since 1970 UTC.
    pub acked_ms: Option<i64>,
    /// Number of escalations.
    pub escalations: i64,
    /// Route of the last escalation; empty: none.
    pub escalated_to: String,
    /// Id of the mute that suppressed its notices.
    pub muted_by: Option<i64>,
    /// Id of the warning that suppressed its notices.
    pub inhibited_by: Option<i64>,
}

fn told(row: &Row) -> NotifiableWarning {
    NotifiableWarning {
        id: row.get("id"),
        rule: row.get("rule"),
        severity: row.get("severity"),
        site: row.get("site"),
        agent: row.get("agent"),
        key: row.get("rule_key"),
        at_ms: row.get("at_ms"),
        until_ms: row.get("until_ms"),
        late: flag(row, "late"),
        shadow: flag(row, "shadow"),
        state: row.get("state"),
        name: row.get("name"),
        route: row.get("route"),
        ack_ms: row.get("ack_ms"),
        acked_ms: row.get("acked_ms"),
        escalations: row.get("escalations"),
        escalated_to: row.get("escalated_to"),
        muted_by: row.get("muted_by"),
        inhibited_by: row.get("inhibited_by"),
    }
}

/// One warning. Errors: [`StoreError`].
pub async fn find(
    connection: &mut Connection,
    id: i64,
) -> Result<Option<NotifiableWarning>, StoreError> {
    let row = sqlx::query("SELECT * FROM warnings WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed("reading a warning"))?;
    Ok(row.as_ref().map(told))
}

/// Warnings whose acknowledgement is overdue. Errors: [`StoreError`].
pub async fn overdue(
    connection: &mut Connection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<NotifiableWarning>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM warnings WHERE ack_due_ms IS NOT NULL AND ack_due_ms <= $1 ORDER BY ack_due_ms, id LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("looking for warnings that nobody has acknowledged"))?;
    Ok(rows.iter().map(told).collect())
}

/// Warnings with a pending notice or acknowledgement. Errors: [`StoreError`].
pub async fn waiting(connection: &mut Connection) -> Result<Vec<NotifiableWarning>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM warnings WHERE ack_due_ms IS NOT NULL \
         OR id IN (SELECT warning_id FROM outbox WHERE state = 'waiting') ORDER BY id",
    )
    .fetch_all(connection)
    .await
    .map_err(failed("looking for warnings that wait"))?;
    Ok(rows.iter().map(told).collect())
}

/// Suppresses the notices of a warning because of a mute. Errors: [`StoreError`].
pub async fn mute(connection: &mut Connection, id: i64, mute: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET muted_by = $2, ack_due_ms = NULL WHERE id = $1")
        .bind(id)
        .bind(mute)
        .execute(connection)
        .await
        .map_err(failed("muting a warning"))?;
    Ok(())
}

/// Suppresses the notices of a warning because of another warning. Errors: [`StoreError`].
pub async fn inhibit(connection: &mut Connection, id: i64, other: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE warnings SET inhibited_by = $2, ack_due_ms = NULL WHERE id = $1")
        .bind(id)
        .bind(other)
        .execute(connection)
        .await
        .map_err(failed("inhibiting a warning"))?;
    Ok(())
}

/// Records an escalation; false if it is no longer due. Errors: [`StoreError`].
pub async fn escalated(
    connection: &mut Connection,
    id: i64,
    to: &str,
    now_ms: i64,
    due_ms: Option<i64>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE warnings SET escalations = escalations + 1, escalated_to = $2, ack_due_ms = $4 \
         WHERE id = $1 AND ack_due_ms <= $3",
    )
    .bind(id)
    .bind(to)
    .bind(now_ms)
    .bind(due_ms)
    .execute(connection)
    .await
    .map_err(failed("passing a warning on"))?;
    Ok(done.rows_affected() > 0)
}

/// The open warnings of a rule that waits for an event. Errors: [`StoreError`].
pub async fn open(
    connection: &mut Connection,
    rule: &str,
) -> Result<Vec<NotifiableWarning>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM warnings WHERE rule = $1 AND state = 'active' AND ended_ms IS NULL \
         AND kind IN ('absent', 'silent') ORDER BY id",
    )
    .bind(rule)
    .fetch_all(connection)
    .await
    .map_err(failed("looking for warnings that go on"))?;
    Ok(rows.iter().map(told).collect())
}

/// Appends an entry to the log of a warning. Errors: [`StoreError`].
pub async fn note(
    connection: &mut Connection,
    id: i64,
    at_ms: i64,
    actor: &str,
    action: &str,
    note: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO warning_changes (warning_id, number, at_ms, actor, action, note) \
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5 FROM warning_changes WHERE warning_id = $1",
    )
    .bind(id)
    .bind(at_ms)
    .bind(actor)
    .bind(action)
    .bind(note)
    .execute(connection)
    .await
    .map_err(failed("noting a change of a warning"))?;
    Ok(())
}

/// The highest assigned id. Errors: [`StoreError`].
pub async fn last_id(connection: &mut Connection) -> Result<i64, StoreError> {
    sequences::last(connection, "warnings").await
}

/// Id of the rule that raised a warning; `None` if the warning does not exist. Errors: [`StoreError`].
pub async fn rule_of(connection: &mut Connection, id: i64) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT rule FROM warnings WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed("looking for a warning"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Adds the conditions of the sites, hidden rules and login of a filter.
fn limit_to_visible(query: &mut Statement, filter: &WarningFilter) {
    if let Some(watched) = &filter.watched {
        query.watched(watched);
    }
    if !filter.hidden.is_empty() {
        query
            .push(" AND rule NOT IN (")
            .bind_all(filter.hidden.iter().map(String::as_str))
            .push(")");
    }
    if let Some(login) = &filter.login {
        query
            .push(
                " AND id NOT IN (SELECT warning_id FROM cases JOIN case_warnings ON case_id = cases.id \
                 WHERE named_only = 1 AND cases.id NOT IN (SELECT case_id FROM case_named WHERE login = ",
            )
            .bind(login.as_str())
            .push("))");
    }
}

/// Warnings, newest first.
pub async fn list(pool: &Pool, filter: &WarningFilter) -> Result<Vec<WarningView>, StoreError> {
    let mut query = Statement::new("SELECT * FROM warnings WHERE shadow = ");
    query.bind(i16::from(filter.shadow));
    limit_to_visible(&mut query, filter);
    for (column, value) in [
        (" AND site = ", &filter.site),
        (" AND rule = ", &filter.rule),
        (" AND state = ", &filter.state),
    ] {
        if let Some(value) = value {
            query.push(column).bind(value);
        }
    }
    match filter.unacked {
        Some(true) => {
            query.push(" AND acked_ms IS NULL AND state = 'active'");
        }
        Some(false) => {
            query.push(" AND acked_ms IS NOT NULL");
        }
        None => {}
    }
    for (column, value) in [
        (" AND at_ms >= ", filter.from_ms),
        (" AND at_ms < ", filter.to_ms),
        (" AND id < ", filter.before),
    ] {
        if let Some(value) = value {
            query.push(column).bind(value);
        }
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .bind(filter.limit as i64);
    let mut snapshot = snapshot(pool).await?;
    let rows = query
        .build()
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed("listing warnings"))?;
    views(&mut snapshot, &rows).await
}

/// Those of these warnings that a filter's sites, hidden rules and login let through, on trial or not.
pub async fn visible(
    connection: &mut Connection,
    ids: &[i64],
    filter: &WarningFilter,
) -> Result<BTreeSet<i64>, StoreError> {
    let mut visible = BTreeSet::new();
    for ids in ids.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new("SELECT id FROM warnings WHERE id IN (");
        query.bind_all(ids.iter().copied()).push(")");
        limit_to_visible(&mut query, filter);
        let rows = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("looking up who sees warnings"))?;
        visible.extend(rows.iter().map(|row| row.get::<i64, _>(0)));
    }
    Ok(visible)
}

/// One warning with what became of it.
pub async fn get(pool: &Pool, id: i64) -> Result<Option<WarningView>, StoreError> {
    let mut snapshot = snapshot(pool).await?;
    let row = sqlx::query("SELECT * FROM warnings WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut *snapshot)
        .await
        .map_err(failed("reading a warning"))?;
    let Some(mut view) = views(&mut snapshot, row.as_slice()).await?.pop() else {
        return Ok(None);
    };
    let changes =
        sqlx::query("SELECT * FROM warning_changes WHERE warning_id = $1 ORDER BY number")
            .bind(id)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed("reading the changes of a warning"))?;
    view.changes = changes
        .iter()
        .map(|row| ChangeView {
            at_ms: row.get("at_ms"),
            actor: row.get("actor"),
            action: row.get("action"),
            note: row.get("note"),
        })
        .collect();
    Ok(Some(view))
}

/// The warnings of a rule and key that touch a time, including withdrawn ones, newest first. Errors:
/// [`StoreError`].
pub async fn near(
    pool: &Pool,
    rule: &str,
    key: &str,
    from_ms: i64,
    to_ms: i64,
    limit: i64,
) -> Result<Vec<WarningView>, StoreError> {
    let mut snapshot = snapshot(pool).await?;
    let rows = sqlx::query(
        "SELECT * FROM warnings WHERE rule = $1 AND rule_key = $2 AND at_ms <= $4 AND (until_ms >= $3 \
         OR ended_ms >= $3 OR (state = 'active' AND ended_ms IS NULL AND kind IN ('absent', 'silent'))) \
         ORDER BY id DESC LIMIT $5",
    )
    .bind(rule)
    .bind(key)
    .bind(from_ms)
    .bind(to_ms)
    .bind(limit)
    .fetch_all(&mut *snapshot)
    .await
    .map_err(failed("looking for warnings near a time"))?;
    views(&mut snapshot, &rows).await
}

/// Number of warnings with a pending acknowledgement. Errors: [`StoreError`].
pub async fn unacknowledged(pool: &Pool) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM warnings WHERE ack_due_ms IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(failed("counting warnings that nobody has acknowledged"))?;
    Ok(row.get(0))
}

/// Warnings with the codes of their cases, in two statements regardless of their number.
async fn views(connection: &mut Connection, rows: &[Row]) -> Result<Vec<WarningView>, StoreError> {
    let mut cases: HashMap<i64, Vec<String>> = HashMap::new();
    for rows in rows.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new(
            "SELECT warning_id, code FROM cases JOIN case_warnings ON case_id = id WHERE warning_id IN (",
        );
        query
            .bind_all(rows.iter().map(|row| row.get::<i64, _>("id")))
            .push(") ORDER BY id");
        let linked = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("reading the cases of warnings"))?;
        for row in linked {
            cases.entry(row.get(0)).or_default().push(row.get(1));
        }
    }
    Ok(rows
        .iter()
        .map(|row| WarningView {
            id: row.get("id"),
            rule: row.get("rule"),
            rule_hash: row.get("rule_hash"),
            name: row.get("name"),
            kind: row.get("kind"),
            severity: row.get("severity"),
            site: row.get("site"),
            agent: row.get("agent"),
            key: row.get("rule_key"),
            at_ms: row.get("at_ms"),
            until_ms: row.get("until_ms"),
            hits: row.get("hits"),
            raised_ms: row.get("raised_ms"),
            late: flag(row, "late"),
            late_ms: flag(row, "late")
                .then(|| row.get::<i64, _>("raised_ms") - row.get::<i64, _>("until_ms")),
            shadow: flag(row, "shadow"),
            state: row.get("state"),
            ended_ms: row.get("ended_ms"),
            watermark_ms: row.get("watermark_ms"),
            reading: row.get("reading"),
            reasons: serde_json::from_str(row.get("reasons")).unwrap_or_default(),
            route: row.get("route"),
            ack_due_ms: row.get("ack_due_ms"),
            acked_ms: row.get("acked_ms"),
            acked_by: row.get("acked_by"),
            escalations: row.get("escalations"),
            muted_by: row.get("muted_by"),
            inhibited_by: row.get("inhibited_by"),
            cases: cases.remove(&row.get("id")).unwrap_or_default(),
            changes: Vec::new(),
        })
        .collect())
}
