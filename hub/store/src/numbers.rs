//! Numbers of rows are given once: also where the row with the highest was deleted.
use sqlx::{AssertSqlSafe, Row as _};

use super::{Connection, StoreError, failed, versions};

/// The highest number that was ever given in a table whose key is `id`.
pub async fn last(connection: &mut Connection, table: &'static str) -> Result<i64, StoreError> {
    let kept = versions::get(connection, &name(table)).await?;
    Ok(highest(connection, table).await?.max(kept))
}

/// Keeps the highest number before rows are deleted, in the transaction that deletes them.
pub async fn keep(connection: &mut Connection, table: &'static str) -> Result<(), StoreError> {
    let last = last(connection, table).await?;
    versions::set(connection, &name(table), last).await
}

fn name(table: &str) -> String {
    format!("last/{table}")
}

async fn highest(connection: &mut Connection, table: &'static str) -> Result<i64, StoreError> {
    // Tables are named by the program.
    let text = format!("SELECT COALESCE(MAX(id), 0) FROM {table}");
    let row = sqlx::query(AssertSqlSafe(text))
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last number of a table"))?;
    Ok(row.get(0))
}
