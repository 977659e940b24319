//! Rules: which run, and their reload.
use linli_shared::service::clock;
use serde::Serialize;
use std::sync::Arc;

use super::{ServiceError, Services};
use crate::rules::{ReloadError, Rules};
use linli_domain::correlate::rule::{Field, Rule};
use linli_domain::rights::{Act, Actor};

/// The rules that run.
#[derive(Clone)]
pub enum RunningRules {
    /// Of the running hub, which can reload them.
    Live(Box<Rules>),
    /// As the command line has read them.
    Loaded(Vec<Arc<Rule>>),
}

impl RunningRules {
    /// The rules.
    pub fn running(&self) -> Vec<Arc<Rule>> {
        match self {
            Self::Live(rules) => rules.running(),
            Self::Loaded(rules) => rules.clone(),
        }
    }
}

/// A rule that runs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RuleView {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Hash of its content.
    pub hash: String,
    /// Severity of its warnings.
    pub severity: String,
    /// Fields of its key.
    pub key: Vec<String>,
    /// The time that it looks at, milliseconds.
    pub within_ms: i64,
    /// Where its warnings go.
    pub route: String,
    /// Kind of the case that it opens.
    pub case: Option<String>,
    /// It is on trial: it opens nothing and pages nobody.
    pub shadow: bool,
    /// It is switched on, and its consent, if it needs one, has not ended.
    pub running: bool,
    /// Its tests.
    pub tests: usize,
}

impl RuleView {
    /// How a rule stands now.
    pub fn of(rule: &Rule) -> Self {
        Self {
            id: rule.id.clone(),
            name: rule.name.clone(),
            kind: rule.kind.as_str().to_owned(),
            hash: rule.hash.clone(),
            severity: rule.severity.as_str().to_owned(),
            key: rule.key.iter().map(Field::name).collect(),
            within_ms: rule.kind.within_ms(),
            route: rule.route.clone(),
            case: rule.case.clone(),
            shadow: rule.shadow,
            running: rule.runs(clock::wall_ms()),
            tests: rule.trials.len(),
        }
    }
}

impl Services {
    /// The rules that run.
    pub async fn rules(&self, actor: &Actor) -> Result<Vec<RuleView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/rules")
            .await?;
        let rules = self.rules.running();
        Ok(rules.iter().map(|rule| RuleView::of(rule)).collect())
    }

    /// Reads the rule files again; for the centre only. If a file is wrong, the rules from before go on. Returns how many
    /// rules run.
    pub async fn reload_rules(
        &self,
        actor: &Actor,
    ) -> Result<Result<usize, ReloadError>, ServiceError> {
        let object = "/api/v1/rules/reload";
        self.permit(actor, Act::Attend, "POST", object).await?;
        self.permit_all_sites(actor, "POST", object).await?;
        match &self.rules {
            RunningRules::Live(rules) => Ok(rules.reload().await),
            RunningRules::Loaded(_) => Err(ServiceError::NotRunning),
        }
    }
}
