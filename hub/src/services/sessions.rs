//! Sessions: signing in and out.
use std::net::IpAddr;

use super::{ServiceError, Services};
use crate::ingest::people_changes::PeopleChange;
use crate::oidc::Identity;
use crate::oidc::config::Group;
use crate::oidc::who::{self, Entry, Refused};
use crate::token::Token;
use crate::users::{SESSION_MS, check_login, is_password};
use linli_domain::rights::Actor;
use linli_store::users::{self, NewUser};
use linli_store::{identities, tokens};

/// What an actor has proven who they are with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The token of a program.
    Program,
    /// A session, by its id.
    Session(String),
}

/// A session that has begun.
pub struct NewSession {
    /// Its token; it is shown once.
    pub token: Token,
    /// Until when it is good, milliseconds since 1970 UTC.
    pub expires_ms: i64,
}

impl Services {
    /// The actor of a token; `None`: the token is wrong, revoked or expired.
    pub async fn authenticate(
        &self,
        token: Token,
    ) -> Result<Option<(Actor, Credential)>, ServiceError> {
        let (pool, now_ms) = (self.store.readers(), self.clock.expiry_ms());
        if token.is_of_session() {
            let actor = users::of_session(pool, &token.id, &token.secret, now_ms).await?;
            return Ok(actor.map(|actor| (actor, Credential::Session(token.id))));
        }
        let actor = tokens::check_api(pool, &token.id, &token.secret, now_ms).await?;
        Ok(actor.map(|actor| (actor, Credential::Program)))
    }

    /// Signs in by a password. Wrong ones are answered later and later, and are in the audit log.
    pub async fn sign_in(
        &self,
        login: &str,
        password: String,
        from: IpAddr,
    ) -> Result<NewSession, ServiceError> {
        // A text that is no login belongs to nobody, and is not kept.
        if check_login(login).is_err() {
            return Err(ServiceError::WrongPassword);
        }
        let now_ms = self.clock.expiry_ms();
        let wait_ms = self.tries.lock().await.wait_ms(login, now_ms);
        if wait_ms > 0 {
            return Err(ServiceError::TooManyTries { wait_ms });
        }
        let hash = users::password(self.store.readers(), login).await?;
        let is_right = self
            .password_work(move || is_password(&password, hash.as_deref()))
            .await?;
        if !is_right {
            self.tries.lock().await.wrong(login, now_ms);
            self.note_refused_sign_in(Some(login), from, "").await?;
            return Err(ServiceError::WrongPassword);
        }
        self.tries.lock().await.right(login);
        self.begin_session(login, "", now_ms).await
    }

    /// Begins a session of a user who has proven who they are; `by` names the way where it was not a password.
    pub async fn begin_session(
        &self,
        login: &str,
        by: &'static str,
        now_ms: i64,
    ) -> Result<NewSession, ServiceError> {
        let token = Token::session();
        let begun = PeopleChange::BeginSession {
            id: token.id.clone(),
            secret: token.secret.clone(),
            login: login.to_owned(),
            by,
        };
        self.writes.people(begun, login).await?;
        Ok(NewSession {
            token,
            expires_ms: now_ms.saturating_add(SESSION_MS),
        })
    }

    /// Ends the session of this id.
    pub async fn sign_out(&self, actor: &Actor, id: String) -> Result<(), ServiceError> {
        let ended = PeopleChange::EndSession {
            id,
            login: actor.login.clone(),
        };
        self.writes.people(ended, &actor.login).await?;
        Ok(())
    }

    /// Signs in by an account of the OpenID provider: of a user, or of one that is made for it. A refusal is in the audit
    /// log.
    pub async fn sign_in_by_account(
        &self,
        identity: &Identity,
        groups: &[Group],
        from: IpAddr,
        now_ms: i64,
    ) -> Result<Result<NewSession, Refused>, ServiceError> {
        let standing = identities::standing(
            self.store.readers(),
            &identity.issuer,
            &identity.subject,
            identity.login.as_deref(),
        )
        .await?;
        let (login, made) = match who::decide(&standing, identity, groups) {
            Err(refused) => return self.refuse_account(identity, refused, from).await,
            Ok(Entry::Known(login)) => {
                return self.begin_session(&login, "oidc", now_ms).await.map(Ok);
            }
            Ok(Entry::Link(login)) => (login, None),
            Ok(Entry::Make { login, role, org }) => {
                let directory = self.directory.get().await?;
                if !org.is_empty() && !directory.orgs.contains_key(&org) {
                    tracing::error!(%login, %org, "[[oidc.group]] names an organisation that is not there: `linli-hub org list`");
                    return self
                        .refuse_account(identity, Refused::NoOrganisation, from)
                        .await;
                }
                let made = NewUser {
                    login: login.clone(),
                    name: identity.name.clone().unwrap_or_else(|| login.clone()),
                    role,
                    org,
                    password: String::new(),
                    oidc: true,
                };
                (login, Some(made))
            }
        };
        let link = PeopleChange::LinkAccount {
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
            login: login.clone(),
            made,
        };
        // False where another request was faster, or the login is the name of a program's token.
        if !self.writes.people(link, &login).await? {
            return self.refuse_account(identity, Refused::Taken, from).await;
        }
        self.begin_session(&login, "oidc", now_ms).await.map(Ok)
    }

    async fn refuse_account(
        &self,
        identity: &Identity,
        refused: Refused,
        from: IpAddr,
    ) -> Result<Result<NewSession, Refused>, ServiceError> {
        let login = identity
            .login
            .as_deref()
            .filter(|login| check_login(login).is_ok());
        let text = format!("oidc: {refused}: account {}", identity.subject);
        self.note_refused_sign_in(login, from, &text).await?;
        Ok(Err(refused))
    }

    /// Notes a sign-in that failed in the audit log.
    pub async fn note_refused_sign_in(
        &self,
        login: Option<&str>,
        from: IpAddr,
        text: &str,
    ) -> Result<(), ServiceError> {
        if let Some(refusals) = &self.refusals {
            refusals.note(login, from, text).await?;
        }
        Ok(())
    }
}
