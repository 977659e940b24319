//! A device whose events come in the answer to one request, which never ends: read as a [`multipart`](linli_devices::multipart)
//! stream, handed to the feed, watched over.
//!
//! * A device that says nothing whole for its `silence` is not there any more, however many bytes it sends: the
//!   session ends and is made anew. Recorders that were restarted keep their old connections open and never speak again.
//! * What came at once is one group, and one sync. While the spool refuses nothing more is read: the device waits in TCP,
//!   and what was read is tried again until it is durable.
//! * What is known of a device (its [`Dialect`]) changes with the events that are durable, and not before.
use linli_shared::service::backoff::Backoff;
use linli_shared::service::clock;
use linli_shared::service::telemetry::chain;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ingest::{BATCH_EVENTS, IngestBatch, SourceIngest};
use crate::intake::SubmitError;
use crate::random;
use crate::transport::reconnect::Ended;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::multipart::{Piece, Scanner};

/// Between two tries to store what the spool refused.
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// How a make of devices speaks, with what is known of one of them.
pub(crate) trait Dialect: Clone {
    /// Adds a whole message to a group.
    fn message(&mut self, batch: &mut IngestBatch, body: &[u8], now_ms: u64);

    /// The id of the device.
    fn device(&self) -> &str;
}

/// One device.
pub(crate) struct Device<D>(Mutex<D>);

impl<D: Dialect> Device<D> {
    /// Nothing is known of it yet.
    pub fn new(dialect: D) -> Self {
        Self(Mutex::new(dialect))
    }

    /// Changes what is known with what `add` puts into a group, once that is durable.
    pub async fn with(
        &self,
        ingest: &SourceIngest,
        add: impl FnOnce(&mut D, &mut IngestBatch),
    ) -> Result<(), SubmitError> {
        let mut known = self.0.lock().await;
        let mut next = known.clone();
        let mut batch = ingest.batch();
        add(&mut next, &mut batch);
        ingest.store(batch).await?;
        *known = next;
        Ok(())
    }

    /// What is known of it.
    pub async fn known<T>(&self, look: impl FnOnce(&mut D) -> T) -> T {
        look(&mut *self.0.lock().await)
    }

    /// Makes pieces durable. On an error none of those that are left is known.
    pub async fn take(
        &self,
        ingest: &SourceIngest,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), SubmitError> {
        while !pieces.is_empty() {
            let count = pieces.len().min(BATCH_EVENTS);
            let now_ms = clock::monotonic_ms();
            self.with(ingest, |dialect, batch| {
                for piece in &pieces[..count] {
                    add(dialect, batch, piece, now_ms);
                }
            })
            .await?;
            pieces.drain(..count);
        }
        Ok(())
    }

    /// Makes pieces durable, however long that takes.
    pub async fn keep(&self, ingest: &SourceIngest, mut pieces: Vec<Piece>) {
        let mut again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
        // Boxed: 6 KB that the task of each device would hold while it waits for the next piece.
        while let Err(error) = Box::pin(self.take(ingest, &mut pieces)).await {
            tracing::debug!(
                source = ingest.name(),
                error = chain(&error),
                "events wait for the spool"
            );
            tokio::time::sleep(again.next(random::jitter())).await;
        }
    }
}

fn add<D: Dialect>(dialect: &mut D, batch: &mut IngestBatch, piece: &Piece, now_ms: u64) {
    match piece {
        Piece::Part(body) => dialect.message(batch, body, now_ms),
        Piece::Picture { bytes } => {
            let said = DecodedMessage::LeftOut {
                device: dialect.device().to_owned().into(),
                what: "picture".into(),
            };
            batch.message(format!("a picture of {bytes} bytes").as_bytes(), Ok(said));
        }
        Piece::Rejected { damage, sample, .. } => {
            let reject = Reject::new(damage.to_string()).of(dialect.device());
            batch.message(sample, Err(reject));
        }
    }
}

/// The answer that never ends.
pub(crate) struct Stream {
    answer: Response,
    scanner: Scanner,
    silence: Duration,
    heard: Instant,
}

impl Stream {
    /// Of this answer. It ends when nothing whole came for `silence`.
    pub fn new(mut answer: Response, silence: Duration) -> Self {
        // They would hold the first buffer of the connection for as long as it lives.
        let head = std::mem::take(answer.headers_mut());
        let content_type = head.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Self {
            scanner: Scanner::new(content_type.unwrap_or_default()),
            answer,
            silence,
            heard: Instant::now(),
        }
    }

    /// What came next. Cancel-safe: what was read is in the scanner.
    pub async fn read(&mut self) -> Result<Vec<Piece>, Ended> {
        let chunk = match tokio::time::timeout_at(self.heard + self.silence, self.answer.chunk())
            .await
        {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Err(Ended::lost(format!("{} ended its stream", self.origin()))),
            Ok(Err(error)) => {
                return Err(Ended::lost(format!(
                    "{} broke off: {}",
                    self.origin(),
                    chain(&error)
                )));
            }
            Err(_) => return Err(self.silent()),
        };
        let mut pieces = Vec::new();
        self.scanner.scan(&chunk, &mut pieces);
        if pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Part(_) | Piece::Picture { .. }))
        {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > self.silence {
            // Bytes without an end, which are no message.
            return Err(self.silent());
        }
        Ok(pieces)
    }

    fn origin(&self) -> String {
        self.answer.url().origin().ascii_serialization()
    }

    fn silent(&self) -> Ended {
        let seconds = self.silence.as_secs();
        let trouble = self.scanner.trouble();
        Ended::lost(format!(
            "{} said nothing whole for {seconds} s{}",
            self.origin(),
            trouble.map_or_else(String::new, |damage| format!(": {damage}"))
        ))
    }

    /// Time passed that was not the device's.
    pub fn waited(&mut self) {
        self.heard = Instant::now();
    }
}
