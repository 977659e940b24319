//! `/api/v1/agents`
use axum::Json;
use axum::extract::State;
use linli_shared::service::problem::Problem;
use std::sync::Arc;

use super::list::Page;
use super::{Api, store_problem};
use crate::store::agents::{self, AgentView};

/// All agents, by name.
#[utoipa::path(get, path = "/api/v1/agents", responses(
    (status = 200, body = Page<AgentView>),
    (status = 401, description = "no good token", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn list(State(api): State<Arc<Api>>) -> Result<Json<Page<AgentView>>, Problem> {
    let mut items = agents::list(api.store.readers())
        .await
        .map_err(store_problem)?;
    for view in &mut items {
        view.connected = view
            .agent
            .parse()
            .ok()
            .map(|agent| api.sessions.connected(&agent));
    }
    Ok(Json(Page { items, next: None }))
}
