//! The station's system fetches its messages: on the push listener, with a token of its own.
//!
//! ```text
//! GET  /station/cases?after=N&limit=M    {"items":[{"number":…, …}], "next":N, "waiting":W}
//! POST /station/cases/ack {"through":N}  {"removed":R, "waiting":W}
//! ```
//!
//! A fetched message stays until it is acknowledged. `next` is the `after` of the next request.
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::webhook::MessageView;
use super::{InboxError, Stations};
use crate::http::has_token;
use crate::metrics::Metrics;

/// Messages of an answer if the request has no limit.
const LIMIT_DEFAULT: usize = 100;
/// Largest number of messages of an answer: half a megabyte or so.
const LIMIT_MAX: usize = 500;
/// Largest body of an acknowledgement.
const BODY_BYTES_MAX: usize = 4096;
const RETRY_AFTER_S: u32 = 5;

/// State shared by the handlers.
pub struct Fetch {
    /// The inbox.
    pub stations: Stations,
    /// The required token.
    pub token: Vec<u8>,
    /// Metrics.
    pub metrics: Metrics,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ack {
    through: u64,
}

#[derive(Serialize)]
struct Cases {
    items: Vec<MessageView>,
    next: u64,
    waiting: usize,
}

#[derive(Serialize)]
struct Acknowledged {
    removed: usize,
    waiting: usize,
}

/// The routes. `None`: the config has no token, and every request is refused with that reason.
pub fn router(fetch: Option<Fetch>) -> Router {
    match fetch {
        Some(fetch) => Router::new()
            .route("/station/cases", get(cases))
            .route("/station/cases/ack", post(acknowledge))
            .with_state(Arc::new(fetch)),
        None => Router::new()
            .route("/station/cases", get(nothing))
            .route("/station/cases/ack", post(nothing)),
    }
}

async fn nothing() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-station",
        "[station] of the agent's config has no token_file: add it to fetch messages here",
    )
}

/// Checks the token before anything else of the request is read.
fn admit(fetch: &Fetch, headers: &HeaderMap) -> Result<(), Problem> {
    if has_token(headers, &fetch.token) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the token of the station is wrong or missing: send it as \"Authorization: Bearer …\"",
    ))
}

fn failed(error: &InboxError) -> Problem {
    match error {
        InboxError::NotThere { stored, .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "through",
            format!(
                "{error}: acknowledge the number of a message that was fetched, {stored} at most"
            ),
        ),
        _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "inbox", error.to_string())
            .retry_after(RETRY_AFTER_S),
    }
}

async fn cases(State(fetch): State<Arc<Fetch>>, request: Request) -> Result<Json<Cases>, Problem> {
    admit(&fetch, request.headers())?;
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "query", detail);
    let Query(page) = Query::<Page>::try_from_uri(request.uri()).map_err(|error| {
        wrong(format!(
            "{}: write it like /station/cases?after=0&limit=100",
            error.body_text()
        ))
    })?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong(format!("limit is {limit}, must be 1 to {LIMIT_MAX}")));
    }
    let held = fetch
        .stations
        .read(page.after, limit)
        .await
        .map_err(|error| failed(&error))?;
    let items: Vec<MessageView> = held.into_iter().map(MessageView::from).collect();
    Ok(Json(Cases {
        next: items.last().map_or(page.after, |last| last.number),
        waiting: fetch.stations.standing().borrow().waiting,
        items,
    }))
}

async fn acknowledge(
    State(fetch): State<Arc<Fetch>>,
    request: Request,
) -> Result<Json<Acknowledged>, Problem> {
    admit(&fetch, request.headers())?;
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "body", detail);
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX)
        .await
        .map_err(|error| wrong(format!("the body cannot be read: {error}")))?;
    let ack: Ack = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("{error}: write it like {{\"through\": 42}}")))?;
    let removed = fetch
        .stations
        .remove(ack.through)
        .await
        .map_err(|error| failed(&error))?;
    fetch.metrics.station_delivered("fetch", removed);
    Ok(Json(Acknowledged {
        removed,
        waiting: fetch.stations.standing().borrow().waiting,
    }))
}
