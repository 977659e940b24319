//! The protocol between an agent and a hub, version 1, ALPN `linli/1` over QUIC (RFC 9000).
//!
//! ```text
//! event  ──┐  consecutive events of one lane and one retention class
//! event  ──┼─▶ chunk (≤ 6 KiB, encoded once at the edge) ──┐
//! event  ──┘                                               ├─▶ batch frame ─▶ lane stream
//!                                               chunk  ────┘
//! ```
//!
//! A connection has one control stream, opened first by the agent, and one bidirectional stream for each
//! lane. The first frame on each identifies it (`Hello` or `LaneOpen`).
//!
//! | stream | agent → hub | hub → agent |
//! | --- | --- | --- |
//! | control | `Hello`, `Heartbeat` | `Welcome` or `Refuse`, `CaseStatus`, `Command` |
//! | lane | `LaneOpen`, then `Batch` and `Lost` in sequence order | `Ack` |
//!
//! Compatibility: a receiver skips unknown kinds of frames and unknown fields; fields are only ever appended
//! and have defaults; frame numbers are never reused.
pub mod chunk;
pub mod codec;
pub mod event;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod token;

/// The ALPN protocol name of agent–hub traffic.
pub const ALPN: &[u8] = b"linli/1";
/// The ALPN protocol name for a joining agent: no client certificate yet, one request, one answer.
pub const ALPN_JOIN: &[u8] = b"linli-join/1";
/// The newest protocol version that this build speaks.
pub const VERSION: u16 = 1;
/// The oldest protocol version that this build speaks.
pub const VERSION_MIN: u16 = 1;
