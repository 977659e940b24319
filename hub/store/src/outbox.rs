//! The outbox: the notices to send, one row for each decision and channel.
//!
//! ```text
//! enqueue ─▶ waiting ─▶ sent            drop_waiting: waiting ─▶ dropped
//!              ▲  └───▶ dead
//!              └─ again ─┘
//! ```
//!
//! Only the owner of the writing connection writes rows: `enqueue` and `drop_waiting` in the transaction of
//! the decision, `settle` for the results of the notifier. The command line retries dead rows (`again`) in a
//! separate transaction.
use linli_shared::protocol::event::Severity;
use serde::Serialize;
use sqlx::Row as _;
use std::collections::BTreeSet;

use super::statement::Statement;
use super::{Connection, Pool, Row, StoreError, failed, sequences};
use linli_domain::notice::Notice;

/// Maximum length of a stored error, characters.
const ERROR_CHARS_MAX: usize = 500;

/// The states of a row, as stored and shown in the API.
pub const STATES: [&str; 4] = ["waiting", "sent", "dead", "dropped"];

/// A row to send.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Id of the row.
    pub id: i64,
    /// The decision.
    pub decision: String,
    /// Severity of the notice.
    pub severity: Severity,
    /// The notice, or why it cannot be read.
    pub notice: Result<Notice, String>,
    /// When it was decided, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Attempts so far.
    pub attempts: i64,
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The peer accepted it.
    Sent,
    /// It will be retried.
    Retry {
        /// Time of the retry, milliseconds since 1970 UTC.
        due_ms: i64,
        /// Why the attempt failed.
        error: String,
    },
    /// No further attempt will be made.
    Dead {
        /// Why the attempt failed.
        error: String,
    },
    /// A dead row is to be retried on request.
    Again,
}

/// The result of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Id of the row.
    pub id: i64,
    /// The result.
    pub outcome: Delivery,
}

/// The backlog of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelBacklog {
    /// Number of waiting rows.
    pub waiting: i64,
    /// When the oldest of them was decided, milliseconds since 1970 UTC.
    pub oldest_ms: Option<i64>,
    /// When the first of them is due, milliseconds since 1970 UTC.
    pub due_ms: Option<i64>,
    /// Number of dead rows.
    pub dead: i64,
}

/// A notification as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct NotificationView {
    /// Id of the row.
    pub id: i64,
    /// The decision, like "warning/123/raised", or "case/20260101-000001/7" for the seventh action of a case.
    pub decision: String,
    /// Channel.
    pub channel: String,
    /// Id of the warning; 0 for a case.
    pub warning: i64,
    /// State: waiting, sent, dead, dropped.
    pub state: String,
    /// Attempts so far.
    pub attempts: i64,
    /// When it was decided, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Time of the next attempt, if it waits, milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
    /// When it was sent, given up or dropped, milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_ms: Option<i64>,
    /// The last error, or why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The notice.
    #[schema(value_type = Notice)]
    pub notice: serde_json::Value,
}

/// A filter of notifications.
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    /// Only this state.
    pub state: Option<String>,
    /// Only this channel.
    pub channel: Option<String>,
    /// Only ids below this one.
    pub before: Option<i64>,
    /// Maximum number of notifications.
    pub limit: usize,
}

/// Adds a notice to the outbox, to be sent after the commit. Returns false if the decision exists already for
/// this channel, in any state. The writer assigns `id`, above [`last_id`]. Errors: [`StoreError`].
pub async fn enqueue(
    connection: &mut Connection,
    id: i64,
    channel: &str,
    decision: &str,
    notice: &Notice,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let frozen = serde_json::to_string(&notice.frozen()).unwrap_or_default();
    let done = sqlx::query(
        "INSERT INTO outbox (id, decision, channel, warning_id, severity, notice, created_ms, due_ms, state) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 'waiting') ON CONFLICT (decision, channel) DO NOTHING",
    )
    .bind(id)
    .bind(decision)
    .bind(channel)
    .bind(notice.warning)
    .bind(i64::from(u8::from(notice.severity)))
    .bind(frozen)
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("writing a notice"))?;
    Ok(done.rows_affected() == 1)
}

/// Drops the waiting notices of a warning; the channels of these. Call it before its withdrawal is enqueued.
pub async fn drop_waiting(
    connection: &mut Connection,
    warning_id: i64,
    reason: &str,
    now_ms: i64,
) -> Result<BTreeSet<String>, StoreError> {
    let dropped = sqlx::query(
        "UPDATE outbox SET state = 'dropped', error = $2, done_ms = $3 WHERE warning_id = $1 AND state = 'waiting' \
         RETURNING channel",
    )
    .bind(warning_id)
    .bind(bounded(reason))
    .bind(now_ms)
    .fetch_all(connection)
    .await
    .map_err(failed("dropping notices"))?;
    Ok(dropped.iter().map(|row| row.get(0)).collect())
}

/// The highest assigned id. Errors: [`StoreError`].
pub async fn last_id(connection: &mut Connection) -> Result<i64, StoreError> {
    sequences::last(connection, "outbox").await
}

/// The code of the newest case of a warning: among those for named handlers only, or among the others.
/// Errors: [`StoreError`].
pub async fn case_of(
    connection: &mut Connection,
    warning: i64,
    named_only: bool,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT code FROM cases JOIN case_warnings ON case_id = id WHERE warning_id = $1 AND named_only = $2 \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(warning)
    .bind(i16::from(named_only))
    .fetch_optional(connection)
    .await
    .map_err(failed("reading the case of a notice"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Writes what became of a row and returns its channel; `None` if that says nothing new: it is not there, or not in a state from
/// which this leads on. What was dropped while it was on its way counts as sent if it has arrived.
pub async fn settle(
    connection: &mut Connection,
    settlement: &Settlement,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let query = match &settlement.outcome {
        Delivery::Sent => sqlx::query(
            "UPDATE outbox SET state = 'sent', attempts = attempts + 1, done_ms = $2, error = NULL \
             WHERE id = $1 AND state IN ('waiting', 'dropped') RETURNING channel",
        )
        .bind(settlement.id)
        .bind(now_ms),
        Delivery::Retry { due_ms, error } => sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, due_ms = $2, error = $3 \
             WHERE id = $1 AND state = 'waiting' RETURNING channel",
        )
        .bind(settlement.id)
        .bind(*due_ms)
        .bind(bounded(error)),
        Delivery::Dead { error } => sqlx::query(
            "UPDATE outbox SET state = 'dead', attempts = attempts + 1, done_ms = $2, error = $3 \
             WHERE id = $1 AND state = 'waiting' RETURNING channel",
        )
        .bind(settlement.id)
        .bind(now_ms)
        .bind(bounded(error)),
        Delivery::Again => sqlx::query(
            "UPDATE outbox SET state = 'waiting', attempts = 0, due_ms = $2, done_ms = NULL, error = NULL \
             WHERE id = $1 AND state = 'dead' RETURNING channel",
        )
        .bind(settlement.id)
        .bind(now_ms),
    };
    let settled = query
        .fetch_optional(connection)
        .await
        .map_err(failed("writing what became of a notice"))?;
    Ok(settled.map(|row| row.get(0)))
}

/// Sends dead rows again, one or all; the channels of each.
pub async fn again(
    connection: &mut Connection,
    id: Option<i64>,
    now_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let mut query = Statement::new(
        "UPDATE outbox SET state = 'waiting', attempts = 0, done_ms = NULL, error = NULL, due_ms = ",
    );
    query.bind(now_ms).push(" WHERE state = 'dead'");
    if let Some(id) = id {
        query.push(" AND id = ").bind(id);
    }
    query.push(" RETURNING channel");
    let again = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("sending dead notices again"))?;
    Ok(again.iter().map(|row| row.get(0)).collect())
}

/// Shifts all due times after a jump of hub time, so that the time left stays the same. Errors:
/// [`StoreError`].
pub async fn move_due(connection: &mut Connection, by_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE outbox SET due_ms = due_ms + $1 WHERE state = 'waiting'")
        .bind(by_ms)
        .execute(connection)
        .await
        .map_err(failed("moving what waits in the outbox"))?;
    Ok(())
}

/// The due rows of a channel, gravest first, then in the order of the decisions. Errors: [`StoreError`].
pub async fn due(
    pool: &Pool,
    channel: &str,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, decision, severity, notice, created_ms, attempts FROM outbox \
         WHERE channel = $1 AND state = 'waiting' AND due_ms <= $2 ORDER BY severity DESC, id LIMIT $3",
    )
    .bind(channel)
    .bind(now_ms)
    .bind(limit as i64)
    .fetch_all(pool)
    .await
    .map_err(failed("reading what is due"))?;
    let waiting = |row: &Row| Waiting {
        id: row.get("id"),
        decision: row.get("decision"),
        severity: Severity::from(u8::try_from(row.get::<i64, _>("severity")).unwrap_or(u8::MAX)),
        notice: serde_json::from_str(row.get("notice")).map_err(|error| error.to_string()),
        created_ms: row.get("created_ms"),
        attempts: row.get("attempts"),
    };
    Ok(rows.iter().map(waiting).collect())
}

/// The notices of a warning that were sent to a channel, oldest first. Errors: [`StoreError`].
pub async fn told(pool: &Pool, channel: &str, warning_id: i64) -> Result<Vec<Notice>, StoreError> {
    let rows = sqlx::query(
        "SELECT notice FROM outbox WHERE warning_id = $1 AND channel = $2 AND state = 'sent' ORDER BY id",
    )
    .bind(warning_id)
    .bind(channel)
    .fetch_all(pool)
    .await
    .map_err(failed("reading what was told"))?;
    Ok(rows
        .iter()
        .filter_map(|row| serde_json::from_str(row.get("notice")).ok())
        .collect())
}

/// The backlog of a channel. Errors: [`StoreError`].
pub async fn standing(pool: &Pool, channel: &str) -> Result<ChannelBacklog, StoreError> {
    let waiting = sqlx::query(
        "SELECT COUNT(*), MIN(created_ms), MIN(due_ms) FROM outbox WHERE channel = $1 AND state = 'waiting'",
    )
    .bind(channel)
    .fetch_one(pool)
    .await
    .map_err(failed("counting what waits"))?;
    let dead = sqlx::query("SELECT COUNT(*) FROM outbox WHERE channel = $1 AND state = 'dead'")
        .bind(channel)
        .fetch_one(pool)
        .await
        .map_err(failed("counting dead notices"))?;
    Ok(ChannelBacklog {
        waiting: waiting.get(0),
        oldest_ms: waiting.get(1),
        due_ms: waiting.get(2),
        dead: dead.get(0),
    })
}

/// The channels with waiting rows. Errors: [`StoreError`].
pub async fn channels_waiting(pool: &Pool) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT channel FROM outbox WHERE state = 'waiting'")
        .fetch_all(pool)
        .await
        .map_err(failed("reading the channels of the outbox"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notifications, newest first. Errors: [`StoreError`].
pub async fn list(
    pool: &Pool,
    filter: &NotificationFilter,
) -> Result<Vec<NotificationView>, StoreError> {
    let mut query = Statement::new("SELECT * FROM outbox WHERE 1 = 1");
    if let Some(state) = &filter.state {
        query.push(" AND state = ").bind(state);
    }
    if let Some(channel) = &filter.channel {
        query.push(" AND channel = ").bind(channel);
    }
    if let Some(before) = filter.before {
        query.push(" AND id < ").bind(before);
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .bind(filter.limit as i64);
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(failed("listing notifications"))?;
    Ok(rows.iter().map(view).collect())
}

/// One notification. Errors: [`StoreError`].
pub async fn get(pool: &Pool, id: i64) -> Result<Option<NotificationView>, StoreError> {
    let row = sqlx::query("SELECT * FROM outbox WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a notification"))?;
    Ok(row.as_ref().map(view))
}

fn view(row: &Row) -> NotificationView {
    let state: String = row.get("state");
    NotificationView {
        id: row.get("id"),
        decision: row.get("decision"),
        channel: row.get("channel"),
        warning: row.get("warning_id"),
        attempts: row.get("attempts"),
        created_ms: row.get("created_ms"),
        due_ms: (state == "waiting").then(|| row.get("due_ms")),
        state,
        done_ms: row.get("done_ms"),
        error: row.get("error"),
        notice: serde_json::from_str(row.get("notice")).unwrap_or_default(),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
