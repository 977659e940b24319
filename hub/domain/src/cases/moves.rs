//! The moves that people make on a case. A move is also the body of its request:
//! `{"move": "return", "reason": "…"}`. Unknown keys are refused, so a misspelt key is not silently ignored.
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// Maximum length of a reason, task or other short text, characters.
pub const REASON_CHARS_MAX: usize = 500;
/// Maximum length of an answer or note, characters.
pub const ANSWER_CHARS_MAX: usize = 5_000;
/// Maximum length of the name of an organisation, a person or a case, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Maximum length of a suspension, milliseconds: 180 days.
pub const SUSPENDED_MS_MAX: i64 = 180 * 86_400_000;
/// Maximum delay of a clock beyond its deadline, milliseconds: 90 days.
pub const DELAY_MS_MAX: i64 = 90 * 86_400_000;
/// Range of the marks of an evaluation.
pub const MARKS: std::ops::RangeInclusive<u8> = 1..=5;

/// One move on a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "move", rename_all = "snake_case", deny_unknown_fields)]
pub enum Move {
    /// 受理: the centre accepts the case.
    Accept {},
    /// 不予受理: the centre declines the case.
    Decline {
        /// Reason.
        reason: String,
    },
    /// 派单: the centre dispatches the case to an organisation that is to lead and sign.
    Dispatch {
        /// The new lead.
        organisation: String,
    },
    /// 指定主办: the centre names a lead, which can neither return nor transfer the case.
    NameLead {
        /// The new lead.
        organisation: String,
        /// Reason.
        reason: String,
    },
    /// 签收: the person who signs becomes the handler.
    Sign {},
    /// 退回: the lead returns the case to the centre.
    Return {
        /// Reason.
        reason: String,
    },
    /// 转办: another organisation becomes the lead.
    Transfer {
        /// The new lead.
        to: String,
        /// Reason.
        reason: String,
    },
    /// 协办: an organisation becomes a joint handler with a task.
    Join {
        /// The joint handler.
        organisation: String,
        /// Its task.
        task: String,
    },
    /// 协办完成: the part of a joint handler is done.
    JoinDone {
        /// The joint handler.
        organisation: String,
        /// The result.
        text: String,
    },
    /// 答复: the lead answers.
    Answer {
        /// The answer.
        text: String,
    },
    /// 核验: verification of the answer by a person who did not work on the case.
    Verify {
        /// The answer holds; if not, the case goes back to handling.
        passed: bool,
        /// Why the answer does not hold; required if `passed` is false.
        #[serde(default)]
        reason: String,
    },
    /// 回访: revisit by a person who did not work on the case.
    Revisit {
        /// The person who brought the case is satisfied; if not, the case goes back to handling.
        satisfied: bool,
        /// What that person said; required if `satisfied` is false.
        #[serde(default)]
        reason: String,
    },
    /// 评价: evaluation.
    Evaluate {
        /// Marks, 1 to 5.
        marks: u8,
    },
    /// 归档: archive the case.
    Archive {},
    /// 挂起: suspend the case; its clocks pause.
    Suspend {
        /// Reason.
        cause: SuspensionReason,
        /// The case resumes automatically at this time, milliseconds since 1970 UTC.
        until_ms: i64,
    },
    /// 恢复: end the suspension.
    Resume {},
    /// 申请延期: the responsible organisation requests a delay, before the deadline.
    AskDelay {
        /// The requested deadline, milliseconds since 1970 UTC.
        until_ms: i64,
        /// Reason.
        reason: String,
    },
    /// 同意延期: another person grants the delay.
    GrantDelay {
        /// The organisation that requested it.
        organisation: String,
    },
    /// 不同意延期: another person refuses the delay.
    RefuseDelay {
        /// The organisation that requested it.
        organisation: String,
        /// Reason.
        reason: String,
    },
    /// 升级: escalate the case by one rung.
    Escalate {
        /// The next rung.
        to: Rung,
        /// Reason; for a joint meeting, its result.
        reason: String,
        /// 领导包案: the leader in charge, at the last rung only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<String>,
    },
    /// 重开: reopen a closed case.
    Reopen {
        /// Reason.
        reason: String,
    },
    /// 定风险等级: set the grade of the risk.
    SetRisk {
        /// Name of the grade.
        risk: String,
        /// Reason.
        reason: String,
    },
    /// 备注: add a note.
    Note {
        /// The note.
        text: String,
    },
    /// 并入: another case stands for this one from now on.
    Merge {
        /// Code of the other case.
        into: String,
        /// Reason.
        reason: String,
    },
    /// 撤销并入: undo the merge; the case returns to its previous state.
    Unmerge {
        /// Reason.
        reason: String,
    },
    /// 关联预警: link a warning to the case.
    LinkWarning {
        /// Id of the warning.
        warning: i64,
    },
    /// 取消关联: unlink a warning from the case.
    UnlinkWarning {
        /// Id of the warning.
        warning: i64,
        /// Reason.
        reason: String,
    },
    /// 指定经办人: add a person to the named handlers.
    NameHandler {
        /// The person.
        person: String,
    },
    /// 取消经办人: remove a person from the named handlers.
    UnnameHandler {
        /// The person.
        person: String,
        /// Reason.
        reason: String,
    },
}

/// The permitted reasons for a suspension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuspensionReason {
    /// 等待当事人: a party cannot be reached, or has to supply something.
    Party,
    /// 鉴定评估: an appraisal is in progress.
    Appraisal,
    /// 诉讼仲裁: the case is before a court or an arbitrator.
    Court,
    /// 等待上级答复: a higher authority has been asked.
    Superior,
    /// 不可抗力: nothing can be done now, as in a storm.
    ForceMajeure,
}

impl SuspensionReason {
    /// The words shown to people.
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

/// The ladder of escalation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// 网格: the grid worker.
    Grid,
    /// 镇街: the town or sub-district office.
    Office,
    /// 综治中心: the centre of the district.
    Centre,
    /// 联席会议: a meeting of all parties concerned.
    JointMeeting,
    /// 领导包案: a leader takes charge.
    Leader,
}

impl Rung {
    /// The rung above; `None` at the top.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Grid => Some(Self::Office),
            Self::Office => Some(Self::Centre),
            Self::Centre => Some(Self::JointMeeting),
            Self::JointMeeting => Some(Self::Leader),
            Self::Leader => None,
        }
    }

    /// The word shown to people, and the word of the API.
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
    /// The kind of the move.
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

    /// The recipient or object, and the text, in one line.
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

    /// The text of the move: its key, its value, its maximum length in characters, and whether it is
    /// required.
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
