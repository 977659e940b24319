//! The sources of events. One folder has all of a source: its config, its connection or listener, its decoder (pure),
//! and its mapping from messages to events. No source knows another, and adding one is a line in [`TYPES`].
//!
//! ```text
//! [[source]] of the config ─ Prepared (checked, secrets read) ─ app ─▶ Source::run(feed, stop)
//!     messages ▶ decode (pure) ▶ DecodedMessage ▶ feed (rules for all) ▶ intake ▶ spool, then the device is answered
//! ```
//!
//! * `run` ends at `stop` and never before: a device that is away, a port that is taken, a wrong password are shown
//!   by `linli-agent status` and tried again ([`run_with_reconnect`](crate::transport::reconnect::run_with_reconnect)); so is a session that panics. A push
//!   that panics closes its connection only. One source never ends another.
//! * A decoder does no I/O and reads no clock. Its buffer for a stream has a limit, and one bad message affects no
//!   other.
//! * HTTP push ([`push`]) is the source of `type = "push"`; other sources may add routes below `/push/<name>` too.
mod dahua;
mod dc09;
mod gb26875;
mod gb28181;
mod hikvision;
mod modbus;
mod mqtt;
mod ocpp;
mod onvif;
pub(crate) mod push;

use axum::Router;
use jiff::tz::TimeZone;
use linli_shared::service::clock::wall_ms;
use linli_shared::service::config::{ConfigError, Span};
use linli_shared::service::telemetry::chain;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ingest::state_store::{KEEP_EVERY_S, StateStore};
use crate::ingest::{Settings, Shared, SourceIngest};
use crate::pseudonym::Pseudonyms;
use crate::source_check::Check;
use crate::transport::bodies::Bodies;
use crate::transport::inbound::Listens;
use push::{Push, PushSource};

/// Default of `keep_raw_for`.
const KEEP_RAW_FOR: Span = Span::from_secs(3 * 86_400);

/// Default of `clock_bound`.
const CLOCK_BOUND: Span = Span::from_secs(120);
/// Allowed values of `clock_bound`.
const CLOCK_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(86_400);

/// See [`Source::NO_ZONE`].
const MAPPING_HAS_ZONE: &str =
    "mappings read the times of this type; write zone under [occurred_at] of the mapping";

/// A type of source.
pub(crate) trait Source: Sized + Send + 'static {
    /// `type` in the config.
    const TYPE: &'static str;
    /// The keys of `[[source]]` for this type, beside those of [`SourceConfig`].
    type Config: DeserializeOwned;
    /// Why `zone` has no effect on this type, if so.
    const NO_ZONE: Option<&'static str> = None;

    /// Checks the config and reads the files that it names. Connects to nothing.
    fn new(config: Self::Config, check: &Check<'_>) -> Result<Self, ConfigError>;

    /// Default of a device's longest silence; `None`: the protocol has no sign of life.
    fn silent_after(&self) -> Option<Duration>;

    /// Interval between the signs of life of a device, if the agent knows it.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// Devices that the source expects to hear.
    fn devices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Addresses that the source itself listens on.
    fn listens(&self) -> Vec<Listens> {
        Vec::new()
    }

    /// Routes on the agent's push listener; their paths begin with `/push/<name>/`.
    fn router(&self, _feed: &SourceIngest) -> Option<Router> {
        None
    }

    /// Runs until `stop`.
    fn run(self, ingest: SourceIngest, stop: CancellationToken) -> impl Future<Output = ()> + Send;
}

type Prepare = fn(toml::Table, &Check<'_>) -> Result<Parts, ConfigError>;

/// All types but `push`, by name.
const TYPES: &[(&str, Prepare)] = &[
    (dahua::Dahua::TYPE, prepare::<dahua::Dahua>),
    (dc09::Dc09::TYPE, prepare::<dc09::Dc09>),
    (gb26875::Gb26875::TYPE, prepare::<gb26875::Gb26875>),
    (gb28181::Gb28181::TYPE, prepare::<gb28181::Gb28181>),
    (hikvision::Hikvision::TYPE, prepare::<hikvision::Hikvision>),
    (modbus::Modbus::TYPE, prepare::<modbus::Modbus>),
    (mqtt::Mqtt::TYPE, prepare::<mqtt::Mqtt>),
    (ocpp::Ocpp::TYPE, prepare::<ocpp::Ocpp>),
    (onvif::Onvif::TYPE, prepare::<onvif::Onvif>),
];

/// `[[source]]`: the keys that every source has. The other keys belong to the type.
#[derive(Debug, Deserialize)]
pub(crate) struct SourceConfig {
    /// Name: appears on its events, in metrics, and in the URL `/push/<name>`.
    pub name: String,
    /// Type.
    #[serde(rename = "type", default = "push_type")]
    pub kind: String,
    /// Zone of times that carry none: an IANA name.
    zone: Option<String>,
    /// How long raw messages stay on this box; `"0s"`: not at all.
    keep_raw_for: Option<Span>,
    /// Longest silence of a device before its state is unknown.
    silent_after: Option<Span>,
    /// Largest trusted offset of a device's clock. Beyond it, the time of a live event is its receipt.
    clock_bound: Option<Span>,
    /// Keys of the type.
    #[serde(flatten)]
    pub rest: toml::Table,
}

fn push_type() -> String {
    "push".to_owned()
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts a source: returns its routes, and the future that runs until the token is cancelled.
type Start = Box<dyn FnOnce(SourceIngest, CancellationToken) -> (Option<Router>, Running) + Send>;

/// A source of some type whose config is checked and which does not run yet.
struct Parts {
    kind: &'static str,
    no_zone: Option<&'static str>,
    silent_after: Option<Duration>,
    interval: Option<Duration>,
    devices: Vec<String>,
    listens: Vec<Listens>,
    start: Start,
}

fn prepare<S: Source>(rest: toml::Table, check: &Check<'_>) -> Result<Parts, ConfigError> {
    let source = S::new(check.parse(rest)?, check)?;
    Ok(Parts {
        kind: S::TYPE,
        no_zone: S::NO_ZONE,
        silent_after: source.silent_after(),
        interval: source.interval(),
        devices: source.devices(),
        listens: source.listens(),
        start: Box::new(|ingest, stop| {
            let router = source.router(&ingest);
            (router, Box::pin(source.run(ingest, stop)))
        }),
    })
}

/// A source whose whole config is checked and which does not run yet.
pub(crate) struct Prepared {
    /// Settings that every source has.
    pub settings: Settings,
    /// Devices that the source expects to hear.
    pub devices: Vec<String>,
    /// Addresses that the source itself listens on.
    pub listens: Vec<Listens>,
    start: Option<Start>,
}

impl Prepared {
    /// Checks a source. The own part is `None` for a push.
    pub fn new(
        config: SourceConfig,
        check: &Check<'_>,
    ) -> Result<(Self, Option<toml::Table>), ConfigError> {
        let zone_name = config.zone.as_deref().unwrap_or("Asia/Shanghai");
        let zone = TimeZone::get(zone_name).map_err(|_| {
            check.wrong(
                "zone",
                format!(
                    "{zone_name:?} is no time zone of the IANA database, like \"Asia/Shanghai\""
                ),
            )
        })?;
        let check = &Check {
            name: check.name,
            path: check.path,
            key: check.key,
            zone: zone.clone(),
        };
        if let Some(span) = config.silent_after
            && span.0 < Duration::from_secs(1)
        {
            return Err(check.wrong("silent_after", "must be at least \"1s\""));
        }
        if let Some(span) = config.clock_bound
            && !CLOCK_BOUNDS.contains(&span.0)
        {
            return Err(check.wrong("clock_bound", "must be between \"5s\" and \"1d\""));
        }
        let (parts, push) = if config.kind == push::TYPE {
            (None, Some(config.rest))
        } else {
            let Some((_, prepare)) = TYPES.iter().find(|(name, _)| *name == config.kind) else {
                let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
                return Err(check.wrong(
                    "type",
                    format!(
                        "{:?} is not known: there are push, {}",
                        config.kind,
                        names.join(", ")
                    ),
                ));
            };
            (Some(prepare(config.rest, check)?), None)
        };
        let no_zone = match &parts {
            Some(parts) => parts.no_zone,
            None => Some(MAPPING_HAS_ZONE),
        };
        if config.zone.is_some()
            && let Some(why) = no_zone
        {
            return Err(check.wrong("zone", format!("does nothing here: {why}")));
        }
        let interval = parts.as_ref().and_then(|parts| parts.interval);
        if let Some(span) = config.silent_after
            && let Some(interval) = interval
            && span.0 <= interval
        {
            return Err(check.wrong(
                "silent_after",
                format!(
                    "is {:?}, and a device of this source is heard every {interval:?}: write at least \"{}ms\", three times as much",
                    span.0,
                    interval.as_millis() * 3
                ),
            ));
        }
        let keep_raw_for = match config.keep_raw_for {
            Some(span) => span.0,
            // A platform that pushes keeps its own messages, and a mapping selects the fields of the event.
            None if push.is_some() => Duration::ZERO,
            None => KEEP_RAW_FOR.0,
        };
        let default_silence = parts.as_ref().and_then(|parts| parts.silent_after);
        let settings = Settings {
            name: config.name,
            kind: parts.as_ref().map_or(push::TYPE, |parts| parts.kind),
            zone,
            keep_raw_for,
            silent_after: config.silent_after.map(|span| span.0).or(default_silence),
            clock_bound: config.clock_bound.unwrap_or(CLOCK_BOUND).0,
        };
        let (devices, listens, start) = match parts {
            Some(parts) => (parts.devices, parts.listens, Some(parts.start)),
            None => Default::default(),
        };
        let prepared = Self {
            settings,
            devices,
            listens,
            start,
        };
        Ok((prepared, push))
    }

    /// Starts the source: returns its routes, and the future that runs until `stop`. A push has routes only, in
    /// `push`.
    pub fn start(
        self,
        ingest: SourceIngest,
        stop: CancellationToken,
    ) -> (Option<Router>, Option<Running>) {
        match self.start {
            Some(start) => {
                let (router, running) = start(ingest, stop);
                (router, Some(running))
            }
            None => (None, None),
        }
    }
}

/// All sources of an agent.
pub(crate) struct Sources {
    prepared: Vec<(Prepared, SourceIngest)>,
    push: Push,
    keeper: StateStore,
    pseudonyms: Pseudonyms,
}

impl Sources {
    /// Sources that do not run yet. The earlier state of their devices is read from the data directory.
    pub fn new(
        prepared: Vec<Prepared>,
        mut pushes: BTreeMap<String, PushSource>,
        bodies: Bodies,
        data_dir: &Path,
        shared: &Shared,
    ) -> Self {
        let mut push = Push {
            sources: BTreeMap::new(),
            bodies,
            metrics: shared.metrics.clone(),
            told: Default::default(),
        };
        let prepared: Vec<(Prepared, SourceIngest)> = prepared
            .into_iter()
            .map(|prepared| {
                let ingest =
                    SourceIngest::new(prepared.settings.clone(), &prepared.devices, shared.clone());
                if let Some((name, source)) = pushes.remove_entry(ingest.name()) {
                    push.sources.insert(name, (source, ingest.clone()));
                }
                (prepared, ingest)
            })
            .collect();
        let ingests = prepared.iter().map(|(_, ingest)| ingest.clone()).collect();
        Self {
            keeper: StateStore::open(data_dir, ingests),
            prepared,
            push,
            pseudonyms: shared.pseudonyms.clone(),
        }
    }

    /// The ingest of each source.
    pub fn ingests(&self) -> Vec<SourceIngest> {
        self.prepared
            .iter()
            .map(|(_, ingest)| ingest.clone())
            .collect()
    }

    /// The store of the devices' states.
    pub fn keeper(&self) -> StateStore {
        self.keeper.clone()
    }

    /// Returns the routes of the push listener, and the future that runs until `stop`.
    pub fn start(
        self,
        stop: CancellationToken,
    ) -> (Router, impl Future<Output = io::Result<()>> + Send) {
        let ingests = self.ingests();
        let mut router = push::router(self.push);
        let mut running = JoinSet::new();
        for (prepared, ingest) in self.prepared {
            let (routes, source) = prepared.start(ingest, stop.clone());
            if let Some(routes) = routes {
                router = router.merge(routes);
            }
            if let Some(source) = source {
                running.spawn(source);
            }
        }
        running.spawn(clock(ingests, self.keeper, self.pseudonyms, stop.clone()));
        let ended = async move {
            while let Some(ended) = running.join_next().await {
                // Sessions are guarded against panics, the clock is not: without it silence is not watched, so the
                // process restarts.
                ended.map_err(io::Error::other)?;
            }
            Ok(())
        };
        (router, ended)
    }
}

/// Once a second, until `stop`: reports silent devices, keeps changed states, and replaces a key of pseudonyms whose
/// period is over.
async fn clock(
    ingests: Vec<SourceIngest>,
    keeper: StateStore,
    pseudonyms: Pseudonyms,
    stop: CancellationToken,
) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for seconds in 1_u64.. {
        // Both arms are cancel-safe: a tick and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = second.tick() => {}
        }
        for ingest in &ingests {
            ingest.tick().await;
        }
        if seconds.is_multiple_of(KEEP_EVERY_S) {
            keeper.keep().await;
        }
        let now_ms = wall_ms();
        if pseudonyms.is_due(now_ms) {
            let pseudonyms = pseudonyms.clone();
            let rotated = tokio::task::spawn_blocking(move || pseudonyms.rotate(now_ms)).await;
            match rotated {
                Ok(Ok(number)) => tracing::info!(number, "pseudonyms have a new key"),
                Ok(Err(error)) => {
                    tracing::error!(error = chain(&error), "pseudonyms keep their old key")
                }
                Err(error) => tracing::error!(%error, "pseudonyms keep their old key"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
