//! When a message arrived, kept beside a message that is held until it is stored.
use linli_shared::service::clock;

use super::Receipt;

/// The arrival of a message, which a source keeps beside a message that it holds until it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub(super) receipt: Receipt,
    /// Time since boot.
    pub arrived_ms: u64,
    /// Number of messages with the same bytes that are held before it.
    pub(super) alike: u64,
    /// It was in a batch before.
    pub(super) is_tried: bool,
}

impl Arrival {
    /// An arrival at this receipt, now.
    pub(super) fn now(receipt: Receipt) -> Self {
        Self {
            receipt,
            arrived_ms: clock::monotonic_ms(),
            alike: 0,
            is_tried: false,
        }
    }

    /// Time since boot, if the clock was not synchronised then: it may be set while the message is held.
    pub(super) fn monotonic_ms(&self) -> Option<u64> {
        (!self.receipt.is_synchronised).then_some(self.arrived_ms)
    }

    /// The arrival of a message behind so many held messages with the same bytes.
    pub fn after_alike(self, alike: usize) -> Self {
        Self {
            alike: alike as u64,
            ..self
        }
    }
}
