//! The audit log.
use sqlx::Row as _;

use super::statement::Statement;
use super::{Connection, Pool, Row, StoreError, failed};
use linli_domain::audit::{AuditEntry, AuditRecord};

/// A filter of entries.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this object.
    pub object: Option<String>,
    /// Only this actor.
    pub actor: Option<String>,
    /// Only numbers below this one.
    pub before: Option<i64>,
    /// Maximum number of entries.
    pub limit: usize,
}

/// Appends an entry to the chain, in a write transaction. Errors: [`StoreError`].
pub async fn append(connection: &mut Connection, deed: AuditRecord) -> Result<(), StoreError> {
    let last = sqlx::query("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("reading the end of the audit log"))?;
    let last = last.map(|row| (row.get::<i64, _>(0), row.get::<String, _>(1)));
    let entry = AuditEntry::after(last.as_ref(), deed);
    sqlx::query(
        "INSERT INTO audit (number, at_ms, actor, action, object, reason, detail, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(entry.number)
    .bind(entry.deed.at_ms)
    .bind(entry.deed.actor)
    .bind(entry.deed.action)
    .bind(entry.deed.object)
    .bind(entry.deed.reason)
    .bind(entry.deed.detail)
    .bind(entry.hash)
    .execute(connection)
    .await
    .map_err(failed("writing to the audit log"))?;
    Ok(())
}

/// Entries, newest first. Errors: [`StoreError`].
pub async fn list(pool: &Pool, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
    let mut query = Statement::new("SELECT * FROM audit WHERE 1 = 1");
    if let Some(object) = &filter.object {
        query.push(" AND object = ").bind(object.as_str());
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor = ").bind(actor.as_str());
    }
    if let Some(before) = filter.before {
        query.push(" AND number < ").bind(before);
    }
    query
        .push(" ORDER BY number DESC LIMIT ")
        .bind(filter.limit as i64);
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(failed("listing the audit log"))?;
    Ok(rows.iter().map(entry).collect())
}

/// Entries after a number, oldest first, for verifying the chain. Errors: [`StoreError`].
pub async fn after(pool: &Pool, number: i64, limit: i64) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = sqlx::query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2")
        .bind(number)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(failed("reading the audit log"))?;
    Ok(rows.iter().map(entry).collect())
}

fn entry(row: &Row) -> AuditEntry {
    AuditEntry {
        number: row.get("number"),
        deed: AuditRecord {
            at_ms: row.get("at_ms"),
            actor: row.get("actor"),
            action: row.get("action"),
            object: row.get("object"),
            reason: row.get("reason"),
            detail: row.get("detail"),
        },
        hash: row.get("hash"),
    }
}
