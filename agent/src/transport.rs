//! How sources reach their devices: what every type shares, and no type owns.
//!
//! * [`inbound`]: devices that call the agent, over TCP or UDP.
//! * [`outbound`]: devices that the agent calls over HTTP, with Digest.
//! * [`digest`]: the proof that devices want over HTTP.
//! * [`event_stream`]: endless HTTP answers that carry events.
//! * [`reconnect`]: sessions that end and are opened again, with a growing pause.
//! * [`bodies`]: the room that pushed bodies share.
pub mod bodies;
pub(crate) mod digest;
pub(crate) mod event_stream;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod reconnect;
