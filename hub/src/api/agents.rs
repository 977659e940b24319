//! `/api/v1/agents`
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::Api;
use super::list::query;
use crate::services::Page;
use linli_domain::rights::Actor;
use linli_store::agents::AgentView;

/// Takes no parameter yet; one that is sent is refused, as by the other lists.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentQuery {}

/// The agents that the caller sees, by name.
#[utoipa::path(get, path = "/api/v1/agents", responses(
    (status = 200, body = Page<AgentView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<AgentQuery>, QueryRejection>,
) -> Result<Json<Page<AgentView>>, Problem> {
    query(parameters)?;
    let mut items = api.services.agents(&actor).await?;
    for view in &mut items {
        view.connected = view
            .agent
            .parse()
            .ok()
            .map(|agent| api.sessions.connected(&agent));
    }
    Ok(Json(Page::whole(items)))
}
