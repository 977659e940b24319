//! The HTTP API under `/api/v1`, over TLS with the hub's certificate. One file a resource.
//!
//! Every request but those for the OpenAPI document and for signing in carries a token of `linli-hub api-token
//! create`, or of a session, as `Authorization: Bearer …`; what its holder may do stands in `rights`. Lists are newest first and give a `next` cursor while there is more;
//! errors are problem+json (RFC 9457).
mod agents;
mod attachments;
mod auth;
mod cases;
mod clock;
mod events;
mod imports;
mod list;
pub mod metrics;
mod mutes;
mod notifications;
mod oidc;
mod orgs;
mod readings;
mod rules;
mod sessions;
mod statistics;
mod subject;
mod unread;
mod users;
mod warnings;
mod watched;

pub use readings::Readings;

use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use utoipa::OpenApi;

use crate::attachments::AttachmentsConfig;
use crate::attachments::files::Files;
use crate::attachments::metrics::AttachmentMetrics;
use crate::casework::NamedOnly;
use crate::clock_watch::ClockWatch;
use crate::directory::CurrentDirectory;
use crate::ingest::{Ingest, Rejection};
use crate::listener::Sessions;
use crate::oidc::Oidc;
use crate::refusals::Refusals;
use crate::rules::Rules;
use crate::users::Tries;
use linli_domain::cases::dispatch::Dispatch;
use linli_domain::rights::Act;
use linli_store::sealed::Sealer;
use linli_store::{Store, StoreError};

use auth::Bearer;
pub use auth::Token;
pub use events::EventView;
use metrics::ApiMetrics;
pub use oidc::OUTCOMES as OIDC_OUTCOMES;
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
    pub metrics: ApiMetrics,
    /// Metrics of files of cases.
    pub attachment_metrics: AttachmentMetrics,
    /// Keys of sealed fields.
    pub sealer: Arc<Sealer>,
    /// Files of cases.
    pub files: Files,
    /// Which files are taken.
    pub attachments: AttachmentsConfig,
    /// Whose turn it is to send one.
    pub arrivals: Arc<Semaphore>,
    /// Kinds of cases that are for named handlers only, and who those are.
    pub named_only: NamedOnly,
    /// Who is to lead.
    pub dispatch: Arc<Dispatch>,
    /// Who has read what people wrote.
    pub readings: Mutex<Readings>,
    /// Organisations and places.
    pub directory: CurrentDirectory,
    /// Whose turn it is to change them.
    pub directory_turn: Mutex<()>,
    /// Wrong passwords.
    pub tries: Mutex<Tries>,
    /// Wrong sign-ins, on their way into the audit log.
    pub refusals: Refusals,
    /// Signing in by OpenID Connect, where the config has it.
    pub oidc: Option<Oidc>,
    /// How many passwords are looked at at a time.
    pub password_turns: Arc<Semaphore>,
    /// The hub's clock.
    pub clock: ClockWatch,
}

/// Files that come at a time.
pub const ARRIVALS_AT_ONCE: usize = 8;
const ATTACHMENTS: &str = "/api/v1/cases/{code}/attachments";

/// Passwords that are looked at at a time: 19 MiB and a core each.
pub const PASSWORDS_AT_ONCE: usize = 2;

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
        cases::register,
        cases::make_move,
        cases::unmask,
        cases::similar,
        attachments::list,
        attachments::add,
        attachments::download,
        attachments::remove,
        subject::search,
        subject::export,
        subject::correct,
        subject::delete,
        imports::cases,
        agents::list,
        clock::get,
        notifications::list,
        notifications::resend,
        orgs::list,
        orgs::places,
        orgs::put,
        orgs::put_place,
        sessions::begin,
        sessions::end,
        oidc::start,
        oidc::callback,
        statistics::statistics,
        statistics::export,
        users::me,
        users::list,
        users::add,
        users::disable,
        users::mark_oidc,
        users::audit_log
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
    let to = |act| middleware::from_fn_with_state((api.clone(), act), auth::require_act);
    let watch = Router::new()
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/warnings", get(warnings::list))
        .route("/api/v1/warnings/{id}", get(warnings::get))
        .route("/api/v1/mutes", get(mutes::list))
        .route("/api/v1/rules", get(rules::list))
        .route("/api/v1/cases", get(cases::list).post(cases::register))
        .route("/api/v1/cases/{code}", get(cases::get))
        .route("/api/v1/cases/{code}/moves", post(cases::make_move))
        .route("/api/v1/cases/{code}/unmask", post(cases::unmask))
        .route("/api/v1/cases/{code}/similar", get(cases::similar))
        .route(ATTACHMENTS, get(attachments::list))
        .route(
            "/api/v1/cases/{code}/attachments/{number}",
            get(attachments::download),
        )
        .route(
            "/api/v1/cases/{code}/attachments/{number}/remove",
            post(attachments::remove),
        )
        .route("/api/v1/cases/{code}/subject/search", post(subject::search))
        .route("/api/v1/cases/{code}/subject/export", post(subject::export))
        .route(
            "/api/v1/cases/{code}/subject/correct",
            post(subject::correct),
        )
        .route("/api/v1/cases/{code}/subject/delete", post(subject::delete))
        .route("/api/v1/imports/cases", post(imports::cases))
        .route("/api/v1/statistics/cases", get(statistics::statistics))
        .route("/api/v1/exports/cases", get(statistics::export))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/notifications", get(notifications::list))
        .route_layer(to(Act::Watch));
    let attend = Router::new()
        .route(
            "/api/v1/warnings/{id}/acknowledge",
            post(warnings::acknowledge),
        )
        .route("/api/v1/mutes", post(mutes::add))
        .route("/api/v1/mutes/{id}/end", post(mutes::end))
        .route("/api/v1/rules/reload", post(rules::reload))
        .route(
            "/api/v1/notifications/{id}/resend",
            post(notifications::resend),
        )
        .route_layer(to(Act::Attend));
    let manage = Router::new()
        .route("/api/v1/users", get(users::list).post(users::add))
        .route("/api/v1/users/{login}/disabled", put(users::disable))
        .route("/api/v1/users/{login}/oidc", put(users::mark_oidc))
        .route("/api/v1/orgs/{id}", put(orgs::put))
        .route("/api/v1/places/{id}", put(orgs::put_place))
        .route_layer(to(Act::Manage));
    let audit = Router::new()
        .route("/api/v1/audit", get(users::audit_log))
        .route_layer(to(Act::Audit));
    let anybody = Router::new()
        .route("/api/v1/me", get(users::me))
        .route("/api/v1/clock", get(clock::get))
        .route("/api/v1/orgs", get(orgs::list))
        .route("/api/v1/places", get(orgs::places))
        .route("/api/v1/sessions", delete(sessions::end));
    let closed = watch
        .merge(attend)
        .merge(manage)
        .merge(audit)
        .merge(anybody)
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::require));
    let open = Router::new()
        .route("/api/v1/sessions", post(sessions::begin))
        .route("/api/v1/sessions/oidc", get(oidc::start))
        .route(crate::oidc::config::CALLBACK, get(oidc::callback));
    // Its body is a file, which is neither held in memory nor a text.
    let files = Router::new()
        .route(ATTACHMENTS, post(attachments::add))
        .route_layer(to(Act::Watch))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::require));
    let closed = closed
        .merge(open)
        .layer(middleware::from_fn(list::without_nul))
        .merge(files)
        .layer(middleware::from_fn(list::without_nul_in_address));
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
        .layer(middleware::from_fn(unread::drain))
        .with_state(api)
}

/// Does what Argon2 takes memory and time for: on threads of its own, few at once. A turn lasts as long as the work,
/// whether or not somebody still waits for it.
async fn password_work<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let stopping =
        |error: &dyn std::fmt::Display| list::bad("password", format!("the hub stops: {error}"));
    let turns = Arc::clone(&api.password_turns);
    let turn = turns
        .acquire_owned()
        .await
        .map_err(|error| stopping(&error))?;
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    worked.await.map_err(|error| stopping(&error))
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
