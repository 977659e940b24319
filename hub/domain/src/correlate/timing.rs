//! The times of an event as rules use them: its time on a timeline, and its receipt. Pure.
//!
//! A device's time is a claim, the receipt is a fact. Agents derive `occurred_at_ms` from both; older agents
//! write the claim there. This module replaces an impossible time by the receipt, so no event is lost because
//! of its time.
use linli_shared::protocol::event::{Delivery, Event};
use linli_shared::service::clock;

use super::{AHEAD_MS_MAX, HORIZON_MS};

/// The times of one event, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time on the timelines.
    pub at_ms: i64,
    /// When its agent received it.
    pub received_ms: i64,
    /// Whether it was reported live.
    pub delivery: Delivery,
    /// The claimed time that `received_ms` replaced: a live event cannot be so old.
    too_old_ms: Option<i64>,
}

impl Timing {
    /// The timing of a wait that begins at `at_ms`.
    pub fn since(at_ms: i64) -> Self {
        Self {
            at_ms,
            received_ms: at_ms,
            delivery: Delivery::Live,
            too_old_ms: None,
        }
    }

    /// The timing of an event. It depends on the event alone, not on when or in which order events are read.
    pub fn of(event: &Event) -> Self {
        let (at_ms, received_ms) = (event.occurred_at_ms, event.received_at_ms);
        let delivery = event.delivery;
        if received_ms <= 0 {
            return Self {
                delivery,
                ..Self::since(at_ms)
            };
        }
        let is_ahead = at_ms > received_ms.saturating_add(AHEAD_MS_MAX);
        let is_impossible = match delivery {
            Delivery::Live => at_ms < received_ms.saturating_sub(HORIZON_MS),
            Delivery::Replayed => !clock::is_set(at_ms),
            // Imported history may be of any year.
            Delivery::History => false,
        };
        Self {
            at_ms: if is_ahead || is_impossible {
                received_ms
            } else {
                at_ms
            },
            received_ms,
            delivery,
            too_old_ms: (delivery.is_live() && is_impossible).then_some(at_ms),
        }
    }

    /// The timing for rules that look back for weeks. A live event that is too old was imported by an older
    /// agent, which does not mark imports: it keeps its claimed time and makes nothing fresh.
    pub fn looking_back(self) -> Self {
        match self.too_old_ms {
            Some(at_ms) => Self {
                at_ms,
                delivery: Delivery::Replayed,
                ..self
            },
            None => self,
        }
    }

    /// The receipt in whole seconds, rounded up, as timelines store it.
    pub fn received_s(&self) -> u32 {
        u32::try_from(self.received_ms.saturating_add(999) / 1000)
            .unwrap_or(if self.received_ms < 0 { 0 } else { u32::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;
    const DAY_MS: i64 = 1440 * MINUTE_MS;
    const RECEIVED_MS: i64 = 1_790_000_000_000;

    #[test]
    fn a_time_that_cannot_be_is_the_receipt_and_any_other_stays() {
        let claims = [
            ("right", RECEIVED_MS),
            ("16 min slow", RECEIVED_MS - 16 * MINUTE_MS),
            ("8 h slow", RECEIVED_MS - 480 * MINUTE_MS),
            ("8 days slow", RECEIVED_MS - 8 * DAY_MS),
            ("5 min ahead", RECEIVED_MS + 5 * MINUTE_MS),
            ("6 min ahead", RECEIVED_MS + 6 * MINUTE_MS),
            ("3 years ahead", RECEIVED_MS + 1095 * DAY_MS),
            ("1970", 12),
        ];
        for (delivery, kept) in [
            (
                Delivery::Live,
                &["right", "16 min slow", "8 h slow", "5 min ahead"][..],
            ),
            (
                Delivery::Replayed,
                &[
                    "right",
                    "16 min slow",
                    "8 h slow",
                    "8 days slow",
                    "5 min ahead",
                ],
            ),
            (
                Delivery::History,
                &[
                    "right",
                    "16 min slow",
                    "8 h slow",
                    "8 days slow",
                    "5 min ahead",
                    "1970",
                ],
            ),
        ] {
            for (name, claim_ms) in claims {
                let event = Event {
                    occurred_at_ms: claim_ms,
                    received_at_ms: RECEIVED_MS,
                    delivery,
                    ..Event::default()
                };
                let wanted = if kept.contains(&name) {
                    claim_ms
                } else {
                    RECEIVED_MS
                };
                assert_eq!(Timing::of(&event).at_ms, wanted, "{name} {delivery:?}");
            }
        }
    }

    #[test]
    fn what_an_older_agent_imports_as_live_is_old_to_rules_that_look_back() {
        let of = |occurred_at_ms| {
            let timing = Timing::of(&Event {
                occurred_at_ms,
                received_at_ms: RECEIVED_MS,
                ..Event::default()
            });
            let back = timing.looking_back();
            (timing.at_ms, back.at_ms, back.delivery)
        };
        let year_ms = RECEIVED_MS - 365 * DAY_MS;
        assert_eq!(of(year_ms), (RECEIVED_MS, year_ms, Delivery::Replayed));
        let hour_ms = RECEIVED_MS - 60 * MINUTE_MS;
        assert_eq!(of(hour_ms), (hour_ms, hour_ms, Delivery::Live));
        let ahead_ms = RECEIVED_MS + 365 * DAY_MS;
        assert_eq!(of(ahead_ms), (RECEIVED_MS, RECEIVED_MS, Delivery::Live));
    }

    #[test]
    fn receipts_of_any_number_fit_a_timeline() {
        for (received_ms, seconds) in [
            (i64::MIN, 0),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (i64::MAX, u32::MAX),
        ] {
            let timing = Timing {
                received_ms,
                ..Timing::since(0)
            };
            assert_eq!(timing.received_s(), seconds, "{received_ms}");
        }
    }
}
