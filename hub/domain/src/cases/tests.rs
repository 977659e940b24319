//! The fixture: a centre with four organisations, and a case with a clock.
mod clocks;
mod files;
mod log;
mod moves;
mod subject;
mod terms;

use super::action::{Action, Due, Registration, What};
use super::case::Case;
use super::clock::{Clock, ClockKind, Mark, Rules};
use super::decide::{By, Context, decide, register};
use super::due::due;
use super::moves::{Move, Rung};
use super::refused::Refused;
use super::state::State;
use super::terms::Terms;
use crate::calendar::{Calendar, Calendars, file};
use crate::local_time;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CALENDAR: &str = include_str!("../../../../configs/calendars/china-2026.toml");
const MINUTE_MS: i64 = 60_000;
const CENTRE: &str = "centre";

/// A time like "2026-03-02 08:30", local time of the centre. 2 March 2026 is a Monday.
fn at(text: &str) -> i64 {
    let (day, time) = text.split_once(' ').expect("day and time");
    let (hours, minutes) = time.split_once(':').expect("a time");
    let minutes = hours.parse::<i64>().expect("hours") * 60 + minutes.parse::<i64>().expect("min");
    let midnight_ms = local_time::midnight_ms(day.parse().expect("a day")).expect("a time");
    midnight_ms + minutes * MINUTE_MS
}

fn shown(ms: i64) -> String {
    local_time::text(ms, "%m-%d %H:%M")
}

struct World {
    terms: Terms,
    calendars: Calendars,
}

fn calendars(text: &str) -> Calendars {
    let calendar: Calendar = file::parse(Path::new("c.toml"), text).expect("a calendar");
    let names = [CENTRE, "office-1", "office-2", "police"].map(str::to_owned);
    let joint = (0..25).map(|number| format!("joint-{number}"));
    let of: BTreeMap<String, String> = names
        .into_iter()
        .chain(joint)
        .map(|name| (name, "china-2026".to_owned()))
        .collect();
    Calendars::new(vec![calendar], of).expect("calendars")
}

impl World {
    fn new() -> Self {
        Self {
            terms: Terms::default(),
            calendars: calendars(CALENDAR),
        }
    }

    fn context(&self, now_ms: i64) -> Context<'_> {
        Context {
            now_ms,
            rules: Rules {
                terms: &self.terms,
                calendars: &self.calendars,
            },
        }
    }
}

fn by(person: &str, organisation: &str) -> By {
    By {
        person: person.to_owned(),
        organisation: organisation.to_owned(),
        seen_version: None,
    }
}

fn registration(risk: &str) -> Registration {
    Registration {
        code: "20260302-000001".to_owned(),
        kind: "dispute".to_owned(),
        risk: risk.to_owned(),
        centre: CENTRE.to_owned(),
        rung: Rung::Grid,
        named_only: false,
        warnings: BTreeSet::from([7]),
    }
}

/// A case under test. After each step its log is replayed and compared with it.
struct Run {
    world: World,
    log: Vec<Action>,
    case: Case,
    now_ms: i64,
}

impl Run {
    fn of_risk(risk: &str, time: &str) -> Self {
        let (world, now_ms) = (World::new(), at(time));
        let first = register(
            registration(risk),
            &by("rule:x", CENTRE),
            &world.context(now_ms),
        )
        .expect("a registration");
        let log = vec![first];
        let case = Case::replay(&log).expect("a log");
        Self {
            world,
            log,
            case,
            now_ms,
        }
    }

    fn new() -> Self {
        Self::of_risk("blue", "2026-03-02 08:30")
    }

    fn put(&mut self, action: Action) {
        self.case = self.case.clone().apply(&action);
        self.log.push(action);
        assert_eq!(Case::replay(&self.log), Ok(self.case.clone()));
    }

    /// Advances the time; appends the effects of time to the log and returns them.
    fn until(&mut self, time: &str) -> Vec<Due> {
        self.now_ms = at(time);
        let actions = due(&self.case, &self.world.context(self.now_ms));
        for action in &actions {
            self.put(action.clone());
        }
        assert_eq!(due(&self.case, &self.world.context(self.now_ms)), []);
        let what = actions.into_iter().map(|action| match action.what {
            What::Hub(due) => due,
            other => panic!("{other:?} is not of time alone"),
        });
        what.collect()
    }

    fn attempt(&mut self, person: &str, organisation: &str, wanted: Move) -> Result<(), Refused> {
        let context = self.world.context(self.now_ms);
        let action = decide(&self.case, &by(person, organisation), &wanted, &context)?;
        self.put(action);
        Ok(())
    }

    fn act(&mut self, person: &str, organisation: &str, wanted: Move) -> &mut Self {
        self.attempt(person, organisation, wanted.clone())
            .unwrap_or_else(|refused| panic!("{wanted:?}: {refused}"));
        self
    }

    /// A case accepted and dispatched to an office.
    fn dispatched() -> Self {
        let mut run = Self::new();
        run.act("clerk", CENTRE, Move::Accept {});
        run.act("clerk", CENTRE, dispatch("office-1"));
        run
    }

    /// A case signed by an office.
    fn handling() -> Self {
        let mut run = Self::dispatched();
        run.act("zhang", "office-1", Move::Sign {});
        run
    }

    fn clock(&self, kind: ClockKind, organisation: &str) -> &Clock {
        self.case
            .clocks
            .iter()
            .find(|clock| clock.is(kind, organisation))
            .unwrap_or_else(|| panic!("no clock {kind:?} of {organisation}"))
    }

    fn due_of(&self, kind: ClockKind, organisation: &str) -> String {
        shown(self.clock(kind, organisation).due_ms().expect("a due time"))
    }

    fn has_clock(&self, kind: ClockKind, organisation: &str) -> bool {
        self.case
            .clocks
            .iter()
            .any(|clock| clock.is(kind, organisation))
    }
}

fn why() -> String {
    "情况如此".to_owned()
}

fn dispatch(organisation: &str) -> Move {
    Move::Dispatch {
        organisation: organisation.to_owned(),
    }
}

fn transfer(to: &str) -> Move {
    Move::Transfer {
        to: to.to_owned(),
        reason: why(),
    }
}

fn join(organisation: &str) -> Move {
    Move::Join {
        organisation: organisation.to_owned(),
        task: why(),
    }
}

fn join_done(organisation: &str) -> Move {
    Move::JoinDone {
        organisation: organisation.to_owned(),
        text: why(),
    }
}

fn name_lead(organisation: &str) -> Move {
    Move::NameLead {
        organisation: organisation.to_owned(),
        reason: why(),
    }
}

fn answer() -> Move {
    Move::Answer { text: why() }
}

fn verify(passed: bool) -> Move {
    Move::Verify {
        passed,
        reason: why(),
    }
}

fn revisit(satisfied: bool) -> Move {
    Move::Revisit {
        satisfied,
        reason: why(),
    }
}

fn marked(kind: ClockKind, organisation: &str, mark: Mark, since: &str) -> Due {
    Due::Marked {
        kind,
        organisation: organisation.to_owned(),
        mark,
        since_ms: at(since),
    }
}
