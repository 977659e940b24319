//! The states of the loop and the moves that each accepts. The table in the docs of `cases` shows the same.
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// State of a case.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// 登记: registered, not yet accepted.
    Registered,
    /// 受理: accepted by the centre.
    Accepted,
    /// 不予受理: declined by the centre, with a reason.
    Declined,
    /// 派单: dispatched; an organisation is to sign.
    Dispatched,
    /// 签收、办理: signed, the organisation works on it.
    Handling,
    /// 退回: returned by the organisation; the centre leads again.
    Returned,
    /// 答复: answered, to be verified.
    Answered,
    /// 核验: the answer holds; the person who brought the case is to be asked.
    Verified,
    /// 回访: the person who brought the case is satisfied.
    Revisited,
    /// 评价: evaluated with marks.
    Evaluated,
    /// 归档: archived.
    Archived,
    /// 挂起: suspended for an outside cause; resumes in its previous state.
    Suspended,
    /// 并入: merged; another case stands for it.
    Merged,
}

impl State {
    /// All states.
    pub const ALL: [Self; 13] = [
        Self::Registered,
        Self::Accepted,
        Self::Declined,
        Self::Dispatched,
        Self::Handling,
        Self::Returned,
        Self::Answered,
        Self::Verified,
        Self::Revisited,
        Self::Evaluated,
        Self::Archived,
        Self::Suspended,
        Self::Merged,
    ];

    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Dispatched => "dispatched",
            Self::Handling => "handling",
            Self::Returned => "returned",
            Self::Answered => "answered",
            Self::Verified => "verified",
            Self::Revisited => "revisited",
            Self::Evaluated => "evaluated",
            Self::Archived => "archived",
            Self::Suspended => "suspended",
            Self::Merged => "merged",
        }
    }

    /// The word shown to people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Registered => "登记",
            Self::Accepted => "受理",
            Self::Declined => "不予受理",
            Self::Dispatched => "派单",
            Self::Handling => "办理",
            Self::Returned => "退回",
            Self::Answered => "答复",
            Self::Verified => "核验",
            Self::Revisited => "回访",
            Self::Evaluated => "评价",
            Self::Archived => "归档",
            Self::Suspended => "挂起",
            Self::Merged => "并入",
        }
    }

    /// The state with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The case is over, or another case stands for it: no clock runs, and only one move leads out.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Declined | Self::Archived | Self::Merged)
    }

    /// The words of the closed states.
    pub fn closed() -> impl Iterator<Item = &'static str> {
        Self::ALL
            .into_iter()
            .filter(|state| state.is_closed())
            .map(Self::as_str)
    }

    /// The moves of this state, beyond those of every open case.
    fn own(self) -> &'static [Kind] {
        match self {
            Self::Registered => &[Kind::Accept, Kind::Decline],
            Self::Accepted => &[
                Kind::Dispatch,
                Kind::NameLead,
                Kind::Escalate,
                Kind::Suspend,
            ],
            Self::Dispatched => &[
                Kind::Sign,
                Kind::Return,
                Kind::Transfer,
                Kind::NameLead,
                Kind::JoinDone,
                Kind::GrantDelay,
                Kind::RefuseDelay,
                Kind::Escalate,
                Kind::Suspend,
            ],
            Self::Returned => &[
                Kind::Dispatch,
                Kind::NameLead,
                Kind::JoinDone,
                Kind::GrantDelay,
                Kind::RefuseDelay,
                Kind::Escalate,
                Kind::Suspend,
            ],
            Self::Handling => &[
                Kind::Transfer,
                Kind::Join,
                Kind::JoinDone,
                Kind::Answer,
                Kind::AskDelay,
                Kind::GrantDelay,
                Kind::RefuseDelay,
                Kind::Escalate,
                Kind::Suspend,
            ],
            Self::Answered => &[Kind::Verify, Kind::Escalate, Kind::Suspend],
            Self::Verified => &[Kind::Revisit, Kind::Escalate, Kind::Suspend],
            Self::Revisited => &[Kind::Evaluate],
            Self::Evaluated => &[Kind::Archive],
            Self::Suspended => &[Kind::Resume, Kind::Escalate],
            Self::Archived | Self::Declined => {
                &[Kind::Reopen, Kind::NameHandler, Kind::UnnameHandler]
            }
            Self::Merged => &[Kind::Unmerge],
        }
    }

    /// All moves that this state accepts.
    pub fn allows(self) -> Vec<Kind> {
        let any_open: &[Kind] = &[
            Kind::SetRisk,
            Kind::Note,
            Kind::Merge,
            Kind::LinkWarning,
            Kind::UnlinkWarning,
            Kind::NameHandler,
            Kind::UnnameHandler,
        ];
        let any = if self.is_closed() { &[] } else { any_open };
        self.own().iter().chain(any).copied().collect()
    }
}
