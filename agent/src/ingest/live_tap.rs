//! What arrives at a source, live, for whoever watches: `linli-agent source test`.
//!
//! Nothing is made for nobody: a message is rendered only while somebody watches. Who is slow loses the oldest of
//! [`WAITING_MAX`].
use linli_shared::protocol::event::Draft;
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::broadcast;

use crate::ingest::source_status::{SourceView, shown};

const WAITING_MAX: usize = 64;
/// Of a raw message, characters.
const RAW_CHARS_MAX: usize = 4096;

/// A line of `source test`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveLine {
    /// How the source stands.
    Standing(SourceView),
    /// A message.
    Message(Seen),
    /// Messages that were too fast to be shown.
    Missed(u64),
}

/// A message, raw beside normalised.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// Receipt.
    pub at: String,
    /// What it came to: event, repeated, heartbeat, left_out, rejected, refused.
    pub outcome: Cow<'static, str>,
    /// Why it was left out or rejected.
    #[serde(default)]
    pub reason: Option<String>,
    /// As it came; bytes that are no text stand as `\x..`.
    pub raw: String,
    /// Its events, normalised.
    pub events: Vec<Value>,
}

impl Seen {
    /// A message that has come to nothing yet.
    pub fn new(at_ms: i64, raw: &[u8]) -> Self {
        Self {
            at: clock::rfc3339(at_ms),
            outcome: Cow::Borrowed(""),
            reason: None,
            raw: shown(raw, RAW_CHARS_MAX),
            events: Vec::new(),
        }
    }
}

/// An event as people read it.
pub fn event(draft: &Draft<'_>) -> Value {
    let attributes: serde_json::Map<String, Value> = draft
        .attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
        .collect();
    json!({
        "kind": draft.kind,
        "severity": draft.severity.as_str(),
        "device": draft.device,
        "source_id": draft.source_id,
        "occurred_at": clock::rfc3339(draft.occurred_at_ms),
        "received_at": clock::rfc3339(draft.received_at_ms),
        "device_time": draft.device_time_ms.map(clock::rfc3339),
        "clock": draft.clock.as_str(),
        "delivery": draft.delivery.as_str(),
        "building": draft.place.building,
        "unit": draft.place.unit,
        "attributes": attributes,
    })
}

/// Those who watch a source.
pub struct LiveTap(broadcast::Sender<Arc<Seen>>);

impl LiveTap {
    /// Nobody yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(WAITING_MAX))
    }

    /// Somebody watches.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Shows a message.
    pub fn show(&self, seen: Seen) {
        // Whoever watched may be gone.
        let _ = self.0.send(Arc::new(seen));
    }

    /// From now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Seen>> {
        self.0.subscribe()
    }
}

impl Default for LiveTap {
    fn default() -> Self {
        Self::new()
    }
}
