//! One device of a source: its presence, its points, its clock, and how far its memory was read. Pure: time is an
//! argument, milliseconds since boot.
//!
//! ```text
//!            heard                     nothing for silent_after
//! unknown ─────────▶ online ─────────────────────────────▶ silent ──heard──▶ online
//!    └────────────────── nothing for silent_after ─────────────▲
//! ```
//!
//! A device is *online* only while something of it was heard within `silent_after`. A silent device is reported once
//! (`device.offline`), and again when it is back. Unknown is never normal: its points are *stale* then.
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::device_clock::{DeviceClock, Receipt};
use super::states::{Point, is_before};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unknown,
    Online,
    Silent,
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
    pub is_clock_told: bool,
    /// How far its memory was read.
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

/// An unreported change of a device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockNews {
    /// The clock is off by this, milliseconds.
    Off(i64),
    /// The clock is right again.
    Restored,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    presence: Presence,
    /// Time of the last message, or since when one is expected.
    since_ms: u64,
    /// The device itself or its platform reported it as offline.
    is_offline: bool,
    /// Why the last connection to it failed or ended.
    trouble: Option<String>,
    points: HashMap<String, Point>,
    /// Its clock.
    pub clock: DeviceClock,
    /// Its wrong clock was reported.
    pub is_clock_told: bool,
    /// The same, as far as the events are durable.
    is_clock_told_durably: bool,
    /// How far its memory was read.
    pub cursor: Option<Cursor>,
}

impl Device {
    /// A device that is expected from now on.
    pub fn new(now_ms: u64) -> Self {
        Self {
            presence: Presence::Unknown,
            since_ms: now_ms,
            is_offline: false,
            trouble: None,
            points: HashMap::new(),
            clock: DeviceClock::default(),
            is_clock_told: false,
            is_clock_told_durably: false,
            cursor: None,
        }
    }

    /// Takes the state from before the start; its points are stale.
    pub fn recall(&mut self, kept: Kept) {
        let states = kept.states.into_iter();
        self.points = states
            .map(|(point, active)| (point, Point::recalled(active)))
            .collect();
        if let Some(offset_ms) = kept.offset_ms {
            self.clock = DeviceClock::recalled(offset_ms);
        }
        self.is_clock_told = kept.is_clock_told;
        self.is_clock_told_durably = kept.is_clock_told;
        self.cursor = kept.cursor;
    }

    /// The state to keep.
    pub fn kept(&self) -> Kept {
        let points = self.points.iter();
        Kept {
            states: points
                .map(|(point, known)| (point.clone(), known.active))
                .collect(),
            offset_ms: self.clock.offset_ms(),
            is_clock_told: self.is_clock_told_durably,
            cursor: self.cursor,
        }
    }

    /// Whether the device was heard in time and not reported as offline.
    pub fn is_online(&self) -> bool {
        self.presence == Presence::Online && !self.is_offline
    }

    /// Records a sign of life. True: the device was not online before.
    pub fn hear(&mut self, now_ms: u64) -> bool {
        self.since_ms = now_ms;
        self.trouble = None;
        self.is_offline = false;
        let was_away = self.presence != Presence::Online;
        self.presence = Presence::Online;
        was_away
    }

    /// Records whether an event reports the device as offline.
    pub fn set_offline(&mut self, is_offline: bool) {
        self.is_offline = is_offline;
    }

    /// Marks the device as online, in a source that does not watch silence.
    pub fn set_online(&mut self) {
        self.presence = Presence::Online;
    }

    /// Marks the presence as unknown: its next message reports it as online.
    pub fn set_unknown(&mut self) {
        self.presence = Presence::Unknown;
    }

    /// Marks the device as reported silent: its points become stale.
    pub fn set_silent(&mut self) {
        self.presence = Presence::Silent;
        for point in self.points.values_mut() {
            point.stale = true;
        }
    }

    /// Whether the device has been silent for this long and was not reported.
    pub fn is_overdue(&self, after_ms: u64, now_ms: u64) -> bool {
        self.presence != Presence::Silent && now_ms.saturating_sub(self.since_ms) >= after_ms
    }

    /// Records why a connection failed or ended.
    pub fn set_trouble(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// Why the device is not online, if known.
    pub fn why_offline(&self) -> Option<String> {
        let said = || "它说自己离线 it said that it is offline".to_owned();
        self.trouble.clone().or_else(|| self.is_offline.then(said))
    }

    /// Takes the claim of a live message as a sample of the clock. True: the estimate moved by more than the bound,
    /// or is the first; drift of a few seconds is not worth a write.
    pub fn sample_clock(&mut self, claim_ms: i64, receipt: &Receipt, now_ms: u64) -> bool {
        let before_ms = self.clock.offset_ms();
        if self.clock.sample(claim_ms, receipt, now_ms) {
            // Earlier times are of another clock: they say nothing about the order of later messages.
            for point in self.points.values_mut() {
                point.at_ms = None;
            }
        }
        match (before_ms, self.clock.offset_ms()) {
            (Some(before_ms), Some(after_ms)) => {
                after_ms.abs_diff(before_ms) > receipt.bound_ms as u64
            }
            (_, after_ms) => after_ms.is_some(),
        }
    }

    /// Records that the report of its clock is durable.
    pub fn set_clock_told(&mut self) {
        self.is_clock_told_durably = self.is_clock_told;
    }

    /// The change of the clock that was not reported.
    pub fn clock_news(&self, bound_ms: i64) -> Option<ClockNews> {
        match (self.clock.is_off(bound_ms), self.is_clock_told) {
            (true, false) => self.clock.offset_ms().map(ClockNews::Off),
            (false, true) => Some(ClockNews::Restored),
            _ => None,
        }
    }

    /// The state of a point.
    pub fn point(&self, point: &str) -> Option<Point> {
        self.points.get(point).copied()
    }

    /// Whether a state of it is known.
    pub fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    /// Replaces the state of a known point. `None`: the point is not known; true: it has changed.
    pub fn update(&mut self, point: &str, new: Point) -> Option<bool> {
        let known = self.points.get_mut(point)?;
        let is_changed = known.active != new.active;
        *known = new;
        Some(is_changed)
    }

    /// Adds a point.
    pub fn add(&mut self, point: String, new: Point) {
        self.points.insert(point, new);
    }

    /// Records a repeated state with a later time: a report about an earlier time is late from now on.
    pub fn confirm(&mut self, point: &str, at_ms: Option<i64>) {
        if let Some(known) = self.points.get_mut(point)
            && is_before(known.at_ms, at_ms)
        {
            known.at_ms = at_ms;
        }
    }
}
