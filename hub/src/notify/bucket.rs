//! A bucket of tokens, one a message. Pure: time is an argument.
//!
//! Robots count messages in any minute. Half of the rate may go at once, and the other half comes back
//! evenly, so no span of `per` ever sees more than `messages`.
use crate::centre::channels::Rate;

/// The state of one channel.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Messages that may go at once.
    burst: i64,
    /// Messages that come back within `per_ms`.
    refill: i64,
    per_ms: i64,
    /// In `per_ms`-ths of a message.
    credit: i64,
    at_ms: i64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now_ms: i64) -> Self {
        let burst = i64::from(rate.messages.div_ceil(2));
        let per_ms = rate.per.as_millis().max(1);
        Self {
            burst,
            refill: (i64::from(rate.messages) - burst).max(1),
            per_ms,
            credit: burst * per_ms,
            at_ms: now_ms,
        }
    }

    /// Messages that may go at once when it is full.
    pub fn burst(&self) -> usize {
        self.burst as usize
    }

    /// Messages that may go now.
    pub fn available(&mut self, now_ms: i64) -> usize {
        // A clock that was put back gives nothing, and takes nothing.
        let passed_ms = (now_ms - self.at_ms).max(0).min(self.burst * self.per_ms);
        self.at_ms = now_ms;
        self.credit = (self.credit + passed_ms * self.refill).min(self.burst * self.per_ms);
        (self.credit / self.per_ms) as usize
    }

    /// A message goes. Ask [`Bucket::available`] before.
    pub fn take(&mut self) {
        self.credit -= self.per_ms;
    }

    /// When so many will be there, from what [`Bucket::available`] has seen.
    pub fn ready_ms(&self, messages: usize) -> i64 {
        let missing = messages as i64 * self.per_ms - self.credit;
        self.at_ms + (missing.max(0) as u64).div_ceil(self.refill as u64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_shared::service::config::Span;

    fn bucket(messages: u32, per_s: u64) -> Bucket {
        let per = Span::from_secs(per_s);
        Bucket::new(Rate { messages, per }, 0)
    }

    #[test]
    fn no_minute_ever_sees_more_than_its_messages() {
        for messages in [1_u32, 2, 3, 20, 601] {
            let mut bucket = bucket(messages, 60);
            let mut sent: Vec<i64> = Vec::new();
            for now_ms in (0..600_000).step_by(50) {
                while bucket.available(now_ms) > 0 {
                    bucket.take();
                    sent.push(now_ms);
                }
            }
            for (first, at_ms) in sent.iter().enumerate() {
                let within = sent[first..]
                    .iter()
                    .filter(|other| *other - at_ms < 60_000)
                    .count();
                assert!(within <= messages as usize, "{messages}: {within}");
            }
            // And it does not stand still: half of the rate at least comes through.
            assert!(
                sent.len() >= (messages as usize / 2).max(1) * 9,
                "{messages}: {}",
                sent.len()
            );
        }
    }

    #[test]
    fn it_says_when_the_next_one_may_go() {
        let mut bucket = bucket(20, 60);
        assert_eq!((bucket.available(0), bucket.ready_ms(1)), (10, 0));
        for _ in 0..10 {
            bucket.take();
        }
        assert_eq!((bucket.available(0), bucket.ready_ms(1)), (0, 6_000));
        assert_eq!(bucket.available(5_999), 0);
        assert_eq!(bucket.available(6_000), 1);
        assert_eq!(bucket.ready_ms(2), 12_000);
        // The clock is put back by an hour: nothing is given, nothing is lost.
        assert_eq!(bucket.available(-3_600_000), 1);
        assert_eq!(bucket.available(-3_600_000 + 6_000), 2);
    }
}
