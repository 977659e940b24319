//! The files that cases refer to. A row is inserted with the action that adds a file, and deleted with the
//! action that removes it or with the case (`store/retention`).
use sqlx::Row as _;
use std::collections::HashSet;

use super::statement::Statement;
use super::{Connection, IDS_OF_QUERY_MAX, Pool, StoreError, failed};

/// A reference of a case to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referred {
    /// Id of the case.
    pub case_id: i64,
    /// Number of the action that added the file.
    pub number: i64,
    /// Code of the case.
    pub code: String,
    /// Digest of the content, which names the stored file.
    pub digest: String,
    /// Size of the content, bytes.
    pub bytes: u64,
}

/// Adds a reference. Errors: [`StoreError`].
pub async fn add(
    connection: &mut Connection,
    case: i64,
    number: i64,
    digest: &str,
    bytes: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO attachments (case_id, number, digest, bytes) VALUES ($1, $2, $3, $4)")
        .bind(case)
        .bind(number)
        .bind(digest)
        .bind(bytes as i64)
        .execute(connection)
        .await
        .map_err(failed("adding a file to a case"))?;
    Ok(())
}

/// Removes a reference. Errors: [`StoreError`].
pub async fn remove(connection: &mut Connection, case: i64, number: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM attachments WHERE case_id = $1 AND number = $2")
        .bind(case)
        .bind(number)
        .execute(connection)
        .await
        .map_err(failed("removing a file from a case"))?;
    Ok(())
}

/// Those of the files that a case refers to. Errors: [`StoreError`].
pub async fn referred(
    connection: &mut Connection,
    digests: &[String],
) -> Result<HashSet<String>, StoreError> {
    let mut found = HashSet::new();
    for digests in digests.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new("SELECT DISTINCT digest FROM attachments WHERE digest IN (");
        query.bind_all(digests.iter().map(String::as_str)).push(")");
        let rows = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("looking for cases that refer to files"))?;
        found.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    Ok(found)
}

/// References after one, ordered by case and number. Errors: [`StoreError`].
pub async fn after(
    connection: &mut Connection,
    (case, number): (i64, i64),
    limit: i64,
) -> Result<Vec<Referred>, StoreError> {
    let rows = sqlx::query(
        "SELECT case_id, number, code, digest, bytes FROM attachments JOIN cases ON cases.id = case_id \
         WHERE case_id > $1 OR case_id = $1 AND number > $2 ORDER BY case_id, number LIMIT $3",
    )
    .bind(case)
    .bind(number)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("listing the files of cases"))?;
    let referred = |row: &super::Row| Referred {
        case_id: row.get("case_id"),
        number: row.get("number"),
        code: row.get("code"),
        digest: row.get("digest"),
        bytes: row.get::<i64, _>("bytes") as u64,
    };
    Ok(rows.iter().map(referred).collect())
}

/// Number of references, and the sum of their sizes, bytes. Errors: [`StoreError`].
pub async fn sum(pool: &Pool) -> Result<(i64, i64), StoreError> {
    let row =
        sqlx::query("SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM attachments")
            .fetch_one(pool)
            .await
            .map_err(failed("counting the files of cases"))?;
    Ok((row.get(0), row.get(1)))
}
