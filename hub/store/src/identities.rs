//! Accounts of the OpenID provider, and the users that they are of. Each user has one at most.
use sqlx::Row as _;

use super::users::ended_with;
use super::{Connection, Pool, Row, StoreError, failed, flag};

/// A user, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub login: String,
    pub is_disabled: bool,
    /// Marked as one who signs in by OpenID Connect.
    pub is_marked: bool,
    /// An account is theirs.
    pub has_account: bool,
}

/// What the store knows of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whose it is.
    pub of_account: Option<Known>,
    /// Who has the login that it names.
    pub of_login: Option<Known>,
}

/// What is known of an account, and of the user whose login it names.
pub async fn standing(
    pool: &Pool,
    issuer: &str,
    subject: &str,
    login: Option<&str>,
) -> Result<Standing, StoreError> {
    const USER: &str = "SELECT users.login AS login, disabled_ms, oidc, \
        (SELECT COUNT(*) FROM identities WHERE identities.login = users.login) AS accounts FROM users WHERE users.login = ";
    let of_account =
        format!("{USER}(SELECT login FROM identities WHERE issuer = $1 AND subject = $2)");
    let of_account = sqlx::query(sqlx::AssertSqlSafe(of_account))
        .bind(issuer)
        .bind(subject)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading whose an account is"))?;
    let of_login = sqlx::query(sqlx::AssertSqlSafe(format!("{USER}$1")))
        .bind(login.unwrap_or_default())
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a user"))?;
    Ok(Standing {
        of_account: of_account.as_ref().map(known),
        of_login: of_login.as_ref().map(known),
    })
}

fn known(row: &Row) -> Known {
    Known {
        login: row.get("login"),
        is_disabled: row.get::<Option<i64>, _>("disabled_ms").is_some(),
        is_marked: flag(row, "oidc"),
        has_account: row.get::<i64, _>("accounts") > 0,
    }
}

/// An account is that of a user.
pub async fn is_linked(
    connection: &mut Connection,
    issuer: &str,
    subject: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM identities WHERE issuer = $1 AND subject = $2")
        .bind(issuer)
        .bind(subject)
        .fetch_optional(connection)
        .await
        .map_err(failed("looking for an account"))?;
    Ok(row.is_some())
}

/// Makes an account that of a user; false if it or the user has another one, or the user is not one who may.
pub async fn link(
    connection: &mut Connection,
    issuer: &str,
    subject: &str,
    login: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO identities (issuer, subject, login, linked_ms) \
         SELECT $1, $2, login, $4 FROM users WHERE login = $3 AND oidc = 1 AND disabled_ms IS NULL \
         ON CONFLICT DO NOTHING",
    )
    .bind(issuer)
    .bind(subject)
    .bind(login)
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("linking an account"))?;
    Ok(done.rows_affected() > 0)
}

/// Lets a user sign in by OpenID Connect, or no more: then their account is forgotten and their sessions end. False if
/// that changes nothing.
pub async fn mark(
    connection: &mut Connection,
    login: &str,
    on: bool,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE users SET oidc = $2 WHERE login = $1 AND oidc <> $2")
        .bind(login)
        .bind(i16::from(on))
        .execute(&mut *connection)
        .await
        .map_err(failed("marking a user"))?;
    let is_changed = done.rows_affected() > 0;
    if on || !is_changed {
        return Ok(is_changed);
    }
    sqlx::query("DELETE FROM identities WHERE login = $1")
        .bind(login)
        .execute(&mut *connection)
        .await
        .map_err(failed("forgetting an account"))?;
    ended_with(true, connection, login, now_ms).await
}
