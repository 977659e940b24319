//! Requests of residents (个人信息请求): to see, correct or delete their personal data (个人信息保护法 §45–47). A request
//! is a case of one of three kinds, with the loop and the clocks of all cases. This module decides its
//! effects on other cases. Pure.
//!
//! * The three kinds exist regardless of the taxonomy. From registration to answer a request has 15 working
//!   days unless the terms differ: a starting value, like all terms.
//! * A correction replaces the narrative and keeps nothing of the old one.
//! * A deletion applies to a closed case: it removes the narrative, the files and every text in the log. The
//!   skeleton of the log stays: who did what and when, and under which request the texts were deleted.
//! * An open case is still needed: it refuses a deletion. To hold a closed case for a court, reopen it.
use super::action::{Action, Filed, What};
use super::case::Case;
use super::decide::By;
use super::moves::Move;
use super::refused::Refused;
use super::state::State;
use serde::{Deserialize, Serialize};

/// Placeholder for a deleted text.
pub const REDACTED: &str = "〔已删除 deleted〕";
/// Term of 办理 of a request, working minutes: with half a day to sign and one day to name a lead, 15 working
/// days.
pub const HANDLE_MINUTES: u32 = 15 * 420 - 210 - 420;

/// What a resident requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// 查阅、复制: see and copy.
    See,
    /// 更正、补充: correct and complete.
    Correct,
    /// 删除: delete.
    Delete,
}

impl Wish {
    /// All wishes.
    pub const ALL: [Self; 3] = [Self::See, Self::Correct, Self::Delete];

    /// The code of the kind of case, and its name for people.
    pub fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::See => ("subject-see", "查阅个人信息"),
            Self::Correct => ("subject-correct", "更正个人信息"),
            Self::Delete => ("subject-delete", "删除个人信息"),
        }
    }

    /// The wish with this kind of case.
    pub fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.kind().0 == kind)
    }
}

/// The effect of a request on a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Done {
    /// The narrative was replaced.
    Corrected {
        /// Code of the request.
        request: String,
    },
    /// Narrative, files and texts were deleted.
    Redacted {
        /// Code of the request.
        request: String,
    },
}

/// Checks that an open case requests one of these wishes. Errors: [`Refused`].
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

/// The action that replaces the narrative of a case, under a request. Errors: [`Refused`].
pub fn correct(case: &Case, by: &By, request: &Case, now_ms: i64) -> Result<Action, Refused> {
    asks(request, &[Wish::Correct])?;
    let done = Done::Corrected {
        request: request.code.clone(),
    };
    decided(case, by, done, now_ms)
}

/// The action that deletes the personal data of a closed case, under a request. Errors: [`Refused`].
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

/// The action without the texts that people wrote.
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
