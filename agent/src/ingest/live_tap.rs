//! Messages of a source, live, for watchers: `linli-agent source test`.
//!
//! A message is rendered only while somebody watches. A slow watcher loses the oldest of [`WAITING_MAX`].
use linli_shared::protocol::event::Draft;
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::broadcast;

use crate::ingest::source_status::{SourceView, shown};

const WAITING_MAX: usize = 64;
/// Largest part of a raw message that is shown, characters.
const RAW_CHARS_MAX: usize = 4096;

/// A line of `source test`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveLine {
    /// The source's status.
    Standing(SourceView),
    /// A message.
    Message(Seen),
    /// Number of messages that arrived too fast to be shown.
    Missed(u64),
}

/// A message, raw beside normalised.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// Receipt.
    pub at: String,
    /// Outcome: event, repeated, heartbeat, left_out, rejected, refused.
    pub outcome: Cow<'static, str>,
    /// Why the message was left out or rejected.
    #[serde(default)]
    pub reason: Option<String>,
    /// The message as received; bytes that are no text appear as `\x..`.
    pub raw: String,
    /// Its events, normalised.
    pub events: Vec<Value>,
}

impl Seen {
    /// A message without an outcome yet.
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

/// Renders an event for people.
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

/// The watchers of a source.
pub struct LiveTap(broadcast::Sender<Arc<Seen>>);

impl LiveTap {
    /// A tap without watchers.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(WAITING_MAX))
    }

    /// Whether somebody watches.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Shows a message.
    pub fn show(&self, seen: Seen) {
        // The watcher may be gone.
        let _ = self.0.send(Arc::new(seen));
    }

    /// Watches from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Seen>> {
        self.0.subscribe()
    }
}

impl Default for LiveTap {
    fn default() -> Self {
        Self::new()
    }
}
