//! Cases (案件): the unit of work, from the warning or report that opens it to the archive, under one code
//! (一案一码). Pure: this module decides; `store::cases` stores the decisions.
//!
//! The module owns the loop 受理、派单、办理、答复、督办、回访、评价:
//! * the states and the moves that each accepts (`state`), the moves (`moves`, `kind`);
//! * the result of a move, or the reason for its refusal (`decide`, `check`, `refused`);
//! * the log (`action`) and the case that the log folds to (`case`);
//! * the clocks and their terms (`clock`, `desk`, `terms`), the effects of time alone (`due`);
//! * the choice of the leading organisation (`dispatch`).
//!
//! It does not decide who may make a move or see a case.
//!
//! | state | word | moves, and the state they lead to |
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
//! | 挂起 | suspended | resume → the previous state, also automatically at the time set |
//! | 并入 | merged | unmerge → the previous state |
//!
//! The states from accepted to verified accept suspend and escalate; suspended accepts escalate too.
//! Dispatched, returned and handling accept join_done, grant_delay and refuse_delay. Every case that is not
//! archived, declined or merged accepts set_risk, note, merge, link_warning, unlink_warning, name_handler and
//! unname_handler. Archived and declined cases accept the last two as well, so that a handler can always be
//! named. Files can be added to and removed from an open case only.
//!
//! A hard case climbs the ladder one rung at a time: people escalate it, or its risk and its supervision
//! raise it as configured in the terms (`[[climb]]`). Only people name a leader.
//!
//! # Invariants
//! * A case is the fold of its log (`Case::replay`); its version is the number of its last action. Actions
//!   are appended and never changed; their times never decrease. Exception: a resident's request deletes the
//!   texts of a closed case (`subject`). The log keeps its skeleton, which still folds to the case.
//! * Exactly one organisation leads (主办) at any time: the centre until it dispatches, after a return and
//!   after a reopening; otherwise the organisation that the case was dispatched to, even before it signs.
//! * After two returns, or when a case has had no owner for its 定主办 term (default: one working day), the
//!   centre must name a lead and an ordinary dispatch is refused. A named lead can neither return nor
//!   transfer. Naming a lead resets the count of returns.
//! * A case has at most one clock per kind and organisation. No clock runs in a case that is archived,
//!   declined, merged or suspended.
//! * A person who signed, answered or did a part may neither verify nor revisit. A delay must be requested
//!   before its clock is due, and be granted by another person of another organisation (the centre may grant
//!   its own).
//! * A merged case changes only by its unmerge (and by that of a merge into it). Of two cases one stands for
//!   the other, never both.
//!
//! # Limits
//! Reasons, tasks: 500 characters; answers, notes: 5,000 (`moves`). 20 joint handlers, 20 named handlers,
//! 1,000 warnings, 100 files (`check`). 10,000 actions; the last 200 of them refuse notes and warnings
//! (`decide`). A suspension lasts at most 180 days, a delay at most 90 days.
//!
//! A lead may answer once all joint handlers are done; the lead or the centre may mark the part of a silent
//! joint handler as done. The level of supervision only rises, until the case is reopened.
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

/// [`Opening::source`] of a case that a police station reported.
pub const POLICE: &str = "police";

/// A case to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Code, see [`code`].
    pub code: String,
    /// Code of the kind.
    pub kind: String,
    /// Title for people.
    pub title: String,
    /// Site of the events.
    pub site: String,
    /// Id of the place; empty if unknown.
    pub place: String,
    /// Key of the place or thing that it is about.
    pub key: String,
    /// Route of the notices.
    pub route: String,
    /// `rule`, `police`, `desk` or `import`.
    pub source: &'static str,
    /// Agent of the station that reported the case; empty if none did.
    pub agent: String,
    /// The station's number of the incident; empty if none.
    pub incident: String,
    /// Identity of the event that reported the case; empty if none.
    pub event: String,
    /// Time of opening, milliseconds since 1970 UTC.
    pub opened_ms: i64,
}

/// Code of a case (一案一码): the day in the centre's local time, and the case's number.
pub fn code(id: i64, now_ms: i64) -> String {
    format!("{}-{id:06}", local_time::text(now_ms, "%Y%m%d"))
}

/// The case that a finding opens; `None` if its rule opens none. `id` is the case's number.
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
