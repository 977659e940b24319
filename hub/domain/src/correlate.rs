//! Correlation: turns events and their times into findings. Pure: no clock, no store, no I/O.
//!
//! ```text
//! event ─▶ engine (keys) ─▶ timeline (one key, by event time) ─▶ hits ─▶ findings (hits folded)
//!                                  touched keys ─▶ revise: compares findings with warnings ─▶ changes
//! ```
//!
//! **The findings of a rule are a function of the set of events.** A *hit* is a point in event time at which
//! a rule's condition holds; [`hits`] computes all hits of a timeline anew, independent of the order in which
//! the events arrived. Hits no farther apart than the rule's `fold` form one *finding*. A warning stands for
//! one finding: when an event, however late, changes the hits around it, [`revise`] decides the changes of
//! the warnings there: raised, extended, amended, withdrawn. No warning is withdrawn silently.
//!
//! The nine kinds (W is the rule's `within`):
//!
//! | kind | hit |
//! | --- | --- |
//! | `match` | each event |
//! | `count` | an event that is the `times`-th or later within W, looking back from it |
//! | `distinct` | an event that completes `times` different values of a field within W, looking back |
//! | `all_of` | an event that completes one event of every step within W, looking back; an event counts for the first step that it fits |
//! | `sequence` | an event of the last step, preceded by the other steps in their order, the latest of each, within W, with no event of `unless` between the first and the last |
//! | `absent` | W after an event of `on` that no event of `until` followed, if its agent covers the time |
//! | `silent` | W after the last event of a thing on the roster, if its agent covers the time; of agents: after their last sign of life |
//! | `repeat` | like `count`, over a window that may exceed the horizon: read from the store |
//! | `surge` | an event with which W contains at least `times` events, `ratio` times the average of the four windows before, with a chance of at most `p`: read from the store |
//!
//! **Coverage** ([`coverage`]): an agent reports up to what time all that it received has arrived (its
//! watermark), and with `agent.started` when it was down. `absent` and `silent` are decided once the
//! watermark has passed, and never over such a gap: an event that nobody could receive is not absent.
//!
//! **Late events**: an event is evaluated if it is within [`HORIZON_MS`] of the newest event that its rule
//! has seen; for `match`, at any age. Freshness depends on the receipt, never on a device's clock: a finding
//! is fresh if a live event that it rests on was received no longer ago than the rule's `fresh`; for the
//! kinds that wait, if the wait ended no longer ago. Every other finding is 补报: delayed in transit, or
//! replayed ([`timing`]).
//!
//! **Imported history** serves only as the past of `repeat` and `surge`: it is never a hit itself, and other
//! rules ignore it.
//!
//! Limits: `max_keys` keys per rule, `max_events` events per key, [`HORIZON_MS`] back and ahead. A full
//! timeline first evicts events that are more than [`AHEAD_MS_MAX`] ahead. Events that are refused or evicted
//! are counted, and the first loss of a rule raises a warning `rule.overflow`. Keys are places, devices and
//! types; a rule about a person needs a consent, two approvals and an expiry (see [`rule`]).
pub mod coverage;
pub mod engine;
pub mod hits;
pub mod replay;
pub mod revise;
pub mod roster;
pub mod rule;
mod surge;
pub mod timeline;
pub mod timing;
pub mod trial;

use linli_shared::protocol::ids::Lane;
use serde::{Deserialize, Serialize};

/// Default of `max_keys`: keys per rule.
pub const KEYS_MAX: usize = 200_000;
/// Default of `max_events`: events per key of a rule.
pub const KEY_EVENTS_MAX: usize = 4_096;
/// Horizon for late events, milliseconds: 7 days. Also the longest window in memory.
pub const HORIZON_MS: i64 = 7 * 86_400_000;
/// Tolerance for clocks ahead of the hub's, milliseconds; an event farther ahead lies in the future.
pub const AHEAD_MS_MAX: i64 = 5 * 60_000;
/// Id of the rule that reports the limits of rules.
pub const OVERFLOW_RULE: &str = "rule.overflow";

/// The origin of an event: its identity and site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Site of the agent.
    pub site: &'a str,
    /// Agent.
    pub agent: &'a str,
    /// Lane.
    pub lane: Lane,
    /// Epoch of the agent's spool.
    pub epoch: u64,
    /// Sequence number within lane and epoch.
    pub sequence: u64,
}

/// `agent/lane/epoch`: one lane of one epoch of an agent's spool; the prefix of the identities of its events.
pub fn life(agent: &str, lane: Lane, epoch: u64) -> String {
    format!("{agent}/{lane}/{epoch:016x}")
}

impl Origin<'_> {
    /// The identity: `agent/lane/epoch/sequence`.
    pub fn identity(&self) -> String {
        format!(
            "{}/{}",
            life(self.agent, self.lane, self.epoch),
            self.sequence
        )
    }
}

/// One event that a finding rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Identity of the event: `agent/lane/epoch/sequence`.
    pub event: String,
    /// Kind of the event.
    pub kind: String,
    /// Time of the event, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// The hits of a rule around one time, for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Site of the event of the first hit.
    pub site: String,
    /// Agent of that event.
    pub agent: String,
    /// Time of the first hit, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Time of the last hit, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Number of hits.
    pub hits: i64,
    /// The events that the first hit rests on.
    pub reasons: Vec<Reason>,
    /// The counted values at the first hit, in words.
    pub values: String,
    /// For `absent` and `silent`: when the missing event occurred after all, milliseconds since 1970 UTC.
    pub ended_ms: Option<i64>,
    /// The earliest time at which the hub could know of it, milliseconds since 1970 UTC: the latest receipt
    /// of a live event that it rests on. `None`: all its events were replayed.
    pub arrived_ms: Option<i64>,
}

impl Finding {
    /// True if the two are close enough to be one finding.
    pub fn is_near(&self, other: &Finding, fold_ms: i64) -> bool {
        self.from_ms <= other.to_ms.saturating_add(fold_ms)
            && self.to_ms >= other.from_ms.saturating_sub(fold_ms)
    }

    /// Adds a hit to this finding, for a rule whose hits are single events.
    pub fn join(&mut self, hit: &Finding) {
        if hit.from_ms < self.from_ms {
            self.from_ms = hit.from_ms;
            self.reasons.clone_from(&hit.reasons);
        }
        self.to_ms = self.to_ms.max(hit.to_ms);
        self.hits += hit.hits;
        self.arrived_ms = self.arrived_ms.max(hit.arrived_ms);
    }
}
