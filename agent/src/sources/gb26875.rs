//! Fire alarm hosts and their transmission devices (用户信息传输装置), by GB/T 26875.3-2011 over TCP and UDP. The agent is the
//! centre: devices connect to it, or send it datagrams.
//!
//! ```text
//! bytes ▶ frame (checked, resynchronised) ▶ unit (clause 8) ▶ map ▶ feed ▶ durable ▶ answer (confirm, deny, time)
//! ```
//!
//! * A device is identified by the source address in its frames (`[[source.host]]`), and if the config has a peer by
//!   the address that it calls from: the protocol has no secret. An unknown device is denied, unless `unknown =
//!   "take"`.
//! * A frame with a wrong checksum or an unreadable data unit is denied; the device sends it again.
//! * A device's clock that is off by more than `set_clock_beyond` is set by the agent, at most every ten minutes, if
//!   the agent's own clock is set.
//! * Limits: those of `callers` and [`frame`](linli_devices::gb26875::frame).
pub(crate) mod hosts;
mod line;

use linli_shared::service::config::ConfigError;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Check, Listens, Source};
use crate::ingest::SourceIngest;
use crate::transport::inbound::{self, Callers};
use hosts::{Config, Hosts};
use line::HostLine;

/// The source.
#[derive(Debug)]
pub(crate) struct Gb26875 {
    callers: Callers,
    hosts: Hosts,
    set_clock_beyond: Option<Duration>,
}

impl Source for Gb26875 {
    const TYPE: &'static str = "gb26875";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let callers = Callers {
            tcp: config.tcp,
            udp: config.udp,
            connections_max: config.connections_max,
            idle: config.idle,
        }
        .check(check)?;
        if let Some(beyond) = config.set_clock_beyond
            && beyond.0 < Duration::from_secs(5)
        {
            return Err(check.wrong(
                "set_clock_beyond",
                "must be at least \"5s\": frames take a moment; leave it out to set no clock",
            ));
        }
        Ok(Self {
            callers,
            set_clock_beyond: config.set_clock_beyond.map(|span| span.0),
            hosts: Hosts::new(config, check)?,
        })
    }

    fn silent_after(&self) -> Option<Duration> {
        // A sign of life usually arrives every 20 to 30 s.
        Some(Duration::from_secs(180))
    }

    fn listens(&self) -> Vec<Listens> {
        self.callers.listens()
    }

    fn devices(&self) -> Vec<String> {
        self.hosts.ids()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let hosts = Arc::new(self.hosts);
        let zone = ingest.zone().clone();
        let set_clock_beyond = self.set_clock_beyond;
        let line = move || HostLine::new(hosts.clone(), zone.clone(), set_clock_beyond);
        inbound::run(self.callers, ingest, stop, line).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Gb26875, ConfigError> {
        let config = toml::from_str(text).expect("TOML of it");
        let check = Check {
            name: "fire",
            path: std::path::Path::new("/etc/linli/agent.toml"),
            key: "source[0]",
            zone: jiff::tz::TimeZone::UTC,
        };
        Gb26875::new(config, &check)
    }

    #[test]
    fn a_wrong_config_names_its_key() {
        let host = "[[host]]\naddress = 889\nid = \"fire-1\"\n";
        for (text, key) in [
            (format!("unknown = \"take\"\n{host}"), "source[0].tcp"),
            ("tcp = \"0.0.0.0:5200\"".to_owned(), "source[0].host"),
            (
                format!("tcp = \"0.0.0.0:5200\"\nconnections_max = 0\n{host}"),
                "source[0].connections_max",
            ),
            (
                format!("tcp = \"0.0.0.0:5200\"\nidle = \"1s\"\n{host}"),
                "source[0].idle",
            ),
            (
                format!("tcp = \"0.0.0.0:5200\"\nset_clock_beyond = \"1s\"\n{host}"),
                "source[0].set_clock_beyond",
            ),
            (
                format!("tcp = \"0.0.0.0:5200\"\n{host}{host}"),
                "source[0].host[1].id",
            ),
            (
                format!("tcp = \"0.0.0.0:5200\"\n{host}[[host]]\naddress = 889\nid = \"b\"\n"),
                "source[0].host[1].address",
            ),
            (
                "tcp = \"0.0.0.0:5200\"\n[[host]]\naddress = 0x1_0000_0000_0000\nid = \"b\"\n"
                    .to_owned(),
                "source[0].host[0].address",
            ),
            (
                "tcp = \"0.0.0.0:5200\"\n[[host]]\naddress = 1\nid = \"a/b\"\n".to_owned(),
                "source[0].host[0].id",
            ),
        ] {
            match checked(&text) {
                Err(ConfigError::Value { key: named, .. }) => assert_eq!(named, key, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let good = checked(&format!("udp = \"0.0.0.0:5200\"\n{host}")).expect("a config");
        assert_eq!(good.devices(), ["fire-1"]);
        assert!(toml::from_str::<Config>("tcp = \"0.0.0.0:5200\"\nport = 1").is_err());
    }
}
