//! MQTT 3.1.1 and 5 (OASIS): sensors behind a broker, by way of mapping tables. Zigbee2MQTT, Frigate, car park gateways.
//!
//! A message is read as JSON of this form, so that a mapping points at its topic and its payload alike:
//!
//! ```text
//! {"topic":"zigbee2mqtt/smoke-3","levels":["zigbee2mqtt","smoke-3"],"retain":false,"payload":{"smoke":true}}
//! ```
//!
//! A payload that is not JSON appears as a string. Each mapping of the topic takes the items it knows.
//!
//! * QoS 1 with a session that the broker keeps while the agent is away (3.1.1 [MQTT-3.1.2-6], 5 § 3.1.2.11.2,
//!   [`SESSION_EXPIRY_S`]). PUBACK follows only after the events are synced; the broker sends unacknowledged messages
//!   again.
//! * Every CONNACK is followed by SUBSCRIBE, for a broker that lost its sessions. Retained messages arrive again
//!   then; those of a mapping with `[state]` are events only if the state is news.
//! * A payload larger than [`PAYLOAD_BYTES_MAX`] is rejected and acknowledged. A packet larger than
//!   [`PACKET_BYTES_MAX`] is not read: a broker of version 5 knows the limit and drops the packet; to one of version
//!   4 the agent reconnects rarely then, because a retained packet arrives again with every subscription.
//! * At most [`WAITING_MAX`] messages wait in the agent, and then the broker waits. While only the routine lane
//!   refuses, alarms behind its messages are stored; a broker sends as many unacknowledged messages as its window
//!   allows (mosquitto: 20).
//! * Retained messages are replayed: they date from before the subscription.
mod link;
mod publish;

use linli_shared::service::config::ConfigError;
use rustls::RootCertStore;
use serde::Deserialize;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Check, MAPPING_HAS_ZONE, Source};
use crate::files::load_mapping;
use crate::ingest::{Arrival, IngestBatch, SourceIngest};
use crate::transport::reconnect::{Ended, run_with_reconnect};
use link::{Acker, Link};
use linli_devices::device_event::Reject;
use linli_devices::mapping::Mapping;
use linli_devices::mqtt::message;
use publish::Publish;

/// Largest accepted payload, bytes.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Largest packet that is read, bytes.
const PACKET_BYTES_MAX: u32 = 8 << 20;
/// Messages between the connection and the spool.
const WAITING_MAX: usize = 64;
/// How long a broker of version 5 keeps messages while the agent is away, seconds: a week.
const SESSION_EXPIRY_S: u32 = 7 * 86_400;
/// Pause between two tries to store events that the spool refuses.
const RETRY_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// `mqtt://host:1883` or `mqtts://host:8883`.
    broker: String,
    /// 5, or 4 for 3.1.1.
    #[serde(default = "default_version")]
    version: u8,
    /// Name of the session at the broker; must be the agent's own.
    client_id: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// Roots to be trusted beside the system's.
    ca_file: Option<PathBuf>,
    topic: Vec<TopicConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicConfig {
    /// Topic filter with `+` and `#`.
    filter: String,
    /// Mapping files.
    mappings: Vec<PathBuf>,
}

fn default_version() -> u8 {
    5
}

/// A topic filter and the mappings that read its messages.
struct Topic {
    filter: String,
    mappings: Vec<Mapping>,
}

/// Address and settings of the broker.
#[derive(Clone)]
struct Broker {
    shown: String,
    host: String,
    port: u16,
    version: u8,
    /// `linli-<agent>-<source>` unless the config says otherwise.
    client_id: Option<String>,
    credentials: Option<(String, String)>,
    tls: Option<RootCertStore>,
}

pub(crate) struct Mqtt {
    broker: Broker,
    topics: Vec<Topic>,
}

impl Source for Mqtt {
    const TYPE: &'static str = "mqtt";
    type Config = Config;
    const NO_ZONE: Option<&'static str> = Some(MAPPING_HAS_ZONE);

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let address = || {
            let (scheme, rest) = config.broker.split_once("://")?;
            let default_port = match scheme {
                "mqtt" => 1883,
                "mqtts" => 8883,
                _ => return None,
            };
            let rest = rest.trim_end_matches('/');
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (rest, default_port),
            };
            (!host.is_empty() && !host.contains('@'))
                .then(|| (scheme == "mqtts", host.to_owned(), port))
        };
        let Some((secure, host, port)) = address() else {
            return Err(check.wrong(
                "broker",
                format!(
                    "{:?} is not like \"mqtt://10.0.0.5:1883\" or \"mqtts://broker.example\"; user and password have keys of their own",
                    config.broker
                ),
            ));
        };
        if !matches!(config.version, 4 | 5) {
            return Err(check.wrong(
                "version",
                format!("{} is neither 5 nor 4 (MQTT 3.1.1)", config.version),
            ));
        }
        let tls = match (secure, &config.ca_file) {
            (false, Some(_)) => {
                return Err(check.wrong(
                    "ca_file",
                    "is for mqtts:// only: change broker or leave it out",
                ));
            }
            (false, None) => None,
            (true, file) => Some(check.roots(file.as_deref())?),
        };
        let credentials = match (config.user, &config.password_file) {
            (Some(user), Some(file)) => Some((user, check.password("password_file", file)?)),
            (Some(user), None) => Some((user, String::new())),
            (None, None) => None,
            (None, Some(_)) => return Err(check.wrong("user", "is missing beside password_file")),
        };
        if config.topic.is_empty() {
            return Err(check.wrong("topic", "needs at least one [[source.topic]]"));
        }
        let mut topics = Vec::new();
        for topic in config.topic {
            if !message::is_filter(&topic.filter) {
                return Err(check.wrong(
                    "topic.filter",
                    format!(
                        "{:?} is no topic filter: '#' stands last, '+' and '#' fill a level",
                        topic.filter
                    ),
                ));
            }
            if topic.mappings.is_empty() {
                return Err(check.wrong("topic.mappings", format!("{:?} has none", topic.filter)));
            }
            let mappings = topic
                .mappings
                .iter()
                .map(|file| load_mapping(check.name, &check.file(file)))
                .collect::<Result<_, _>>()?;
            topics.push(Topic {
                filter: topic.filter,
                mappings,
            });
        }
        Ok(Self {
            broker: Broker {
                shown: config.broker,
                host,
                port,
                version: config.version,
                client_id: config.client_id,
                credentials,
                tls,
            },
            topics,
        })
    }

    fn silent_after(&self) -> Option<Duration> {
        None
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        run_with_reconnect(&ingest, &[], &stop, || self.session(&ingest)).await;
    }
}

impl Mqtt {
    /// One connection, until it ends.
    async fn session(&self, ingest: &SourceIngest) -> Ended {
        let own = || format!("linli-{}-{}", ingest.agent(), ingest.name());
        let client_id = self.broker.client_id.clone().unwrap_or_else(own);
        let (mut link, acker) = match Link::open(&self.broker, &client_id) {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        let filters: Vec<&str> = self
            .topics
            .iter()
            .map(|topic| topic.filter.as_str())
            .collect();
        let driver = link.drive(&filters, sender, || ingest.up(&self.broker.shown));
        // Both run until the connection ends; messages that are dropped then were not acknowledged.
        tokio::select! {
            ended = driver => ended,
            ended = store(&self.topics, ingest, messages, &acker) => ended,
        }
    }
}

/// A message that is not acknowledged yet.
struct Held {
    publish: Publish,
    arrival: Arrival,
    is_durable: bool,
}

/// Stores what comes, as much at once as is there, and then acknowledges it, in the order in which it came. What the routine
/// lane refuses is held and tried again, while alarms behind it are taken as far as the broker sends them unasked.
async fn store(
    topics: &[Topic],
    ingest: &SourceIngest,
    mut messages: mpsc::Receiver<Publish>,
    acker: &Acker,
) -> Ended {
    let mut coming = Vec::with_capacity(WAITING_MAX);
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut retry_at = Instant::now();
    loop {
        let room = WAITING_MAX - held.len();
        if held.is_empty() {
            if messages.recv_many(&mut coming, room).await == 0 {
                return Ended::lost("the connection ended");
            }
        } else if room == 0 {
            tokio::time::sleep_until(retry_at).await;
        } else {
            let next = messages.recv_many(&mut coming, room);
            if tokio::time::timeout_at(retry_at, next).await == Ok(0) {
                return Ended::lost("the connection ended");
            }
        }
        retry_at = Instant::now() + RETRY_EVERY;
        hold(&mut held, coming.drain(..), ingest.arrival());
        // All in one batch: what waits is known to the messages behind it.
        let mut from = 0;
        while from < held.len() {
            let mut batch = ingest.batch();
            let to = fill(&mut batch, topics, &mut held, from);
            let stored = ingest.store(batch).await;
            for message in held.range_mut(from..to) {
                message.is_durable |= stored.is_ok();
            }
            if let Err(error) = stored {
                tracing::debug!(source = ingest.name(), %error, "the broker waits for the spool");
                if !error.has_kept_alarms() {
                    tokio::time::sleep(RETRY_EVERY).await;
                    continue;
                }
            }
            from = to;
        }
        while let Some(message) = held.pop_front_if(|message| message.is_durable) {
            if acker.ack(message.publish).await.is_err() {
                return Ended::lost("the connection ended before everything was acknowledged");
            }
        }
    }
}

/// Adds messages that arrived now. Those of the same bytes are known by which of them they are.
fn hold(held: &mut VecDeque<Held>, coming: impl Iterator<Item = Publish>, arrival: Arrival) {
    for publish in coming {
        let is_alike = |other: &&Held| {
            other.publish.topic() == publish.topic() && other.publish.payload() == publish.payload()
        };
        let arrival = arrival.after_alike(held.iter().filter(is_alike).count());
        held.push_back(Held {
            publish,
            arrival,
            is_durable: false,
        });
    }
}

/// Puts messages from this one on into a batch, until it is full: the end of those that are in it.
fn fill(
    batch: &mut IngestBatch,
    topics: &[Topic],
    held: &mut VecDeque<Held>,
    from: usize,
) -> usize {
    for (index, message) in held.iter_mut().enumerate().skip(from) {
        if batch.is_full() {
            return index;
        }
        if message.is_durable {
            continue;
        }
        batch.set_arrival(&mut message.arrival);
        let publish = &message.publish;
        let mappings: Vec<&Mapping> = topics
            .iter()
            .filter(|topic| message::matches(&topic.filter, publish.topic()))
            .flat_map(|topic| &topic.mappings)
            .collect();
        if publish.payload().len() > PAYLOAD_BYTES_MAX {
            let bytes = publish.payload().len();
            let reject = Reject::new(format!(
                "topic {}: a payload of {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are read: subscribe to a narrower \
                 filter, pictures are not for this source",
                publish.topic()
            ));
            batch.message(publish.payload(), Err(reject));
            continue;
        }
        if mappings.is_empty() {
            let reject = Reject::new(format!(
                "topic {:.80?} is that of no [[source.topic]]: does another client share client_id?",
                publish.topic()
            ));
            batch.message(publish.payload(), Err(reject));
            continue;
        }
        // A retained message dates from before the subscription.
        batch.set_replayed(publish.is_retained());
        batch.mapped(publish.payload(), &publish.json(), &mappings);
    }
    held.len()
}
