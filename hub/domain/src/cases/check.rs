//! The checks of a move that the state accepts: who leads the case, who worked on it, what is already
//! requested, and the names in the move. Pure.
use super::case::Case;
use super::clock::{Clock, ClockKind};
use super::decide::{By, Context};
use super::kind::Kind;
use super::moves::{DELAY_MS_MAX, MARKS, Move, NAME_CHARS_MAX, Rung, SUSPENDED_MS_MAX};
use super::refused::Refused;

/// Maximum number of joint handlers (协办).
pub const JOINT_MAX: usize = 20;
/// Maximum number of named handlers.
pub const NAMED_MAX: usize = 20;
/// Maximum number of warnings of a case.
pub const WARNINGS_MAX: usize = 1_000;

/// Maximum number of files of a case.
pub const ATTACHMENTS_MAX: usize = 100;

/// Checks a move that the state accepts. Errors: [`Refused`].
pub fn check(case: &Case, by: &By, wanted: &Move, context: &Context<'_>) -> Result<(), Refused> {
    let of = wanted.kind();
    match wanted {
        Move::Dispatch { organisation } => {
            if case.lead_wanted {
                return Err(Refused::LeadWanted);
            }
            new_lead(case, context, "organisation", organisation)
        }
        Move::NameLead { organisation, .. } => {
            only(of, by, &[&case.centre])?;
            new_lead(case, context, "organisation", organisation)
        }
        Move::Sign {} => only(of, by, &[&case.lead]),
        Move::Return { .. } => {
            only(of, by, &[&case.lead])?;
            not_named(case, by)
        }
        Move::Transfer { to, .. } => {
            only(of, by, &[&case.lead, &case.centre])?;
            not_named(case, by)?;
            if *to == case.lead {
                return Err(already("to", to));
            }
            new_lead(case, context, "to", to)
        }
        Move::Join { organisation, .. } => {
            known(context, "organisation", organisation)?;
            // The centre leads whenever no other organisation does, and a lead cannot be a joint handler.
            if *organisation == case.centre {
                return Err(Refused::NotHere {
                    field: "organisation",
                });
            }
            let open = case
                .joint
                .get(organisation)
                .is_some_and(|joint| !joint.done);
            if *organisation == case.lead || open {
                return Err(already("organisation", organisation));
            }
            let new = !case.joint.contains_key(organisation);
            room_for("organisation", case.joint.len(), JOINT_MAX, new)
        }
        Move::JoinDone { organisation, .. } => match case.joint.get(organisation) {
            None => Err(unknown("organisation", organisation)),
            Some(joint) if joint.done => Err(already("organisation", organisation)),
            Some(_) => only(of, by, &[organisation, &case.lead, &case.centre]),
        },
        Move::Answer { .. } => {
            only(of, by, &[&case.lead])?;
            let open = case.joint.iter().filter(|(_, joint)| !joint.done);
            let organisations: Vec<String> = open.map(|(name, _)| name.clone()).collect();
            if organisations.is_empty() {
                return Ok(());
            }
            Err(Refused::JointOpen { organisations })
        }
        Move::Verify { .. } | Move::Revisit { .. } => {
            if case.hands.contains(&by.person) {
                return Err(Refused::SamePerson { of });
            }
            Ok(())
        }
        Move::Evaluate { marks } => within(
            "marks",
            i64::from(*marks),
            i64::from(*MARKS.start()),
            i64::from(*MARKS.end()),
        ),
        Move::Suspend { until_ms, .. } => {
            let now_ms = context.now_ms.max(case.last_ms);
            within("until_ms", *until_ms, now_ms + 1, now_ms + SUSPENDED_MS_MAX)
        }
        Move::AskDelay { until_ms, .. } => ask_delay(case, by, *until_ms, context),
        Move::GrantDelay { organisation } | Move::RefuseDelay { organisation, .. } => {
            let delay = case
                .delays
                .get(organisation)
                .ok_or_else(|| unknown("organisation", organisation))?;
            if delay.person == by.person {
                return Err(Refused::SamePerson { of });
            }
            if *organisation == by.organisation && *organisation != case.centre {
                return Err(Refused::SameOrganisation { of });
            }
            if of == Kind::GrantDelay && delay.until_ms <= context.now_ms {
                return Err(Refused::TooLate {
                    of,
                    until_ms: delay.until_ms,
                });
            }
            Ok(())
        }
        Move::Escalate { to, leader, .. } => {
            if case.rung.next() != Some(*to) {
                return Err(Refused::NotNext {
                    at: case.rung,
                    next: case.rung.next(),
                });
            }
            match leader {
                Some(leader) if *to == Rung::Leader => name("leader", leader),
                None if *to == Rung::Leader => Err(Refused::NeedsText { field: "leader" }),
                Some(_) => Err(Refused::NotHere { field: "leader" }),
                None => Ok(()),
            }
        }
        Move::SetRisk { risk: wanted, .. } => {
            risk(context, wanted)?;
            if *wanted == case.risk {
                return Err(already("risk", wanted));
            }
            Ok(())
        }
        Move::Merge { into, .. } => {
            name("into", into)?;
            if *into == case.code {
                return Err(already("into", into));
            }
            Ok(())
        }
        Move::LinkWarning { warning } => {
            if case.warnings.contains(warning) {
                return Err(already("warning", &warning.to_string()));
            }
            room_for("warning", case.warnings.len(), WARNINGS_MAX, true)
        }
        Move::UnlinkWarning { warning, .. } => {
            if !case.warnings.contains(warning) {
                return Err(unknown("warning", &warning.to_string()));
            }
            Ok(())
        }
        Move::NameHandler { person } => {
            name("person", person)?;
            if case.named.contains(person) {
                return Err(already("person", person));
            }
            room_for("person", case.named.len(), NAMED_MAX, true)
        }
        Move::UnnameHandler { person, .. } => {
            if !case.named.contains(person) {
                return Err(unknown("person", person));
            }
            if case.named_only && case.named.len() == 1 {
                return Err(Refused::LastHandler);
            }
            Ok(())
        }
        Move::Accept {}
        | Move::Decline { .. }
        | Move::Archive {}
        | Move::Resume {}
        | Move::Reopen { .. }
        | Move::Note { .. }
        | Move::Unmerge { .. } => Ok(()),
    }
}

fn ask_delay(case: &Case, by: &By, until_ms: i64, context: &Context<'_>) -> Result<(), Refused> {
    let of = Kind::AskDelay;
    let own = |clock: &&Clock| clock.is(ClockKind::Handle, &by.organisation);
    let Some(clock) = case.clocks.iter().find(own) else {
        let organisation = case.lead.clone();
        return Err(Refused::NotForYou { of, organisation });
    };
    if case.delays.contains_key(&by.organisation) {
        return Err(already("organisation", &by.organisation));
    }
    let calendar = context
        .rules
        .calendar(clock)
        .ok_or_else(|| unknown("organisation", &by.organisation))?;
    let due_ms = calendar.add_open_ms(clock.since_ms, clock.term_ms - clock.used_ms)?;
    if context.now_ms >= due_ms {
        return Err(Refused::TooLate {
            of,
            until_ms: due_ms,
        });
    }
    within("until_ms", until_ms, due_ms + 1, due_ms + DELAY_MS_MAX)?;
    calendar.open_ms_between(context.now_ms, until_ms)?;
    Ok(())
}

fn only(of: Kind, by: &By, organisations: &[&String]) -> Result<(), Refused> {
    if organisations.contains(&&by.organisation) {
        return Ok(());
    }
    Err(Refused::NotForYou {
        of,
        organisation: organisations[0].clone(),
    })
}

fn not_named(case: &Case, by: &By) -> Result<(), Refused> {
    if case.lead_named && by.organisation != case.centre {
        return Err(Refused::LeadNamed);
    }
    Ok(())
}

/// Checks that an organisation may lead: it exists and has no open part as a joint handler (whose clock
/// runs).
fn new_lead(
    case: &Case,
    context: &Context<'_>,
    field: &'static str,
    organisation: &str,
) -> Result<(), Refused> {
    known(context, field, organisation)?;
    if case
        .joint
        .get(organisation)
        .is_some_and(|joint| !joint.done)
    {
        return Err(Refused::JointOpen {
            organisations: vec![organisation.to_owned()],
        });
    }
    Ok(())
}

/// Checks that an organisation exists. Errors: [`Refused::Unknown`].
pub fn known(
    context: &Context<'_>,
    field: &'static str,
    organisation: &str,
) -> Result<(), Refused> {
    match context.rules.calendars.of(organisation) {
        Some(_) => Ok(()),
        None => Err(unknown(field, organisation)),
    }
}

/// Checks that a grade of risk exists. Errors: [`Refused::Unknown`].
pub fn risk(context: &Context<'_>, risk: &str) -> Result<(), Refused> {
    if context.rules.terms.has_risk(risk) {
        return Ok(());
    }
    Err(unknown("risk", risk))
}

/// Checks that a name is neither empty nor too long. Errors: [`Refused::NeedsText`], [`Refused::TooLong`].
pub fn name(field: &'static str, name: &str) -> Result<(), Refused> {
    if name.trim().is_empty() {
        return Err(Refused::NeedsText { field });
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(Refused::TooLong {
            field,
            chars_max: NAME_CHARS_MAX,
        });
    }
    Ok(())
}

fn within(field: &'static str, value: i64, from: i64, to: i64) -> Result<(), Refused> {
    if (from..=to).contains(&value) {
        return Ok(());
    }
    Err(Refused::OutOfRange { field, from, to })
}

/// Checks that one more fits if it is new. Errors: [`Refused::TooMany`].
pub fn room_for(field: &'static str, there: usize, max: usize, new: bool) -> Result<(), Refused> {
    if new && there >= max {
        return Err(Refused::TooMany { field, max });
    }
    Ok(())
}

/// The error [`Refused::Already`] with a bounded name.
pub fn already(field: &'static str, name: &str) -> Refused {
    Refused::Already {
        field,
        name: name.chars().take(NAME_CHARS_MAX).collect(),
    }
}

/// The error [`Refused::Unknown`] with a bounded name.
pub fn unknown(field: &'static str, name: &str) -> Refused {
    Refused::Unknown {
        field,
        name: name.chars().take(NAME_CHARS_MAX).collect(),
    }
}
