//! Delivery to the station's system by webhook: one message a request, in order, for ever.
//!
//! ```text
//! POST …
//! Content-Type: application/cloudevents+json
//! Linli-Signature: t=1767225600,v1=<hex of HMAC-SHA256(secret, "1767225600." + body)>
//!
//! {"specversion":"1.0","id":"gw-110/42","type":"cn.linli.case.status","source":"urn:linli:agent:gw-110",
//!  "subject":"case/AJ-7","time":"2026-01-01T00:00:00Z","datacontenttype":"application/json",
//!  "data":{"number":42,"kind":"status","case":"AJ-7","source":"police","source_id":"J9","state":"…","at_ms":…,"text":"…"}}
//! ```
//!
//! CloudEvents 1.0 in structured JSON, signed as the hub signs its own. Any 2xx means that the receiver has it. After
//! any other outcome, also a refusal, the same message is sent again under the same id: it is the only copy, and
//! later messages wait for it, because their order matters.
use linli_shared::service::backoff::Backoff;
use linli_shared::service::clock;
use linli_shared::service::peer::{self, Answer, Failure, SIGNATURE, Signer};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::inbox::Held;
use super::{InboxError, Stations};
use crate::metrics::Metrics;
use linli_shared::protocol::frame::case_kind;

/// Messages read at once.
const PAGE: usize = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Pause before the inbox is asked again after a failure.
const INBOX_PAUSE: Duration = Duration::from_secs(1);

/// A message as the station's system sees it, from the webhook and from the fetch API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageView {
    /// The hub's number: rises, and stays the same in every repetition.
    pub number: u64,
    /// Kind of the message: receipt, status, danger.
    pub kind: String,
    /// Code of the case.
    pub case: String,
    /// The source that reported the incident.
    pub source: String,
    /// The source's own id of the incident.
    pub source_id: String,
    /// State of the case.
    pub state: String,
    /// Time of that state, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// A sentence for the station.
    pub text: String,
}

impl From<Held> for MessageView {
    fn from(held: Held) -> Self {
        let status = held.status;
        let kind = if status.kind.is_empty() {
            case_kind::STATUS.to_owned()
        } else {
            status.kind
        };
        Self {
            number: status.id,
            kind,
            case: status.case,
            source: status.source,
            source_id: status.source_id,
            state: status.state,
            at_ms: status.at_ms,
            text: status.text,
        }
    }
}

/// The running webhook.
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    agent: String,
    stations: Stations,
    metrics: Metrics,
    /// The last error; `None` while it works.
    trouble: watch::Sender<Option<String>>,
}

impl Webhook {
    /// A webhook; connects to nothing yet.
    pub fn new(
        client: Client,
        url: Url,
        secret: &[u8],
        agent: &str,
        stations: Stations,
        metrics: Metrics,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            client,
            url,
            signer: Signer::new(secret),
            agent: agent.to_owned(),
            stations,
            metrics,
            trouble,
        }
    }

    /// Delivers messages until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::io::Error> {
        // Cancel-safe: a message that is cut off is sent again after the start, under the same id.
        tokio::select! {
            () = self.deliver() => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    async fn deliver(&self) {
        let mut standing = self.stations.standing();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        loop {
            let after = {
                let standing = standing.borrow_and_update();
                (standing.waiting > 0).then_some(standing.removed)
            };
            let Some(after) = after else {
                if standing.changed().await.is_err() {
                    // The inbox is gone, and the agent with it.
                    return std::future::pending().await;
                }
                continue;
            };
            let page = match self.stations.read(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    self.note(Some(error.to_string()));
                    tokio::time::sleep(INBOX_PAUSE).await;
                    continue;
                }
            };
            for held in page {
                // The message was fetched meanwhile.
                if held.status.id <= standing.borrow().removed {
                    continue;
                }
                let number = held.status.id;
                let view = MessageView::from(held);
                while let Err(failure) = self.send(&view).await {
                    self.metrics.station_failures.inc();
                    let mut pause = backoff.next(linli_shared::service::random::jitter());
                    if let Failure::Temporary {
                        retry_after_ms: Some(ms),
                        ..
                    } = &failure
                    {
                        pause = pause.max(Duration::from_millis(ms.unsigned_abs()));
                    }
                    tracing::warn!(
                        number,
                        error = failure.error(),
                        pause_ms = pause.as_millis() as u64,
                        "the station's system does not take a message"
                    );
                    self.note(Some(failure.error().to_owned()));
                    tokio::time::sleep(pause).await;
                }
                backoff.reset();
                self.note(None);
                self.settle(number).await;
            }
        }
    }

    /// Removes messages that the receiver has. While that cannot be written, nothing is sent.
    async fn settle(&self, number: u64) {
        loop {
            match self.stations.remove(number).await {
                Ok(removed) => {
                    self.metrics.station_delivered("webhook", removed);
                    return;
                }
                Err(InboxError::NotThere { .. }) => return,
                Err(error) => {
                    self.note(Some(error.to_string()));
                    tokio::time::sleep(INBOX_PAUSE).await;
                }
            }
        }
    }

    fn note(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|before| {
            let news = *before != trouble;
            *before = trouble;
            news
        });
    }

    async fn send(&self, view: &MessageView) -> Result<Answer, Failure> {
        let body = event(view, &self.agent);
        let at_s = clock::wall_ms().div_euclid(1000);
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .header(SIGNATURE, self.signer.signature(at_s, &body))
            .body(body);
        peer::ask(request).await
    }
}

fn event(view: &MessageView, agent: &str) -> String {
    let mut event = json!({
        "specversion": "1.0",
        "id": format!("{agent}/{}", view.number),
        "type": format!("cn.linli.case.{}", view.kind),
        "source": format!("urn:linli:agent:{agent}"),
        "time": clock::rfc3339(view.at_ms),
        "datacontenttype": "application/json",
        "data": view,
    });
    if !view.case.is_empty() {
        event["subject"] = json!(format!("case/{}", view.case));
    }
    event.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_shared::protocol::frame::CaseStatus;

    #[test]
    fn an_event_has_what_cloudevents_wants_and_an_unnamed_kind_is_a_status() {
        let held = Held {
            received_ms: 1,
            before: 41,
            status: CaseStatus {
                id: 42,
                case: "AJ-7".to_owned(),
                source: "police".to_owned(),
                source_id: "J9".to_owned(),
                state: "accepted".to_owned(),
                at_ms: 1_767_225_600_000,
                text: "已受理".to_owned(),
                kind: String::new(),
            },
        };
        let event: serde_json::Value =
            serde_json::from_str(&event(&held.into(), "gw-110")).expect("JSON");
        let wanted = json!({
            "specversion": "1.0", "id": "gw-110/42", "type": "cn.linli.case.status",
            "source": "urn:linli:agent:gw-110", "subject": "case/AJ-7",
            "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
            "data": {
                "number": 42, "kind": "status", "case": "AJ-7", "source": "police", "source_id": "J9",
                "state": "accepted", "at_ms": 1_767_225_600_000_i64, "text": "已受理",
            },
        });
        assert_eq!(event, wanted);
    }
}
