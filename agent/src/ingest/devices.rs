//! The devices of a source. Pure: time is an argument, milliseconds since boot.
//!
//! All state of a device is owned here ([`Device`]) and changes in one place; no access waits for a disk. Its changes
//! by a message are one call, [`Devices::receive`]; the states of its points become known once their events are
//! durable ([`Devices::land`], see [`super::states`]).
//!
//! * States from before a restart of the agent (`state_store`) are stale: their next report is news again, live or
//!   snapshot. The exception is a snapshot that confirms "off": it creates no event.
//! * A device that the config names is expected from the start; another one is known once it is heard.
//! * A source has at most [`DEVICES_MAX`] known devices, and [`POINTS_MAX`] points on all of them. Beyond these
//!   limits events are still taken, but the device's silence is not watched and the state's repeats are not filtered.
//!   State from before the start, of devices that were not heard since, is evicted first.
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use linli_shared::protocol::event::Delivery;
use linli_shared::protocol::limits::NAME_BYTES_MAX;
use std::collections::BTreeMap;
use std::time::Duration;

use super::device::{ClockNews, Cursor, Device, Kept};
use super::device_clock::{DeviceClock, Moment, Receipt};
use super::states::{self, Flight, InFlight, News, Point, Staged};
use linli_devices::time::Claim;

/// Largest number of devices of one source.
pub const DEVICES_MAX: usize = 4096;
/// Largest number of points of one source.
pub const POINTS_MAX: usize = 65_536;

/// The devices of a source.
#[derive(Debug)]
pub struct Devices {
    silent_after_ms: Option<u64>,
    devices: HashMap<String, Device>,
    /// State from before the start, of devices that were neither heard nor expected since.
    recalled: BTreeMap<String, Kept>,
    in_flight: InFlight,
    /// Number of points of all devices, recalled ones included.
    points: usize,
    /// A state has changed since the last query.
    changed: bool,
    /// Messages of devices beyond the limit.
    overflow: u64,
}

/// Number of devices by presence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Devices heard in time.
    pub online: usize,
    /// Devices not heard since the start, or not in time.
    pub unknown: usize,
}

/// What a message says about its device.
#[derive(Debug)]
pub struct Received<'a> {
    /// The device is alive. False: a platform reports it as offline, or nothing is known of it.
    pub is_alive: bool,
    /// A platform reports it as offline.
    pub is_offline: bool,
    /// Its time.
    pub claim: &'a Claim<'a>,
    /// Live or replayed.
    pub delivery: Delivery,
    /// Its time shows the device's clock: it is live and was not tried before.
    pub is_sample: bool,
    /// Its receipt.
    pub receipt: &'a Receipt,
}

/// The changes that a message makes to its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// The device is to be reported as back, or as online for the first time.
    pub is_back: bool,
    /// The change of its clock to report.
    pub clock: Option<ClockNews>,
    /// When the message's event happened.
    pub moment: Moment,
}

impl Devices {
    /// `silent_after`: longest silence of a device; `None` if its protocol has no sign of life.
    pub fn new(silent_after: Option<Duration>) -> Self {
        Self {
            silent_after_ms: silent_after.map(|span| span.as_millis() as u64),
            devices: HashMap::new(),
            recalled: BTreeMap::new(),
            in_flight: InFlight::default(),
            points: 0,
            changed: false,
            overflow: 0,
        }
    }

    /// Restores the state of a device from before the restart. Call it before anything is heard. At most
    /// [`DEVICES_MAX`] unexpected devices are taken; otherwise each start would add devices that are gone.
    pub fn recall(&mut self, device: String, mut kept: Kept) {
        if device.len() > NAME_BYTES_MAX {
            return;
        }
        kept.states
            .retain(|(point, _)| point.len() <= NAME_BYTES_MAX);
        kept.states.truncate(POINTS_MAX - self.points);
        let count = kept.states.len();
        match self.devices.get_mut(&device) {
            Some(known) if !known.has_points() => {
                known.recall(kept);
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
        let known = self.devices.iter();
        let known = known.map(|(name, device)| (name.as_str(), device.kept()));
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

    /// The device, known from now on. `None`: its name is too long for an event, or there are too many devices.
    fn entry(&mut self, device: &str, now_ms: u64) -> Option<&mut Device> {
        if device.len() > NAME_BYTES_MAX {
            return None;
        }
        let has_room = self.devices.len() < DEVICES_MAX;
        match self.devices.entry_ref(device) {
            EntryRef::Occupied(known) => Some(known.into_mut()),
            EntryRef::Vacant(vacant) if has_room => {
                let mut new = Device::new(now_ms);
                if let Some(kept) = self.recalled.remove(device) {
                    new.recall(kept);
                }
                Some(vacant.insert(new))
            }
            EntryRef::Vacant(_) => {
                self.overflow += 1;
                None
            }
        }
    }

    /// Records a message of a device, and decides when its event happened.
    pub fn receive(&mut self, device: &str, received: &Received<'_>, now_ms: u64) -> Changes {
        let Received {
            claim,
            delivery,
            receipt,
            ..
        } = *received;
        let is_watched = self.silent_after_ms.is_some();
        let is_alive = received.is_alive && !device.is_empty();
        let sample_ms = match claim {
            Claim::Ms(claim_ms) if received.is_sample => Some(*claim_ms),
            _ => None,
        };
        let known = if is_alive || received.is_offline || sample_ms.is_some() {
            self.entry(device, now_ms)
        } else {
            self.devices.get_mut(device)
        };
        let Some(known) = known else {
            return Changes {
                is_back: false,
                clock: None,
                moment: self.moment_of_unknown(device, received),
            };
        };
        known.set_offline(received.is_offline);
        let is_back = is_alive && known.hear(now_ms) && is_watched;
        let (mut is_moved, mut clock) = (false, None);
        if let Some(sample_ms) = sample_ms {
            if !is_watched {
                known.set_online();
            }
            is_moved = known.sample_clock(sample_ms, receipt, now_ms);
            clock = known.clock_news(receipt.bound_ms);
        }
        if let Some(news) = clock {
            known.is_clock_told = matches!(news, ClockNews::Off(_));
        }
        let moment = known.clock.moment(claim, delivery, receipt);
        self.changed |= is_moved;
        Changes {
            is_back,
            clock,
            moment,
        }
    }

    /// When an event of a device happened that was not heard yet, or that there is no room for.
    fn moment_of_unknown(&self, device: &str, received: &Received<'_>) -> Moment {
        let kept = self.recalled.get(device);
        let offset_ms = kept.and_then(|kept| kept.offset_ms);
        let mut clock = offset_ms.map_or_else(DeviceClock::default, DeviceClock::recalled);
        if received.delivery.is_live()
            && let Claim::Ms(claim_ms) = received.claim
        {
            // Each message is judged by itself.
            clock = DeviceClock::default();
            clock.sample(*claim_ms, received.receipt, 0);
        }
        clock.moment(received.claim, received.delivery, received.receipt)
    }

    /// Records that a part of a panel is reported as offline, or not.
    pub fn set_offline(&mut self, device: &str, is_offline: bool, now_ms: u64) {
        let known = match is_offline {
            true => self.entry(device, now_ms),
            false => self.devices.get_mut(device),
        };
        if let Some(known) = known {
            known.set_offline(is_offline);
        }
    }

    /// Records that the device could not be reported as online: its next message tries again.
    pub fn not_told(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.set_unknown();
        }
    }

    /// Records that a change of the device's clock could not be reported: its next message tries again.
    pub fn clock_not_told(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.is_clock_told = !device.is_clock_told;
        }
    }

    /// Records that the report of a device's clock is durable.
    pub fn clock_told(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.set_clock_told();
            self.changed = true;
        }
    }

    /// Records that the connection of a device failed or ended. This does not affect `silent_after`.
    pub fn trouble(&mut self, device: &str, why: &str, now_ms: u64) {
        if let Some(device) = self.entry(device, now_ms) {
            device.set_trouble(why);
        }
    }

    /// Devices that have been silent for too long and are not reported yet.
    pub fn fallen_silent(&self, now_ms: u64) -> Vec<String> {
        let Some(after_ms) = self.silent_after_ms else {
            return Vec::new();
        };
        let devices = self.devices.iter();
        devices
            .filter(|(_, device)| device.is_overdue(after_ms, now_ms))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Records that the device was reported as silent. A device that was heard meanwhile is reported as back next.
    pub fn told_silent(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.set_silent();
        }
    }

    /// The known or recalled state of a point.
    fn point(&self, device: &str, point: &str) -> Option<Point> {
        if let Some(device) = self.devices.get(device) {
            return device.point(point);
        }
        let states = &self.recalled.get(device)?.states;
        let (_, active) = states.iter().find(|(known, _)| known == point)?;
        Some(Point::recalled(*active))
    }

    /// Compares a reported state with the known one, or with the one in flight; see [`states::compare`].
    pub fn news(&self, staged: &Staged, initial: bool, is_retry: bool) -> News {
        let (known, flight) = match self.in_flight.newest(&staged.device, &staged.point) {
            Some((flying, flight)) => (Some(flying), Some(flight)),
            None => (self.point(&staged.device, &staged.point), None),
        };
        states::compare(staged, known, flight, initial, is_retry)
    }

    /// Records a repeated state with a later time.
    pub fn confirm(&mut self, staged: &Staged) {
        if let Some(device) = self.devices.get_mut(&staged.device) {
            device.confirm(&staged.point, staged.at_ms);
        }
    }

    /// Marks a state as in flight: its event is on its way into the spool, in this batch.
    pub fn fly(&mut self, flight: Flight, staged: Staged) {
        self.in_flight.add(flight, staged);
    }

    /// Ends a batch, stored or not: its states in flight become known if `is_durable` returns true.
    pub fn land(&mut self, batch: u64, now_ms: u64, mut is_durable: impl FnMut(&Staged) -> bool) {
        for staged in self.in_flight.landed(batch) {
            if is_durable(&staged) {
                self.apply(staged, now_ms);
            }
        }
    }

    /// Records a state whose event is durable.
    pub fn apply(&mut self, staged: Staged, now_ms: u64) {
        let is_watched = self.silent_after_ms.is_some();
        let Some(device) = self.entry(&staged.device, now_ms) else {
            return;
        };
        if !is_watched {
            // The device was heard although nothing recorded it; without this it would stay unknown.
            device.set_online();
        }
        let new = Point::from(&staged);
        if let Some(is_changed) = device.update(&staged.point, new) {
            self.changed |= is_changed;
            return;
        }
        if self.points >= POINTS_MAX {
            let Some((_, kept)) = self.recalled.pop_first() else {
                return;
            };
            self.points -= kept.states.len();
        }
        if let Some(device) = self.devices.get_mut(&staged.device) {
            device.add(staged.point, new);
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
        let devices = self.devices.values();
        let online = devices.filter(|device| device.is_online()).count();
        Count {
            online,
            unknown: self.devices.len() - online,
        }
    }

    /// The unknown devices by name, at most this many, each with its last error.
    pub fn unknown(&self, at_most: usize) -> Vec<(String, Option<String>)> {
        let devices = self.devices.iter();
        let mut away: Vec<_> = devices.filter(|(_, device)| !device.is_online()).collect();
        away.sort_by_key(|(name, _)| *name);
        away.truncate(at_most);
        away.into_iter()
            .map(|(name, device)| (name.clone(), device.why_offline()))
            .collect()
    }

    /// Messages of devices beyond the limit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

#[cfg(test)]
mod tests;
