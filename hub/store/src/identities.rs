//! Accounts of the OpenID provider and their users. A user has at most one account.
use sqlx::Row as _;

use super::users::ended_with;
use super::{Connection, Pool, Row, StoreError, failed, flag};

/// The relevant data of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Login.
    pub login: String,
    /// The user is disabled.
    pub is_disabled: bool,
    /// The user may sign in with OpenID Connect.
    pub is_marked: bool,
    /// The user has a linked account.
    pub has_account: bool,
}

/// The users related to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountStatus {
    /// The user linked to the account.
    pub of_account: Option<Known>,
    /// The user with the login that the account names.
    pub of_login: Option<Known>,
}

/// The users related to an account, by link and by login. Errors: [`StoreError`].
pub async fn standing(
    pool: &Pool,
    issuer: &str,
    subject: &str,
    login: Option<&str>,
) -> Result<AccountStatus, StoreError> {
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
    Ok(AccountStatus {
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

/// True if an account is linked to a user. Errors: [`StoreError`].
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

/// Links an account to a user; false if either has another link, or the user may not sign in with it. Errors:
/// [`StoreError`].
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

/// Enables or disables OpenID Connect for a user. Disabling deletes the linked account and ends the sessions.
/// False if nothing changes. Errors: [`StoreError`].
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
