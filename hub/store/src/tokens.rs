//! Tokens: single-use ones to join, and those of the API. Only hashes of their secrets are kept.
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::Row as _;
use subtle::ConstantTimeEq;

use super::{Connection, Pool, StoreError, failed, flag};
use linli_domain::rights::{Actor, Role};

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
    /// An agent of that name is there, at another site than the token's.
    #[error(
        "an agent {0} of another site has joined this hub: join under another name (--agent); the token is still good"
    )]
    NameTaken(String),
    /// An agent is there whose name differs in the case of letters only.
    #[error(
        "an agent {0} has joined this hub, and names that differ only in upper and lower case are one: join as {0}, or under \
         another name (--agent); the token is still good"
    )]
    NameAlike(String),
}

pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

pub fn same(secret: &str, stored: &str) -> bool {
    hash(secret).as_bytes().ct_eq(stored.as_bytes()).into()
}

/// What a join token lets an agent into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGrant {
    /// Its site.
    pub site: String,
    /// It is a station's.
    pub station: bool,
}

/// Keeps a new join token.
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

/// Whether a join token is good now, and what for.
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

/// Uses up a join token, within the transaction that has checked it.
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

/// Who a token of the API is for.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Id of the organisation; empty: the centre's.
    pub org: String,
}

/// Characters of the name of a token of the API.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

/// What is wrong with the name of a token of the API.
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

/// Who has a name that a token of the API must not have: it is an actor in logs, and a sender of `external` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// Another token that is good.
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

/// Who has the name that a new token of the API is to have.
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

/// Keeps a new API token, in a transaction, where nobody else has its name.
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

/// A token of the API as the command line shows it; its secret is not kept.
#[derive(Debug, Serialize)]
pub struct ApiTokenView {
    /// Which: the part after `llt.`.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// For which organisation; empty: the centre's.
    pub org: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Until when it is good, milliseconds since 1970 UTC.
    pub expires_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// All API tokens, oldest first.
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

/// Whose API token this is, if it is good now.
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
