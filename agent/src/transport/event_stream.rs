//! A device whose events arrive in one endless answer: read as a [`multipart`](linli_devices::multipart) stream,
//! passed to the ingest, watched for silence.
//!
//! * A device that sends nothing complete for its `silence` counts as gone, however many bytes it sends: the session
//!   ends and a new one begins. Recorders that were restarted keep their old connections open and never send on them
//!   again.
//! * Messages that arrive at once are one batch, and one sync. While the urgent lane refuses, nothing more is read:
//!   the device waits in TCP, and read messages are tried again until they are durable.
//! * A routine lane that refuses blocks no alarm: its waiting messages are kept, at most [`WAITING_MAX`], and the
//!   stream is read on. Beyond that the oldest are given up and counted as `given_up`: a stream has no
//!   acknowledgement, and the device would drop them instead. Waiting messages outlive the session.
//! * The state of a device (its [`Dialect`]) changes only with events that are durable.
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

/// Largest number of messages that wait for the routine lane.
const WAITING_MAX: usize = BATCH_EVENTS;
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Pause between two tries to store events that the spool refused.
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// The protocol of a make of devices, with the state of one of them.
pub(crate) trait Dialect: Clone {
    /// Adds a complete message to a batch.
    fn message(&mut self, batch: &mut IngestBatch, body: &[u8], now_ms: u64);

    /// The id of the device.
    fn device(&self) -> &str;
}

/// One device.
pub(crate) struct Device<D>(Mutex<Known<D>>);

struct Known<D> {
    dialect: D,
    /// Messages whose alarms are durable and whose other events the routine lane has refused.
    waiting: Vec<Piece>,
}

impl<D: Dialect> Device<D> {
    /// A device without known state.
    pub fn new(dialect: D) -> Self {
        Self(Mutex::new(Known {
            dialect,
            waiting: Vec::new(),
        }))
    }

    /// Changes the state with the events that `add` puts into a batch, once that is durable.
    pub async fn with(
        &self,
        ingest: &SourceIngest,
        add: impl FnOnce(&mut D, &mut IngestBatch),
    ) -> Result<(), SubmitError> {
        store(&mut self.0.lock().await.dialect, ingest, add).await
    }

    /// Gives access to the state.
    pub async fn known<T>(&self, look: impl FnOnce(&mut D) -> T) -> T {
        look(&mut self.0.lock().await.dialect)
    }

    /// Makes pieces durable. On an error the state is unchanged by those that are left.
    pub async fn take(
        &self,
        ingest: &SourceIngest,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), SubmitError> {
        let mut known = self.0.lock().await;
        while !pieces.is_empty() {
            let count = pieces.len().min(BATCH_EVENTS);
            store_pieces(&mut known.dialect, ingest, &pieces[..count]).await?;
            pieces.drain(..count);
        }
        Ok(())
    }

    /// Reads a stream to its end and makes its messages durable.
    pub async fn listen(&self, ingest: &SourceIngest, mut stream: Stream) -> Ended {
        let mut again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
        loop {
            let is_waiting = !self.0.lock().await.waiting.is_empty();
            let pieces = if is_waiting {
                let pause = again.next(random::jitter());
                let read = tokio::time::timeout(pause, stream.read()).await;
                read.unwrap_or_else(|_| Ok(Vec::new()))
            } else {
                again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
                stream.read().await
            };
            match pieces {
                Ok(pieces) if pieces.is_empty() && !is_waiting => {}
                Ok(pieces) => {
                    // Boxed: 6 KB that the task of each device would hold while it waits for the next piece.
                    if Box::pin(self.keep(ingest, pieces)).await {
                        stream.waited();
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Makes pieces durable, however long that takes; those that only the routine lane refuses wait. True: it had to
    /// wait for the urgent lane.
    async fn keep(&self, ingest: &SourceIngest, pieces: Vec<Piece>) -> bool {
        let mut known = self.0.lock().await;
        let Known { dialect, waiting } = &mut *known;
        // Taken out: a message that makes the program panic is not tried again in the next session.
        let mut all = std::mem::take(waiting);
        let mut coming = pieces.into_iter().peekable();
        let mut has_waited = false;
        loop {
            // All waiting and new messages are one batch, so that a message is compared with those before it.
            let room = WAITING_MAX.saturating_sub(all.len()).max(1);
            all.extend(coming.by_ref().take(room));
            give_up(dialect, ingest, &mut all);
            let mut again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
            loop {
                match store_pieces(dialect, ingest, &all).await {
                    Ok(()) => {
                        all.clear();
                        break;
                    }
                    Err(error) if error.has_kept_alarms() => break,
                    Err(error) => {
                        tracing::debug!(
                            source = ingest.name(),
                            error = chain(&error),
                            "events wait for the spool"
                        );
                        has_waited = true;
                        tokio::time::sleep(again.next(random::jitter())).await;
                    }
                }
            }
            if coming.peek().is_none() {
                *waiting = all;
                return has_waited;
            }
        }
    }
}

/// Changes the state with the events that `add` puts into a batch, once that is durable.
async fn store<D: Dialect>(
    dialect: &mut D,
    ingest: &SourceIngest,
    add: impl FnOnce(&mut D, &mut IngestBatch),
) -> Result<(), SubmitError> {
    let mut next = dialect.clone();
    let mut batch = ingest.batch();
    add(&mut next, &mut batch);
    ingest.store(batch).await?;
    *dialect = next;
    Ok(())
}

async fn store_pieces<D: Dialect>(
    dialect: &mut D,
    ingest: &SourceIngest,
    pieces: &[Piece],
) -> Result<(), SubmitError> {
    let now_ms = clock::monotonic_ms();
    store(dialect, ingest, |dialect, batch| {
        for piece in pieces {
            add(dialect, batch, piece, now_ms);
        }
    })
    .await
}

/// Gives up the oldest messages beyond the limit. Their alarms are durable: each was tried before. The newest one was
/// not, and stays.
fn give_up<D: Dialect>(dialect: &mut D, ingest: &SourceIngest, waiting: &mut Vec<Piece>) {
    let mut bytes: usize = waiting.iter().map(piece_bytes).sum();
    let mut count = 0;
    for piece in waiting.iter().take(waiting.len().saturating_sub(1)) {
        if waiting.len() - count <= WAITING_MAX && bytes <= WAITING_BYTES_MAX {
            break;
        }
        bytes -= piece_bytes(piece);
        count += 1;
    }
    if count == 0 {
        return;
    }
    let now_ms = clock::monotonic_ms();
    // Their lasting conditions are kept as known, so that they do not begin again.
    let mut batch = ingest.batch();
    for piece in waiting.drain(..count) {
        add(dialect, &mut batch, &piece, now_ms);
    }
    ingest.count("given_up", count as u64);
}

fn piece_bytes(piece: &Piece) -> usize {
    match piece {
        Piece::Part(body) => body.len(),
        Piece::Picture { .. } => 0,
        Piece::Rejected { sample, .. } => sample.len(),
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

/// The endless answer.
pub(crate) struct Stream {
    answer: Response,
    scanner: Scanner,
    silence: Duration,
    heard: Instant,
    /// Why it ended; its last pieces were already returned.
    ended: Option<Ended>,
}

impl Stream {
    /// The stream of this answer. It ends when nothing complete arrives for `silence`.
    pub fn new(mut answer: Response, silence: Duration) -> Self {
        // The headers would hold the first buffer of the connection for as long as it lives.
        let head = std::mem::take(answer.headers_mut());
        let content_type = head.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Self {
            scanner: Scanner::new(content_type.unwrap_or_default()),
            answer,
            silence,
            heard: Instant::now(),
            ended: None,
        }
    }

    /// Reads the next pieces. Cancel-safe: read bytes are in the scanner. At the end of the stream returns the
    /// unfinished piece.
    async fn read(&mut self) -> Result<Vec<Piece>, Ended> {
        if let Some(ended) = self.ended.take() {
            return Err(ended);
        }
        let ended = match self.next().await {
            Ok(pieces) => return Ok(pieces),
            Err(ended) => ended,
        };
        let mut rest = Vec::new();
        self.scanner.finish(&mut rest);
        if rest.is_empty() {
            return Err(ended);
        }
        self.ended = Some(ended);
        Ok(rest)
    }

    async fn next(&mut self) -> Result<Vec<Piece>, Ended> {
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
            // Endless bytes that are no message.
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

    /// Excludes time that the agent itself has spent.
    fn waited(&mut self) {
        self.heard = Instant::now();
    }
}
