//! Signed bodies of sources whose items have no ids: an attacker who recorded one may replay it, and a sender that
//! missed its answer repeats it. Within [`WINDOW_MS`] the same body is stored once.
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// How long a body is remembered, milliseconds.
const WINDOW_MS: u64 = 10 * 60_000;
/// Largest number of remembered bodies.
const BODIES_MAX: usize = 4096;

/// The hash that identifies a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay([u8; 32]);

impl Replay {
    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// Bodies of a source that were stored, oldest first, each with the time since boot until which it is remembered.
#[derive(Debug, Default)]
pub struct Replays(VecDeque<(Replay, u64)>);

impl Replays {
    /// Whether the body was stored within the window.
    pub fn holds(&self, replay: &Replay, now_ms: u64) -> bool {
        self.0
            .iter()
            .any(|(known, until_ms)| known == replay && now_ms < *until_ms)
    }

    /// Records that the body is stored.
    pub fn add(&mut self, replay: Replay, now_ms: u64) {
        let known = &mut self.0;
        while known.len() >= BODIES_MAX
            || known
                .front()
                .is_some_and(|(_, until_ms)| *until_ms <= now_ms)
        {
            known.pop_front();
        }
        known.push_back((replay, now_ms + WINDOW_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_remembered_for_its_window_and_no_longer() {
        let mut replays = Replays::default();
        let (one, other) = (Replay::of(b"one"), Replay::of(b"other"));
        replays.add(one, 0);
        assert!(replays.holds(&one, WINDOW_MS - 1) && !replays.holds(&other, 0));
        assert!(!replays.holds(&one, WINDOW_MS));
        for number in 0..2 * BODIES_MAX {
            replays.add(Replay::of(&number.to_be_bytes()), 1);
        }
        assert_eq!(replays.0.len(), BODIES_MAX);
    }
}
