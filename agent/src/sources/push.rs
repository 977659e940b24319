//! HTTP push: platforms, alarm boxes and police systems POST JSON to `/push/<source>`.
//!
//! Answered 200 only after every accepted item is synced. Items that the mapping rejects are named in
//! the answer and counted, with a sample; they do not hold back the good ones. Pushing the same items again stores
//! nothing twice, by the source's own ids. A push that is refused whole is shown by `status` and `source test` with
//! the reason; of one that has not proved where it comes from, nothing but that.
//!
//! The name of the source and its token are looked at before the body is read, so that a stranger cannot
//! make the agent hold anything; see [`body`](crate::transport::bodies) for the rest.
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
pub const TYPE: &str = "push";

/// When a source should come again after the spool refused, seconds.
const RETRY_AFTER_S: u32 = 10;

/// What the handlers share.
pub struct Push {
    /// Pushes by name, each with its way to the intake.
    pub sources: BTreeMap<String, (PushSource, SourceIngest)>,
    /// Room for bodies.
    pub bodies: Bodies,
    /// Figures.
    pub metrics: Metrics,
    /// What was told in the log.
    pub told: Told,
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
    /// Events that were there already.
    doubled: usize,
    /// States that are as they were.
    repeated: usize,
    /// Events under the id of another one, with other content. They are stored.
    #[serde(skip_serializing_if = "is_zero")]
    conflicts: usize,
    /// Items that the mapping leaves out.
    filtered: usize,
    /// Items that the mapping rejects.
    rejected: usize,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Rejected>,
    /// Items whose time could not be and was replaced by the time of receipt.
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

/// Between two lines in the log about pushes that are refused, milliseconds; all are counted.
const TELL_EVERY_MS: i64 = 10_000;

/// When a refusal was last told in the log.
#[derive(Debug, Default)]
pub struct Told(AtomicI64);

impl Told {
    /// Writes a line, unless one was written a moment ago: a device that is set up wrongly comes often.
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

/// A push of which nothing was stored.
struct Refused {
    problem: Box<Problem>,
    /// What it counts as.
    outcome: &'static str,
    /// By what its sample is known: its outcome, until it is known to be the source's.
    key: String,
    /// How often: items where it has some, else the message.
    count: usize,
    /// The message, where it is known to be the source's.
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

/// Reads a push of a source, and stores what it has.
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
    // One after the other: the same body at the same time is known once the first is durable.
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

/// A body that is empty, or compressed, says so in its own words.
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
    let text = text::lossy(&body);
    let mut batch = ingest.batch();
    batch.begin(&body);
    let mut items = Items::default();
    let read = batch.items(&source.mapping, &text, &mut items);
    match read {
        Ok(()) => {}
        // What stands before the fault is whole: it is stored, and the rest is named.
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
            // Where in a push it stands makes it no other reason.
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
    // Everything is packed: while the disk works there is one copy of it.
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
