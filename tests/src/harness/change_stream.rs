//! A client of the stream of changes (`text/event-stream`), as a browser's `EventSource` reads it.
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{DEADLINE, Hub};

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// `change` or `reset`.
    pub event: String,
    /// The id that the client has after it.
    pub id: String,
    /// Its data.
    pub data: Value,
}

/// An open stream.
pub struct ChangeStream {
    answer: reqwest::Response,
    unread: String,
    /// The last id, also of events without data.
    pub last_id: String,
}

impl ChangeStream {
    /// Opens a stream after an id; without one after the present.
    pub async fn open(hub: &Hub, token: &str, after: Option<&str>) -> Result<Self> {
        let mut request = hub
            .client()?
            .get(hub.url("/api/v1/changes"))
            .bearer_auth(token)
            .header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let answer = request.send().await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let kind = answer.headers().get("content-type").context("a type")?;
        ensure!(kind.to_str()?.starts_with("text/event-stream"), "{kind:?}");
        Ok(Self {
            answer,
            unread: String::new(),
            last_id: after.unwrap_or_default().to_owned(),
        })
    }

    /// The next event; `None`: the stream has ended, or its connection is gone.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                let (mut event, mut data) = ("message".to_owned(), None);
                for line in block.lines() {
                    let (field, value) = line.split_once(':').unwrap_or((line, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match field {
                        "event" => event = value.to_owned(),
                        "id" => self.last_id = value.to_owned(),
                        "data" => data = Some(serde_json::from_str(value)?),
                        _ => {}
                    }
                }
                if let Some(data) = data {
                    let id = self.last_id.clone();
                    return Ok(Some(StreamEvent { event, id, data }));
                }
            }
            let part = match tokio::time::timeout(DEADLINE, self.answer.chunk()).await {
                Ok(Ok(Some(part))) => part,
                // Ended, or cut off with the hub.
                Ok(Ok(None) | Err(_)) => return Ok(None),
                Err(_) => bail!("waited in vain for a change after {:?}", self.last_id),
            };
            self.unread.push_str(std::str::from_utf8(&part)?);
        }
    }

    /// The next change of a kind; others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Result<Value> {
        loop {
            let event = self.next().await?.context("the stream goes on")?;
            ensure!(event.event == "change", "{event:?}");
            if event.data["kind"] == kind {
                return Ok(event.data);
            }
        }
    }
}
