//! `/api/v1/clock`
use axum::Json;
use axum::extract::State;
use linli_shared::service::clock as machine;
use serde::Serialize;
use std::sync::Arc;

use super::Api;

/// The state of the hub's own clock.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClockView {
    /// The time by which events are stored and judged, RFC 3339.
    hub_time: String,
    /// The wall clock of the machine, RFC 3339.
    wall_time: String,
    /// The hub does not believe its clock: retention, expiry and escalation are held.
    doubtful: bool,
    /// stepped, away or unsynchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The state of the hub's own clock.
#[utoipa::path(get, path = "/api/v1/clock", responses(
    (status = 200, body = ClockView),
    super::auth::Refusals,
))]
pub async fn get(State(api): State<Arc<Api>>) -> Json<ClockView> {
    let doubt = api.clock.doubt();
    Json(ClockView {
        hub_time: machine::rfc3339(api.clock.now_ms()),
        wall_time: machine::rfc3339(machine::wall_ms()),
        doubtful: doubt.is_some(),
        reason: doubt.map(|doubt| doubt.as_str()),
        detail: doubt.map(|doubt| doubt.words()),
    })
}
