//! An agent's claims about itself, bounded by what is possible. Pure.
//!
//! Strangers may have physical access to a gateway. Its time and its numbers decide when rules are sure that an event did not
//! happen, so the hub believes them only within the range of an honest agent.
use linli_shared::protocol::ids::Sequence;
use std::time::Duration;

use linli_store::agents::WATERMARK_AHEAD_MS_MAX;

/// Maximum rate of an agent, events per second, in memory on a fast machine.
const EVENTS_PER_SECOND_MAX: u64 = 1_000_000;
/// Sequences are below this: a thousand events a second for thirty-four years.
const SEQUENCE_MAX: u64 = 1 << 40;

/// A bounded claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<T> {
    /// The value after the bound.
    pub taken: T,
    /// The claim exceeded the bound.
    pub is_clamped: bool,
}

/// The watermark of an agent by the hub's clock: never beyond the present.
pub fn watermark_ms(told_ms: i64, agent_ahead_ms: i64, hub_ms: i64) -> Claim<i64> {
    let hub_told_ms = told_ms.saturating_sub(agent_ahead_ms);
    let taken = hub_told_ms.min(hub_ms.saturating_add(WATERMARK_AHEAD_MS_MAX));
    Claim {
        taken,
        is_clamped: taken != hub_told_ms,
    }
}

/// The end of a lost range: no agent loses events that it never had. `hello_next` is its next sequence at its hello, so long ago.
pub fn lost_end(end: Sequence, hello_next: Sequence, since_hello: Duration) -> Claim<Sequence> {
    let since = EVENTS_PER_SECOND_MAX.saturating_mul(since_hello.as_secs().saturating_add(1));
    let last = hello_next.0.saturating_add(since).min(SEQUENCE_MAX);
    Claim {
        taken: Sequence(end.0.min(last)),
        is_clamped: end.0 > last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_is_never_beyond_the_present() {
        let hub_ms = 1_790_000_000_000;
        for (told_ms, ahead_ms, taken, is_clamped) in [
            (hub_ms, 0, hub_ms, false),
            (hub_ms + 5_000, 0, hub_ms + 5_000, false),
            (hub_ms + 5_001, 0, hub_ms + 5_000, true),
            // An agent whose clock is an hour ahead.
            (hub_ms + 3_600_000, 3_600_000, hub_ms, false),
            // The year 9999, and beyond all years.
            (253_402_300_799_000, 0, hub_ms + 5_000, true),
            (i64::MAX, -7, hub_ms + 5_000, true),
            (i64::MIN, 7, i64::MIN, false),
        ] {
            let claim = watermark_ms(told_ms, ahead_ms, hub_ms);
            assert_eq!(
                (claim.taken, claim.is_clamped),
                (taken, is_clamped),
                "{told_ms}"
            );
        }
    }

    #[test]
    fn no_agent_loses_what_it_never_had() {
        let hello_next = Sequence(10);
        for (end, seconds, taken, is_clamped) in [
            (10, 0, 10, false),
            (1_000_010, 0, 1_000_010, false),
            (1_000_011, 0, 1_000_010, true),
            (1_000_011, 1, 1_000_011, false),
            (u64::MAX, 0, 1_000_010, true),
            (u64::MAX, u64::MAX, SEQUENCE_MAX, true),
        ] {
            let claim = lost_end(Sequence(end), hello_next, Duration::from_secs(seconds));
            assert_eq!(
                (claim.taken.0, claim.is_clamped),
                (taken, is_clamped),
                "{end}"
            );
        }
        let claim = lost_end(Sequence(u64::MAX), Sequence(u64::MAX), Duration::ZERO);
        assert_eq!(claim.taken.0, SEQUENCE_MAX);
    }
}
