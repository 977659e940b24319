//! Correlation: events and their times in, findings out. Pure: no clock, no store, no I/O.
//!
//! ```text
//! event ─▶ engine (keys) ─▶ timeline (one key, by event time) ─▶ hits ─▶ findings (hits folded)
//!                                        what changed ─▶ revise: findings against warnings ─▶ changes
//! ```
//!
//! **What a rule finds is a function of the set of events.** A *hit* is a point in event time at which a
//! rule's condition holds; [`hits`] computes all hits of a timeline anew, whatever the order in which the
//! events came. Hits no farther apart than the rule's `fold` are one *finding*. A warning stands for one
//! finding: when an event, however late, changes the hits around it, [`revise`] says what becomes of the
//! warnings there: raised, extended, amended, withdrawn. None is taken back in silence.
//!
//! The nine kinds (W is the rule's `within`):
//!
//! | kind | hit |
//! | --- | --- |
//! | `match` | each event |
//! | `count` | an event that is the `times`-th or later within W, looking back from it |
//! | `distinct` | an event with which `times` different values of a field lie within W, looking back |
//! | `all_of` | an event with which every step has one within W, looking back; an event counts for the first step that it fits |
//! | `sequence` | an event of the last step before which the others happened in their order, the latest of each, within W, with none of `unless` between the first and it |
//! | `absent` | W after an event of `on` that none of `until` followed, where its agent's hearing covers the time |
//! | `silent` | W after the last event of a thing on the roster, where its agent's hearing covers the time; of agents: after their last sign of life |
//! | `repeat` | as `count`, over a time that may be longer than the horizon: from the store |
//! | `surge` | an event with which W has at least `times` events, `ratio` times as many as the four W before on average, and so many would come by chance with at most `p`: from the store |
//!
//! **Coverage** ([`coverage`]): an agent tells up to what time all that it received has arrived (its
//! watermark), and by `agent.started` when it was not there to hear. `absent` and `silent` are decided once
//! the watermark has passed, and never over such a gap: not heard is not absent.
//!
//! **Late**: an event is looked at as long as it is within [`HORIZON_MS`] of the newest that its rule has
//! seen; for `match` however old it is. Freshness is judged by receipt, never by a device's clock: a finding is fresh
//! when a live event that it rests on was received no longer ago than the rule's `fresh`; for the kinds that wait, when
//! their time was over no longer ago. Any other is 补报: delayed on the way, or replayed ([`timing`]).
//!
//! **History** that was imported is the past of `repeat` and `surge` and completes nothing: it is no hit itself, and
//! other rules do not see it.
//!
//! Limits: `max_keys` keys a rule, `max_events` events a key, [`HORIZON_MS`] back and
//! ahead; where there is no room, what is more than [`AHEAD_MS_MAX`] ahead goes first.
//! What no timeline takes, or has to let go of, is counted, and the first time that it costs a rule something
//! a warning `rule.overflow` says so. Keys are places, devices and types; a rule that is about a person
//! needs a consent, two approvals and an end (see [`rule`]).
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

/// Keys that one rule holds, unless it says otherwise.
pub const KEYS_MAX: usize = 200_000;
/// Events that one key of one rule holds, unless the rule says otherwise.
pub const KEY_EVENTS_MAX: usize = 4_096;
/// How far back late events are looked at, milliseconds: 7 days. The longest window in memory.
pub const HORIZON_MS: i64 = 7 * 86_400_000;
/// Clocks may be this far ahead of the hub's, milliseconds; what is farther ahead is of the future.
pub const AHEAD_MS_MAX: i64 = 5 * 60_000;
/// The id of the rule under which limits of rules are reported.
pub const OVERFLOW_RULE: &str = "rule.overflow";

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

/// `agent/lane/epoch`: a lane of one life of an agent's spool, as identities of events begin.
pub fn life(agent: &str, lane: Lane, epoch: u64) -> String {
    format!("{agent}/{lane}/{epoch:016x}")
}

impl Origin<'_> {
    /// `agent/lane/epoch/sequence`
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
    /// `agent/lane/epoch/sequence`
    pub event: String,
    /// Kind.
    pub kind: String,
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// What a rule has found around one time, for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Site of the event that completed it.
    pub site: String,
    /// Agent of that event.
    pub agent: String,
    /// First hit, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Last hit, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Hits.
    pub hits: i64,
    /// What the first hit rests on.
    pub reasons: Vec<Reason>,
    /// What was counted at the first hit, in words.
    pub values: String,
    /// When what was missing came after all, for `absent` and `silent`.
    pub ended_ms: Option<i64>,
    /// When the hub could have known of it, milliseconds since 1970 UTC: the latest receipt of a live event that it
    /// rests on. `None`: all of it was replayed.
    pub arrived_ms: Option<i64>,
}

impl Finding {
    /// The two are no farther apart than hits of one finding may be.
    pub fn is_near(&self, other: &Finding, fold_ms: i64) -> bool {
        self.from_ms <= other.to_ms.saturating_add(fold_ms)
            && self.to_ms >= other.from_ms.saturating_sub(fold_ms)
    }

    /// Takes one hit of a rule whose hits are events by themselves into this finding.
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
