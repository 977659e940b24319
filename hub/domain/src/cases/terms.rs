//! The terms of a centre (时限): how long each part of the loop may take by kind and risk, when it turns amber,
//! and the effects of lateness: supervision and the next rungs of the ladder. All terms are working time in
//! the calendar of the responsible organisation.
//!
//! The defaults are starting values. A centre must replace them according to its own rules and figures.
use serde::Deserialize;

use super::clock::{ClockKind, Mark};
use super::moves::Rung;
use super::subject::{HANDLE_MINUTES, Wish};

/// Permitted number of grades of risk.
pub const GRADES: std::ops::RangeInclusive<usize> = 3..=5;
/// Maximum term, working minutes: more than two years of working days.
pub const TERM_MINUTES_MAX: u32 = 525_600;
/// Maximum number of entries of `[[term]]`, and of `[[climb]]`.
pub const TERMS_MAX: usize = 200;

/// A grade of risk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskGrade {
    /// Short name, as used in the API.
    pub name: String,
    /// Name for people.
    pub words: String,
    /// Display colour, "#rrggbb".
    pub colour: String,
}

/// The terms for a kind of case, a risk, or both. A field left out takes its value from the next wider entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Term {
    /// Applies to this kind only.
    pub kind: Option<String>,
    /// Applies to this risk only.
    pub risk: Option<String>,
    /// 签收: time to sign.
    pub sign_minutes: Option<u32>,
    /// 办理: time to handle, also for each joint handler's part.
    pub handle_minutes: Option<u32>,
    /// 核验: time to verify.
    pub verify_minutes: Option<u32>,
    /// 回访: time to revisit.
    pub revisit_minutes: Option<u32>,
    /// 定主办: how long a case may have no owner.
    pub lead_minutes: Option<u32>,
    /// The clocks that run day and night.
    pub always: Option<Vec<ClockKind>>,
}

/// `[[climb]]`: raises a case on the ladder automatically, one rung at a time, each with an entry in its log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Climb {
    /// Applies to this risk only.
    #[serde(default)]
    pub risk: Option<String>,
    /// The supervision that triggers the climb: ordinary, yellow_card, red_card. Left out: at once.
    #[serde(default)]
    pub supervision: Option<Mark>,
    /// The highest rung reached: centre or joint_meeting. Only people name a leader.
    pub to: Rung,
}

/// The terms of a centre.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Share of a term after which the reminder is due, percent.
    pub remind_percent: u8,
    /// Share of a term after which the clock turns amber, percent.
    pub amber_percent: u8,
    /// Lateness that triggers ordinary supervision (普通督办), working minutes.
    pub ordinary_after_minutes: u32,
    /// Lateness that triggers a yellow card (黄牌督办), working minutes.
    pub yellow_after_minutes: u32,
    /// Lateness that triggers a red card (红牌督办), working minutes.
    pub red_after_minutes: u32,
    /// Grades of risk, the gravest first.
    pub grade: Vec<RiskGrade>,
    /// `[any]`: the terms for cases that no entry covers.
    pub any: AnyTerm,
    /// `[[term]]`: the exceptions.
    pub term: Vec<Term>,
    /// `[[climb]]`: the automatic climbs. `climb = []` at the top of the file disables them.
    pub climb: Vec<Climb>,
}

/// `[any]`: the general terms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnyTerm {
    /// 签收: working minutes to sign.
    pub sign_minutes: u32,
    /// 办理: working minutes to handle, also for each joint handler's part.
    pub handle_minutes: u32,
    /// 核验: working minutes to verify.
    pub verify_minutes: u32,
    /// 回访: working minutes to revisit.
    pub revisit_minutes: u32,
    /// 定主办: working minutes that a case may have no owner.
    pub lead_minutes: u32,
}

impl Default for AnyTerm {
    /// Half a day to sign, seven days to handle, two to verify, three to revisit, one to name a lead. A
    /// working day has seven hours.
    fn default() -> Self {
        Self {
            sign_minutes: 210,
            handle_minutes: 2_940,
            verify_minutes: 840,
            revisit_minutes: 1_260,
            lead_minutes: 420,
        }
    }
}

impl Default for Terms {
    /// The grades are named like those of warnings. A red case must be signed for within half an hour and
    /// handled within a day, day and night. A yellow card raises a case to the centre, a red card to a joint
    /// meeting.
    fn default() -> Self {
        let grade = |name: &str, words: &str, colour: &str| RiskGrade {
            name: name.to_owned(),
            words: words.to_owned(),
            colour: colour.to_owned(),
        };
        Self {
            remind_percent: 50,
            amber_percent: 80,
            ordinary_after_minutes: 0,
            yellow_after_minutes: 420,
            red_after_minutes: 1_260,
            grade: vec![
                grade("red", "红色", "#d4380d"),
                grade("orange", "橙色", "#fa8c16"),
                grade("yellow", "黄色", "#fadb14"),
                grade("blue", "蓝色", "#1677ff"),
            ],
            any: AnyTerm::default(),
            term: vec![
                Term {
                    risk: Some("red".to_owned()),
                    sign_minutes: Some(30),
                    handle_minutes: Some(1_440),
                    lead_minutes: Some(30),
                    always: Some(vec![ClockKind::Lead, ClockKind::Sign, ClockKind::Handle]),
                    ..Term::default()
                },
                Term {
                    risk: Some("orange".to_owned()),
                    sign_minutes: Some(60),
                    handle_minutes: Some(1_260),
                    ..Term::default()
                },
            ],
            climb: [
                (Mark::YellowCard, Rung::Centre),
                (Mark::RedCard, Rung::JointMeeting),
            ]
            .map(|(mark, to)| Climb {
                risk: None,
                supervision: Some(mark),
                to,
            })
            .into(),
        }
    }
}

impl Terms {
    /// Checks the terms. Errors: the key and the problem.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, message: String| Err((key.to_owned(), message));
        if self.remind_percent == 0 || self.remind_percent > self.amber_percent {
            let message = "must be from 1 to amber_percent, like 50".to_owned();
            return wrong("remind_percent", message);
        }
        if self.amber_percent >= 100 {
            return wrong("amber_percent", "must be below 100, like 80".to_owned());
        }
        if self.yellow_after_minutes < self.ordinary_after_minutes {
            let message = "must not be below ordinary_after_minutes".to_owned();
            return wrong("yellow_after_minutes", message);
        }
        if self.red_after_minutes < self.yellow_after_minutes {
            let message = "must not be below yellow_after_minutes".to_owned();
            return wrong("red_after_minutes", message);
        }
        if self.red_after_minutes > TERM_MINUTES_MAX {
            return wrong("red_after_minutes", format!("at most {TERM_MINUTES_MAX}"));
        }
        self.check_grades()?;
        self.check_entries()?;
        self.check_climbs()
    }

    fn check_climbs(&self) -> Result<(), (String, String)> {
        if self.climb.len() > TERMS_MAX {
            let message = format!("has {} entries, at most {TERMS_MAX}", self.climb.len());
            return Err(("climb".to_owned(), message));
        }
        for (at, climb) in self.climb.iter().enumerate() {
            let wrong = |key: &str, message: String| Err((format!("climb[{at}].{key}"), message));
            if let Some(risk) = climb.risk.as_deref().filter(|risk| !self.has_risk(risk)) {
                return wrong("risk", format!("{risk:?} is none of the grades"));
            }
            if climb.supervision.is_some_and(|mark| !mark.is_supervision()) {
                let message = "must be ordinary, yellow_card or red_card".to_owned();
                return wrong("supervision", message);
            }
            if !matches!(climb.to, Rung::Centre | Rung::JointMeeting) {
                let message = "must be centre or joint_meeting".to_owned();
                return wrong("to", message);
            }
        }
        Ok(())
    }

    /// The rung that a case should have reached by its risk and supervision; `None`: no climb applies.
    pub fn rung(&self, risk: &str, supervision: Option<Mark>) -> Option<Rung> {
        let holds = |climb: &&Climb| {
            climb.risk.as_deref().is_none_or(|of| of == risk)
                && climb
                    .supervision
                    .is_none_or(|mark| supervision >= Some(mark))
        };
        self.climb.iter().filter(holds).map(|climb| climb.to).max()
    }

    fn check_grades(&self) -> Result<(), (String, String)> {
        if !GRADES.contains(&self.grade.len()) {
            let message = format!(
                "has {} grades: give {} to {}, the gravest first",
                self.grade.len(),
                GRADES.start(),
                GRADES.end()
            );
            return Err(("grade".to_owned(), message));
        }
        for (at, grade) in self.grade.iter().enumerate() {
            let wrong =
                |key: &str, message: &str| Err((format!("grade[{at}].{key}"), message.to_owned()));
            if grade.name.trim().is_empty() || grade.words.trim().is_empty() {
                return wrong("name", "name and words must say something");
            }
            if self.grade[..at]
                .iter()
                .any(|other| other.name == grade.name)
            {
                return wrong("name", "is there already: give each grade its own");
            }
            let digits = grade.colour.strip_prefix('#').unwrap_or_default();
            if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return wrong("colour", "must be a colour like \"#d4380d\"");
            }
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), (String, String)> {
        if self.term.len() > TERMS_MAX {
            let message = format!("has {} entries, at most {TERMS_MAX}", self.term.len());
            return Err(("term".to_owned(), message));
        }
        for clock in ClockKind::ALL {
            if !(1..=TERM_MINUTES_MAX).contains(&self.any.minutes(clock)) {
                let key = format!("any.{}_minutes", clock.words().1);
                return Err((key, format!("must be from 1 to {TERM_MINUTES_MAX}")));
            }
        }
        for (at, term) in self.term.iter().enumerate() {
            let wrong = |key: &str, message: String| Err((format!("term[{at}]{key}"), message));
            if term.kind.is_none() && term.risk.is_none() {
                let message = "names neither kind nor risk: what holds for all stands in any";
                return wrong("", message.to_owned());
            }
            if let Some(risk) = term.risk.as_deref().filter(|risk| !self.has_risk(risk)) {
                let names: Vec<&str> = self.grade.iter().map(|grade| grade.name.as_str()).collect();
                return wrong(
                    ".risk",
                    format!("{risk:?} is none of the grades {}", names.join(", ")),
                );
            }
            let twice = |other: &Term| other.kind == term.kind && other.risk == term.risk;
            if self.term[..at].iter().any(twice) {
                let message = "is there already for this kind and risk: put both into one";
                return wrong("", message.to_owned());
            }
            for clock in ClockKind::ALL {
                let minutes = term.minutes(clock).unwrap_or(1);
                if !(1..=TERM_MINUTES_MAX).contains(&minutes) {
                    return wrong(
                        &format!(".{}_minutes", clock.words().1),
                        format!("must be from 1 to {TERM_MINUTES_MAX}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// True if a grade has this name.
    pub fn has_risk(&self, risk: &str) -> bool {
        self.grade.iter().any(|grade| grade.name == risk)
    }

    /// The term of a clock, working minutes.
    pub fn minutes(&self, kind: &str, risk: &str, clock: ClockKind) -> u32 {
        self.narrowest(kind, risk, |term| term.minutes(clock))
            .unwrap_or_else(|| match Wish::of_kind(kind) {
                Some(_) if clock == ClockKind::Handle => HANDLE_MINUTES,
                _ => self.any.minutes(clock),
            })
    }

    /// True if this clock runs day and night.
    pub fn is_always(&self, kind: &str, risk: &str, clock: ClockKind) -> bool {
        self.narrowest(kind, risk, |term| term.always.as_ref())
            .is_some_and(|always| always.contains(&clock))
    }

    /// The value from the narrowest entry that has one: kind and risk, then kind, then risk.
    fn narrowest<'a, T>(
        &'a self,
        kind: &str,
        risk: &str,
        says: impl Fn(&'a Term) -> Option<T>,
    ) -> Option<T> {
        let of = |of_kind: Option<&str>, of_risk: Option<&str>| {
            self.term
                .iter()
                .find(|term| term.kind.as_deref() == of_kind && term.risk.as_deref() == of_risk)
                .and_then(&says)
        };
        of(Some(kind), Some(risk))
            .or_else(|| of(Some(kind), None))
            .or_else(|| of(None, Some(risk)))
    }
}

impl Term {
    fn minutes(&self, clock: ClockKind) -> Option<u32> {
        match clock {
            ClockKind::Lead => self.lead_minutes,
            ClockKind::Sign => self.sign_minutes,
            ClockKind::Handle => self.handle_minutes,
            ClockKind::Verify => self.verify_minutes,
            ClockKind::Revisit => self.revisit_minutes,
        }
    }
}

impl AnyTerm {
    fn minutes(&self, clock: ClockKind) -> u32 {
        match clock {
            ClockKind::Lead => self.lead_minutes,
            ClockKind::Sign => self.sign_minutes,
            ClockKind::Handle => self.handle_minutes,
            ClockKind::Verify => self.verify_minutes,
            ClockKind::Revisit => self.revisit_minutes,
        }
    }
}
