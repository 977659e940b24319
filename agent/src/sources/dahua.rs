//! Dahua devices by their HTTP API: cameras, recorders, door stations, door controllers, alarm inputs. `type = "dahua"`.
//!
//! ```text
//! GET /cgi-bin/eventManager.cgi?action=attach&codes=[All]&heartbeat=5     agent ▶ device: multipart without an end
//! ```
//!
//! * Each device has a session of its own, with HTTP Digest.
//! * The agent requests a heartbeat every [`HEARTBEAT_S`] s. A device that sends nothing complete for [`SILENCE`] is
//!   connected anew: recorders that were restarted never send again on an old connection.
//! * The protocol has no request for missed events: they are lost, and the device was offline meanwhile.
//!
//! [`map`] describes the meaning of messages; `configs/devices/dahua.md` describes the settings of a device.

use linli_shared::service::config::ConfigError;
use reqwest::{Client, Method};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Check, Source};
use crate::ingest::{IngestBatch, SourceIngest};
use crate::transport::event_stream::{Device, Dialect, Stream};
use crate::transport::outbound::{self, DeviceConfig, Keys, Known, Peer};
use crate::transport::reconnect::{self, Ended};
use linli_devices::dahua::{map, message};
use linli_devices::device_event::DecodedMessage;
use linli_devices::text;

/// A stream without a complete message for this long is opened anew.
const SILENCE: Duration = Duration::from_secs(15);
/// Heartbeat interval that devices are asked for.
const HEARTBEAT_S: u32 = 5;
/// Largest number of requested codes, and largest length of each.
const CODES_MAX: usize = 64;
const CODE_BYTES_MAX: usize = 40;

/// `[[source]]` with `type = "dahua"`
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
    /// Requested codes.
    #[serde(default = "default_codes")]
    codes: Vec<String>,
    /// Devices.
    #[serde(default)]
    device: Vec<DeviceConfig>,
}

fn default_user() -> String {
    "admin".to_owned()
}

fn default_codes() -> Vec<String> {
    vec!["All".to_owned()]
}

/// A source whose config is checked.
pub(crate) struct Dahua {
    client: Client,
    path: String,
    devices: Vec<Known>,
}

impl Source for Dahua {
    const TYPE: &'static str = "dahua";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let keys = Keys {
            user: &config.user,
            password_file: config.password_file.as_deref(),
            devices: &config.device,
        };
        let devices = keys.check_asked(check)?;
        let good = |code: &String| {
            (1..=CODE_BYTES_MAX).contains(&code.len())
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if config.codes.is_empty()
            || config.codes.len() > CODES_MAX
            || !config.codes.iter().all(good)
        {
            return Err(check.wrong(
                "codes",
                format!(
                    "must be 1 to {CODES_MAX} names of events like \"VideoMotion\", or [\"All\"]"
                ),
            ));
        }
        Ok(Self {
            client: outbound::client(check, config.ca_file.as_deref(), &devices)?,
            path: format!(
                "/cgi-bin/eventManager.cgi?action=attach&codes=[{}]&heartbeat={HEARTBEAT_S}",
                config.codes.join(",")
            ),
            devices,
        })
    }

    fn silent_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(HEARTBEAT_S.into()))
    }

    fn devices(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|device| device.id.clone())
            .collect()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let mut running = JoinSet::new();
        for known in self.devices {
            let session = Session {
                client: self.client.clone(),
                path: self.path.clone(),
                state: Device::new(Words {
                    device: known.id.clone(),
                    parts: known.parts,
                    begun: HashSet::new(),
                }),
                known,
                ingest: ingest.clone(),
            };
            let stop = stop.clone();
            running.spawn(async move {
                let device = [session.known.id.as_str()];
                reconnect::run_with_reconnect(&session.ingest, &device, &stop, || session.run())
                    .await;
            });
        }
        reconnect::all(running).await;
    }
}

/// The event stream of one device.
#[derive(Clone)]
struct Words {
    device: String,
    parts: bool,
    /// Conditions that began on this connection. The end of an earlier one may have been sent while nobody listened,
    /// so its next start counts as a new beginning.
    begun: HashSet<String>,
}

impl Words {
    /// Records the starts and ends in a message.
    fn note(&mut self, said: &mut DecodedMessage<'_>) {
        let DecodedMessage::Events(device_events) = said else {
            return;
        };
        for device_event in device_events {
            let Some(state) = &device_event.state else {
                continue;
            };
            if state.active {
                device_event.anew = self.begun.insert(state.point.to_string());
            } else {
                self.begun.remove(state.point.as_ref());
            }
        }
    }
}

impl Dialect for Words {
    fn message(&mut self, batch: &mut IngestBatch, body: &[u8], _now_ms: u64) {
        let text = text::lossy(body);
        for read in message::decode_all(&text) {
            match read {
                Ok(message) => {
                    let device = self.device.clone();
                    let mut decoded = map::map(&device, self.parts, &message);
                    if let Ok(decoded) = &mut decoded {
                        self.note(decoded);
                    }
                    batch.message(body, decoded.map_err(|reject| reject.of(&device)));
                }
                Err(reject) => batch.message(body, Err(reject.of(&self.device))),
            }
        }
    }

    fn connected(&mut self) {
        self.begun.clear();
    }

    fn device(&self) -> &str {
        &self.device
    }
}

/// Sessions with one device.
struct Session {
    client: Client,
    path: String,
    known: Known,
    state: Device<Words>,
    ingest: SourceIngest,
}

impl Session {
    async fn run(&self) -> Ended {
        let Some((url, account)) = &self.known.at else {
            return Ended::refused("the device has no address");
        };
        let mut peer = Peer::new(&self.client, url, account);
        let answer = match peer.ask(Method::GET, &self.path, None).await {
            Ok(answer) => answer,
            Err(ended) => return ended,
        };
        self.state.connected().await;
        let stream = Stream::new(answer, SILENCE);
        self.state.listen(&self.ingest, stream).await
    }
}
