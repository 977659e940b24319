//! Ids of rows are never reused, even if the row with the highest one was deleted.
use sqlx::{AssertSqlSafe, Row as _};

use super::{Connection, StoreError, failed, versions};

/// The highest id ever assigned in a table with key `id`. Errors: [`StoreError`].
pub async fn last(connection: &mut Connection, table: &'static str) -> Result<i64, StoreError> {
    let kept = versions::get(connection, &name(table)).await?;
    Ok(highest(connection, table).await?.max(kept))
}

/// Stores the highest id before rows are deleted, in the transaction that deletes them. Errors:
/// [`StoreError`].
pub async fn keep(connection: &mut Connection, table: &'static str) -> Result<(), StoreError> {
    let last = last(connection, table).await?;
    versions::set(connection, &name(table), last).await
}

fn name(table: &str) -> String {
    format!("last/{table}")
}

async fn highest(connection: &mut Connection, table: &'static str) -> Result<i64, StoreError> {
    // The name of the table comes from the program.
    let text = format!("SELECT COALESCE(MAX(id), 0) FROM {table}");
    let row = sqlx::query(AssertSqlSafe(text))
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last number of a table"))?;
    Ok(row.get(0))
}
