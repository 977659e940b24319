//! What is changed about people and organisations, each with its entry in the audit log, within a transaction.
//! The hub's writer does it for the API, the command line by itself.
use crate::audit::Deed;
use crate::orgs::Change;
use crate::store::users::NewUser;
use crate::store::{Connection, StoreError, audit, orgs, users};
use crate::users::SESSION_MS;

/// A change.
#[derive(Debug, Clone)]
pub enum People {
    /// A new user.
    AddUser(NewUser),
    /// Another password, as a PHC string.
    SetPassword { login: String, password: String },
    /// A user can sign in no more, or again.
    Disable { login: String, disabled: bool },
    /// Somebody has signed in.
    BeginSession {
        id: String,
        secret: String,
        login: String,
    },
    /// Somebody signs out.
    EndSession { id: String, login: String },
    /// Organisations and places.
    Directory(Vec<Change>),
    /// Something was seen or refused.
    Note {
        action: String,
        object: String,
        reason: String,
        detail: String,
    },
}

/// Makes a change; false where it changes nothing: the login is taken, or not there.
pub async fn perform(
    connection: &mut Connection,
    change: &People,
    actor: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let deed = |action: &str, object: String, detail: String| Deed {
        at_ms: now_ms,
        actor: actor.to_owned(),
        action: action.to_owned(),
        object,
        reason: String::new(),
        detail,
    };
    let user = |login: &str| format!("user/{login}");
    let (done, deed) = match change {
        People::AddUser(new) => {
            let detail = format!("{} of {:?}", new.role.as_str(), new.org);
            let done = users::add(connection, new, now_ms).await?;
            (done, deed("user.added", user(&new.login), detail))
        }
        People::SetPassword { login, password } => {
            let done = users::set_password(connection, login, password, now_ms).await?;
            (done, deed("user.password", user(login), String::new()))
        }
        People::Disable { login, disabled } => {
            let done = users::disable(connection, login, *disabled, now_ms).await?;
            let action = if *disabled {
                "user.disabled"
            } else {
                "user.enabled"
            };
            (done, deed(action, user(login), String::new()))
        }
        People::BeginSession { id, secret, login } => {
            let expires_ms = now_ms.saturating_add(SESSION_MS);
            users::begin_session(connection, id, secret, login, now_ms, expires_ms).await?;
            (true, deed("session.begun", user(login), String::new()))
        }
        People::EndSession { id, login } => {
            users::end_session(connection, id, now_ms).await?;
            (true, deed("session.ended", user(login), String::new()))
        }
        People::Directory(changes) => {
            // Each entry has its own line in the log.
            orgs::write(connection, changes, actor, now_ms).await?;
            return Ok(true);
        }
        People::Note {
            action,
            object,
            reason,
            detail,
        } => {
            let noted = Deed {
                reason: reason.clone(),
                ..deed(action, object.clone(), detail.clone())
            };
            (true, noted)
        }
    };
    if done {
        audit::append(connection, deed).await?;
    }
    Ok(done)
}
