//! Progress of a copy into this database.
//!
//! Each table that was begun has a row, and the whole copy has one ([`WHOLE`]) from its beginning to its end.
//! While any row exists, no hub may use the database. The row of a table is written in the transaction of the
//! copied rows.
use sqlx::Row as _;
use std::collections::HashMap;

use super::{Connection, StoreError, failed};

/// Name of the row for the whole copy.
pub const WHOLE: &str = "*";

/// Progress of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Key of the last copied row, as JSON; empty before the first.
    pub last_key: String,
    /// Number of copied rows.
    pub copied: i64,
}

/// True if a copy into this database was begun and not finished. Errors: [`StoreError`].
pub async fn is_unfinished(connection: &mut Connection) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM copying")
        .fetch_one(connection)
        .await
        .map_err(failed("looking for a copy that was cut off"))?;
    Ok(row.get::<i64, _>(0) > 0)
}

/// Progress of each table, by name. Errors: [`StoreError`].
pub async fn read(connection: &mut Connection) -> Result<HashMap<String, Progress>, StoreError> {
    let rows = sqlx::query("SELECT name, last_key, copied FROM copying")
        .fetch_all(connection)
        .await
        .map_err(failed("reading how far a copy has come"))?;
    let progress = |row: &super::Row| Progress {
        last_key: row.get(1),
        copied: row.get(2),
    };
    Ok(rows.iter().map(|row| (row.get(0), progress(row))).collect())
}

/// Saves the progress of a table. Errors: [`StoreError`].
pub async fn save(
    connection: &mut Connection,
    name: &str,
    progress: &Progress,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO copying (name, last_key, copied) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET last_key = excluded.last_key, copied = excluded.copied",
    )
    .bind(name)
    .bind(progress.last_key.as_str())
    .bind(progress.copied)
    .execute(connection)
    .await
    .map_err(failed("noting how far a copy has come"))?;
    Ok(())
}

/// Ends the copy. Errors: [`StoreError`].
pub async fn finish(connection: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM copying")
        .execute(connection)
        .await
        .map_err(failed("ending a copy"))?;
    Ok(())
}
