//! HTTP push: platforms, alarm boxes and police systems POST JSON to `/push/<source>`.
//!
//! Answered 200 only after every accepted item is synced. Items that the mapping rejects are named in
//! the answer and counted; they do not hold back the good ones. Pushing the same items again stores
//! nothing twice, by the source's own ids.
//!
//! The name of the source and its token are looked at before the body is read, so that a stranger cannot
//! make the agent hold anything; see [`body`](super::body) for the rest.
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use linli_shared::protocol::event::ClockQuality;
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry::chain;
use serde::Serialize;
use sha2::Sha256;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::body::{Bodies, BodyError, Proof};
use super::mapping::capture::Capture;
use super::mapping::{Mapped, MessageError, Reject, Tense};
use super::text;
use crate::config::{DeviceConfig, PushKey, Source};
use crate::http::has_token;
use crate::intake::{Intake, SUBMIT_EVENTS_MAX, Submission};
use crate::metrics::Metrics;
use crate::pending::Pending;

/// Rejections that an answer names.
const REJECTS_SHOWN_MAX: usize = 20;
/// When a source should come again after the spool refused, seconds.
const RETRY_AFTER_S: u32 = 10;

/// What the handlers share.
pub struct Push {
    /// Sources by name.
    pub sources: Arc<BTreeMap<String, Source>>,
    /// Places by device id.
    pub devices: Arc<HashMap<String, DeviceConfig>>,
    /// Where events go.
    pub intake: Intake,
    /// What is on its way there.
    pub pending: Pending,
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
    index: usize,
    reason: String,
}

/// The answer to a push.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// New events, durable now.
    stored: usize,
    /// Events that were there already.
    doubled: usize,
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
    problem: Problem,
    /// What it counts as.
    outcome: &'static str,
    /// How often: items where it has some, else the message.
    count: usize,
}

impl Refused {
    fn message(outcome: &'static str, problem: Problem) -> Self {
        Self {
            problem,
            outcome,
            count: 1,
        }
    }
}

async fn receive(
    State(push): State<Arc<Push>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Answer>, Problem> {
    let Some(source) = push.sources.get(&name) else {
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
    let count = |outcome: &str, count: usize| {
        push.metrics
            .source_messages
            .with_label_values(&[source.name.as_str(), outcome])
            .inc_by(count as u64);
    };
    match take(&push, source, request).await {
        Ok(answer) => {
            count("stored", answer.stored);
            count("doubled", answer.doubled);
            count("filtered", answer.filtered);
            count("rejected", answer.rejected);
            push.metrics
                .source_implausible_times
                .with_label_values(&[source.name.as_str()])
                .inc_by(answer.implausible_times as u64);
            if let Some(first) = answer.reasons.first() {
                push.told.tell(&source.name, 200, &first.reason);
            }
            Ok(Json(answer))
        }
        Err(refused) => {
            count(refused.outcome, refused.count);
            let Problem { status, detail, .. } = &refused.problem;
            push.told.tell(&source.name, *status, detail);
            Err(refused.problem)
        }
    }
}

/// Reads a push of a source, and stores what it has.
async fn take(push: &Push, source: &Source, request: Request) -> Result<Answer, Refused> {
    let denied = |detail: String| {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Refused::message("unauthorized", problem)
    };
    let (head, body) = request.into_parts();
    let proof = prove(source, &head.headers).map_err(denied)?;
    let (body, _place) = push
        .bodies
        .read(proof, body)
        .await
        .map_err(|error| not_read(&error))?;
    if proof == Proof::InBody {
        verify(source, &head.headers, &body).map_err(denied)?;
    }
    store(push, source, body).await
}

fn not_read(error: &BodyError) -> Refused {
    let (outcome, status) = match error {
        BodyError::TooLarge { .. } => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
        BodyError::CutOff { .. } => ("cut_off", StatusCode::BAD_REQUEST),
        BodyError::TooSlow => ("too_slow", StatusCode::REQUEST_TIMEOUT),
        BodyError::Full => ("refused", StatusCode::SERVICE_UNAVAILABLE),
    };
    let mut problem = Problem::new(status, "body", chain(error));
    if matches!(error, BodyError::Full) {
        problem = problem.retry_after(RETRY_AFTER_S);
    }
    Refused::message(outcome, problem)
}

/// What the head of a push proves; an error says what it lacks.
fn prove(source: &Source, headers: &HeaderMap) -> Result<Proof, String> {
    match &source.key {
        PushKey::Token(token) => {
            if has_token(headers, token) {
                return Ok(Proof::Given);
            }
            Err(format!(
                "the token of source {:?} is wrong or missing: send it as \"Authorization: Bearer …\"",
                source.name
            ))
        }
        PushKey::Hmac { header, .. } if headers.contains_key(header) => Ok(Proof::InBody),
        PushKey::Hmac { header, .. } => Err(format!(
            "the header {header:?} with the HMAC-SHA256 of the body is missing: source {:?} must send it",
            source.name
        )),
        PushKey::None => Err(format!(
            "source {:?} has neither token_file nor hmac_secret_file in the agent's config, so it takes no push",
            source.name
        )),
    }
}

/// Whether the body carries the signature that its head shows.
fn verify(source: &Source, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let PushKey::Hmac { header, secret } = &source.key else {
        return Ok(());
    };
    let sent = headers
        .get(header)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.strip_prefix("sha256=").unwrap_or(value))
        .and_then(|value| hex::decode(value).ok())
        .unwrap_or_default();
    let good = Hmac::<Sha256>::new_from_slice(secret)
        .map(|mac| mac.chain_update(body).verify_slice(&sent).is_ok())
        .unwrap_or(false);
    if good {
        return Ok(());
    }
    Err(format!(
        "the HMAC-SHA256 of the body in header {header:?} is wrong: check the secret of source {:?}",
        source.name
    ))
}

async fn store(push: &Push, source: &Source, body: Bytes) -> Result<Answer, Refused> {
    let refused = |status, kind: &str, detail: String| {
        Refused::message("rejected", Problem::new(status, kind, detail))
    };
    let text = text::decode(&body).ok_or_else(|| {
        refused(
            StatusCode::BAD_REQUEST,
            "encoding",
            "the body is neither UTF-8 nor GB18030 text".to_owned(),
        )
    })?;
    // Lives until everything is stored or refused.
    let stamp = push.pending.stamp();
    let now_ms = stamp.received_ms();
    let mut answer = Answer::default();
    let mut submission = Submission::new();
    let mut items = 0;
    let read = source.mapping.items(&text, &mut |item| {
        items += 1;
        if items <= SUBMIT_EVENTS_MAX {
            answer.take(
                items - 1,
                admit(push, source, item, now_ms, &mut submission),
            );
        }
    });
    read.map_err(|error| {
        let (status, kind) = match error {
            MessageError::Json(_) => (StatusCode::BAD_REQUEST, "not-json"),
            MessageError::NoItems(_) => (StatusCode::UNPROCESSABLE_ENTITY, "mapping"),
        };
        refused(status, kind, error.to_string())
    })?;
    if items > SUBMIT_EVENTS_MAX {
        return Err(refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-many-items",
            format!("{items} items, at most {SUBMIT_EVENTS_MAX} are accepted in one request"),
        ));
    }
    if answer.rejected > 0 && answer.rejected == items {
        let reasons: Vec<String> = answer
            .reasons
            .iter()
            .map(|rejected| format!("item {}: {}", rejected.index, rejected.reason))
            .collect();
        return Err(Refused {
            count: items,
            ..refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "mapping",
                reasons.join("; "),
            )
        });
    }
    // Everything is packed: while the disk works there is one copy of it.
    drop(text);
    drop(body);
    let submitted = push.intake.submit(submission).await.map_err(|error| {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "spool", chain(&error));
        Refused::message("refused", problem.retry_after(RETRY_AFTER_S))
    })?;
    answer.stored = submitted.stored;
    answer.doubled = submitted.doubled;
    Ok(answer)
}

/// Maps one item and packs its event; gives the quality of its time.
fn admit(
    push: &Push,
    source: &Source,
    item: &Capture<'_>,
    now_ms: i64,
    submission: &mut Submission,
) -> Result<ClockQuality, Reject> {
    let Mapped {
        mut draft,
        lane,
        retention,
    } = source.mapping.map(item, Tense::Live, now_ms)?;
    if draft.place.building.is_empty()
        && let Some(device) = push.devices.get(draft.device)
    {
        draft.place.building = &device.building;
        draft.place.unit = &device.unit;
    }
    let clock = draft.clock;
    submission
        .push(lane, retention, draft)
        .map_err(|error| Reject::Event(error.to_string()))?;
    Ok(clock)
}

impl Answer {
    /// Counts what became of an item.
    fn take(&mut self, index: usize, outcome: Result<ClockQuality, Reject>) {
        match outcome {
            Ok(ClockQuality::Implausible) => self.implausible_times += 1,
            Ok(_) => {}
            Err(Reject::Filtered { .. }) => self.filtered += 1,
            Err(reject) => {
                self.rejected += 1;
                if self.reasons.len() < REJECTS_SHOWN_MAX {
                    self.reasons.push(Rejected {
                        index,
                        reason: reject.to_string(),
                    });
                }
            }
        }
    }
}
