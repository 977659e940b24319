//! The kinds of moves, for the table of states and for sentences about moves.

/// The kind of a move, without its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// 受理
    Accept,
    /// 不予受理
    Decline,
    /// 派单
    Dispatch,
    /// 指定主办
    NameLead,
    /// 签收
    Sign,
    /// 退回
    Return,
    /// 转办
    Transfer,
    /// 协办
    Join,
    /// 协办完成
    JoinDone,
    /// 答复
    Answer,
    /// 核验
    Verify,
    /// 回访
    Revisit,
    /// 评价
    Evaluate,
    /// 归档
    Archive,
    /// 挂起
    Suspend,
    /// 恢复
    Resume,
    /// 申请延期
    AskDelay,
    /// 同意延期
    GrantDelay,
    /// 不同意延期
    RefuseDelay,
    /// 升级
    Escalate,
    /// 重开
    Reopen,
    /// 定风险等级
    SetRisk,
    /// 备注
    Note,
    /// 并入
    Merge,
    /// 撤销并入
    Unmerge,
    /// 关联预警
    LinkWarning,
    /// 取消关联
    UnlinkWarning,
    /// 指定经办人
    NameHandler,
    /// 取消经办人
    UnnameHandler,
}

impl Kind {
    /// The word shown to people, and the word of the API.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Accept => ("受理", "accept"),
            Self::Decline => ("不予受理", "decline"),
            Self::Dispatch => ("派单", "dispatch"),
            Self::NameLead => ("指定主办", "name_lead"),
            Self::Sign => ("签收", "sign"),
            Self::Return => ("退回", "return"),
            Self::Transfer => ("转办", "transfer"),
            Self::Join => ("协办", "join"),
            Self::JoinDone => ("协办完成", "join_done"),
            Self::Answer => ("答复", "answer"),
            Self::Verify => ("核验", "verify"),
            Self::Revisit => ("回访", "revisit"),
            Self::Evaluate => ("评价", "evaluate"),
            Self::Archive => ("归档", "archive"),
            Self::Suspend => ("挂起", "suspend"),
            Self::Resume => ("恢复", "resume"),
            Self::AskDelay => ("申请延期", "ask_delay"),
            Self::GrantDelay => ("同意延期", "grant_delay"),
            Self::RefuseDelay => ("不同意延期", "refuse_delay"),
            Self::Escalate => ("升级", "escalate"),
            Self::Reopen => ("重开", "reopen"),
            Self::SetRisk => ("定风险等级", "set_risk"),
            Self::Note => ("备注", "note"),
            Self::Merge => ("并入", "merge"),
            Self::Unmerge => ("撤销并入", "unmerge"),
            Self::LinkWarning => ("关联预警", "link_warning"),
            Self::UnlinkWarning => ("取消关联", "unlink_warning"),
            Self::NameHandler => ("指定经办人", "name_handler"),
            Self::UnnameHandler => ("取消经办人", "unname_handler"),
        }
    }
}
