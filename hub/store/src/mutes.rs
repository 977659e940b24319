//! Mutes and maintenance windows.
use serde::Serialize;
use sqlx::Row as _;

use super::{Connection, Pool, Row, StoreError, failed, flag, sequences};
use linli_domain::warnings::Mute;

/// A mute as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct MuteView {
    /// Id.
    pub id: i64,
    /// Id of the rule; empty: any.
    pub rule: String,
    /// Site; empty: any.
    pub site: String,
    /// Key; empty: any.
    pub key: String,
    /// Reason.
    pub reason: String,
    /// The responsible person.
    pub owner: String,
    /// Start, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// End, milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// It applies to warnings of life safety too.
    pub life: bool,
    /// When it was created, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// When it was ended early, milliseconds since 1970 UTC.
    pub ended_ms: Option<i64>,
}

/// The site of a mute; `None` if the mute does not exist. Errors: [`StoreError`].
pub async fn site_of(pool: &Pool, id: i64) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT site FROM mutes WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a mute"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Adds a mute. Errors: [`StoreError`].
pub async fn insert(
    connection: &mut Connection,
    mute: &Mute,
    created_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO mutes (id, rule, site, rule_key, reason, owner, from_ms, until_ms, life, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(mute.id)
    .bind(mute.rule.as_str())
    .bind(mute.site.as_str())
    .bind(mute.key.as_str())
    .bind(mute.reason.as_str())
    .bind(mute.owner.as_str())
    .bind(mute.from_ms)
    .bind(mute.until_ms)
    .bind(i16::from(mute.life))
    .bind(created_ms)
    .execute(connection)
    .await
    .map_err(failed("writing a mute"))?;
    Ok(())
}

/// Ends a mute and returns its site; `None`: it does not exist, or has ended.
pub async fn end(
    connection: &mut Connection,
    id: i64,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let ended = sqlx::query(
        "UPDATE mutes SET ended_ms = $2 WHERE id = $1 AND ended_ms IS NULL AND until_ms > $2 RETURNING site",
    )
    .bind(id)
    .bind(now_ms)
    .fetch_optional(connection)
    .await
    .map_err(failed("ending a mute"))?;
    Ok(ended.map(|row| row.get(0)))
}

/// The mutes in force. Errors: [`StoreError`].
pub async fn holding(connection: &mut Connection, now_ms: i64) -> Result<Vec<Mute>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM mutes WHERE ended_ms IS NULL AND from_ms <= $1 AND until_ms > $1 ORDER BY id",
    )
    .bind(now_ms)
    .fetch_all(connection)
    .await
    .map_err(failed("reading mutes"))?;
    Ok(rows.iter().map(mute).collect())
}

/// The mutes in force that have not been applied to waiting notices yet. Errors: [`StoreError`].
pub async fn beginning(connection: &mut Connection, now_ms: i64) -> Result<Vec<Mute>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM mutes WHERE begun = 0 AND from_ms <= $1 AND until_ms > $1 AND ended_ms IS NULL ORDER BY id",
    )
    .bind(now_ms)
    .fetch_all(connection)
    .await
    .map_err(failed("looking for mutes that begin"))?;
    Ok(rows.iter().map(mute).collect())
}

/// Marks a mute as applied; false if it was already. Errors: [`StoreError`].
pub async fn begin(connection: &mut Connection, id: i64) -> Result<bool, StoreError> {
    let begun = sqlx::query("UPDATE mutes SET begun = 1 WHERE id = $1 AND begun = 0")
        .bind(id)
        .execute(connection)
        .await
        .map_err(failed("beginning a mute"))?;
    Ok(begun.rows_affected() > 0)
}

fn mute(row: &Row) -> Mute {
    Mute {
        id: row.get("id"),
        rule: row.get("rule"),
        site: row.get("site"),
        key: row.get("rule_key"),
        reason: row.get("reason"),
        owner: row.get("owner"),
        from_ms: row.get("from_ms"),
        until_ms: row.get("until_ms"),
        life: flag(row, "life"),
    }
}

/// The highest assigned id. Errors: [`StoreError`].
pub async fn last_id(connection: &mut Connection) -> Result<i64, StoreError> {
    sequences::last(connection, "mutes").await
}

/// Mutes, newest first. Errors: [`StoreError`].
pub async fn list(
    pool: &Pool,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<MuteView>, StoreError> {
    let rows = sqlx::query("SELECT * FROM mutes WHERE id < $1 ORDER BY id DESC LIMIT $2")
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit as i64)
        .fetch_all(pool)
        .await
        .map_err(failed("listing mutes"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let mute = mute(row);
            MuteView {
                id: mute.id,
                rule: mute.rule,
                site: mute.site,
                key: mute.key,
                reason: mute.reason,
                owner: mute.owner,
                from_ms: mute.from_ms,
                until_ms: mute.until_ms,
                life: mute.life,
                created_ms: row.get("created_ms"),
                ended_ms: row.get("ended_ms"),
            }
        })
        .collect())
}
