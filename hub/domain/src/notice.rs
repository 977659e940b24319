//! What people are told: a notice, frozen when it is decided.
//!
//! It has no field for a name, a telephone, an attribute or a message of an event. `place` is made of
//! fields of place, device and type only ([`place`]), and what looks like a number of a person, a
//! mobile telephone or an identity card, is struck from every text that comes from outside
//! ([`Notice::frozen`]), for a source may have written one where an address should stand.
use linli_shared::protocol::event::Severity;
use serde::{Deserialize, Serialize};

use crate::cases::clock::Mark;

/// Fields of a key whose values may leave in a message.
const PLACE_FIELDS: &[&str] = &[
    "site", "building", "unit", "address", "device", "type", "source",
];
/// What stands where a number of a person stood.
const STRUCK: &str = "…";
/// Characters of a place, and of a reason.
const WORDS_CHARS_MAX: usize = 120;

/// What happened to the warning, or to the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// 新发
    Raised,
    /// 升级：另一去向
    Escalated,
    /// 更正
    Amended,
    /// 撤销
    Withdrawn,
    /// 解除
    Ended,
    /// 新案
    Opened,
    /// 进展：another state, or another lead
    Moved,
    /// 提醒
    Reminder,
    /// 黄灯
    Amber,
    /// 红灯
    Red,
    /// 普通督办
    Ordinary,
    /// 黄牌督办
    YellowCard,
    /// 红牌督办
    RedCard,
    /// 须指定主办
    LeadDemanded,
    /// 上升一级
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

    /// The word that people read.
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

    /// The warning is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Withdrawn | Self::Ended)
    }
}

/// Where a case is. It has no field for what people wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CaseNews {
    /// The number of the action that this is news of: the version of the case.
    pub version: i64,
    /// State.
    pub state: String,
    /// 登记、受理……
    pub state_words: String,
    /// The organisation that leads.
    pub lead: String,
    /// Whose turn it is.
    pub organisation: String,
    /// Its name.
    pub organisation_name: String,
    /// How far up the ladder it is.
    pub rung: String,
    /// When its next clock is due, milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
}

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Notice {
    /// Number of the warning; 0: it is about a case, or a test.
    pub warning: i64,
    /// What happened to it.
    pub what: What,
    /// red, orange, yellow, blue; of a case the grade of its risk.
    pub grade: String,
    /// 红色、橙色、黄色、蓝色.
    pub grade_words: String,
    /// info, notice, warning, alarm, life.
    #[serde(with = "severity_name")]
    #[schema(value_type = String)]
    pub severity: Severity,
    /// Rule; of a case its kind.
    pub rule: String,
    /// Name of the rule, or of the kind.
    pub rule_name: String,
    /// Site.
    pub site: String,
    /// Short words of the key, like "yuyuan 3号楼"; see [`place`].
    pub place: String,
    /// When it happened, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// 补报
    pub late: bool,
    /// How long ago it happened, milliseconds, where it is 补报.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<i64>,
    /// Code of its case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Where the case is, if it is what this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<CaseNews>,
    /// Why, in a few words that are not a person's own: why it was withdrawn, say.
    pub reason: String,
    /// The route that it goes by.
    pub route: String,
}

impl Notice {
    /// As it is stored and sent: without numbers of persons, and of bounded length.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            place: bounded(&without_numbers(&self.place)),
            reason: bounded(&without_numbers(&self.reason)),
            ..self.clone()
        }
    }

    /// It is no warning, but a test.
    pub fn is_test(&self) -> bool {
        self.warning == 0 && self.news.is_none()
    }

    /// What it is about, as ids have it: "warning/123", "case/20260101-000001".
    pub fn subject(&self) -> String {
        match (&self.news, &self.case) {
            (Some(_), Some(case)) => format!("case/{case}"),
            _ => format!("warning/{}", self.warning),
        }
    }

    /// The message of `linli-hub notifications test`.
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

/// The words of a rule's key: the values of the fields of place, device and type; all others, which are
/// attributes, are left out. `fields` are the rule's, `key` their values with `|` between them. Where the
/// two do not match, as when a value has a `|` of its own, the site alone is told.
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

/// Strikes mobile telephones (11 digits, 1 first) and numbers of identity cards (15 or 18), also with
/// spaces or dashes between the digits.
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
        // A number may stand beside others, as that of a flat; or it is written in groups.
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

/// A severity by its name, not by its number on the wire.
mod severity_name {
    use linli_shared::protocol::event::Severity;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(severity.as_str())
    }

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
        // An attribute may hold anything, so it stays here, whatever it is called.
        for attribute in ["guest", "visitor_name", "note", "category", "tel"] {
            let told = place_of(&["site", attribute, "building"], "yuyuan|王小明|3号楼");
            assert_eq!(told, "yuyuan 3号楼", "{attribute}");
        }
        // Nor does it get out by a separator of its own, which would move it to a field of place.
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
