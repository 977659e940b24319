//! The next expected sequence of each lane, and lost ranges.
use linli_shared::protocol::ids::{AgentId, Epoch, Lane, Sequence};
use sqlx::Row as _;

use super::{Connection, StoreError, failed, signed};

const DAY_MS: i64 = 86_400_000;

/// Identifies a stream of sequences.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// Agent.
    pub agent: AgentId,
    /// Lane.
    pub lane: Lane,
    /// Epoch.
    pub epoch: Epoch,
}

/// The next expected sequence; 0 if nothing has arrived yet. Errors: [`StoreError`].
pub async fn load(connection: &mut Connection, key: &LaneKey) -> Result<Sequence, StoreError> {
    let row =
        sqlx::query("SELECT next_seq FROM positions WHERE agent = $1 AND lane = $2 AND epoch = $3")
            .bind(key.agent.as_str())
            .bind(i16::from(key.lane.number()))
            .bind(signed(key.epoch.0))
            .fetch_optional(connection)
            .await
            .map_err(failed("reading a position"))?;
    Ok(Sequence(
        row.map_or(0, |row| row.get::<i64, _>(0).cast_unsigned()),
    ))
}

/// Sets the next expected sequence. Errors: [`StoreError`].
pub async fn save(
    connection: &mut Connection,
    key: &LaneKey,
    next: Sequence,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO positions (agent, lane, epoch, next_seq, asked_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (agent, lane, epoch) DO UPDATE SET next_seq = excluded.next_seq, asked_ms = excluded.asked_ms",
    )
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(next.0))
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("writing a position"))?;
    Ok(())
}

/// Records that an agent used this epoch of its spool. A resolution of days is enough, so it writes once a
/// day. Errors: [`StoreError`].
pub async fn asked(
    connection: &mut Connection,
    agent: &AgentId,
    epoch: Epoch,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE positions SET asked_ms = $3 WHERE agent = $1 AND epoch = $2 AND asked_ms < $4",
    )
    .bind(agent.as_str())
    .bind(signed(epoch.0))
    .bind(now_ms)
    .bind(now_ms.saturating_sub(DAY_MS))
    .execute(connection)
    .await
    .map_err(failed("noting with what an agent has come"))?;
    Ok(())
}

/// Starts the age of positions whose last use is unknown. Errors: [`StoreError`].
pub async fn begin(connection: &mut Connection, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE positions SET asked_ms = $1 WHERE asked_ms = 0")
        .bind(now_ms)
        .execute(connection)
        .await
        .map_err(failed("beginning to count the age of positions"))?;
    Ok(())
}

/// Records a range that will never arrive. Errors: [`StoreError`].
pub async fn add_lost(
    connection: &mut Connection,
    key: &LaneKey,
    first: Sequence,
    end: Sequence,
    reason: &str,
    noted_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO lost_ranges (agent, lane, epoch, first_seq, end_seq, reason, noted_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (agent, lane, epoch, first_seq) DO NOTHING",
    )
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(first.0))
    .bind(signed(end.0))
    .bind(reason)
    .bind(noted_ms)
    .execute(connection)
    .await
    .map_err(failed("noting a lost range"))?;
    Ok(())
}

/// True if any part of a range is recorded as lost. Errors: [`StoreError`].
pub async fn any_lost(
    connection: &mut Connection,
    key: &LaneKey,
    first: Sequence,
    end: Sequence,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM lost_ranges WHERE agent = $1 AND lane = $2 AND epoch = $3 \
         AND first_seq < $5 AND end_seq > $4 LIMIT 1",
    )
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(first.0))
    .bind(signed(end.0))
    .fetch_optional(connection)
    .await
    .map_err(failed("reading lost ranges"))?;
    Ok(row.is_some())
}
