//! What a message of a Hikvision device means here. Pure; time comes as an argument, milliseconds since boot.
//!
//! Cameras and recorders tell a condition again and again while it holds, with a growing `activePostCount`, and many never
//! say that it is over. So one [`Mapper`] a device keeps which conditions hold:
//!
//! * the first message of one is an event, those after it are not;
//! * what was not told again for [`QUIET_MS`] is over ([`Mapper::quiet`]), except what stays until somebody mends it
//!   (a lost picture, a full disk): that ends when the device says so;
//! * where the device itself was not heard for as long, nothing of it is known: what it tells then is news to the frame;
//! * motion and crossed lines are moments: their end is no event. Covered lenses, inputs, faults and fires are states.
//!
//! Messages of doors have serials and are never told twice on purpose: each is an event under the id
//! `<device>/<serial>/<time>`, also where the device tells of the past after a connection was made
//! (`currentEvent: false`). The same event of the stream, of the catch-up and of a replay is stored once.
//!
//! `videoloss` / `inactive` is the heartbeat; the first one of a channel says too that its picture is there, which may end what
//! was before the connection. An `eventType` that is not known is left out and counted by its name.
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Retention;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::alert::{Alert, Stage};
use super::door::{DoorEvent, Doors, Meaning, Passage, meaning};
use super::known::{Known, known};
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Person, Reject, State};
use crate::time::read;

/// A condition that was not told again for so long is over. Devices tell it about once a second.
pub const QUIET_MS: u64 = 15_000;
/// Conditions of one device that are kept; what is beyond is an event each time.
const CONDITIONS_MAX: usize = 512;
/// Longest name of an event type, a channel, a door.
const NAME_CHARS_MAX: usize = 40;

/// What is known of one device.
#[derive(Debug, Clone)]
pub struct Mapper {
    device: String,
    /// What its channels and doors say is of devices of their own, `<device>/<number>`.
    parts: bool,
    zone: TimeZone,
    doors: Doors,
    conditions: HashMap<String, Condition>,
    /// Channels that have said since the connection was made that their picture is there. Shared: a mapper is copied for each
    /// message, and this hardly ever changes.
    clear: Arc<HashSet<String>>,
    /// Last message of any kind.
    heard_ms: u64,
    /// The door event that was told last.
    last: Option<Last>,
    /// All up to `last` was asked for, so what is older and comes again is known.
    caught_up: bool,
}

/// Where in its events a door controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Its serial.
    pub serial: u64,
    /// Its time, as the device wrote it.
    pub time: String,
    second: i64,
}

#[derive(Debug, Clone)]
struct Condition {
    last_ms: u64,
    /// The device was away since.
    stale: bool,
    known: Known,
    device: String,
}

impl Mapper {
    /// Of a device by its id.
    pub fn new(device: &str, parts: bool) -> Self {
        Self {
            device: device.to_owned(),
            parts,
            doors: Doors::default(),
            conditions: HashMap::new(),
            clear: Arc::default(),
            heard_ms: 0,
            last: None,
            caught_up: false,
            zone: TimeZone::UTC,
        }
    }

    /// Times without a zone are of this one.
    pub fn in_zone(mut self, zone: TimeZone) -> Self {
        self.zone = zone;
        self
    }

    /// A connection was made: what follows may be told again, and something may be missing.
    pub fn connected(&mut self) {
        self.caught_up = false;
        self.clear = Arc::default();
    }

    /// Everything up to the last event was asked for.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// The door event that was told last.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Its id.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What a message comes to.
    pub fn map<'a>(
        &mut self,
        alert: &'a Alert<'_>,
        now_ms: u64,
    ) -> Result<DecodedMessage<'a>, Reject> {
        self.heard(now_ms);
        let kind = alert.event_type.to_ascii_lowercase();
        if kind == "accesscontrollerevent" {
            let Some(door) = &alert.door else {
                return Err(Reject::new("an AccessControllerEvent has no such part"));
            };
            return Ok(self.door(door, &alert.time));
        }
        if kind == "heartbeat" {
            return Ok(self.heartbeat());
        }
        let Some(known) = known(&kind) else {
            return Ok(self.left_out(short(&alert.event_type)));
        };
        let place = if kind == "io" && !alert.input.is_empty() {
            &alert.input
        } else {
            &alert.channel
        };
        let point = format!("{kind}/{}", short(place));
        let news = match alert.stage {
            Stage::Active => self.begun(&point, known, place, now_ms),
            Stage::Inactive => {
                let was = self.conditions.remove(&point).is_some();
                if kind == "videoloss" && !was && !self.is_first_clear(&point) {
                    return Ok(self.heartbeat());
                }
                was || known.end.is_some()
            }
        };
        if !news {
            return Ok(self.left_out(format!("{} goes on", short(&alert.event_type))));
        }
        let active = alert.stage == Stage::Active;
        let Some(kind) = (if active { Some(known.kind) } else { known.end }) else {
            return Ok(self.left_out(format!("{} ended", short(&alert.event_type))));
        };
        let severity = if active {
            known.severity
        } else {
            Severity::Info
        };
        let mut device_event = self
            .device_event(kind, severity, place)
            .with("part", known.part)
            .with("channel", short(&alert.channel))
            .with("input", short(&alert.input))
            .with("target", short(&alert.target));
        if known.end.is_some() {
            device_event.state = Some(State {
                point: point.into(),
                active,
                // Some devices say of everything that it is well, over and over.
                initial: !active,
            });
        }
        device_event.time = time(&alert.time);
        Ok(DecodedMessage::Events(vec![device_event]))
    }

    /// The device is there. If it was away, its moments are over, and its states are still to be told.
    fn heard(&mut self, now_ms: u64) {
        let away = now_ms.saturating_sub(self.heard_ms) >= QUIET_MS;
        self.heard_ms = now_ms;
        if away {
            self.conditions.retain(|_, condition| {
                condition.last_ms = now_ms;
                condition.stale = true;
                condition.known.end.is_some()
            });
        }
    }

    /// A picture is there. True: it is said so for the first time, and may have been lost before.
    fn is_first_clear(&mut self, point: &str) -> bool {
        if self.clear.contains(point) || self.clear.len() >= CONDITIONS_MAX {
            return false;
        }
        Arc::make_mut(&mut self.clear).insert(point.to_owned())
    }

    /// A condition holds. True: it did not before.
    fn begun(&mut self, point: &str, known: Known, place: &str, now_ms: u64) -> bool {
        if let Some(condition) = self.conditions.get_mut(point) {
            let faded = known.fades && now_ms.saturating_sub(condition.last_ms) >= QUIET_MS;
            condition.last_ms = now_ms;
            return std::mem::take(&mut condition.stale) || faded;
        }
        if self.conditions.len() < CONDITIONS_MAX {
            let condition = Condition {
                last_ms: now_ms,
                stale: false,
                known,
                device: self.named(place),
            };
            self.conditions.insert(point.to_owned(), condition);
        }
        true
    }

    /// The ends of what was not told again. Asked for every few seconds while the device is heard.
    pub fn quiet(&mut self, now_ms: u64) -> Vec<DeviceEvent<'static>> {
        let mut ended = Vec::new();
        if now_ms.saturating_sub(self.heard_ms) >= QUIET_MS {
            // Nothing of it is known: that is not the same as over.
            return ended;
        }
        let device = &self.device;
        self.conditions.retain(|point, condition| {
            let over =
                condition.known.fades && now_ms.saturating_sub(condition.last_ms) >= QUIET_MS;
            if over && let Some(kind) = condition.known.end {
                let mut device_event =
                    DeviceEvent::new(kind, Severity::Info, condition.device.clone())
                        .with("part", condition.known.part)
                        .with("reason", "not told any more");
                device_event.by = Some(device.clone().into());
                device_event.state = Some(State {
                    point: point.clone().into(),
                    active: false,
                    initial: false,
                });
                ended.push(device_event);
            }
            !over
        });
        ended
    }

    /// What a door controller says, in the stream or in the answer to a catch-up.
    pub fn door<'a>(&mut self, event: &'a DoorEvent<'_>, at: &'a str) -> DecodedMessage<'a> {
        let code = format!("{}/{}", event.major, event.minor);
        if let Ok(serial) = event.serial.parse() {
            let second = second(at, &self.zone).unwrap_or(0);
            let before = |last: &Last| serial <= last.serial && second <= last.second;
            if self.caught_up && self.last.as_ref().is_some_and(before) {
                return self.left_out(format!("{code} told before"));
            }
            self.last = Some(Last {
                serial,
                time: short(at).to_owned(),
                second,
            });
        }
        let passage = |passage| match passage {
            Passage::Opened => Ok(("door.opened", Severity::Info, "")),
            Passage::Closed => Ok(("door.closed", Severity::Info, "")),
            Passage::Told => Err("the other one of lock and contact"),
        };
        let restored = |fault, part| {
            let kind = if fault {
                "device.fault"
            } else {
                "device.restored"
            };
            (
                kind,
                if fault {
                    Severity::Notice
                } else {
                    Severity::Info
                },
                part,
            )
        };
        let told = match meaning(event.major, event.minor) {
            Meaning::Lock(open) => passage(self.doors.lock(&event.door, open)),
            Meaning::Contact(open) => passage(self.doors.contact(&event.door, open)),
            Meaning::Forced => {
                self.doors.contact(&event.door, true);
                Ok(("door.forced", Severity::Alarm, ""))
            }
            Meaning::Held => Ok(("door.held", Severity::Warning, "")),
            Meaning::Granted => Ok(("door.granted", Severity::Info, "")),
            Meaning::Denied => Ok(("door.denied", Severity::Info, "")),
            Meaning::Panic(true) => Ok(("panic.alarm", Severity::Alarm, "")),
            Meaning::Panic(false) => Ok(("panic.restored", Severity::Info, "")),
            Meaning::FireButton(true) => Ok(("fire.alarm", Severity::Life, "fire button")),
            Meaning::FireButton(false) => Ok(("fire.restored", Severity::Info, "fire button")),
            Meaning::Input(part, true) => Ok(("input.active", Severity::Info, part)),
            Meaning::Input(part, false) => Ok(("input.inactive", Severity::Info, part)),
            Meaning::Tamper(part, true) => Ok(("device.tamper", Severity::Warning, part)),
            Meaning::Tamper(part, false) => Ok(("device.tamper_restored", Severity::Info, part)),
            Meaning::Fault(part, fault) => Ok(restored(fault, part)),
            Meaning::Broken(part) => Ok(restored(true, part)),
            Meaning::Power(false) => Ok(("device.power_lost", Severity::Notice, "")),
            Meaning::Power(true) => Ok(("device.power_restored", Severity::Info, "")),
            Meaning::Battery(false) => Ok(("device.battery_low", Severity::Notice, "")),
            Meaning::Battery(true) => Ok(("device.battery_restored", Severity::Info, "")),
            Meaning::Heartbeat => return self.heartbeat(),
            Meaning::LeftOut(what) => Err(what),
            Meaning::Unknown => Err("unknown"),
        };
        let (kind, severity, part) = match told {
            Ok(told) => told,
            Err(what) => return self.left_out(format!("{code} {what}")),
        };
        let by = if event.mode == "invalid" {
            ""
        } else {
            short(&event.mode)
        };
        let mut device_event = self
            .device_event(kind, severity, &event.door)
            .with("door", short(&event.door))
            .with("part", part)
            .with("by", by)
            .with("code", code);
        if kind.starts_with("door.") {
            device_event.retention = Retention::Access;
        }
        if !event.serial.is_empty() {
            let moment = match second(at, &self.zone) {
                Some(second) => second.to_string(),
                None => short(at).to_owned(),
            };
            device_event.id = format!("{}/{}/{}", self.device, short(&event.serial), moment).into();
        }
        device_event.time = time(at);
        for (person, value) in [
            (Person::Card, &event.card),
            (Person::Employee, &event.employee),
            (Person::Name, &event.name),
        ] {
            // Devices write nobody as 0.
            if !value.is_empty() && value.chars().any(|letter| letter != '0') {
                device_event.persons.push((person, Cow::Borrowed(value)));
            }
        }
        DecodedMessage::Events(vec![device_event])
    }

    fn named(&self, part: &str) -> String {
        if self.parts && !part.is_empty() {
            format!("{}/{}", self.device, short(part))
        } else {
            self.device.clone()
        }
    }

    fn device_event<'a>(
        &self,
        kind: &'static str,
        severity: Severity,
        part: &str,
    ) -> DeviceEvent<'a> {
        let mut device_event = DeviceEvent::new(kind, severity, self.named(part));
        device_event.by = Some(self.device.clone().into());
        device_event
    }

    fn heartbeat<'a>(&self) -> DecodedMessage<'a> {
        DecodedMessage::heartbeat(self.device.clone())
    }

    fn left_out<'a>(&self, what: impl Into<Cow<'a, str>>) -> DecodedMessage<'a> {
        DecodedMessage::LeftOut {
            device: self.device.clone().into(),
            what: what.into(),
        }
    }
}

/// The beginning of a name that a device gives.
fn short(name: &str) -> &str {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

fn time(text: &str) -> DeviceTime<'_> {
    if text.is_empty() {
        DeviceTime::None
    } else {
        DeviceTime::Text(text)
    }
}

/// The same second however its zone is written, or whether.
fn second(text: &str, zone: &TimeZone) -> Option<i64> {
    Some(read(text, zone)?.div_euclid(1000))
}

#[cfg(test)]
mod tests;
