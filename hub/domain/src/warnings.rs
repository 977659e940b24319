//! Decisions about a warning beyond its rule. Pure.
//!
//! A warning is raised by a finding of its rule, and amended, ended or withdrawn with it
//! (`correlate::revise`).
//! * **Grades** are the severities in the words of the centre: 红 red for life, 橙 orange for alarm, 黄 yellow
//!   for warning, 蓝 blue for the others; the hub's config can change them.
//! * **Acknowledgement**: if the rule's `then.ack` sets a time, somebody must acknowledge the warning within
//!   it, with name and note. Otherwise the warning escalates along its route's `escalate` and waits as long
//!   again, up to the end of the chain.
//! * **Mutes** have a time, an author and a reason. A warning that matches a mute is raised and opens its
//!   case, but nobody is notified, during or after the mute, and nobody has to acknowledge it. A mute applies
//!   to warnings of life safety only if the hub's config allows it and the mute says so.
//! * **Inhibition**: while a warning of a rule with `inhibits` is open, the warnings that it names are raised
//!   without notifying anybody.
use linli_shared::protocol::event::Severity;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::correlate::rule::Rule;

/// Maximum duration of a mute, milliseconds: 90 days. For longer, change the rule.
pub const MUTE_MS_MAX: i64 = 90 * 86_400_000;
/// Maximum length of the reason and owner of a mute, and of the name and note of an acknowledgement,
/// characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Maximum number of names listed in an error.
const NAMES_LISTED_MAX: usize = 20;

/// A grade: the words for some severities.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grade {
    /// Short name in channels and the API: "red".
    pub name: String,
    /// Name for people: "红色".
    pub words: String,
    /// Names of its severities.
    pub severities: Vec<String>,
}

/// The grades of all severities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grades(Vec<Grade>);

impl Default for Grades {
    fn default() -> Self {
        let grade = |name: &str, words: &str, severities: &[Severity]| Grade {
            name: name.to_owned(),
            words: words.to_owned(),
            severities: severities
                .iter()
                .map(|severity| severity.as_str().to_owned())
                .collect(),
        };
        Self(vec![
            grade("red", "红色", &[Severity::Life]),
            grade("orange", "橙色", &[Severity::Alarm]),
            grade("yellow", "黄色", &[Severity::Warning]),
            grade("blue", "蓝色", &[Severity::Notice, Severity::Info]),
        ])
    }
}

impl Grades {
    /// Checks that each severity has exactly one grade. No grades: the default. Errors: the problem.
    pub fn new(grades: Vec<Grade>) -> Result<Self, String> {
        if grades.is_empty() {
            return Ok(Self::default());
        }
        for grade in &grades {
            if let Some(unknown) = grade
                .severities
                .iter()
                .find(|name| Severity::from_name(name).is_none())
            {
                let names = Severity::ALL.map(Severity::as_str).join(", ");
                return Err(format!(
                    "grade {:?}: severity {unknown:?} is none of {names}",
                    grade.name
                ));
            }
        }
        for severity in Severity::ALL {
            let of = grades
                .iter()
                .flat_map(|grade| &grade.severities)
                .filter(|name| *name == severity.as_str())
                .count();
            if of != 1 {
                return Err(format!(
                    "severity {:?} needs one grade and has {of}",
                    severity.as_str()
                ));
            }
        }
        Ok(Self(grades))
    }

    /// Name and words of the grade of a severity.
    pub fn of(&self, severity: Severity) -> (&str, &str) {
        self.0
            .iter()
            .find(|grade| {
                grade
                    .severities
                    .iter()
                    .any(|name| name == severity.as_str())
            })
            .map_or(("", ""), |grade| {
                (grade.name.as_str(), grade.words.as_str())
            })
    }
}

/// A mute: its warnings are raised without notifying anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mute {
    /// Id.
    pub id: i64,
    /// Id of the rule; empty: any.
    pub rule: String,
    /// Id of the site; empty: any.
    pub site: String,
    /// Key; empty: any.
    pub key: String,
    /// Reason.
    pub reason: String,
    /// The responsible person.
    pub owner: String,
    /// Start, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// End, milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// Applies to warnings of life safety too.
    pub life: bool,
}

/// Whether people are notified when a warning is raised, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationOutcome {
    /// People are notified.
    Told,
    /// The finding is 补报.
    Late,
    /// The rule is in shadow mode.
    Shadow,
    /// A mute matches.
    Muted,
    /// An open warning inhibits it.
    Inhibited,
    /// The rule has no route, or no channel of the route accepts it.
    NoChannel,
    /// Its agent raises too many: one warning stands for this and others.
    Folded,
}

impl NotificationOutcome {
    /// All outcomes.
    pub const ALL: [Self; 7] = [
        Self::Told,
        Self::Late,
        Self::Shadow,
        Self::Muted,
        Self::Inhibited,
        Self::NoChannel,
        Self::Folded,
    ];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Late => "late",
            Self::Shadow => "shadow",
            Self::Muted => "muted",
            Self::Inhibited => "inhibited",
            Self::NoChannel => "no_channel",
            Self::Folded => "folded",
        }
    }
}

/// The inputs of the check of a mute.
pub struct MuteTerms<'a> {
    /// Now, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The hub's config allows mutes of warnings of life safety.
    pub life_allowed: bool,
    /// All rules.
    pub rules: &'a [Arc<Rule>],
    /// The sites of the config and of agents.
    pub sites: &'a BTreeSet<String>,
}

/// State of a mute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuteState {
    /// It begins later.
    NotYet,
    /// It is in force.
    Holds,
    /// It has ended.
    Over,
}

impl MuteState {
    /// The state of a mute with these times; `ended_ms` is set if it was ended early.
    pub fn at(now_ms: i64, from_ms: i64, until_ms: i64, ended_ms: Option<i64>) -> Self {
        if ended_ms.is_some() || until_ms <= now_ms {
            Self::Over
        } else if from_ms > now_ms {
            Self::NotYet
        } else {
            Self::Holds
        }
    }

    /// The words in lists.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotYet => "未开始 not yet",
            Self::Holds => "生效 holds",
            Self::Over => "已结束 over",
        }
    }
}

impl Mute {
    /// Checks a mute. Errors: the field and the problem; a mute without effect is refused.
    pub fn check(&self, terms: &MuteTerms<'_>) -> Result<(), (&'static str, String)> {
        let MuteTerms {
            now_ms,
            life_allowed,
            ..
        } = *terms;
        for (key, text) in [("reason", &self.reason), ("owner", &self.owner)] {
            let chars = text.trim().chars().count();
            if chars == 0 || chars > TEXT_CHARS_MAX {
                return Err((
                    key,
                    format!("is needed, at most {TEXT_CHARS_MAX} characters"),
                ));
            }
        }
        if self.rule.is_empty() && self.site.is_empty() && self.key.is_empty() {
            return Err((
                "rule",
                "a mute of everything is not taken: name a rule, a site or a key".to_owned(),
            ));
        }
        if self.until_ms <= self.from_ms.max(now_ms) {
            return Err((
                "until",
                "the mute would be over already: it must end after it begins, and after now"
                    .to_owned(),
            ));
        }
        if self.until_ms.saturating_sub(self.from_ms.max(now_ms)) > MUTE_MS_MAX {
            return Err((
                "until",
                "must be within 90 days: change the rule for longer".to_owned(),
            ));
        }
        if self.life && !life_allowed {
            let message = "the hub's config does not allow it: [warnings] mute_life = true";
            return Err(("life", message.to_owned()));
        }
        self.check_names(terms)
    }

    fn check_names(&self, terms: &MuteTerms<'_>) -> Result<(), (&'static str, String)> {
        if !self.site.is_empty() && !terms.sites.contains(&self.site) {
            let message = format!(
                "there is no site {:?}, neither as [[site]] in the hub's config nor of an agent; there are: {}",
                self.site,
                listed(terms.sites.iter().map(String::as_str))
            );
            return Err(("site", message));
        }
        if self.rule.is_empty() {
            return Ok(());
        }
        let Some(rule) = terms.rules.iter().find(|rule| rule.id == self.rule) else {
            let message = format!(
                "there is no rule {:?} in the rule files; there are: {}",
                self.rule,
                listed(terms.rules.iter().map(|rule| rule.id.as_str()))
            );
            return Err(("rule", message));
        };
        if rule.severity == Severity::Life && !self.life {
            let message = format!(
                "rule {:?} is of severity life, so this mute would do nothing: it must say that it is for \
                 life safety too, and the hub's config must allow that ([warnings] mute_life = true{})",
                self.rule,
                if terms.life_allowed {
                    ", as it does"
                } else {
                    ", which it does not"
                }
            );
            return Err(("life", message));
        }
        Ok(())
    }

    /// True if the mute matches a warning; its time is not checked.
    pub fn matches(&self, rule: &str, site: &str, key: &str, severity: Severity) -> bool {
        (self.rule.is_empty() || self.rule == rule)
            && (self.site.is_empty() || self.site == site)
            && (self.key.is_empty() || self.key == key)
            && (self.life || severity < Severity::Life)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    if names.is_empty() {
        return "none yet".to_owned();
    }
    let more = names.len().saturating_sub(NAMES_LISTED_MAX);
    names.truncate(NAMES_LISTED_MAX);
    if more == 0 {
        return names.join(", ");
    }
    format!("{} and {more} more", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::rule::{Vocabulary, load_text};
    use std::path::Path;

    fn mute() -> Mute {
        Mute {
            id: 1,
            rule: "door-held".to_owned(),
            site: "yuyuan".to_owned(),
            key: String::new(),
            reason: "门禁检修".to_owned(),
            owner: "王工".to_owned(),
            from_ms: 100,
            until_ms: 200,
            life: false,
        }
    }

    #[test]
    fn a_mute_holds_for_what_it_names_and_never_for_life_by_itself() {
        let matches =
            |mute: &Mute, severity| mute.matches("door-held", "yuyuan", "yuyuan|B1", severity);
        assert!(matches(&mute(), Severity::Alarm));
        assert!(!matches(&mute(), Severity::Life));
        assert!(matches(
            &Mute {
                life: true,
                ..mute()
            },
            Severity::Life
        ));
        assert!(!matches(
            &Mute {
                site: "other".to_owned(),
                ..mute()
            },
            Severity::Alarm
        ));
        assert!(!matches(
            &Mute {
                key: "yuyuan|B2".to_owned(),
                ..mute()
            },
            Severity::Alarm
        ));
    }

    fn rules() -> Vec<Arc<Rule>> {
        let rule = |id: &str, severity: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = \"match\"\nkey = [\"site\"]\n\
                 on = [{{ type = \"fire.alarm\" }}]\nseverity = \"{severity}\"\n"
            )
        };
        let text = [
            "schema = 1\n".to_owned(),
            rule("door-held", "alarm"),
            rule("fire", "life"),
        ];
        let mut rules = Vec::new();
        load_text(
            Path::new("t.toml"),
            &text.concat(),
            &Vocabulary::default(),
            &mut rules,
        )
        .expect("rules");
        rules.into_iter().map(Arc::new).collect()
    }

    fn checked(mute: &Mute, life_allowed: bool) -> Result<(), (&'static str, String)> {
        mute.check(&MuteTerms {
            now_ms: 150,
            life_allowed,
            rules: &rules(),
            sites: &["minle", "yuyuan"].map(str::to_owned).into(),
        })
    }

    #[test]
    fn a_mute_of_what_is_not_there_or_that_would_do_nothing_is_refused_with_what_there_is() {
        let refused = |mute: Mute, life_allowed| checked(&mute, life_allowed).expect_err("refused");
        let (key, why) = refused(
            Mute {
                rule: "door-hedl".to_owned(),
                ..mute()
            },
            false,
        );
        assert!(key == "rule" && why.contains("door-held, fire"), "{why}");
        let (key, why) = refused(
            Mute {
                site: "yuyaun".to_owned(),
                ..mute()
            },
            false,
        );
        assert!(key == "site" && why.contains("minle, yuyuan"), "{why}");
        let fire = Mute {
            rule: "fire".to_owned(),
            ..mute()
        };
        let (key, why) = refused(fire.clone(), false);
        assert!(
            key == "life" && why.contains("would do nothing") && why.contains("does not"),
            "{why}"
        );
        assert_eq!(refused(fire.clone(), true).0, "life");
        assert_eq!(
            refused(
                Mute {
                    life: true,
                    ..fire.clone()
                },
                false
            )
            .0,
            "life"
        );
        assert_eq!(checked(&Mute { life: true, ..fire }, true), Ok(()));
    }

    #[test]
    fn a_mute_that_begins_later_does_not_hold_yet() {
        let at = |now_ms, ended_ms| MuteState::at(now_ms, 100, 200, ended_ms);
        assert_eq!(at(99, None), MuteState::NotYet);
        assert_eq!(at(100, None), MuteState::Holds);
        assert_eq!(at(200, None), MuteState::Over);
        assert_eq!(at(99, Some(50)), MuteState::Over);
    }

    #[test]
    fn a_mute_needs_a_reason_an_owner_an_end_and_a_place() {
        assert_eq!(checked(&mute(), false), Ok(()));
        for (wrong, key) in [
            (
                Mute {
                    reason: " ".to_owned(),
                    ..mute()
                },
                "reason",
            ),
            (
                Mute {
                    owner: String::new(),
                    ..mute()
                },
                "owner",
            ),
            (
                Mute {
                    rule: String::new(),
                    site: String::new(),
                    ..mute()
                },
                "rule",
            ),
            (
                Mute {
                    until_ms: 150,
                    ..mute()
                },
                "until",
            ),
            (
                Mute {
                    until_ms: 151 + MUTE_MS_MAX,
                    ..mute()
                },
                "until",
            ),
            (
                Mute {
                    life: true,
                    ..mute()
                },
                "life",
            ),
        ] {
            assert_eq!(checked(&wrong, false).map_err(|(key, _)| key), Err(key));
        }
    }

    #[test]
    fn each_severity_has_one_grade() {
        let grades = Grades::default();
        assert_eq!(grades.of(Severity::Life), ("red", "红色"));
        assert_eq!(grades.of(Severity::Info), ("blue", "蓝色"));
        let one = |severities: &[&str]| Grade {
            name: "g".to_owned(),
            words: "级".to_owned(),
            severities: severities.iter().map(|name| (*name).to_owned()).collect(),
        };
        let all = ["info", "notice", "warning", "alarm", "life"];
        assert!(Grades::new(vec![one(&all)]).is_ok());
        assert!(Grades::new(vec![one(&all), one(&["life"])]).is_err());
        assert!(Grades::new(vec![one(&["life"])]).is_err());
        assert!(Grades::new(vec![one(&["loud"])]).is_err());
    }
}
