//! Estimates how far an agent's wall clock is ahead of the hub's.
//!
//! A sample is the agent's time in a hello or a heartbeat minus the hub's at its arrival, with half of the
//! link's round trip added: so long it was on its way. Whatever else holds a frame back, a lost datagram or
//! a busy machine, makes a sample smaller and never larger. The estimate is therefore the largest of the
//! last [`SAMPLES_MAX`]: the one that was held back least. A clock that is put forward shows at once, one
//! that is put back once its older samples are gone.
use linli_shared::service::clock;
use std::collections::VecDeque;
use std::time::Duration;

use crate::clock_watch::ClockWatch;

/// Number of samples that count: a minute of default heartbeats.
const SAMPLES_MAX: usize = 4;

/// The estimate of one session.
#[derive(Debug, Default)]
pub struct Skew {
    samples: VecDeque<i64>,
    /// How often the hub's clock had been trusted: earlier samples are of another hub time.
    trusts: u64,
}

impl Skew {
    /// Takes the time of a frame that has just arrived; nothing while the hub doubts its own clock.
    pub fn hear(&mut self, hub: &ClockWatch, agent_ms: i64, round_trip: Duration) {
        let trusts = hub.trusts();
        if trusts != self.trusts {
            self.samples.clear();
            self.trusts = trusts;
        }
        if hub.doubt().is_none() {
            self.take(agent_ms, hub.now_ms(), round_trip);
        }
    }

    /// Takes a sample; an unset clock on either side gives none and clears the estimate.
    fn take(&mut self, agent_ms: i64, hub_ms: i64, round_trip: Duration) {
        if !clock::is_set(agent_ms) || !clock::is_set(hub_ms) {
            self.samples.clear();
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let on_its_way_ms = (round_trip / 2).as_millis() as i64;
        self.samples
            .push_back(agent_ms.saturating_sub(hub_ms) + on_its_way_ms);
    }

    /// Agent's time minus the hub's, milliseconds; `None` if unknown.
    pub fn estimate_ms(&self) -> Option<i64> {
        self.samples.iter().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_790_000_000_000;

    fn after(samples: &[i64]) -> Option<i64> {
        let mut skew = Skew::default();
        for sample_ms in samples {
            skew.take(NOON_MS + sample_ms, NOON_MS, Duration::ZERO);
        }
        skew.estimate_ms()
    }

    #[test]
    fn what_a_frame_is_held_back_does_not_count() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[-30_000]), Some(-30_000));
        assert_eq!(after(&[-30_000, 40, -9_000, -20]), Some(40));
        // A clock that is behind is so in every sample.
        assert_eq!(after(&[-60_000, -60_500, -90_000]), Some(-60_000));
    }

    #[test]
    fn a_step_forward_shows_at_once_and_one_back_after_four_samples() {
        assert_eq!(after(&[0, 0, 0, 0, 600_000]), Some(600_000));
        assert_eq!(after(&[600_000, 0, 0, 0]), Some(600_000));
        assert_eq!(after(&[600_000, 0, 0, 0, 0]), Some(0));
    }

    #[test]
    fn half_a_round_trip_is_the_way_and_clocks_that_are_not_set_say_nothing() {
        let mut skew = Skew::default();
        skew.take(NOON_MS, NOON_MS + 300, Duration::from_millis(600));
        assert_eq!(skew.estimate_ms(), Some(0));
        skew.take(5_000, NOON_MS, Duration::ZERO);
        assert_eq!(skew.estimate_ms(), None);
        skew.take(NOON_MS, 5_000, Duration::ZERO);
        assert_eq!(skew.estimate_ms(), None);
    }
}
