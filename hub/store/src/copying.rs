//! How far a copy into this database has come.
//!
//! There is a row for each table that was begun, and one for the whole ([`WHOLE`]) from the beginning to the end. While
//! there is any, the database is no hub's. A table's row is written in the transaction of the rows that it tells of.
use sqlx::Row as _;
use std::collections::HashMap;

use super::{Connection, StoreError, failed};

/// The name of the row for the whole copy.
pub const WHOLE: &str = "*";

/// How far a table has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The key of the last row, as JSON; empty before the first.
    pub last_key: String,
    /// Rows so far.
    pub copied: i64,
}

/// Whether a copy into this database was begun and not ended.
pub async fn is_unfinished(connection: &mut Connection) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM copying")
        .fetch_one(connection)
        .await
        .map_err(failed("looking for a copy that was cut off"))?;
    Ok(row.get::<i64, _>(0) > 0)
}

/// How far each table has come.
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

/// Notes how far a table has come.
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

/// The copy is whole.
pub async fn finish(connection: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM copying")
        .execute(connection)
        .await
        .map_err(failed("ending a copy"))?;
    Ok(())
}
