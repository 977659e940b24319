//! Tokens: single-use join tokens, and API tokens. Only hashes of their secrets are stored.
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::Row as _;
use subtle::ConstantTimeEq;

use super::{Connection, Pool, StoreError, failed, flag};
use linli_domain::rights::{Actor, Role};

/// Why a join token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The token is unknown, or its secret is wrong.
    #[error("this token was not made by this hub, or was cut when it was copied")]
    Unknown,
    /// The token has been used.
    #[error("this token has been used by {0}: each token joins one agent, make another")]
    Used(String),
    /// The token has expired.
    #[error("this token has expired: make another with `linli-hub token create`")]
    Expired,
    /// An agent with this name exists at another site than the token's.
    #[error(
        "an agent {0} of another site has joined this hub: join under another name (--agent); the token is still good"
    )]
    NameTaken(String),
    /// An agent exists whose name differs only in the case of letters.
    #[error(
        "an agent {0} has joined this hub, and names that differ only in upper and lower case are one: join as {0}, or under \
         another name (--agent); the token is still good"
    )]
    NameAlike(String),
}

/// The hash of a secret: SHA-256, hexadecimal.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Compares a secret with a stored hash, in constant time.
pub fn same(secret: &str, stored: &str) -> bool {
    hash(secret).as_bytes().ct_eq(stored.as_bytes()).into()
}

/// What a join token grants to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGrant {
    /// Its site.
    pub site: String,
    /// It may join as a station's agent.
    pub station: bool,
}

/// Stores a new join token. Errors: [`StoreError`].
pub async fn add_join(
    connection: &mut Connection,
    id: &str,
    secret: &str,
    grant: &JoinGrant,
    now_ms: i64,
    expires_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO join_tokens (id, secret_sha256, site, created_ms, expires_ms, station) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(hash(secret))
    .bind(grant.site.as_str())
    .bind(now_ms)
    .bind(expires_ms)
    .bind(i16::from(grant.station))
    .execute(connection)
    .await
    .map_err(failed("writing a join token"))?;
    Ok(())
}

/// Checks a join token; returns what it grants. Errors: [`StoreError`].
pub async fn check_join(
    connection: &mut Connection,
    id: &str,
    secret: &str,
    now_ms: i64,
) -> Result<Result<JoinGrant, TokenRefusal>, StoreError> {
    let row = sqlx::query(
        "SELECT secret_sha256, site, station, expires_ms, used_by FROM join_tokens WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
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
    Ok(Ok(JoinGrant {
        site: row.get("site"),
        station: flag(&row, "station"),
    }))
}

/// Marks a join token as used, in the transaction that checked it. Errors: [`StoreError`].
pub async fn use_join(
    connection: &mut Connection,
    id: &str,
    agent: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE join_tokens SET used_ms = $2, used_by = $3 WHERE id = $1")
        .bind(id)
        .bind(now_ms)
        .bind(agent)
        .execute(connection)
        .await
        .map_err(failed("using up a join token"))?;
    Ok(())
}

/// The holder of an API token.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Name of the token.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Id of the organisation; empty: the centre.
    pub org: String,
}

/// Permitted length of the name of an API token, characters.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// Checks the name of an API token. Errors: the problem.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_good = name.trim() == name && !name.chars().any(char::is_control);
    if is_good && NAME_CHARS.contains(&name.chars().count()) {
        return Ok(());
    }
    Err(format!(
        "{} to {} characters, without spaces around them or control characters",
        NAME_CHARS.start(),
        NAME_CHARS.end()
    ))
}

/// The owner of a name that an API token must not reuse: the name is an actor in logs, and a sender of
/// `external` ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// Another valid token.
    #[error(
        "another API token has it: revoke that one first (`linli-hub api-token list`), or take another name"
    )]
    Token,
    /// A user.
    #[error("it is the login of a user (`linli-hub user list`): take another name")]
    User,
    /// An agent.
    #[error("it is the name of an agent (`linli-hub agents`): take another name")]
    Agent,
}

/// The owner of a name requested for a new API token.
async fn name_taken(
    connection: &mut Connection,
    name: &str,
    now_ms: i64,
) -> Result<Option<NameTaken>, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM api_tokens WHERE name = $1 AND revoked_ms IS NULL AND expires_ms > $2), \
         (SELECT COUNT(*) FROM users WHERE login = $1), (SELECT COUNT(*) FROM agents WHERE agent = $1)",
    )
    .bind(name)
    .bind(now_ms)
    .fetch_one(connection)
    .await
    .map_err(failed("looking for a name"))?;
    let holders = [NameTaken::Token, NameTaken::User, NameTaken::Agent];
    let taken = holders.into_iter().enumerate();
    Ok(taken
        .filter(|(column, _)| row.get::<i64, _>(*column) > 0)
        .map(|(_, taken)| taken)
        .next())
}

/// Stores a new API token in a transaction, if its name is free. Errors: [`StoreError`].
pub async fn add_api(
    connection: &mut Connection,
    id: &str,
    secret: &str,
    holder: &Holder,
    now_ms: i64,
    expires_ms: i64,
) -> Result<Result<(), NameTaken>, StoreError> {
    if let Some(taken) = name_taken(connection, &holder.name, now_ms).await? {
        return Ok(Err(taken));
    }
    sqlx::query(
        "INSERT INTO api_tokens (id, name, role, org, secret_sha256, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(holder.name.as_str())
    .bind(holder.role.as_str())
    .bind(holder.org.as_str())
    .bind(hash(secret))
    .bind(now_ms)
    .bind(expires_ms)
    .execute(connection)
    .await
    .map_err(failed("writing an API token"))?;
    Ok(Ok(()))
}

/// An API token as the command line shows it; the secret is not stored.
#[derive(Debug, Serialize)]
pub struct ApiTokenView {
    /// Id: the part after `llt.`.
    pub id: String,
    /// Name.
    pub name: String,
    /// Role.
    pub role: String,
    /// Id of the organisation; empty: the centre.
    pub org: String,
    /// When it was created, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Expiry, milliseconds since 1970 UTC.
    pub expires_ms: i64,
    /// When it was revoked, milliseconds since 1970 UTC.
    pub revoked_ms: Option<i64>,
}

/// All API tokens, oldest first. Errors: [`StoreError`].
pub async fn list_api(pool: &Pool) -> Result<Vec<ApiTokenView>, StoreError> {
    let rows = sqlx::query("SELECT * FROM api_tokens ORDER BY created_ms, id")
        .fetch_all(pool)
        .await
        .map_err(failed("listing API tokens"))?;
    Ok(rows
        .iter()
        .map(|row| ApiTokenView {
            id: row.get("id"),
            name: row.get("name"),
            role: row.get("role"),
            org: row.get("org"),
            created_ms: row.get("created_ms"),
            expires_ms: row.get("expires_ms"),
            revoked_ms: row.get("revoked_ms"),
        })
        .collect())
}

/// Revokes an API token; false if there is none of this id. What was revoked before stays as it was.
pub async fn revoke_api(
    connection: &mut Connection,
    id: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE api_tokens SET revoked_ms = COALESCE(revoked_ms, $2) WHERE id = $1")
            .bind(id)
            .bind(now_ms)
            .execute(connection)
            .await
            .map_err(failed("revoking an API token"))?;
    Ok(done.rows_affected() > 0)
}

/// The holder of an API token, if it is valid now. Errors: [`StoreError`].
pub async fn check_api(
    pool: &Pool,
    id: &str,
    secret: &str,
    now_ms: i64,
) -> Result<Option<Actor>, StoreError> {
    let row = sqlx::query(
        "SELECT secret_sha256, name, role, org FROM api_tokens \
         WHERE id = $1 AND expires_ms > $2 AND revoked_ms IS NULL",
    )
    .bind(id)
    .bind(now_ms)
    .fetch_optional(pool)
    .await
    .map_err(failed("reading an API token"))?;
    Ok(row
        .filter(|row| same(secret, row.get("secret_sha256")))
        .and_then(|row| {
            Some(Actor {
                login: format!("token:{}", row.get::<String, _>("name")),
                role: Role::from_name(row.get("role"))?,
                org: row.get("org"),
            })
        }))
}
