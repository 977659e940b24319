//! `/api/v1/cases`
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::list::{Page, bad, bad_cursor, limit, page, query};
use super::{Api, store_problem};
use crate::store::cases::{self, CaseFilter, CaseView};

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

/// Cases, newest first.
#[utoipa::path(get, path = "/api/v1/cases", params(CaseQuery), responses(
    (status = 200, body = Page<CaseView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    parameters: Result<Query<CaseQuery>, QueryRejection>,
) -> Result<Json<Page<CaseView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    let before = match &parameters.cursor {
        Some(code) => {
            let id = cases::id_of(api.store.readers(), code)
                .await
                .map_err(store_problem)?;
            Some(id.ok_or_else(bad_cursor)?)
        }
        None => None,
    };
    let filter = CaseFilter {
        site: parameters.site,
        kind: parameters.kind,
        state: parameters.state,
        before,
        limit: limit + 1,
    };
    let found = cases::list(api.store.readers(), &filter)
        .await
        .map_err(store_problem)?;
    Ok(Json(page(found, limit, |case| case.code.clone())))
}

/// One case with its warnings and actions.
#[utoipa::path(get, path = "/api/v1/cases/{code}", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = CaseView),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn get(
    State(api): State<Arc<Api>>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<CaseView>, Problem> {
    let Path(code) = code.map_err(|rejection| bad("code", rejection.body_text()))?;
    cases::get(api.store.readers(), &code)
        .await
        .map_err(store_problem)?
        .map(Json)
        .ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "there is no case of this code",
            )
        })
}
