//! The user of a provider's account. Pure.
//!
//! * An account is identified by issuer and subject, which the provider never reuses. Its login is looked at once, at its
//!   first sign-in: if a user of that login is marked for OpenID Connect and has no other account, the account is that
//!   user's from then on.
//! * A user without the mark has no account, whatever the provider says: an administrator sets the mark.
//! * If the config maps groups, an account with an unused login becomes a user, by the first entry that matches. The hub
//!   alone changes the user's rights later: groups are not read again.
use crate::oidc::config::Group;
use crate::users::check_login;
use linli_domain::rights::Role;
use linli_store::identities::AccountStatus;

use super::Identity;

/// The user who enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The user of the account.
    Known(String),
    /// A user who gets the account now.
    Link(String),
    /// A new user.
    Make {
        login: String,
        role: Role,
        org: String,
    },
}

/// Why nobody enters; for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the user is disabled")]
    Disabled,
    #[error("the user is not marked for OpenID Connect")]
    NotMarked,
    #[error("another account of the provider is this user's")]
    OtherAccount,
    #[error("the account names no login that can be one here")]
    NoLogin,
    #[error("no user has this login")]
    Unknown,
    #[error("no group of the account is in the map")]
    NoGroup,
    #[error("the organisation of its group is not there")]
    NoOrganisation,
    #[error("somebody else has this login since")]
    Taken,
}

/// Decides the user of an account.
pub fn decide(
    standing: &AccountStatus,
    identity: &Identity,
    groups: &[Group],
) -> Result<Entry, Refused> {
    if let Some(user) = &standing.of_account {
        return match user {
            user if user.is_disabled => Err(Refused::Disabled),
            user if !user.is_marked => Err(Refused::NotMarked),
            user => Ok(Entry::Known(user.login.clone())),
        };
    }
    let login = identity
        .login
        .as_deref()
        .filter(|login| check_login(login).is_ok())
        .ok_or(Refused::NoLogin)?;
    if let Some(user) = &standing.of_login {
        return match user {
            user if user.is_disabled => Err(Refused::Disabled),
            user if !user.is_marked => Err(Refused::NotMarked),
            user if user.has_account => Err(Refused::OtherAccount),
            user => Ok(Entry::Link(user.login.clone())),
        };
    }
    if groups.is_empty() {
        return Err(Refused::Unknown);
    }
    let group = groups
        .iter()
        .find(|group| identity.groups.contains(&group.value))
        .ok_or(Refused::NoGroup)?;
    Ok(Entry::Make {
        login: login.to_owned(),
        role: group.role,
        org: group.org.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_store::identities::Known;

    #[test]
    fn the_table_of_accounts_and_users() {
        // d disabled, m marked, a has an account
        let user = |flags: &str| Known {
            login: "wang".to_owned(),
            is_disabled: flags.contains('d'),
            is_marked: flags.contains('m'),
            has_account: flags.contains('a'),
        };
        let none: Option<&str> = None;
        let maps = [
            Group {
                value: "staff".to_owned(),
                role: Role::Handler,
                org: "room-3".to_owned(),
            },
            Group {
                value: "heads".to_owned(),
                role: Role::Lead,
                org: "office-1".to_owned(),
            },
        ];
        let known = Ok(Entry::Known("wang".to_owned()));
        let link = Ok(Entry::Link("wang".to_owned()));
        let make = |role, org: &str| {
            Ok(Entry::Make {
                login: "wang".to_owned(),
                role,
                org: org.to_owned(),
            })
        };
        let (plain, mapped) = (&maps[..0], &maps[..]);
        let table = [
            (Some("ma"), none, Some("wang"), "", plain, known.clone()),
            // The provider has another login for it since.
            (Some("ma"), Some("m"), Some("li"), "", plain, known.clone()),
            (Some("ma"), none, None, "", plain, known),
            (
                Some("dma"),
                none,
                Some("wang"),
                "staff",
                mapped,
                Err(Refused::Disabled),
            ),
            (
                Some("a"),
                none,
                Some("wang"),
                "staff",
                mapped,
                Err(Refused::NotMarked),
            ),
            (none, Some("m"), Some("wang"), "", plain, link.clone()),
            (none, Some("m"), Some("wang"), "staff", mapped, link),
            (
                none,
                Some(""),
                Some("wang"),
                "staff",
                mapped,
                Err(Refused::NotMarked),
            ),
            (
                none,
                Some("dm"),
                Some("wang"),
                "staff",
                mapped,
                Err(Refused::Disabled),
            ),
            (
                none,
                Some("ma"),
                Some("wang"),
                "staff",
                mapped,
                Err(Refused::OtherAccount),
            ),
            (
                none,
                none,
                Some("wang"),
                "staff",
                plain,
                Err(Refused::Unknown),
            ),
            (
                none,
                none,
                Some("wang"),
                "others",
                mapped,
                Err(Refused::NoGroup),
            ),
            (none, none, Some("wang"), "", mapped, Err(Refused::NoGroup)),
            (
                none,
                none,
                Some("wang"),
                "heads",
                mapped,
                make(Role::Lead, "office-1"),
            ),
            (
                none,
                none,
                Some("wang"),
                "heads staff",
                mapped,
                make(Role::Handler, "room-3"),
            ),
            (none, none, None, "staff", mapped, Err(Refused::NoLogin)),
            (
                none,
                none,
                Some("Wang Li"),
                "staff",
                mapped,
                Err(Refused::NoLogin),
            ),
            (
                none,
                none,
                Some("token:x"),
                "staff",
                mapped,
                Err(Refused::NoLogin),
            ),
        ];
        for (of_account, of_login, login, groups, map, wanted) in table {
            let standing = AccountStatus {
                of_account: of_account.map(user),
                of_login: of_login.map(user),
            };
            let identity = Identity {
                issuer: "https://id.example".to_owned(),
                subject: "1".to_owned(),
                login: login.map(str::to_owned),
                name: None,
                groups: groups.split_whitespace().map(str::to_owned).collect(),
            };
            let found = decide(&standing, &identity, map);
            assert_eq!(found, wanted, "{standing:?} {identity:?}");
        }
    }
}
