//! `/api/v1/rules`
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use serde::Serialize;
use std::sync::Arc;

use super::Api;
use crate::rules::ReloadError;
use crate::services::ServiceError;
use crate::services::rules::RuleView;
use linli_domain::rights::Actor;

/// The result of a reload.
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
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<RuleView>>, Problem> {
    Ok(Json(api.services.rules(&actor).await?))
}

/// Reads the rule files again; for the centre only. If one is wrong, nothing changes, and the answer says why.
#[utoipa::path(post, path = "/api/v1/rules/reload", responses(
    (status = 200, body = Reloaded),
    super::auth::Refusals,
    (status = 422, description = "a file is wrong; the rules from before go on", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn reload(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Reloaded>, Problem> {
    match api.services.reload_rules(&actor).await? {
        Ok(rules) => Ok(Json(Reloaded { rules })),
        Err(error @ ReloadError::Rules(_)) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "rules",
            telemetry::chain(&error),
        )),
        Err(ReloadError::Store) => Err(ServiceError::Busy.into()),
    }
}
