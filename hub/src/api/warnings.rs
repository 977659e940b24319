//! `/api/v1/warnings`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::Api;
use super::list::{body, limit, path, query, time_ms};
use crate::services::Page;
use crate::services::sessions::Credential;
use linli_domain::rights::Actor;
use linli_store::warnings::{WarningFilter, WarningView};

/// Which warnings.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WarningQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this rule.
    rule: Option<String>,
    /// Only in this state: active, withdrawn.
    state: Option<String>,
    /// true: only unacknowledged warnings; false: only the others.
    unacknowledged: Option<bool>,
    /// true: only warnings of rules on trial; else only the others.
    shadow: Option<bool>,
    /// Not before this time (RFC 3339), by their first hit.
    from: Option<String>,
    /// Before this time (RFC 3339).
    to: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// Warnings, newest first.
#[utoipa::path(get, path = "/api/v1/warnings", params(WarningQuery), responses(
    (status = 200, body = Page<WarningView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<WarningQuery>, QueryRejection>,
) -> Result<Json<Page<WarningView>>, Problem> {
    let parameters = query(parameters)?;
    let filter = WarningFilter {
        site: parameters.site,
        rule: parameters.rule,
        state: parameters.state,
        unacked: parameters.unacknowledged,
        shadow: parameters.shadow.unwrap_or(false),
        from_ms: time_ms("from", parameters.from.as_deref())?,
        to_ms: time_ms("to", parameters.to.as_deref())?,
        limit: limit(parameters.limit)?,
        ..WarningFilter::default()
    };
    let cursor = parameters.cursor.as_deref();
    Ok(Json(api.services.warnings(&actor, filter, cursor).await?))
}

/// One warning with its reasons and cases.
#[utoipa::path(get, path = "/api/v1/warnings/{id}", params(("id" = i64, Path, description = "Number")), responses(
    (status = 200, body = WarningView),
    super::auth::Refusals,
    (status = 404, description = "no such warning", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn get(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<WarningView>, Problem> {
    let id = path("id", id)?;
    Ok(Json(api.services.warning(&actor, id).await?))
}

/// The acknowledging person, and a note.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Who.
    by: String,
    /// The note.
    #[serde(default)]
    note: String,
}

/// 签收: acknowledges a warning; the person takes care of it.
#[utoipa::path(post, path = "/api/v1/warnings/{id}/acknowledge", request_body = Acknowledgement, params(("id" = i64, Path, description = "Number")), responses(
    (status = 200, body = WarningView),
    super::auth::Refusals,
    (status = 404, description = "no such warning", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "it is acknowledged already", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn acknowledge(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    Extension(credential): Extension<Credential>,
    id: Result<Path<i64>, PathRejection>,
    acknowledgement: Result<Json<Acknowledgement>, JsonRejection>,
) -> Result<Json<WarningView>, Problem> {
    let id = path("id", id)?;
    let Acknowledgement { by, note } = body(acknowledgement)?;
    // A signed-in user acknowledges in their own name; a program names the person.
    let by = match credential {
        Credential::Session(_) => actor.login.clone(),
        Credential::Program => by,
    };
    let acknowledged = api.services.acknowledge(&actor, id, &by, &note);
    Ok(Json(acknowledged.await?))
}
