//! HTTP Digest (RFC 7616) as a client: the last challenge of a device, and the answer to it.
use http_auth::{PasswordClient, PasswordParams};
use reqwest::Response;
use reqwest::header::WWW_AUTHENTICATE;

use super::outbound::Account;
use super::reconnect::Ended;

/// The last challenge of a device; empty before one arrived.
#[derive(Default)]
pub(crate) struct Digest(Option<PasswordClient>);

impl Digest {
    /// Whether there was a challenge.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the challenge of a 401.
    pub fn challenge(&mut self, answer: &Response) -> Result<(), Ended> {
        let mut builder = PasswordClient::builder();
        for value in answer.headers().get_all(WWW_AUTHENTICATE) {
            if let Ok(value) = value.to_str() {
                builder = builder.challenges(value);
            }
        }
        let client = builder.build().map_err(|error| {
            Ended::refused(format!(
                "{} wants a password in a way that is not Digest: set its web authentication to digest ({error})",
                answer.url()
            ))
        })?;
        self.0 = Some(client);
        Ok(())
    }

    /// The value of `Authorization` for a request; `None` without a challenge. `uri` is the path and the query.
    pub fn authorization(
        &mut self,
        account: &Account,
        method: &str,
        uri: &str,
        body: &[u8],
    ) -> Result<Option<String>, Ended> {
        let Some(client) = &mut self.0 else {
            return Ok(None);
        };
        let (username, password) = account.parts();
        let params = PasswordParams {
            username,
            password,
            uri,
            method,
            body: Some(body),
        };
        let value = client.respond(&params).map_err(|error| {
            Ended::refused(format!(
                "the device wants a digest that is not known here: {error}"
            ))
        })?;
        Ok(Some(value))
    }
}
