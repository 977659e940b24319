//! 案件, cases: what people work on, from the warning or report that opens one to the archive, under one code
//! (一案一码). Pure: this part decides; `store::cases` keeps what was decided.
//!
//! It owns the loop (受理、派单、办理、答复、督办、回访、评价): the states and what each takes (`state`), the moves
//! (`moves`, `kind`), what a move comes to or why it is refused (`decide`, `check`, `refused`), the log (`action`) and
//! what it makes of a case (`case`), the clocks and their terms (`clock`, `desk`, `terms`), what time alone brings
//! about (`due`), and who is to lead (`dispatch`). Who may make which move is not decided here, nor who may see a case.
//!
//! | state | word | moves, and where they lead |
//! | --- | --- | --- |
//! | 登记 | registered | accept → accepted, decline → declined |
//! | 受理 | accepted | dispatch, name_lead → dispatched |
//! | 派单 | dispatched | sign → handling, return → returned, transfer, name_lead → dispatched |
//! | 退回 | returned | dispatch, name_lead → dispatched |
//! | 签收、办理 | handling | answer → answered, transfer → dispatched; join, ask_delay stay |
//! | 答复 | answered | verify → verified, or handling if it failed |
//! | 核验 | verified | revisit → revisited, or handling if nobody is satisfied |
//! | 回访 | revisited | evaluate → evaluated |
//! | 评价 | evaluated | archive → archived |
//! | 归档、不予受理 | archived, declined | reopen → accepted |
//! | 挂起 | suspended | resume → where it came from, also by itself at the time set |
//! | 并入 | merged | unmerge → where it came from |
//!
//! Accepted to verified take suspend and escalate, a suspended one escalate too; dispatched, returned and handling
//! take join_done, grant_delay and refuse_delay. Any case that is not archived, declined or merged takes set_risk,
//! note, merge, link_warning, unlink_warning, name_handler and unname_handler; archived and declined ones take the last
//! two as well, so that somebody can always be named. Files are added to an open case and removed from it.
//!
//! A hard case goes up the ladder by people (escalate), and by its risk and its supervision as the terms say (`[[climb]]`),
//! a rung at a time; only people name a leader.
//!
//! # Invariants
//! * A case is the fold of its log (`Case::replay`), and its version is the number of its last action. Actions are
//!   appended, never changed, their times never go back. Only the texts of a closed case go under a resident's request
//!   (`subject`): of the log its skeleton stays, and of it the case is the fold.
//! * Exactly one organisation leads (主办) at any time: the centre until it dispatches, after a return and after
//!   a reopening, else who was dispatched to, also before it has signed.
//! * After two returns, or where a case was without an owner for its 定主办 term (one working day unless configured
//!   otherwise), the centre must name a lead: an ordinary dispatch is refused. A named lead can neither return
//!   nor transfer; naming begins the count of returns anew.
//! * There is at most one clock of each kind and organisation, and none that runs in a case that is archived,
//!   declined, merged or suspended.
//! * A revisit and a verification are by somebody who never signed, answered or did a part of it. A delay is
//!   asked for before its clock is due and granted by another person of another organisation (the centre may
//!   grant its own).
//! * A merged case changes by its undoing alone (and by that of a merge into it). Of two cases one stands for the other, never both.
//!
//! # Limits
//! Reasons, tasks: 500 characters; answers, notes: 5,000 (`moves`). 20 joint handlers, 20 named handlers, 1,000
//! warnings, 100 files (`check`), 10,000 actions, of which the last 200 take no notes and warnings (`decide`). A suspension lasts
//! at most 180 days, a delay is at most 90 days.
//!
//! A lead answers when the joint handlers are done; it, or the centre, may say so for one that is silent. The level of
//! supervision rises only, until a case is opened again.
pub mod action;
pub mod case;
pub mod check;
pub mod clock;
pub mod decide;
pub mod desk;
pub mod dispatch;
pub mod due;
pub mod intake;
pub mod kind;
pub mod moves;
pub mod narrative;
pub mod refused;
pub mod state;
pub mod statistics;
pub mod subject;
pub mod terms;
#[cfg(test)]
mod tests;

pub use state::State;

use crate::correlate::Finding;
use crate::correlate::rule::Rule;
use crate::local_time;

/// The source of a case that a police station reported.
pub const POLICE: &str = "police";

/// A case that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub code: String,
    pub kind: String,
    pub title: String,
    pub site: String,
    /// Id of the place, where it is known.
    pub place: String,
    pub key: String,
    pub route: String,
    /// `rule`, `police`, `desk` or `import`.
    pub source: &'static str,
    /// The agent of the station that reported it.
    pub agent: String,
    /// The number that the station gave the incident.
    pub incident: String,
    /// The identity of the event that reported it.
    pub event: String,
    pub opened_ms: i64,
}

/// 一案一码: the day by the clock of the centre, and the case's number.
pub fn code(id: i64, now_ms: i64) -> String {
    format!("{}-{id:06}", local_time::text(now_ms, "%Y%m%d"))
}

/// The case that a finding wants; `None` if its rule opens none. `id` is the case's number.
pub fn opening(rule: &Rule, key: &str, finding: &Finding, id: i64, now_ms: i64) -> Option<Opening> {
    Some(Opening {
        code: code(id, now_ms),
        kind: rule.case.clone()?,
        title: format!("{}：{key}", rule.name),
        site: finding.site.clone(),
        place: String::new(),
        key: key.to_owned(),
        route: rule.route.clone(),
        source: "rule",
        agent: String::new(),
        incident: String::new(),
        event: String::new(),
        opened_ms: now_ms,
    })
}
