//! The pause before a retry: doubling, capped, with jitter, so that two hundred agents that lost the same hub
//! do not return in step. Pure: the caller supplies the randomness.
use std::time::Duration;

/// The state of one series of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// Starts at `first` and doubles up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            tries: 0,
        }
    }

    /// The next wait: between half and all of the current step. `random` is any random number.
    pub fn next(&mut self, random: u64) -> Duration {
        let step = self
            .first
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(self.max);
        self.tries = (self.tries + 1).min(31);
        let half = step / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// Resets after a success: the next failure starts from the first step.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_jitter_and_stays_below_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        let low: Vec<u128> = (0..8).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(low, [50, 100, 200, 400, 800, 1500, 1500, 1500]);
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX).as_millis(), 100);
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= Duration::from_secs(3));
        }
    }
}
