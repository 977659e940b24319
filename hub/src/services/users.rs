//! Users: listed, added, changed.
use std::sync::Arc;

use super::{ServiceError, Services};
use crate::ingest::people_changes::PeopleChange;
use crate::users::{check_login, check_password, hash_password};
use linli_domain::rights::{Act, Actor, Role};
use linli_store::users::{self, NewUser, UserView};

const OBJECT: &str = "/api/v1/users";
/// The longest name, characters.
const NAME_CHARS_MAX: usize = 100;

/// A user to add.
pub struct UserToAdd {
    /// Login.
    pub login: String,
    /// What people call them.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Id of the organisation; empty: the centre.
    pub org: String,
    /// The first password; `None`: they sign in by OpenID Connect.
    pub password: Option<String>,
    /// They sign in by OpenID Connect.
    pub oidc: bool,
}

impl Services {
    /// All users, by login.
    pub async fn users(&self, actor: &Actor) -> Result<Vec<UserView>, ServiceError> {
        self.permit(actor, Act::Manage, "GET", OBJECT).await?;
        Ok(users::list(self.store.readers()).await?)
    }

    /// Adds a user.
    pub async fn add_user(&self, actor: &Actor, user: UserToAdd) -> Result<(), ServiceError> {
        self.permit(actor, Act::Manage, "POST", OBJECT).await?;
        let invalid =
            |field: &'static str| move |message: String| ServiceError::invalid(field, message);
        check_login(&user.login).map_err(invalid("login"))?;
        if user.password.is_none() && !user.oidc {
            return Err(ServiceError::invalid(
                "password",
                "is needed, or oidc: true",
            ));
        }
        if let Some(password) = &user.password {
            check_password(password, &user.login).map_err(invalid("password"))?;
        }
        if user.name.trim().is_empty() || user.name.chars().count() > NAME_CHARS_MAX {
            let message = format!("1 to {NAME_CHARS_MAX} characters");
            return Err(ServiceError::invalid("name", message));
        }
        let directory = self.directory.get().await?;
        if !user.org.is_empty() && !directory.orgs.contains_key(&user.org) {
            let message = format!("there is no organisation {:?}", user.org);
            return Err(ServiceError::invalid("org", message));
        }
        let password = match user.password {
            Some(password) => self.hash(password).await?,
            None => String::new(),
        };
        let login = user.login.clone();
        let new = NewUser {
            login: user.login,
            name: user.name,
            role: user.role,
            org: user.org,
            password,
            oidc: user.oidc,
        };
        if !self
            .writes
            .people(PeopleChange::AddUser(new), &actor.login)
            .await?
        {
            return Err(ServiceError::Conflict {
                kind: "login",
                detail: format!("there is a user, or an API token, of the name {login:?} already"),
            });
        }
        Ok(())
    }

    /// Sets a user's password; all sessions of the user end.
    pub async fn set_password(
        &self,
        actor: &Actor,
        login: String,
        password: String,
    ) -> Result<(), ServiceError> {
        self.permit(actor, Act::Manage, "PUT", OBJECT).await?;
        check_password(&password, &login)
            .map_err(|message| ServiceError::invalid("password", message))?;
        self.known_user(&login).await?;
        let password = self.hash(password).await?;
        let change = PeopleChange::SetPassword { login, password };
        self.writes.people(change, &actor.login).await?;
        Ok(())
    }

    /// Lets a user sign in no more, or again; false if that is so already.
    pub async fn disable_user(
        &self,
        actor: &Actor,
        login: String,
        disabled: bool,
    ) -> Result<bool, ServiceError> {
        self.permit(actor, Act::Manage, "PUT", OBJECT).await?;
        self.known_user(&login).await?;
        let change = PeopleChange::Disable { login, disabled };
        self.writes.people(change, &actor.login).await
    }

    /// Lets a user sign in by OpenID Connect, or no more; false if that is so already.
    pub async fn mark_oidc(
        &self,
        actor: &Actor,
        login: String,
        on: bool,
    ) -> Result<bool, ServiceError> {
        self.permit(actor, Act::Manage, "PUT", OBJECT).await?;
        self.known_user(&login).await?;
        let change = PeopleChange::MarkOidc { login, on };
        self.writes.people(change, &actor.login).await
    }

    async fn known_user(&self, login: &str) -> Result<(), ServiceError> {
        if users::is_there(self.store.readers(), login).await? {
            return Ok(());
        }
        Err(ServiceError::Missing {
            kind: "user",
            detail: format!("there is no user {login:?}"),
        })
    }

    async fn hash(&self, password: String) -> Result<String, ServiceError> {
        let hashed = self.password_work(move || hash_password(&password)).await?;
        hashed.map_err(|message| ServiceError::invalid("password", message))
    }

    /// Does what Argon2 takes memory and time for: on threads of its own, few at once. A turn lasts as long as the work,
    /// whether or not somebody still waits for it.
    pub(super) async fn password_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let turns = Arc::clone(&self.password_turns);
        // The semaphore is never closed, and the work does not panic: either means that the hub stops.
        let turn = turns
            .acquire_owned()
            .await
            .map_err(|_| ServiceError::Busy)?;
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        worked.await.map_err(|_| ServiceError::Busy)
    }
}
