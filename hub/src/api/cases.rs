//! `/api/v1/cases`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Api;
use super::list::{body, limit, path, query};
use crate::services::Page;
use crate::services::cases::{NewCase, Unmasked, WholeCase};
use linli_domain::cases::moves::Move;
use linli_domain::rights::Actor;
use linli_store::cases::{CaseFilter, CaseView};

/// Which cases.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaseQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Only in this state.
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// Cases that the caller may see, newest first.
#[utoipa::path(get, path = "/api/v1/cases", params(CaseQuery), responses(
    (status = 200, body = Page<CaseView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<CaseQuery>, QueryRejection>,
) -> Result<Json<Page<CaseView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    let filter = CaseFilter {
        site: parameters.site,
        kind: parameters.kind,
        state: parameters.state,
        limit,
        ..CaseFilter::default()
    };
    let cursor = parameters.cursor.as_deref();
    Ok(Json(api.services.cases(&actor, filter, cursor).await?))
}

/// One case.
#[utoipa::path(get, path = "/api/v1/cases/{code}", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = WholeCase),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn get(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<WholeCase>, Problem> {
    let code = path("code", code)?;
    Ok(Json(api.services.case(&actor, &code).await?))
}

/// 登记: registers a case.
#[utoipa::path(post, path = "/api/v1/cases", request_body = NewCase, responses(
    (status = 201, body = WholeCase),
    (status = 202, description = "it is registered, and not for who registered it to see, or cannot be shown at the moment", body = Registered),
    super::auth::Refusals,
    (status = 409, description = "the case does not take it", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn register(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    new: Result<Json<NewCase>, JsonRejection>,
) -> Result<Response, Problem> {
    let code = api.services.register_case(&actor, body(new)?).await?;
    match api.services.case(&actor, &code).await {
        Ok(whole) => Ok((StatusCode::CREATED, Json(whole)).into_response()),
        // The case is stored: an error would have the caller send it again.
        Err(_) => Ok((StatusCode::ACCEPTED, Json(Registered { code })).into_response()),
    }
}

/// The code of a case that was registered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Registered {
    /// Code.
    code: String,
}

/// A move, and the version of the case that the caller has seen.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseMove {
    /// The version that was seen.
    version: i64,
    /// The move.
    #[serde(rename = "move")]
    wanted: Move,
}

/// Its version after the move.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Moved {
    /// Version.
    pub version: i64,
}

/// Moves a case on.
#[utoipa::path(post, path = "/api/v1/cases/{code}/moves", request_body = CaseMove, params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case does not take it: its state, its version, who has worked on it", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn make_move(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    wanted: Result<Json<CaseMove>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let code = path("code", code)?;
    let CaseMove { version, wanted } = body(wanted)?;
    let version = api
        .services
        .move_case(&actor, code, version, wanted)
        .await?;
    Ok(Json(Moved { version }))
}

/// The reason of unmasking.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmask {
    /// Why; it is kept.
    reason: String,
}

/// Shows what a case says of people, unmasked. The caller, the time and the reason are in the audit log first.
#[utoipa::path(post, path = "/api/v1/cases/{code}/unmask", request_body = Unmask, params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Unmasked),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn unmask(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    unmask: Result<Json<Unmask>, JsonRejection>,
) -> Result<Json<Unmasked>, Problem> {
    let code = path("code", code)?;
    let Unmask { reason } = body(unmask)?;
    Ok(Json(api.services.unmask(&actor, &code, &reason).await?))
}

/// Cases of the same key or the same place and kind that who asks may see, newest first: a person decides whether
/// they are one.
#[utoipa::path(get, path = "/api/v1/cases/{code}/similar", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Page<CaseView>),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn similar(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<Page<CaseView>>, Problem> {
    let code = path("code", code)?;
    let similar = api.services.similar_cases(&actor, &code).await?;
    Ok(Json(Page::whole(similar)))
}
