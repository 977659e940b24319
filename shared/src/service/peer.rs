//! HTTP to third-party systems: the client, the evaluation of answers, and the signature of a webhook.
//!
//! * Every request has a deadline ([`SEND_DEADLINE`]). Redirects are not followed, because they would forward
//!   the keys in some URLs. Answers are read up to [`ANSWER_BYTES_MAX`].
//! * The client trusts the system's roots and those of the caller.
//! * Addresses of requests never appear in errors, because those of robots contain keys.
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, StatusCode};
use ring::hmac;
use rustls::RootCertStore;
use std::time::Duration;

use super::{telemetry, tls};

/// Deadline from the beginning of the connection to the end of the answer.
pub const SEND_DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum size of the part of an answer that is read, bytes.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of an answer in an error, characters.
const ANSWER_CHARS_TOLD: usize = 200;
/// Maximum pause that a peer may request, seconds.
const RETRY_AFTER_MAX_S: i64 = 300;
/// Header of a webhook's signature.
pub const SIGNATURE: &str = "linli-signature";

/// The answer of a peer that accepted a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, or SMTP code.
    pub status: String,
    /// Text of the answer; may be empty.
    pub text: String,
}

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A retry may succeed.
    Temporary {
        /// The error.
        error: String,
        /// The pause that the peer requested, milliseconds.
        retry_after_ms: Option<i64>,
    },
    /// The peer refuses the message permanently.
    Permanent {
        /// The peer's error.
        error: String,
    },
}

impl Failure {
    /// A temporary failure without a pause requested by the peer.
    pub fn temporary(error: impl Into<String>) -> Self {
        Self::Temporary {
            error: error.into(),
            retry_after_ms: None,
        }
    }

    /// A failure that must not be retried.
    pub fn permanent(error: impl Into<String>) -> Self {
        Self::Permanent {
            error: error.into(),
        }
    }

    /// The error.
    pub fn error(&self) -> &str {
        match self {
            Self::Temporary { error, .. } | Self::Permanent { error } => error,
        }
    }
}

/// TLS of a client that trusts the system's roots and these. Errors: from rustls.
pub fn tls(mut roots: RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    // On a system without roots every connection reports the error.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// A client that trusts the system's roots and these. `user_agent` is `name/version`. Errors: from building
/// it.
pub fn client(
    roots: RootCertStore,
    user_agent: &'static str,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Client::builder()
        .tls_backend_preconfigured(tls(roots)?)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(SEND_DEADLINE)
        .user_agent(user_agent)
        .build()?)
}

/// Sends a request and reads the answer. Errors: [`Failure`].
pub async fn ask(request: RequestBuilder) -> Result<Answer, Failure> {
    let lost = |error: reqwest::Error| Failure::temporary(telemetry::chain(&error.without_url()));
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let retry_after_ms = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<i64>().ok())
        .map(|seconds| seconds.clamp(0, RETRY_AFTER_MAX_S) * 1000);
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => break,
            // Without a success the status is sufficient.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(lost(error)),
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    judge(status, retry_after_ms, body)
}

/// Evaluates a status.
fn judge(status: StatusCode, retry_after_ms: Option<i64>, body: String) -> Result<Answer, Failure> {
    let error = || format!("{status}: {}", told(&body));
    match status {
        _ if status.is_success() => Ok(Answer {
            status: status.to_string(),
            text: body,
        }),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Failure::Temporary {
            error: error(),
            retry_after_ms,
        }),
        _ if status.is_server_error() => Err(Failure::Temporary {
            error: error(),
            retry_after_ms,
        }),
        _ if status.is_redirection() => Err(Failure::permanent(format!(
            "{status}: redirects are not followed, write the last address into the config"
        ))),
        _ => Err(Failure::permanent(error())),
    }
}

/// The beginning of an answer, in one line.
pub fn told(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(ANSWER_CHARS_TOLD).collect()
}

/// The secret of a webhook, ready to sign.
pub struct Signer(hmac::Key);

impl Signer {
    /// A signer with this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The value of the header [`SIGNATURE`]:
    /// `t=<seconds>,v1=<hex of HMAC-SHA256(secret, "<seconds>." + body)>`.
    pub fn signature(&self, at_s: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{at_s}.{body}").as_bytes());
        format!("t={at_s},v1={}", hex::encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_come_again() {
        let judged = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            judge(status, Some(7_000), "why\n not".to_owned())
        };
        let taken = judged(204).expect("an answer");
        assert_eq!(
            (taken.status.as_str(), taken.text.as_str()),
            ("204 No Content", "why\n not")
        );
        for status in [408, 429, 500, 503] {
            let failure = judged(status).expect_err("a failure");
            assert!(
                matches!(&failure, Failure::Temporary { retry_after_ms: Some(7_000), error } if error.contains("why not")),
                "{failure:?}"
            );
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 413, 422] {
            let failure = judged(status).expect_err("a failure");
            assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
        }
    }

    #[test]
    fn the_signature_is_that_of_openssl() {
        // printf '1767225600.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            Signer::new(b"0123456789abcdef").signature(1_767_225_600, "{}"),
            "t=1767225600,v1=99902517b3069f78750aa0520b0493482454c2d30a579c7acc839f3363ca1b88"
        );
    }
}
