//! 计时, the clocks of a case: each counts the working time that an organisation has for one part of the loop.
//!
//! A clock has a term and what of it is used up; while it runs, the moments at which something is to be said of
//! it (reminder, amber, red, the three levels of supervision) stand in it as times. They are worked out when it
//! starts, goes on or is put to another time, and are written into the action that does so: replaying a log needs
//! no calendar, and what is due now is a comparison. Where the calendar ends before a moment, the moment is
//! missing, and a longer calendar brings it (`retime`): a case is not held up by next year's holidays.
//!
//! A case has at most one clock of a kind and organisation. A clock that waits counts nothing; what it waits for
//! is one of `Pause`, there is no other reason.
use serde::{Deserialize, Serialize};

use super::terms::Terms;
use crate::calendar::{ALWAYS, Calendar, Calendars};

const MINUTE_MS: i64 = 60_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// 定主办: how long the case is without an owner; the centre's.
    Lead,
    /// 签收: until it is signed for.
    Sign,
    /// 办理: until it is answered, or until a joint handler's part is done.
    Handle,
    /// 核验: until the answer is verified; the centre's.
    Verify,
    /// 回访: until who brought it is asked; the centre's.
    Revisit,
}

impl ClockKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Lead,
        Self::Sign,
        Self::Handle,
        Self::Verify,
        Self::Revisit,
    ];

    /// What people read, and the word of the API.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Lead => ("定主办", "lead"),
            Self::Sign => ("签收", "sign"),
            Self::Handle => ("办理", "handle"),
            Self::Verify => ("核验", "verify"),
            Self::Revisit => ("回访", "revisit"),
        }
    }
}

/// What is said of a clock as time passes, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// 提醒.
    Reminder,
    /// 黄灯: little is left.
    Amber,
    /// 红灯: it is late from now on.
    Red,
    /// 普通督办.
    Ordinary,
    /// 黄牌督办.
    YellowCard,
    /// 红牌督办.
    RedCard,
}

impl Mark {
    /// What people read, and the word of the API.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Reminder => ("提醒", "reminder"),
            Self::Amber => ("黄灯", "amber"),
            Self::Red => ("红灯", "red"),
            Self::Ordinary => ("普通督办", "ordinary"),
            Self::YellowCard => ("黄牌督办", "yellow_card"),
            Self::RedCard => ("红牌督办", "red_card"),
        }
    }

    /// It is one of the levels of supervision.
    pub fn is_supervision(self) -> bool {
        self >= Self::Ordinary
    }
}

/// When something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// What.
    pub mark: Mark,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// What a clock waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// It is answered: if the answer does not hold, what is left of the time goes on.
    Verification,
    /// 挂起.
    Suspended,
    /// 并入: if it is undone, the clock goes on.
    Merged,
}

/// One clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What is counted.
    pub kind: ClockKind,
    /// Whose working time.
    pub organisation: String,
    /// It runs day and night, by no calendar.
    pub always: bool,
    /// How much there is, milliseconds of working time.
    pub term_ms: i64,
    /// How much was used up before `since_ms`, milliseconds of working time.
    pub used_ms: i64,
    /// Since when it runs, milliseconds since 1970 UTC; while it waits, since when it does.
    pub since_ms: i64,
    /// It waits.
    pub pause: Option<Pause>,
    /// What is to be said and when, in order; empty while it waits.
    pub moments: Vec<Moment>,
    /// The last that was said.
    pub told: Option<Mark>,
}

/// What becomes of a clock. The actions of a case carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// It starts, in the place of an older one of its kind and organisation.
    Started {
        /// The clock.
        clock: Clock,
    },
    /// It stands still.
    Paused {
        /// Which.
        kind: ClockKind,
        /// Whose.
        organisation: String,
        /// What for.
        pause: Pause,
        /// Used up by now, milliseconds of working time.
        used_ms: i64,
        /// When, milliseconds since 1970 UTC.
        at_ms: i64,
    },
    /// It goes on.
    Resumed {
        /// Which.
        kind: ClockKind,
        /// Whose.
        organisation: String,
        /// From when, milliseconds since 1970 UTC.
        since_ms: i64,
        /// What is to be said and when.
        moments: Vec<Moment>,
    },
    /// It has done its work.
    Stopped {
        /// Which.
        kind: ClockKind,
        /// Whose.
        organisation: String,
    },
    /// It has another deadline: a delay was granted, the risk is another, or the calendar is.
    Retimed {
        /// The clock as it is from now on. What was said before and lies ahead again will be said again.
        clock: Clock,
        /// The deadline before, if there was one.
        old_due_ms: Option<i64>,
        /// The deadline from now on, if the calendar reaches as far.
        due_ms: Option<i64>,
    },
}

/// By what clocks are set.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The terms of the centre.
    pub terms: &'a Terms,
    /// The calendars of the organisations.
    pub calendars: &'a Calendars,
}

impl<'a> Rules<'a> {
    /// A clock of a case of this kind and risk that starts at a time.
    pub fn start(
        self,
        kind: ClockKind,
        organisation: &str,
        (case_kind, risk): (&str, &str),
        since_ms: i64,
    ) -> Clock {
        let minutes = self.terms.minutes(case_kind, risk, kind);
        let mut clock = Clock {
            kind,
            organisation: organisation.to_owned(),
            always: self.terms.is_always(case_kind, risk, kind),
            term_ms: i64::from(minutes) * MINUTE_MS,
            used_ms: 0,
            since_ms,
            pause: None,
            moments: Vec::new(),
            told: None,
        };
        clock.moments = self.moments(&clock);
        clock
    }

    /// The calendar of a clock; `None` if its organisation is not known any more.
    pub fn calendar(self, clock: &Clock) -> Option<&'a Calendar> {
        if clock.always {
            return self.calendars.named(ALWAYS);
        }
        self.calendars.of(&clock.organisation)
    }

    /// What it has used up by a time, milliseconds of working time. Beyond its calendar nothing is counted.
    pub fn used_ms(self, clock: &Clock, now_ms: i64) -> i64 {
        if clock.pause.is_some() {
            return clock.used_ms;
        }
        let calendar = self.calendar(clock);
        let since = calendar.map_or(0, |calendar| {
            calendar.known_open_ms_between(clock.since_ms, now_ms)
        });
        clock.used_ms.saturating_add(since.max(0))
    }

    /// The moments of a running clock, as far as its calendar reaches.
    pub fn moments(self, clock: &Clock) -> Vec<Moment> {
        let Some(calendar) = self.calendar(clock) else {
            return Vec::new();
        };
        let share = |percent: u8| clock.term_ms / 100 * i64::from(percent);
        let late = |minutes: u32| clock.term_ms.saturating_add(i64::from(minutes) * MINUTE_MS);
        let terms = self.terms;
        let mut wanted = vec![(Mark::Red, clock.term_ms)];
        if clock.kind != ClockKind::Lead {
            wanted = vec![
                (Mark::Reminder, share(terms.remind_percent)),
                (Mark::Amber, share(terms.amber_percent)),
                (Mark::Red, clock.term_ms),
                (Mark::Ordinary, late(terms.ordinary_after_minutes)),
                (Mark::YellowCard, late(terms.yellow_after_minutes)),
                (Mark::RedCard, late(terms.red_after_minutes)),
            ];
        }
        wanted
            .into_iter()
            .map_while(|(mark, used_ms)| {
                let left_ms = (used_ms - clock.used_ms).max(0);
                let at_ms = calendar.add_open_ms(clock.since_ms, left_ms).ok()?;
                Some(Moment { mark, at_ms })
            })
            .collect()
    }

    /// A clock that stands still from a time on.
    pub fn pause(self, clock: &Clock, pause: Pause, at_ms: i64) -> Change {
        Change::Paused {
            kind: clock.kind,
            organisation: clock.organisation.clone(),
            pause,
            used_ms: self.used_ms(clock, at_ms),
            at_ms,
        }
    }

    /// A waiting clock that goes on from a time on.
    pub fn resume(self, clock: &Clock, since_ms: i64) -> Change {
        let moments = self.moments(&Clock {
            since_ms,
            pause: None,
            ..clock.clone()
        });
        Change::Resumed {
            kind: clock.kind,
            organisation: clock.organisation.clone(),
            since_ms,
            moments,
        }
    }

    /// A clock that is to be another from a time on: its moments are worked out anew. `None` if that makes no
    /// difference.
    pub fn retime(self, old: &Clock, mut new: Clock, at_ms: i64) -> Option<Change> {
        if new.pause.is_none() {
            new.moments = self.moments(&new);
            let (begun, ahead): (Vec<Moment>, Vec<Moment>) =
                new.moments.iter().partition(|moment| moment.at_ms <= at_ms);
            // What was said stays said, unless its moment is known to lie ahead now.
            let first = ahead.first().map(|moment| moment.mark);
            if first.is_some() && new.told >= first {
                new.told = begun.last().map(|moment| moment.mark);
            }
        }
        if *old == new {
            return None;
        }
        Some(Change::Retimed {
            old_due_ms: old.due_ms(),
            due_ms: new.due_ms(),
            clock: new,
        })
    }

    /// A clock whose case has another risk: it has no more time left than the new grade gives from now on. A
    /// lesser grade gives it no more than it had, that is what a delay is for.
    pub fn regrade(self, old: &Clock, (kind, risk): (&str, &str), at_ms: i64) -> Option<Change> {
        let used_ms = self.used_ms(old, at_ms);
        let minutes_ms = i64::from(self.terms.minutes(kind, risk, old.kind)) * MINUTE_MS;
        let new = Clock {
            always: self.terms.is_always(kind, risk, old.kind),
            term_ms: used_ms.saturating_add(minutes_ms),
            used_ms,
            since_ms: at_ms,
            ..old.clone()
        };
        let change = self.retime(old, new, at_ms)?;
        let sooner = match &change {
            _ if old.pause.is_some() => minutes_ms < old.term_ms - used_ms,
            Change::Retimed {
                old_due_ms: Some(old_ms),
                due_ms,
                ..
            } => due_ms.is_some_and(|due_ms| due_ms < *old_ms),
            _ => true,
        };
        sooner.then_some(change)
    }
}

/// When a clock of these moments is late.
fn due_ms(moments: &[Moment]) -> Option<i64> {
    let red = moments.iter().find(|moment| moment.mark == Mark::Red)?;
    Some(red.at_ms)
}

impl Clock {
    /// When it is late, milliseconds since 1970 UTC; `None` while it waits, or where its calendar ends before.
    pub fn due_ms(&self) -> Option<i64> {
        due_ms(&self.moments)
    }

    /// It is this one.
    pub fn is(&self, kind: ClockKind, organisation: &str) -> bool {
        self.kind == kind && self.organisation == organisation
    }

    /// What is to be said next.
    pub fn next(&self) -> Option<Moment> {
        let untold = |moment: &&Moment| self.told.is_none_or(|told| moment.mark > told);
        self.moments.iter().find(untold).copied()
    }
}

/// Applies a change to the clocks of a case. One that is about a clock which is not there changes nothing.
pub fn apply(clocks: &mut Vec<Clock>, change: &Change) {
    match change {
        Change::Started { clock } | Change::Retimed { clock, .. } => {
            match find(clocks, clock.kind, &clock.organisation) {
                Some(old) => old.clone_from(clock),
                None => clocks.push(clock.clone()),
            }
        }
        Change::Stopped { kind, organisation } => {
            clocks.retain(|clock| !clock.is(*kind, organisation));
        }
        Change::Paused {
            kind,
            organisation,
            pause,
            used_ms,
            at_ms,
        } => {
            if let Some(clock) = find(clocks, *kind, organisation) {
                clock.pause = Some(*pause);
                clock.used_ms = *used_ms;
                clock.since_ms = *at_ms;
                clock.moments.clear();
            }
        }
        Change::Resumed {
            kind,
            organisation,
            since_ms,
            moments,
        } => {
            if let Some(clock) = find(clocks, *kind, organisation) {
                clock.pause = None;
                clock.since_ms = *since_ms;
                clock.moments.clone_from(moments);
            }
        }
    }
}

fn find<'a>(clocks: &'a mut [Clock], kind: ClockKind, organisation: &str) -> Option<&'a mut Clock> {
    clocks.iter_mut().find(|clock| clock.is(kind, organisation))
}
