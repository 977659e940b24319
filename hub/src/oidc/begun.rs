//! A sign-in that has been begun, as the browser keeps it: a cookie, sealed under a key of the process. It cannot be
//! read, changed or made elsewhere; a hub that starts anew knows none of before, and people begin again.
use serde::{Deserialize, Serialize};

use linli_store::sealed::Sealer;

/// The associated data of the seal.
const BELONGS: &str = "oidc";
/// A longer cookie is none of ours.
const COOKIE_BYTES_MAX: usize = 2048;

/// The values that must be equal at the return.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Of the request.
    pub state: String,
    /// Of the ID token.
    pub nonce: String,
    /// Of the exchange of the code (PKCE).
    pub verifier: String,
    /// Until when it is good, milliseconds since 1970 UTC.
    pub until_ms: i64,
}

impl Begun {
    /// The content of the cookie.
    pub fn seal(&self, sealer: &Sealer) -> String {
        let text = serde_json::to_string(self).expect("texts and a number are JSON");
        sealer.seal(&text, BELONGS)
    }

    /// The state of the sign-in, if this process sealed it and it is still valid.
    pub fn open(sealer: &Sealer, cookie: &str, now_ms: i64) -> Option<Self> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let text = sealer.open(cookie, BELONGS).ok()?;
        let begun: Self = serde_json::from_str(&text).ok()?;
        (now_ms < begun.until_ms).then_some(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_opens_in_its_time_and_in_the_process_that_made_it() {
        let begun = Begun {
            state: "s".to_owned(),
            nonce: "n".to_owned(),
            verifier: "v".to_owned(),
            until_ms: 1000,
        };
        let sealer = Sealer::of_process();
        let cookie = begun.seal(&sealer);
        assert!(!cookie.contains([';', ',', ' ', '"', '\\']), "{cookie}");
        assert_eq!(Begun::open(&sealer, &cookie, 999), Some(begun));
        assert_eq!(Begun::open(&sealer, &cookie, 1000), None);
        assert_eq!(Begun::open(&Sealer::of_process(), &cookie, 0), None);
        assert_eq!(Begun::open(&sealer, &format!("{cookie}A"), 0), None);
        for rubbish in ["", "x", &"a".repeat(COOKIE_BYTES_MAX + 1)] {
            assert_eq!(Begun::open(&sealer, rubbish, 0), None);
        }
    }
}
