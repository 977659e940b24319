//! Tokens: single-use ones to join, and those of the API. Only hashes of their secrets are kept.
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use subtle::ConstantTimeEq;

use super::{StoreError, failed};

/// Why a join token does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not known, or its secret is wrong.
    #[error("this token was not made by this hub, or was cut when it was copied")]
    Unknown,
    /// It has been used.
    #[error("this token has been used by {0}: each token joins one agent, make another")]
    Used(String),
    /// Its time is over.
    #[error("this token has expired: make another with `linli-hub token create`")]
    Expired,
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn same(secret: &str, stored: &str) -> bool {
    hash(secret).as_bytes().ct_eq(stored.as_bytes()).into()
}

/// Keeps a new join token.
pub async fn add_join(
    pool: &SqlitePool,
    id: &str,
    secret: &str,
    site: &str,
    now_ms: i64,
    expires_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO join_tokens (id, secret_sha256, site, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(hash(secret))
    .bind(site)
    .bind(now_ms)
    .bind(expires_ms)
    .execute(pool)
    .await
    .map_err(failed("writing a join token"))?;
    Ok(())
}

/// Uses up a join token within the caller's transaction and gives its site.
pub async fn use_join(
    connection: &mut SqliteConnection,
    id: &str,
    secret: &str,
    agent: &str,
    now_ms: i64,
) -> Result<Result<String, TokenRefusal>, StoreError> {
    let row = sqlx::query(
        "SELECT secret_sha256, site, expires_ms, used_by FROM join_tokens WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("reading a join token"))?;
    let Some(row) = row else {
        return Ok(Err(TokenRefusal::Unknown));
    };
    if !same(secret, row.get("secret_sha256")) {
        return Ok(Err(TokenRefusal::Unknown));
    }
    if let Some(used_by) = row.get::<Option<String>, _>("used_by") {
        return Ok(Err(TokenRefusal::Used(used_by)));
    }
    if row.get::<i64, _>("expires_ms") <= now_ms {
        return Ok(Err(TokenRefusal::Expired));
    }
    sqlx::query("UPDATE join_tokens SET used_ms = $2, used_by = $3 WHERE id = $1")
        .bind(id)
        .bind(now_ms)
        .bind(agent)
        .execute(connection)
        .await
        .map_err(failed("using up a join token"))?;
    Ok(Ok(row.get("site")))
}

/// Keeps a new API token.
pub async fn add_api(
    pool: &SqlitePool,
    id: &str,
    secret: &str,
    name: &str,
    now_ms: i64,
    expires_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_tokens (id, name, secret_sha256, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(name)
    .bind(hash(secret))
    .bind(now_ms)
    .bind(expires_ms)
    .execute(pool)
    .await
    .map_err(failed("writing an API token"))?;
    Ok(())
}

/// Whether an API token is good now.
pub async fn check_api(
    pool: &SqlitePool,
    id: &str,
    secret: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT secret_sha256 FROM api_tokens \
         WHERE id = $1 AND expires_ms > $2 AND revoked_ms IS NULL",
    )
    .bind(id)
    .bind(now_ms)
    .fetch_optional(pool)
    .await
    .map_err(failed("reading an API token"))?;
    Ok(row.is_some_and(|row| same(secret, row.get("secret_sha256"))))
}
