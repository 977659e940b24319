//! `/api/v1/mutes`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Api;
use super::list::{body, limit, path, query, time_ms};
use crate::services::Page;
use linli_domain::rights::Actor;
use linli_domain::warnings::Mute;
use linli_store::mutes::MuteView;

/// Which mutes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MuteQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// A mute, or a maintenance window. Of rule, site and key at least one is needed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMute {
    /// Only warnings of this rule.
    #[serde(default)]
    rule: String,
    /// Only of this site.
    #[serde(default)]
    site: String,
    /// Only of this key.
    #[serde(default)]
    key: String,
    /// Why.
    reason: String,
    /// The person responsible.
    owner: String,
    /// From when (RFC 3339); now if it is not given.
    from: Option<String>,
    /// Until when (RFC 3339).
    until: String,
    /// For warnings of life safety too, where the hub's config allows it.
    #[serde(default)]
    life: bool,
}

/// The number of a new mute.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MuteMade {
    /// Number.
    id: i64,
}

/// Mutes of the sites that the caller sees, newest first. A page can be short while there is a next one.
#[utoipa::path(get, path = "/api/v1/mutes", params(MuteQuery), responses(
    (status = 200, body = Page<MuteView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<MuteQuery>, QueryRejection>,
) -> Result<Json<Page<MuteView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    let cursor = parameters.cursor.as_deref();
    Ok(Json(api.services.mutes(&actor, limit, cursor).await?))
}

/// Adds a mute: matching warnings notify nobody while it is in force, nor after it. Outside the centre only for own sites.
#[utoipa::path(post, path = "/api/v1/mutes", request_body = NewMute, responses(
    (status = 201, body = MuteMade),
    super::auth::Refusals,
))]
pub async fn add(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    mute: Result<Json<NewMute>, JsonRejection>,
) -> Result<(StatusCode, Json<MuteMade>), Problem> {
    let mute = body(mute)?;
    let now_ms = api.clock.now_ms();
    let mute = Mute {
        id: 0,
        rule: mute.rule,
        site: mute.site,
        key: mute.key,
        reason: mute.reason,
        owner: mute.owner,
        from_ms: time_ms("from", mute.from.as_deref())?.unwrap_or(now_ms),
        until_ms: time_ms("until", Some(&mute.until))?.unwrap_or(0),
        life: mute.life,
    };
    let id = api.services.add_mute(&actor, mute).await?;
    Ok((StatusCode::CREATED, Json(MuteMade { id })))
}

/// Takes a mute back.
#[utoipa::path(post, path = "/api/v1/mutes/{id}/end", params(("id" = i64, Path, description = "Number")), responses(
    (status = 204, description = "it holds no more"),
    super::auth::Refusals,
    (status = 404, description = "no such mute holds", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn end(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = path("id", id)?;
    api.services.end_mute(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
