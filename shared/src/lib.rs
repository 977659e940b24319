//! Code shared by `linli-agent` and `linli-hub`.
//!
//! * [`protocol`] is pure: identities, the event, the chunk, the frames and their limits. No I/O, no
//!   clock, no async. Wire and disk formats are documented where they are implemented.
//! * [`service`] contains the parts that both programs need as services: TLS, shutdown, systemd, logs,
//!   backoff, the clock.
pub mod protocol;
pub mod service;
