//! Fire alarm hosts and their transmission devices (用户信息传输装置), by GB/T 26875.3-2011 over TCP and UDP. The agent is the
//! centre: devices connect to it, or send it datagrams.
//!
//! ```text
//! bytes ▶ frame (checked, resynchronised) ▶ unit (clause 8) ▶ map ▶ feed ▶ durable ▶ answer (confirm, deny, time)
//! ```
//!
//! * A device is known by the source address in its frames (`[[source.host]]`), and where the config says so by the
//!   address that it calls from: the protocol has no secret. One that is not known is denied, unless `unknown = "take"`.
//! * A frame with a wrong checksum is denied, and so is one whose data unit cannot be read; the device sends it again.
//! * A device's clock that is off by more than `set_clock_beyond` is set by the agent, at most every
//!   [`CLOCK_EVERY`], where the agent's own clock is set.
//! * Limits: those of [`callers`](super::callers) and [`frame`].
pub mod answer;
pub mod frame;
pub mod map;
mod names;
pub mod unit;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::service::clock;
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::callers::{self, Callers, Line, Out, Rest, Unknown};
use super::feed::{Feed, Group};
use super::reading::Reject;
use super::{Check, Source};
use answer::Answer;
use frame::{Address, Frame, Framer, Head, Piece};
use unit::Unit;

/// A device's clock is set no more often.
const CLOCK_EVERY: Duration = Duration::from_secs(600);
/// Hosts in the config, and hosts of one connection whose clocks are watched.
const HOSTS_MAX: usize = 1024;
/// Serial of what the agent begins: one is on its way at a time.
const OWN_SERIAL: u16 = 0;

/// `[[source]] type = "gb26875"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where devices connect.
    tcp: Option<SocketAddr>,
    /// Where they send datagrams.
    udp: Option<SocketAddr>,
    /// At once.
    #[serde(default = "default_connections_max")]
    connections_max: usize,
    /// How long a connection may say nothing.
    #[serde(default = "default_idle")]
    idle: Span,
    /// What is done with hosts that are not below.
    #[serde(default)]
    unknown: Unknown,
    /// How far a device's clock may be off before it is set; left out: it never is.
    set_clock_beyond: Option<Span>,
    /// Hosts that are known.
    #[serde(default)]
    host: Vec<HostConfig>,
}

/// `[[source.host]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostConfig {
    /// The source address in its frames, as a number.
    address: u64,
    /// The device on its events.
    id: String,
    /// The address that it calls from.
    peer: Option<IpAddr>,
}

fn default_connections_max() -> usize {
    256
}

fn default_idle() -> Span {
    Span::from_secs(300)
}

#[derive(Debug)]
struct Host {
    id: String,
    peer: Option<IpAddr>,
}

/// Who may say something.
#[derive(Debug)]
struct Hosts {
    known: HashMap<Address, Host>,
    unknown: Unknown,
}

impl Hosts {
    fn id(&self, address: Address, peer: IpAddr) -> Result<String, Reject> {
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

/// The source.
#[derive(Debug)]
pub(crate) struct Gb26875 {
    callers: Callers,
    hosts: Hosts,
    set_clock_beyond: Option<Duration>,
}

impl Source for Gb26875 {
    const TYPE: &'static str = "gb26875";
    // The usual sign of life comes every 20 to 30 s.
    const SILENT_AFTER: Option<Duration> = Some(Duration::from_secs(180));
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let callers = Callers {
            tcp: config.tcp,
            udp: config.udp,
            connections_max: config.connections_max,
            idle: config.idle,
        }
        .check(check)?;
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
        if let Some(beyond) = config.set_clock_beyond
            && beyond.0 < Duration::from_secs(5)
        {
            return Err(check.wrong(
                "set_clock_beyond",
                "must be at least \"5s\": frames take a moment; leave it out to set no clock",
            ));
        }
        let mut known = HashMap::new();
        let mut ids: HashMap<String, usize> = HashMap::new();
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
            if host.id.is_empty() || host.id.contains('/') {
                return Err(check.wrong(
                    &key("id"),
                    format!(
                        "{:?} must be a name without '/': parts of the host stand behind one",
                        host.id
                    ),
                ));
            }
            if let Some(other) = ids.insert(host.id.clone(), index) {
                return Err(check.wrong(
                    &key("id"),
                    format!("{:?} is the id of host[{other}] too", host.id),
                ));
            }
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
            callers,
            hosts: Hosts {
                known,
                unknown: config.unknown,
            },
            set_clock_beyond: config.set_clock_beyond.map(|span| span.0),
        })
    }

    fn devices(&self) -> Vec<String> {
        self.hosts
            .known
            .values()
            .map(|host| host.id.clone())
            .collect()
    }

    async fn run(self, feed: Feed, stop: CancellationToken) {
        let hosts = Arc::new(self.hosts);
        let zone = feed.zone().clone();
        let set_clock_beyond = self.set_clock_beyond;
        let line = move || HostLine {
            framer: Framer::default(),
            peer: None,
            hosts: hosts.clone(),
            zone: zone.clone(),
            set_clock_beyond,
            clocks: HashMap::new(),
        };
        callers::run(self.callers, feed, stop, line).await;
    }
}

/// What comes on a connection, or in datagrams.
struct HostLine {
    framer: Framer,
    peer: Option<IpAddr>,
    hosts: Arc<Hosts>,
    zone: TimeZone,
    set_clock_beyond: Option<Duration>,
    /// When the clock of a host was set last, milliseconds since boot.
    clocks: HashMap<Address, u64>,
}

/// Whether a host's clock is to be set.
fn is_clock_due(
    head: &Head,
    now: DateTime,
    beyond: Duration,
    last_ms: Option<u64>,
    now_ms: u64,
) -> bool {
    let every_ms = CLOCK_EVERY.as_millis() as u64;
    if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(last_ms) < every_ms) {
        return false;
    }
    match head.time.civil() {
        Some(time) => time.duration_since(now).unsigned_abs() > beyond,
        None => true,
    }
}

impl Line for HostLine {
    fn feed(&mut self, peer: IpAddr, bytes: &[u8]) {
        self.peer = Some(peer);
        self.framer.feed(bytes);
    }

    fn take(&mut self, group: &mut Group<'_>, out: &mut Out, mut rest: Rest) {
        let Some(peer) = self.peer else { return };
        let now = Timestamp::from_millisecond(group.received_ms())
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(self.zone.clone())
            .datetime();
        while !group.is_full() {
            let piece = match rest {
                Rest::Coming => self.framer.take(),
                Rest::Late | Rest::Ended => self.framer.give_up(),
            };
            if rest == Rest::Late {
                rest = Rest::Coming;
            }
            match piece {
                None => return,
                Some(Piece::Rejected { why, bytes, head }) => {
                    out.bad();
                    group.message(bytes, Err(Reject::new(why.to_string())));
                    if let Some(head) = head
                        && self.hosts.id(head.source, peer).is_ok()
                    {
                        out.answers.push(Answer::Deny.encode(&head, now));
                    }
                }
                Some(Piece::Frame(frame, raw)) => {
                    let Ok(id) = self
                        .hosts
                        .id(frame.head.source, peer)
                        .map_err(|reject| group.message(raw, Err(reject)))
                    else {
                        out.bad();
                        out.answers.push(Answer::Deny.encode(&frame.head, now));
                        continue;
                    };
                    out.good(&id);
                    out.answers.extend(taken(&id, &frame, raw, now, group));
                    let Some(beyond) = self.set_clock_beyond else {
                        continue;
                    };
                    let head = frame.head;
                    let now_ms = clock::monotonic_ms();
                    let last_ms = self.clocks.get(&head.source).copied();
                    let is_known = last_ms.is_some() || self.clocks.len() < HOSTS_MAX;
                    if is_known
                        && clock::is_set(group.received_ms())
                        && is_clock_due(&head, now, beyond, last_ms, now_ms)
                    {
                        self.clocks.insert(head.source, now_ms);
                        let set = answer::set_clock(OWN_SERIAL, head.destination, head.source, now);
                        out.answers.push(set);
                    }
                }
            }
        }
    }

    fn held(&self) -> usize {
        self.framer.held()
    }
}

/// Hands a frame over; gives what is to be answered.
fn taken(
    id: &str,
    frame: &Frame<'_>,
    raw: &[u8],
    now: DateTime,
    group: &mut Group<'_>,
) -> Option<Vec<u8>> {
    let unit = Unit::decode(frame.data);
    let answer = match unit {
        Ok(unit) => {
            let answer = answer::to(&frame.head, Some(&unit), true);
            group.message(raw, map::said(id, &frame.head, unit, now));
            answer
        }
        Err(error) => {
            group.message(raw, Err(Reject::new(error.to_string())));
            answer::to(&frame.head, None, false)
        }
    };
    answer.map(|answer| answer.encode(&frame.head, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Command, WireTime};

    fn checked(text: &str) -> Result<Gb26875, ConfigError> {
        let config = toml::from_str(text).expect("TOML of it");
        let check = Check {
            name: "fire",
            path: std::path::Path::new("/etc/linli/agent.toml"),
            key: "source[0]",
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

    #[test]
    fn who_is_not_known_or_calls_from_elsewhere_is_refused() {
        let text = "tcp = \"0.0.0.0:5200\"\n[[host]]\naddress = 889\nid = \"fire-1\"\npeer = \"10.0.0.5\"\n";
        let hosts = checked(text).expect("a config").hosts;
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

    #[test]
    fn a_clock_is_set_when_it_is_off_and_not_all_the_time() {
        let now = DateTime::constant(2026, 8, 1, 19, 19, 0, 0);
        let beyond = Duration::from_secs(60);
        let head = |time| Head {
            serial: 1,
            version: [1, 1],
            time,
            source: Address([1; 6]),
            destination: Address([0; 6]),
            command: Command::Send,
        };
        let near = head(WireTime([0, 20, 19, 1, 8, 26]));
        let far = head(WireTime([1, 20, 19, 1, 8, 26]));
        let none = head(WireTime([0; 6]));
        assert!(!is_clock_due(&near, now, beyond, None, 0));
        assert!(is_clock_due(&far, now, beyond, None, 0));
        assert!(is_clock_due(&none, now, beyond, None, 0));
        assert!(!is_clock_due(&none, now, beyond, Some(0), 599_999));
        assert!(is_clock_due(&none, now, beyond, Some(0), 600_000));
    }
}
