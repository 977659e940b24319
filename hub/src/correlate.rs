//! Correlation: events and their times in, firings out. Pure: no clock, no store, no I/O.
//!
//! * Rules are TOML files (see [`rule`]); kinds so far: `match`, `count`, `all_of`.
//! * Time is the event's. The windows of a key hold the times of its events in order, so an event that
//!   comes late is put where it belongs and the windows around it are looked at again: whether a rule
//!   fires does not depend on the order of arrival.
//! * A firing within a rule's `fold` of an earlier warning of the same key is folded into it; that is
//!   decided where the warnings are, in the store.
//! * Keys are places, devices and types. There is no rule about a person.
//!
//! Limits: [`KEYS_MAX`] keys a rule, [`KEY_EVENTS_MAX`] events a key, [`HORIZON_MS`] back and ahead. What
//! no window takes, or has to let go of for a limit, is counted; the first time that a rule has no room
//! for a key it fires `rule.overflow`.
pub mod engine;
pub mod rule;

use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Lane;
use serde::Serialize;

/// Keys that one rule holds.
pub const KEYS_MAX: usize = 200_000;
/// Events that one key of one rule holds.
pub const KEY_EVENTS_MAX: usize = 1_000;
/// How far back late events are looked at, milliseconds: 7 days. The longest window.
pub const HORIZON_MS: i64 = 7 * 86_400_000;
/// Clocks may be this far ahead of the hub's, milliseconds; what is farther ahead is of the future.
pub const AHEAD_MS_MAX: i64 = 5 * 60_000;

/// Where an event came from: its identity and site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Site.
    pub site: &'a str,
    /// Agent.
    pub agent: &'a str,
    /// Lane.
    pub lane: Lane,
    /// Epoch.
    pub epoch: u64,
    /// Sequence.
    pub sequence: u64,
}

/// One event that a firing rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// `agent/lane/epoch/sequence`
    pub event: String,
    /// Kind.
    pub kind: String,
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// A rule has found what it looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Rule.
    pub rule: String,
    /// Hash of its content.
    pub rule_hash: String,
    /// Its name.
    pub name: String,
    /// Severity.
    pub severity: Severity,
    /// Site of the event that completed it.
    pub site: String,
    /// Values of its key fields.
    pub key: String,
    /// Time of the last event that it rests on, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// It was older than the rule's `fresh` when it fired.
    pub late: bool,
    /// The events that it rests on.
    pub reasons: Vec<Reason>,
    /// Firings this near are one warning, milliseconds.
    pub fold_ms: i64,
    /// Kind of the case to open.
    pub case: Option<String>,
    /// Where the case goes.
    pub route: String,
}
