//! Messages to stations, kept until the station's agent has them on its disk and for some time after.
//!
//! ```text
//! enqueue ─▶ waiting ─ acknowledge ─▶ acknowledged ─ prune, after 90 days ─▶ gone
//!               ▲                          │
//!               └── begin: the agent reports fewer messages than before
//! ```
//!
//! * The numbers of an agent's messages begin at 1 and have no gaps. `stations.last_number` keeps the last
//!   one, so a number is not reused after its row was pruned.
//! * The number that an agent reports at the beginning of a session overrides the table: an agent whose disk
//!   was lost or restored gets the lost messages again, under the same sequences, as long as they are kept.
//! * An agent that reports a higher number than was ever assigned shows that this database was restored to an
//!   older state. Waiting messages then get numbers above that one, because the agent would take lower ones
//!   for duplicates.
//!
//! The owner of the writing connection calls all writing functions, in its transaction.
use linli_shared::protocol::frame::CaseStatus;
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use sqlx::Row as _;

use super::{Connection, Pool, Row, StoreError, failed, text};

/// How long an acknowledged message is kept, milliseconds.
pub const KEPT_MS: i64 = 90 * 86_400_000;

/// A message to a station. It has no field for a person; `text` must name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Code of the case; empty for a notice without a case.
    pub case: String,
    /// The source that reported the incident.
    pub source: String,
    /// The source's own id of the incident.
    pub source_id: String,
    /// One of [`linli_shared::protocol::frame::case_kind`].
    pub kind: &'static str,
    /// State of the case.
    pub state: String,
    /// When the case reached the state, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// A sentence for the station.
    pub text: String,
}

/// The backlog of messages to all stations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StationBacklog {
    /// Number of unacknowledged messages.
    pub waiting: i64,
    /// When the oldest of them was written, milliseconds since 1970 UTC.
    pub oldest_ms: Option<i64>,
}

/// Writes a message to the station of an agent; returns its number. In the writer's transaction, the caller
/// must pass the result to `TransactionMetrics::station_told`, so that the agent's session sends it right after the commit
/// and not only at its next poll. Errors: [`StoreError`].
pub async fn enqueue(
    connection: &mut Connection,
    agent: &str,
    message: &Message,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "INSERT INTO stations (agent, last_number) VALUES ($1, 1) \
         ON CONFLICT (agent) DO UPDATE SET last_number = stations.last_number + 1 RETURNING last_number",
    )
    .bind(agent)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("numbering a message to a station"))?;
    let number: i64 = row.get(0);
    sqlx::query(
        "INSERT INTO station_messages \
         (agent, number, case_code, source, source_id, kind, state, at_ms, text, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(agent)
    .bind(number)
    .bind(bounded(&message.case, NAME_BYTES_MAX))
    .bind(bounded(&message.source, NAME_BYTES_MAX))
    .bind(bounded(&message.source_id, NAME_BYTES_MAX))
    .bind(message.kind)
    .bind(bounded(&message.state, NAME_BYTES_MAX))
    .bind(message.at_ms)
    .bind(bounded(&message.text, TEXT_BYTES_MAX))
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("writing a message to a station"))?;
    Ok(number)
}

/// Text that both engines and the agent accept.
fn bounded(from: &str, bytes_max: usize) -> String {
    let from = text(from);
    from[..from.floor_char_boundary(bytes_max)].to_owned()
}

/// The waiting messages of an agent above a number, in order. Errors: [`StoreError`].
pub async fn unacked(
    pool: &Pool,
    agent: &AgentId,
    after: u64,
    limit: usize,
) -> Result<Vec<CaseStatus>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, case_code, source, source_id, kind, state, at_ms, text FROM station_messages \
         WHERE agent = $1 AND number > $2 AND acked_ms IS NULL ORDER BY number LIMIT $3",
    )
    .bind(agent.as_str())
    .bind(stored(after))
    .bind(limit as i64)
    .fetch_all(pool)
    .await
    .map_err(failed("reading messages to a station"))?;
    let status = |row: &Row| CaseStatus {
        id: row.get::<i64, _>("number").cast_unsigned(),
        case: row.get("case_code"),
        source: row.get("source"),
        source_id: row.get("source_id"),
        state: row.get("state"),
        at_ms: row.get("at_ms"),
        text: row.get("text"),
        kind: row.get("kind"),
    };
    Ok(rows.iter().map(status).collect())
}

/// A number as stored, capped at `i64::MAX`.
fn stored(number: u64) -> i64 {
    number.min(i64::MAX as u64).cast_signed()
}

/// Acknowledges all messages up to a number, which the agent has on its disk; returns how many are new.
/// Errors: [`StoreError`].
pub async fn acknowledge(
    connection: &mut Connection,
    agent: &AgentId,
    through: u64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE station_messages SET acked_ms = $3 WHERE agent = $1 AND number <= $2 AND acked_ms IS NULL",
    )
    .bind(agent.as_str())
    .bind(stored(through))
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("acknowledging messages to a station"))?;
    Ok(done.rows_affected())
}

/// Begins a session with an agent that has exactly the messages up to `through` on its disk. Errors:
/// [`StoreError`].
pub async fn begin(
    connection: &mut Connection,
    agent: &AgentId,
    through: u64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT last_number FROM stations WHERE agent = $1")
        .bind(agent.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("reading the last message to a station"))?;
    let last: i64 = row.map_or(0, |row| row.get(0));
    let through = stored(through);
    if through > last {
        // No hub assigned a number that leaves no room for others.
        if through > i64::MAX / 4 {
            return Ok(());
        }
        tracing::error!(
            %agent, last, through,
            "an agent has messages that this database does not know: it was put back, or the agent comes from another hub"
        );
        // All new numbers are above the old ones, so the update causes no conflict.
        sqlx::query(
            "UPDATE station_messages SET number = number + $2 WHERE agent = $1 AND acked_ms IS NULL",
        )
        .bind(agent.as_str())
        .bind(through)
        .execute(&mut *connection)
        .await
        .map_err(failed("numbering messages to a station anew"))?;
        sqlx::query(
            "INSERT INTO stations (agent, last_number) VALUES ($1, $2) \
             ON CONFLICT (agent) DO UPDATE SET last_number = excluded.last_number",
        )
        .bind(agent.as_str())
        .bind(last + through)
        .execute(&mut *connection)
        .await
        .map_err(failed("numbering messages to a station anew"))?;
        return Ok(());
    }
    let again = sqlx::query(
        "UPDATE station_messages SET acked_ms = NULL WHERE agent = $1 AND number > $2 AND acked_ms IS NOT NULL",
    )
    .bind(agent.as_str())
    .bind(through)
    .execute(&mut *connection)
    .await
    .map_err(failed("sending messages to a station again"))?;
    if again.rows_affected() > 0 {
        tracing::warn!(%agent, through, messages = again.rows_affected(), "an agent has lost messages to its station: they are sent again");
    }
    acknowledge(connection, agent, through.cast_unsigned(), now_ms).await?;
    Ok(())
}

/// Deletes messages acknowledged before a time; returns their number. Errors: [`StoreError`].
pub async fn prune(connection: &mut Connection, before_ms: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM station_messages WHERE acked_ms < $1")
        .bind(before_ms)
        .execute(connection)
        .await
        .map_err(failed("removing old messages to stations"))?;
    Ok(done.rows_affected())
}

/// The backlog of messages to all stations. Errors: [`StoreError`].
pub async fn standing(pool: &Pool) -> Result<StationBacklog, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*), MIN(created_ms) FROM station_messages WHERE acked_ms IS NULL",
    )
    .fetch_one(pool)
    .await
    .map_err(failed("counting messages to stations"))?;
    Ok(StationBacklog {
        waiting: row.get(0),
        oldest_ms: row.get(1),
    })
}

#[cfg(test)]
mod tests;
