//! Notices: the messages to people, frozen when they are decided.
//!
//! A notice has no field for a name, a telephone number, an attribute or a message of an event. `place` is
//! built from fields of place, device and type only ([`place`]). Numbers of persons (mobile telephones and
//! identity cards) are struck from every text of outside origin ([`Notice::frozen`]), because a source may
//! write one where an address belongs.
use linli_shared::protocol::event::Severity;
use serde::{Deserialize, Serialize};

use crate::cases::clock::Mark;

/// Fields of a key whose values a message may contain.
const PLACE_FIELDS: &[&str] = &[
    "site", "building", "unit", "address", "device", "type", "source",
];
/// Replacement for a number of a person.
const STRUCK: &str = "…";
/// Maximum length of a place, and of a reason, characters.
const WORDS_CHARS_MAX: usize = 120;

/// What happened to the warning or the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// 新发: a warning was raised.
    Raised,
    /// 升级: a warning escalated to another route.
    Escalated,
    /// 更正: a warning was amended.
    Amended,
    /// 撤销: a warning was withdrawn.
    Withdrawn,
    /// 解除: a warning ended.
    Ended,
    /// 新案: a case was opened.
    Opened,
    /// 进展: a case has another state or another lead.
    Moved,
    /// 提醒: a clock reached its reminder.
    Reminder,
    /// 黄灯: a clock turned amber.
    Amber,
    /// 红灯: a clock turned red.
    Red,
    /// 普通督办: ordinary supervision.
    Ordinary,
    /// 黄牌督办: yellow-card supervision.
    YellowCard,
    /// 红牌督办: red-card supervision.
    RedCard,
    /// 须指定主办: the centre must name a lead.
    LeadDemanded,
    /// 上升一级: a case climbed one rung.
    Climbed,
}

impl What {
    /// The word in ids, types and English texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Escalated => "escalated",
            Self::Amended => "amended",
            Self::Withdrawn => "withdrawn",
            Self::Ended => "ended",
            Self::Opened => "opened",
            Self::Moved => "moved",
            Self::Reminder => Mark::Reminder.words().1,
            Self::Amber => Mark::Amber.words().1,
            Self::Red => Mark::Red.words().1,
            Self::Ordinary => Mark::Ordinary.words().1,
            Self::YellowCard => Mark::YellowCard.words().1,
            Self::RedCard => Mark::RedCard.words().1,
            Self::LeadDemanded => "lead_demanded",
            Self::Climbed => "climbed",
        }
    }

    /// The word shown to people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Raised => "新发",
            Self::Escalated => "升级",
            Self::Amended => "更正",
            Self::Withdrawn => "撤销",
            Self::Ended => "解除",
            Self::Opened => "新案",
            Self::Moved => "进展",
            Self::Reminder => Mark::Reminder.words().0,
            Self::Amber => Mark::Amber.words().0,
            Self::Red => Mark::Red.words().0,
            Self::Ordinary => Mark::Ordinary.words().0,
            Self::YellowCard => Mark::YellowCard.words().0,
            Self::RedCard => Mark::RedCard.words().0,
            Self::LeadDemanded => "须指定主办",
            Self::Climbed => "上升一级",
        }
    }

    /// True if the warning is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Withdrawn | Self::Ended)
    }
}

/// The state of a case. It has no field for texts that people wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CaseNews {
    /// Number of the action that the news is about: the version of the case.
    pub version: i64,
    /// Word of the state.
    pub state: String,
    /// State for people: 登记、受理……
    pub state_words: String,
    /// Id of the organisation that leads.
    pub lead: String,
    /// Id of the organisation that must act next.
    pub organisation: String,
    /// Name of that organisation.
    pub organisation_name: String,
    /// Rung on the ladder of escalation.
    pub rung: String,
    /// Next deadline, milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
}

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Notice {
    /// Number of the warning; 0 for a case or a test.
    pub warning: i64,
    /// What happened.
    pub what: What,
    /// red, orange, yellow, blue; for a case, the grade of its risk.
    pub grade: String,
    /// Grade for people: 红色、橙色、黄色、蓝色.
    pub grade_words: String,
    /// Severity: info, notice, warning, alarm, life.
    #[serde(with = "severity_name")]
    #[schema(value_type = String)]
    pub severity: Severity,
    /// Id of the rule; for a case, its kind.
    pub rule: String,
    /// Name of the rule or kind.
    pub rule_name: String,
    /// Site.
    pub site: String,
    /// Short words of the key, like "yuyuan 3号楼"; see [`place`].
    pub place: String,
    /// Time of the occurrence, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The warning is 补报.
    pub late: bool,
    /// Age of the occurrence, milliseconds, if it is 补报.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<i64>,
    /// Code of the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// State of the case, if the notice is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<CaseNews>,
    /// Short reason, such as why a warning was withdrawn; never a person's own words.
    pub reason: String,
    /// The route of the notice.
    pub route: String,
}

impl Notice {
    /// The notice as it is stored and sent: without numbers of persons, and of bounded length.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            place: bounded(&without_numbers(&self.place)),
            reason: bounded(&without_numbers(&self.reason)),
            ..self.clone()
        }
    }

    /// True for a test notice.
    pub fn is_test(&self) -> bool {
        self.warning == 0 && self.news.is_none()
    }

    /// The subject in ids: "warning/123", "case/20260101-000001".
    pub fn subject(&self) -> String {
        match (&self.news, &self.case) {
            (Some(_), Some(case)) => format!("case/{case}"),
            _ => format!("warning/{}", self.warning),
        }
    }

    /// The notice of `linli-hub notifications test`.
    pub fn test(now_ms: i64) -> Self {
        Self {
            warning: 0,
            what: What::Raised,
            grade: "test".to_owned(),
            grade_words: "测试".to_owned(),
            severity: Severity::Info,
            rule: "notification-test".to_owned(),
            rule_name: "通知测试，请勿处置".to_owned(),
            site: "test".to_owned(),
            place: "test".to_owned(),
            at_ms: now_ms,
            late: false,
            late_ms: None,
            case: None,
            news: None,
            reason: String::new(),
            route: String::new(),
        }
    }
}

/// The short words of a rule's key: the values of the fields of place, device and type. All other fields are
/// attributes and are left out. `fields` are the rule's, `key` their values separated by `|`. If their
/// numbers differ (a value may contain a `|`), the result is the site alone.
pub fn place(fields: &[String], key: &str, site: &str) -> String {
    let values: Vec<&str> = key.split('|').collect();
    let mut words: Vec<&str> = Vec::new();
    if fields.len() == values.len() {
        words = fields
            .iter()
            .zip(values)
            .filter(|(field, value)| PLACE_FIELDS.contains(&field.as_str()) && !value.is_empty())
            .map(|(_, value)| value)
            .collect();
    }
    if !words.contains(&site) {
        words.insert(0, site);
    }
    words.join(" ")
}

fn bounded(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Strikes mobile telephone numbers (11 digits, the first is 1) and numbers of identity cards (15 or 18
/// digits), also with spaces or dashes between the digits.
pub fn without_numbers(text: &str) -> String {
    let is_of_number =
        |letter: char| letter.is_ascii_digit() || matches!(letter, ' ' | '-' | 'x' | 'X');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        let run = &rest[start..];
        let run = &run[..run
            .find(|letter| !is_of_number(letter))
            .unwrap_or(run.len())];
        rest = &rest[start + run.len()..];
        let bare = run.trim_end_matches([' ', '-']);
        let word = |part: &str| part.trim_end_matches([' ', '-']).len();
        let parts = || bare.split_inclusive([' ', '-']);
        // A number can follow another, such as that of a flat, or be written in groups.
        if parts().any(|part| is_number_of_person(&part[..word(part)])) {
            for part in parts() {
                let (number, after) = part.split_at(word(part));
                let is_personal = is_number_of_person(number);
                out.push_str(if is_personal { STRUCK } else { number });
                out.push_str(after);
            }
        } else if is_number_of_person(bare) {
            out.push_str(STRUCK);
        } else {
            out.push_str(bare);
        }
        out.push_str(&run[bare.len()..]);
    }
    out.push_str(rest);
    out
}

fn is_number_of_person(text: &str) -> bool {
    let digits: String = text
        .chars()
        .filter(|letter| !matches!(letter, ' ' | '-'))
        .collect();
    let mobile = digits.strip_prefix("86").unwrap_or(&digits);
    matches!(digits.len(), 15 | 18) || (mobile.len() == 11 && mobile.starts_with('1'))
}

/// Serialises a severity by name, not by its number on the wire.
mod severity_name {
    use linli_shared::protocol::event::Severity;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the name.
    pub fn serialize<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(severity.as_str())
    }

    /// Reads the name. Errors: unknown name.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
        let name = String::deserialize(deserializer)?;
        Severity::from_name(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("{name:?} is no severity")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A notice of a fire.
    fn fire(warning: i64) -> Notice {
        Notice {
            warning,
            what: What::Raised,
            grade: "red".to_owned(),
            grade_words: "红色".to_owned(),
            severity: Severity::Life,
            rule: "fire-alarm".to_owned(),
            rule_name: "火警".to_owned(),
            site: "yuyuan".to_owned(),
            place: "yuyuan 3号楼".to_owned(),
            at_ms: 1_767_225_600_000,
            late: false,
            late_ms: None,
            case: Some("20260101-000001".to_owned()),
            news: None,
            reason: String::new(),
            route: "duty-centre".to_owned(),
        }
    }

    fn place_of(fields: &[&str], key: &str) -> String {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        place(&fields, key, "yuyuan")
    }

    #[test]
    fn a_place_is_made_of_fields_of_place_device_and_type_and_of_nothing_else() {
        assert_eq!(
            place_of(&["site", "building"], "yuyuan|3号楼"),
            "yuyuan 3号楼"
        );
        assert_eq!(
            place_of(&["building", "device"], "3号楼|door-1"),
            "yuyuan 3号楼 door-1"
        );
        // An attribute may contain anything, so it never leaves, whatever its name is.
        for attribute in ["guest", "visitor_name", "note", "category", "tel"] {
            let told = place_of(&["site", attribute, "building"], "yuyuan|王小明|3号楼");
            assert_eq!(told, "yuyuan 3号楼", "{attribute}");
        }
        // A separator inside the attribute must not shift it into a field of place.
        assert_eq!(
            place_of(&["site", "note", "building"], "yuyuan|x|王小明|3号楼"),
            "yuyuan"
        );
        assert_eq!(place_of(&["site", "building"], "yuyuan"), "yuyuan");
    }

    #[test]
    fn numbers_of_persons_are_struck_from_what_is_frozen() {
        for (text, told) in [
            ("和平路12号 13800138000", "和平路12号 …"),
            ("3号楼 电话13800138000 转", "3号楼 电话… 转"),
            ("+86 138-0013-8000", "+…"),
            ("11010519491231002X", "…"),
            ("110105194912310021", "…"),
            ("3号楼1203 13800138000", "3号楼1203 …"),
            ("3-1203 13800138000 王", "3-1203 … 王"),
            ("3号楼 1203", "3号楼 1203"),
            ("door-00412", "door-00412"),
            ("2026-03-01", "2026-03-01"),
            ("x3", "x3"),
        ] {
            let notice = Notice {
                place: text.to_owned(),
                reason: text.to_owned(),
                ..fire(1)
            }
            .frozen();
            assert_eq!(
                (notice.place.as_str(), notice.reason.as_str()),
                (told, told)
            );
        }
        let long = Notice {
            place: "楼".repeat(500),
            ..fire(1)
        }
        .frozen();
        assert_eq!(long.place.chars().count(), WORDS_CHARS_MAX + 1);
    }

    #[test]
    fn a_notice_reads_as_it_was_written() {
        let text = serde_json::to_string(&fire(7)).expect("JSON");
        assert!(
            text.contains("\"severity\":\"life\"") && text.contains("\"what\":\"raised\""),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Notice>(&text).expect("a notice"),
            fire(7)
        );
    }
}
