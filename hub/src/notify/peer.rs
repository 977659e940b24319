//! The peers: one file a kind. A peer turns letters into a request, sends it and reads the answer.
//!
//! * [`linli_shared::service::peer`] bounds every request. The system's roots are trusted, and
//!   those of `ca_file`.
//! * A [`Failure`] is temporary (no answer, 408, 429, 5xx, a robot's code for "too fast" or "busy") or
//!   permanent: the peer has read the message and refuses it.
mod alertmanager;
mod mail;
mod robot;
mod webhook;

use linli_shared::service::peer::{self, ask, told};
use linli_shared::service::telemetry;
use linli_shared::service::tls;
use reqwest::Client;
use rustls::RootCertStore;
use std::path::{Path, PathBuf};

use crate::centre::channels::{Channel, Target};
use alertmanager::Alertmanager;
use linli_domain::notice::Notice;
use linli_store::{Store, StoreError, outbox};
use mail::Mail;
use robot::Robot;
use webhook::Webhook;

pub use linli_shared::service::peer::{Answer, Failure, SEND_DEADLINE};

/// Minimum length of a secret; a shorter one is a mistake.
const SECRET_BYTES_MIN: usize = 8;

/// Why a channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// One of its files is unreadable.
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
        /// Reason.
        #[source]
        source: std::io::Error,
    },
    /// Its secret is too short or too long.
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
        /// Reason.
        #[source]
        source: tls::TlsError,
    },
    /// The client cannot be made.
    #[error("channel {channel:?}: the client cannot be made")]
    Client {
        /// Channel.
        channel: String,
        /// Reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One notice to send.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Decision and channel, equal for every try: the receiver recognises a repetition by it.
    pub id: String,
    /// The notice.
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

    /// Sends letters as one message, gravest first; returns the peer's answer.
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
        // Each client has deadlines of its own; this one bounds them all.
        match tokio::time::timeout(SEND_DEADLINE * 2, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::temporary("no answer within the deadline")),
        }
    }

    /// The earlier notices of the channel about the warnings of these letters.
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
    let roots = match ca_file {
        Some(path) => tls::roots(path).map_err(|source| PeerError::Roots {
            channel: channel.to_owned(),
            source,
        })?,
        None => RootCertStore::empty(),
    };
    let user_agent = concat!("linli-hub/", env!("CARGO_PKG_VERSION"));
    peer::client(roots, user_agent).map_err(|source| PeerError::Client {
        channel: channel.to_owned(),
        source,
    })
}

fn notices(letters: &[Letter]) -> Vec<&Notice> {
    letters.iter().map(|letter| &letter.notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
