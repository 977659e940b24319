//! The meaning of a Hikvision device's messages. Pure; time is an argument, milliseconds since boot.
//!
//! Cameras and recorders repeat a condition while it holds, with a growing `activePostCount`, and many never report
//! its end. So one [`Mapper`] a device tracks the conditions that hold:
//!
//! * a condition is identified by its type, channel, region and target: a person in one region and a vehicle in
//!   another are two. The first message of a condition is an event, repeats are not;
//! * a condition that was not repeated for [`QUIET_MS`] is over ([`Mapper::quiet`]), except one that stays until
//!   somebody repairs it (a lost picture, a full disk): that ends when the device reports it. The device's own times
//!   count too: messages that far apart by them are two events, even if a link that stood still delivers them at
//!   once;
//! * if the device itself was not heard for as long, its conditions are unknown: its next messages are news to the
//!   ingest;
//! * motion and crossed lines are momentary: their end is no event. Covered lenses, inputs, faults and fires are
//!   states.
//!
//! Messages of doors have serials and are never repeated on purpose: each is an event under the id
//! `<device>/<serial>/<time>`. It is a replay if the device sends a past event after a connection was made
//! (`currentEvent: false`), and in the answer to a catch-up ([`Mapper::history`]). The same event from the stream,
//! the catch-up and a replay is stored once.
//!
//! `videoloss` / `inactive` is the heartbeat, and carries the device's time; the first one of a channel also means
//! that its picture is present, which may end a loss from before the connection. An unknown `eventType` is left out by
//! its name, and one that is a damaged name of a known one is rejected ([`misspelling`]); so is a major type of a door
//! that does not exist.
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Retention;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::alert::{Alert, Region, Stage};
use super::door::{DoorEvent, Doors, Meaning, Passage, meaning};
use super::known::{self, Known, known};
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Person, Reject, State};
use crate::misspelling;
use crate::time::read;

/// A condition that was not repeated for this long is over. Devices repeat it about once a second.
pub const QUIET_MS: u64 = 15_000;
/// Largest number of tracked conditions of one device; a further one is an event each time.
const CONDITIONS_MAX: usize = 512;
/// Longest name of an event type, a channel, a door.
const NAME_CHARS_MAX: usize = 40;

/// The state of one device.
#[derive(Debug, Clone)]
pub struct Mapper {
    device: String,
    /// Its channels and doors are devices of their own, `<device>/<number>`.
    parts: bool,
    zone: TimeZone,
    doors: Doors,
    /// Doors as a catch-up reports them, apart from their current state.
    past_doors: Doors,
    conditions: HashMap<String, Condition>,
    /// Channels that have reported their picture as present since the connection was made. Shared: a mapper is copied
    /// for each message, and this hardly ever changes.
    clear: Arc<HashSet<String>>,
    /// Time of the last message of any kind.
    heard_ms: u64,
    /// The last door event.
    last: Option<Last>,
    /// All events up to `last` were requested, so an older one that is repeated is known.
    caught_up: bool,
}

/// The position of a door controller in its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Serial of the event.
    pub serial: u64,
    /// Time of the event, as the device wrote it.
    pub time: String,
    second: Option<i64>,
}

impl Last {
    /// Whether an event came before the last one: its serial and its second are both earlier. Serials that begin anew
    /// have a later time; those of one second may come in any order.
    fn is_after(&self, serial: u64, second: Option<i64>) -> bool {
        serial <= self.serial
            && second
                .zip(self.second)
                .is_some_and(|(second, last)| second < last)
    }
}

/// Comparison of a message with the tracked conditions.
enum News {
    /// The first message of the condition.
    Begun,
    /// The first message of another occurrence: the previous one is over, or is elsewhere in the picture.
    Again,
    /// A repeat.
    GoesOn,
}

#[derive(Debug, Clone)]
struct Condition {
    last_ms: u64,
    /// Second of the last message by the device's clock.
    last_second: Option<i64>,
    /// Point of its state.
    point: String,
    /// The device was away since.
    stale: bool,
    known: Known,
    device: String,
}

impl Mapper {
    /// A mapper for a device with this id.
    pub fn new(device: &str, parts: bool) -> Self {
        Self {
            device: device.to_owned(),
            parts,
            doors: Doors::default(),
            past_doors: Doors::default(),
            conditions: HashMap::new(),
            clear: Arc::default(),
            heard_ms: 0,
            last: None,
            caught_up: false,
            zone: TimeZone::UTC,
        }
    }

    /// Sets the zone of times that carry none.
    pub fn in_zone(mut self, zone: TimeZone) -> Self {
        self.zone = zone;
        self
    }

    /// Records a new connection: events that follow may be repeats, and some may be missing.
    pub fn connected(&mut self) {
        self.caught_up = false;
        self.clear = Arc::default();
        self.past_doors = self.doors.clone();
    }

    /// Records that everything up to the last event was requested.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// The last door event.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Id of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Maps a message.
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
            return self.door(door, &alert.time, door.current == Some(false));
        }
        let is_other = kind == "other" && alert.description.eq_ignore_ascii_case("heartbeat");
        if kind == "heartbeat" || is_other {
            return Ok(self.heartbeat(&alert.time));
        }
        let Some(known) = known(&kind) else {
            if let Some(why) = misspelling::damage(&kind, known::names()) {
                return Err(Reject::new(format!("eventType {why}")));
            }
            return Ok(self.left_out(format!("unknown type {}", short(&alert.event_type))));
        };
        let place = if kind == "io" && !alert.input.is_empty() {
            &alert.input
        } else {
            &alert.channel
        };
        let point = format!("{kind}/{}", short(place));
        let second = second(&alert.time, &self.zone);
        let whole = [Region::default()];
        let regions = match &alert.regions[..] {
            [] => &whole[..],
            regions => regions,
        };
        let mut device_events = Vec::new();
        if alert.stage == Stage::Active {
            for region in regions {
                let key = condition_key(&point, region);
                let news = self.begun(key, &point, known, place, (now_ms, second));
                if matches!(news, News::GoesOn) {
                    continue;
                }
                let mut device_event = self.alarm(alert, known, place, region);
                device_event.state = known.end.map(|_| State {
                    point: point.clone().into(),
                    active: true,
                    initial: false,
                });
                device_event.anew = known.end.is_some() && matches!(news, News::Again);
                device_events.push(device_event);
            }
            if device_events.is_empty() {
                return Ok(self.left_out(format!("{} goes on", short(&alert.event_type))));
            }
            return Ok(DecodedMessage::Events(device_events));
        }
        let was = self.ended(&point, &alert.regions);
        if kind == "videoloss" && !was && !self.is_first_clear(&point) {
            return Ok(self.heartbeat(&alert.time));
        }
        let Some(end) = known.end else {
            return Ok(self.left_out(format!("{} ended", short(&alert.event_type))));
        };
        if self.holds(&point) {
            return Ok(self.left_out(format!("{} ended in one region", short(&alert.event_type))));
        }
        let mut device_event = self.alarm(alert, known, place, &regions[0]);
        (device_event.kind, device_event.severity) = (end.into(), Severity::Info);
        device_event.state = Some(State {
            point: point.into(),
            active: false,
            // Some devices report the good state of every part, over and over.
            initial: true,
        });
        Ok(DecodedMessage::Events(vec![device_event]))
    }

    /// The event of a camera's alert for one region, as the beginning of its condition.
    fn alarm<'a>(
        &self,
        alert: &'a Alert<'_>,
        known: Known,
        place: &str,
        region: &Region<'_>,
    ) -> DeviceEvent<'a> {
        let mut device_event = self
            .device_event(known.kind, known.severity, place)
            .with("part", known.part)
            .with("channel", short(&alert.channel))
            .with("input", short(&alert.input))
            .with("region", short(&region.id).to_owned())
            .with("target", short(&region.target).to_owned());
        device_event.time = time(&alert.time);
        device_event
    }

    /// Ends conditions of a point: those of these regions, or all. True: there were any.
    fn ended(&mut self, point: &str, regions: &[Region<'_>]) -> bool {
        let keys: Vec<String> = regions
            .iter()
            .map(|region| condition_key(point, region))
            .collect();
        let before = self.conditions.len();
        // An end that matches no tracked condition ends all of them.
        let is_known = keys.iter().any(|key| self.conditions.contains_key(key));
        self.conditions
            .retain(|key, condition| condition.point != point || (is_known && !keys.contains(key)));
        self.conditions.len() < before
    }

    /// Whether a condition of a point holds.
    fn holds(&self, point: &str) -> bool {
        let mut conditions = self.conditions.values();
        conditions.any(|condition| condition.point == point)
    }

    /// Records that the device is there. If it was away, its momentary conditions are over, and its states must be
    /// reported again.
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

    /// Records that a picture is present. True: for the first time, so it may have been lost before.
    fn is_first_clear(&mut self, point: &str) -> bool {
        if self.clear.contains(point) || self.clear.len() >= CONDITIONS_MAX {
            return false;
        }
        Arc::make_mut(&mut self.clear).insert(point.to_owned())
    }

    /// Records a condition, by the arrival and the device's second of its message.
    fn begun(
        &mut self,
        key: String,
        point: &str,
        known: Known,
        place: &str,
        (now_ms, second): (u64, Option<i64>),
    ) -> News {
        if let Some(condition) = self.conditions.get_mut(&key) {
            let by_device = second
                .zip(condition.last_second)
                .is_some_and(|(second, last)| second - last >= QUIET_MS as i64 / 1000);
            let by_arrival = now_ms.saturating_sub(condition.last_ms) >= QUIET_MS;
            condition.last_ms = now_ms;
            condition.last_second = second.or(condition.last_second);
            let is_stale = std::mem::take(&mut condition.stale);
            return match known.fades && (by_device || by_arrival) {
                _ if is_stale => News::Begun,
                true => News::Again,
                false => News::GoesOn,
            };
        }
        let news = match self.holds(point) {
            true => News::Again,
            false => News::Begun,
        };
        if self.conditions.len() < CONDITIONS_MAX {
            let condition = Condition {
                last_ms: now_ms,
                last_second: second,
                point: point.to_owned(),
                stale: false,
                known,
                device: self.named(place),
            };
            self.conditions.insert(key, condition);
        }
        news
    }

    /// Returns the ends of conditions that are no longer repeated. Call it every few seconds while the device is
    /// heard.
    pub fn quiet(&mut self, now_ms: u64) -> Vec<DeviceEvent<'static>> {
        let mut ended = Vec::new();
        if now_ms.saturating_sub(self.heard_ms) >= QUIET_MS {
            // Its conditions are unknown, which is not the same as over.
            return ended;
        }
        let mut over = Vec::new();
        self.conditions.retain(|_, condition| {
            let fades =
                condition.known.fades && now_ms.saturating_sub(condition.last_ms) >= QUIET_MS;
            if fades {
                over.push(condition.clone());
            }
            !fades
        });
        for condition in over {
            let Some(kind) = condition.known.end else {
                continue;
            };
            let is_told = ended.iter().any(|told: &DeviceEvent<'_>| {
                let state = told.state.as_ref();
                state.is_some_and(|state| state.point == condition.point)
            });
            if is_told || self.holds(&condition.point) {
                continue;
            }
            let mut device_event = DeviceEvent::new(kind, Severity::Info, condition.device)
                .with("part", condition.known.part)
                .with("reason", "not told any more");
            device_event.by = Some(self.device.clone().into());
            device_event.state = Some(State {
                point: condition.point.into(),
                active: false,
                initial: false,
            });
            ended.push(device_event);
        }
        ended
    }

    /// Maps a door controller's event in the answer to a catch-up: a replay.
    pub fn history<'a>(
        &mut self,
        event: &'a DoorEvent<'_>,
        at: &'a str,
    ) -> Result<DecodedMessage<'a>, Reject> {
        self.door(event, at, true)
    }

    /// Maps a door controller's event.
    fn door<'a>(
        &mut self,
        event: &'a DoorEvent<'_>,
        at: &'a str,
        replayed: bool,
    ) -> Result<DecodedMessage<'a>, Reject> {
        if !event.has_code() {
            return Err(Reject::new(
                "an AccessControllerEvent has no majorEventType that can be read",
            ));
        }
        let Some(minor) = event.minor else {
            return Err(Reject::new(
                "an AccessControllerEvent has no subEventType that can be read",
            ));
        };
        if !(1..=5).contains(&event.major) {
            return Err(Reject::new(format!(
                "majorEventType {} is none: there are 1 to 5",
                event.major
            )));
        }
        let code = format!("{}/{minor}", event.major);
        if let Ok(serial) = event.serial.parse() {
            let second = second(at, &self.zone);
            let is_before = self
                .last
                .as_ref()
                .is_some_and(|last| last.is_after(serial, second));
            // A live event is new, whatever the device's clock and serials say.
            if replayed && self.caught_up && is_before {
                return Ok(self.left_out(format!("{code} told before")));
            }
            // A catch-up that runs beside the stream returns earlier events.
            if !is_before {
                self.last = Some(Last {
                    serial,
                    time: short(at).to_owned(),
                    second,
                });
            }
        }
        let doors = match replayed {
            true => &mut self.past_doors,
            false => &mut self.doors,
        };
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
        let told = match meaning(event.major, minor) {
            Meaning::Lock(open) => passage(doors.lock(&event.door, open)),
            Meaning::Contact(open) => passage(doors.contact(&event.door, open)),
            Meaning::Forced => {
                doors.contact(&event.door, true);
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
            Meaning::Heartbeat => return Ok(self.heartbeat(at)),
            Meaning::LeftOut(what) => Err(what),
            Meaning::Unknown => Err("unknown"),
        };
        let (kind, severity, part) = match told {
            Ok(told) => told,
            Err(what) => return Ok(self.left_out(format!("{code} {what}"))),
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
        // To the second, like the id: the stream has more digits than a catch-up of the same event.
        device_event.time = match second(at, &self.zone) {
            Some(second) => DeviceTime::Ms(second * 1000),
            None => time(at),
        };
        device_event.replayed = replayed;
        for (person, value) in [
            (Person::Card, &event.card),
            (Person::Employee, &event.employee),
            (Person::Name, &event.name),
        ] {
            // Devices write 0 for nobody.
            if !value.is_empty() && value.chars().any(|letter| letter != '0') {
                device_event.persons.push((person, Cow::Borrowed(value)));
            }
        }
        Ok(DecodedMessage::Events(vec![device_event]))
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

    fn heartbeat<'a>(&self, at: &'a str) -> DecodedMessage<'a> {
        DecodedMessage::Heartbeat {
            device: self.device.clone().into(),
            time: time(at),
        }
    }

    fn left_out<'a>(&self, what: impl Into<Cow<'a, str>>) -> DecodedMessage<'a> {
        DecodedMessage::LeftOut {
            device: self.device.clone().into(),
            what: what.into(),
        }
    }
}

/// The key of a condition.
fn condition_key(point: &str, region: &Region<'_>) -> String {
    let target = short(&region.target).to_ascii_lowercase();
    format!("{point}/{}/{target}", short(&region.id))
}

/// The beginning of a device's name.
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

/// The second of a time, however its zone is written, if at all.
fn second(text: &str, zone: &TimeZone) -> Option<i64> {
    Some(read(text, zone)?.div_euclid(1000))
}

#[cfg(test)]
mod tests;
