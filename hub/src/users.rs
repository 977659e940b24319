//! Users of the hub: each has a role in an organisation and signs in with a password.
//!
//! * A password has 12 to 128 characters and is kept as an Argon2id hash (RFC 9106) with the parameters of its
//!   second recommendation for little memory: 19 MiB, 2 passes. Checking one takes tens of milliseconds, so
//!   it runs beside the runtime, a few at a time.
//! * A session is a bearer token `lls.<id>.<secret>`, of which a hash is kept; it ends after 12 hours, when its
//!   user signs out, is disabled, or has a new password.
//! * Wrong passwords of one login are answered later and later: see `Tries`.
//! * Tokens for programs (`linli-hub api-token`) have a role and an organisation too.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::collections::HashMap;

/// How long a session lasts, milliseconds.
pub const SESSION_MS: i64 = 12 * 3_600_000;
/// Characters of a password.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 12..=128;
/// Logins whose wrong passwords are counted at a time.
const TRIES_LOGINS_MAX: usize = 10_000;
/// Wrong passwords before the first pause.
const TRIES_FREE: u32 = 5;
/// The first pause, milliseconds; it doubles with each wrong password.
const TRIES_PAUSE_MS: i64 = 10_000;
/// The longest pause, milliseconds: an attacker must not lock a user out for a day.
const TRIES_PAUSE_MS_MAX: i64 = 15 * 60_000;

/// Prefixes of programs' names.
const PROGRAMS: [&str; 2] = [linli_domain::cases::action::HUB, "nobody"];

/// Checks a login. Error: what is wrong.
pub fn check_login(login: &str) -> Result<(), String> {
    let good = login.chars().all(|letter| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.' | '_')
    });
    if login.is_empty() || login.len() > 40 || !good {
        return Err(
            "1 to 40 lower-case letters, digits, hyphens, dots and underscores, like \"wang.li\""
                .to_owned(),
        );
    }
    if PROGRAMS.contains(&login) {
        return Err(format!(
            "{login:?} is what programs are called in logs: choose another"
        ));
    }
    Ok(())
}

/// Checks a password. Error: what is wrong.
pub fn check_password(password: &str, login: &str) -> Result<(), String> {
    let chars = password.chars().count();
    if !PASSWORD_CHARS.contains(&chars) {
        return Err(format!(
            "{} to {} characters",
            PASSWORD_CHARS.start(),
            PASSWORD_CHARS.end()
        ));
    }
    let first = password.chars().next();
    if password.contains(login) || password.chars().all(|letter| Some(letter) == first) {
        return Err("must not hold the login, nor be one character again and again".to_owned());
    }
    Ok(())
}

fn argon() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

/// The hash of a password, as a PHC string. It takes tens of milliseconds.
pub fn hash_password(password: &str) -> Result<String, String> {
    let salt = SaltString::generate(&mut OsRng);
    argon()
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// True if the password has this hash. Without a hash it takes as long and is false.
pub fn is_password(password: &str, hash: Option<&str>) -> bool {
    // A hash of no password: the duration must not reveal whether a login exists.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(NOBODY)) else {
        return false;
    };
    argon()
        .verify_password(password.as_bytes(), &parsed)
        .is_ok()
        && hash.is_some()
}

/// Wrong passwords of each login, and the end of its pause.
#[derive(Debug, Default)]
pub struct Tries(HashMap<String, (u32, i64)>);

impl Tries {
    /// The rest of a login's pause, milliseconds.
    pub fn wait_ms(&self, login: &str, now_ms: i64) -> i64 {
        self.0
            .get(login)
            .map_or(0, |(_, until_ms)| until_ms.saturating_sub(now_ms).max(0))
    }

    /// Notes a wrong password.
    pub fn wrong(&mut self, login: &str, now_ms: i64) {
        if self.0.len() >= TRIES_LOGINS_MAX {
            self.0.retain(|_, (_, until_ms)| *until_ms > now_ms);
            if self.0.len() >= TRIES_LOGINS_MAX {
                return;
            }
        }
        let (count, until_ms) = self.0.entry(login.to_owned()).or_default();
        *count += 1;
        if *count >= TRIES_FREE {
            let doublings = (*count - TRIES_FREE).min(10);
            *until_ms =
                now_ms.saturating_add((TRIES_PAUSE_MS << doublings).min(TRIES_PAUSE_MS_MAX));
        }
    }

    /// Forgets the wrong passwords of a login.
    pub fn right(&mut self, login: &str) {
        self.0.remove(login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let hash = hash_password("正确的密码很长很长的").expect("a hash");
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(is_password("正确的密码很长很长的", Some(&hash)));
        assert!(!is_password("错误的密码很长很长的", Some(&hash)));
        assert!(!is_password("anything", None));
        assert!(!is_password("anything", Some("")));
    }

    #[test]
    fn a_short_password_and_a_strange_login_are_refused() {
        for (password, good) in [
            ("a long enough one", true),
            ("short", false),
            ("aaaaaaaaaaaaaaaa", false),
            ("wang.li and more", false),
        ] {
            assert_eq!(
                check_password(password, "wang.li").is_ok(),
                good,
                "{password}"
            );
        }
        for (login, good) in [
            ("wang.li", true),
            ("", false),
            ("Wang", false),
            ("王", false),
            ("a/b", false),
        ] {
            assert_eq!(check_login(login).is_ok(), good, "{login}");
        }
    }

    #[test]
    fn wrong_passwords_are_answered_later_and_later_and_the_right_one_forgets_them() {
        let mut tries = Tries::default();
        for _ in 0..TRIES_FREE - 1 {
            tries.wrong("wang", 0);
            assert_eq!(tries.wait_ms("wang", 0), 0);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            tries.wrong("wang", 0);
            waits.push(tries.wait_ms("wang", 0) / 1000);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(tries.wait_ms("wang", 900_000), 0);
        assert_eq!(tries.wait_ms("li", 0), 0);
        tries.right("wang");
        assert_eq!(tries.wait_ms("wang", 0), 0);
    }
}
