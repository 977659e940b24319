//! The clock of one device, and when an event of it happened. Pure: receipt and time since boot are arguments.
//!
//! Receipt is a fact, a device's time is a claim. The offset of the device's clock is estimated from live messages as
//! receipt minus claim. A delay makes a sample larger and never smaller, so the estimate is the smallest sample.
//!
//! * A smaller sample counts at once: the message was held up less, or the clock was put forward.
//! * A sample that is larger by more than the bound is a message that was held up, or a clock that was put back. It is a
//!   clock when another one [`CONFIRM_AFTER_MS`] later says the same: what waited in a link arrives together.
//! * An estimate outlives silence and, in the state store, a start of the agent: messages of the past are corrected by it.
//!   Where somebody may have put the clock right meanwhile one that was off is in doubt, and the first live sample counts
//!   whatever it is.
//!
//! | message | gateway's clock | the device's clock | `occurred_at` | quality |
//! | --- | --- | --- | --- | --- |
//! | live or replayed, without a time | | | receipt | `agent` |
//! | live or replayed, a time that cannot be read | | | receipt | `unknown` |
//! | live | synchronised | within the bound | claim | `device` |
//! | live | synchronised | beyond the bound, or a claim that cannot be | receipt | `receipt` |
//! | live | not synchronised | | receipt, later put right by the hub | `unset` |
//! | replayed | synchronised | beyond the bound | claim + offset | `shifted` |
//! | replayed | | within the bound, or not known | claim | `device` |
//! | replayed, a claim that cannot be | | not known | receipt | `implausible` |
use linli_devices::time::{Claim, can_be};
use linli_shared::protocol::event::{ClockQuality, Delivery};

/// Least time between two samples that together prove a clock was put back, milliseconds.
pub const CONFIRM_AFTER_MS: u64 = 10_000;
/// A replayed claim further ahead of the receipt than this is not believed, milliseconds.
pub const AHEAD_MS_MAX: i64 = 5 * 60_000;
const HOUR_MS: i64 = 3_600_000;
/// An offset this close to whole hours is a wrong zone, milliseconds.
const ZONE_MS: i64 = 5 * 60_000;
/// Largest offset of a zone, hours.
const ZONE_HOURS_MAX: i64 = 14;

/// The estimated clock of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceClock {
    /// Receipt minus claim: positive where the clock is behind.
    offset_ms: Option<i64>,
    /// A larger sample, and when it was taken.
    put_back: Option<(u64, i64)>,
    /// The offset dates from before: the clock may have been set since.
    is_doubted: bool,
    /// Claim and assigned time of the last event whose claim was not trusted.
    last: Option<(i64, i64)>,
}

/// When an event happened, and the rule that decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970 UTC.
    pub occurred_at_ms: i64,
    /// The rule.
    pub clock: ClockQuality,
    /// The claim, if it differs.
    pub device_time_ms: Option<i64>,
}

/// The circumstances in which a message was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Receipt by the gateway's clock, milliseconds since 1970 UTC.
    pub received_ms: i64,
    /// The gateway's clock is synchronised.
    pub is_synchronised: bool,
    /// A larger offset is not trusted, milliseconds.
    pub bound_ms: i64,
}

impl DeviceClock {
    /// A clock with this last known offset.
    pub fn recalled(offset_ms: i64) -> Self {
        Self {
            offset_ms: Some(offset_ms),
            is_doubted: true,
            ..Self::default()
        }
    }

    /// Marks the offset as in doubt: the clock may have been set meanwhile.
    pub fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// Whether a live message has shown the offset, or a small one was known before.
    pub fn is_known(&self, bound_ms: i64) -> bool {
        self.offset_ms.is_some() && !(self.is_doubted && self.is_off(bound_ms))
    }

    /// Offset of the clock: positive if it is behind, negative if it is ahead.
    pub fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }

    /// Whether the clock is off by more than the bound.
    pub fn is_off(&self, bound_ms: i64) -> bool {
        self.offset_ms
            .is_some_and(|offset_ms| offset_ms.saturating_abs() > bound_ms)
    }

    /// Takes the claim of a live message as a sample. True: the clock was put forward or back by more than the bound.
    pub fn sample(&mut self, claim_ms: i64, receipt: &Receipt, now_ms: u64) -> bool {
        if !receipt.is_synchronised {
            return false;
        }
        let sample_ms = receipt.received_ms.saturating_sub(claim_ms);
        let Some(offset_ms) = self.offset_ms else {
            self.offset_ms = Some(sample_ms);
            return false;
        };
        let is_far = sample_ms.abs_diff(offset_ms) > receipt.bound_ms as u64;
        let was_off = offset_ms.saturating_abs() > receipt.bound_ms;
        if std::mem::take(&mut self.is_doubted) && was_off && is_far {
            self.offset_ms = Some(sample_ms);
            self.put_back = None;
            return true;
        }
        if sample_ms <= offset_ms {
            self.offset_ms = Some(sample_ms);
            self.put_back = None;
            return offset_ms.saturating_sub(sample_ms) > receipt.bound_ms;
        }
        if sample_ms.saturating_sub(offset_ms) <= receipt.bound_ms {
            self.put_back = None;
            return false;
        }
        match self.put_back {
            Some((since_ms, earlier_ms))
                if now_ms.saturating_sub(since_ms) >= CONFIRM_AFTER_MS
                    && sample_ms.abs_diff(earlier_ms) <= receipt.bound_ms as u64 =>
            {
                self.offset_ms = Some(sample_ms.min(earlier_ms));
                self.put_back = None;
                true
            }
            Some((_, earlier_ms)) if sample_ms.abs_diff(earlier_ms) <= receipt.bound_ms as u64 => {
                false
            }
            _ => {
                self.put_back = Some((now_ms, sample_ms));
                false
            }
        }
    }

    /// Decides when an event with this claim happened. Sample a live claim first.
    pub fn moment(&mut self, claim: &Claim<'_>, delivery: Delivery, receipt: &Receipt) -> Moment {
        let received_ms = receipt.received_ms;
        let at_receipt = |clock, device_time_ms| Moment {
            occurred_at_ms: received_ms,
            clock,
            device_time_ms,
        };
        let claim_ms = match claim {
            Claim::None => return at_receipt(ClockQuality::Agent, None),
            Claim::Unreadable(_) => return at_receipt(ClockQuality::Unknown, None),
            Claim::Ms(claim_ms) => *claim_ms,
        };
        let as_claimed = Moment {
            occurred_at_ms: claim_ms,
            clock: ClockQuality::Device,
            device_time_ms: None,
        };
        let is_off = receipt.is_synchronised && self.is_off(receipt.bound_ms);
        if delivery.is_live() {
            if !receipt.is_synchronised || is_off || !can_be(claim_ms) {
                return Moment {
                    occurred_at_ms: self.in_order(claim_ms, receipt),
                    ..at_receipt(ClockQuality::Receipt, Some(claim_ms))
                };
            }
            return as_claimed;
        }
        if is_off && let Some(offset_ms) = self.offset_ms {
            return Moment {
                occurred_at_ms: claim_ms.saturating_add(offset_ms).min(received_ms),
                clock: ClockQuality::Shifted,
                device_time_ms: Some(claim_ms),
            };
        }
        let is_ahead =
            receipt.is_synchronised && claim_ms > received_ms.saturating_add(AHEAD_MS_MAX);
        let is_past = delivery == Delivery::History || can_be(claim_ms);
        if is_ahead || !is_past {
            return at_receipt(ClockQuality::Implausible, Some(claim_ms));
        }
        as_claimed
    }

    /// Returns the receipt, unless the device's own clock shows that this event came before the last one.
    fn in_order(&mut self, claim_ms: i64, receipt: &Receipt) -> i64 {
        let before = self
            .last
            .filter(|(last_claim_ms, _)| {
                let earlier_ms = last_claim_ms.saturating_sub(claim_ms);
                earlier_ms > 0 && earlier_ms <= receipt.bound_ms
            })
            .map(|(last_claim_ms, last_ms)| last_ms - (last_claim_ms - claim_ms));
        if before.is_none() {
            self.last = Some((claim_ms, receipt.received_ms));
        }
        before.map_or(receipt.received_ms, |before_ms| {
            before_ms.min(receipt.received_ms)
        })
    }
}

/// Describes an offset in words, Chinese first. Whole hours are described as a wrong zone.
pub fn words(offset_ms: i64) -> String {
    let (zh, en) = if offset_ms > 0 {
        ("慢", "behind")
    } else {
        ("快", "ahead")
    };
    let off_ms = offset_ms.saturating_abs();
    let seconds = off_ms / 1000;
    // To the nearest: the claims of most devices are cut to whole seconds.
    let whole = |unit: i64| seconds.saturating_add(unit / 2) / unit;
    let (zh_span, en_span) = match seconds {
        ..120 => (format!("{seconds} 秒"), format!("{seconds} s")),
        120..7200 => (format!("{} 分", whole(60)), format!("{} min", whole(60))),
        7200..172_800 => (
            format!("{} 小时", whole(3600)),
            format!("{} h", whole(3600)),
        ),
        _ => (
            format!("{} 天", whole(86_400)),
            format!("{} days", whole(86_400)),
        ),
    };
    match zone_hours(offset_ms) {
        Some(hours) => format!(
            "{zh} {} 小时：设备的时区？ / {} h {en}: the device's zone?",
            hours.abs(),
            hours.abs()
        ),
        None => format!("{zh} {zh_span} / {en_span} {en}"),
    }
}

/// The hours of an offset that is a wrong zone.
fn zone_hours(offset_ms: i64) -> Option<i64> {
    let hours = (offset_ms + offset_ms.signum() * HOUR_MS / 2) / HOUR_MS;
    let is_near = (offset_ms - hours * HOUR_MS).abs() <= ZONE_MS;
    ((1..=ZONE_HOURS_MAX).contains(&hours.abs()) && is_near).then_some(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_790_000_000_000;
    const MINUTE_MS: i64 = 60_000;
    const BOUND_MS: i64 = 2 * MINUTE_MS;

    fn at(received_ms: i64) -> Receipt {
        Receipt {
            received_ms,
            is_synchronised: true,
            bound_ms: BOUND_MS,
        }
    }

    /// Takes a live message of a device whose clock is this far behind.
    fn live(clock: &mut DeviceClock, behind_ms: i64, received_ms: i64) -> Moment {
        let claim_ms = received_ms - behind_ms;
        let receipt = at(received_ms);
        clock.sample(claim_ms, &receipt, (received_ms - NOON_MS) as u64);
        clock.moment(&Claim::Ms(claim_ms), Delivery::Live, &receipt)
    }

    #[test]
    fn devices_times_and_what_becomes_of_them() {
        let years_ms = 3 * 365 * 24 * HOUR_MS;
        for (behind_ms, is_believed) in [
            (0, true),
            (500, true),
            (-90_000, true),
            (16 * MINUTE_MS, false),
            (8 * 24 * HOUR_MS, false),
            (8 * HOUR_MS, false),
            (-8 * HOUR_MS, false),
            (-years_ms, false),
            // 1970
            (NOON_MS, false),
        ] {
            let mut clock = DeviceClock::default();
            let moment = live(&mut clock, behind_ms, NOON_MS);
            let claim_ms = NOON_MS - behind_ms;
            let wanted = if is_believed {
                (claim_ms, ClockQuality::Device, None)
            } else {
                (NOON_MS, ClockQuality::Receipt, Some(claim_ms))
            };
            let found = (moment.occurred_at_ms, moment.clock, moment.device_time_ms);
            assert_eq!(found, wanted, "live, {behind_ms} behind");
            assert_eq!(clock.is_off(BOUND_MS), !is_believed);
            // An hour later it reports an event of half an hour ago.
            let then_ms = NOON_MS + HOUR_MS / 2;
            let moment = clock.moment(
                &Claim::Ms(then_ms - behind_ms),
                Delivery::Replayed,
                &at(NOON_MS + HOUR_MS),
            );
            let wanted = if is_believed {
                (then_ms - behind_ms, ClockQuality::Device)
            } else {
                (then_ms, ClockQuality::Shifted)
            };
            assert_eq!((moment.occurred_at_ms, moment.clock), wanted, "replayed");
        }
    }

    #[test]
    fn without_a_time_or_with_one_that_cannot_be_read_it_is_the_receipt() {
        let mut clock = DeviceClock::default();
        for delivery in [Delivery::Live, Delivery::Replayed, Delivery::History] {
            let none = clock.moment(&Claim::None, delivery, &at(NOON_MS));
            assert_eq!(
                (none.occurred_at_ms, none.clock),
                (NOON_MS, ClockQuality::Agent)
            );
            let unreadable = clock.moment(&Claim::Unreadable("x".into()), delivery, &at(NOON_MS));
            assert_eq!(
                (unreadable.occurred_at_ms, unreadable.clock),
                (NOON_MS, ClockQuality::Unknown)
            );
        }
    }

    #[test]
    fn a_clock_that_drifts_or_is_put_right_is_followed() {
        let mut clock = DeviceClock::default();
        let mut now_ms = NOON_MS;
        // The clock loses a second a minute: after three hours it is three minutes behind.
        let mut last = live(&mut clock, 0, now_ms);
        for minute in 1..=180 {
            now_ms = NOON_MS + minute * MINUTE_MS;
            last = live(&mut clock, minute * 1000, now_ms);
        }
        assert_eq!(last.clock, ClockQuality::Receipt);
        // NTP corrects it, and that counts at once.
        now_ms += MINUTE_MS;
        assert_eq!(live(&mut clock, 0, now_ms).clock, ClockQuality::Device);
        assert!(!clock.is_off(BOUND_MS));
        // Somebody puts it back by an hour: the second message shows that no message was delayed.
        now_ms += MINUTE_MS;
        assert_eq!(
            live(&mut clock, HOUR_MS, now_ms).clock,
            ClockQuality::Device
        );
        now_ms += MINUTE_MS;
        let moment = live(&mut clock, HOUR_MS, now_ms);
        assert_eq!(
            (moment.occurred_at_ms, moment.clock),
            (now_ms, ClockQuality::Receipt)
        );
    }

    #[test]
    fn what_a_link_held_up_keeps_the_devices_times() {
        let mut clock = DeviceClock::default();
        live(&mut clock, 200, NOON_MS);
        // Nine minutes of messages arrive together.
        let together_ms = NOON_MS + 10 * MINUTE_MS;
        for minute in 1..10 {
            let moment = live(&mut clock, (10 - minute) * MINUTE_MS, together_ms);
            assert_eq!(
                (moment.occurred_at_ms, moment.clock),
                (NOON_MS + minute * MINUTE_MS, ClockQuality::Device)
            );
        }
        assert!(!clock.is_off(BOUND_MS));
    }

    #[test]
    fn events_of_a_clock_that_is_off_keep_its_order() {
        let mut clock = DeviceClock::default();
        let behind_ms = 16 * MINUTE_MS;
        assert_eq!(live(&mut clock, behind_ms, NOON_MS).occurred_at_ms, NOON_MS);
        // In one batch the later event comes first.
        let second = live(&mut clock, behind_ms, NOON_MS + 5000);
        let first = live(&mut clock, behind_ms + 3000, NOON_MS + 5000);
        assert!(first.occurred_at_ms < second.occurred_at_ms);
        assert_eq!(second.occurred_at_ms, NOON_MS + 5000);
    }

    #[test]
    fn a_gateway_that_is_not_synchronised_judges_no_clock() {
        let mut clock = DeviceClock::default();
        let receipt = Receipt {
            is_synchronised: false,
            ..at(5000)
        };
        assert!(!clock.sample(NOON_MS, &receipt, 0));
        assert_eq!(clock.offset_ms(), None);
        let moment = clock.moment(&Claim::Ms(NOON_MS), Delivery::Live, &receipt);
        assert_eq!(
            (moment.occurred_at_ms, moment.device_time_ms),
            (5000, Some(NOON_MS))
        );
        let moment = clock.moment(&Claim::Ms(NOON_MS), Delivery::Replayed, &receipt);
        assert_eq!(
            (moment.occurred_at_ms, moment.clock),
            (NOON_MS, ClockQuality::Device)
        );
    }

    #[test]
    fn the_past_of_a_clock_that_nobody_knows_is_believed_where_it_can_be() {
        let mut clock = DeviceClock::default();
        let mut of = |claim_ms, delivery| {
            let moment = clock.moment(&Claim::Ms(claim_ms), delivery, &at(NOON_MS));
            (moment.occurred_at_ms, moment.clock)
        };
        let year_ago_ms = NOON_MS - 365 * 24 * HOUR_MS;
        let believed = (year_ago_ms, ClockQuality::Device);
        assert_eq!(of(year_ago_ms, Delivery::Replayed), believed);
        let not = (NOON_MS, ClockQuality::Implausible);
        assert_eq!(of(NOON_MS + AHEAD_MS_MAX + 1, Delivery::Replayed), not);
        assert_eq!(of(1000, Delivery::Replayed), not);
        assert_eq!(of(1000, Delivery::History), (1000, ClockQuality::Device));
        assert_eq!(of(NOON_MS + AHEAD_MS_MAX + 1, Delivery::History), not);
    }

    #[test]
    fn an_offset_of_whole_hours_is_said_to_be_one_of_zones() {
        assert!(words(8 * HOUR_MS + 2000).contains("慢 8 小时：设备的时区？"));
        assert!(words(-8 * HOUR_MS).contains("8 h ahead: the device's zone?"));
        assert_eq!(words(16 * MINUTE_MS), "慢 16 分 / 16 min behind");
        // A device says whole seconds, so its message seems to be a moment older.
        assert_eq!(words(-16 * MINUTE_MS + 700), "快 16 分 / 16 min ahead");
        assert!(words(-3 * 365 * 24 * HOUR_MS + 700).contains("快 1095 天"));
    }
}
