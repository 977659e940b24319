//! Cameras and other devices by ONVIF (Core Specification, § 9: real-time pull point notification). `type = "onvif"`.
//!
//! ```text
//! GetSystemDateAndTime ▶ GetCapabilities ▶ CreatePullPointSubscription ▶ PullMessages … Renew … PullMessages …
//!    the device's clock     event service     the device's queue           ▲ each waits at the device for 20 s
//! ```
//!
//! * The password goes out as a digest of WS-UsernameToken with the *device's* time: one whose clock is off refuses any other.
//!   A device that refuses is asked for its time once more: many set their clocks a minute after their start. Devices that
//!   want HTTP Digest beside it, or in its place, get that too.
//! * The addresses that a device tells are used with the host of the config: behind a router they are of another network.
//! * When a Renew fails, or a PullMessages does, the session ends and a new subscription is made. What comes with it as
//!   *Initialized* raises nothing unless it was known otherwise.
//! * A device forgets what it has answered to a PullMessages. What the urgent lane refuses is tried until it is taken, and nothing
//!   more is pulled meanwhile. What only the routine lane refuses holds up the next pull for [`ROUTINE_WAIT`], and then waits,
//!   [`WAITING_MAX`] notifications of it, while more is pulled; beyond, the oldest are given up and counted as `given_up`. What was pulled and not stored when the agent is killed is
//!   lost.
//! * An answer that cannot be read is a message that could not be read, and ends the session.
//! * An answer has at most [`ANSWER_BYTES_MAX`], and comes within [`ANSWER_DEADLINE`] beyond the wait that was asked for.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::service::clock;
use linli_shared::service::config::ConfigError;
use linli_shared::service::telemetry::chain;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Client, Url};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Check, Source};
use crate::ingest::{Arrival, IngestBatch, SourceIngest};
use crate::transport::digest::Digest;
use crate::transport::outbound::{self, Account, DeviceConfig, Keys};
use crate::transport::reconnect::{Ended, all, run_with_reconnect};
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::onvif::map;
use linli_devices::onvif::soap::{self, Answer, Call, Notification, PULL_S, TERMINATION_S, Token};
use linli_devices::text;

/// Largest answer.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
/// Deadline from a request to the end of its answer, beyond the wait of a PullMessages.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Path of the device service of every ONVIF device (Core Specification, § 5.1.3.1).
const DEVICE_SERVICE: &str = "/onvif/device_service";
/// Pause between two tries to store events that the spool refuses.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long a routine lane that refuses holds up the next pull.
const ROUTINE_WAIT: Duration = Duration::from_secs(3);
/// Notifications of a device that wait for the routine lane.
const WAITING_MAX: usize = 256;

/// `[[source]]` with `type = "onvif"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// User of the devices: the ONVIF user, which many devices keep apart from that of the web page.
    #[serde(default = "default_user")]
    user: String,
    /// File with the password of the devices.
    password_file: Option<PathBuf>,
    /// Roots of the certificates of devices with an https address, in PEM, beside the system's.
    ca_file: Option<PathBuf>,
    /// Devices.
    #[serde(default)]
    device: Vec<DeviceConfig>,
}

fn default_user() -> String {
    "admin".to_owned()
}

/// A source whose config is checked.
pub(crate) struct Onvif {
    client: Client,
    devices: Vec<Camera>,
}

struct Camera {
    id: String,
    url: Url,
    account: Account,
    /// Notifications that the routine lane has refused.
    waiting: Mutex<Vec<ReceivedNotification>>,
}

impl Source for Onvif {
    const TYPE: &'static str = "onvif";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let keys = Keys {
            user: &config.user,
            password_file: config.password_file.as_deref(),
            devices: &config.device,
        };
        let parts = config
            .device
            .iter()
            .position(|device| device.parts.is_some());
        if let Some(index) = parts {
            return Err(check.wrong(
                &format!("device[{index}].parts"),
                "does nothing here: what stands behind an ONVIF device is a device of its own always, as id/token; leave it out",
            ));
        }
        let known = keys.check_asked(check)?;
        let client = outbound::client(check, config.ca_file.as_deref(), &known)?;
        let devices = known.into_iter().filter_map(|known| {
            let (url, account) = known.at?;
            Some(Camera {
                id: known.id,
                url,
                account,
                waiting: Mutex::default(),
            })
        });
        let devices = devices.collect();
        Ok(Self { client, devices })
    }

    fn silent_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(PULL_S))
    }

    fn devices(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|camera| camera.id.clone())
            .collect()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let mut running = JoinSet::new();
        for camera in self.devices {
            let (client, ingest, stop) = (self.client.clone(), ingest.clone(), stop.clone());
            running.spawn(async move {
                let device = [camera.id.as_str()];
                run_with_reconnect(&ingest, &device, &stop, || {
                    session(&client, &camera, &ingest)
                })
                .await;
            });
        }
        all(running).await;
    }
}

/// The state of a conversation with a device.
struct Asker<'a> {
    client: &'a Client,
    camera: &'a Camera,
    ingest: &'a SourceIngest,
    /// How far the device's clock is ahead of ours, milliseconds.
    ahead_ms: i64,
    digest: Digest,
    /// Reference parameters of the subscription.
    parameters: Vec<String>,
}

/// Why a request has no answer.
enum Failed {
    /// The device does not accept the credentials.
    Denied(Ended),
    Ended(Ended),
}

impl From<Ended> for Failed {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// Runs one subscription until it ends.
async fn session(client: &Client, camera: &Camera, ingest: &SourceIngest) -> Ended {
    let run = async {
        let mut asker = Asker {
            client,
            camera,
            ingest,
            ahead_ms: 0,
            digest: Digest::default(),
            parameters: Vec::new(),
        };
        let device_service = asker.at(DEVICE_SERVICE)?;
        asker.look_at_clock().await?;
        let (_, capabilities) = asker.ask(Call::GetCapabilities, &device_service).await?;
        let events = capabilities.events.ok_or_else(|| {
            Ended::refused(format!(
                "{} has no event service of ONVIF: switch it on in the device",
                camera.url
            ))
        })?;
        let events = asker.at(&events)?;
        let (_, created) = asker
            .ask(Call::CreatePullPointSubscription, &events)
            .await?;
        let address = created.address.ok_or_else(|| {
            Ended::lost(format!(
                "{} made no subscription: its answer has no address",
                camera.url
            ))
        })?;
        let subscription = asker.at(&address)?;
        asker.parameters = created.parameters;
        // The device is online; its notifications follow.
        store(ingest, camera, Vec::new()).await;
        let renew_every = Duration::from_secs(TERMINATION_S / 2);
        let mut renew_at = Instant::now() + renew_every;
        let ended = loop {
            match asker.ask(Call::PullMessages, &subscription).await {
                Ok((text, pulled)) => {
                    store(ingest, camera, told(&text, pulled, ingest.arrival())).await
                }
                Err(ended) => break ended,
            }
            if Instant::now() >= renew_at {
                if let Err(ended) = asker.ask(Call::Renew, &subscription).await {
                    break ended;
                }
                renew_at = Instant::now() + renew_every;
            }
        };
        // Devices have few places for subscriptions. An error is fine: the subscription is gone then.
        let _ = asker.ask(Call::Unsubscribe, &subscription).await;
        Err(ended)
    };
    let ended: Result<std::convert::Infallible, Ended> = run.await;
    match ended {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

fn utc_ms([year, month, day, hour, minute, second]: [i32; 6]) -> Option<i64> {
    let small = |part: i32| i8::try_from(part).ok();
    let civil = DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    );
    let time = civil.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().as_millisecond())
}

/// A notification, or the reason why it is unreadable, with the text as received.
struct ReceivedNotification {
    raw: String,
    read: Result<Notification, String>,
    arrival: Arrival,
}

impl ReceivedNotification {
    /// Adds it to a batch, as a message of this device.
    fn add(&mut self, batch: &mut IngestBatch, device: &str) {
        batch.set_arrival(&mut self.arrival);
        let said = match &self.read {
            Ok(notification) => map::said(device, notification),
            Err(reason) => Err(Reject::new(reason.clone())),
        };
        batch.message(self.raw.as_bytes(), said);
    }
}

/// The notifications of an answer.
fn told(text: &str, answer: Answer, arrival: Arrival) -> Vec<ReceivedNotification> {
    let read = answer
        .notifications
        .into_iter()
        .map(|notification| ReceivedNotification {
            raw: text
                .get(notification.bytes.clone())
                .unwrap_or_default()
                .to_owned(),
            read: Ok(notification),
            arrival,
        });
    let broken = answer
        .broken
        .into_iter()
        .map(|reason| ReceivedNotification {
            raw: text.to_owned(),
            read: Err(reason),
            arrival,
        });
    read.chain(broken).collect()
}

/// Stores notifications of a device, until its alarms are durable. A notification that the routine lane refuses waits
/// for the next call and blocks no alarm; at most [`WAITING_MAX`] wait.
async fn store(ingest: &SourceIngest, camera: &Camera, coming: Vec<ReceivedNotification>) {
    let mut waiting = camera.waiting.lock().await;
    // Taken out: a notification that makes the program panic is not tried again in the next session.
    let mut all = std::mem::take(&mut *waiting);
    let too_many = (all.len() + coming.len()).saturating_sub(WAITING_MAX);
    let given_up: Vec<ReceivedNotification> = all.drain(..too_many.min(all.len())).collect();
    if !given_up.is_empty() {
        ingest.count("given_up", given_up.len() as u64);
        // Forgets which of their events are durable.
        let mut batch = ingest.batch();
        for mut told in given_up {
            told.add(&mut batch, &camera.id);
        }
        batch.give_up();
    }
    for mut told in coming {
        let alike = all.iter().filter(|held| held.raw == told.raw);
        told.arrival = told.arrival.after_alike(alike.count());
        all.push(told);
    }
    let until = Instant::now() + ROUTINE_WAIT;
    loop {
        let mut batch = ingest.batch();
        if all.is_empty() {
            let said = DecodedMessage::heartbeat(camera.id.as_str());
            batch.message(&[], Ok(said));
        }
        for told in &mut all {
            told.add(&mut batch, &camera.id);
        }
        match ingest.store(batch).await {
            Ok(_) => return,
            Err(error) if error.has_kept_alarms() && Instant::now() >= until => {
                *waiting = all;
                return;
            }
            Err(error) => {
                tracing::debug!(device = camera.id, %error, "the device waits for the spool");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}

impl Asker<'_> {
    /// The URL of a path, or of an address that the device returned, as reachable for the agent.
    fn at(&self, address: &str) -> Result<Url, Ended> {
        let wrong = |error: &dyn std::fmt::Display| {
            Ended::lost(format!(
                "{} tells the address {address:.200}: {error}",
                self.camera.url
            ))
        };
        let told = self
            .camera
            .url
            .join(address)
            .map_err(|error| wrong(&error))?;
        let mut url = self.camera.url.clone();
        url.set_path(told.path());
        url.set_query(told.query());
        Ok(url)
    }

    /// Asks the device for its time, which needs no password. Without an answer its clock is assumed to be right.
    async fn look_at_clock(&mut self) -> Result<(), Ended> {
        let device_service = self.at(DEVICE_SERVICE)?;
        let (_, clock) = match self.once(Call::GetSystemDateAndTime, &device_service).await {
            Ok(answered) => answered,
            Err(Failed::Denied(ended) | Failed::Ended(ended)) => return Err(ended),
        };
        if let Some(device_ms) = clock.utc.and_then(utc_ms) {
            self.ahead_ms = device_ms - clock::wall_ms();
        }
        Ok(())
    }

    /// Sends a request; returns the answer as received and as decoded. A fault is an error. If the device denies
    /// access, its clock is read again first: it may have been set since.
    async fn ask(&mut self, call: Call, to: &Url) -> Result<(String, Answer), Ended> {
        match self.once(call, to).await {
            Ok(answered) => return Ok(answered),
            Err(Failed::Ended(ended)) => return Err(ended),
            Err(Failed::Denied(_)) => {}
        }
        self.look_at_clock().await?;
        match self.once(call, to).await {
            Ok(answered) => Ok(answered),
            Err(Failed::Denied(ended) | Failed::Ended(ended)) => Err(ended),
        }
    }

    async fn once(&mut self, call: Call, to: &Url) -> Result<(String, Answer), Failed> {
        let wait = match call {
            Call::PullMessages => Duration::from_secs(PULL_S),
            _ => Duration::ZERO,
        };
        match tokio::time::timeout(wait + ANSWER_DEADLINE, self.exchange(call, to)).await {
            Ok(answered) => answered,
            Err(_) => Err(Ended::lost(format!("{to} did not answer {call:?} in time")).into()),
        }
    }

    async fn exchange(&mut self, call: Call, to: &Url) -> Result<(String, Answer), Failed> {
        let (user, password) = self.camera.account.parts();
        let nonce = linli_shared::service::random::bytes()
            .map_err(|error| Ended::lost(format!("the kernel gives no random bytes: {error}")))?;
        let created = Timestamp::from_millisecond(clock::wall_ms() + self.ahead_ms)
            .unwrap_or_default()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let token = Token {
            user,
            password,
            nonce,
            created: &created,
        };
        let token = (call != Call::GetSystemDateAndTime).then_some(&token);
        let content_type = format!(
            "application/soap+xml; charset=utf-8; action=\"{}\"",
            call.action()
        );
        let is_of_subscription =
            matches!(call, Call::PullMessages | Call::Renew | Call::Unsubscribe);
        let parameters = match is_of_subscription {
            true => &self.parameters[..],
            false => &[],
        };
        let envelope = call.envelope_with(to.as_str(), token, parameters);
        let uri = match to.query() {
            Some(query) => format!("{}?{query}", to.path()),
            None => to.path().to_owned(),
        };
        let mut is_challenged = false;
        let answer = loop {
            let mut request = self
                .client
                .post(to.clone())
                .header(CONTENT_TYPE, &content_type)
                .body(envelope.clone());
            let account = &self.camera.account;
            if let Some(value) =
                self.digest
                    .authorization(account, "POST", &uri, envelope.as_bytes())?
            {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|error| {
                Ended::lost(format!(
                    "{to} cannot be asked: {}",
                    chain(&error.without_url())
                ))
            })?;
            let wants_digest = answer.status() == reqwest::StatusCode::UNAUTHORIZED
                && answer.headers().contains_key(WWW_AUTHENTICATE);
            if !wants_digest || is_challenged {
                break answer;
            }
            self.digest.challenge(&answer)?;
            is_challenged = true;
        };
        let status = answer.status();
        let refused = |why: &str| {
            Ended::refused(format!(
                "{to} refuses {user:?} ({why}): check user and password_file; many devices want a user made for ONVIF"
            ))
        };
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err(Failed::Denied(refused("401")));
        }
        let bytes = outbound::body(answer, ANSWER_BYTES_MAX).await?;
        let text = text::lossy(&bytes);
        let read = match soap::read(&text) {
            Ok(read) => read,
            Err(error) => {
                let why = format!("{to} answered {call:?} with {status}: {error}");
                // It contains no event, so no spool refuses it.
                let _ = self
                    .ingest
                    .take(&bytes, Err(Reject::new(why.clone())))
                    .await;
                return Err(Ended::lost(why).into());
            }
        };
        if let Some(fault) = read.fault {
            if fault.contains("NotAuthorized") || fault.contains("FailedAuthentication") {
                return Err(Failed::Denied(refused(&fault)));
            }
            return Err(Ended::lost(format!("{to} answered {call:?}: {fault:.300}")).into());
        }
        Ok((text.into_owned(), read))
    }
}
