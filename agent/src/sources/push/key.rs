//! The config of an HTTP push, and the authentication of its sender.
use axum::http::{HeaderMap, HeaderName};
use hmac::{Hmac, KeyInit, Mac};
use linli_shared::service::config::ConfigError;
use serde::Deserialize;
use sha2::Sha256;
use std::path::PathBuf;
use tokio::sync::Mutex;

use super::replays::Replays;
use crate::files::load_mapping;
use crate::http::has_token;
use crate::sources::Check;
use crate::transport::bodies::Proof;
use linli_devices::mapping::Mapping;

/// The keys of `[[source]]` with `type = "push"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushSourceConfig {
    /// Mapping file, relative to the config.
    pub mapping: PathBuf,
    /// File with the token that a push carries as `Authorization: Bearer …`.
    pub token_file: Option<PathBuf>,
    /// File with the secret of the HMAC-SHA256 that a push carries in `hmac_header`.
    pub hmac_secret_file: Option<PathBuf>,
    /// Header with the HMAC in hexadecimal, with or without `sha256=` before it.
    pub hmac_header: Option<String>,
}

/// Default of `hmac_header`.
const HMAC_HEADER: &str = "x-signature-256";

/// The authentication of a push.
pub enum PushKey {
    /// A token.
    Token(Vec<u8>),
    /// An HMAC over the body.
    Hmac {
        /// Header that carries it.
        header: HeaderName,
        /// Secret.
        secret: Vec<u8>,
    },
    /// None: the source takes imports only.
    None,
}

/// A push source that is ready.
pub struct PushSource {
    /// Name.
    pub name: String,
    /// Mapping.
    pub mapping: Mapping,
    /// Key.
    pub key: PushKey,
    /// Signed bodies that were stored recently.
    pub replays: Mutex<Replays>,
}

impl PushSource {
    /// Checks the config and reads the files that it names.
    pub fn new(rest: toml::Table, check: &Check<'_>) -> Result<Self, ConfigError> {
        let config: PushSourceConfig = check.parse(rest)?;
        if config.hmac_header.is_some() && config.hmac_secret_file.is_none() {
            return Err(check.wrong(
                "hmac_header",
                "does nothing without hmac_secret_file: name the file with the secret, or leave it out",
            ));
        }
        let header = config.hmac_header.as_deref().unwrap_or(HMAC_HEADER);
        let key = match (&config.token_file, &config.hmac_secret_file) {
            (Some(token), None) => PushKey::Token(check.secret("token_file", token)?),
            (None, Some(file)) => PushKey::Hmac {
                header: header.parse().map_err(|_| {
                    check.wrong(
                        "hmac_header",
                        format!(
                            "{header:?} is not the name of an HTTP header: write one like \"x-signature-256\""
                        ),
                    )
                })?,
                secret: check.secret("hmac_secret_file", file)?,
            },
            (None, None) => PushKey::None,
            (Some(_), Some(_)) => {
                return Err(check.wrong(
                    "token_file",
                    "stands beside hmac_secret_file: keep the one that the source can send",
                ));
            }
        };
        Ok(Self {
            mapping: load_mapping(check.name, &check.file(&config.mapping))?,
            name: check.name.to_owned(),
            replays: Mutex::default(),
            key,
        })
    }

    /// The proof in the head of a push; an error names the missing part.
    pub fn prove(&self, headers: &HeaderMap) -> Result<Proof, String> {
        match &self.key {
            PushKey::Token(token) => {
                if has_token(headers, token) {
                    return Ok(Proof::Given);
                }
                Err(format!(
                    "the token of source {:?} is wrong or missing: send it as \"Authorization: Bearer …\"",
                    self.name
                ))
            }
            PushKey::Hmac { header, .. } if headers.contains_key(header) => Ok(Proof::InBody),
            PushKey::Hmac { header, .. } => Err(format!(
                "the header {header:?} with the HMAC-SHA256 of the body is missing: source {:?} must send it",
                self.name
            )),
            PushKey::None => Err(format!(
                "source {:?} has neither token_file nor hmac_secret_file in the agent's config, so it takes no push",
                self.name
            )),
        }
    }

    /// Verifies the body against the signature in its head.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let PushKey::Hmac { header, secret } = &self.key else {
            return Ok(());
        };
        let sent = headers
            .get(header)
            .and_then(|value| value.to_str().ok())
            .map(|value| match value.split_at_checked("sha256=".len()) {
                Some((name, digits)) if name.eq_ignore_ascii_case("sha256=") => digits,
                _ => value,
            })
            .and_then(|value| hex::decode(value).ok())
            .unwrap_or_default();
        let good = Hmac::<Sha256>::new_from_slice(secret)
            .map(|mac| mac.chain_update(body).verify_slice(&sent).is_ok())
            .unwrap_or(false);
        if good {
            return Ok(());
        }
        Err(format!(
            "the HMAC-SHA256 of the body in header {header:?} is wrong: check the secret of source {:?}",
            self.name
        ))
    }
}
