//! Notices of the tests.
use linli_domain::notice::{CaseNews, Notice, What};
use linli_shared::protocol::event::Severity;

/// A notice of a fire.
pub fn fire(warning: i64) -> Notice {
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

/// A notice of a case that is late.
pub fn late() -> Notice {
    Notice {
        warning: 0,
        what: What::YellowCard,
        grade: "yellow".to_owned(),
        grade_words: "黄色".to_owned(),
        severity: Severity::Alarm,
        rule: "02".to_owned(),
        rule_name: "邻里纠纷".to_owned(),
        place: "豫园".to_owned(),
        news: Some(CaseNews {
            version: 7,
            state: "handling".to_owned(),
            state_words: "办理".to_owned(),
            lead: "room-3".to_owned(),
            organisation: "room-3".to_owned(),
            organisation_name: "第三调解室".to_owned(),
            rung: "centre".to_owned(),
            due_ms: Some(1_767_225_600_000),
        }),
        route: "mediation".to_owned(),
        ..fire(0)
    }
}
