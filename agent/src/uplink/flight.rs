//! The unacknowledged frames of one lane. Pure.
use linli_shared::protocol::ids::Sequence;
use linli_shared::protocol::limits::IN_FLIGHT_BYTES_MAX;
use std::collections::VecDeque;

/// Frames in flight, whatever their size.
const IN_FLIGHT_FRAMES_MAX: usize = 64;

/// The hub broke the order of acknowledgements.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the hub acknowledged {next}, which is not what was sent")]
pub struct AckError {
    next: Sequence,
}

/// Accounts for one lane of one session. The hub answers each frame with one acknowledgement, in
/// order.
pub struct Flight {
    /// The next sequence to send.
    position: Sequence,
    /// The hub's position when the session began.
    hub_next: Sequence,
    frames: VecDeque<(Sequence, usize)>,
    bytes: usize,
}

impl Flight {
    /// A session in which the hub has everything before `hub_next` and the agent sends from `from`. `from` is earlier
    /// only if the spool was restored to an older state.
    pub fn new(from: Sequence, hub_next: Sequence) -> Self {
        Self {
            position: from,
            hub_next,
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The next sequence to send.
    pub fn position(&self) -> Sequence {
        self.position
    }

    /// Whether one more frame may be sent.
    pub fn has_room(&self) -> bool {
        self.bytes < IN_FLIGHT_BYTES_MAX && self.frames.len() < IN_FLIGHT_FRAMES_MAX
    }

    /// Records that a frame that ends before `end` was sent.
    pub fn sent(&mut self, end: Sequence, bytes: usize) {
        self.position = end;
        self.frames.push_back((end, bytes));
        self.bytes += bytes;
    }

    /// Skips a range that the hub already has. Returns the position up to which the spool may delete, if no answer is
    /// pending that would report it.
    pub fn pass(&mut self, end: Sequence) -> Option<Sequence> {
        self.position = end;
        self.frames.is_empty().then_some(end)
    }

    /// Takes an acknowledgement of the hub. Returns the position up to which the spool may delete, if any.
    pub fn acked(&mut self, next: Sequence) -> Result<Option<Sequence>, AckError> {
        let Some((end, bytes)) = self.frames.pop_front() else {
            return Err(AckError { next });
        };
        self.bytes -= bytes;
        if next < end || next > self.position.max(self.hub_next) {
            return Err(AckError { next });
        }
        // While the hub is ahead, its answer says nothing about frames that are still on their way.
        let all_answered = self.frames.is_empty();
        Ok((next <= self.position && (next == end || all_answered)).then_some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_free_room_in_order() {
        let mut flight = Flight::new(Sequence(5), Sequence(5));
        flight.sent(Sequence(10), IN_FLIGHT_BYTES_MAX / 2);
        flight.sent(Sequence(15), IN_FLIGHT_BYTES_MAX / 2);
        assert!(!flight.has_room());
        assert_eq!(flight.acked(Sequence(10)), Ok(Some(Sequence(10))));
        assert!(flight.has_room());
        assert_eq!(flight.acked(Sequence(15)), Ok(Some(Sequence(15))));
        assert!(flight.acked(Sequence(15)).is_err(), "nothing is in flight");
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_refused() {
        let mut flight = Flight::new(Sequence(0), Sequence(0));
        flight.sent(Sequence(10), 1);
        assert!(flight.acked(Sequence(11)).is_err());
        let mut flight = Flight::new(Sequence(0), Sequence(0));
        flight.sent(Sequence(10), 1);
        assert!(flight.acked(Sequence(9)).is_err());
    }

    #[test]
    fn while_the_hub_is_ahead_nothing_is_forgotten_before_all_is_answered() {
        let mut flight = Flight::new(Sequence(0), Sequence(100));
        flight.sent(Sequence(10), 1);
        flight.sent(Sequence(20), 1);
        assert_eq!(flight.acked(Sequence(100)), Ok(None));
        assert_eq!(flight.pass(Sequence(100)), None);
        assert_eq!(flight.acked(Sequence(100)), Ok(Some(Sequence(100))));
        assert_eq!(flight.pass(Sequence(120)), Some(Sequence(120)));
    }
}
