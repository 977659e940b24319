//! The HTTP API under `/api/v1`, over TLS with the hub's certificate. One file a resource.
//!
//! Every request but that for the OpenAPI document carries a token of `linli-hub api-token create` as
//! `Authorization: Bearer …`. Lists are newest first and give a `next` cursor while there is more;
//! errors are problem+json (RFC 9457).
mod agents;
mod auth;
mod cases;
mod events;
mod list;
mod mutes;
mod notifications;
mod rules;
mod warnings;

use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::OpenApi;

use crate::ingest::{Ingest, Rejection};
use crate::listener::Sessions;
use crate::metrics::Metrics;
use crate::rules::Rules;
use crate::store::{Store, StoreError};

pub use auth::ApiToken;
use auth::Bearer;
pub use events::EventView;
pub use rules::RuleView;

/// What the handlers share.
pub struct Api {
    /// Reading.
    pub store: Store,
    /// Writing.
    pub ingest: Ingest,
    /// The rules that run.
    pub rules: Rules,
    /// Warnings of life safety may be muted.
    pub mute_life: bool,
    /// Sites of the config; those of agents are beside them.
    pub sites: BTreeSet<String>,
    /// Who is connected.
    pub sessions: Sessions,
    /// Figures.
    pub metrics: Metrics,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Linli hub",
        description = "Events, warnings, cases, agents and notifications of a district governance centre.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        events::list,
        warnings::list,
        warnings::get,
        warnings::acknowledge,
        mutes::list,
        mutes::add,
        mutes::end,
        rules::list,
        rules::reload,
        cases::list,
        cases::get,
        agents::list,
        notifications::list,
        notifications::resend
    ),
    components(schemas(auth::ProblemSchema)),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The routes.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let closed = Router::new()
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/warnings", get(warnings::list))
        .route("/api/v1/warnings/{id}", get(warnings::get))
        .route(
            "/api/v1/warnings/{id}/acknowledge",
            post(warnings::acknowledge),
        )
        .route("/api/v1/mutes", get(mutes::list).post(mutes::add))
        .route("/api/v1/mutes/{id}/end", post(mutes::end))
        .route("/api/v1/rules", get(rules::list))
        .route("/api/v1/rules/reload", post(rules::reload))
        .route("/api/v1/cases", get(cases::list))
        .route("/api/v1/cases/{code}", get(cases::get))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/notifications", get(notifications::list))
        .route(
            "/api/v1/notifications/{id}/resend",
            post(notifications::resend),
        )
        .route_layer(middleware::from_fn(list::without_nul))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::require));
    Router::new()
        .merge(closed)
        .route("/api/v1/openapi.json", get(|| async { Json(document()) }))
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "there is no such resource: see /api/v1/openapi.json",
            )
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this resource does not take this method: see /api/v1/openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(api.clone(), auth::count))
        .with_state(api)
}

/// The writer does not take it at the moment.
fn busy(_: Rejection) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store",
        "the store takes no writes at the moment: send the request again",
    )
    .retry_after(5)
}

/// The store failed: the log says how, the caller gets a word.
fn store_problem(error: StoreError) -> Problem {
    tracing::error!(error = %telemetry::chain(&error), "a request to the API failed");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store",
        "the store does not answer at the moment",
    )
    .retry_after(5)
}
