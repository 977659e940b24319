//! Users and their sessions.
use serde::Serialize;
use sqlx::Row as _;

use super::tokens::{hash, same};
use super::{Connection, Pool, Row, StoreError, failed, flag};
use linli_domain::rights::{Actor, Role};

/// A user as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct UserView {
    /// Login.
    pub login: String,
    /// Name for people.
    pub name: String,
    /// Role.
    pub role: String,
    /// Id of the organisation.
    pub org: String,
    /// When the user was added, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Since when the user is disabled, milliseconds since 1970 UTC.
    pub disabled_ms: Option<i64>,
    /// The user signs in with OpenID Connect.
    pub oidc: bool,
}

/// A user to be stored.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Login.
    pub login: String,
    /// Name for people.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Id of the organisation.
    pub org: String,
    /// Hash of the password, a PHC string; empty: no sign-in with a password.
    pub password: String,
    /// The user signs in with OpenID Connect.
    pub oidc: bool,
}

/// Adds a user; false if the login is taken by a user, or is the name of a valid API token. Errors:
/// [`StoreError`].
pub async fn add(
    connection: &mut Connection,
    user: &NewUser,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO users (login, name, role, org, password, created_ms, oidc) \
         SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS \
         (SELECT 1 FROM api_tokens WHERE name = $1 AND revoked_ms IS NULL AND expires_ms > $6) \
         ON CONFLICT (login) DO NOTHING",
    )
    .bind(user.login.as_str())
    .bind(user.name.as_str())
    .bind(user.role.as_str())
    .bind(user.org.as_str())
    .bind(user.password.as_str())
    .bind(now_ms)
    .bind(i16::from(user.oidc))
    .execute(connection)
    .await
    .map_err(failed("adding a user"))?;
    Ok(done.rows_affected() > 0)
}

/// Sets a password and ends all sessions; false if the user does not exist. Errors: [`StoreError`].
pub async fn set_password(
    connection: &mut Connection,
    login: &str,
    password: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE users SET password = $2 WHERE login = $1")
        .bind(login)
        .bind(password)
        .execute(&mut *connection)
        .await
        .map_err(failed("setting a password"))?;
    ended_with(done.rows_affected() > 0, connection, login, now_ms).await
}

/// Disables or enables a user and ends all sessions; false, without ending sessions, if nothing changes.
/// Errors: [`StoreError`].
pub async fn disable(
    connection: &mut Connection,
    login: &str,
    disabled: bool,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE users SET disabled_ms = $2 WHERE login = $1 AND (disabled_ms IS NULL) = ($2 IS NOT NULL)",
    )
    .bind(login)
    .bind(disabled.then_some(now_ms))
    .execute(&mut *connection)
    .await
    .map_err(failed("disabling a user"))?;
    ended_with(done.rows_affected() > 0, connection, login, now_ms).await
}

/// Ends all sessions of a user if `is_changed`; returns `is_changed`.
pub(super) async fn ended_with(
    is_changed: bool,
    connection: &mut Connection,
    login: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    if !is_changed {
        return Ok(false);
    }
    sqlx::query("UPDATE sessions SET ended_ms = $2 WHERE login = $1 AND ended_ms IS NULL")
        .bind(login)
        .bind(now_ms)
        .execute(connection)
        .await
        .map_err(failed("ending sessions"))?;
    Ok(true)
}

/// The password hash of an enabled user. Errors: [`StoreError`].
pub async fn password(pool: &Pool, login: &str) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT password FROM users WHERE login = $1 AND disabled_ms IS NULL")
        .bind(login)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a user"))?;
    // A user without a password is indistinguishable from a missing one, in timing too.
    Ok(row
        .map(|row| row.get::<String, _>(0))
        .filter(|password| !password.is_empty()))
}

/// True if a user has this login. Errors: [`StoreError`].
pub async fn is_there(pool: &Pool, login: &str) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM users WHERE login = $1")
        .bind(login)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a user"))?;
    Ok(row.is_some())
}

/// All users, ordered by login. Errors: [`StoreError`].
pub async fn list(pool: &Pool) -> Result<Vec<UserView>, StoreError> {
    let rows = sqlx::query("SELECT * FROM users ORDER BY login")
        .fetch_all(pool)
        .await
        .map_err(failed("listing users"))?;
    Ok(rows
        .iter()
        .map(|row| UserView {
            login: row.get("login"),
            name: row.get("name"),
            role: row.get("role"),
            org: row.get("org"),
            created_ms: row.get("created_ms"),
            disabled_ms: row.get("disabled_ms"),
            oidc: flag(row, "oidc"),
        })
        .collect())
}

/// Begins a session. Errors: [`StoreError`].
pub async fn begin_session(
    connection: &mut Connection,
    id: &str,
    secret: &str,
    login: &str,
    now_ms: i64,
    expires_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1")
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed("forgetting old sessions"))?;
    sqlx::query(
        "INSERT INTO sessions (id, login, secret_sha256, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(login)
    .bind(hash(secret))
    .bind(now_ms)
    .bind(expires_ms)
    .execute(connection)
    .await
    .map_err(failed("beginning a session"))?;
    Ok(())
}

/// Ends a session. Errors: [`StoreError`].
pub async fn end_session(
    connection: &mut Connection,
    id: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET ended_ms = $2 WHERE id = $1 AND ended_ms IS NULL")
        .bind(id)
        .bind(now_ms)
        .execute(connection)
        .await
        .map_err(failed("ending a session"))?;
    Ok(())
}

/// The user of a session, if it is valid now. Errors: [`StoreError`].
pub async fn of_session(
    pool: &Pool,
    id: &str,
    secret: &str,
    now_ms: i64,
) -> Result<Option<Actor>, StoreError> {
    let row = sqlx::query(
        "SELECT secret_sha256, users.login AS login, role, org FROM sessions JOIN users ON users.login = sessions.login \
         WHERE id = $1 AND expires_ms > $2 AND ended_ms IS NULL AND disabled_ms IS NULL",
    )
    .bind(id)
    .bind(now_ms)
    .fetch_optional(pool)
    .await
    .map_err(failed("reading a session"))?;
    Ok(row
        .filter(|row| same(secret, row.get("secret_sha256")))
        .and_then(|row| actor(&row)))
}

/// An unknown role gives no rights.
fn actor(row: &Row) -> Option<Actor> {
    Some(Actor {
        login: row.get("login"),
        role: Role::from_name(row.get("role"))?,
        org: row.get("org"),
    })
}
