//! What is known of each device of a source: whether it is heard, and the states of its points. Pure: time
//! comes as an argument, milliseconds since boot.
//!
//! ```text
//!            heard                     nothing for silent_after
//! unknown ─────────▶ online ─────────────────────────────▶ silent ──heard──▶ online
//!    └────────────────── nothing for silent_after ─────────────▲
//! ```
//!
//! * A device is *online* only while something of it was heard within `silent_after`. A silent one is told once
//!   (`device.offline`), and again when it is back. Unknown is never normal.
//! * What its points were before is *stale* then, and so is what was known before a start of the agent (`state_store`): what comes
//!   next of them is news again, however it is told. Only that what was off is still off, told at the beginning, is none.
//! * A device that the config names is expected from the start; others are known once they are heard.
//! * A state is known only after its event was durable ([`Devices::apply`]).
//! * At most [`DEVICES_MAX`] devices of a source, and [`POINTS_MAX`] points of them all, are known. What is beyond is
//!   still taken as events: a device without a watch over its silence, a state without a filter of repeats. What was known
//!   before the start of devices that were not heard since gives way first.

use linli_shared::protocol::limits::NAME_BYTES_MAX;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Devices of one source.
pub const DEVICES_MAX: usize = 4096;
/// Points of one source.
pub const POINTS_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unknown,
    Online,
    Silent,
}

/// What is known of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    active: bool,
    /// So it was before the device fell silent or the agent was started.
    stale: bool,
}

#[derive(Debug)]
struct Device {
    presence: Presence,
    /// Last heard, or expected since.
    since_ms: u64,
    points: HashMap<String, Point>,
    trouble: Option<String>,
}

/// What is known of all devices.
#[derive(Debug)]
pub struct Devices {
    silent_after_ms: Option<u64>,
    devices: HashMap<String, Device>,
    /// States of before the start, of devices that were neither heard nor expected since.
    recalled: BTreeMap<String, HashMap<String, bool>>,
    /// Points of all devices, recalled ones too.
    points: usize,
    /// A state is another than when it was last asked.
    changed: bool,
    /// Devices that were heard and are beyond the limit.
    overflow: u64,
}

/// A state that a message tells, to be known once its event is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Device.
    pub device: String,
    /// Point.
    pub point: String,
    /// On.
    pub active: bool,
}

/// What a told state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It was not known, or is another than before.
    Changed,
    /// It is as it was.
    Repeated,
    /// Told at the beginning: to be known, and no event.
    Noted,
}

/// How many devices stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Heard in time.
    pub online: usize,
    /// Not heard since the start, or not in time.
    pub unknown: usize,
}

impl Devices {
    /// `silent_after`: how long a device may say nothing; `None` where its protocol has no sign of life.
    pub fn new(silent_after: Option<Duration>) -> Self {
        Self {
            silent_after_ms: silent_after.map(|span| span.as_millis() as u64),
            devices: HashMap::new(),
            recalled: BTreeMap::new(),
            points: 0,
            changed: false,
            overflow: 0,
        }
    }

    /// The states of a device before the agent was started. To be told before anything is heard. At most [`DEVICES_MAX`]
    /// devices are taken that are not expected: else each start would add those that have gone meanwhile.
    pub fn recall(&mut self, device: String, states: impl IntoIterator<Item = (String, bool)>) {
        if device.len() > NAME_BYTES_MAX {
            return;
        }
        let room = POINTS_MAX - self.points;
        let states = states.into_iter();
        let states = states.filter(|(point, _)| point.len() <= NAME_BYTES_MAX);
        let states: HashMap<String, bool> = states.take(room).collect();
        let count = states.len();
        match self.devices.get_mut(&device) {
            Some(known) if known.points.is_empty() => {
                known.points = states.into_iter().map(stale).collect();
                self.points += count;
            }
            None if count > 0
                && self.recalled.len() < DEVICES_MAX
                && !self.recalled.contains_key(&device) =>
            {
                self.recalled.insert(device, states);
                self.points += count;
            }
            _ => {}
        }
    }

    /// Every state that is known or was before, by device.
    pub fn states(&self) -> Vec<(&str, Vec<(&str, bool)>)> {
        let known = self.devices.iter().map(|(name, device)| {
            let points = device.points.iter();
            let states = points.map(|(point, known)| (point.as_str(), known.active));
            (name.as_str(), states.collect())
        });
        let recalled = self.recalled.iter().map(|(name, states)| {
            let states = states.iter();
            let states = states.map(|(point, active)| (point.as_str(), *active));
            (name.as_str(), states.collect())
        });
        known
            .chain(recalled)
            .filter(|(_, states): &(&str, Vec<_>)| !states.is_empty())
            .collect()
    }

    /// Whether [`states`](Self::states) are others than those that are kept.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// They are kept now, or could not be.
    pub fn set_changed(&mut self, changed: bool) {
        self.changed = changed;
    }

    /// A device that the config names.
    pub fn expect(&mut self, device: &str, now_ms: u64) {
        self.entry(device, now_ms);
    }

    fn entry(&mut self, device: &str, now_ms: u64) -> Option<&mut Device> {
        if !self.devices.contains_key(device) {
            if self.devices.len() >= DEVICES_MAX {
                self.overflow += 1;
                return None;
            }
            let recalled = self.recalled.remove(device).unwrap_or_default();
            let new = Device {
                presence: Presence::Unknown,
                since_ms: now_ms,
                points: recalled.into_iter().map(stale).collect(),
                trouble: None,
            };
            self.devices.insert(device.to_owned(), new);
        }
        self.devices.get_mut(device)
    }

    /// A sign of life. True: it is to be told that the device is back, or there for the first time.
    pub fn heard(&mut self, device: &str, now_ms: u64) -> bool {
        let watched = self.silent_after_ms.is_some();
        let Some(device) = self.entry(device, now_ms) else {
            return false;
        };
        device.since_ms = now_ms;
        device.trouble = None;
        let back = device.presence != Presence::Online;
        device.presence = Presence::Online;
        back && watched
    }

    /// It could not be told that the device is there: it is told when it is heard next.
    pub fn not_told(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.presence = Presence::Unknown;
        }
    }

    /// The connection of a device ended, or could not be made. How long it may be away is another matter.
    pub fn trouble(&mut self, device: &str, why: &str, now_ms: u64) {
        if let Some(device) = self.entry(device, now_ms) {
            device.trouble = Some(why.to_owned());
        }
    }

    /// Devices that have said nothing for too long and are not told of yet.
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

    /// It was told that the device is silent: of its points it is known no more than what they were. One that was heard
    /// meanwhile says so next.
    pub fn told_silent(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.presence = Presence::Silent;
            for point in device.points.values_mut() {
                point.stale = true;
            }
        }
    }

    /// What is known of a point, or was before.
    fn point(&self, device: &str, point: &str) -> Option<Point> {
        if let Some(device) = self.devices.get(device) {
            return device.points.get(point).copied();
        }
        let active = *self.recalled.get(device)?.get(point)?;
        Some(Point {
            active,
            stale: true,
        })
    }

    /// What a state is, seen from what is known. One that is told at the beginning is news where it was known otherwise, or
    /// is on and was so before: nobody listened meanwhile.
    pub fn news(&self, device: &str, point: &str, active: bool, initial: bool) -> News {
        match self.point(device, point) {
            Some(known) if known.active == active && !known.stale => News::Repeated,
            Some(known) if initial && !active && !known.active => News::Noted,
            Some(_) => News::Changed,
            None if initial => News::Noted,
            // What is off, and was never heard to be on, may have been on while nobody listened.
            None => News::Changed,
        }
    }

    /// A state's event is durable.
    pub fn apply(&mut self, staged: Staged, now_ms: u64) {
        let watched = self.silent_after_ms.is_some();
        let Some(device) = self.entry(&staged.device, now_ms) else {
            return;
        };
        if !watched {
            // Nobody says that it is heard, and it was: else it would stand as unknown.
            device.presence = Presence::Online;
        }
        let new = Point {
            active: staged.active,
            stale: false,
        };
        if let Some(known) = device.points.get_mut(&staged.point) {
            let changed = known.active != new.active;
            *known = new;
            self.changed |= changed;
            return;
        }
        if self.points >= POINTS_MAX {
            let Some((_, states)) = self.recalled.pop_first() else {
                return;
            };
            self.points -= states.len();
        }
        if let Some(device) = self.devices.get_mut(&staged.device) {
            device.points.insert(staged.point, new);
            self.points += 1;
            self.changed = true;
        }
    }

    /// How many stand how.
    pub fn count(&self) -> Count {
        let online = self
            .devices
            .values()
            .filter(|device| device.presence == Presence::Online)
            .count();
        Count {
            online,
            unknown: self.devices.len() - online,
        }
    }

    /// The devices of which nothing is known, at most so many, by name, each with what went wrong last.
    pub fn unknown(&self, at_most: usize) -> Vec<(String, Option<String>)> {
        let mut names: Vec<(&String, &Device)> = self
            .devices
            .iter()
            .filter(|(_, device)| device.presence != Presence::Online)
            .collect();
        names.sort_by_key(|(name, _)| *name);
        names
            .into_iter()
            .take(at_most)
            .map(|(name, device)| (name.clone(), device.trouble.clone()))
            .collect()
    }

    /// Devices beyond the limit, counted each time that they are heard.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

/// A point as it was.
fn stale((point, active): (String, bool)) -> (String, Point) {
    let stale = Point {
        active,
        stale: true,
    };
    (point, stale)
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
        }
    }

    #[test]
    fn a_device_that_falls_silent_is_told_once_and_its_points_are_unknown_then() {
        let mut devices = devices();
        assert!(devices.heard("d", 0));
        assert!(!devices.heard("d", 10_000));
        devices.apply(staged(false), 10_000);
        assert_eq!(devices.news("d", "p", false, false), News::Repeated);
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
        assert_eq!(devices.news("d", "p", false, false), News::Changed);
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
        assert_eq!(devices.news("d", "p", true, true), News::Noted);
        assert_eq!(devices.news("d", "p", true, false), News::Changed);
        devices.apply(staged(true), 0);
        assert_eq!(devices.news("d", "p", true, false), News::Repeated);
        assert_eq!(devices.news("d", "p", false, true), News::Changed);
        // It was on when the device fell silent: both that it still is and that it is over are news, also at the beginning.
        devices.heard("d", 0);
        devices.told_silent("d");
        assert_eq!(devices.news("d", "p", true, true), News::Changed);
        assert_eq!(devices.news("d", "p", false, true), News::Changed);
        // It was off: that it came on while nobody listened is news, and that it is still off is known again.
        devices.apply(staged(false), 0);
        devices.told_silent("d");
        assert_eq!(devices.news("d", "p", true, true), News::Changed);
        assert_eq!(devices.news("d", "p", false, true), News::Noted);
        assert_eq!(devices.news("d", "p", false, false), News::Changed);
        devices.apply(staged(false), 0);
        assert_eq!(devices.news("d", "p", false, true), News::Repeated);
    }

    /// What is known again after a start, of devices with one point `p` each.
    fn started(before: &[(&str, bool)]) -> Devices {
        let mut devices = devices();
        devices.expect("expected", 0);
        for (device, active) in before {
            devices.recall((*device).to_owned(), [("p".to_owned(), *active)]);
        }
        devices
    }

    #[test]
    fn after_a_start_what_is_said_is_seen_from_what_was_before() {
        let mut devices = started(&[("d", true), ("expected", true), ("off", false)]);
        // Also before anything was heard of a device.
        for round in 0..2 {
            for device in ["d", "expected"] {
                assert_eq!(devices.news(device, "p", false, true), News::Changed);
                assert_eq!(devices.news(device, "p", true, true), News::Changed);
                assert_eq!(devices.news(device, "p", true, false), News::Changed);
                assert_eq!(devices.news(device, "other", true, true), News::Noted);
            }
            assert_eq!(devices.news("off", "p", true, true), News::Changed);
            assert_eq!(devices.news("off", "p", false, true), News::Noted);
            assert_eq!(devices.news("off", "p", false, false), News::Changed);
            if round == 0 {
                // Those that are not heard are no devices: nobody waits for them.
                assert_eq!(devices.count().unknown, 1);
                assert_eq!(devices.fallen_silent(30_000), ["expected"]);
            }
            for device in ["d", "expected", "off"] {
                devices.heard(device, 30_000);
            }
        }
        devices.apply(staged(true), 0);
        assert_eq!(devices.news("d", "p", true, false), News::Repeated);
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
        let mut states = devices.states();
        states.sort();
        assert_eq!(
            states,
            [("d", vec![("p", false)]), ("other", vec![("p", false)])]
        );
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
        let many = |from: usize, to: usize| (from..to).map(|point| (point.to_string(), true));
        devices.recall("gone".to_owned(), many(0, POINTS_MAX - 1));
        devices.recall("d".to_owned(), many(0, 5));
        assert_eq!(devices.points, POINTS_MAX);
        devices.heard("d", 0);
        devices.apply(staged(true), 0);
        // The one point of "d" that there was room for, and the new one.
        assert_eq!(devices.points, 2);
        assert_eq!(devices.news("d", "p", true, false), News::Repeated);
        assert_eq!(devices.states().len(), 1);
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
            };
            devices.apply(staged, 0);
        }
        assert_eq!(devices.points, POINTS_MAX);
        // Beyond the limit a state is news each time: too loud, never silent.
        assert_eq!(
            devices.news("0", &(POINTS_MAX + 5).to_string(), true, false),
            News::Changed
        );
    }
}
