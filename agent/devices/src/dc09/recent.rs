//! Recent messages, so that a panel's retransmission is recognised. Pure; time is an argument.
//!
//! A panel whose answer was lost sends the message again, with the same sequence and the same data, sometimes with a
//! new time. Sequences begin again after 9999 and after a restart of the panel, so they identify messages for
//! [`SAME_FOR_MS`] only. All transmissions share the id of the first: with it the spool stores them once. The id
//! contains the span in which the message was sent, by its own time if that is near and else by the agent's. So a
//! restart of the agent changes nothing, unless a panel gives a message another time and a span ended just then. If a
//! panel's clock stands still, its alarms of two days stay distinct.
//!
//! They share the time of the first too: to the spool, an event with the same id and another time is another event.
//! So a message that is sent again with a new time just after a restart of the agent is stored twice.
//!
//! The header of a sealed message is in clear, so an attacker can change the sequence and with it the CRC. So the
//! sealed part is remembered too ([`Seal`]): each pad is random, and the same sealed part is the same message
//! whatever its header. A sealed message can be replayed only within the window of times, and its seal is remembered
//! that long. If its time is unreadable, its seal is its id, which the spool remembers.
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};

/// How long a seal is remembered: longer than any window of times.
const SEALED_FOR_MS: i64 = 3_600_000;
/// How long a sequence with the same data is the same message.
const SAME_FOR_MS: i64 = 120_000;
/// A panel's time farther from now than this does not distinguish messages.
const NEAR_MS: i64 = 600_000;
/// Largest number of remembered messages.
const MESSAGES_MAX: usize = 4096;

/// The fields that identify a message for a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Device.
    pub device: String,
    /// Sequence.
    pub sequence: String,
    /// CRC of the data.
    pub data: u16,
}

/// The hash of a sealed part as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal(u128);

impl Seal {
    /// The seal of these hexadecimal digits, in either case.
    pub fn of(sealed: &[u8]) -> Self {
        let hash = Sha256::digest(sealed.to_ascii_uppercase());
        let mut front = [0; 16];
        front.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(front))
    }
}

/// The first transmission of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The beginning of the ids of its events.
    pub stem: String,
    /// Time of transmission, by the panel's clock.
    pub sent_ms: Option<i64>,
}

/// The last message of a device's sequence.
#[derive(Debug)]
struct Last {
    data: u16,
    since_ms: i64,
    heard: Heard,
}

/// The messages of the last minutes.
#[derive(Debug, Default)]
pub struct Recent {
    /// Messages by device and sequence.
    messages: HashMap<(String, String), Last>,
    order: VecDeque<(i64, (String, String))>,
    /// Messages by seal.
    sealed: HashMap<Seal, Heard>,
    seal_order: VecDeque<(i64, Seal)>,
}

impl Recent {
    /// Records a message in clear; returns its first transmission.
    pub fn hear(&mut self, mark: Mark, sent_ms: Option<i64>, now_ms: i64) -> Heard {
        self.hear_as(mark, None, sent_ms, now_ms)
    }

    /// Records a sealed message; returns its first transmission.
    pub fn hear_sealed(
        &mut self,
        mark: Mark,
        seal: Seal,
        sent_ms: Option<i64>,
        now_ms: i64,
    ) -> Heard {
        while let Some((since_ms, seal)) = self.seal_order.front() {
            let is_over = now_ms - since_ms > SEALED_FOR_MS || now_ms < *since_ms;
            if !is_over && self.seal_order.len() < MESSAGES_MAX {
                break;
            }
            self.sealed.remove(seal);
            self.seal_order.pop_front();
        }
        if let Some(heard) = self.sealed.get(&seal) {
            return heard.clone();
        }
        let by_seal = sent_ms.is_none().then_some(seal);
        let heard = self.hear_as(mark, by_seal, sent_ms, now_ms);
        self.sealed.insert(seal, heard.clone());
        self.seal_order.push_back((now_ms, seal));
        heard
    }

    fn hear_as(
        &mut self,
        mark: Mark,
        by_seal: Option<Seal>,
        sent_ms: Option<i64>,
        now_ms: i64,
    ) -> Heard {
        while let Some((since_ms, _)) = self.order.front() {
            let is_over = now_ms - since_ms > SAME_FOR_MS || now_ms < *since_ms;
            if !is_over && self.order.len() < MESSAGES_MAX {
                break;
            }
            if let Some((since_ms, place)) = self.order.pop_front()
                && self
                    .messages
                    .get(&place)
                    .is_some_and(|last| last.since_ms == since_ms)
            {
                self.messages.remove(&place);
            }
        }
        let at_ms = sent_ms
            .filter(|sent_ms| (now_ms - sent_ms).abs() <= NEAR_MS)
            .unwrap_or(now_ms);
        let span = at_ms.div_euclid(SAME_FOR_MS);
        let place = (mark.device, mark.sequence);
        let mut stem = match by_seal {
            Some(seal) => format!("{}-{:032x}", place.0, seal.0),
            None => format!("{}-{}-{:04x}-{span}", place.0, place.1, mark.data),
        };
        match self.messages.get(&place) {
            Some(last) if last.data == mark.data => return last.heard.clone(),
            // A panel that gives every message the same sequence: an alarm, its end and the alarm again are three
            // messages.
            Some(_) if by_seal.is_none() => stem.push_str(&format!("-{now_ms}")),
            Some(_) | None => {}
        }
        let heard = Heard { stem, sent_ms };
        self.order.push_back((now_ms, place.clone()));
        let last = Last {
            data: mark.data,
            since_ms: now_ms,
            heard: heard.clone(),
        };
        self.messages.insert(place, last);
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u16, data: u16) -> Mark {
        Mark {
            device: "panel".to_owned(),
            sequence: format!("{sequence:04}"),
            data,
        }
    }

    fn hear(recent: &mut Recent, mark: Mark, sent_ms: Option<i64>, now_ms: i64) -> String {
        recent.hear(mark, sent_ms, now_ms).stem
    }

    fn hear_sealed(
        recent: &mut Recent,
        mark: Mark,
        seal: Seal,
        sent_ms: Option<i64>,
        now_ms: i64,
    ) -> String {
        recent.hear_sealed(mark, seal, sent_ms, now_ms).stem
    }

    #[test]
    fn what_is_sent_again_has_the_id_of_the_first_for_a_while() {
        let mut recent = Recent::default();
        let first = hear(&mut recent, mark(1, 7), Some(1_199_000), 1_199_500);
        assert_eq!(first, "panel-0001-0007-9");
        // Another span, but the same message.
        assert_eq!(
            hear(&mut recent, mark(1, 7), Some(1_201_000), 1_201_500),
            first
        );
        assert_eq!(hear(&mut recent, mark(1, 7), None, 1_260_000), first);
        assert_ne!(
            hear(&mut recent, mark(2, 7), Some(1_199_000), 1_260_000),
            first
        );
        assert_ne!(
            hear(&mut recent, mark(1, 8), Some(1_199_000), 1_260_000),
            first
        );
        // Long after, it is another message, even if the panel's count began anew.
        assert_ne!(
            hear(&mut recent, mark(1, 7), Some(1_500_000), 1_500_000),
            first
        );
    }

    #[test]
    fn what_is_sealed_is_the_same_message_whatever_stands_before_it() {
        let mut recent = Recent::default();
        let seal = Seal::of(b"00a1b2");
        let first = hear_sealed(&mut recent, mark(1, 7), seal, None, 1_000_000);
        assert_eq!(
            hear_sealed(&mut recent, mark(2, 7), seal, None, 1_000_500),
            first
        );
        assert_eq!(
            hear_sealed(
                &mut recent,
                mark(3, 7),
                Seal::of(b"00A1B2"),
                None,
                1_900_000
            ),
            first
        );
        assert_ne!(
            hear_sealed(
                &mut recent,
                mark(4, 7),
                Seal::of(b"00a1b3"),
                None,
                1_000_500
            ),
            first
        );
        for number in 0..MESSAGES_MAX + 10 {
            hear_sealed(
                &mut recent,
                mark(1, 1),
                Seal::of(&number.to_be_bytes()),
                None,
                2_000_000,
            );
        }
        assert!(recent.sealed.len() <= MESSAGES_MAX && recent.seal_order.len() <= MESSAGES_MAX);
    }

    #[test]
    fn what_is_sent_again_with_another_time_has_the_time_of_the_first() {
        let mut recent = Recent::default();
        let first = recent.hear(mark(1, 7), Some(1_199_000), 1_199_500);
        let again = recent.hear(mark(1, 7), Some(1_202_000), 1_202_500);
        assert_eq!((again.sent_ms, &again), (Some(1_199_000), &first));
    }

    #[test]
    fn a_seal_without_a_time_is_the_id_for_good() {
        let seal = Seal::of(b"00a1b2");
        let hear = |recent: &mut Recent, sequence, seal, now_ms| {
            let heard = recent.hear_sealed(mark(sequence, 7), seal, None, now_ms);
            heard.stem
        };
        let mut recent = Recent::default();
        let first = hear(&mut recent, 1, seal, 1_000_000);
        // Days later, with another header, after a start of the agent.
        assert_eq!(hear(&mut recent, 2, seal, 900_000_000), first);
        assert_eq!(hear(&mut Recent::default(), 3, seal, 900_000_000), first);
        assert_ne!(hear(&mut recent, 4, Seal::of(b"77"), 900_000_000), first);
        // The panel sends again, with a new seal.
        let mut recent = Recent::default();
        let first = hear(&mut recent, 1, seal, 1_000_000);
        assert_eq!(hear(&mut recent, 1, Seal::of(b"77"), 1_010_000), first);
    }

    #[test]
    fn a_panel_with_one_sequence_for_all_tells_an_alarm_again() {
        let mut recent = Recent::default();
        let alarm = hear(&mut recent, mark(0, 7), None, 1_000_000);
        let end = hear(&mut recent, mark(0, 8), None, 1_001_000);
        let again = hear(&mut recent, mark(0, 7), None, 1_002_000);
        assert!(alarm != again && end != again, "{alarm} {end} {again}");
        // The retransmission is still recognised.
        assert_eq!(hear(&mut recent, mark(0, 7), None, 1_003_000), again);
    }

    #[test]
    fn a_start_of_the_agent_changes_nothing_for_what_has_its_own_time() {
        let stem = |sent_ms, now_ms| hear(&mut Recent::default(), mark(1, 7), sent_ms, now_ms);
        assert_eq!(
            stem(Some(1_199_000), 1_199_500),
            stem(Some(1_199_000), 1_230_000)
        );
        // Without a time, within the span.
        assert_eq!(stem(None, 1_080_000), stem(None, 1_199_999));
        assert_ne!(stem(None, 1_080_000), stem(None, 1_200_000));
        // A clock that stands still.
        assert_ne!(stem(Some(0), 1_000_000), stem(Some(0), 87_400_000));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_clock_that_goes_back_forgets() {
        let mut recent = Recent::default();
        for number in 0..MESSAGES_MAX + 100 {
            hear(
                &mut recent,
                mark((number % 9999) as u16, number as u16),
                None,
                1_000_000,
            );
        }
        assert!(recent.messages.len() <= MESSAGES_MAX && recent.order.len() <= MESSAGES_MAX);
        hear(&mut recent, mark(1, 1), None, 0);
        assert_eq!((recent.messages.len(), recent.order.len()), (1, 1));
    }
}
