//! Code shared by `linli-agent` and `linli-hub`.
//!
//! * [`protocol`] is pure: identities, the event, the chunk, the frames and their limits. No I/O, no
//!   clock, no async. Wire and disk formats are written down where they are implemented.
//! * [`service`] is the part that both programs need to be a service: TLS, shutdown, systemd, logs, backoff, the
//!   clock.
pub mod protocol;
pub mod service;
