//! Hikvision devices by ISAPI: cameras, recorders, door controllers, door stations, alarm inputs. `type = "hikvision"`.
//!
//! ```text
//! GET  /ISAPI/Event/notification/alertStream            agent ▶ device: multipart without an end ([`stream`])
//! POST /ISAPI/AccessControl/AcsEvent?format=json        agent ▶ device: missed events ([`catch_up`])
//! POST /push/<source>/<secret>/<device>                 device ▶ agent: its "HTTP listening" ([`listen`])
//! ```
//!
//! * Each device with an address has a session of its own, with HTTP Digest; a device that is away delays no other.
//! * A session opens the stream first and asks for missed events beside it, so no event falls between and no alarm
//!   waits for history; an event that arrives by both has one id and is stored once.
//! * The heartbeat (`videoloss` / `inactive`, every 10 s or so) keeps a device online; a device that sends nothing
//!   complete for [`SILENCE`] is connected anew; the state of a device that is silent for `silent_after` is unknown.
//! * A push is answered 200 when everything in it is durable, even if a part of it was unreadable: that part is
//!   counted, and the device would repeat a refused push for ever. 503: the spool refuses, the device tries again.
//!
//! [`map`](linli_devices::hikvision::map) describes the meaning of messages; `configs/devices/hikvision.md` describes the settings of a device.
mod catch_up;
mod listen;

use linli_shared::service::clock;
use linli_shared::service::config::{ConfigError, Span};
use linli_shared::service::telemetry::chain;
use reqwest::{Client, Method};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Check, Source};
use crate::ingest::{IngestBatch, SourceIngest};
use crate::transport::event_stream::{Device, Dialect, Stream};
use crate::transport::outbound::{self, DeviceConfig, Keys, Known, Peer};
use crate::transport::reconnect::{self, Ended};
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::hikvision::alert;
use linli_devices::hikvision::map::Mapper;
use linli_devices::text;

/// A stream without a complete message for this long is opened anew.
const SILENCE: Duration = Duration::from_secs(45);
/// Interval between searches for conditions that devices no longer report.
const QUIET_EVERY: Duration = Duration::from_secs(5);
/// Devices that are asked for a page of missed events at the same time.
const CATCH_UPS_MAX: usize = 16;
const STREAM: &str = "/ISAPI/Event/notification/alertStream";

/// `[[source]]` with `type = "hikvision"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// User of the devices.
    #[serde(default = "default_user")]
    user: String,
    /// File with the password of the devices.
    password_file: Option<PathBuf>,
    /// Roots of the certificates of devices with an https address, in PEM, beside the system's.
    ca_file: Option<PathBuf>,
    /// File with the secret in the URL of devices that push.
    push_secret_file: Option<PathBuf>,
    /// How far back doors are asked for events after a restart of the agent.
    catch_up: Option<Span>,
    /// Devices.
    #[serde(default)]
    device: Vec<DeviceConfig>,
}

fn default_user() -> String {
    "admin".to_owned()
}

/// Default of `catch_up`.
const CATCH_UP: Span = Span::from_secs(6 * 3600);

/// A source whose config is checked.
pub(crate) struct Hikvision {
    client: Client,
    devices: Vec<Arc<HikvisionDevice>>,
    catch_up: Duration,
    push_secret: Option<Vec<u8>>,
}

/// One device.
struct HikvisionDevice {
    known: Known,
    state: Device<Mapper>,
}

impl Source for Hikvision {
    const TYPE: &'static str = "hikvision";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let keys = Keys {
            user: &config.user,
            password_file: config.password_file.as_deref(),
            devices: &config.device,
        };
        let known = keys.check(check)?;
        if config.push_secret_file.is_none()
            && let Some(index) = known.iter().position(|device| device.at.is_none())
        {
            return Err(check.wrong(
                &format!("device[{index}].address"),
                "is missing: write the device's address, or a push_secret_file if it is to push by itself",
            ));
        }
        if config.catch_up.is_some() && known.iter().all(|device| device.at.is_none()) {
            return Err(check.wrong(
                "catch_up",
                "does nothing here: only devices with an address can be asked; leave it out, or write their addresses",
            ));
        }
        let catch_up = config.catch_up.unwrap_or(CATCH_UP).0;
        if catch_up > Duration::from_secs(30 * 86_400) {
            return Err(check.wrong("catch_up", "must be at most \"30d\""));
        }
        let client = outbound::client(check, config.ca_file.as_deref(), &known)?;
        let push_secret = config
            .push_secret_file
            .map(|file| check.secret("push_secret_file", &file))
            .transpose()?;
        if let Some(secret) = &push_secret
            && !secret
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        {
            return Err(check.wrong(
                "push_secret_file",
                "must run_with_reconnect letters, digits, '-' and '_' only, for it is a part of a URL: make one with `openssl rand -hex 32`",
            ));
        }
        let devices = known.into_iter().map(|known| {
            let state =
                Device::new(Mapper::new(&known.id, known.parts).in_zone(check.zone.clone()));
            Arc::new(HikvisionDevice { known, state })
        });
        Ok(Self {
            client,
            devices: devices.collect(),
            catch_up,
            push_secret,
        })
    }

    fn silent_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(90))
    }

    fn devices(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|device| device.known.id.clone())
            .collect()
    }

    fn router(&self, ingest: &SourceIngest) -> Option<axum::Router> {
        let secret = self.push_secret.clone()?;
        Some(listen::router(ingest, secret, self.devices.clone()))
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let mut running = JoinSet::new();
        let catch_ups = Arc::new(Semaphore::new(CATCH_UPS_MAX));
        for device in &self.devices {
            if device.known.at.is_none() {
                continue;
            }
            let session = Session {
                client: self.client.clone(),
                device: device.clone(),
                catch_up: self.catch_up,
                catch_ups: catch_ups.clone(),
                ingest: ingest.clone(),
            };
            let stop = stop.clone();
            running.spawn(async move {
                let device = [session.device.known.id.as_str()];
                reconnect::run_with_reconnect(&session.ingest, &device, &stop, || session.run())
                    .await;
            });
        }
        running.spawn(async move {
            while !stop.is_cancelled() {
                let ends = async {
                    quiet(&self.devices, &ingest, &stop).await;
                    Ended::lost("it is stopped")
                };
                reconnect::catch_panic(&ingest, ends).await;
            }
        });
        reconnect::all(running).await;
    }
}

/// Reports the end of conditions that devices no longer report, until `stop`.
async fn quiet(devices: &[Arc<HikvisionDevice>], ingest: &SourceIngest, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(QUIET_EVERY);
    loop {
        // Both arms are cancel-safe: a tick and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for device in devices {
            let now_ms = clock::monotonic_ms();
            // Most devices have no condition to end.
            if device
                .state
                .known(|mapper| mapper.clone().quiet(now_ms).is_empty())
                .await
            {
                continue;
            }
            let stored = device.state.with(ingest, |mapper, batch| {
                for device_event in mapper.quiet(now_ms) {
                    let raw = format!("{} is not told any more", device_event.kind);
                    batch.message(
                        raw.as_bytes(),
                        Ok(DecodedMessage::Events(vec![device_event])),
                    );
                }
            });
            if let Err(error) = stored.await {
                tracing::debug!(
                    source = ingest.name(),
                    error = chain(&error),
                    "ends are told later"
                );
            }
        }
    }
}

impl Dialect for Mapper {
    fn message(&mut self, batch: &mut IngestBatch, body: &[u8], now_ms: u64) {
        let text = text::lossy(body);
        for read in alert::decode_all(&text) {
            let decoded = read.as_ref().map_err(Reject::clone);
            let decoded = decoded.and_then(|alert| self.map(alert, now_ms));
            batch.message(body, decoded.map_err(|reject| reject.of(self.device())));
        }
    }

    fn connected(&mut self) {
        self.connected();
    }

    fn device(&self) -> &str {
        self.device()
    }
}

/// Sessions with one device.
struct Session {
    client: Client,
    device: Arc<HikvisionDevice>,
    catch_up: Duration,
    catch_ups: Arc<Semaphore>,
    ingest: SourceIngest,
}

impl Session {
    async fn run(&self) -> Ended {
        let Some((url, account)) = &self.device.known.at else {
            return Ended::refused("the device has no address");
        };
        let mut peer = Peer::new(&self.client, url, account);
        let answer = match peer.ask(Method::GET, STREAM, None).await {
            Ok(answer) => answer,
            Err(ended) => return ended,
        };
        drop(peer);
        let stream = Stream::new(answer, SILENCE);
        self.device.state.connected().await;
        if self.catch_up.is_zero() {
            return self.device.state.listen(&self.ingest, stream).await;
        }
        // Not cancel-safe, and need not be: the next session asks again for events that a catch-up has not stored.
        tokio::select! {
            ended = self.device.state.listen(&self.ingest, stream) => ended,
            never = self.catch_ups() => match never {},
        }
    }
}
