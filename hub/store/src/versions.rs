//! Version sequences, to detect whether data cached in memory or computed earlier is stale.
use sqlx::Row as _;

use super::{Connection, StoreError, failed};

/// Version of organisations and places; increases with each change.
pub const DIRECTORY: &str = "directory";
/// Version of the inputs of cases' deadlines.
pub const DEADLINES: &str = "deadlines";

/// The number; 0 if never written. Errors: [`StoreError`].
pub async fn get(connection: &mut Connection, name: &str) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT number FROM versions WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
        .map_err(failed("reading a version"))?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// Sets the number. Errors: [`StoreError`].
pub async fn set(connection: &mut Connection, name: &str, number: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO versions (name, number) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET number = excluded.number",
    )
    .bind(name)
    .bind(number)
    .execute(connection)
    .await
    .map_err(failed("writing a version"))?;
    Ok(())
}
