//! `linli-hub user` and `linli-hub audit`.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, output};
use std::io::BufRead as _;

use crate::commands::cli::{AuditCommand, UserCommand};
use crate::ingest::people::{People, perform};
use crate::users::{check_login, check_password, hash_password};
use linli_domain::audit::{COMMAND_LINE, Verifier};
use linli_store::audit::{self, AuditFilter};
use linli_store::users::{self, NewUser};
use linli_store::{Store, StoreError, orgs};

/// Entries that are read at once.
const PAGE: i64 = 1000;

fn wrong(text: String) -> Failure {
    Failure {
        text,
        code: exit::DATA,
    }
}

/// Carries out `user`.
pub async fn user(store: &Store, command: UserCommand) -> Result<(), Failure> {
    let io = failure(exit::IO);
    match command {
        UserCommand::Add {
            login,
            name,
            role,
            org,
            oidc,
        } => {
            check_login(&login).map_err(|message| wrong(format!("--login: {message}")))?;
            if !org.is_empty() {
                let mut connection = store.connect().await.map_err(|error| io(&error))?;
                let directory = orgs::read(&mut connection)
                    .await
                    .map_err(|error| io(&error))?;
                if !directory.orgs.contains_key(&org) {
                    return Err(wrong(format!(
                        "--org: there is no organisation {org:?}: `linli-hub org list` shows them"
                    )));
                }
            }
            let password = if oidc { String::new() } else { hashed(&login)? };
            let user = NewUser {
                login: login.clone(),
                name: name.unwrap_or_else(|| login.clone()),
                role,
                org,
                password,
                oidc,
            };
            if !change(store, &People::AddUser(user))
                .await
                .map_err(|error| io(&error))?
            {
                return Err(wrong(format!(
                    "there is a user, or an API token, of the name {login:?} already: `linli-hub user list`, `linli-hub api-token list`"
                )));
            }
            output::line(format_args!("已添加 added: {login}"));
        }
        UserCommand::Password { login } => {
            let password = hashed(&login)?;
            let set = People::SetPassword {
                login: login.clone(),
                password,
            };
            if !change(store, &set).await.map_err(|error| io(&error))? {
                return Err(wrong(format!(
                    "there is no user {login:?}: `linli-hub user list`"
                )));
            }
            output::line(format_args!(
                "已设置密码，原会话已结束 set; sessions are ended: {login}"
            ));
        }
        UserCommand::Oidc { login, off } => {
            let mark = People::MarkOidc {
                login: login.clone(),
                on: !off,
            };
            if !change(store, &mark).await.map_err(|error| io(&error))? {
                return Err(wrong(format!(
                    "there is no user {login:?}, or that is so already: `linli-hub user list`"
                )));
            }
            let words = if off {
                "已取消 OpenID Connect 登录，原会话已结束 no more by OpenID Connect; sessions are ended"
            } else {
                "已允许 OpenID Connect 登录，下一个同名账号将与其关联 by OpenID Connect; the next account of this login is theirs"
            };
            output::line(format_args!("{words}: {login}"));
        }
        UserCommand::Disable { login, enable } => {
            let disable = People::Disable {
                login: login.clone(),
                disabled: !enable,
            };
            if !change(store, &disable).await.map_err(|error| io(&error))? {
                return Err(wrong(format!(
                    "there is no user {login:?}, or that is so already: `linli-hub user list`"
                )));
            }
            let words = if enable {
                "已启用 enabled"
            } else {
                "已停用 disabled"
            };
            output::line(format_args!("{words}: {login}"));
        }
        UserCommand::List { json } => {
            for user in users::list(store.readers())
                .await
                .map_err(|error| io(&error))?
            {
                if json {
                    output::line(serde_json::to_string(&user).unwrap_or_default());
                    continue;
                }
                let state = if user.disabled_ms.is_some() {
                    " 已停用 disabled"
                } else {
                    ""
                };
                let by = if user.oidc { " OpenID Connect" } else { "" };
                output::line(format_args!(
                    "{} {} {} {}{by}{state}",
                    user.login, user.role, user.org, user.name
                ));
            }
        }
    }
    Ok(())
}

/// The password from the first line of standard input, hashed.
fn hashed(login: &str) -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| failure(exit::IO)(&error))?;
    let password = line.trim_end_matches(['\r', '\n']);
    check_password(password, login)
        .map_err(|message| wrong(format!("the password, a line of standard input: {message}")))?;
    hash_password(password).map_err(wrong)
}

async fn change(store: &Store, change: &People) -> Result<bool, StoreError> {
    store
        .in_transaction(async |connection| {
            perform(connection, change, COMMAND_LINE, clock::wall_ms()).await
        })
        .await
}

/// Carries out `audit`.
pub async fn audit(store: &Store, command: AuditCommand) -> Result<(), Failure> {
    let io = failure(exit::IO);
    match command {
        AuditCommand::List {
            object,
            actor,
            list,
        } => {
            let filter = AuditFilter {
                object,
                actor,
                before: None,
                limit: list.limit as usize,
            };
            let found = audit::list(store.readers(), &filter).await;
            for entry in found.map_err(|error| io(&error))? {
                if list.json {
                    output::line(serde_json::to_string(&entry).unwrap_or_default());
                    continue;
                }
                let deed = &entry.deed;
                output::line(format_args!(
                    "#{} {} {} {} {} {}",
                    entry.number,
                    clock::rfc3339(deed.at_ms),
                    deed.actor,
                    deed.action,
                    deed.object,
                    deed.reason
                ));
            }
        }
        AuditCommand::Verify { hash } => {
            let mut verifier = Verifier::default();
            let mut is_known = hash.is_none();
            loop {
                let page = audit::after(store.readers(), verifier.end().0, PAGE).await;
                let page = page.map_err(|error| io(&error))?;
                if page.is_empty() {
                    break;
                }
                for entry in page {
                    verifier.follow(&entry).map_err(wrong)?;
                    is_known |= hash.as_ref() == Some(&entry.hash);
                }
            }
            let (count, last) = verifier.end();
            if !is_known {
                return Err(wrong(format!(
                    "the log is whole, and no entry of it has the hash {}: its end was cut off, or it is another log",
                    hash.unwrap_or_default()
                )));
            }
            output::line(format_args!("完整 whole: {count}"));
            output::line(format_args!(
                "末条哈希，请另行保存 last hash, keep it elsewhere: {last}"
            ));
        }
    }
    Ok(())
}
