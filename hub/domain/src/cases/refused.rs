//! Why a move is refused. Each reason has a code for programs (the end of a problem's type) and a sentence
//! for people, Chinese first, that says what would be accepted.
use super::kind::Kind;
use super::moves::Rung;
use super::state::State;
use crate::calendar::Beyond;

/// The reason for a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The state does not accept the move.
    #[error(
        "案件处于{}（{}），可以：{} / the case is {}: it takes {}",
        state.words(), state.as_str(), chinese(allowed), state.as_str(), english(allowed)
    )]
    Forbidden {
        /// State of the case.
        state: State,
        /// The moves that the state accepts.
        allowed: Vec<Kind>,
    },
    /// The case changed after the person read it.
    #[error(
        "案件已有变化（第 {version} 版），请刷新后再操作 / the case has changed: it is at version {version}, look at it again"
    )]
    Stale {
        /// The current version.
        version: i64,
    },
    /// A required text is missing.
    #[error("请填写 {field} / {field} must say something")]
    NeedsText {
        /// Key of the text.
        field: &'static str,
    },
    /// A text is too long.
    #[error("{field} 最多 {chars_max} 个字 / {field} has more than {chars_max} characters")]
    TooLong {
        /// Key of the text.
        field: &'static str,
        /// Maximum length, characters.
        chars_max: usize,
    },
    /// A key does not fit the rest of the move.
    #[error("{field} 在此不适用 / {field} does not belong here")]
    NotHere {
        /// The key.
        field: &'static str,
    },
    /// Nothing has this name.
    #[error("{field}：没有 {name:?} / {field}: there is no {name:?}")]
    Unknown {
        /// Key of the name.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// The requested condition holds already.
    #[error("{field}：{name:?} 已是如此 / {field}: {name:?} is so already")]
    Already {
        /// Key of the name.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// Another person must make this move.
    #[error(
        "须由他人{}：办过此案或提出申请的人不能自己来做 / {} is for another person than who worked on it or asked for it",
        of.words().0, of.words().1
    )]
    SamePerson {
        /// The move.
        of: Kind,
    },
    /// Another organisation must make this move.
    #[error(
        "须由其他单位{}：申请单位不能自己批 / {} is for another organisation than the one that asked",
        of.words().0, of.words().1
    )]
    SameOrganisation {
        /// The move.
        of: Kind,
    },
    /// Only one organisation may make this move.
    #[error(
        "须由 {organisation} {} / {} is for {organisation}",
        of.words().0, of.words().1
    )]
    NotForYou {
        /// The move.
        of: Kind,
        /// The organisation that may.
        organisation: String,
    },
    /// The deadline for the move has passed.
    #[error("已过时限，不能再{} / it is too late for {}", of.words().0, of.words().1)]
    TooLate {
        /// The move.
        of: Kind,
        /// The deadline, milliseconds since 1970 UTC.
        until_ms: i64,
    },
    /// A number or a time is out of range.
    #[error("{field} 应为 {from} 至 {to} / {field} must be from {from} to {to}")]
    OutOfRange {
        /// Its key.
        field: &'static str,
        /// Minimum.
        from: i64,
        /// Maximum.
        to: i64,
    },
    /// An escalation must go to the next rung.
    #[error(
        "现为{}，{} / it is with {}: {}",
        at.words().0,
        next.map_or("已是最高一级".to_owned(), |next| format!("下一级是{}", next.words().0)),
        at.words().1,
        next.map_or("there is none above".to_owned(), |next| format!("the next is {}", next.words().1))
    )]
    NotNext {
        /// The current rung.
        at: Rung,
        /// The rung above; `None` at the top.
        next: Option<Rung>,
    },
    /// The case was returned too often or had no owner for too long: an ordinary dispatch is refused.
    #[error(
        "多次退回或无人认领，须由综治中心指定主办（name_lead） / it was returned or unowned for too long: the centre must name a lead (name_lead)"
    )]
    LeadWanted,
    /// The centre named this lead, which can neither return nor transfer the case.
    #[error(
        "主办单位由综治中心指定，不能退回或转办 / the centre has named this lead: it can neither return nor transfer it"
    )]
    LeadNamed,
    /// A case for named handlers only must keep at least one.
    #[error(
        "仅限指定经办人的案件至少保留一名经办人，请先指定他人 / a case for named handlers only keeps one of them: name another first"
    )]
    LastHandler,
    /// Joint handlers have not finished their parts.
    #[error("协办尚未完成：{} / joint handlers are not done: {}", organisations.join("、"), organisations.join(", "))]
    JointOpen {
        /// These organisations.
        organisations: Vec<String>,
    },
    /// The maximum number is reached.
    #[error("{field} 最多 {max} 个 / {field}: at most {max}")]
    TooMany {
        /// Key of the things counted.
        field: &'static str,
        /// Maximum.
        max: usize,
    },
    /// The files of the case would exceed their maximum size together.
    #[error(
        "附件合计最多 {bytes_max} 字节，已有 {bytes} / all files of a case have at most {bytes_max} bytes, and it has {bytes}"
    )]
    TooLarge {
        /// Current size, bytes.
        bytes: u64,
        /// Maximum size, bytes.
        bytes_max: u64,
    },
    /// The case is not a resident's request, or one of another kind.
    #[error(
        "本案不是这类个人信息请求（{0}）/ the case is no request for this: it is of none of the kinds {0}",
        kinds.join(", ")
    )]
    NoRequest {
        /// The kinds that would be accepted.
        kinds: Vec<&'static str>,
    },
    /// The case is open, so its personal data is still needed.
    #[error(
        "案件处于{}，未办结，不能删除 / the case is {}: what is not closed is still needed, and is not deleted",
        state.words(), state.as_str()
    )]
    StillNeeded {
        /// State of the case.
        state: State,
    },
    /// The calendar ends before the time in question.
    #[error(transparent)]
    Calendar(#[from] Beyond),
}

impl Refused {
    /// The code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "case-state",
            Self::Stale { .. } => "case-stale",
            Self::NeedsText { .. } => "case-needs-text",
            Self::TooLong { .. } => "case-too-long",
            Self::NotHere { .. } => "case-not-here",
            Self::Unknown { .. } => "case-unknown",
            Self::Already { .. } => "case-already",
            Self::SamePerson { .. } => "case-same-person",
            Self::SameOrganisation { .. } => "case-same-organisation",
            Self::NotForYou { .. } => "case-not-for-you",
            Self::TooLate { .. } => "case-too-late",
            Self::OutOfRange { .. } => "case-out-of-range",
            Self::NotNext { .. } => "case-not-next",
            Self::LeadWanted => "case-lead-wanted",
            Self::LeadNamed => "case-lead-named",
            Self::LastHandler => "case-last-handler",
            Self::JointOpen { .. } => "case-joint-open",
            Self::TooMany { .. } => "case-too-many",
            Self::TooLarge { .. } => "case-too-large",
            Self::NoRequest { .. } => "case-no-request",
            Self::StillNeeded { .. } => "case-still-needed",
            Self::Calendar(_) => "case-calendar",
        }
    }
}

fn chinese(allowed: &[Kind]) -> String {
    let words: Vec<&str> = allowed.iter().map(|kind| kind.words().0).collect();
    words.join("、")
}

fn english(allowed: &[Kind]) -> String {
    let words: Vec<&str> = allowed.iter().map(|kind| kind.words().1).collect();
    words.join(", ")
}
