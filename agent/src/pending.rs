//! Events that have been stamped with their time of receipt and are not in the spool yet.
//!
//! The uplink reports to the hub the time up to which everything has been received. The spool knows that time for its
//! own events; a push that is being mapped, or waits for its sync, is tracked here. Times are taken inside the lock,
//! so that no event can get a time that was already reported as complete. Imports are left out: they contain past
//! events of any time.
use linli_shared::service::clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cloneable; all clones share their state.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<BTreeMap<i64, usize>>>);

/// A time of receipt whose events are on their way into the spool as long as this lives.
pub struct Stamp {
    pending: Pending,
    received_ms: i64,
}

impl Pending {
    /// Stamps events that are received now.
    pub fn stamp(&self) -> Stamp {
        self.stamp_by(clock::wall_ms)
    }

    /// Stamps an event on its way without which the hub may miss events since `from_ms`.
    pub fn stamp_at(&self, from_ms: i64) -> Stamp {
        self.stamp_by(|| from_ms)
    }

    /// The current time, and the oldest pending time of receipt, if any.
    pub fn look(&self) -> (i64, Option<i64>) {
        let times = self.times();
        (clock::wall_ms(), times.keys().next().copied())
    }

    fn stamp_by(&self, now_ms: impl FnOnce() -> i64) -> Stamp {
        let mut times = self.times();
        let received_ms = now_ms();
        *times.entry(received_ms).or_default() += 1;
        Stamp {
            pending: self.clone(),
            received_ms,
        }
    }

    fn times(&self) -> MutexGuard<'_, BTreeMap<i64, usize>> {
        // The counts are valid after a panic elsewhere: each change is one statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    /// Milliseconds since 1970 UTC.
    pub fn received_ms(&self) -> i64 {
        self.received_ms
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        let mut times = self.pending.times();
        if let Some(count) = times.get_mut(&self.received_ms) {
            *count -= 1;
            if *count == 0 {
                times.remove(&self.received_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_time_on_its_way_is_known_until_its_last_stamp_is_gone() {
        let pending = Pending::default();
        assert_eq!(pending.look().1, None);
        let first = pending.stamp_by(|| 5);
        let second = pending.stamp_by(|| 5);
        let later = pending.stamp_by(|| 9);
        assert_eq!(first.received_ms(), 5);
        drop(first);
        assert_eq!(pending.look().1, Some(5));
        drop(second);
        assert_eq!(pending.look().1, Some(9));
        drop(later);
        assert_eq!(pending.look().1, None);
    }
}
