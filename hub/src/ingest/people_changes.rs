//! Changes of people and organisations, each with its audit entry, within a transaction. The hub's writer runs them for
//! the API, the command line in its own transaction.
use crate::users::SESSION_MS;
use linli_domain::audit::AuditRecord;
use linli_domain::changes::{ChangeKind, ChangeSet};
use linli_domain::orgs::Change;
use linli_store::users::NewUser;
use linli_store::{Connection, StoreError, audit, identities, orgs, users};

/// A change.
#[derive(Debug, Clone)]
pub enum PeopleChange {
    /// Adds a user.
    AddUser(NewUser),
    /// Sets a password, as a PHC string.
    SetPassword {
        /// Login of the user.
        login: String,
        /// The password, as a PHC string.
        password: String,
    },
    /// Disables or enables a user.
    Disable {
        /// Login of the user.
        login: String,
        /// True: the user cannot sign in.
        disabled: bool,
    },
    /// Lets a user sign in by OpenID Connect, or not.
    MarkOidc {
        /// Login of the user.
        login: String,
        /// True: the user may sign in so.
        on: bool,
    },
    /// Links an account of the OpenID provider to a user, who is added first if `made` is given.
    LinkAccount {
        /// The provider.
        issuer: String,
        /// The account at the provider.
        subject: String,
        /// Login of the user.
        login: String,
        /// The user to add first.
        made: Option<NewUser>,
    },
    /// Begins a session; `by` names the way of signing in, empty for a password.
    BeginSession {
        /// Id of the session.
        id: String,
        /// Secret of the session.
        secret: String,
        /// Login of the user.
        login: String,
        /// The way of signing in; empty: by a password.
        by: &'static str,
    },
    /// Ends a session.
    EndSession {
        /// Id of the session.
        id: String,
        /// Login of the user.
        login: String,
    },
    /// Changes organisations and places.
    Directory(Vec<Change>),
    /// Notes a look or a refusal.
    Note {
        /// The action.
        action: String,
        /// The object.
        object: String,
        /// The reason.
        reason: String,
        /// Details.
        detail: String,
    },
}

/// Makes a change; false if it changes nothing: the login is taken, or unknown.
pub async fn perform(
    connection: &mut Connection,
    changes: &mut ChangeSet,
    change: &PeopleChange,
    actor: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let deed = |action: &str, object: String, detail: String| AuditRecord {
        at_ms: now_ms,
        actor: actor.to_owned(),
        action: action.to_owned(),
        object,
        reason: String::new(),
        detail,
    };
    let user = |login: &str| format!("user/{login}");
    let (done, deed) = match change {
        PeopleChange::AddUser(new) => {
            let done = users::add(connection, new, now_ms).await?;
            (done, deed("user.added", user(&new.login), added(new)))
        }
        PeopleChange::SetPassword { login, password } => {
            let done = users::set_password(connection, login, password, now_ms).await?;
            (done, deed("user.password", user(login), String::new()))
        }
        PeopleChange::Disable { login, disabled } => {
            let done = users::disable(connection, login, *disabled, now_ms).await?;
            let action = if *disabled {
                "user.disabled"
            } else {
                "user.enabled"
            };
            (done, deed(action, user(login), String::new()))
        }
        PeopleChange::MarkOidc { login, on } => {
            let done = identities::mark(connection, login, *on, now_ms).await?;
            let action = if *on { "user.oidc" } else { "user.oidc_off" };
            (done, deed(action, user(login), String::new()))
        }
        PeopleChange::LinkAccount {
            issuer,
            subject,
            login,
            made,
        } => {
            if let Some(new) = made {
                // Another request may have linked the account meanwhile: then no user is added.
                if identities::is_linked(connection, issuer, subject).await? {
                    return Ok(false);
                }
                if !users::add(connection, new, now_ms).await? {
                    return Ok(false);
                }
                let made = deed("user.added", user(&new.login), added(new));
                audit::append(connection, made).await?;
            }
            let done = identities::link(connection, issuer, subject, login, now_ms).await?;
            let detail = format!("{issuer} {subject}");
            (done, deed("user.linked", user(login), detail))
        }
        PeopleChange::BeginSession {
            id,
            secret,
            login,
            by,
        } => {
            let expires_ms = now_ms.saturating_add(SESSION_MS);
            users::begin_session(connection, id, secret, login, now_ms, expires_ms).await?;
            (true, deed("session.begun", user(login), (*by).to_owned()))
        }
        PeopleChange::EndSession { id, login } => {
            users::end_session(connection, id, now_ms).await?;
            (true, deed("session.ended", user(login), String::new()))
        }
        PeopleChange::Directory(entries) => {
            // Each entry has its own audit record.
            orgs::write(connection, entries, actor, now_ms).await?;
            changes.touch(ChangeKind::Directory, "");
            return Ok(true);
        }
        PeopleChange::Note {
            action,
            object,
            reason,
            detail,
        } => {
            let noted = AuditRecord {
                reason: reason.clone(),
                ..deed(action, object.clone(), detail.clone())
            };
            (true, noted)
        }
    };
    if done {
        let is_of_user = deed.action.starts_with("user.");
        if let Some(login) = deed.object.strip_prefix("user/").filter(|_| is_of_user) {
            changes.touch(ChangeKind::User, login);
        }
        audit::append(connection, deed).await?;
    }
    Ok(done)
}

/// The audit detail of a new user.
fn added(new: &NewUser) -> String {
    let by = if new.oidc { ", by OpenID Connect" } else { "" };
    format!("{} of {:?}{by}", new.role.as_str(), new.org)
}
