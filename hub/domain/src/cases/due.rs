//! The effects of time alone on a case, and of a new calendar on its deadlines. Pure.
//!
//! `due` returns the actions that are due by now, each with the moment since which it is due; after these are
//! applied it returns nothing. The time of the call does not matter: a suspension ends at the time set, and
//! the clocks resume from then, however late the hub notices.
use super::action::{Action, Due, HUB, What};
use super::case::Case;
use super::clock::{Change, Clock, ClockKind, Pause};
use super::decide::{ACTIONS_MAX, Context};
use super::desk::Desk;
use super::kind::Kind;
use super::state::State;

/// Maximum number of actions per call. A case has at most 24 clocks at a time, with six marks each; the next
/// call returns the rest.
pub const DUE_MAX: usize = 200;

/// The actions due at or before now, oldest first.
pub fn due(case: &Case, context: &Context<'_>) -> Vec<Action> {
    let mut case = case.clone();
    let mut actions = Vec::new();
    while actions.len() < DUE_MAX && case.version < ACTIONS_MAX {
        let next = climb(&case, context).or_else(|| next(&case));
        let Some(next) = next.filter(|next| next.at_ms <= context.now_ms) else {
            break;
        };
        let at_ms = context.now_ms.max(case.last_ms);
        let clocks = match next.due {
            Due::SuspensionEnded { since_ms } => Desk {
                case: &case,
                rules: context.rules,
                at_ms,
            }
            .resume_all(Pause::Suspended, since_ms),
            _ => Vec::new(),
        };
        let action = action(&case, at_ms, next.due, clocks);
        case = case.apply(&action);
        actions.push(action);
    }
    actions
}

/// The time of the next effect of time alone, milliseconds since 1970 UTC; it may lie in the past. `None`
/// also for a case that has the maximum number of actions.
pub fn next_wake_ms(case: &Case) -> Option<i64> {
    if case.version >= ACTIONS_MAX {
        return None;
    }
    next(case).map(|next| next.at_ms)
}

/// New deadlines, beside the old ones, after calendars or terms changed; `None` if no deadline differs. The
/// new calendar applies from the last start of each clock, as if it had always been in force.
pub fn recompute(case: &Case, context: &Context<'_>) -> Option<Action> {
    let at_ms = context.now_ms.max(case.last_ms);
    let retime = |clock: &Clock| context.rules.retime(clock, clock.clone(), at_ms);
    let clocks: Vec<Change> = case.clocks.iter().filter_map(retime).collect();
    if clocks.is_empty() || case.version >= ACTIONS_MAX {
        return None;
    }
    Some(action(case, at_ms, Due::Recomputed {}, clocks))
}

/// The next rung, if the risk or the supervision of the case requires one. Every cause of a climb is itself
/// an action, and this is evaluated after each action: no time has to pass.
fn climb(case: &Case, context: &Context<'_>) -> Option<Next> {
    let wanted = context.rules.terms.rung(&case.risk, case.supervision)?;
    let to = case.rung.next().filter(|next| *next <= wanted)?;
    let climbs = case.state != State::Suspended && case.state.allows().contains(&Kind::Escalate);
    climbs.then_some(Next {
        at_ms: case.last_ms.min(context.now_ms),
        due: Due::Climbed { to },
    })
}

struct Next {
    at_ms: i64,
    due: Due,
}

fn next(case: &Case) -> Option<Next> {
    let suspension = case
        .suspension
        .filter(|_| case.state == State::Suspended)
        .map(|suspension| Next {
            at_ms: suspension.until_ms,
            due: Due::SuspensionEnded {
                since_ms: suspension.until_ms,
            },
        });
    let of_clock = |clock: &Clock| {
        let moment = clock.next()?;
        let since_ms = moment.at_ms;
        let due = match clock.kind {
            ClockKind::Lead => Due::LeadDemanded { since_ms },
            kind => Due::Marked {
                kind,
                organisation: clock.organisation.clone(),
                mark: moment.mark,
                since_ms,
            },
        };
        Some(Next {
            at_ms: since_ms,
            due,
        })
    };
    let clocks = case.clocks.iter().filter_map(of_clock);
    clocks.chain(suspension).min_by_key(|next| next.at_ms)
}

fn action(case: &Case, at_ms: i64, due: Due, clocks: Vec<Change>) -> Action {
    Action {
        number: case.version + 1,
        at_ms,
        actor: HUB.to_owned(),
        organisation: HUB.to_owned(),
        what: What::Hub(due),
        clocks,
    }
}
