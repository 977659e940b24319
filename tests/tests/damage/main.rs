//! Damaged messages of every protocol, through the real sockets of a running agent: one message of each with bytes flipped and cut
//! in turn. Every message is an event, a sign of life or a counted reject; one whose head is whole is its event; a whole message behind
//! a damaged one is an event; the agent goes on.
//!
//! Each bit of each byte is flipped where it costs nothing, at the decoders (`agent/devices/tests/damage.rs`). Through sockets two
//! flips are made, of the lowest and of the highest bit, and in long messages at every so many bytes only ([`cases::Cases::step`]).
//! Damage to what carries a message (the head of an HTTP request, a packet of MQTT, a frame of a WebSocket) is damage to a library's
//! protocol and is not made here; to what this project reads itself (parts of a stream, SIP, frames on TCP and UDP) it is.
mod callers;
mod cases;
mod chargers;
mod files;
mod mapped;
mod polled;
mod recorders;
mod registers;
mod streams;
