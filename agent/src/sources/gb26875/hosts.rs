//! The config of fire alarm hosts: the known hosts, and their addresses. Checked whole at the start.
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::sources::Check;
use crate::transport::inbound::{Ids, Unknown};
use linli_devices::device_event::Reject;
use linli_devices::gb26875::frame::Address;

/// Largest number of hosts in the config.
const HOSTS_MAX: usize = 1024;

/// `[[source]] type = "gb26875"`
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
    /// Handling of hosts that are not listed below.
    #[serde(default)]
    pub unknown: Unknown,
    /// Offset beyond which a device's clock is set; without it, no clock is set.
    pub set_clock_beyond: Option<Span>,
    /// Known hosts.
    #[serde(default)]
    host: Vec<HostConfig>,
}

/// `[[source.host]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostConfig {
    /// The source address in its frames, as a number.
    address: u64,
    /// The device on its events.
    id: String,
    /// The address that the host calls from.
    peer: Option<IpAddr>,
}

#[derive(Debug)]
struct Host {
    id: String,
    peer: Option<IpAddr>,
}

/// The hosts that may send.
#[derive(Debug)]
pub(crate) struct Hosts {
    known: HashMap<Address, Host>,
    unknown: Unknown,
}

impl Hosts {
    /// Checks the config.
    pub fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        if config.host.is_empty() && config.unknown == Unknown::Refuse {
            return Err(check.wrong(
                "host",
                "is missing: write [[source.host]] with address and id for each device, or unknown = \"take\"",
            ));
        }
        if config.host.len() > HOSTS_MAX {
            return Err(check.wrong(
                "host",
                format!("is there more than {HOSTS_MAX} times: make two sources of it"),
            ));
        }
        let mut known = HashMap::new();
        let mut ids = Ids::default();
        for (index, host) in config.host.into_iter().enumerate() {
            let key = |name: &str| format!("host[{index}].{name}");
            let Some(address) = Address::from_number(host.address) else {
                return Err(check.wrong(
                    &key("address"),
                    format!(
                        "is {}, more than six bytes hold: write the number that the device shows",
                        host.address
                    ),
                ));
            };
            ids.take(check, "host", index, &host.id, "parts of the host")?;
            let host_address = host.address;
            let host = Host {
                id: host.id,
                peer: host.peer,
            };
            if known.insert(address, host).is_some() {
                return Err(check.wrong(
                    &key("address"),
                    format!("{host_address} is there twice: remove one of the two"),
                ));
            }
        }
        Ok(Self {
            known,
            unknown: config.unknown,
        })
    }

    /// The ids of the known hosts.
    pub fn ids(&self) -> Vec<String> {
        self.known.values().map(|host| host.id.clone()).collect()
    }

    /// The host of an address, if it may call from this peer.
    pub fn id(&self, address: Address, peer: IpAddr) -> Result<String, Reject> {
        let number = address.number();
        match self.known.get(&address) {
            Some(Host {
                peer: Some(from), ..
            }) if *from != peer => Err(Reject::new(format!(
                "host {number} calls from {peer}, not from the peer of its [[source.host]], {from}: correct it if the host has moved"
            ))),
            Some(host) => Ok(host.id.clone()),
            None if self.unknown == Unknown::Take => Ok(number.to_string()),
            None => Err(Reject::new(format!(
                "host {number}, which calls from {peer}, is not in the config: add [[source.host]] with address = {number}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "[[host]]\naddress = 889\nid = \"fire-1\"\npeer = \"10.0.0.5\"\n";

    fn hosts(text: &str) -> Hosts {
        let check = Check {
            name: "fire",
            path: std::path::Path::new("/etc/linli/agent.toml"),
            key: "source[0]",
            zone: jiff::tz::TimeZone::UTC,
        };
        Hosts::new(toml::from_str(text).expect("TOML of it"), &check).expect("a config")
    }

    #[test]
    fn who_is_not_known_or_calls_from_elsewhere_is_refused() {
        let hosts = hosts(HOST);
        let address = |number| Address::from_number(number).expect("six bytes");
        let here: IpAddr = [10, 0, 0, 5].into();
        let elsewhere: IpAddr = [10, 0, 0, 6].into();
        assert_eq!(hosts.id(address(889), here).as_deref(), Ok("fire-1"));
        assert!(hosts.id(address(889), elsewhere).is_err());
        assert!(hosts.id(address(890), here).is_err());
        let open = Hosts {
            unknown: Unknown::Take,
            ..hosts
        };
        assert_eq!(open.id(address(890), here).as_deref(), Ok("890"));
        assert!(open.id(address(889), elsewhere).is_err());
    }
}
