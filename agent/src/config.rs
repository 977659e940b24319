//! The agent's config file: strict TOML, every key with a working default.
mod ports;
pub mod station;

use linli_shared::protocol::ids::Lane;
use linli_shared::service::config::{Bytes, ConfigError, load};
use linli_shared::service::telemetry::LogConfig;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::ingest::places::DevicePlace;
use crate::pseudonym::PseudonymConfig;
use crate::source_check::Check;
use crate::sources::push::PushSource;
use crate::sources::{Prepared, SourceConfig};
use linli_spool::WhenFull;
use ports::Listener;
use station::{Station, StationConfig};

/// Allowed values of `spool.seen_max`. Three lanes at the maximum take a third of the service's memory (MemoryMax of
/// the unit).
const SEEN_MAX: RangeInclusive<usize> = 1_000..=250_000;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of spool, identity and socket.
    pub data_dir: PathBuf,
    /// The hub.
    pub hub: HubConfig,
    /// The spool.
    pub spool: SpoolConfig,
    /// HTTP push of devices and platforms.
    pub push: PushConfig,
    /// Prometheus and health.
    pub metrics: MetricsConfig,
    /// Logs.
    pub log: LogConfig,
    /// Treatment of cards and names.
    pub pseudonyms: PseudonymConfig,
    /// Sources.
    pub source: Vec<SourceConfig>,
    /// Places of devices whose messages do not contain them.
    pub device: Vec<DevicePlace>,
    /// A table of further places, CSV, relative to the config.
    pub devices_file: Option<PathBuf>,
    /// The station that receives the state of its incidents.
    pub station: Option<StationConfig>,
}

/// `[hub]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// `host:port` in the order of preference. Empty: the addresses that the hub announced at the join.
    pub addresses: Vec<String>,
}

/// `[spool]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Largest size on disk of all lanes together, bytes.
    pub quota: Bytes,
    /// Size of a generation.
    pub generation: Bytes,
    /// Bytes of disk that stay free.
    pub free_min: Bytes,
    /// Number of event ids that each lane remembers.
    pub seen_max: usize,
    /// Behaviour of the routine lane at its quota.
    pub routine_when_full: WhenFull,
}

/// `[push]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Largest body.
    pub body_max: Bytes,
}

/// `[metrics]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/linli-agent"),
            hub: HubConfig::default(),
            spool: SpoolConfig::default(),
            push: PushConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            pseudonyms: PseudonymConfig::default(),
            source: Vec::new(),
            device: Vec::new(),
            devices_file: None,
            station: None,
        }
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            quota: Bytes(2 << 30),
            generation: Bytes(4 << 20),
            free_min: Bytes(64 << 20),
            seen_max: 100_000,
            routine_when_full: WhenFull::Refuse,
        }
    }
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            body_max: Bytes(1 << 20),
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
        }
    }
}

/// A config that is completely checked.
pub struct Checked {
    /// The values.
    pub config: Config,
    /// HTTP pushes by name.
    pub pushes: BTreeMap<String, PushSource>,
    /// All sources, pushes included.
    pub sources: Vec<Prepared>,
    /// Places by device id.
    pub devices: HashMap<String, DevicePlace>,
    /// The station.
    pub station: Option<Station>,
}

impl SpoolConfig {
    /// A lane's share of the quota: fixed, so that no lane can take the room of another.
    pub fn share(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Urgent => self.quota.0 / 4,
            Lane::Routine => self.quota.0 / 20 * 13,
            Lane::Media => self.quota.0 / 10,
        }
    }
}

impl Config {
    /// Reads and checks a file with every file that it names.
    pub fn load(path: &Path) -> Result<Checked, ConfigError> {
        let config: Config = load(path)?;
        config.check(path)
    }

    fn check(mut self, path: &Path) -> Result<Checked, ConfigError> {
        let wrong = |key: String, message: String| ConfigError::Value {
            path: path.to_owned(),
            key,
            message,
        };
        self.log
            .check()
            .map_err(|message| wrong("log.level".to_owned(), message))?;
        let at_least: [(&str, u64, u64); 3] = [
            ("spool.generation", self.spool.generation.0, 1 << 20),
            ("spool.quota", self.spool.quota.0, 64 << 20),
            ("spool.free_min", self.spool.free_min.0, 8 << 20),
        ];
        for (key, value, least) in at_least {
            if value < least {
                return Err(wrong(
                    key.to_owned(),
                    format!("is {value} bytes, needs at least {} MiB", least >> 20),
                ));
            }
        }
        if self.spool.generation.0 > 64 << 20 {
            return Err(wrong(
                "spool.generation".to_owned(),
                "is more than 64 MiB: a generation is read and deleted as a whole".to_owned(),
            ));
        }
        // A lane holds at least the generation being filled and one that the hub has not acknowledged.
        let smallest = Lane::ALL
            .map(|lane| (self.spool.share(lane), lane))
            .into_iter()
            .min();
        if let Some((share, lane)) = smallest
            && self.spool.generation.0 > share / 2
        {
            return Err(wrong(
                "spool.generation".to_owned(),
                format!(
                    "is {} bytes, but the {lane} lane has {share} bytes of spool.quota, which must hold two \
                     generations: lower spool.generation or raise spool.quota",
                    self.spool.generation.0
                ),
            ));
        }
        if !SEEN_MAX.contains(&self.spool.seen_max) {
            return Err(wrong(
                "spool.seen_max".to_owned(),
                format!(
                    "is {}, must be between {} and {}: each id takes some 60 bytes of memory",
                    self.spool.seen_max,
                    SEEN_MAX.start(),
                    SEEN_MAX.end()
                ),
            ));
        }
        if !(1 << 10..=16 << 20).contains(&self.push.body_max.0) {
            return Err(wrong(
                "push.body_max".to_owned(),
                "must be between 1KiB and 16MiB".to_owned(),
            ));
        }
        for address in &self.hub.addresses {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(wrong(
                    "hub.addresses".to_owned(),
                    format!("{address:?} is not host:port, like \"hub.example:4433\""),
                ));
            }
        }
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let mut sources: Vec<Prepared> = Vec::new();
        let mut pushes = BTreeMap::new();
        for (index, source) in self.source.drain(..).enumerate() {
            let name = source.name.clone();
            let at_name = format!("source[{index}].name");
            if name.parse::<linli_shared::protocol::ids::SiteId>().is_err() {
                return Err(wrong(
                    at_name,
                    format!("{name:?} must be letters, digits, '.', '_' and '-'"),
                ));
            }
            if sources.iter().any(|other| other.settings.name == name) {
                return Err(wrong(
                    at_name,
                    format!("{name:?} is there twice: give each source a name of its own"),
                ));
            }
            // With many sources, names identify them better than numbers.
            let key = format!("source {name:?}");
            let check = Check {
                name: &name,
                path,
                key: &key,
                zone: jiff::tz::TimeZone::UTC,
            };
            let (prepared, push) = Prepared::new(source, &check)?;
            if let Some(push) = push {
                pushes.insert(name.clone(), PushSource::new(push, &check)?);
            }
            sources.push(prepared);
        }
        let own = |key: &str, address| Listener {
            key: key.to_owned(),
            transport: "tcp",
            address,
        };
        let mut listeners = vec![
            own("push.listen", self.push.listen),
            own("metrics.listen", self.metrics.listen),
        ];
        for source in &sources {
            listeners.extend(
                source
                    .listens
                    .iter()
                    .map(|(part, transport, address)| Listener {
                        key: format!("source {:?}.{part}", source.settings.name),
                        transport,
                        address: *address,
                    }),
            );
        }
        if let Some((key, message)) = ports::taken_twice(&listeners) {
            return Err(wrong(key, message));
        }
        let mut devices = HashMap::new();
        for (index, device) in self.device.iter().enumerate() {
            if device.id.is_empty() {
                return Err(wrong(
                    format!("device[{index}].id"),
                    "is empty: write the id as the device's messages carry it".to_owned(),
                ));
            }
            if devices.insert(device.id.clone(), device.clone()).is_some() {
                return Err(wrong(
                    format!("device[{index}].id"),
                    format!("{:?} is there twice: remove one of the two", device.id),
                ));
            }
        }
        if let Some(file) = &self.devices_file {
            crate::ingest::places::read(&directory.join(file), &mut devices)?;
        }
        let station = match self.station.take() {
            Some(station) => Some(station::checked(station, &directory, path)?),
            None => None,
        };
        Ok(Checked {
            config: self,
            pushes,
            sources,
            devices,
            station,
        })
    }
}
