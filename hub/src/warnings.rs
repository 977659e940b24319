//! What is decided about a warning beside its rule. Pure.
//!
//! A warning is raised by its rule's finding, and amended, ended or withdrawn with it (`correlate::revise`).
//! * **Grades** are the severities in the words of the centre: 红 red for life, 橙 orange for alarm, 黄 yellow
//!   for warning, 蓝 blue for the others, unless the hub's config says otherwise.
//! * **Acknowledgement**: where the rule's `then.ack` gives a time, somebody has to acknowledge within it, with
//!   name and note. If nobody does, the warning is passed on along its route's `escalate`, and waits as long
//!   again, to the end of the chain.
//! * **Mutes** are made for a time by somebody with a reason. A warning that a mute matches is raised and
//!   opens its case; nobody is told, and nobody has to acknowledge it. Warnings of life safety are muted only
//!   where the hub's config allows it and the mute says so.
//! * **Inhibition**: while a warning of a rule with `inhibits` goes on, others that it names are raised and
//!   nobody is told of them.
use linli_shared::protocol::event::Severity;
use serde::Deserialize;

/// How long a mute may last, milliseconds: 90 days. Longer is a change of the rule.
pub const MUTE_MS_MAX: i64 = 90 * 86_400_000;
/// The longest reason and owner of a mute, and name and note of an acknowledgement, characters.
pub const TEXT_CHARS_MAX: usize = 500;

/// The words of some severities.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grade {
    /// Short name, as channels and the API use it: "red".
    pub name: String,
    /// What people read: "红色".
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
    /// Grades that give each severity one; the error says which has none, or two.
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

    /// Name and words of a severity's grade.
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

/// Warnings of which nobody is told for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mute {
    pub id: i64,
    /// Empty: any.
    pub rule: String,
    /// Empty: any.
    pub site: String,
    /// Empty: any.
    pub key: String,
    pub reason: String,
    pub owner: String,
    pub from_ms: i64,
    pub until_ms: i64,
    /// For life safety too.
    pub life: bool,
}

impl Mute {
    /// What is wrong with it.
    pub fn check(&self, now_ms: i64, life_allowed: bool) -> Result<(), (&'static str, String)> {
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
                "must be after its beginning and after now".to_owned(),
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
        Ok(())
    }

    /// It holds for a warning.
    pub fn matches(&self, rule: &str, site: &str, key: &str, severity: Severity) -> bool {
        (self.rule.is_empty() || self.rule == rule)
            && (self.site.is_empty() || self.site == site)
            && (self.key.is_empty() || self.key == key)
            && (self.life || severity < Severity::Life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_mute_needs_a_reason_an_owner_an_end_and_a_place() {
        assert_eq!(mute().check(150, false), Ok(()));
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
            assert_eq!(wrong.check(150, false).map_err(|(key, _)| key), Err(key));
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
