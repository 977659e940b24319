//! The state of each device of a source: its presence, the states of its points, its clock, and how far its memory
//! was read. Pure: time is an argument, milliseconds since boot.
//!
//! All state of a device is owned here and changes in one place; no access waits for a disk. A state whose event is
//! on its way into the spool is *in flight*: later messages are compared with it and depend on its outcome. Once the
//! event is durable the state is known; if the spool refuses it, the message has no effect.
//!
//! ```text
//!            heard                     nothing for silent_after
//! unknown ─────────▶ online ─────────────────────────────▶ silent ──heard──▶ online
//!    └────────────────── nothing for silent_after ─────────────▲
//! ```
//!
//! * A device is *online* only while something of it was heard within `silent_after`. A silent device is reported
//!   once (`device.offline`), and again when it is back. Unknown is never normal.
//! * Its points are *stale* then, and so are states from before a restart of the agent (`state_store`): their next
//!   report is news again, live or snapshot. The exception is a snapshot that confirms "off": it creates no event.
//! * A device that the config names is expected from the start; another one is known once it is heard.
//! * A state is known only after its event was durable ([`Devices::apply`]).
//! * A source has at most [`DEVICES_MAX`] known devices, and [`POINTS_MAX`] points on all of them. Beyond these
//!   limits events are still taken, but the device's silence is not watched and the state's repeats are not filtered.
//!   State from before the start, of devices that were not heard since, is evicted first.

use hashbrown::HashMap;
use linli_shared::protocol::event::Delivery;
use linli_shared::protocol::limits::NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use super::device_clock::{DeviceClock, Moment, Receipt};
use crate::intake::Way;
use linli_devices::time::Claim;

/// Largest number of devices of one source.
pub const DEVICES_MAX: usize = 4096;
/// Largest number of points of one source.
pub const POINTS_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unknown,
    Online,
    Silent,
}

/// The state of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    active: bool,
    /// The state dates from before the device fell silent or the agent was started.
    stale: bool,
    /// When the state began, if the source reports it and its messages can arrive out of order.
    at_ms: Option<i64>,
    /// When the message arrived that said so, since boot.
    arrived_ms: u64,
}

/// How far the memory of a device was read: everything up to here was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Second of the last event, since 1970 UTC by the device's clock.
    pub second: i64,
    /// Serial of the last event.
    pub serial: u64,
}

/// The state of a device that survives a restart of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Points, each on or off.
    pub states: Vec<(String, bool)>,
    /// Offset of its clock, milliseconds.
    #[serde(default)]
    pub offset_ms: Option<i64>,
    /// Its wrong clock was reported.
    #[serde(default)]
    pub clock_told: bool,
    /// How far its memory was read.
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

/// A batch on its way into the spool, and the way of an event in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// Number of the batch.
    pub batch: u64,
    /// Lane and retention class; `None`: the state has no event.
    pub way: Option<Way>,
}

/// A state in flight.
#[derive(Debug)]
struct InFlight {
    flight: Flight,
    staged: Staged,
}

#[derive(Debug)]
struct Device {
    presence: Presence,
    /// Time of the last message, or since when one is expected.
    since_ms: u64,
    points: HashMap<String, Point>,
    trouble: Option<String>,
    clock: DeviceClock,
    /// Its wrong clock was reported.
    clock_told: bool,
    /// The device itself or its platform reported it as offline.
    offline: bool,
    cursor: Option<Cursor>,
}

/// The state of all devices.
#[derive(Debug)]
pub struct Devices {
    silent_after_ms: Option<u64>,
    devices: HashMap<String, Device>,
    /// State from before the start, of devices that were neither heard nor expected since.
    recalled: BTreeMap<String, Kept>,
    in_flight: Vec<InFlight>,
    /// Number of points of all devices, recalled ones included.
    points: usize,
    /// A state has changed since the last query.
    changed: bool,
    /// Messages of devices beyond the limit.
    overflow: u64,
}

/// A state that a message reports; it is known once its event is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Device.
    pub device: String,
    /// Point.
    pub point: String,
    /// On.
    pub active: bool,
    /// When the state began, if messages can arrive out of order.
    pub at_ms: Option<i64>,
    /// When its message arrived, since boot.
    pub arrived_ms: u64,
}

/// Comparison of a reported state with the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The state was not known, or has changed.
    Changed,
    /// The state is the same as the durable one or the one in flight.
    Repeated(Option<Flight>),
    /// The state is older than the known one: it gives an event, and the known state stays.
    Late,
    /// The state comes from a snapshot: it becomes known and gives no event.
    Noted,
}

/// Number of devices by presence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Devices heard in time.
    pub online: usize,
    /// Devices not heard since the start, or not in time.
    pub unknown: usize,
}

impl Devices {
    /// `silent_after`: longest silence of a device; `None` if its protocol has no sign of life.
    pub fn new(silent_after: Option<Duration>) -> Self {
        Self {
            silent_after_ms: silent_after.map(|span| span.as_millis() as u64),
            devices: HashMap::new(),
            recalled: BTreeMap::new(),
            in_flight: Vec::new(),
            points: 0,
            changed: false,
            overflow: 0,
        }
    }

    /// Restores the state of a device from before the restart. Call it before anything is heard. At most
    /// [`DEVICES_MAX`] unexpected devices are taken; otherwise each start would add devices that are gone.
    pub fn recall(&mut self, device: String, kept: Kept) {
        if device.len() > NAME_BYTES_MAX {
            return;
        }
        let Kept {
            states,
            offset_ms,
            clock_told,
            cursor,
        } = kept;
        let room = POINTS_MAX - self.points;
        let states = states.into_iter();
        let states = states.filter(|(point, _)| point.len() <= NAME_BYTES_MAX);
        let states: Vec<(String, bool)> = states.take(room).collect();
        let kept = Kept {
            states,
            offset_ms,
            clock_told,
            cursor,
        };
        let count = kept.states.len();
        match self.devices.get_mut(&device) {
            Some(known) if known.points.is_empty() => {
                known.take(kept);
                self.points += count;
            }
            None if kept != Kept::default()
                && self.recalled.len() < DEVICES_MAX
                && !self.recalled.contains_key(&device) =>
            {
                self.recalled.insert(device, kept);
                self.points += count;
            }
            _ => {}
        }
    }

    /// The state to keep of every device, by its name.
    pub fn kept(&self) -> Vec<(&str, Kept)> {
        let known = self.devices.iter().map(|(name, device)| {
            let points = device.points.iter();
            let kept = Kept {
                states: points
                    .map(|(point, known)| (point.clone(), known.active))
                    .collect(),
                offset_ms: device.clock.offset_ms(),
                clock_told: device.clock_told,
                cursor: device.cursor,
            };
            (name.as_str(), kept)
        });
        let recalled = self.recalled.iter();
        let recalled = recalled.map(|(name, kept)| (name.as_str(), kept.clone()));
        known
            .chain(recalled)
            .filter(|(_, kept)| *kept != Kept::default())
            .collect()
    }

    /// Whether the state to [keep](Self::kept) has changed.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Sets whether there are changes to keep: false after a write, true if the write failed.
    pub fn set_changed(&mut self, changed: bool) {
        self.changed = changed;
    }

    /// Adds a device that the config names.
    pub fn expect(&mut self, device: &str, now_ms: u64) {
        self.entry(device, now_ms);
    }

    fn entry(&mut self, device: &str, now_ms: u64) -> Option<&mut Device> {
        if !self.devices.contains_key(device) {
            if self.devices.len() >= DEVICES_MAX {
                self.overflow += 1;
                return None;
            }
            let mut new = Device {
                presence: Presence::Unknown,
                since_ms: now_ms,
                points: HashMap::new(),
                trouble: None,
                clock: DeviceClock::default(),
                clock_told: false,
                offline: false,
                cursor: None,
            };
            if let Some(kept) = self.recalled.remove(device) {
                new.take(kept);
            }
            self.devices.insert(device.to_owned(), new);
        }
        self.devices.get_mut(device)
    }

    /// Records a sign of life. True: report the device as back, or as online for the first time.
    pub fn heard(&mut self, device: &str, now_ms: u64) -> bool {
        let watched = self.silent_after_ms.is_some();
        let Some(device) = self.entry(device, now_ms) else {
            return false;
        };
        device.since_ms = now_ms;
        device.trouble = None;
        device.offline = false;
        let back = device.presence != Presence::Online;
        device.presence = Presence::Online;
        back && watched
    }

    /// Records whether an event of a device reports it as offline.
    pub fn said_offline(&mut self, device: &str, offline: bool, now_ms: u64) {
        let known = match offline {
            true => self.entry(device, now_ms),
            false => self.devices.get_mut(device),
        };
        if let Some(known) = known {
            known.offline = offline;
        }
    }

    /// Records that the device could not be reported as online: its next message tries again.
    pub fn not_told(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.presence = Presence::Unknown;
        }
    }

    /// Records that the connection of a device failed or ended. This does not affect `silent_after`.
    pub fn trouble(&mut self, device: &str, why: &str, now_ms: u64) {
        if let Some(device) = self.entry(device, now_ms) {
            device.trouble = Some(why.to_owned());
        }
    }

    /// Devices that have been silent for too long and are not reported yet.
    pub fn fallen_silent(&self, now_ms: u64) -> Vec<String> {
        let Some(after_ms) = self.silent_after_ms else {
            return Vec::new();
        };
        let silent = self.devices.iter().filter(|(_, device)| {
            device.presence != Presence::Silent
                && now_ms.saturating_sub(device.since_ms) >= after_ms
        });
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Records that the device was reported as silent: its points become stale. A device that was heard meanwhile is
    /// reported as back next.
    pub fn told_silent(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.presence = Presence::Silent;
            for point in device.points.values_mut() {
                point.stale = true;
            }
        }
    }

    /// The known or recalled state of a point.
    fn point(&self, device: &str, point: &str) -> Option<Point> {
        if let Some(device) = self.devices.get(device) {
            return device.points.get(point).copied();
        }
        let states = &self.recalled.get(device)?.states;
        let (_, active) = states.iter().find(|(known, _)| known == point)?;
        Some(Point {
            active: *active,
            stale: true,
            at_ms: None,
            arrived_ms: 0,
        })
    }

    /// What a state is, seen from what is known or in flight. One that is told at the beginning is news where it was known
    /// otherwise, or is on and was so before: nobody listened meanwhile. One with a time of before what is known is late, and
    /// so is one that `is_retry` of a message that arrived before.
    pub fn news(&self, staged: &Staged, initial: bool, is_retry: bool) -> News {
        let Staged {
            device,
            point,
            active,
            at_ms,
            arrived_ms,
        } = staged;
        let in_flight = self
            .in_flight
            .iter()
            .rev()
            .find(|flying| flying.staged.device == *device && flying.staged.point == *point);
        let (known, flight) = match in_flight {
            Some(InFlight { flight, staged }) => {
                let known = Point {
                    active: staged.active,
                    stale: false,
                    at_ms: staged.at_ms,
                    arrived_ms: staged.arrived_ms,
                };
                (Some(known), Some(*flight))
            }
            None => (self.point(device, point), None),
        };
        match known {
            Some(known) if !known.stale && is_before(*at_ms, known.at_ms) => News::Late,
            Some(known) if is_retry && *arrived_ms < known.arrived_ms => News::Late,
            Some(known) if known.active == *active && !known.stale => News::Repeated(flight),
            Some(known) if initial && !active && !known.active => News::Noted,
            Some(_) => News::Changed,
            None if initial => News::Noted,
            // A point that is off, and was never seen on, may have been on while nobody listened.
            None => News::Changed,
        }
    }

    /// Records a repeated state with a later time: a report about an earlier time is late from now on.
    pub fn confirm(&mut self, staged: &Staged) {
        let device = self.devices.get_mut(&staged.device);
        let point = device.and_then(|device| device.points.get_mut(&staged.point));
        if let Some(known) = point
            && is_before(known.at_ms, staged.at_ms)
        {
            known.at_ms = staged.at_ms;
        }
    }

    /// Marks a state as in flight: its event is on its way into the spool, in this batch.
    pub fn fly(&mut self, flight: Flight, staged: Staged) {
        self.in_flight.push(InFlight { flight, staged });
    }

    /// Ends a batch, stored or not: its states in flight become known if `is_durable` returns true.
    pub fn land(&mut self, batch: u64, now_ms: u64, mut is_durable: impl FnMut(&Staged) -> bool) {
        if self
            .in_flight
            .iter()
            .all(|flying| flying.flight.batch != batch)
        {
            return;
        }
        let (landed, flying): (Vec<InFlight>, Vec<InFlight>) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|flying| flying.flight.batch == batch);
        self.in_flight = flying;
        for InFlight { staged, .. } in landed {
            if is_durable(&staged) {
                self.apply(staged, now_ms);
            }
        }
    }

    /// Records a state whose event is durable.
    pub fn apply(&mut self, staged: Staged, now_ms: u64) {
        let watched = self.silent_after_ms.is_some();
        let Some(device) = self.entry(&staged.device, now_ms) else {
            return;
        };
        if !watched {
            // The device was heard although nothing recorded it; without this it would stay unknown.
            device.presence = Presence::Online;
        }
        let new = Point {
            active: staged.active,
            stale: false,
            at_ms: staged.at_ms,
            arrived_ms: staged.arrived_ms,
        };
        if let Some(known) = device.points.get_mut(&staged.point) {
            let changed = known.active != new.active;
            *known = new;
            self.changed |= changed;
            return;
        }
        if self.points >= POINTS_MAX {
            let Some((_, kept)) = self.recalled.pop_first() else {
                return;
            };
            self.points -= kept.states.len();
        }
        if let Some(device) = self.devices.get_mut(&staged.device) {
            device.points.insert(staged.point, new);
            self.points += 1;
            self.changed = true;
        }
    }

    /// Marks the clock of a device as in doubt: the next live message replaces the estimate.
    pub fn doubt_clock(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.clock.doubt();
        }
    }

    /// Whether a live message has shown the device's clock, or the estimate is not in doubt.
    pub fn is_clock_known(&self, device: &str, bound_ms: i64) -> bool {
        let device = self.devices.get(device);
        device.is_some_and(|device| device.clock.is_known(bound_ms))
    }

    /// Takes the claim of a live message as a sample of the device's clock.
    pub fn sample_clock(&mut self, device: &str, claim_ms: i64, receipt: &Receipt, now_ms: u64) {
        let watched = self.silent_after_ms.is_some();
        let Some(known) = self.entry(device, now_ms) else {
            return;
        };
        if !watched {
            known.presence = Presence::Online;
        }
        let before_ms = known.clock.offset_ms();
        if known.clock.sample(claim_ms, receipt, now_ms) {
            // Earlier times are of another clock: they say nothing about the order of later messages.
            for point in known.points.values_mut() {
                point.at_ms = None;
            }
        }
        let after_ms = known.clock.offset_ms();
        // Drift of a few seconds is not worth a write.
        let moved_ms = after_ms
            .zip(before_ms)
            .map(|(after, before)| after.abs_diff(before));
        self.changed |= moved_ms.map_or(after_ms.is_some(), |moved_ms| {
            moved_ms > receipt.bound_ms as u64
        });
    }

    /// Decides when an event of a device happened.
    pub fn moment(
        &mut self,
        device: &str,
        claim: &Claim<'_>,
        delivery: Delivery,
        receipt: &Receipt,
    ) -> Moment {
        match self.devices.get_mut(device) {
            Some(known) => known.clock.moment(claim, delivery, receipt),
            None => {
                let kept = self.recalled.get(device);
                let offset_ms = kept.and_then(|kept| kept.offset_ms);
                let mut clock = offset_ms.map_or_else(DeviceClock::default, DeviceClock::recalled);
                if delivery.is_live()
                    && let Claim::Ms(claim_ms) = claim
                {
                    // A device beyond the limit: each message is judged by itself.
                    clock = DeviceClock::default();
                    clock.sample(*claim_ms, receipt, 0);
                }
                clock.moment(claim, delivery, receipt)
            }
        }
    }

    /// The unreported change of a device's clock: its offset if it is off, `None` if it is right again.
    pub fn clock_news(&self, device: &str, bound_ms: i64) -> Option<Option<i64>> {
        let known = self.devices.get(device)?;
        let is_off = known.clock.is_off(bound_ms);
        match (is_off, known.clock_told) {
            (true, false) => Some(known.clock.offset_ms()),
            (false, true) => Some(None),
            _ => None,
        }
    }

    /// Whether the wrong clock of a device was reported.
    pub fn was_clock_told(&self, device: &str) -> bool {
        let known = self.devices.get(device);
        known.is_some_and(|known| known.clock_told)
    }

    /// Sets whether the wrong clock of a device was reported.
    pub fn clock_told(&mut self, device: &str, told: bool) {
        if let Some(known) = self.devices.get_mut(device) {
            self.changed |= known.clock_told != told;
            known.clock_told = told;
        }
    }

    /// Devices whose clock is off, each with its offset, the largest first.
    pub fn clocks_off(&self, bound_ms: i64) -> Vec<(&str, i64)> {
        let mut off: Vec<(&str, i64)> = self
            .devices
            .iter()
            .filter(|(_, device)| device.clock.is_off(bound_ms))
            .filter_map(|(name, device)| Some((name.as_str(), device.clock.offset_ms()?)))
            .collect();
        off.sort_by_key(|(name, offset_ms)| (std::cmp::Reverse(offset_ms.saturating_abs()), *name));
        off
    }

    /// How far the clock of a device is behind, if known.
    pub fn clock_offset_ms(&self, device: &str) -> Option<i64> {
        match self.devices.get(device) {
            Some(known) => known.clock.offset_ms(),
            None => self.recalled.get(device)?.offset_ms,
        }
    }

    /// How far the memory of a device was read.
    pub fn cursor(&self, device: &str) -> Option<Cursor> {
        match self.devices.get(device) {
            Some(known) => known.cursor,
            None => self.recalled.get(device)?.cursor,
        }
    }

    /// Records that the memory of a device was read completely up to here.
    pub fn set_cursor(&mut self, device: &str, cursor: Cursor, now_ms: u64) {
        if let Some(known) = self.entry(device, now_ms) {
            known.cursor = Some(cursor);
            self.changed = true;
        }
    }

    /// Counts the devices by presence.
    pub fn count(&self) -> Count {
        let online = self
            .devices
            .values()
            .filter(|device| device.is_online())
            .count();
        Count {
            online,
            unknown: self.devices.len() - online,
        }
    }

    /// The unknown devices by name, at most this many, each with its last error.
    pub fn unknown(&self, at_most: usize) -> Vec<(String, Option<String>)> {
        let mut names: Vec<(&String, &Device)> = self
            .devices
            .iter()
            .filter(|(_, device)| !device.is_online())
            .collect();
        names.sort_by_key(|(name, _)| *name);
        names
            .into_iter()
            .take(at_most)
            .map(|(name, device)| {
                let said = || "它说自己离线 it said that it is offline".to_owned();
                let trouble = device.trouble.clone();
                (name.clone(), trouble.or_else(|| device.offline.then(said)))
            })
            .collect()
    }

    /// Messages of devices beyond the limit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

impl Device {
    /// Whether the device was heard in time and not reported as offline.
    fn is_online(&self) -> bool {
        self.presence == Presence::Online && !self.offline
    }

    /// Takes the recalled state from before the start; it is stale.
    fn take(&mut self, kept: Kept) {
        let stale = |(point, active)| {
            let point_now = Point {
                active,
                stale: true,
                at_ms: None,
                arrived_ms: 0,
            };
            (point, point_now)
        };
        self.points = kept.states.into_iter().map(stale).collect();
        if let Some(offset_ms) = kept.offset_ms {
            self.clock = DeviceClock::recalled(offset_ms);
        }
        self.clock_told = kept.clock_told;
        self.cursor = kept.cursor;
    }
}

/// Whether a state is older than the known one, if both have a time.
fn is_before(at_ms: Option<i64>, known_ms: Option<i64>) -> bool {
    at_ms
        .zip(known_ms)
        .is_some_and(|(at_ms, known_ms)| at_ms < known_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        Devices::new(Some(Duration::from_secs(30)))
    }

    fn staged(active: bool) -> Staged {
        Staged {
            device: "d".to_owned(),
            point: "p".to_owned(),
            active,
            at_ms: None,
            arrived_ms: 0,
        }
    }

    fn news(devices: &Devices, device: &str, point: &str, active: bool, initial: bool) -> News {
        let staged = Staged {
            device: device.to_owned(),
            point: point.to_owned(),
            active,
            at_ms: None,
            arrived_ms: 0,
        };
        devices.news(&staged, initial, false)
    }

    fn states(devices: &Devices) -> Vec<(&str, Vec<(String, bool)>)> {
        let kept = devices.kept();
        let mut states: Vec<_> = kept
            .into_iter()
            .map(|(device, kept)| (device, kept.states))
            .collect();
        states.sort();
        states
    }

    fn kept(states: impl IntoIterator<Item = (String, bool)>) -> Kept {
        Kept {
            states: states.into_iter().collect(),
            ..Kept::default()
        }
    }

    #[test]
    fn a_device_that_falls_silent_is_told_once_and_its_points_are_unknown_then() {
        let mut devices = devices();
        assert!(devices.heard("d", 0));
        assert!(!devices.heard("d", 10_000));
        devices.apply(staged(false), 10_000);
        assert_eq!(news(&devices, "d", "p", false, false), News::Repeated(None));
        assert!(devices.fallen_silent(39_999).is_empty());
        assert_eq!(devices.fallen_silent(40_000), ["d"]);
        // The spool refused: it is tried again.
        assert_eq!(devices.fallen_silent(41_000), ["d"]);
        devices.told_silent("d");
        assert!(devices.fallen_silent(100_000).is_empty());
        assert_eq!(
            devices.count(),
            Count {
                online: 0,
                unknown: 1
            }
        );
        assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
        assert!(devices.heard("d", 100_000));
        assert_eq!(
            devices.count(),
            Count {
                online: 1,
                unknown: 0
            }
        );
    }

    #[test]
    fn a_device_of_the_config_that_is_never_heard_is_told_too() {
        let mut devices = devices();
        devices.expect("d", 5);
        devices.trouble("d", "no route to host", 6);
        assert_eq!(
            devices.unknown(9),
            [("d".to_owned(), Some("no route to host".to_owned()))]
        );
        assert_eq!(devices.fallen_silent(30_005), ["d"]);
    }

    #[test]
    fn without_a_sign_of_life_nothing_is_told_of_silence() {
        let mut devices = Devices::new(None);
        devices.apply(staged(true), 0);
        let heard = Count {
            online: 1,
            unknown: 0,
        };
        assert_eq!(devices.count(), heard);
        assert!(!devices.heard("d", 0));
        assert!(devices.fallen_silent(u64::MAX).is_empty());
    }

    #[test]
    fn a_state_is_news_when_it_changes_and_at_the_beginning_only_if_it_was_known_otherwise() {
        let mut devices = devices();
        assert_eq!(news(&devices, "d", "p", true, true), News::Noted);
        assert_eq!(news(&devices, "d", "p", true, false), News::Changed);
        devices.apply(staged(true), 0);
        assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
        assert_eq!(news(&devices, "d", "p", false, true), News::Changed);
        // It was on when the device fell silent: that it still is on and that it is over are both news, from a
        // snapshot too.
        devices.heard("d", 0);
        devices.told_silent("d");
        assert_eq!(news(&devices, "d", "p", true, true), News::Changed);
        assert_eq!(news(&devices, "d", "p", false, true), News::Changed);
        // It was off: that it came on while nobody listened is news; that it is still off is only confirmed.
        devices.apply(staged(false), 0);
        devices.told_silent("d");
        assert_eq!(news(&devices, "d", "p", true, true), News::Changed);
        assert_eq!(news(&devices, "d", "p", false, true), News::Noted);
        assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
        devices.apply(staged(false), 0);
        assert_eq!(news(&devices, "d", "p", false, true), News::Repeated(None));
    }

    /// Restores, as after a start, devices with one point `p` each.
    fn started(before: &[(&str, bool)]) -> Devices {
        let mut devices = devices();
        devices.expect("expected", 0);
        for (device, active) in before {
            devices.recall((*device).to_owned(), kept([("p".to_owned(), *active)]));
        }
        devices
    }

    #[test]
    fn after_a_start_what_is_said_is_seen_from_what_was_before() {
        let mut devices = started(&[("d", true), ("expected", true), ("off", false)]);
        // This also holds before anything was heard of a device.
        for round in 0..2 {
            for device in ["d", "expected"] {
                assert_eq!(news(&devices, device, "p", false, true), News::Changed);
                assert_eq!(news(&devices, device, "p", true, true), News::Changed);
                assert_eq!(news(&devices, device, "p", true, false), News::Changed);
                assert_eq!(news(&devices, device, "other", true, true), News::Noted);
            }
            assert_eq!(news(&devices, "off", "p", true, true), News::Changed);
            assert_eq!(news(&devices, "off", "p", false, true), News::Noted);
            assert_eq!(news(&devices, "off", "p", false, false), News::Changed);
            if round == 0 {
                // Recalled devices that are not heard do not count: nobody waits for them.
                assert_eq!(devices.count().unknown, 1);
                assert_eq!(devices.fallen_silent(30_000), ["expected"]);
            }
            for device in ["d", "expected", "off"] {
                devices.heard(device, 30_000);
            }
        }
        devices.apply(staged(true), 0);
        assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
    }

    #[test]
    fn what_is_to_be_kept_has_changed_only_where_a_state_has() {
        let mut devices = started(&[("d", true), ("other", false)]);
        devices.heard("d", 0);
        devices.apply(staged(true), 0);
        assert!(!devices.is_changed());
        devices.told_silent("d");
        assert!(!devices.is_changed());
        devices.apply(staged(false), 0);
        assert!(devices.is_changed());
        let off = || vec![("p".to_owned(), false)];
        assert_eq!(states(&devices), [("d", off()), ("other", off())]);
        devices.set_changed(false);
        devices.apply(
            Staged {
                point: "new".to_owned(),
                ..staged(false)
            },
            0,
        );
        assert!(devices.is_changed());
    }

    #[test]
    fn what_was_known_before_gives_way_to_what_is_said_now() {
        let mut devices = devices();
        let many = |from: usize, to: usize| kept((from..to).map(|point| (point.to_string(), true)));
        devices.recall("gone".to_owned(), many(0, POINTS_MAX - 1));
        devices.recall("d".to_owned(), many(0, 5));
        assert_eq!(devices.points, POINTS_MAX);
        devices.heard("d", 0);
        devices.apply(staged(true), 0);
        // The one point of "d" that there was room for, and the new one.
        assert_eq!(devices.points, 2);
        assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
        assert_eq!(states(&devices).len(), 1);
    }

    #[test]
    fn what_is_known_stays_bounded() {
        let mut devices = devices();
        for number in 0..DEVICES_MAX + 10 {
            devices.heard(&number.to_string(), 0);
        }
        assert_eq!(devices.devices.len(), DEVICES_MAX);
        assert_eq!(devices.overflow(), 10);
        for point in 0..POINTS_MAX + 10 {
            let staged = Staged {
                device: "0".to_owned(),
                point: point.to_string(),
                active: true,
                at_ms: None,
                arrived_ms: 0,
            };
            devices.apply(staged, 0);
        }
        assert_eq!(devices.points, POINTS_MAX);
        // Beyond the limit a state is news each time: too many events rather than a missing one.
        assert_eq!(
            news(&devices, "0", &(POINTS_MAX + 5).to_string(), true, false),
            News::Changed
        );
    }

    #[test]
    fn a_state_in_flight_is_compared_with_and_is_known_only_when_it_lands() {
        let mut devices = devices();
        let flight = |batch| Flight { batch, way: None };
        devices.fly(flight(7), staged(true));
        let repeated = News::Repeated(Some(flight(7)));
        assert_eq!(news(&devices, "d", "p", true, false), repeated);
        assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
        // The spool refused the event.
        devices.land(7, 0, |_| false);
        assert_eq!(news(&devices, "d", "p", true, false), News::Changed);
        devices.fly(flight(8), staged(true));
        devices.fly(flight(9), staged(false));
        devices.land(8, 0, |_| true);
        let repeated = News::Repeated(Some(flight(9)));
        assert_eq!(news(&devices, "d", "p", false, false), repeated);
        devices.land(9, 0, |_| true);
        assert_eq!(news(&devices, "d", "p", false, false), News::Repeated(None));
    }

    #[test]
    fn what_arrives_out_of_order_is_compared_by_its_time() {
        let mut devices = devices();
        let at = |active, at_ms| Staged {
            at_ms: Some(at_ms),
            ..staged(active)
        };
        devices.apply(at(true, 100), 0);
        // It closed before that: an event, and the door stays open.
        assert_eq!(devices.news(&at(false, 50), false, false), News::Late);
        assert_eq!(
            devices.news(&at(true, 100), false, false),
            News::Repeated(None)
        );
        assert_eq!(
            devices.news(&at(true, 150), false, false),
            News::Repeated(None)
        );
        assert_eq!(devices.news(&at(false, 150), false, false), News::Changed);
    }

    #[test]
    fn a_clock_and_a_cursor_are_kept_over_a_start() {
        let receipt = Receipt {
            received_ms: 1_790_000_000_000,
            is_synchronised: true,
            bound_ms: 120_000,
        };
        let mut before = devices();
        before.sample_clock("d", receipt.received_ms - 960_000, &receipt, 0);
        let cursor = Cursor {
            second: 7,
            serial: 9,
        };
        before.set_cursor("d", cursor, 0);
        let mut after = devices();
        for (device, kept) in before.kept() {
            after.recall(device.to_owned(), kept);
        }
        assert_eq!(after.cursor("d"), Some(cursor));
        // Whether or not the device was heard, its replayed event is corrected.
        let claim = Claim::Ms(receipt.received_ms - 3_600_000);
        for _ in 0..2 {
            let moment = after.moment("d", &claim, Delivery::Replayed, &receipt);
            assert_eq!(moment.occurred_at_ms, receipt.received_ms - 2_640_000);
            after.heard("d", 0);
        }
        assert_eq!(after.clock_news("d", 120_000), Some(Some(960_000)));
        after.clock_told("d", true);
        assert_eq!(after.clock_news("d", 120_000), None);
        // Nor is it told again after another start, and that it is right is.
        let mut later = devices();
        for (device, kept) in after.kept() {
            later.recall(device.to_owned(), kept);
        }
        later.heard("d", 0);
        assert_eq!(later.clock_news("d", 120_000), None);
        later.sample_clock("d", receipt.received_ms, &receipt, 0);
        assert_eq!(later.clock_news("d", 120_000), Some(None));
        after.sample_clock("d", receipt.received_ms, &receipt, 0);
        assert_eq!(after.clock_news("d", 120_000), Some(None));
        assert!(after.clocks_off(120_000).is_empty());
    }
}
