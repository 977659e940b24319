//! The one-line token with which a gateway joins:
//! `linli1.<SHA-256 of the root, base64url>.<id>.<secret>`.
//!
//! The hash pins the root, so that the gateway can verify a hub that it has never contacted. The hub stores
//! only a hash of the secret.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "linli1";

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the root certificate's DER.
    pub root: [u8; 32],
    /// Id of the token at the hub.
    pub id: String,
    /// Secret that proves possession of the token.
    pub secret: String,
}

/// The text is not a join token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this is not a join token: it is one line of the form {PREFIX}.HASH.ID.SECRET, as `linli-hub token create` prints it"
)]
pub struct TokenError;

impl FromStr for JoinToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        let mut part = || {
            parts
                .next()
                .filter(|part| !part.is_empty())
                .ok_or(TokenError)
        };
        if part()? != PREFIX {
            return Err(TokenError);
        }
        let root = URL_SAFE_NO_PAD
            .decode(part()?)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(TokenError)?;
        let (id, secret) = (part()?.to_owned(), part()?.to_owned());
        if parts.next().is_some() || id.len() > 64 || secret.len() > 128 {
            return Err(TokenError);
        }
        Ok(Self { root, id, secret })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = URL_SAFE_NO_PAD.encode(self.root);
        write!(f, "{PREFIX}.{root}.{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    /// Omits the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_damaged_one_does_not() {
        let token = JoinToken {
            root: [7; 32],
            id: "a1".to_owned(),
            secret: "s3cret".to_owned(),
        };
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        for wrong in [
            "",
            "linli1",
            "linli2.x.y.z",
            &text[..20],
            &format!("{text}.x"),
            &format!("{text}."),
            &format!("{text}..x"),
        ] {
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError), "{wrong}");
        }
    }
}
