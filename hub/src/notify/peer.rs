//! The peers: one file a kind. A peer turns letters into a request, sends it and reads the answer.
//!
//! * Every message has a deadline ([`SEND_DEADLINE`]); redirects are not followed, for the keys that stand
//!   in some URLs would go with them. Answers are read up to [`ANSWER_BYTES_MAX`].
//! * Trusted are the system's roots, and those of `ca_file`.
//! * Addresses of requests are never in errors and logs: robots have their keys there.
//! * A [`Failure`] is temporary (no answer, 408, 429, 5xx, a robot's code for "too fast" or "busy") or
//!   permanent: the peer has read the message and does not want it.
mod alertmanager;
mod mail;
mod robot;
mod webhook;

use linli_shared::service::telemetry;
use linli_shared::service::tls;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, StatusCode};
use rustls::RootCertStore;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::notice::Notice;
use crate::config::channels::{Channel, Target};
use crate::store::{Store, StoreError, outbox};
use alertmanager::Alertmanager;
use mail::Mail;
use robot::Robot;
use webhook::Webhook;

/// From the beginning of the connection to the end of the answer.
pub const SEND_DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Of an answer that stands in an error.
const ANSWER_CHARS_TOLD: usize = 200;
/// A peer may ask for a longer pause than ours; not for a longer one than this.
const RETRY_AFTER_MAX_S: i64 = 300;
/// A shorter secret is a mistake.
const SECRET_BYTES_MIN: usize = 8;

/// Why a channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// A file of it cannot be read.
    #[error(
        "channel {channel:?}: {key} {path:?} cannot be read: is it there, and may this user read it?"
    )]
    File {
        /// Channel.
        channel: String,
        /// Key in the config.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What it holds is no secret.
    #[error(
        "channel {channel:?}: {key} {path:?} must hold one line of {SECRET_BYTES_MIN} bytes or more: put the key into it, and nothing else"
    )]
    Secret {
        /// Channel.
        channel: String,
        /// Key in the config.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Roots cannot be used.
    #[error("channel {channel:?}: ca_file cannot be used")]
    Roots {
        /// Channel.
        channel: String,
        /// Why.
        #[source]
        source: tls::TlsError,
    },
    /// The client cannot be made.
    #[error("channel {channel:?}: the client cannot be made")]
    Client {
        /// Channel.
        channel: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    Temporary {
        /// What happened.
        error: String,
        /// The peer says when.
        retry_after_ms: Option<i64>,
    },
    /// The peer does not want it.
    Permanent {
        /// What it said.
        error: String,
    },
}

impl Failure {
    /// Without a word of the peer on when to come again.
    pub fn temporary(error: impl Into<String>) -> Self {
        Self::Temporary {
            error: error.into(),
            retry_after_ms: None,
        }
    }

    /// Not to be repeated.
    pub fn permanent(error: impl Into<String>) -> Self {
        Self::Permanent {
            error: error.into(),
        }
    }

    /// What happened.
    pub fn error(&self) -> &str {
        match self {
            Self::Temporary { error, .. } | Self::Permanent { error } => error,
        }
    }
}

/// What a peer said that has taken a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status of HTTP, or code of SMTP.
    pub status: String,
    /// The rest; may be empty.
    pub text: String,
}

/// One notice on its way.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The same for every try: decision and channel. By it a receiver knows a repetition.
    pub id: String,
    /// What is told.
    pub notice: Notice,
}

enum Kind {
    Webhook(Webhook),
    Robot(Robot),
    Mail(Box<Mail>),
    Alertmanager(Alertmanager),
}

/// Sends a channel's messages.
pub struct Peer {
    channel: String,
    kind: Kind,
}

impl Peer {
    /// Reads the channel's files; connects to nothing. `source` names this hub to receivers of webhooks.
    pub fn open(channel: &Channel, source: &str) -> Result<Self, PeerError> {
        let name = channel.name.as_str();
        let client = || client(name, channel.ca_file.as_deref());
        let read = |key, path: &Path| secret(name, key, path);
        let kind = match &channel.target {
            Target::Webhook { url, secret_file } => Kind::Webhook(Webhook::new(
                client()?,
                url.clone(),
                read("secret_file", secret_file)?,
                source,
            )),
            Target::Wecom { url, key_file } => {
                Kind::Robot(Robot::wecom(client()?, url, &read("key_file", key_file)?))
            }
            Target::Dingtalk {
                url,
                key_file,
                secret_file,
            } => Kind::Robot(Robot::dingtalk(
                client()?,
                url,
                &read("key_file", key_file)?,
                read("secret_file", secret_file)?,
            )),
            Target::Feishu {
                url,
                key_file,
                secret_file,
            } => Kind::Robot(Robot::feishu(
                client()?,
                url,
                &read("key_file", key_file)?,
                read("secret_file", secret_file)?,
            )),
            Target::Mail(target) => {
                let password = match &target.login {
                    Some(login) => Some(read("password_file", &login.password_file)?),
                    None => None,
                };
                let roots = match &channel.ca_file {
                    Some(path) => Some(file(name, "ca_file", path)?),
                    None => None,
                };
                let mail = Mail::new(target, password, roots.as_deref());
                Kind::Mail(Box::new(mail.map_err(|source| PeerError::Client {
                    channel: name.to_owned(),
                    source: source.into(),
                })?))
            }
            Target::Alertmanager { url, login } => {
                let login = match login {
                    Some(login) => {
                        let password = read("password_file", &login.password_file)?;
                        Some((login.user.clone(), password))
                    }
                    None => None,
                };
                Kind::Alertmanager(Alertmanager::new(client()?, url, login))
            }
        };
        Ok(Self {
            channel: name.to_owned(),
            kind,
        })
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Sends letters as one message, gravest first; what the peer said.
    pub async fn send(
        &self,
        store: &Store,
        letters: &[Letter],
        now_ms: i64,
    ) -> Result<Answer, Failure> {
        let sent = async {
            match &self.kind {
                Kind::Webhook(webhook) => webhook.send(letters, now_ms).await,
                Kind::Robot(robot) => robot.send(letters, now_ms).await,
                Kind::Mail(mail) => mail.send(letters, now_ms).await,
                Kind::Alertmanager(alertmanager) => {
                    let told = self
                        .told(store, letters)
                        .await
                        .map_err(|error| Failure::temporary(telemetry::chain(&error)))?;
                    alertmanager.send(&told, letters, now_ms).await
                }
            }
        };
        // Each client has deadlines of its own; this one holds whatever they do.
        match tokio::time::timeout(SEND_DEADLINE * 2, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::temporary("no answer within the deadline")),
        }
    }

    /// What the channel was told before of the warnings of these letters.
    async fn told(&self, store: &Store, letters: &[Letter]) -> Result<Vec<Notice>, StoreError> {
        let mut told = Vec::new();
        for letter in letters {
            told.extend(outbox::told(store.readers(), &self.channel, letter.notice.warning).await?);
        }
        Ok(told)
    }
}

fn file(channel: &str, key: &'static str, path: &Path) -> Result<Vec<u8>, PeerError> {
    std::fs::read(path).map_err(|source| PeerError::File {
        channel: channel.to_owned(),
        key,
        path: path.to_owned(),
        source,
    })
}

fn secret(channel: &str, key: &'static str, path: &Path) -> Result<String, PeerError> {
    let bytes = file(channel, key, path)?;
    String::from_utf8(bytes)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| text.len() >= SECRET_BYTES_MIN && !text.chars().any(char::is_control))
        .ok_or_else(|| PeerError::Secret {
            channel: channel.to_owned(),
            key,
            path: path.to_owned(),
        })
}

fn client(channel: &str, ca_file: Option<&Path>) -> Result<Client, PeerError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| PeerError::Client {
        channel: channel.to_owned(),
        source,
    };
    let mut roots = match ca_file {
        Some(path) => tls::roots(path).map_err(|source| PeerError::Roots {
            channel: channel.to_owned(),
            source,
        })?,
        None => RootCertStore::empty(),
    };
    // A system without roots has none to trust; then every connection says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(SEND_DEADLINE)
        .user_agent(concat!("linli-hub/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed(error.into()))
}

/// Sends a request and reads the answer of a peer that has taken it.
async fn ask(request: RequestBuilder) -> Result<Answer, Failure> {
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
            // The status says enough where it is not a success.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(lost(error)),
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    judge(status, retry_after_ms, body)
}

/// What a status means.
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
fn told(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(ANSWER_CHARS_TOLD).collect()
}

fn notices(letters: &[Letter]) -> Vec<&Notice> {
    letters.iter().map(|letter| &letter.notice).collect()
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
    fn a_secret_is_one_line_and_what_is_wrong_names_channel_key_and_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let read = || secret("duty", "key_file", &path).map_err(|error| error.to_string());
        let missing = read().expect_err("not there");
        assert!(
            missing.contains("\"duty\"")
                && missing.contains("key_file")
                && missing.contains("key\""),
            "{missing}"
        );
        for wrong in ["", "short", "a line of it\nand another"] {
            std::fs::write(&path, wrong).expect("written");
            assert!(read().expect_err(wrong).contains("one line"));
        }
        std::fs::write(&path, "  0123456789abcdef\n").expect("written");
        assert_eq!(read().expect("good"), "0123456789abcdef");
    }
}
