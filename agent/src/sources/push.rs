//! HTTP push: platforms, alarm boxes and police systems POST JSON to `/push/<source>`.
//!
//! Answered 200 only after every accepted item is synced. Items that the mapping rejects are named in the answer and
//! counted, with a sample; they do not hold back the good ones. The source's own ids make a repeated push idempotent.
//! `status` and `source test` show a push that is refused whole with the reason; if its sender is not authenticated,
//! they show only the reason.
//!
//! The name of the source and its token are checked before the body is read, so an unauthenticated sender cannot make
//! the agent hold anything; see [`body`](crate::transport::bodies) for the rest.
mod form;
mod key;
mod replays;

use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry::chain;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::ingest::{Items, SourceIngest};
use crate::intake::SUBMIT_EVENTS_MAX;
use crate::metrics::Metrics;
use crate::transport::bodies::{Bodies, BodyError, Proof};
pub use key::PushSource;
use linli_devices::mapping::MessageError;
use linli_devices::text;
use replays::Replay;

/// `type` in the config.
pub const TYPE: &str = crate::ingest::source_status::PUSH;

/// Retry-After when the spool refuses, seconds.
const RETRY_AFTER_S: u32 = 10;

/// State shared by the handlers.
pub struct Push {
    /// Pushes by name, each with its ingest.
    pub sources: BTreeMap<String, (PushSource, SourceIngest)>,
    /// Memory for bodies.
    pub bodies: Bodies,
    /// Metrics.
    pub metrics: Metrics,
    /// Rate limit of the log lines about refusals.
    pub told: RefusalLogLimit,
}

/// An item that was not stored.
#[derive(Debug, Serialize)]
struct Rejected {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    reason: String,
}

/// The answer to a push.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// New events, durable now.
    stored: usize,
    /// Events that were already stored.
    doubled: usize,
    /// Unchanged states.
    repeated: usize,
    /// Events with the id of another one and other content. They are stored.
    #[serde(skip_serializing_if = "is_zero")]
    conflicts: usize,
    /// Items that the mapping leaves out.
    filtered: usize,
    /// Items that the mapping rejects.
    rejected: usize,
    /// The first rejected items.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Rejected>,
    /// Items whose implausible time was replaced by the time of receipt.
    #[serde(skip_serializing_if = "is_zero")]
    implausible_times: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The routes of the push listener.
pub fn router(push: Push) -> Router {
    Router::new()
        .route("/push/{source}", post(receive))
        .with_state(Arc::new(push))
}

/// Least time between two log lines about refused pushes, milliseconds; all are counted.
const TELL_EVERY_MS: i64 = 10_000;

/// The time of the last log line about a refusal.
#[derive(Debug, Default)]
pub struct RefusalLogLimit(AtomicI64);

impl RefusalLogLimit {
    /// Writes a line, unless one was written a moment ago: a misconfigured device tries often.
    fn tell(&self, source: &str, status: u16, reason: &str) {
        let now_ms = clock::monotonic_ms() as i64;
        let last_ms = self.0.load(Ordering::Relaxed);
        if last_ms != 0 && now_ms - last_ms < TELL_EVERY_MS {
            return;
        }
        self.0.store(now_ms, Ordering::Relaxed);
        tracing::warn!(
            source,
            status,
            reason,
            "a push is refused; more of them in the next seconds are only counted"
        );
    }
}

/// A refused push: nothing was stored.
struct Refused {
    problem: Box<Problem>,
    /// The outcome that it is counted as.
    outcome: &'static str,
    /// Key of its sample: its outcome, until its sender is authenticated.
    key: String,
    /// Its count: the number of items if it has some, else one message.
    count: usize,
    /// The message, if its sender is authenticated.
    raw: Bytes,
}

impl Refused {
    fn message(outcome: &'static str, problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            outcome,
            key: outcome.to_owned(),
            count: 1,
            raw: Bytes::new(),
        }
    }
}

async fn receive(
    State(push): State<Arc<Push>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Answer>, Problem> {
    let Some((source, ingest)) = push.sources.get(&name) else {
        push.metrics
            .source_messages
            .with_label_values(&["", "unknown_source"])
            .inc();
        let problem = Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-source",
            format!(
                "no [[source]] of the agent's config has the name {name:?}: check the URL or add it"
            ),
        );
        push.told.tell("", problem.status, &problem.detail);
        return Err(problem);
    };
    match take(&push, source, ingest, request).await {
        Ok(answer) => {
            ingest.error_is_over();
            if let Some(first) = answer.reasons.first() {
                push.told.tell(&source.name, 200, &first.reason);
            }
            Ok(Json(answer))
        }
        Err(refused) => {
            ingest.count(refused.outcome, refused.count as u64);
            let Problem { status, detail, .. } = &*refused.problem;
            push.told.tell(&source.name, *status, detail);
            ingest.refused(&refused.key, &refused.raw, detail);
            Err(*refused.problem)
        }
    }
}

/// Reads a push of a source, and stores its items.
async fn take(
    push: &Push,
    source: &PushSource,
    ingest: &SourceIngest,
    request: Request,
) -> Result<Answer, Refused> {
    let denied = |detail: String| {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Refused::message("unauthorized", problem)
    };
    let (head, body) = request.into_parts();
    let proof = source.prove(&head.headers).map_err(denied)?;
    let (body, _place) = push
        .bodies
        .read(proof, body)
        .await
        .map_err(|error| not_read(&error))?;
    if proof == Proof::InBody {
        source.verify(&head.headers, &body).map_err(denied)?;
    }
    readable(&head.headers, &body)?;
    if proof != Proof::InBody || source.mapping.has_id() {
        return store(source, ingest, body).await;
    }
    let replay = Replay::of(&body);
    // One push at a time: a second push with the same body is recognised once the first is durable.
    let mut replays = source.replays.lock().await;
    if replays.holds(&replay, clock::monotonic_ms()) {
        let answer = Answer {
            doubled: 1,
            ..Answer::default()
        };
        ingest.count("replayed", 1);
        return Ok(answer);
    }
    let answer = store(source, ingest, body).await?;
    replays.add(replay, clock::monotonic_ms());
    Ok(answer)
}

/// Checks for an empty or compressed body, which get errors of their own.
fn readable(headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
    if body.trim_ascii().is_empty() {
        let detail = "the body is empty: the sender must POST its JSON".to_owned();
        let problem = Problem::new(StatusCode::BAD_REQUEST, "empty", detail);
        return Err(Refused::message("empty", problem));
    }
    let named = headers
        .get(CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let found = named.or_else(|| body.starts_with(&[0x1f, 0x8b]).then_some("gzip"));
    if let Some(encoding) = found {
        let detail = format!(
            "the body is compressed ({encoding}): send it as it is, without Content-Encoding"
        );
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed", detail);
        return Err(Refused::message("compressed", problem));
    }
    Ok(())
}

fn not_read(error: &BodyError) -> Refused {
    let (outcome, status) = error.outcome();
    let mut problem = Problem::new(status, "body", chain(error));
    if matches!(error, BodyError::Full) {
        problem = problem.retry_after(RETRY_AFTER_S);
    }
    Refused::message(outcome, problem)
}

async fn store(source: &PushSource, ingest: &SourceIngest, body: Bytes) -> Result<Answer, Refused> {
    let refused = |status, kind: &str, detail: String| Refused {
        raw: body.clone(),
        key: kind.to_owned(),
        ..Refused::message("rejected", Problem::new(status, kind, detail))
    };
    let mut text = text::lossy(&body);
    if let Some(json) = form::json(&text) {
        text = json.into();
    }
    let mut batch = ingest.batch();
    batch.begin(&body);
    let mut items = Items::default();
    let read = batch.items(&source.mapping, &text, &mut items);
    match read {
        Ok(()) => {}
        // The items before the fault are complete: they are stored, and the rest is named.
        Err(error) if items.events > 0 => items.reject(None, error.to_string()),
        Err(error) => {
            let (status, kind) = match error {
                MessageError::Json(_) | MessageError::Damaged(_) => {
                    (StatusCode::BAD_REQUEST, "not-json")
                }
                MessageError::NoItems(_) => (StatusCode::UNPROCESSABLE_ENTITY, "mapping"),
            };
            return Err(refused(status, kind, error.to_string()));
        }
    }
    let count = items.most;
    if count > SUBMIT_EVENTS_MAX {
        return Err(refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-many-items",
            format!("{count} items, at most {SUBMIT_EVENTS_MAX} are accepted in one request"),
        ));
    }
    if items.rejected > 0 && items.rejected == count {
        let reasons: Vec<String> = items
            .reasons
            .iter()
            .map(|(index, reason)| match index {
                Some(index) => format!("item {index}: {reason}"),
                None => reason.clone(),
            })
            .collect();
        return Err(Refused {
            count,
            // The position of an item in a push does not make another reason.
            key: items
                .reasons
                .into_iter()
                .map(|(_, reason)| reason)
                .take(1)
                .collect(),
            ..refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "mapping",
                reasons.join("; "),
            )
        });
    }
    batch.came_to(&body, &items);
    // All events are packed: while the disk works only one copy is held.
    drop(text);
    drop(body);
    let submitted = ingest.store(batch).await.map_err(|error| {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "spool", chain(&error));
        Refused::message("refused", problem.retry_after(RETRY_AFTER_S))
    })?;
    let reasons = items.reasons.into_iter();
    Ok(Answer {
        stored: submitted.stored,
        doubled: submitted.doubled,
        repeated: items.known,
        conflicts: submitted.conflicts,
        filtered: items.left_out,
        rejected: items.rejected,
        reasons: reasons
            .map(|(index, reason)| Rejected { index, reason })
            .collect(),
        implausible_times: items.implausible_times,
    })
}
