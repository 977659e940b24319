//! The next step of a channel, from its due notices, its rate and its failures. Pure.
//!
//! * Notices of severity `life` go first, one message each, and never wait behind others: lesser ones
//!   leave the last message of the bucket to them.
//! * If more notices are due than the bucket allows, they go as one digest: those of `life` together,
//!   the lesser ones together, never mixed.
//! * A failed try is repeated after [`PAUSE_FIRST`], then twice as long up to [`PAUSE_MAX`], with jitter;
//!   the whole channel pauses, for it is the peer that fails, not the notice.
//! * A notice is dead after [`TRIES_MIN`] tries and [`TRY_FOR_MS`], or at once when the peer refuses it.
use linli_shared::protocol::event::Severity;
use linli_shared::service::backoff::Backoff;
use std::time::Duration;

use super::bucket::Bucket;

/// Maximum number of notices of one digest; the next digest has the rest.
pub const DIGEST_MAX: usize = 200;
/// Pause before the first retry.
pub const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// The longest pause, and so the longest delay after a peer has come back.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A day.
pub const TRY_FOR_MS: i64 = 86_400_000;
/// Every notice has at least so many tries, also one that is old at its first.
pub const TRIES_MIN: i64 = 10;

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the first notices, as one message.
    Send(usize),
    /// Send nothing before this time.
    Wait(i64),
    /// Nothing is due.
    Idle,
}

/// Decides from the severities of due notices, gravest first, at most [`DIGEST_MAX`].
pub fn next(due: &[Severity], bucket: &mut Bucket, now_ms: i64) -> Step {
    if due.is_empty() {
        return Step::Idle;
    }
    let lives = due
        .iter()
        .take_while(|severity| **severity == Severity::Life)
        .count();
    // The last message of the bucket is reserved for `life`, if the bucket has more than one.
    let (waiting, kept) = if lives > 0 {
        (lives, 0)
    } else {
        (due.len(), usize::from(bucket.burst() > 1))
    };
    let room = bucket.available(now_ms).saturating_sub(kept);
    if room == 0 {
        Step::Wait(bucket.ready_ms(1 + kept))
    } else if waiting <= room {
        Step::Send(1)
    } else {
        Step::Send(waiting)
    }
}

/// The pause after so many failed tries in a row. `random` is any random number.
pub fn pause_ms(failures: u32, random: u64) -> i64 {
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
    // The pause no longer grows after a few doublings.
    for _ in 1..failures.min(16) {
        backoff.next(0);
    }
    backoff.next(random).as_millis() as i64
}

/// True if a notice with so many failed tries is given up.
pub fn is_given_up(tries: i64, created_ms: i64, now_ms: i64) -> bool {
    tries >= TRIES_MIN && now_ms.saturating_sub(created_ms) >= TRY_FOR_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::channels::Rate;
    use linli_shared::service::config::Span;

    const LIFE: Severity = Severity::Life;
    const ALARM: Severity = Severity::Alarm;

    /// Twenty a minute: ten at once, then one every six seconds.
    fn robot() -> Bucket {
        let per = Span::from_secs(60);
        Bucket::new(Rate { messages: 20, per }, 0)
    }

    /// Sends until it must wait; how many notices each message had, and until when it waits.
    fn run(mut due: Vec<Severity>, bucket: &mut Bucket, now_ms: i64) -> (Vec<usize>, Step) {
        let mut messages = Vec::new();
        loop {
            match next(&due, bucket, now_ms) {
                Step::Send(count) => {
                    bucket.take();
                    due.drain(..count);
                    messages.push(count);
                }
                step => return (messages, step),
            }
        }
    }

    #[test]
    fn what_the_bucket_allows_goes_one_by_one_and_a_burst_goes_as_one_digest() {
        assert_eq!(run(vec![], &mut robot(), 0), (vec![], Step::Idle));
        assert_eq!(
            run(vec![ALARM; 9], &mut robot(), 0),
            (vec![1; 9], Step::Idle)
        );
        assert_eq!(
            run(vec![ALARM; 10], &mut robot(), 0),
            (vec![10], Step::Idle)
        );
        assert_eq!(
            run(vec![ALARM; 200], &mut robot(), 0),
            (vec![200], Step::Idle)
        );
    }

    #[test]
    fn a_life_goes_first_and_lesser_ones_leave_it_the_last_message() {
        let mut bucket = robot();
        for _ in 0..9 {
            bucket.take();
        }
        // One message is left: nothing lesser may have it, a life may.
        assert_eq!(
            run(vec![ALARM; 3], &mut bucket, 0),
            (vec![], Step::Wait(6_000))
        );
        assert_eq!(
            run(vec![LIFE, ALARM, ALARM], &mut bucket, 0),
            (vec![1], Step::Wait(12_000))
        );
        // Two are back by then: the lesser ones go as one.
        assert_eq!(
            run(vec![ALARM; 2], &mut bucket, 12_000),
            (vec![2], Step::Idle)
        );
    }

    #[test]
    fn lives_and_lesser_ones_are_never_in_one_digest() {
        let due: Vec<Severity> = [vec![LIFE; 12], vec![ALARM; 30]].concat();
        assert_eq!(run(due, &mut robot(), 0), (vec![12, 30], Step::Idle));
        let due: Vec<Severity> = [vec![LIFE; 8], vec![ALARM; 30]].concat();
        let (messages, _) = run(due, &mut robot(), 0);
        assert_eq!(messages, [vec![1; 8], vec![30]].concat());
    }

    #[test]
    fn a_channel_of_one_message_a_minute_still_sends() {
        let per = Span::from_secs(60);
        let mut bucket = Bucket::new(Rate { messages: 1, per }, 0);
        assert_eq!(run(vec![ALARM], &mut bucket, 0), (vec![1], Step::Idle));
        assert_eq!(
            run(vec![ALARM; 2], &mut bucket, 0),
            (vec![], Step::Wait(60_000))
        );
        assert_eq!(
            run(vec![ALARM; 2], &mut bucket, 60_000),
            (vec![2], Step::Idle)
        );
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_a_notice_is_given_up_after_a_day() {
        let low: Vec<i64> = (1..8).map(|failures| pause_ms(failures, 0)).collect();
        assert_eq!(low, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(pause_ms(u32::MAX, u64::MAX), 60_000);
        assert!(!is_given_up(5_000, 0, TRY_FOR_MS - 1));
        assert!(is_given_up(10, 0, TRY_FOR_MS));
        // Found after two days of a hub that stood: it has its tries.
        assert!(!is_given_up(9, 0, 3 * TRY_FOR_MS));
    }
}
