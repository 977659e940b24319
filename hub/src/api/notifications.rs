//! `/api/v1/notifications`
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::Api;
use super::list::{limit, path, query};
use crate::services::Page;
use linli_domain::rights::Actor;
use linli_store::outbox::{NotificationFilter, NotificationView};

/// Which notifications.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NotificationQuery {
    /// Only in this state: waiting, sent, dead, dropped.
    state: Option<String>,
    /// Only of this channel.
    channel: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// What people were told, are to be told, and could not be told, newest first. For the centre only. A
/// page can be short while there is a next one.
#[utoipa::path(get, path = "/api/v1/notifications", params(NotificationQuery), responses(
    (status = 200, body = Page<NotificationView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<NotificationQuery>, QueryRejection>,
) -> Result<Json<Page<NotificationView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    let filter = NotificationFilter {
        state: parameters.state,
        channel: parameters.channel,
        before: None,
        limit,
    };
    let cursor = parameters.cursor.as_deref();
    Ok(Json(
        api.services.notifications(&actor, filter, cursor).await?,
    ))
}

/// Sends a dead notification again. For the centre only.
#[utoipa::path(post, path = "/api/v1/notifications/{id}/resend", params(("id" = i64, Path, description = "Number")), responses(
    (status = 202, description = "it waits to be sent", body = NotificationView),
    super::auth::Refusals,
    (status = 404, description = "no such notification", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "it is not dead", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn resend(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<(StatusCode, Json<NotificationView>), Problem> {
    let id = path("id", id)?;
    let view = api.services.resend(&actor, id).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}
