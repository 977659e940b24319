//! The registrations, and the rate limits for unknown senders. Pure: time is an argument, milliseconds since boot.
//!
//! * At most one registration for each device of the config. It lasts as long as was agreed, and [`GRACE_MS`] more.
//! * Anything but a message of a registered device costs a token of its address ([`STRANGER`]) and one of all unknown
//!   senders ([`STRANGERS`]). Without one it is neither answered nor read. At most [`ADDRESSES_MAX`] addresses are
//!   remembered; beyond them only the common limit applies.
//! * A registered device has tokens of its own ([`DEVICE`]): further messages get no answer, and it sends them again.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Longest registration, seconds, if a device asks for more.
pub const EXPIRES_MAX_S: u64 = 86_400;
/// Registration time if the device names none, seconds.
pub const EXPIRES_S: u64 = 3600;
/// A device sometimes renews its registration late.
const GRACE_MS: u64 = 60_000;
/// Addresses whose requests are counted.
const ADDRESSES_MAX: usize = 4096;
/// Least time between two evictions of unknown senders: each examines all of them.
const SWEEP_EVERY_MS: u64 = 1000;
/// Rate of one unknown address: a compound's cameras behind one address register at once after a power cut.
const STRANGER: Rate = Rate {
    burst: 256,
    each_second: 32,
};
/// Rate of all unknown senders together.
const STRANGERS: Rate = Rate {
    burst: 4096,
    each_second: 512,
};
/// Rate of a registered device: a catalogue arrives in hundreds of messages.
const DEVICE: Rate = Rate {
    burst: 2000,
    each_second: 200,
};
/// Pause before an unanswered request for channels is repeated.
const ASK_AGAIN_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    each_second: u32,
}

#[derive(Debug, Clone)]
struct Bucket {
    tokens: u32,
    since_ms: u64,
}

impl Bucket {
    fn full(rate: Rate, now_ms: u64) -> Self {
        Self {
            tokens: rate.burst,
            since_ms: now_ms,
        }
    }

    fn fill(&mut self, rate: Rate, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.since_ms);
        let more = passed_ms.saturating_mul(u64::from(rate.each_second)) / 1000;
        if more > 0 {
            let tokens = u64::from(self.tokens).saturating_add(more);
            self.tokens = tokens.min(u64::from(rate.burst)) as u32;
            self.since_ms = now_ms;
        }
    }

    fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        let has = self.tokens > 0;
        self.tokens -= u32::from(has);
        has
    }
}

/// A registered device.
#[derive(Debug)]
struct Registration {
    peer: SocketAddr,
    until_ms: u64,
    bucket: Bucket,
    asked_ms: Option<u64>,
    heard_ms: Option<u64>,
}

/// The registrations.
#[derive(Debug)]
pub struct Registry {
    registrations: HashMap<String, Registration>,
    strangers: HashMap<IpAddr, Bucket>,
    /// Time of the last eviction of unknown senders.
    swept_ms: u64,
    all: Bucket,
}

impl Registry {
    /// A registry without registrations.
    pub fn new(now_ms: u64) -> Self {
        Self {
            registrations: HashMap::new(),
            strangers: HashMap::new(),
            swept_ms: now_ms,
            all: Bucket::full(STRANGERS, now_ms),
        }
    }

    /// Registers a device, or renews its registration. The config, which has the device, bounds their number.
    pub fn register(&mut self, device: &str, peer: SocketAddr, expires_s: u64, now_ms: u64) {
        let until_ms = now_ms + expires_s.min(EXPIRES_MAX_S) * 1000 + GRACE_MS;
        match self.registrations.get_mut(device) {
            Some(known) => {
                if known.peer != peer {
                    known.asked_ms = None;
                    known.heard_ms = None;
                }
                known.peer = peer;
                known.until_ms = until_ms;
            }
            None => {
                let new = Registration {
                    peer,
                    until_ms,
                    bucket: Bucket::full(DEVICE, now_ms),
                    asked_ms: None,
                    heard_ms: None,
                };
                self.registrations.insert(device.to_owned(), new);
            }
        }
    }

    /// Removes a registration.
    pub fn remove(&mut self, device: &str) {
        self.registrations.remove(device);
    }

    /// Whether a device has registered from this address; its port may have changed.
    pub fn is_registered(&mut self, device: &str, peer: IpAddr, now_ms: u64) -> bool {
        match self.registrations.get(device) {
            Some(known) if now_ms >= known.until_ms => {
                self.registrations.remove(device);
                false
            }
            Some(known) => known.peer.ip() == peer,
            None => false,
        }
    }

    /// Whether a registered device may send one more message now.
    pub fn device_may(&mut self, device: &str, now_ms: u64) -> bool {
        self.registrations
            .get_mut(device)
            .is_some_and(|known| known.bucket.take(DEVICE, now_ms))
    }

    /// Whether any device has registered from this address.
    pub fn is_home(&self, peer: IpAddr) -> bool {
        self.registrations
            .values()
            .any(|known| known.peer.ip() == peer)
    }

    /// Whether an unknown sender has no token left: then its messages are not even read.
    pub fn is_spent(&mut self, peer: IpAddr, now_ms: u64) -> bool {
        self.all.fill(STRANGERS, now_ms);
        let own = self.strangers.get_mut(&peer).is_some_and(|bucket| {
            bucket.fill(STRANGER, now_ms);
            bucket.tokens == 0
        });
        own || self.all.tokens == 0
    }

    /// Takes a token for an unknown sender; false: it has none left.
    pub fn stranger_may(&mut self, peer: IpAddr, now_ms: u64) -> bool {
        if let Some(bucket) = self.strangers.get_mut(&peer) {
            return bucket.take(STRANGER, now_ms) && self.all.take(STRANGERS, now_ms);
        }
        if !self.all.take(STRANGERS, now_ms) {
            return false;
        }
        let is_swept = now_ms.saturating_sub(self.swept_ms) < SWEEP_EVERY_MS;
        if self.strangers.len() >= ADDRESSES_MAX && !is_swept {
            // Addresses whose tokens are full again are evicted.
            self.swept_ms = now_ms;
            self.strangers.retain(|_, bucket| {
                bucket.fill(STRANGER, now_ms);
                bucket.tokens < STRANGER.burst
            });
        }
        if self.strangers.len() < ADDRESSES_MAX {
            let mut bucket = Bucket::full(STRANGER, now_ms);
            bucket.take(STRANGER, now_ms);
            self.strangers.insert(peer, bucket);
        }
        true
    }

    /// Whether a device must be asked for its channels now; records the request. A datagram may be lost, so the
    /// request is repeated until it is answered.
    pub fn ask(&mut self, device: &str, every_ms: u64, now_ms: u64) -> bool {
        let Some(known) = self.registrations.get_mut(device) else {
            return false;
        };
        let since = |at: Option<u64>| at.map(|at| now_ms.saturating_sub(at));
        let is_due = match (since(known.asked_ms), since(known.heard_ms)) {
            (None, _) => true,
            (Some(asked), None) => asked >= ASK_AGAIN_MS,
            (Some(asked), Some(heard)) => heard >= every_ms && asked >= ASK_AGAIN_MS,
        };
        if is_due {
            known.asked_ms = Some(now_ms);
        }
        is_due
    }

    /// Records that a device has sent channels.
    pub fn heard_channels(&mut self, device: &str, now_ms: u64) {
        if let Some(known) = self.registrations.get_mut(device) {
            known.heard_ms = Some(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_registration_ends_and_is_of_its_address() {
        let mut registry = Registry::new(0);
        let here = peer(1).ip();
        assert!(!registry.is_registered("d", here, 0));
        registry.register("d", peer(1), 60, 0);
        assert!(registry.is_registered("d", peer(2).ip(), 0));
        assert!(!registry.is_registered("d", [10, 0, 0, 2].into(), 0));
        assert!(registry.is_registered("d", here, 60_000 + GRACE_MS - 1));
        assert!(!registry.is_registered("d", here, 60_000 + GRACE_MS));
        assert!(!registry.is_home(here));
        registry.register("d", peer(1), u64::MAX, 0);
        assert!(!registry.is_registered("d", here, EXPIRES_MAX_S * 1000 + GRACE_MS));
        registry.register("d", peer(1), 60, 0);
        registry.remove("d");
        assert!(!registry.is_registered("d", here, 0));
    }

    #[test]
    fn strangers_are_bounded_each_and_in_all_and_their_tokens_come_back() {
        let mut registry = Registry::new(0);
        let one = peer(1).ip();
        let mut took = 0;
        while registry.stranger_may(one, 0) {
            took += 1;
        }
        assert_eq!(took, STRANGER.burst);
        assert!(registry.is_spent(one, 0));
        assert!(registry.stranger_may([10, 0, 0, 2].into(), 0));
        assert!(!registry.is_spent(one, 1000));
        assert!(registry.stranger_may(one, 1000));
        // Unlimited addresses: the remembered state stays bounded, and so does the number of answers.
        let answered = (0..100_000_u32)
            .filter(|number| registry.stranger_may(IpAddr::V4((*number).into()), 1000))
            .count();
        assert!(registry.strangers.len() <= ADDRESSES_MAX);
        assert!(answered <= (STRANGERS.burst + STRANGERS.each_second) as usize);
    }

    #[test]
    fn a_device_is_asked_until_it_answers_and_then_now_and_again() {
        let mut registry = Registry::new(0);
        assert!(!registry.ask("d", 600_000, 0));
        registry.register("d", peer(1), 3600, 0);
        assert!(registry.ask("d", 600_000, 0));
        assert!(!registry.ask("d", 600_000, 1));
        assert!(registry.ask("d", 600_000, ASK_AGAIN_MS));
        registry.heard_channels("d", ASK_AGAIN_MS + 1);
        registry.register("d", peer(1), 3600, 40_000);
        assert!(!registry.ask("d", 600_000, 90_000));
        assert!(registry.ask("d", 600_000, 700_000));
        // From another address it is another start of the device.
        registry.register("d", peer(9), 3600, 700_000);
        assert!(registry.ask("d", 600_000, 700_001));
    }

    #[test]
    fn a_registered_device_has_its_own_bound() {
        let mut registry = Registry::new(0);
        registry.register("d", peer(1), 3600, 0);
        let took = (0..10_000).filter(|_| registry.device_may("d", 0)).count();
        assert_eq!(took, DEVICE.burst as usize);
        assert!(registry.device_may("d", 100));
    }
}
