//! The events of one key of one rule, ordered by time.
//!
//! Events of the same time are ordered by their identity, so the order is independent of their arrival. An
//! eviction for room or age raises `floor_ms`; nothing can be decided before it any more.
use linli_shared::protocol::event::Delivery;
use linli_shared::protocol::ids::Lane;
use std::sync::Arc;

/// Maximum number of steps of a rule, including `until` and `unless`.
pub const STEPS_MAX: usize = 16;

/// An agent's lane in one epoch of its spool, with the agent's site.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Agent.
    pub agent: Arc<str>,
    /// Lane of the spool.
    pub lane: Lane,
    /// Epoch of the spool.
    pub epoch: u64,
    /// Site of the agent.
    pub site: Arc<str>,
}

/// An event as a rule stores it. Small: a key can hold thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Time of the event, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Its sequence number.
    pub sequence: u64,
    /// Number of its [`Source`].
    pub source: u32,
    /// Hash of the value that `distinct` counts.
    pub value: u32,
    /// When its agent received it, whole seconds since 1970 UTC.
    pub received_s: u32,
    /// The steps that it fits, one bit each.
    pub steps: u16,
    /// Whether it was reported live.
    pub delivery: Delivery,
}

// Thousands of them are stored per key.
const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    /// True if it fits this step.
    pub fn is(&self, step: usize) -> bool {
        self.steps & (1 << step) != 0
    }

    /// When its agent received it, milliseconds since 1970 UTC; `None` if it was not reported live.
    pub fn live_ms(&self) -> Option<i64> {
        self.delivery
            .is_live()
            .then(|| i64::from(self.received_s) * 1000)
    }

    /// True if it fits one of these steps.
    pub fn any(&self, steps: u16) -> bool {
        self.steps & steps != 0
    }
}

/// The result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Inserted at this index.
    At(usize),
    /// The event exists already.
    Known,
    /// Older than the evicted part.
    TooOld,
}

/// The events of one key.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    entries: Vec<Entry>,
    /// All steps that an entry fits, or an evicted one fitted.
    pub steps: u16,
    /// The time of its timer, milliseconds since 1970 UTC; 0: none.
    pub armed_ms: i64,
    /// The time of the newest evicted event.
    floor_ms: Option<i64>,
}

impl Timeline {
    /// A timeline of events that are in order.
    #[cfg(test)]
    pub fn of(entries: Vec<Entry>) -> Self {
        let steps = entries.iter().fold(0, |steps, entry| steps | entry.steps);
        Self {
            entries,
            steps,
            ..Self::default()
        }
    }

    /// The events, ordered by time.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Events up to this time were evicted; `None` if none was.
    pub fn floor_ms(&self) -> Option<i64> {
        self.floor_ms
    }

    /// Index of the first event at or after a time.
    pub fn at_or_after(&self, at_ms: i64) -> usize {
        self.entries.partition_point(|entry| entry.at_ms < at_ms)
    }

    /// Inserts an event at its time. `sources` orders events of the same time.
    pub fn insert(&mut self, entry: Entry, sources: &[Source]) -> Placed {
        if self
            .floor_ms
            .is_some_and(|floor_ms| entry.at_ms <= floor_ms)
        {
            return Placed::TooOld;
        }
        let in_order = self
            .entries
            .last()
            .is_none_or(|last| last.at_ms < entry.at_ms);
        let at = if in_order {
            self.entries.len()
        } else {
            let identity = |entry: &Entry| {
                let source = &sources[entry.source as usize];
                (entry.at_ms, source, entry.sequence)
            };
            let wanted = identity(&entry);
            match self
                .entries
                .binary_search_by(|other| identity(other).cmp(&wanted))
            {
                Ok(_) => return Placed::Known,
                Err(at) => at,
            }
        };
        self.entries.insert(at, entry);
        self.steps |= entry.steps;
        Placed::At(at)
    }

    /// Removes one event that no longer matters.
    pub fn remove(&mut self, at: usize) {
        self.entries.remove(at);
    }

    /// Evicts the first `count` events.
    pub fn forget_first(&mut self, count: usize) {
        if let Some(last) = count.checked_sub(1).and_then(|last| self.entries.get(last)) {
            self.floor_ms = Some(last.at_ms);
            self.entries.drain(..count);
        }
    }

    /// Events up to this time were not read.
    pub fn begin_at(&mut self, at_ms: i64) {
        self.floor_ms = Some(at_ms);
    }

    /// Evicts the last event.
    pub fn forget_last(&mut self) {
        self.entries.pop();
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.entries.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(agent: &str) -> Source {
        Source {
            agent: agent.into(),
            lane: Lane::Urgent,
            epoch: 1,
            site: "s".into(),
        }
    }

    fn entry(at_ms: i64, source: u32, sequence: u64) -> Entry {
        Entry {
            at_ms,
            sequence,
            source,
            value: 0,
            received_s: 0,
            steps: 1,
            delivery: Delivery::Live,
        }
    }

    #[test]
    fn the_order_is_by_time_and_identity_and_the_same_comes_once() {
        let sources = [source("b"), source("a")];
        let mut entries = [
            entry(5, 0, 1),
            entry(5, 1, 9),
            entry(5, 1, 2),
            entry(1, 0, 3),
        ];
        let mut timelines = Vec::new();
        for turn in 0..entries.len() {
            entries.rotate_left(turn);
            let mut timeline = Timeline::default();
            for entry in entries {
                assert!(matches!(timeline.insert(entry, &sources), Placed::At(_)));
                assert_eq!(timeline.insert(entry, &sources), Placed::Known);
            }
            timelines.push(timeline.entries().to_vec());
        }
        let wanted = vec![
            entry(1, 0, 3),
            entry(5, 1, 2),
            entry(5, 1, 9),
            entry(5, 0, 1),
        ];
        assert!(timelines.iter().all(|timeline| *timeline == wanted));
    }

    #[test]
    fn what_was_let_go_of_is_not_taken_again() {
        let sources = [source("a")];
        let mut timeline = Timeline::of(vec![entry(1, 0, 1), entry(2, 0, 2), entry(3, 0, 3)]);
        timeline.forget_first(2);
        assert_eq!(timeline.floor_ms(), Some(2));
        assert_eq!(timeline.insert(entry(2, 0, 2), &sources), Placed::TooOld);
        assert_eq!(timeline.insert(entry(4, 0, 4), &sources), Placed::At(1));
    }
}
