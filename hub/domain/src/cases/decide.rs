//! Decides a move: returns an action for the log, or the reason for the refusal. Pure.
//!
//! Whether a person may make a move at all is decided elsewhere. This module checks what follows from the
//! case itself: its state, its lead, the people who worked on it, its limits. The caller must first append
//! the effects of time up to now (`due`) to the log.
use super::action::{Action, Attachment, Filed, Registration, Twin, What};
use super::case::Case;
use super::check::{self, ATTACHMENTS_MAX, WARNINGS_MAX, already, unknown};
use super::clock::{Change, ClockKind, Rules};
use super::desk::Desk;
use super::kind::Kind;
use super::moves::{Move, REASON_CHARS_MAX};
use super::refused::Refused;

/// Maximum number of cases merged into one.
pub const ABSORBED_MAX: usize = 1_000;
/// Maximum number of actions of a case.
pub const ACTIONS_MAX: i64 = 10_000;
/// The last actions, reserved for the moves that close a case: notes and warnings are refused.
const ACTIONS_KEPT: i64 = 200;

/// Who wants to make a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The person.
    pub person: String,
    /// The organisation for which the person acts.
    pub organisation: String,
    /// The version that the person has read; `None` disables the check.
    pub seen_version: Option<i64>,
}

/// The inputs of a decision, beside the case.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Now, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// Terms and calendars.
    pub rules: Rules<'a>,
}

/// The first action of a case. Errors: [`Refused`].
pub fn register(
    registration: Registration,
    by: &By,
    context: &Context<'_>,
) -> Result<Action, Refused> {
    check::known(context, "centre", &registration.centre)?;
    check::name("code", &registration.code)?;
    check::name("kind", &registration.kind)?;
    check::risk(context, &registration.risk)?;
    let warnings = registration.warnings.len();
    check::room_for("warnings", warnings, WARNINGS_MAX + 1, true)?;
    let about = (registration.kind.as_str(), registration.risk.as_str());
    let clock = context
        .rules
        .start(ClockKind::Lead, &registration.centre, about, context.now_ms);
    Ok(Action {
        number: 1,
        at_ms: context.now_ms,
        actor: by.person.clone(),
        organisation: by.organisation.clone(),
        clocks: vec![Change::Started { clock }],
        what: What::Opening(registration),
    })
}

/// The action of a move. Errors: [`Refused`].
pub fn decide(
    case: &Case,
    by: &By,
    wanted: &Move,
    context: &Context<'_>,
) -> Result<Action, Refused> {
    fresh(case, by)?;
    let allowed = case.state.allows();
    if !allowed.contains(&wanted.kind()) {
        return Err(Refused::Forbidden {
            state: case.state,
            allowed,
        });
    }
    room(case, wanted.kind())?;
    if let Some((field, text, chars_max, needed)) = wanted.text() {
        if needed && text.trim().is_empty() {
            return Err(Refused::NeedsText { field });
        }
        if text.chars().count() > chars_max {
            return Err(Refused::TooLong { field, chars_max });
        }
    }
    check::check(case, by, wanted, context)?;
    let at_ms = context.now_ms.max(case.last_ms);
    let clocks = Desk {
        case,
        rules: context.rules,
        at_ms,
    }
    .changes(wanted)?;
    Ok(action(
        case,
        by,
        at_ms,
        What::Person(wanted.clone()),
        clocks,
    ))
}

/// The other side of a merge: this case stands for `code` from now on. Errors: [`Refused`].
pub fn absorb(case: &Case, by: &By, code: &str, now_ms: i64) -> Result<Action, Refused> {
    let allowed = case.state.allows();
    // A closed case cannot stand for another, so two cases never stand for each other.
    if !allowed.contains(&Kind::Merge) {
        return Err(Refused::Forbidden {
            state: case.state,
            allowed,
        });
    }
    room(case, Kind::Merge)?;
    if code == case.code || case.absorbed.contains(code) {
        return Err(already("into", code));
    }
    if case.absorbed.len() >= ABSORBED_MAX {
        return Err(Refused::TooMany {
            field: "into",
            max: ABSORBED_MAX,
        });
    }
    let code = code.to_owned();
    let what = What::Other(Twin::Absorbed { code });
    Ok(action(case, by, now_ms.max(case.last_ms), what, Vec::new()))
}

/// The other side of an unmerge, in any state of this case. Errors: [`Refused`].
pub fn release(case: &Case, by: &By, code: &str, now_ms: i64) -> Result<Action, Refused> {
    if !case.absorbed.contains(code) {
        return Err(unknown("code", code));
    }
    room(case, Kind::Unmerge)?;
    let code = code.to_owned();
    let what = What::Other(Twin::Released { code });
    Ok(action(case, by, now_ms.max(case.last_ms), what, Vec::new()))
}

/// Checks that a file of this size can be added. Errors: [`Refused`].
pub fn attachable(case: &Case, bytes: u64, case_bytes_max: u64) -> Result<(), Refused> {
    open(case)?;
    room(case, Kind::Note)?;
    check::room_for("attachments", case.attachments.len(), ATTACHMENTS_MAX, true)?;
    let there: u64 = case.attachments.values().map(|file| file.bytes).sum();
    if there.saturating_add(bytes) > case_bytes_max {
        return Err(Refused::TooLarge {
            bytes: there,
            bytes_max: case_bytes_max,
        });
    }
    Ok(())
}

/// Adds a file to a case. Adding loses nothing, so the version that the person has read does not matter.
/// Errors: [`Refused`].
pub fn attach(
    case: &Case,
    by: &By,
    attachment: Attachment,
    case_bytes_max: u64,
    now_ms: i64,
) -> Result<Action, Refused> {
    attachable(case, attachment.bytes, case_bytes_max)?;
    let at_ms = now_ms.max(case.last_ms);
    let attachment = Attachment {
        by: by.person.clone(),
        at_ms,
        ..attachment
    };
    let what = What::File(Filed::Attached { attachment });
    Ok(action(case, by, at_ms, what, Vec::new()))
}

/// Removes a file from a case. Its number is never reused. Errors: [`Refused`].
pub fn detach(
    case: &Case,
    by: &By,
    number: i64,
    reason: &str,
    now_ms: i64,
) -> Result<Action, Refused> {
    open(case)?;
    room(case, Kind::UnlinkWarning)?;
    if reason.trim().is_empty() {
        return Err(Refused::NeedsText { field: "reason" });
    }
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(Refused::TooLong {
            field: "reason",
            chars_max: REASON_CHARS_MAX,
        });
    }
    if !case.attachments.contains_key(&number) {
        return Err(unknown("attachment", &number.to_string()));
    }
    let reason = reason.to_owned();
    let what = What::File(Filed::Detached { number, reason });
    Ok(action(case, by, now_ms.max(case.last_ms), what, Vec::new()))
}

fn open(case: &Case) -> Result<(), Refused> {
    if case.state.is_closed() {
        return Err(Refused::Forbidden {
            state: case.state,
            allowed: case.state.allows(),
        });
    }
    Ok(())
}

fn action(case: &Case, by: &By, at_ms: i64, what: What, clocks: Vec<Change>) -> Action {
    Action {
        number: case.version + 1,
        at_ms,
        actor: by.person.clone(),
        organisation: by.organisation.clone(),
        what,
        clocks,
    }
}

fn fresh(case: &Case, by: &By) -> Result<(), Refused> {
    match by.seen_version {
        Some(seen) if seen != case.version => Err(Refused::Stale {
            version: case.version,
        }),
        _ => Ok(()),
    }
}

fn room(case: &Case, kind: Kind) -> Result<(), Refused> {
    let kept = match kind {
        Kind::Note | Kind::LinkWarning | Kind::UnlinkWarning => ACTIONS_KEPT,
        _ => 0,
    };
    if case.version >= ACTIONS_MAX - kept {
        return Err(Refused::TooMany {
            field: "actions",
            max: ACTIONS_MAX as usize,
        });
    }
    Ok(())
}
