//! Cases: what people work on. This part opens them and keeps their log; the moves of the closed loop
//! (受理、派单、办理、答复、督办、回访、评价) come on top of the same action log.
use crate::correlate::Finding;
use crate::correlate::rule::Rule;
use crate::local_time;

/// The states of the loop that exist so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// 登记: it is there, nobody has taken it on.
    Registered,
    /// 归档: it is over.
    Archived,
}

impl State {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Archived => "archived",
        }
    }
}

/// A case that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub code: String,
    pub kind: String,
    pub title: String,
    pub state: State,
    pub severity: String,
    pub site: String,
    pub key: String,
    pub route: String,
    pub opened_ms: i64,
}

/// The case that a finding wants; `None` if its rule opens none. `id` is the case's number.
pub fn opening(rule: &Rule, key: &str, finding: &Finding, id: i64, now_ms: i64) -> Option<Opening> {
    let kind = rule.case.clone()?;
    let day = local_time::text(now_ms, "%Y%m%d");
    Some(Opening {
        code: format!("{day}-{id:06}"),
        title: format!("{}：{key}", rule.name),
        kind,
        state: State::Registered,
        severity: rule.severity.as_str().to_owned(),
        site: finding.site.clone(),
        key: key.to_owned(),
        route: rule.route.clone(),
        opened_ms: now_ms,
    })
}
