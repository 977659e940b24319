//! `/api/v1/rules`
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use serde::Serialize;
use std::sync::Arc;

use super::{Api, watched};
use crate::rules::ReloadError;
use linli_domain::correlate::rule::{Field, Rule};
use linli_domain::rights::Actor;

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

/// What a reload came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Rules that are in place.
    rules: usize,
}

/// The rules that run.
#[utoipa::path(get, path = "/api/v1/rules", responses(
    (status = 200, body = Vec<RuleView>),
    super::auth::Refusals,
))]
pub async fn list(State(api): State<Arc<Api>>) -> Json<Vec<RuleView>> {
    Json(
        api.rules
            .running()
            .iter()
            .map(|rule| RuleView::of(rule))
            .collect(),
    )
}

/// Reads the rule files again; for the centre only. Where one is wrong, nothing changes, and the answer says why.
#[utoipa::path(post, path = "/api/v1/rules/reload", responses(
    (status = 200, body = Reloaded),
    super::auth::Refusals,
    (status = 422, description = "a file is wrong; the rules from before go on", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn reload(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Reloaded>, Problem> {
    watched::all(&api, &actor, "POST", "/api/v1/rules/reload").await?;
    match api.rules.reload().await {
        Ok(rules) => Ok(Json(Reloaded { rules })),
        Err(error @ ReloadError::Rules(_)) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "rules",
            telemetry::chain(&error),
        )),
        Err(ReloadError::Store) => Err(super::busy(crate::ingest::Rejection::Store)),
    }
}
