//! The clocks of a case (计时): each counts the working time of one organisation for one part of the loop.
//!
//! A clock has a term and the part of it that is used up. While it runs, it stores the times of its marks
//! (reminder, amber, red, the three levels of supervision). These moments are computed when the clock starts,
//! resumes or is retimed, and are written into the action that does so: replaying a log needs no calendar,
//! and finding what is due is a comparison. If the calendar ends before a moment, the moment is missing until
//! a longer calendar supplies it (`retime`): the missing holidays of next year do not block a case.
//!
//! A case has at most one clock per kind and organisation. A paused clock counts nothing; `Pause` lists every
//! reason for a pause.
use serde::{Deserialize, Serialize};

use super::terms::Terms;
use crate::calendar::{ALWAYS, Calendar, Calendars};

const MINUTE_MS: i64 = 60_000;

/// The part of the loop that a clock measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// 定主办: how long the case has no owner. Runs for the centre.
    Lead,
    /// 签收: until the lead signs.
    Sign,
    /// 办理: until the lead answers, or until a joint handler's part is done.
    Handle,
    /// 核验: until the answer is verified. Runs for the centre.
    Verify,
    /// 回访: until the person who brought the case is asked. Runs for the centre.
    Revisit,
}

impl ClockKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Lead,
        Self::Sign,
        Self::Handle,
        Self::Verify,
        Self::Revisit,
    ];

    /// The word shown to people, and the word of the API.
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

/// The marks that a clock passes, in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// 提醒: reminder.
    Reminder,
    /// 黄灯: little time is left.
    Amber,
    /// 红灯: the clock is late from now on.
    Red,
    /// 普通督办: ordinary supervision.
    Ordinary,
    /// 黄牌督办: yellow-card supervision.
    YellowCard,
    /// 红牌督办: red-card supervision.
    RedCard,
}

impl Mark {
    /// The word shown to people, and the word of the API.
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

    /// True for the levels of supervision.
    pub fn is_supervision(self) -> bool {
        self >= Self::Ordinary
    }
}

/// The time of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The mark.
    pub mark: Mark,
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// Why a clock is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// The case is answered. If the verification fails, the clock resumes with the time left.
    Verification,
    /// The case is suspended (挂起).
    Suspended,
    /// The case is merged (并入). An unmerge resumes the clock.
    Merged,
}

/// One clock of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The part of the loop that it measures.
    pub kind: ClockKind,
    /// The organisation whose working time it counts.
    pub organisation: String,
    /// The clock runs day and night, without a calendar.
    pub always: bool,
    /// Term, milliseconds of working time.
    pub term_ms: i64,
    /// Time used before `since_ms`, milliseconds of working time.
    pub used_ms: i64,
    /// Start of the current run or pause, milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// Reason of the pause; `None` while the clock runs.
    pub pause: Option<Pause>,
    /// The marks and their times, in order; empty while the clock is paused.
    pub moments: Vec<Moment>,
    /// The last mark that was reported.
    pub told: Option<Mark>,
}

/// A change of a clock, stored in the actions of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The clock starts and replaces an older one of its kind and organisation.
    Started {
        /// The new clock.
        clock: Clock,
    },
    /// The clock pauses.
    Paused {
        /// Kind of the clock.
        kind: ClockKind,
        /// Organisation of the clock.
        organisation: String,
        /// Reason.
        pause: Pause,
        /// Time used so far, milliseconds of working time.
        used_ms: i64,
        /// Time of the pause, milliseconds since 1970 UTC.
        at_ms: i64,
    },
    /// The clock resumes.
    Resumed {
        /// Kind of the clock.
        kind: ClockKind,
        /// Organisation of the clock.
        organisation: String,
        /// Time of the resumption, milliseconds since 1970 UTC.
        since_ms: i64,
        /// The marks and their times, in order.
        moments: Vec<Moment>,
    },
    /// The clock ends: its part of the loop is done.
    Stopped {
        /// Kind of the clock.
        kind: ClockKind,
        /// Organisation of the clock.
        organisation: String,
    },
    /// The deadline changes: a delay was granted, or the risk or the calendar changed.
    Retimed {
        /// The clock from now on. A mark that was reported and now lies ahead again will be reported again.
        clock: Clock,
        /// The old deadline, if there was one.
        old_due_ms: Option<i64>,
        /// The new deadline, if the calendar reaches that far.
        due_ms: Option<i64>,
    },
}

/// The terms and calendars that set clocks.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Terms of the centre.
    pub terms: &'a Terms,
    /// Calendars of the organisations.
    pub calendars: &'a Calendars,
}

impl<'a> Rules<'a> {
    /// A new clock for a case of this kind and risk, started at `since_ms`.
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

    /// The calendar of a clock; `None` if its organisation no longer exists.
    pub fn calendar(self, clock: &Clock) -> Option<&'a Calendar> {
        if clock.always {
            return self.calendars.named(ALWAYS);
        }
        self.calendars.of(&clock.organisation)
    }

    /// The time used up to `now_ms`, milliseconds of working time. Time beyond the end of the calendar counts
    /// as zero.
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

    /// The moments of a running clock, up to the end of its calendar.
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

    /// The change that pauses a clock at `at_ms`.
    pub fn pause(self, clock: &Clock, pause: Pause, at_ms: i64) -> Change {
        Change::Paused {
            kind: clock.kind,
            organisation: clock.organisation.clone(),
            pause,
            used_ms: self.used_ms(clock, at_ms),
            at_ms,
        }
    }

    /// The change that resumes a paused clock at `since_ms`.
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

    /// The change that replaces `old` by `new` at `at_ms`, with recomputed moments. `None` if the two are
    /// equal.
    pub fn retime(self, old: &Clock, mut new: Clock, at_ms: i64) -> Option<Change> {
        if new.pause.is_none() {
            new.moments = self.moments(&new);
            let (begun, ahead): (Vec<Moment>, Vec<Moment>) =
                new.moments.iter().partition(|moment| moment.at_ms <= at_ms);
            // A reported mark stays reported, unless its new time lies ahead.
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

    /// The change of a clock whose case has a new grade of risk: the time left is at most the term of the new
    /// grade, counted from now. A lower grade never extends the time left (a delay does that): then `None`.
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

/// The deadline in these moments: the time of the red mark.
fn due_ms(moments: &[Moment]) -> Option<i64> {
    let red = moments.iter().find(|moment| moment.mark == Mark::Red)?;
    Some(red.at_ms)
}

impl Clock {
    /// The deadline, milliseconds since 1970 UTC; `None` while the clock is paused or if the calendar ends
    /// earlier.
    pub fn due_ms(&self) -> Option<i64> {
        due_ms(&self.moments)
    }

    /// True if the clock has this kind and organisation.
    pub fn is(&self, kind: ClockKind, organisation: &str) -> bool {
        self.kind == kind && self.organisation == organisation
    }

    /// The next mark to report.
    pub fn next(&self) -> Option<Moment> {
        let untold = |moment: &&Moment| self.told.is_none_or(|told| moment.mark > told);
        self.moments.iter().find(untold).copied()
    }
}

/// Applies a change to the clocks of a case. A change of a clock that does not exist has no effect.
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
