//! The HTTP API under `/api/v1`, over TLS with the hub's certificate. One file a resource.
//!
//! Every request but those for the OpenAPI document and for signing in carries a token of `linli-hub api-token create`, or
//! of a session, as `Authorization: Bearer …`. Lists are newest first and give a `next` cursor while there is more; errors
//! are problem+json (RFC 9457).
//!
//! A handler parses the request, calls a service (`crate::services`, which applies rights, masks and audit) and writes the
//! answer. [`routes()`] is the one list of routes; the OpenAPI document is made of it.
//!
//! Bounds, from the outside in, all of them before a token is looked up: [`REQUESTS_AT_ONCE`] requests at a time,
//! [`REQUEST_DEADLINE`] for an answer, [`BODY_BYTES_MAX`] bytes of a body. Files of cases have bounds of their own
//! (`crate::services::case_files`).
mod agents;
mod attachments;
mod auth;
mod cases;
mod changes;
mod clock;
mod events;
mod imports;
mod list;
pub mod metrics;
mod mutes;
mod notifications;
mod oidc;
mod orgs;
mod problem;
mod rules;
mod sessions;
mod statistics;
mod subject;
mod unread;
mod users;
mod warnings;

use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{BoxError, Json, Router, middleware};
use linli_shared::service::problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock_watch::ClockWatch;
use crate::listener::Sessions;
use crate::oidc::Oidc;
use crate::services::Services;
use linli_domain::rights::Act;

use auth::Bearer;
pub use changes::STREAMS_MAX;
use metrics::ApiMetrics;
pub use oidc::OUTCOMES as OIDC_OUTCOMES;

/// Requests that are answered at a time; more are told to come again.
const REQUESTS_AT_ONCE: usize = 512;
/// Deadline of an answer's head; files of cases and streams go on after it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// The longest body that is not a file, bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the handlers share.
pub struct Api {
    /// All reads and changes.
    pub services: Services,
    /// Agents that are connected.
    pub sessions: Sessions,
    /// Metrics.
    pub metrics: ApiMetrics,
    /// Signing in by OpenID Connect, if the config has a provider.
    pub oidc: Option<Oidc>,
    /// The hub's clock.
    pub clock: ClockWatch,
    /// Wakes streams of changes.
    pub changes: watch::Receiver<()>,
    /// The hub stops: streams end.
    pub stop: CancellationToken,
    /// Places of streams of changes.
    pub streams: Arc<Semaphore>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Linli hub",
        description = "Events, warnings, cases, agents and notifications of a district governance centre.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(auth::ProblemSchema)),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Document;

/// All routes, each once, with the right that it needs at least. The OpenAPI document is made of the same list.
fn routes(api: &Arc<Api>) -> OpenApiRouter<Arc<Api>> {
    let to = |act| middleware::from_fn_with_state((api.clone(), act), auth::require_act);
    let signed_in = || middleware::from_fn_with_state(api.clone(), auth::require);
    let watch = OpenApiRouter::new()
        .routes(routes!(events::list))
        .routes(routes!(warnings::list))
        .routes(routes!(warnings::get))
        .routes(routes!(mutes::list))
        .routes(routes!(rules::list))
        .routes(routes!(cases::list, cases::register))
        .routes(routes!(cases::get))
        .routes(routes!(cases::make_move))
        .routes(routes!(cases::unmask))
        .routes(routes!(cases::similar))
        .routes(routes!(attachments::list))
        .routes(routes!(attachments::download))
        .routes(routes!(attachments::remove))
        .routes(routes!(subject::search))
        .routes(routes!(subject::export))
        .routes(routes!(subject::correct))
        .routes(routes!(subject::delete))
        .routes(routes!(imports::cases))
        .routes(routes!(statistics::statistics))
        .routes(routes!(statistics::export))
        .routes(routes!(agents::list))
        .routes(routes!(notifications::list))
        .route_layer(to(Act::Watch));
    let attend = OpenApiRouter::new()
        .routes(routes!(warnings::acknowledge))
        .routes(routes!(mutes::add))
        .routes(routes!(mutes::end))
        .routes(routes!(rules::reload))
        .routes(routes!(notifications::resend))
        .route_layer(to(Act::Attend));
    let manage = OpenApiRouter::new()
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::disable))
        .routes(routes!(users::mark_oidc))
        .routes(routes!(orgs::put))
        .routes(routes!(orgs::put_place))
        .route_layer(to(Act::Manage));
    let audit = OpenApiRouter::new()
        .routes(routes!(users::audit_log))
        .route_layer(to(Act::Audit));
    let anybody = OpenApiRouter::new()
        .routes(routes!(users::me))
        .routes(routes!(changes::list))
        .routes(routes!(clock::get))
        .routes(routes!(orgs::list))
        .routes(routes!(orgs::places))
        .routes(routes!(sessions::end));
    let closed = watch
        .merge(attend)
        .merge(manage)
        .merge(audit)
        .merge(anybody)
        .route_layer(signed_in());
    let open = OpenApiRouter::new()
        .routes(routes!(sessions::begin))
        .routes(routes!(oidc::start))
        .routes(routes!(oidc::callback));
    // The body is a file, which is neither held in memory nor a text.
    let files = OpenApiRouter::new()
        .routes(routes!(attachments::add))
        .route_layer(to(Act::Watch))
        .route_layer(signed_in());
    closed
        .merge(open)
        .layer(middleware::from_fn(list::without_nul))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(middleware::map_response(list::too_long_is_a_problem))
        .layer(middleware::from_fn(deadline))
        .merge(files)
        .layer(middleware::from_fn(list::without_nul_in_address))
}

/// The router, with the OpenAPI document.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(routes(&api))
        .split_for_parts();
    let document = Arc::new(document);
    let cap = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(overloaded))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_AT_ONCE));
    router
        .route(
            "/api/v1/openapi.json",
            get(|| async move { Json(document.as_ref().clone()) }),
        )
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
        .layer(cap)
        .layer(middleware::from_fn_with_state(api.clone(), auth::count))
        .layer(middleware::from_fn(unread::drain))
        .with_state(api)
}

/// Bounds the time until an answer begins.
async fn deadline(request: Request, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(REQUEST_DEADLINE, next.run(request))
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "deadline",
                format!("no answer within {REQUEST_DEADLINE:?}: ask for less, or send it again"),
            )
            .retry_after(5)
        })
}

/// Too many requests at once.
async fn overloaded(_: BoxError) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        format!("{REQUESTS_AT_ONCE} requests are being answered: send it again"),
    )
    .retry_after(1)
}
