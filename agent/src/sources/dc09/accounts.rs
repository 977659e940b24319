//! The config of panels: the known accounts, their keys, and the allowed offset of their clocks. Checked whole at the
//! start.
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::sources::Check;
use crate::transport::inbound::{Ids, Unknown};
use linli_devices::dc09::cipher::Key;
use linli_devices::dc09::message::{ACCOUNT_BYTES_MAX, Window};
use linli_devices::device_event::Reject;

/// Largest number of accounts in the config.
const ACCOUNTS_MAX: usize = 4096;

/// `[[source]] type = "dc09"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address where panels connect.
    pub tcp: Option<SocketAddr>,
    /// Address where panels send datagrams.
    pub udp: Option<SocketAddr>,
    /// Largest number of simultaneous connections.
    pub connections_max: Option<usize>,
    /// Longest silence of a connection.
    pub idle: Option<Span>,
    /// Handling of accounts that are not listed below.
    #[serde(default)]
    pub unknown: Unknown,
    /// How far the time of a sealed message may be behind the agent's.
    #[serde(default = "default_clock_behind")]
    pub clock_behind: Span,
    /// How far it may be ahead.
    #[serde(default = "default_clock_ahead")]
    pub clock_ahead: Span,
    /// Known accounts.
    #[serde(default)]
    pub account: Vec<AccountConfig>,
}

/// `[[source.account]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountConfig {
    /// The account as it appears behind `#`.
    account: String,
    /// The device on its events.
    id: String,
    /// File with its AES key: 32, 48 or 64 hexadecimal digits.
    key_file: Option<PathBuf>,
    /// The address that the panel calls from.
    peer: Option<IpAddr>,
}

fn default_clock_behind() -> Span {
    Span::from_secs(40)
}

fn default_clock_ahead() -> Span {
    Span::from_secs(20)
}

/// A panel.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// The device on its events.
    pub id: String,
    /// Key of a panel that sends only sealed messages.
    pub key: Option<Key>,
    peer: Option<IpAddr>,
}

/// The panels that may send, and the allowed offset of their clocks.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Accounts, by their name in capitals.
    known: HashMap<String, Account>,
    unknown: Unknown,
    /// Allowed offset of the clocks of panels that seal.
    pub window: Window,
}

impl Accounts {
    /// Checks the config, and reads the keys of accounts.
    pub fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        if config.account.is_empty() && config.unknown == Unknown::Refuse {
            return Err(check.wrong(
                "account",
                "is missing: write [[source.account]] with account and id for each panel, or unknown = \"take\"",
            ));
        }
        if config.account.len() > ACCOUNTS_MAX {
            return Err(check.wrong(
                "account",
                format!("is there more than {ACCOUNTS_MAX} times: make two sources of it"),
            ));
        }
        let seconds = |key, span: Span| match span.0.as_secs() {
            seconds @ 1..=86_400 => Ok(seconds as i64),
            _ => Err(check.wrong(key, "must be between \"1s\" and \"1d\"")),
        };
        let window = Window {
            behind_s: seconds("clock_behind", config.clock_behind)?,
            ahead_s: seconds("clock_ahead", config.clock_ahead)?,
        };
        let mut known = HashMap::new();
        let mut ids = Ids::default();
        for (index, account) in config.account.into_iter().enumerate() {
            let key = |name: &str| format!("account[{index}].{name}");
            let number = account.account.trim_start_matches('#').to_ascii_uppercase();
            let is_account = (1..=ACCOUNT_BYTES_MAX).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_account {
                return Err(check.wrong(
                    &key("account"),
                    format!("{:?} must be up to {ACCOUNT_BYTES_MAX} letters and digits, as the panel has it", account.account),
                ));
            }
            ids.take(check, "account", index, &account.id, "zones of the panel")?;
            let aes = match &account.key_file {
                Some(file) => {
                    let text = check.password(&key("key_file"), file)?;
                    let aes = Key::from_digits(&text).ok_or_else(|| {
                        check.wrong(
                            &key("key_file"),
                            format!("{file:?} must hold the panel's AES key: 32, 48 or 64 hexadecimal digits"),
                        )
                    })?;
                    Some(aes)
                }
                None => None,
            };
            let shown = number.clone();
            let account = Account {
                id: account.id,
                key: aes,
                peer: account.peer,
            };
            if known.insert(number, account).is_some() {
                return Err(check.wrong(
                    &key("account"),
                    format!("{shown:?} is there twice: remove one of the two"),
                ));
            }
        }
        Ok(Self {
            known,
            unknown: config.unknown,
            window,
        })
    }

    /// The ids of the known accounts.
    pub fn ids(&self) -> Vec<String> {
        self.known
            .values()
            .map(|account| account.id.clone())
            .collect()
    }

    /// Finds the owner of an account, if it may call from this address.
    pub fn find(&self, account: &str, peer: IpAddr) -> Result<Account, Reject> {
        let shown = account.to_ascii_uppercase();
        match self.known.get(&shown) {
            Some(Account {
                peer: Some(from), ..
            }) if *from != peer => Err(Reject::new(format!(
                "account {shown} calls from {peer}, not from the peer of its [[source.account]], {from}: correct it if the panel has moved"
            ))),
            Some(known) => Ok(known.clone()),
            None if self.unknown == Unknown::Take && !shown.is_empty() => Ok(Account {
                id: shown,
                key: None,
                peer: None,
            }),
            None => Err(Reject::new(format!(
                "account {shown:?}, which calls from {peer}, is not in the config: add [[source.account]] with account = {shown:?}"
            ))),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn checked(text: &str) -> Result<Accounts, ConfigError> {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("key"), "a5".repeat(16)).expect("a key");
        std::fs::write(directory.path().join("short"), "a5a5").expect("a key");
        let config = toml::from_str(text).expect("TOML of it");
        let check = Check {
            name: "panels",
            path: &directory.path().join("agent.toml"),
            key: "source[0]",
            zone: jiff::tz::TimeZone::UTC,
        };
        Accounts::new(config, &check)
    }

    pub fn account(account: &str, id: &str, more: &str) -> String {
        format!("[[account]]\naccount = {account:?}\nid = {id:?}\n{more}\n")
    }

    #[test]
    fn a_wrong_config_names_its_key() {
        let tcp = "tcp = \"0.0.0.0:12128\"\n";
        let good = account("1234", "panel-1", "key_file = \"key\"");
        for (text, key) in [
            (tcp.to_owned(), "source[0].account"),
            (
                format!("{tcp}clock_behind = \"0s\"\n{good}"),
                "source[0].clock_behind",
            ),
            (
                format!("{tcp}clock_ahead = \"2d\"\n{good}"),
                "source[0].clock_ahead",
            ),
            (format!("{tcp}{good}{good}"), "source[0].account[1].id"),
            (
                format!("{tcp}{good}{}", account("1234", "b", "")),
                "source[0].account[1].account",
            ),
            (
                format!("{tcp}{}", account("12-34", "b", "")),
                "source[0].account[0].account",
            ),
            (
                format!("{tcp}{}", account("1234", "a/b", "")),
                "source[0].account[0].id",
            ),
            (
                format!("{tcp}{}", account("1234", "b", "key_file = \"short\"")),
                "source[0].account[0].key_file",
            ),
        ] {
            match checked(&text) {
                Err(ConfigError::Value { key: named, .. }) => assert_eq!(named, key, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let missing = format!("{tcp}{}", account("1234", "b", "key_file = \"none\""));
        match checked(&missing) {
            Err(ConfigError::Value { key, message, .. }) => {
                assert_eq!(key, "source[0].account[0].key_file");
                assert!(message.contains("umask 077"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            checked(&format!("{tcp}{good}")).expect("a config").ids(),
            ["panel-1"]
        );
    }
}
