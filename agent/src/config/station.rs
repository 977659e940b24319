//! `[station]`: the destination of the hub's messages to the station.
use linli_shared::service::config::{Bytes, ConfigError};
use linli_shared::service::tls;
use reqwest::Url;
use rustls::RootCertStore;
use serde::Deserialize;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::files::secret;
use crate::stations::inbox::Limits;

const MESSAGES_MAX: RangeInclusive<usize> = 10..=100_000;
const BYTES_MAX: RangeInclusive<u64> = (64 << 10)..=(256 << 20);

/// `[station]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StationConfig {
    /// URL to which messages are delivered.
    pub webhook: Option<String>,
    /// File with the secret of the webhook's signature.
    pub secret_file: Option<PathBuf>,
    /// File with roots to be trusted beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// File with the token that the station's system needs to fetch messages.
    pub token_file: Option<PathBuf>,
    /// Largest number of messages in the inbox.
    pub messages_max: usize,
    /// Largest size of the inbox, bytes.
    pub bytes_max: Bytes,
}

impl Default for StationConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            secret_file: None,
            ca_file: None,
            token_file: None,
            messages_max: 10_000,
            bytes_max: Bytes(16 << 20),
        }
    }
}

/// A webhook that is ready.
pub struct Target {
    /// URL.
    pub url: Url,
    /// Secret of the signature.
    pub secret: Vec<u8>,
    /// Roots of `ca_file`.
    pub roots: RootCertStore,
}

/// A station that is ready: with a webhook, a token or both.
pub struct Station {
    /// The webhook to which messages are delivered.
    pub target: Option<Target>,
    /// The token needed to fetch them.
    pub token: Option<Vec<u8>>,
    /// Limits of the inbox.
    pub limits: Limits,
}

/// Reads and checks the section with every file that it names. Paths are relative to `directory`.
pub fn checked(
    config: StationConfig,
    directory: &Path,
    path: &Path,
) -> Result<Station, ConfigError> {
    let wrong = |key: &str, message: String| ConfigError::Value {
        path: path.to_owned(),
        key: format!("station{key}"),
        message,
    };
    if !MESSAGES_MAX.contains(&config.messages_max) {
        return Err(wrong(
            ".messages_max",
            format!(
                "is {}, must be {} to {}",
                config.messages_max,
                MESSAGES_MAX.start(),
                MESSAGES_MAX.end()
            ),
        ));
    }
    if !BYTES_MAX.contains(&config.bytes_max.0) {
        return Err(wrong(
            ".bytes_max",
            "must be between 64KiB and 256MiB".to_owned(),
        ));
    }
    let target = match (config.webhook, config.secret_file) {
        (Some(webhook), Some(file)) => Some(Target {
            url: url(&webhook).map_err(|message| wrong(".webhook", message))?,
            secret: secret(&directory.join(&file), "station.secret_file")?,
            roots: match &config.ca_file {
                Some(file) => tls::roots(&directory.join(file))
                    .map_err(|error| wrong(".ca_file", error.to_string()))?,
                None => RootCertStore::empty(),
            },
        }),
        (Some(_), None) => {
            return Err(wrong(
                ".webhook",
                "needs secret_file: a file with the secret by which the receiver checks the signature, made with \
                 `openssl rand -hex 32`"
                    .to_owned(),
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                ".secret_file",
                "is for a webhook: add webhook, or remove it".to_owned(),
            ));
        }
        (None, None) => None,
    };
    if target.is_none() && config.ca_file.is_some() {
        return Err(wrong(
            ".ca_file",
            "is for a webhook: add webhook, or remove it".to_owned(),
        ));
    }
    let token = match &config.token_file {
        Some(file) => Some(secret(&directory.join(file), "station.token_file")?),
        None => None,
    };
    if target.is_none() && token.is_none() {
        return Err(wrong(
            "",
            "has neither webhook nor token_file, so no message would ever leave the inbox: add one of them"
                .to_owned(),
        ));
    }
    Ok(Station {
        target,
        token,
        limits: Limits {
            messages_max: config.messages_max,
            bytes_max: config.bytes_max.0,
        },
    })
}

/// Parses a URL with HTTPS, or HTTP to this machine.
fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| {
        format!("{text:?} is not a URL ({error}): write one like \"https://police.example/linli\"")
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a password: the signature proves where a message comes from".to_owned());
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_loopback(host) => Ok(url),
        ("http", _) => Err(format!(
            "{text:?} is plaintext to another machine: write https (http is for this machine only)"
        )),
        _ => Err(format!("{text:?} is neither https nor http: write https")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let files = [("secret", "0123456789abcdef0123"), ("short", "123")];
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).expect("written");
        }
        let config = match toml::from_str::<StationConfig>(text) {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        match checked(config, directory.path(), Path::new("agent.toml")) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_station_needs_a_way_and_what_is_wrong_names_key_and_fix() {
        let table = [
            ("token_file = \"secret\"", "accepted"),
            (
                "webhook = \"https://a.example/x\"\nsecret_file = \"secret\"",
                "accepted",
            ),
            (
                "webhook = \"http://127.0.0.1:1/x\"\nsecret_file = \"secret\"\ntoken_file = \"secret\"",
                "accepted",
            ),
            ("", "station: has neither webhook nor token_file"),
            (
                "webhook = \"https://a.example/x\"",
                "station.webhook: needs secret_file",
            ),
            (
                "secret_file = \"secret\"",
                "station.secret_file: is for a webhook",
            ),
            (
                "token_file = \"secret\"\nca_file = \"secret\"",
                "station.ca_file: is for a webhook",
            ),
            (
                "webhook = \"http://a.example/x\"\nsecret_file = \"secret\"",
                "station.webhook: \"http://a.example/x\" is plaintext",
            ),
            (
                "webhook = \"https://u:p@a.example/x\"\nsecret_file = \"secret\"",
                "station.webhook: holds a password",
            ),
            (
                "webhook = \"ftp://a.example/x\"\nsecret_file = \"secret\"",
                "neither https nor http",
            ),
            (
                "webhook = \"a.example\"\nsecret_file = \"secret\"",
                "is not a URL",
            ),
            (
                "webhook = \"https://a.example/x\"\nsecret_file = \"secret\"\nca_file = \"secret\"",
                "station.ca_file",
            ),
            (
                "token_file = \"short\"",
                "station.token_file: holds fewer than 16 bytes",
            ),
            ("token_file = \"absent\"", "cannot read"),
            (
                "token_file = \"secret\"\nmessages_max = 9",
                "station.messages_max: is 9, must be 10 to 100000",
            ),
            (
                "token_file = \"secret\"\nbytes_max = \"1KiB\"",
                "station.bytes_max: must be between",
            ),
            ("token = \"secret\"", "unknown field `token`"),
        ];
        for (text, wanted) in table {
            let told = refused(text);
            assert!(told.contains(wanted), "{text}\n{told}");
        }
    }
}
