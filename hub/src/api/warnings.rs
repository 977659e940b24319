//! `/api/v1/warnings`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::auth::Credential;
use super::list::{Page, bad, bad_cursor, body, limit, page, path, query, time_ms};
use super::{Api, busy, store_problem, watched};
use crate::ingest::Acknowledged;
use linli_domain::rights::Actor;
use linli_domain::warnings::TEXT_CHARS_MAX;
use linli_store::warnings::{self, ACTIVE, WITHDRAWN, WarningFilter, WarningView};

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
    /// true: only those that nobody has acknowledged; false: only the others.
    unacknowledged: Option<bool>,
    /// true: those of rules on trial, in place of the others.
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
    let limit = limit(parameters.limit)?;
    if let Some(state) = &parameters.state
        && ![ACTIVE, WITHDRAWN].contains(&state.as_str())
    {
        return Err(bad(
            "state",
            format!("{state:?} is none of {ACTIVE}, {WITHDRAWN}"),
        ));
    }
    let before = parameters.cursor.as_deref().map(str::parse).transpose();
    let filter = WarningFilter {
        watched: watched::of(&api, &actor).await?,
        hidden: watched::hidden_rules(&api, &actor),
        login: Some(actor.login.clone()),
        site: parameters.site,
        rule: parameters.rule,
        state: parameters.state,
        unacked: parameters.unacknowledged,
        shadow: parameters.shadow.unwrap_or(false),
        from_ms: time_ms("from", parameters.from.as_deref())?,
        to_ms: time_ms("to", parameters.to.as_deref())?,
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
    Extension(actor): Extension<Actor>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<WarningView>, Problem> {
    let id = path("id", id)?;
    seen(&api, &actor, id).await.map(Json)
}

/// A warning that somebody may see.
async fn seen(api: &Api, actor: &Actor, id: i64) -> Result<WarningView, Problem> {
    let found = warnings::get(api.store.readers(), id).await;
    let warning = found.map_err(store_problem)?.ok_or_else(|| unknown(id))?;
    if watched::hides(api, actor, &warning).await? {
        return Err(unknown(id));
    }
    Ok(warning)
}

fn unknown(id: i64) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        format!("there is no warning {id}"),
    )
}

/// Who acknowledges a warning, and what they say.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Who.
    by: String,
    /// What they say.
    #[serde(default)]
    note: String,
}

/// 签收：somebody has seen the warning and takes care of it.
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
    // Who has signed in acknowledges in their own name; a program says for whom.
    let by = match credential {
        Credential::Session(_) => actor.login.clone(),
        Credential::Program => by.trim().to_owned(),
    };
    if by.is_empty() || by.chars().count() > TEXT_CHARS_MAX {
        return Err(bad("by", "say who acknowledges it"));
    }
    if note.chars().count() > TEXT_CHARS_MAX {
        return Err(bad("note", format!("at most {TEXT_CHARS_MAX} characters")));
    }
    seen(&api, &actor, id).await?;
    match api.ingest.acknowledge(id, by, note).await.map_err(busy)? {
        Acknowledged::Now => {}
        Acknowledged::Before => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "acknowledged",
                format!("warning {id} is acknowledged already"),
            ));
        }
        Acknowledged::Unknown => return Err(unknown(id)),
    }
    seen(&api, &actor, id).await.map(Json)
}
