//! Messages that decoders read, and the agent's own events about devices, on their way into a batch.
use linli_shared::protocol::event::{
    ClockQuality, DEVICE_CLOCK, DEVICE_OFFLINE, Delivery, Draft, PlaceDraft, Severity,
};
use linli_shared::service::clock;
use std::borrow::Cow;

use super::IngestBatch;
use super::batch::StateNews;
use super::device::ClockNews;
use super::device_clock::{self, Moment};
use super::live_tap::{Seen, event as watched_event};
use crate::intake::SUBMIT_EVENTS_MAX;
use linli_devices::bounded;
use linli_devices::device_event::{DecodedMessage, DeviceEvent, Reject, State};
use linli_devices::mapping::lane_of;
use linli_devices::time::Claim;

/// Outcome of a device's event.
enum Taken {
    Event,
    Repeated,
}

/// Origin of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Teller {
    Device,
    Agent,
}

impl IngestBatch {
    /// Adds a message with its decoded form.
    pub fn message(&mut self, raw: &[u8], decoded: Result<DecodedMessage<'_>, Reject>) {
        self.said = true;
        self.nth = 0;
        self.now_ms = clock::monotonic_ms();
        let mut shown = self
            .ingest
            .0
            .tap
            .is_watched()
            .then(|| Seen::new(self.stamp.received_ms(), raw));
        let outcome = match decoded {
            Ok(DecodedMessage::Events(device_events)) => {
                if device_events.iter().any(|event| event.id.is_empty()) {
                    self.hash(raw);
                }
                let mut outcome = "repeated";
                for device_event in &device_events {
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
            Ok(DecodedMessage::Heartbeat { device, time }) => {
                let claim = time.claim(&self.ingest.0.settings.zone);
                let delivery = self.delivery(false);
                self.receive(&device, true, false, &claim, delivery);
                self.tally.heartbeat += 1;
                "heartbeat"
            }
            Ok(DecodedMessage::LeftOut { device, what }) => {
                self.receive(&device, true, false, &Claim::None, Delivery::Live);
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

    fn device_event(
        &mut self,
        device_event: &DeviceEvent<'_>,
        shown: Option<&mut Seen>,
    ) -> Result<Taken, Reject> {
        self.begin_event();
        let claim = device_event.time.claim(&self.ingest.0.settings.zone);
        let delivery = self.delivery(device_event.replayed);
        let is_offline = device_event.kind == DEVICE_OFFLINE;
        let news = match (&device_event.state, device_event.by.as_deref()) {
            (None, _) => Ok(StateNews::Late),
            // Its points are points of the panel.
            (Some(state), Some(by)) => {
                let point = format!("{}/{}", device_event.device, state.point).into();
                self.news(by, &State { point, ..*state }, None)
            }
            (Some(state), None) => self.news(&device_event.device, state, None),
        };
        let is_known = matches!(news, Ok(StateNews::Known)) && !device_event.anew;
        // A state that goes on can carry the time at which it began, which says nothing of the device's clock.
        let claim = if is_known { Claim::None } else { claim };
        let moment = match device_event.by.as_deref() {
            // A part shares the presence and the clock of the panel that reports it.
            Some(by) => {
                let mut status = self.ingest.status();
                let devices = &mut status.devices;
                devices.set_offline(&device_event.device, is_offline, self.now_ms);
                drop(status);
                self.receive(by, true, false, &claim, delivery)
            }
            // A broker or a host sent a report of being offline: it is no sign of life.
            None => self.receive(
                &device_event.device,
                !is_offline,
                is_offline,
                &claim,
                delivery,
            ),
        };
        let news = news?;
        if is_known {
            return Ok(Taken::Repeated);
        }
        self.count_time(&moment, delivery);
        let event = self.event(device_event, Teller::Device, &claim, moment, delivery)?;
        if let Some(shown) = shown {
            shown.events.push(event);
        }
        if let StateNews::Changed(staged) = news {
            let way = (lane_of(device_event.severity), device_event.retention);
            self.fly(staged, Some(way));
        }
        Ok(Taken::Event)
    }

    /// Adds the agent's own event about a device.
    pub(super) fn tell(&mut self, device_event: &DeviceEvent<'_>) -> Result<(), Reject> {
        let moment = Moment {
            occurred_at_ms: self.arrival.receipt.received_ms,
            clock: ClockQuality::Agent,
            device_time_ms: None,
        };
        self.event(
            device_event,
            Teller::Agent,
            &Claim::None,
            moment,
            Delivery::Live,
        )
        .map(|_| ())
    }

    /// Packs the event of a device and returns it for watchers; `Null` if nobody watches.
    fn event(
        &mut self,
        device_event: &DeviceEvent<'_>,
        teller: Teller,
        claim: &Claim<'_>,
        moment: Moment,
        delivery: Delivery,
    ) -> Result<serde_json::Value, Reject> {
        if self.submission.len() >= SUBMIT_EVENTS_MAX || self.own.len() >= SUBMIT_EVENTS_MAX {
            return Err(Reject::new(format!(
                "more than {SUBMIT_EVENTS_MAX} events in one message"
            )));
        }
        let ingest = self.ingest.clone();
        let inner = &ingest.0;
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
        if let Claim::Unreadable(text) = claim {
            attributes.push(("device_time", bounded::attribute(text)));
        }
        // By name, each once: the first of equal names wins.
        attributes.sort_by_key(|(name, _)| *name);
        attributes.dedup_by_key(|(name, _)| *name);
        let place = inner.place(&device_event.device);
        let draft = Draft {
            kind: &device_event.kind,
            occurred_at_ms: moment.occurred_at_ms,
            received_at_ms: self.arrival.receipt.received_ms,
            monotonic_ms: self.arrival.monotonic_ms(),
            clock: moment.clock,
            device_time_ms: moment.device_time_ms,
            delivery,
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
        let shown = if inner.tap.is_watched() {
            watched_event(&draft)
        } else {
            serde_json::Value::Null
        };
        let way = (lane_of(device_event.severity), device_event.retention);
        let pushed = match teller {
            Teller::Device => self.push(way, draft),
            Teller::Agent => self.own.push(way.0, way.1, draft),
        };
        pushed.map_err(|error| Reject::new(linli_shared::service::telemetry::chain(&error)))?;
        Ok(shown)
    }

    /// Adds the agent's own event that a device is online.
    pub(super) fn tell_online(&mut self, device: &str) {
        let online = DeviceEvent::new("device.online", Severity::Info, device);
        if self.tell(&online).is_ok() {
            self.pledges.back.push(device.to_owned());
        }
    }

    /// Adds the agent's own event about a device's clock.
    pub(super) fn tell_clock(&mut self, device: &str, news: ClockNews) {
        let named = match device {
            "" => self.ingest.name().to_owned(),
            _ => device.to_owned(),
        };
        let device_event = match news {
            ClockNews::Off(offset_ms) => DeviceEvent::new(DEVICE_CLOCK, Severity::Notice, named)
                .with("offset_s", (offset_ms / 1000).to_string())
                .with("reason", device_clock::words(offset_ms)),
            ClockNews::Restored => DeviceEvent::new("device.clock_restored", Severity::Info, named),
        };
        self.pledges.clocks.push(device.to_owned());
        if self.tell(&device_event).is_err() {
            self.pledges.not_told();
        }
    }
}
