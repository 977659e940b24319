//! Events for rules that read the store, and since when each rule has its current content.
use linli_shared::protocol::event::Delivery;
use linli_shared::protocol::ids::Lane;
use sqlx::Row as _;
use std::collections::HashMap;

use super::statement::Statement;
use super::{Connection, StoreError, failed, signed};

/// Rows of one INSERT, 11 values each: SQLite looks each value up by name, so twice as many take four times
/// as long.
const INSERT_ROWS_MAX: usize = 24;

/// An event of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceRow {
    /// Id of the rule.
    pub rule: String,
    /// Key of the rule.
    pub key: String,
    /// Time of the event, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Agent.
    pub agent: String,
    /// Lane.
    pub lane: Lane,
    /// Epoch.
    pub epoch: u64,
    /// Sequence number.
    pub sequence: u64,
    /// Site.
    pub site: String,
    /// The steps that it fits, one bit each.
    pub steps: u16,
    /// When its agent received it, whole seconds since 1970 UTC.
    pub received_s: u32,
    /// Whether it was reported live.
    pub delivery: Delivery,
}

/// Adds events; existing ones stay unchanged. Errors: [`StoreError`].
pub async fn insert(connection: &mut Connection, rows: &[OccurrenceRow]) -> Result<(), StoreError> {
    for rows in rows.chunks(INSERT_ROWS_MAX) {
        let mut query = Statement::new(
            "INSERT INTO occurrences (rule, rule_key, at_ms, agent, lane, epoch, sequence, site, steps, received_s, \
             delivery) ",
        );
        query.rows(rows, |values, row| {
            values
                .bind(row.rule.as_str())
                .bind(row.key.as_str())
                .bind(row.at_ms)
                .bind(row.agent.as_str())
                .bind(i16::from(row.lane.number()))
                .bind(signed(row.epoch))
                .bind(signed(row.sequence))
                .bind(row.site.as_str())
                .bind(i32::from(row.steps))
                .bind(i64::from(row.received_s))
                .bind(i16::from(u8::from(row.delivery)));
        });
        query.push(" ON CONFLICT DO NOTHING");
        query
            .build()
            .execute(&mut *connection)
            .await
            .map_err(failed("noting events of a rule"))?;
    }
    Ok(())
}

/// The events of a key, ordered by time; the newest `limit` if there are more. Errors: [`StoreError`].
pub async fn read(
    connection: &mut Connection,
    rule: &str,
    key: &str,
    limit: usize,
) -> Result<Vec<OccurrenceRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM occurrences WHERE rule = $1 AND rule_key = $2 ORDER BY at_ms DESC LIMIT $3",
    )
    .bind(rule)
    .bind(key)
    .bind(limit as i64)
    .fetch_all(connection)
    .await
    .map_err(failed("reading events of a rule"))?;
    Ok(rows
        .iter()
        .rev()
        .map(|row| OccurrenceRow {
            rule: row.get("rule"),
            key: row.get("rule_key"),
            at_ms: row.get("at_ms"),
            agent: row.get("agent"),
            lane: Lane::from_number(row.get::<i16, _>("lane") as u8).unwrap_or(Lane::Routine),
            epoch: row.get::<i64, _>("epoch").cast_unsigned(),
            sequence: row.get::<i64, _>("sequence").cast_unsigned(),
            site: row.get("site"),
            steps: row.get::<i32, _>("steps") as u16,
            received_s: row.get::<i64, _>("received_s") as u32,
            delivery: Delivery::from(row.get::<i16, _>("delivery") as u8),
        })
        .collect())
}

/// Deletes the events of a rule. Errors: [`StoreError`].
pub async fn forget(connection: &mut Connection, rule: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM occurrences WHERE rule = $1")
        .bind(rule)
        .execute(connection)
        .await
        .map_err(failed("forgetting events of a rule"))?;
    Ok(())
}

/// The running rules: id → hash of the content, and since when. Errors: [`StoreError`].
pub async fn rules(
    connection: &mut Connection,
) -> Result<HashMap<String, (String, i64)>, StoreError> {
    let rows = sqlx::query("SELECT id, hash, since_ms FROM rules")
        .fetch_all(connection)
        .await
        .map_err(failed("reading the rules"))?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect())
}

/// Stores the content hash of a rule, valid from `since_ms`. Errors: [`StoreError`].
pub async fn set_rule(
    connection: &mut Connection,
    id: &str,
    hash: &str,
    since_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rules (id, hash, since_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, since_ms = excluded.since_ms",
    )
    .bind(id)
    .bind(hash)
    .bind(since_ms)
    .execute(connection)
    .await
    .map_err(failed("noting a rule"))?;
    Ok(())
}

/// Deletes a rule that no longer runs; if it returns, it starts anew. Errors: [`StoreError`].
pub async fn forget_rule(connection: &mut Connection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM rules WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .map_err(failed("forgetting a rule"))?;
    Ok(())
}
