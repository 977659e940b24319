//! 个人信息请求: a resident asks to see, to correct or to delete what is held of them (个人信息保护法 §45–47). A request
//! is a case of one of three kinds, with the loop and the clocks of all cases; what it brings about in other cases is
//! decided here. Pure.
//!
//! * The kinds are there whatever the taxonomy says. From the registration to the answer there are 15 working days, unless
//!   the terms say otherwise: a starting value, as all of them.
//! * A correction puts another narrative in the place of the one that was there, of which nothing stays.
//! * A deletion is of a case that is closed: its narrative, its files and every text that people wrote into its log go.
//!   The skeleton of the log stays: who did what and when, and under which request the texts went.
//! * What is open is still needed: it refuses. To hold a closed case for a court is to reopen it.
use super::action::{Action, Filed, What};
use super::case::Case;
use super::decide::By;
use super::moves::Move;
use super::refused::Refused;
use super::state::State;
use serde::{Deserialize, Serialize};

/// What stands where a text was.
pub const REDACTED: &str = "〔已删除 deleted〕";
/// 办理 of a request, working minutes: with half a day to sign and one day to name a lead it is 15 working days.
pub const HANDLE_MINUTES: u32 = 15 * 420 - 210 - 420;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// 查阅、复制
    See,
    /// 更正、补充
    Correct,
    /// 删除
    Delete,
}

impl Wish {
    /// All.
    pub const ALL: [Self; 3] = [Self::See, Self::Correct, Self::Delete];

    /// The code of its kind of case, and what people read.
    pub fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::See => ("subject-see", "查阅个人信息"),
            Self::Correct => ("subject-correct", "更正个人信息"),
            Self::Delete => ("subject-delete", "删除个人信息"),
        }
    }

    /// The one whose kind of case this is.
    pub fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.kind().0 == kind)
    }
}

/// What was done to a case under a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Done {
    /// It has another narrative.
    Corrected {
        /// Code of the request.
        request: String,
    },
    /// Narrative, files and texts are gone.
    Redacted {
        /// Code of the request.
        request: String,
    },
}

/// A case is a request for one of these, and is being worked on.
pub fn asks(request: &Case, wishes: &[Wish]) -> Result<(), Refused> {
    let wish = Wish::of_kind(&request.kind).filter(|wish| wishes.contains(wish));
    if wish.is_none() {
        let kinds = wishes.iter().map(|wish| wish.kind().0).collect();
        return Err(Refused::NoRequest { kinds });
    }
    if request.state.is_closed() {
        return Err(Refused::Forbidden {
            state: request.state,
            allowed: request.state.allows(),
        });
    }
    Ok(())
}

/// Another narrative for a case, under a request.
pub fn correct(case: &Case, by: &By, request: &Case, now_ms: i64) -> Result<Action, Refused> {
    asks(request, &[Wish::Correct])?;
    let done = Done::Corrected {
        request: request.code.clone(),
    };
    decided(case, by, done, now_ms)
}

/// The end of what a closed case says of people, under a request.
pub fn delete(case: &Case, by: &By, request: &Case, now_ms: i64) -> Result<Action, Refused> {
    asks(request, &[Wish::Delete])?;
    if !matches!(case.state, State::Archived | State::Declined) {
        return Err(Refused::StillNeeded { state: case.state });
    }
    let done = Done::Redacted {
        request: request.code.clone(),
    };
    decided(case, by, done, now_ms)
}

fn decided(case: &Case, by: &By, done: Done, now_ms: i64) -> Result<Action, Refused> {
    if by.seen_version.is_some_and(|seen| seen != case.version) {
        return Err(Refused::Stale {
            version: case.version,
        });
    }
    Ok(Action {
        number: case.version + 1,
        at_ms: now_ms.max(case.last_ms),
        actor: by.person.clone(),
        organisation: by.organisation.clone(),
        what: What::Subject(done),
        clocks: Vec::new(),
    })
}

/// The action without what people wrote into it.
#[must_use]
pub fn redacted(mut action: Action) -> Action {
    match &mut action.what {
        What::Person(moved) => redact(moved),
        What::File(Filed::Attached { attachment }) => attachment.name = REDACTED.to_owned(),
        What::File(Filed::Detached { reason, .. }) => *reason = REDACTED.to_owned(),
        What::Opening(_) | What::Hub(_) | What::Other(_) | What::Subject(_) => {}
    }
    action
}

fn redact(moved: &mut Move) {
    match moved {
        Move::Decline { reason: text }
        | Move::NameLead { reason: text, .. }
        | Move::Return { reason: text }
        | Move::Transfer { reason: text, .. }
        | Move::AskDelay { reason: text, .. }
        | Move::RefuseDelay { reason: text, .. }
        | Move::Escalate { reason: text, .. }
        | Move::Reopen { reason: text }
        | Move::SetRisk { reason: text, .. }
        | Move::Merge { reason: text, .. }
        | Move::Unmerge { reason: text }
        | Move::UnlinkWarning { reason: text, .. }
        | Move::UnnameHandler { reason: text, .. }
        | Move::Verify { reason: text, .. }
        | Move::Revisit { reason: text, .. }
        | Move::Join { task: text, .. }
        | Move::JoinDone { text, .. }
        | Move::Answer { text }
        | Move::Note { text } => {
            if !text.is_empty() {
                *text = REDACTED.to_owned();
            }
        }
        Move::Accept {}
        | Move::Dispatch { .. }
        | Move::Sign {}
        | Move::Evaluate { .. }
        | Move::Archive {}
        | Move::Suspend { .. }
        | Move::Resume {}
        | Move::GrantDelay { .. }
        | Move::LinkWarning { .. }
        | Move::NameHandler { .. } => {}
    }
}
