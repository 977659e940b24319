//! Messages with what they came to, on their way to one sync.
use linli_shared::protocol::event::{ClockQuality, Draft, PlaceDraft, Severity};
use linli_shared::protocol::ids::Lane;
use linli_shared::protocol::limits::NAME_BYTES_MAX;
use linli_shared::service::clock;
use std::borrow::Cow;
use tokio::sync::OwnedMutexGuard;

use super::{BATCH_EVENTS, SourceIngest};
use crate::ingest::live_tap::{Seen, event as watched_event};
use crate::ingest::presence::{News, Staged};
use crate::ingest::raw_log;
use crate::ingest::source_status::SourceStatus;
use crate::intake::{SUBMIT_EVENTS_MAX, Submission};
use crate::pending::Stamp;
use linli_devices::bounded;
use linli_devices::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};
use linli_devices::mapping::lane_of;
use linli_devices::time::{Tense, is_plausible};

/// What is counted once it is durable.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) repeated: u64,
    pub(super) heartbeat: u64,
    pub(super) left_out: u64,
    pub(super) rejected: u64,
    pub(super) implausible_times: u64,
    pub(super) samples: Vec<(String, Vec<u8>)>,
}

/// Devices that a group tells to be there. A group that is not stored, however it ends, has not told.
pub(super) struct Back<'f> {
    pub(super) ingest: &'f SourceIngest,
    pub(super) devices: Vec<String>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        let mut book = self.ingest.book();
        for device in &self.devices {
            book.devices.not_told(device);
        }
    }
}

/// Messages that become durable with one sync.
pub struct IngestBatch<'f> {
    pub(super) ingest: &'f SourceIngest,
    pub(super) _alone: Option<OwnedMutexGuard<()>>,
    /// Lives until everything is stored or refused.
    pub(super) stamp: Stamp,
    pub(super) submission: Submission,
    /// States that are known once it is durable, each with the lane of its event, where it has one.
    pub(super) staged: Vec<(Option<Lane>, Staged)>,
    pub(super) back: Back<'f>,
    pub(super) tally: Tally,
    pub(super) raw: String,
    pub(super) seen: Vec<Seen>,
    pub(super) lag_ms: Option<i64>,
    /// There is a message in it, and not only what the agent itself tells.
    pub(super) said: bool,
}

/// What became of a reading.
enum Taken {
    Event,
    Repeated,
}

impl<'f> IngestBatch<'f> {
    /// Nothing is in it; received now.
    pub(super) fn new(ingest: &'f SourceIngest, alone: Option<OwnedMutexGuard<()>>) -> Self {
        Self {
            ingest,
            _alone: alone,
            stamp: ingest.0.shared.pending.stamp(),
            submission: Submission::new(),
            staged: Vec::new(),
            back: Back {
                ingest,
                devices: Vec::new(),
            },
            tally: Tally::default(),
            raw: String::new(),
            seen: Vec::new(),
            lag_ms: None,
            said: false,
        }
    }

    /// It has enough events to be stored.
    pub fn is_full(&self) -> bool {
        self.submission.len() >= BATCH_EVENTS
    }

    /// Adds a message with what it came to.
    pub fn message(&mut self, raw: &[u8], said: Result<DecodedMessage<'_>, Reject>) {
        self.said = true;
        let mut shown = self
            .ingest
            .0
            .watch
            .is_watched()
            .then(|| Seen::new(self.stamp.received_ms(), raw));
        let outcome = match said {
            Ok(DecodedMessage::Events(device_events)) => {
                let mut outcome = "repeated";
                for device_event in &device_events {
                    self.heard(device_event.by.as_deref().unwrap_or(&device_event.device));
                    match self.device_event(device_event, shown.as_mut()) {
                        Ok(Taken::Event) => outcome = "event",
                        Ok(Taken::Repeated) => self.tally.repeated += 1,
                        Err(reject) => {
                            outcome = "rejected";
                            self.reject(raw, &reject, shown.as_mut());
                        }
                    }
                }
                outcome
            }
            Ok(DecodedMessage::Heartbeat { device }) => {
                self.heard(&device);
                self.tally.heartbeat += 1;
                "heartbeat"
            }
            Ok(DecodedMessage::LeftOut { device, what }) => {
                self.heard(&device);
                self.tally.left_out += 1;
                if let Some(shown) = &mut shown {
                    shown.reason = Some(what.into_owned());
                }
                "left_out"
            }
            Err(reject) => {
                self.reject(raw, &reject, shown.as_mut());
                "rejected"
            }
        };
        if let Some(mut shown) = shown {
            shown.outcome = Cow::Borrowed(outcome);
            self.seen.push(shown);
        }
        self.keep_raw(outcome, raw);
    }

    /// Keeps a message on this box.
    pub(super) fn keep_raw(&mut self, outcome: &str, raw: &[u8]) {
        // Signs of life, and states that are as they were, say nothing new.
        let is_news = !matches!(outcome, "heartbeat" | "repeated");
        if is_news && !self.ingest.0.settings.keep_raw_for.is_zero() {
            raw_log::line(&mut self.raw, self.stamp.received_ms(), outcome, raw);
        }
    }

    pub(super) fn reject(&mut self, raw: &[u8], reject: &Reject, shown: Option<&mut Seen>) {
        self.tally.rejected += 1;
        if let Some(shown) = shown {
            shown.reason = Some(reject.reason.clone());
        }
        SourceStatus::sample(&mut self.tally.samples, &reject.reason, raw);
    }

    /// A sign of life of a device; of one that is back, that is an event.
    /// One whose name is longer than an event can have is not watched over.
    pub(super) fn heard(&mut self, device: &str) {
        if device.is_empty() || device.len() > NAME_BYTES_MAX {
            return;
        }
        let back = self
            .ingest
            .book()
            .devices
            .heard(device, clock::monotonic_ms());
        if back {
            let device_event = DeviceEvent::new("device.online", Severity::Info, device);
            if self.event(&device_event).is_ok() {
                self.back.devices.push(device.to_owned());
            }
        }
    }

    fn device_event(
        &mut self,
        device_event: &DeviceEvent<'_>,
        shown: Option<&mut Seen>,
    ) -> Result<Taken, Reject> {
        let mut staged = None;
        if let Some(state) = &device_event.state {
            staged = match device_event.by.as_deref() {
                // A part lives and falls silent with the panel that tells of it: its points are points of the panel.
                Some(by) => {
                    let point = format!("{}/{}", device_event.device, state.point).into();
                    self.news(by, &State { point, ..*state })?
                }
                None => self.news(&device_event.device, state)?,
            };
            if staged.is_none() && !device_event.anew {
                return Ok(Taken::Repeated);
            }
        }
        let event = self.event(device_event)?;
        if let Some(shown) = shown {
            shown.events.push(event);
        }
        let lane = Some(lane_of(device_event.severity));
        self.staged.extend(staged.map(|staged| (lane, staged)));
        Ok(Taken::Event)
    }

    /// What is to be known of a state once its event is durable; `None` where it is no news. What is known stays bounded,
    /// however long a message makes names.
    pub(super) fn news(
        &mut self,
        device: &str,
        state: &State<'_>,
    ) -> Result<Option<Staged>, Reject> {
        if device.len() > NAME_BYTES_MAX {
            let bytes = device.len();
            return Err(Reject::new(format!(
                "device has {bytes} bytes, at most {NAME_BYTES_MAX} are accepted"
            )));
        }
        let point = bounded::bounded(Cow::Borrowed(&*state.point));
        // What stands before it in this group is newer than what is known.
        let before = self
            .staged
            .iter()
            .rev()
            .map(|(_, staged)| staged)
            .find(|staged| staged.device == device && staged.point == point);
        let news = match before {
            Some(before) if before.active == state.active => News::Repeated,
            Some(_) => News::Changed,
            None => {
                let devices = &self.ingest.book().devices;
                devices.news(device, &point, state.active, state.initial)
            }
        };
        if news == News::Repeated {
            return Ok(None);
        }
        let staged = Staged {
            device: device.to_owned(),
            point: point.into_owned(),
            active: state.active,
        };
        if news == News::Noted {
            self.staged.push((None, staged));
            return Ok(None);
        }
        Ok(Some(staged))
    }

    /// Packs the event of a reading. What it is, for those who watch; `Null` if nobody does.
    pub(super) fn event(
        &mut self,
        device_event: &DeviceEvent<'_>,
    ) -> Result<serde_json::Value, Reject> {
        let inner = &self.ingest.0;
        if self.submission.len() >= SUBMIT_EVENTS_MAX {
            return Err(Reject::new(format!(
                "more than {SUBMIT_EVENTS_MAX} events in one message"
            )));
        }
        let now_ms = self.stamp.received_ms();
        let pseudonyms: Vec<(&str, Option<String>)> = device_event
            .persons
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(person, value)| {
                (
                    person.attribute(),
                    inner.shared.pseudonyms.of(*person, value),
                )
            })
            .collect();
        let mut attributes: Vec<(&str, &str)> = device_event
            .attributes
            .iter()
            .map(|(name, value)| (*name, bounded::attribute(value)))
            .chain(
                pseudonyms
                    .iter()
                    .filter_map(|(name, value)| Some((*name, value.as_deref()?))),
            )
            .collect();
        let mut occurred_at_ms = now_ms;
        let mut clock = ClockQuality::Agent;
        let told = device_event.time.ms(&inner.settings.zone);
        let unread = match &told {
            Ok(None) => None,
            Ok(Some(device_ms)) if is_plausible(*device_ms, Tense::Live, now_ms) => {
                occurred_at_ms = *device_ms;
                clock = ClockQuality::Device;
                None
            }
            Ok(Some(device_ms)) => Some(match device_event.time {
                DeviceTime::Text(text) => text.to_owned(),
                _ => clock::rfc3339(*device_ms),
            }),
            Err(text) => Some(text.clone()),
        };
        if let Some(text) = &unread {
            clock = ClockQuality::Implausible;
            attributes.push(("device_time", bounded::attribute(text)));
        }
        // By name, each once: the first of a name stands.
        attributes.sort_by_key(|(name, _)| *name);
        attributes.dedup_by_key(|(name, _)| *name);
        let place = inner.place(&device_event.device);
        let draft = Draft {
            kind: &device_event.kind,
            occurred_at_ms,
            received_at_ms: now_ms,
            clock,
            severity: device_event.severity,
            source: &inner.settings.name,
            source_id: &device_event.id,
            device: &device_event.device,
            place: place.map_or_else(PlaceDraft::default, |place| PlaceDraft {
                building: &place.building,
                unit: &place.unit,
                address: "",
            }),
            attributes,
            ..Draft::default()
        };
        let shown = if inner.watch.is_watched() {
            watched_event(&draft)
        } else {
            serde_json::Value::Null
        };
        self.submission
            .push(
                lane_of(device_event.severity),
                device_event.retention,
                draft,
            )
            .map_err(|error| Reject::new(linli_shared::service::telemetry::chain(&error)))?;
        match clock {
            ClockQuality::Implausible => self.tally.implausible_times += 1,
            ClockQuality::Device => self.lag_ms = Some(now_ms - occurred_at_ms),
            _ => {}
        }
        Ok(shown)
    }

    /// An event of the message that is being read, for those who watch.
    pub(super) fn watched(&mut self, event: serde_json::Value) {
        if let Some(seen) = self.seen.last_mut() {
            seen.events.push(event);
        }
    }

    /// The items that follow are of this message.
    pub fn begin(&mut self, raw: &[u8]) {
        self.said = true;
        if self.ingest.0.watch.is_watched() {
            let mut seen = Seen::new(self.stamp.received_ms(), raw);
            seen.outcome = Cow::Borrowed("event");
            self.seen.push(seen);
        }
        self.keep_raw("items", raw);
    }

    /// When the messages were received, milliseconds since 1970 UTC.
    pub fn received_ms(&self) -> i64 {
        self.stamp.received_ms()
    }
}
