//! `/api/v1/events`
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::Api;
use super::list::{limit, query, time_ms};
use crate::services::Page;
use crate::services::events::EventView;
use linli_domain::rights::Actor;
use linli_store::chunks::EventFilter;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this agent.
    agent: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Only of this device.
    device: Option<String>,
    /// Only at this address.
    address: Option<String>,
    /// Not earlier, RFC 3339.
    from: Option<String>,
    /// Earlier than, RFC 3339.
    to: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// Events of the sites that the caller sees, newest arrival first. A page can be short while there is a next one.
#[utoipa::path(get, path = "/api/v1/events", params(EventQuery), responses(
    (status = 200, body = Page<EventView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<Page<EventView>>, Problem> {
    let parameters = query(parameters)?;
    let filter = EventFilter {
        from_ms: time_ms("from", parameters.from.as_deref())?,
        to_ms: time_ms("to", parameters.to.as_deref())?,
        limit: limit(parameters.limit)?,
        site: parameters.site,
        agent: parameters.agent,
        kind: parameters.kind,
        device: parameters.device,
        address: parameters.address,
        ..EventFilter::default()
    };
    let cursor = parameters.cursor.as_deref();
    Ok(Json(api.services.events(&actor, filter, cursor).await?))
}
