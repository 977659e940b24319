//! How sources reach their devices: the parts shared by every type of source.
//!
//! * [`inbound`]: devices that call the agent, over TCP or UDP.
//! * [`outbound`]: devices that the agent calls over HTTP, with Digest.
//! * [`digest`]: the client side of HTTP Digest.
//! * [`event_stream`]: endless HTTP answers that carry events.
//! * [`reconnect`]: sessions that end and are opened again, with a growing pause.
//! * [`bodies`]: the memory shared by pushed bodies.
pub mod bodies;
pub(crate) mod digest;
pub(crate) mod event_stream;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod reconnect;
