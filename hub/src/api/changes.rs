//! `/api/v1/changes`: numbered changes, as JSON or as a stream of server-sent events (WHATWG HTML, 9.2).
//!
//! A stream sends `change` events with their numbers as ids, and `reset` where changes are missing. It goes on after
//! `Last-Event-ID`, else after `after`, else with the next change. It asks again every [`CHECK_EVERY`] whether its token is
//! still good, and ends after [`STREAM_MAX`]; a browser then connects again by itself. At most [`STREAMS_MAX`] are open.
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Api;
use super::list::{bad, query};
use crate::services::changes::{ChangeView, Changes};
use crate::token::Token;
use linli_domain::rights::Actor;

/// Streams that are open at a time.
pub const STREAMS_MAX: usize = 1_000;
/// A comment is sent after so long without a change, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The token of a stream is looked up again this often.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// A stream ends after so long.
const STREAM_MAX: Duration = Duration::from_secs(3_600);
/// After a failure of the store a stream ends; the browser waits so long before it connects again.
const RETRY: Duration = Duration::from_secs(2);

/// Which changes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// `next` of the answer before; without it none are listed, and `next` says where to begin.
    after: Option<i64>,
}

/// Changes after a number, oldest first. With `Accept: text/event-stream` a stream that goes on.
#[utoipa::path(get, path = "/api/v1/changes", params(ChangeQuery,
    ("last-event-id" = Option<String>, Header, description = "of a stream: the number to go on after")), responses(
    (status = 200, description = "some changes, or a stream of them", content((Changes = "application/json"), (String = "text/event-stream"))),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    Extension(token): Extension<Token>,
    headers: HeaderMap,
    parameters: Result<Query<ChangeQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let ChangeQuery { after } = query(parameters)?;
    if after.is_some_and(|after| after < 0) {
        return Err(bad("after", "a number of `next`, 0 or more"));
    }
    if !accepts_stream(&headers) {
        return Ok(Json(api.services.changes(&actor, after).await?).into_response());
    }
    let Ok(place) = Arc::clone(&api.streams).try_acquire_owned() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "streams",
            format!("{STREAMS_MAX} streams are open: connect again later"),
        )
        .retry_after(10));
    };
    let last_event_id = HeaderName::from_static("last-event-id");
    let after = match headers.get(last_event_id).map(HeaderValue::to_str) {
        Some(id) => {
            let number = id.ok().and_then(|id| id.trim().parse().ok());
            Some(number.ok_or_else(|| bad("last-event-id", "is no number of a change"))?)
        }
        None => after,
    };
    // Where to begin, and whether the store answers, is known before the stream is.
    let first = api.services.changes(&actor, after).await?;
    let now = Instant::now();
    let subscription = Subscription {
        news: api.changes.clone(),
        api,
        actor,
        token,
        next: first.next,
        waiting: VecDeque::from(events(first)),
        checked: now,
        ends: now + STREAM_MAX,
        _place: place,
    };
    let mut response = Sse::new(subscription.into_stream())
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // Proxies are asked not to gather events.
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"))
}

/// One open stream.
struct Subscription {
    api: Arc<Api>,
    actor: Actor,
    token: Token,
    news: watch::Receiver<()>,
    next: i64,
    waiting: VecDeque<Event>,
    checked: Instant,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut subscription| async move {
            let event = subscription.event().await?;
            Some((Ok(event), subscription))
        })
    }

    /// The next event; `None`: the stream ends.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if Instant::now() >= self.ends || !self.is_still_good().await {
                return None;
            }
            // Seen before it is read: a change that commits meanwhile wakes the next wait.
            self.news.borrow_and_update();
            let found = match self
                .api
                .services
                .changes(&self.actor, Some(self.next))
                .await
            {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(error = %telemetry::chain(&error), "a stream of changes ends");
                    return None;
                }
            };
            let (has_more, has_news) = (found.more, found.next != self.next || found.reset);
            self.next = found.next;
            self.waiting.extend(events(found));
            if has_more || has_news || !self.waiting.is_empty() {
                continue;
            }
            let until = self.ends.min(Instant::now() + CHECK_EVERY);
            // All arms are cancel-safe: a watch keeps its news.
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = tokio::time::sleep_until(until) => {}
                () = self.api.stop.cancelled() => return None,
            }
        }
    }

    /// The token still lets its actor in, with the role and organisation of now.
    async fn is_still_good(&mut self) -> bool {
        if self.checked.elapsed() < CHECK_EVERY {
            return true;
        }
        self.checked = Instant::now();
        match self.api.services.authenticate(self.token.clone()).await {
            Ok(Some((actor, _))) => {
                self.actor = actor;
                true
            }
            Ok(None) | Err(_) => false,
        }
    }
}

/// The events of an answer. Where all changes were for others, a comment carries the number on.
fn events(found: Changes) -> Vec<Event> {
    let id = found.next.to_string();
    if found.reset {
        return vec![
            Event::default()
                .event("reset")
                .id(&id)
                .data(id)
                .retry(RETRY),
        ];
    }
    let last = found.items.last().map(|change| change.number);
    let mut events: Vec<Event> = found.items.iter().map(event).collect();
    if last != Some(found.next) {
        events.push(Event::default().id(id).comment("nothing for you"));
    }
    events
}

fn event(change: &ChangeView) -> Event {
    let data = serde_json::to_string(change).unwrap_or_default();
    Event::default()
        .event("change")
        .id(change.number.to_string())
        .data(data)
}
