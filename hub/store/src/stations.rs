//! Messages to stations, until the station's agent has them on its disk and for a while after.
//!
//! ```text
//! enqueue ─▶ waiting ─ acknowledge ─▶ acknowledged ─ prune, after 90 days ─▶ gone
//!               ▲                          │
//!               └── begin: the agent says that it has less than it had said
//! ```
//!
//! * Numbers of an agent begin at 1 and have no gaps; `stations.last_number` holds the last one, so that a
//!   number is not given again when its row has been pruned.
//! * What an agent says at the beginning of a session is believed before what the table says: an agent whose
//!   disk was lost or put back gets again what it has lost, under the same numbers, as long as it is kept.
//! * An agent that has a higher number than was ever given says that this database was put back to an older
//!   state. What waits gets numbers above that one, for the agent would take the lower for repetitions.
//!
//! All that writes is called by the owner of the writing connection, in its transaction.
use linli_shared::protocol::frame::CaseStatus;
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use sqlx::Row as _;

use super::{Connection, Pool, Row, StoreError, failed, text};

/// How long an acknowledged message is kept, milliseconds.
pub const KEPT_MS: i64 = 90 * 86_400_000;

/// What a station is told. There is no field for a person; `text` must name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Code of the case; empty for a notice that belongs to none.
    pub case: String,
    /// The source that reported the incident.
    pub source: String,
    /// The source's own id of the incident.
    pub source_id: String,
    /// One of [`linli_shared::protocol::frame::case_kind`].
    pub kind: &'static str,
    /// State of the case.
    pub state: String,
    /// Since when.
    pub at_ms: i64,
    /// A sentence for the station.
    pub text: String,
}

/// How the messages to all stations stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Messages that no agent has acknowledged.
    pub waiting: i64,
    /// When the oldest of them was written.
    pub oldest_ms: Option<i64>,
}

/// Writes a message to the station of an agent; its number. Where this is called within the writer's
/// transaction, `Tally::station_told` is to be called with what it gives, so that the agent's session sends
/// it right after the commit and not only when it looks again.
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

/// Text that both engines and the agent take.
fn bounded(from: &str, bytes_max: usize) -> String {
    let from = text(from);
    from[..from.floor_char_boundary(bytes_max)].to_owned()
}

/// What waits for an agent above a number, in order.
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

/// A number as it is stored: none is larger.
fn stored(number: u64) -> i64 {
    number.min(i64::MAX as u64).cast_signed()
}

/// An agent has everything up to a number on its disk: for how many messages that is news.
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

/// A session begins with an agent that has everything up to a number on its disk, and nothing above it.
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
        // A number that leaves no room for others was given by no hub.
        if through > i64::MAX / 4 {
            return Ok(());
        }
        tracing::error!(
            %agent, last, through,
            "an agent has messages that this database does not know: it was put back, or the agent comes from another hub"
        );
        // All are above the old ones, so none meets another on the way.
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

/// Removes what was acknowledged before: how many.
pub async fn prune(connection: &mut Connection, before_ms: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM station_messages WHERE acked_ms < $1")
        .bind(before_ms)
        .execute(connection)
        .await
        .map_err(failed("removing old messages to stations"))?;
    Ok(done.rows_affected())
}

/// How the messages to all stations stand.
pub async fn standing(pool: &Pool) -> Result<Standing, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*), MIN(created_ms) FROM station_messages WHERE acked_ms IS NULL",
    )
    .fetch_one(pool)
    .await
    .map_err(failed("counting messages to stations"))?;
    Ok(Standing {
        waiting: row.get(0),
        oldest_ms: row.get(1),
    })
}

#[cfg(test)]
mod tests;
