//! Decoders of device protocols: bytes in, [`DeviceEvent`](device_event::DeviceEvent)s out. Pure: no I/O, no clock, no
//! async. Times, zones and random numbers are arguments.
//!
//! ```text
//! bytes ─ text (encoding) ─ <protocol>/message|frame|alert (syntax) ─ <protocol>/map (meaning) ▶ DecodedMessage
//!         multipart (endless HTTP streams)   mapping (JSON by a table of the installer) ▶ Mapped
//! ```
//!
//! Every message becomes exactly one [`DecodedMessage`](device_event::DecodedMessage) or one
//! [`Reject`](device_event::Reject), so each is accounted for. A decoder's buffer for a stream has a limit, and a bad
//! message affects no other. Each decoder has a fuzz target in `agent/devices/fuzz`.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for who works on the program, and are made with what is private"
)]

pub mod bounded;
pub mod dahua;
pub mod dc09;
pub mod device_event;
pub mod gb26875;
pub mod gb28181;
pub mod hikvision;
pub mod lenient_json;
pub mod mapping;
pub mod misspelling;
pub mod modbus;
pub mod mqtt;
pub mod multipart;
pub mod ocpp;
pub mod onvif;
pub mod text;
pub mod time;
pub mod xml;
