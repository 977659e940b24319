//! The config of the SIP server: its own id, the devices that may register, and their passwords. Checked whole at the
//! start.
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::sources::Check;

/// Largest number of devices in the config.
const DEVICES_MAX: usize = 1024;
/// Digits of an id (annex D).
const ID_DIGITS: usize = 20;

/// `[[source]] type = "gb28181"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address where devices connect.
    pub tcp: Option<SocketAddr>,
    /// Address where devices send datagrams.
    pub udp: Option<SocketAddr>,
    /// Largest number of simultaneous connections.
    pub connections_max: Option<usize>,
    /// Longest silence of a connection.
    pub idle: Option<Span>,
    /// The agent's own id, 20 digits.
    id: String,
    /// Domain and realm; left out: the first ten digits of the id.
    realm: Option<String>,
    /// File with the password of all devices that have no own one.
    password_file: Option<PathBuf>,
    /// Interval between requests for devices' channels; `"0s"`: none are sent.
    #[serde(default = "default_catalog_every")]
    catalog_every: Span,
    /// Devices that may register.
    #[serde(default)]
    device: Vec<DeviceConfig>,
}

/// `[[source.device]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceConfig {
    /// Id of the device, 20 digits.
    id: String,
    /// File with the password of the device.
    password_file: Option<PathBuf>,
    /// The address that the device calls from.
    peer: Option<IpAddr>,
}

fn default_catalog_every() -> Span {
    Span::from_secs(600)
}

/// A device that may register.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// Password of the device.
    pub password: String,
    /// The only address that the device may call from; messages from it are accepted even before the device has
    /// registered.
    pub peer: Option<IpAddr>,
}

/// The server, and the devices that may register.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// The agent's own id.
    pub id: String,
    /// Domain and realm.
    pub realm: String,
    /// Interval between requests for devices' channels.
    pub catalog_every: Option<Duration>,
    known: HashMap<String, Account>,
}

fn is_id(id: &str) -> bool {
    id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_digit())
}

impl Accounts {
    /// Checks the config, and reads the passwords.
    pub fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let wrong_id = |key: &str, id: &str| {
            check.wrong(
                key,
                format!("{id:?} must be {ID_DIGITS} digits, like \"34020000002000000001\""),
            )
        };
        if !is_id(&config.id) {
            return Err(wrong_id("id", &config.id));
        }
        let realm = config.realm.unwrap_or_else(|| config.id[..10].to_owned());
        let is_realm = (1..=64).contains(&realm.len())
            && realm
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        if !is_realm {
            return Err(check.wrong(
                "realm",
                format!("{realm:?} must be a domain, like \"3402000000\""),
            ));
        }
        let every = config.catalog_every.0;
        if !every.is_zero() && every < Duration::from_secs(60) {
            return Err(check.wrong(
                "catalog_every",
                "must be at least \"60s\", or \"0s\" to ask never",
            ));
        }
        if config.device.is_empty() || config.device.len() > DEVICES_MAX {
            return Err(check.wrong(
                "device",
                format!("is there {} times: write [[source.device]] with the id of each device, at most {DEVICES_MAX}", config.device.len()),
            ));
        }
        let shared = match &config.password_file {
            Some(file) => Some(check.password("password_file", file)?),
            None => None,
        };
        let mut known = HashMap::new();
        for (index, device) in config.device.into_iter().enumerate() {
            let key = |name: &str| format!("device[{index}].{name}");
            if !is_id(&device.id) {
                return Err(wrong_id(&key("id"), &device.id));
            }
            let password = match (&device.password_file, &shared) {
                (Some(file), _) => check.password(&key("password_file"), file)?,
                (None, Some(shared)) => shared.clone(),
                (None, None) => {
                    return Err(check.wrong(
                        &key("password_file"),
                        "is missing, and [[source]] has none for all: write the SIP password of the device into a file",
                    ));
                }
            };
            let account = Account {
                password,
                peer: device.peer,
            };
            if device.id == config.id {
                return Err(check.wrong(&key("id"), "is the agent's own: each has another"));
            }
            if known.insert(device.id, account).is_some() {
                return Err(check.wrong(&key("id"), "is there twice: remove one of the two"));
            }
        }
        Ok(Self {
            id: config.id,
            realm,
            catalog_every: (!every.is_zero()).then_some(every),
            known,
        })
    }

    /// The ids of the devices that may register.
    pub fn ids(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    /// The device with this id.
    pub fn find(&self, id: &str) -> Option<&Account> {
        self.known.get(id)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DEVICE: &str = "[[device]]\nid = \"34020000001180000001\"\n";

    pub(crate) fn checked(text: &str) -> Result<Accounts, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("sip"), "12345678\n").expect("a file");
        let path = directory.path().join("agent.toml");
        let check = Check {
            name: "video",
            path: &path,
            key: "source[0]",
            zone: jiff::tz::TimeZone::UTC,
        };
        Accounts::new(toml::from_str(text).expect("TOML of it"), &check)
    }

    #[test]
    fn a_wrong_config_names_its_key() {
        let good = "id = \"34020000002000000001\"\npassword_file = \"sip\"\n";
        for (text, wrong) in [
            (format!("id = \"1\"\n{DEVICE}"), "source[0].id"),
            (
                format!("{good}realm = \"a b\"\n{DEVICE}"),
                "source[0].realm",
            ),
            (
                format!("{good}catalog_every = \"1s\"\n{DEVICE}"),
                "source[0].catalog_every",
            ),
            (good.to_owned(), "source[0].device"),
            (
                format!("id = \"34020000002000000001\"\n{DEVICE}"),
                "source[0].device[0].password_file",
            ),
            (
                format!("{good}[[device]]\nid = \"x\"\n"),
                "source[0].device[0].id",
            ),
            (format!("{good}{DEVICE}{DEVICE}"), "source[0].device[1].id"),
            (
                format!("{good}[[device]]\nid = \"34020000002000000001\"\n"),
                "source[0].device[0].id",
            ),
        ] {
            match checked(&text) {
                Err(ConfigError::Value { key, .. }) => assert_eq!(key, wrong, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let accounts = checked(&format!("{good}{DEVICE}")).expect("a config");
        assert_eq!(accounts.realm, "3402000000");
        let account = accounts.find("34020000001180000001").expect("known");
        assert_eq!(account.password, "12345678");
        assert!(toml::from_str::<Config>("id = \"1\"\nport = 1").is_err());
    }
}
