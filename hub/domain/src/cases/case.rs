//! A case as the fold of its log: `apply` defines the effect of each action, `replay` folds them, and nothing
//! else changes a case. Both work without clock, calendar and terms: each action stores the effects that
//! depended on them.
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Attachment, Due, Filed, Registration, Twin, What};
use super::clock::{self, Clock, ClockKind, Mark};
use super::moves::{Move, Rung, SuspensionReason};
use super::state::State;
use super::subject::Done;

/// After this many returns the centre must name a lead.
pub const RETURNS_MAX: u32 = 2;

/// Suspension (挂起).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The state before the suspension.
    pub from: State,
    /// Reason.
    pub cause: SuspensionReason,
    /// End of the suspension, milliseconds since 1970 UTC.
    pub until_ms: i64,
}

/// Merge into another case (并入).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merging {
    /// The state before the merge.
    pub from: State,
    /// Code of the case that stands for this one.
    pub into: String,
}

/// Part of a joint handler (协办).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// Task.
    pub task: String,
    /// The task is done.
    pub done: bool,
}

/// A requested delay (延期).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// The person who requested it.
    pub person: String,
    /// The requested deadline, milliseconds since 1970 UTC.
    pub until_ms: i64,
}

/// A case: the fold of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Code (一案一码).
    pub code: String,
    /// Code of the kind.
    pub kind: String,
    /// State in the loop.
    pub state: State,
    /// Set while the case is suspended; kept if a suspended case is merged.
    pub suspension: Option<Suspension>,
    /// Set while the case is merged.
    pub merging: Option<Merging>,
    /// Id of the centre.
    pub centre: String,
    /// The lead (主办): the one organisation responsible for the case.
    pub lead: String,
    /// The centre has named the lead.
    pub lead_named: bool,
    /// The centre must name a lead.
    pub lead_wanted: bool,
    /// The handler (经办人): the person who signed.
    pub handler: Option<String>,
    /// Everybody who ever signed, answered or did a part.
    pub hands: BTreeSet<String>,
    /// Joint handlers (协办), by organisation.
    pub joint: BTreeMap<String, Joint>,
    /// Only named handlers may see it.
    pub named_only: bool,
    /// The named handlers.
    pub named: BTreeSet<String>,
    /// Grade of the risk.
    pub risk: String,
    /// Rung of the escalation ladder.
    pub rung: Rung,
    /// The leader in charge (包案领导).
    pub leader: Option<String>,
    /// Supervision (督办): the gravest level that its clocks reached.
    pub supervision: Option<Mark>,
    /// Returns (退回) since the centre last named a lead, or since the last reopening.
    pub returns: u32,
    /// Reopenings (重开), by a move or by a revisit that found nobody satisfied.
    pub reopened: u32,
    /// Marks of the evaluation (评价).
    pub marks: Option<u8>,
    /// Requested delays without a decision, by organisation.
    pub delays: BTreeMap<String, Delay>,
    /// Ids of the linked warnings.
    pub warnings: BTreeSet<i64>,
    /// Codes of the cases merged into this one.
    pub absorbed: BTreeSet<String>,
    /// Files, by the number of the action that added each.
    #[serde(default)]
    pub attachments: BTreeMap<i64, Attachment>,
    /// Running and paused clocks.
    pub clocks: Vec<Clock>,
    /// Number of the last action.
    pub version: i64,
    /// Time of the last action, milliseconds since 1970 UTC.
    pub last_ms: i64,
}

/// Why a log does not fold to a case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLog {
    /// The first action is no registration, or a later one is.
    #[error("action {number} of a log: a registration is the first action and no other")]
    Registration {
        /// Number of the wrong action; 0 if the log is empty.
        number: i64,
    },
    /// An action is missing or duplicated.
    #[error("action {number} of a log where {expected} is expected")]
    Number {
        /// Number found.
        number: i64,
        /// Number expected.
        expected: i64,
    },
}

impl Case {
    /// Folds a log. Errors: [`BadLog`].
    pub fn replay(log: &[Action]) -> Result<Self, BadLog> {
        let bad = |action: Option<&Action>| BadLog::Registration {
            number: action.map_or(0, |action| action.number),
        };
        let (first, rest) = log.split_first().ok_or_else(|| bad(None))?;
        let What::Opening(registration) = &first.what else {
            return Err(bad(Some(first)));
        };
        if first.number != 1 {
            return Err(BadLog::Number {
                number: first.number,
                expected: 1,
            });
        }
        let mut case = Self::opened(registration, first);
        for action in rest {
            if matches!(action.what, What::Opening(_)) {
                return Err(bad(Some(action)));
            }
            if action.number != case.version + 1 {
                return Err(BadLog::Number {
                    number: action.number,
                    expected: case.version + 1,
                });
            }
            case = case.apply(action);
        }
        Ok(case)
    }

    /// The case after its registration.
    fn opened(registration: &Registration, action: &Action) -> Self {
        let case = Self {
            code: registration.code.clone(),
            kind: registration.kind.clone(),
            state: State::Registered,
            suspension: None,
            merging: None,
            centre: registration.centre.clone(),
            lead: registration.centre.clone(),
            lead_named: false,
            lead_wanted: false,
            handler: None,
            hands: BTreeSet::new(),
            joint: BTreeMap::new(),
            named_only: registration.named_only,
            named: BTreeSet::new(),
            risk: registration.risk.clone(),
            rung: registration.rung,
            leader: None,
            supervision: None,
            returns: 0,
            reopened: 0,
            marks: None,
            delays: BTreeMap::new(),
            warnings: registration.warnings.clone(),
            absorbed: BTreeSet::new(),
            attachments: BTreeMap::new(),
            clocks: Vec::new(),
            version: 0,
            last_ms: action.at_ms,
        };
        case.apply(action)
    }

    /// The earliest deadline of its clocks, milliseconds since 1970 UTC.
    pub fn due_ms(&self) -> Option<i64> {
        self.clocks.iter().filter_map(Clock::due_ms).min()
    }

    /// The case after an action that was decided for this version of it.
    #[must_use]
    pub fn apply(mut self, action: &Action) -> Self {
        match &action.what {
            What::Opening(_) => {}
            What::Person(moved) => self.moved(moved, action),
            What::Hub(due) => self.became(due),
            What::Other(Twin::Absorbed { code }) => {
                self.absorbed.insert(code.clone());
            }
            What::Other(Twin::Released { code }) => {
                self.absorbed.remove(code);
            }
            What::File(Filed::Attached { attachment }) => {
                self.attachments.insert(action.number, attachment.clone());
            }
            What::Subject(Done::Corrected { .. }) => {}
            What::Subject(Done::Redacted { .. }) => self.attachments.clear(),
            What::File(Filed::Detached { number, .. }) => {
                self.attachments.remove(number);
            }
        }
        for change in &action.clocks {
            clock::apply(&mut self.clocks, change);
        }
        self.version = action.number;
        self.last_ms = action.at_ms;
        self
    }

    fn became(&mut self, due: &Due) {
        match due {
            Due::Marked {
                kind,
                organisation,
                mark,
                ..
            } => {
                self.tell(*kind, organisation, *mark);
                if mark.is_supervision() {
                    self.supervision = self.supervision.max(Some(*mark));
                }
            }
            Due::LeadDemanded { .. } => {
                let centre = self.centre.clone();
                self.tell(ClockKind::Lead, &centre, Mark::Red);
                self.lead_wanted = true;
            }
            Due::SuspensionEnded { .. } => self.resumed(),
            Due::Recomputed {} => {}
            Due::Climbed { to } => self.rung = *to,
        }
    }

    fn tell(&mut self, kind: ClockKind, organisation: &str, mark: Mark) {
        if let Some(clock) = self
            .clocks
            .iter_mut()
            .find(|clock| clock.is(kind, organisation))
        {
            clock.told = clock.told.max(Some(mark));
        }
    }

    fn resumed(&mut self) {
        if let Some(suspension) = self.suspension.take() {
            self.state = suspension.from;
        }
    }

    fn led_by(&mut self, organisation: &str, named: bool) {
        // The former lead's request for a delay is void.
        let former = std::mem::replace(&mut self.lead, organisation.to_owned());
        self.delays.remove(&former);
        self.lead_named = named;
        self.handler = None;
    }

    fn moved(&mut self, moved: &Move, action: &Action) {
        let actor = &action.actor;
        match moved {
            Move::Accept {} => self.state = State::Accepted,
            Move::Decline { .. } => self.state = State::Declined,
            Move::Dispatch { organisation } => {
                self.state = State::Dispatched;
                self.led_by(organisation, false);
            }
            Move::Transfer { to, .. } => {
                self.state = State::Dispatched;
                self.led_by(to, false);
            }
            Move::NameLead { organisation, .. } => {
                self.state = State::Dispatched;
                self.led_by(organisation, true);
                self.lead_wanted = false;
                self.returns = 0;
            }
            Move::Sign {} => {
                self.state = State::Handling;
                self.handler = Some(actor.clone());
                self.hands.insert(actor.clone());
            }
            Move::Return { .. } => {
                self.state = State::Returned;
                let centre = self.centre.clone();
                self.led_by(&centre, false);
                self.returns += 1;
                self.lead_wanted |= self.returns >= RETURNS_MAX;
            }
            Move::Join { organisation, task } => {
                let joint = Joint {
                    task: task.clone(),
                    done: false,
                };
                self.joint.insert(organisation.clone(), joint);
            }
            Move::JoinDone { organisation, .. } => {
                if let Some(joint) = self.joint.get_mut(organisation) {
                    joint.done = true;
                }
                self.delays.remove(organisation);
                self.hands.insert(actor.clone());
            }
            Move::Answer { .. } => {
                self.state = State::Answered;
                self.delays.remove(&self.lead);
                self.hands.insert(actor.clone());
            }
            Move::Verify { passed: true, .. } => self.state = State::Verified,
            Move::Verify { passed: false, .. } => self.state = State::Handling,
            Move::Revisit {
                satisfied: true, ..
            } => self.state = State::Revisited,
            Move::Revisit {
                satisfied: false, ..
            } => {
                self.state = State::Handling;
                self.reopened += 1;
            }
            Move::Evaluate { marks } => {
                self.state = State::Evaluated;
                self.marks = Some(*marks);
            }
            Move::Archive {} => self.state = State::Archived,
            Move::Suspend { cause, until_ms } => {
                self.suspension = Some(Suspension {
                    from: self.state,
                    cause: *cause,
                    until_ms: *until_ms,
                });
                self.state = State::Suspended;
            }
            Move::Resume {} => self.resumed(),
            Move::AskDelay { until_ms, .. } => {
                let delay = Delay {
                    person: actor.clone(),
                    until_ms: *until_ms,
                };
                self.delays.insert(action.organisation.clone(), delay);
            }
            Move::GrantDelay { organisation } | Move::RefuseDelay { organisation, .. } => {
                self.delays.remove(organisation);
            }
            Move::Escalate { to, leader, .. } => {
                self.rung = *to;
                if leader.is_some() {
                    self.leader.clone_from(leader);
                }
            }
            Move::Reopen { .. } => {
                self.state = State::Accepted;
                let centre = self.centre.clone();
                self.led_by(&centre, false);
                self.lead_wanted = false;
                self.returns = 0;
                self.reopened += 1;
                self.supervision = None;
                self.marks = None;
                self.joint.clear();
                self.delays.clear();
            }
            Move::SetRisk { risk, .. } => self.risk.clone_from(risk),
            Move::Note { .. } => {}
            Move::Merge { into, .. } => {
                self.merging = Some(Merging {
                    from: self.state,
                    into: into.clone(),
                });
                self.state = State::Merged;
            }
            Move::Unmerge { .. } => {
                if let Some(merging) = self.merging.take() {
                    self.state = merging.from;
                }
                // A suspension does not end before the case is back.
                if let Some(suspension) = &mut self.suspension {
                    suspension.until_ms = suspension.until_ms.max(action.at_ms);
                }
            }
            Move::LinkWarning { warning } => {
                self.warnings.insert(*warning);
            }
            Move::UnlinkWarning { warning, .. } => {
                self.warnings.remove(warning);
            }
            Move::NameHandler { person } => {
                self.named.insert(person.clone());
            }
            Move::UnnameHandler { person, .. } => {
                self.named.remove(person);
            }
        }
    }
}
