//! The bench: the same events through Linli and through its peers, on two hosts in a box.
pub mod doors;
pub mod equipment;
pub mod events;
pub mod fleet;
pub mod host;
pub mod latency;
pub mod linli;
pub mod peers;
