//! `/api/v1/cases/{code}/subject`: work under a resident's request, which is the case of that code.
//!
//! Each is for who supervises the place of the request, and of what it is about. Looking and giving out are in the audit
//! log before anything is shown, with the code of the request as their reason.
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::Api;
use super::cases::Moved;
use super::list::{body, path};
use crate::services::subject::{Held, SubjectFound};
use linli_domain::cases::narrative::Narrative;
use linli_domain::rights::Actor;

/// Whom to look for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectSearch {
    /// Their phone: 7 to 20 digits.
    phone: String,
    /// `next` of the answer before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Finds the cases that name a phone. It opens every narrative, 20,000 for a request.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/search", request_body = SubjectSearch, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = SubjectFound),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request, or is closed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn search(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    search: Result<Json<SubjectSearch>, JsonRejection>,
) -> Result<Json<SubjectFound>, Problem> {
    let code = path("code", code)?;
    let SubjectSearch { phone, cursor } = body(search)?;
    let cursor = cursor.as_deref();
    let found = api
        .services
        .search_subject(&actor, &code, &phone, cursor)
        .await?;
    Ok(Json(found))
}

/// The cases to export.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectExport {
    /// Codes of the cases: 1 to 20.
    cases: Vec<String>,
    /// The phone of the requester: other parties stay masked.
    phone: String,
}

/// Exports what cases hold of the requester. Texts can name others: a person reads them before they are handed out.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/export", request_body = SubjectExport, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Held),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to see, or is closed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn export(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    export: Result<Json<SubjectExport>, JsonRejection>,
) -> Result<Json<Held>, Problem> {
    let code = path("code", code)?;
    let SubjectExport {
        cases: codes,
        phone,
    } = body(export)?;
    let held = api
        .services
        .export_subject(&actor, &code, &codes, &phone)
        .await?;
    Ok(Json(held))
}

/// The correction.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectCorrection {
    /// Code of the case that is corrected.
    case: String,
    /// The version of it that was seen.
    version: i64,
    /// The whole new narrative.
    narrative: Narrative,
}

/// Puts another narrative in the place of that of a case. Of the one before nothing stays.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/correct", request_body = SubjectCorrection, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to correct, or is closed; or the other has changed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn correct(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    correction: Result<Json<SubjectCorrection>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let request = path("code", code)?;
    let SubjectCorrection {
        case,
        version,
        narrative,
    } = body(correction)?;
    let version = api
        .services
        .change_subject(&actor, request, case, version, Some(narrative))
        .await?;
    Ok(Json(Moved { version }))
}

/// Which case.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectDeletion {
    /// Code of the closed case.
    case: String,
    /// The version of it that was seen.
    version: i64,
}

/// Deletes what a closed case says of people: its narrative, its files, the texts of its log.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/delete", request_body = SubjectDeletion, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to delete, or is closed; or the other is open, or has changed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn delete(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    deletion: Result<Json<SubjectDeletion>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let request = path("code", code)?;
    let SubjectDeletion { case, version } = body(deletion)?;
    let version = api
        .services
        .change_subject(&actor, request, case, version, None)
        .await?;
    Ok(Json(Moved { version }))
}
