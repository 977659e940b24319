//! What people do with a case. A move is also the body of its request: `{"move": "return", "reason": "…"}`.
//! Keys that a move does not have are refused, so that a slip of the pen is not taken for silence.
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// The longest reason, task and other short text, characters.
pub const REASON_CHARS_MAX: usize = 500;
/// The longest answer and note, characters.
pub const ANSWER_CHARS_MAX: usize = 5_000;
/// The longest name of an organisation, a person or a case, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// How far ahead a case may be suspended, milliseconds: 180 days.
pub const SUSPENDED_MS_MAX: i64 = 180 * 86_400_000;
/// How far behind its due time a clock may be put, milliseconds: 90 days.
pub const DELAY_MS_MAX: i64 = 90 * 86_400_000;
/// Marks of an evaluation.
pub const MARKS: std::ops::RangeInclusive<u8> = 1..=5;

/// One move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "move", rename_all = "snake_case", deny_unknown_fields)]
pub enum Move {
    /// 受理: the centre takes it on.
    Accept {},
    /// 不予受理.
    Decline {
        /// Why.
        reason: String,
    },
    /// 派单: an organisation is to lead and sign.
    Dispatch {
        /// Which.
        organisation: String,
    },
    /// 指定主办: the centre names a lead, which can neither return nor transfer it.
    NameLead {
        /// Which.
        organisation: String,
        /// Why.
        reason: String,
    },
    /// 签收: who signs is the handler.
    Sign {},
    /// 退回: back to the centre.
    Return {
        /// Why.
        reason: String,
    },
    /// 转办: another organisation is to lead.
    Transfer {
        /// Which.
        to: String,
        /// Why.
        reason: String,
    },
    /// 协办: an organisation is to do a part.
    Join {
        /// Which.
        organisation: String,
        /// What.
        task: String,
    },
    /// The part of a joint handler is done.
    JoinDone {
        /// Whose.
        organisation: String,
        /// What came of it.
        text: String,
    },
    /// 答复.
    Answer {
        /// What is answered.
        text: String,
    },
    /// 核验, by another than who worked on it.
    Verify {
        /// The answer holds; if it does not, it goes back to handling.
        passed: bool,
        /// Why it does not: needed then.
        #[serde(default)]
        reason: String,
    },
    /// 回访, by another than who worked on it.
    Revisit {
        /// Who brought it is satisfied; if not, it goes back to handling.
        satisfied: bool,
        /// What was said: needed if not satisfied.
        #[serde(default)]
        reason: String,
    },
    /// 评价.
    Evaluate {
        /// 1 to 5.
        marks: u8,
    },
    /// 归档.
    Archive {},
    /// 挂起: the clocks stand still.
    Suspend {
        /// For what.
        cause: Cause,
        /// It goes on by itself then, milliseconds since 1970 UTC.
        until_ms: i64,
    },
    /// It goes on.
    Resume {},
    /// 延期: asked for by who has to do it, before it is due.
    AskDelay {
        /// The new due time, milliseconds since 1970 UTC.
        until_ms: i64,
        /// Why.
        reason: String,
    },
    /// The delay is granted, by another than who asked.
    GrantDelay {
        /// Who asked.
        organisation: String,
    },
    /// The delay is refused, by another than who asked.
    RefuseDelay {
        /// Who asked.
        organisation: String,
        /// Why.
        reason: String,
    },
    /// 升级: one rung up.
    Escalate {
        /// The next rung.
        to: Rung,
        /// Why; for a joint meeting what it came to.
        reason: String,
        /// 领导包案: who takes it, at the last rung only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<String>,
    },
    /// 重开.
    Reopen {
        /// Why.
        reason: String,
    },
    /// The grade of its risk.
    SetRisk {
        /// Name of the grade.
        risk: String,
        /// Why.
        reason: String,
    },
    /// A note.
    Note {
        /// What.
        text: String,
    },
    /// 并入: another case stands for it from now on.
    Merge {
        /// Code of the other.
        into: String,
        /// Why.
        reason: String,
    },
    /// It was no repeat: it goes on where it was.
    Unmerge {
        /// Why.
        reason: String,
    },
    /// A warning belongs to it.
    LinkWarning {
        /// Its number.
        warning: i64,
    },
    /// A warning does not belong to it after all.
    UnlinkWarning {
        /// Its number.
        warning: i64,
        /// Why.
        reason: String,
    },
    /// A person is one of the named handlers.
    NameHandler {
        /// Who.
        person: String,
    },
    /// A person is none of the named handlers any more.
    UnnameHandler {
        /// Who.
        person: String,
        /// Why.
        reason: String,
    },
}

/// For what a case may be suspended: there is no other reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// 等待当事人: who it is about cannot be reached, or is to bring something.
    Party,
    /// 鉴定评估: an appraisal is being made.
    Appraisal,
    /// 诉讼仲裁: it is before a court or an arbitrator.
    Court,
    /// 等待上级答复: a higher authority was asked.
    Superior,
    /// 不可抗力: nothing can be done now, as in a storm.
    ForceMajeure,
}

impl Cause {
    /// What people read.
    pub fn words(self) -> &'static str {
        match self {
            Self::Party => "等待当事人 party",
            Self::Appraisal => "鉴定评估 appraisal",
            Self::Court => "诉讼仲裁 court",
            Self::Superior => "等待上级答复 superior",
            Self::ForceMajeure => "不可抗力 force_majeure",
        }
    }
}

/// The ladder that a hard case goes up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// 网格: the grid worker.
    Grid,
    /// 镇街: the town or sub-district office.
    Office,
    /// 综治中心: the district's centre.
    Centre,
    /// 联席会议: a meeting of all whom it concerns.
    JointMeeting,
    /// 领导包案: a leader takes it.
    Leader,
}

impl Rung {
    /// The one above.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Grid => Some(Self::Office),
            Self::Office => Some(Self::Centre),
            Self::Centre => Some(Self::JointMeeting),
            Self::JointMeeting => Some(Self::Leader),
            Self::Leader => None,
        }
    }

    /// What people read, and the word of the API.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Grid => ("网格", "grid"),
            Self::Office => ("镇街", "office"),
            Self::Centre => ("综治中心", "centre"),
            Self::JointMeeting => ("联席会议", "joint_meeting"),
            Self::Leader => ("领导包案", "leader"),
        }
    }
}

impl Move {
    /// Which it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Accept {} => Kind::Accept,
            Self::Decline { .. } => Kind::Decline,
            Self::Dispatch { .. } => Kind::Dispatch,
            Self::NameLead { .. } => Kind::NameLead,
            Self::Sign {} => Kind::Sign,
            Self::Return { .. } => Kind::Return,
            Self::Transfer { .. } => Kind::Transfer,
            Self::Join { .. } => Kind::Join,
            Self::JoinDone { .. } => Kind::JoinDone,
            Self::Answer { .. } => Kind::Answer,
            Self::Verify { .. } => Kind::Verify,
            Self::Revisit { .. } => Kind::Revisit,
            Self::Evaluate { .. } => Kind::Evaluate,
            Self::Archive {} => Kind::Archive,
            Self::Suspend { .. } => Kind::Suspend,
            Self::Resume {} => Kind::Resume,
            Self::AskDelay { .. } => Kind::AskDelay,
            Self::GrantDelay { .. } => Kind::GrantDelay,
            Self::RefuseDelay { .. } => Kind::RefuseDelay,
            Self::Escalate { .. } => Kind::Escalate,
            Self::Reopen { .. } => Kind::Reopen,
            Self::SetRisk { .. } => Kind::SetRisk,
            Self::Note { .. } => Kind::Note,
            Self::Merge { .. } => Kind::Merge,
            Self::Unmerge { .. } => Kind::Unmerge,
            Self::LinkWarning { .. } => Kind::LinkWarning,
            Self::UnlinkWarning { .. } => Kind::UnlinkWarning,
            Self::NameHandler { .. } => Kind::NameHandler,
            Self::UnnameHandler { .. } => Kind::UnnameHandler,
        }
    }

    /// To whom or what it goes, and what it says, in one line.
    pub fn note(&self) -> String {
        let object = match self {
            Self::Dispatch { organisation }
            | Self::NameLead { organisation, .. }
            | Self::Join { organisation, .. }
            | Self::JoinDone { organisation, .. }
            | Self::GrantDelay { organisation }
            | Self::RefuseDelay { organisation, .. } => organisation.clone(),
            Self::Transfer { to, .. } => to.clone(),
            Self::Verify { passed: true, .. } => "通过 passed".to_owned(),
            Self::Verify { .. } => "不通过 failed".to_owned(),
            Self::Revisit {
                satisfied: true, ..
            } => "满意 satisfied".to_owned(),
            Self::Revisit { .. } => "不满意 not satisfied".to_owned(),
            Self::Evaluate { marks } => marks.to_string(),
            Self::Suspend { cause, .. } => cause.words().to_owned(),
            Self::Escalate { to, .. } => to.words().0.to_owned(),
            Self::SetRisk { risk, .. } => risk.clone(),
            Self::Merge { into, .. } => into.clone(),
            Self::LinkWarning { warning } | Self::UnlinkWarning { warning, .. } => {
                format!("#{warning}")
            }
            Self::NameHandler { person } | Self::UnnameHandler { person, .. } => person.clone(),
            Self::Accept {}
            | Self::Decline { .. }
            | Self::Sign {}
            | Self::Return { .. }
            | Self::Answer { .. }
            | Self::Archive {}
            | Self::Resume {}
            | Self::AskDelay { .. }
            | Self::Reopen { .. }
            | Self::Note { .. }
            | Self::Unmerge { .. } => String::new(),
        };
        let said = self.text().map_or("", |(_, text, ..)| text);
        if object.is_empty() || said.is_empty() {
            return object + said;
        }
        format!("{object}：{said}")
    }

    /// Its text: key, what it says, how long it may be, and whether it has to say something.
    pub fn text(&self) -> Option<(&'static str, &str, usize, bool)> {
        match self {
            Self::Decline { reason }
            | Self::NameLead { reason, .. }
            | Self::Return { reason }
            | Self::Transfer { reason, .. }
            | Self::AskDelay { reason, .. }
            | Self::RefuseDelay { reason, .. }
            | Self::Escalate { reason, .. }
            | Self::Reopen { reason }
            | Self::SetRisk { reason, .. }
            | Self::Merge { reason, .. }
            | Self::Unmerge { reason }
            | Self::UnlinkWarning { reason, .. }
            | Self::UnnameHandler { reason, .. } => {
                Some(("reason", reason, REASON_CHARS_MAX, true))
            }
            Self::Verify { passed, reason } => Some(("reason", reason, REASON_CHARS_MAX, !passed)),
            Self::Revisit { satisfied, reason } => {
                Some(("reason", reason, REASON_CHARS_MAX, !satisfied))
            }
            Self::Join { task, .. } => Some(("task", task, REASON_CHARS_MAX, true)),
            Self::JoinDone { text, .. } | Self::Answer { text } | Self::Note { text } => {
                Some(("text", text, ANSWER_CHARS_MAX, true))
            }
            Self::Accept {}
            | Self::Dispatch { .. }
            | Self::Sign {}
            | Self::Evaluate { .. }
            | Self::Archive {}
            | Self::Suspend { .. }
            | Self::Resume {}
            | Self::GrantDelay { .. }
            | Self::LinkWarning { .. }
            | Self::NameHandler { .. } => None,
        }
    }
}
