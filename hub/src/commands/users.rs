//! `linli-hub user` and `linli-hub audit`.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, output};
use std::io::BufRead as _;

use super::console::{Console, failed};
use crate::commands::cli::{AuditCommand, UserCommand};
use crate::services::ServiceError;
use crate::services::users::UserToAdd;
use linli_domain::audit::Verifier;
use linli_store::Store;
use linli_store::audit::{self, AuditFilter};

/// Entries that are read at once.
const PAGE: i64 = 1000;

fn wrong(text: String) -> Failure {
    Failure {
        text,
        code: exit::DATA,
    }
}

/// Carries out `user`.
pub async fn user(console: &Console, command: UserCommand) -> Result<(), Failure> {
    let (services, actor) = (&console.services, &console.actor);
    match command {
        UserCommand::Add {
            login,
            name,
            role,
            org,
            oidc,
        } => {
            let user = UserToAdd {
                login: login.clone(),
                name: name.unwrap_or_else(|| login.clone()),
                role,
                org,
                password: if oidc { None } else { Some(password()?) },
                oidc,
            };
            services
                .add_user(actor, user)
                .await
                .map_err(|error| match error {
                    ServiceError::Invalid { field, message } if field == "org" => {
                        wrong(format!("--org: {message}: `linli-hub org list` shows them"))
                    }
                    ServiceError::Invalid { field, message } if field == "password" => {
                        wrong_password(&message)
                    }
                    ServiceError::Conflict { detail, .. } => wrong(format!(
                        "{detail}: `linli-hub user list`, `linli-hub api-token list`"
                    )),
                    error => failed(error),
                })?;
            output::line(format_args!("已添加 added: {login}"));
        }
        UserCommand::Password { login } => {
            let set = services.set_password(actor, login.clone(), password()?);
            set.await.map_err(|error| match error {
                ServiceError::Invalid { message, .. } => wrong_password(&message),
                error => of_user(error),
            })?;
            output::line(format_args!(
                "已设置密码，原会话已结束 set; sessions are ended: {login}"
            ));
        }
        UserCommand::Oidc { login, off } => {
            let marked = services.mark_oidc(actor, login.clone(), !off).await;
            if !marked.map_err(of_user)? {
                return Err(wrong(format!("that is so already of user {login:?}")));
            }
            let words = if off {
                "已取消 OpenID Connect 登录，原会话已结束 no more by OpenID Connect; sessions are ended"
            } else {
                "已允许 OpenID Connect 登录，下一个同名账号将与其关联 by OpenID Connect; the next account of this login is theirs"
            };
            output::line(format_args!("{words}: {login}"));
        }
        UserCommand::Disable { login, enable } => {
            let disabled = services.disable_user(actor, login.clone(), !enable).await;
            if !disabled.map_err(of_user)? {
                return Err(wrong(format!("that is so already of user {login:?}")));
            }
            let words = if enable {
                "已启用 enabled"
            } else {
                "已停用 disabled"
            };
            output::line(format_args!("{words}: {login}"));
        }
        UserCommand::List { json } => {
            for user in services.users(actor).await.map_err(failed)? {
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

/// The password from the first line of standard input.
fn password() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| failure(exit::IO)(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn wrong_password(message: &str) -> Failure {
    wrong(format!("the password, a line of standard input: {message}"))
}

fn of_user(error: ServiceError) -> Failure {
    match error {
        ServiceError::Missing { detail, .. } => wrong(format!("{detail}: `linli-hub user list`")),
        error => failed(error),
    }
}

/// Carries out `audit`.
pub async fn audit(console: &Console, store: &Store, command: AuditCommand) -> Result<(), Failure> {
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
            let found = console.services.audit_log(&console.actor, filter, None);
            for entry in found.await.map_err(failed)?.items {
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
