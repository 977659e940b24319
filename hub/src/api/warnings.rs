//! `/api/v1/warnings`
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::list::{Page, bad, bad_cursor, limit, page, query};
use super::{Api, store_problem};
use crate::store::warnings::{self, WarningFilter, WarningView};

/// Which warnings.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WarningQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this rule.
    rule: Option<String>,
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
    parameters: Result<Query<WarningQuery>, QueryRejection>,
) -> Result<Json<Page<WarningView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    let before = parameters.cursor.as_deref().map(str::parse).transpose();
    let filter = WarningFilter {
        site: parameters.site,
        rule: parameters.rule,
        before: before.map_err(|_| bad_cursor())?,
        limit: limit + 1,
    };
    let found = warnings::list(api.store.readers(), &filter)
        .await
        .map_err(store_problem)?;
    Ok(Json(page(found, limit, |warning| warning.id.to_string())))
}

/// One warning with its reasons and cases.
#[utoipa::path(get, path = "/api/v1/warnings/{id}", params(("id" = i64, Path, description = "Number")), responses(
    (status = 200, body = WarningView),
    super::auth::Refusals,
    (status = 404, description = "no such warning", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn get(
    State(api): State<Arc<Api>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<WarningView>, Problem> {
    let Path(id) = id.map_err(|rejection| bad("id", rejection.body_text()))?;
    warnings::get(api.store.readers(), id)
        .await
        .map_err(store_problem)?
        .map(Json)
        .ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                format!("there is no warning {id}"),
            )
        })
}
