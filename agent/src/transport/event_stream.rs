//! A device whose events arrive in one endless answer: read as a [`multipart`](linli_devices::multipart) stream,
//! passed to the ingest, watched for silence.
//!
//! * A device that says nothing whole for its `silence` is not there any more, however many bytes it sends: the
//!   session ends and is made anew. Recorders that were restarted keep their old connections open and never speak again.
//! * What came at once is one group, and one sync. While the urgent lane refuses nothing more is read: the device waits in TCP,
//!   and what was read is tried again until it is durable.
//! * A routine lane that refuses holds up no alarm: messages that wait for it are held, at most [`HELD_MAX`] of them, and
//!   the stream is read on. They are tried again now and then, by the time of their arrival. Beyond that the oldest are given up
//!   and counted as `given_up`: nothing acknowledges a stream, and the device would drop them in our place. They outlive the
//!   session.
//! * What is known of a device (its [`Dialect`]) changes with the events that are durable, and not before.
use linli_shared::service::backoff::Backoff;
use linli_shared::service::clock;
use linli_shared::service::telemetry::chain;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ingest::{Arrival, BATCH_EVENTS, IngestBatch, SourceIngest};
use crate::intake::SubmitError;
use crate::transport::reconnect::Ended;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::multipart::{Piece, Scanner};
use linli_shared::service::random;

/// Messages of a device that wait for the routine lane, and bytes of them.
const HELD_MAX: usize = BATCH_EVENTS;
const HELD_BYTES_MAX: usize = 256 << 10;
/// Between two tries to store what the spool refused.
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// The protocol of a make of devices, with the state of one of them.
pub(crate) trait Dialect: Clone {
    /// Adds a complete message to a batch.
    fn message(&mut self, batch: &mut IngestBatch, body: &[u8], now_ms: u64);

    /// Records a new connection: the conditions of the previous one are forgotten.
    fn connected(&mut self);

    /// The id of the device.
    fn device(&self) -> &str;
}

/// One device.
pub(crate) struct Device<D>(Mutex<Known<D>>);

struct Known<D> {
    dialect: D,
    held: Option<Held<D>>,
}

/// Messages whose alarms are durable and whose other events the routine lane has refused.
struct Held<D> {
    /// The state of the protocol before the first of them.
    before: D,
    pieces: VecDeque<HeldPiece>,
    /// The device has connected anew since the last of them.
    is_connected_anew: bool,
}

struct HeldPiece {
    piece: Piece,
    arrival: Arrival,
    /// The first of its connection.
    is_first: bool,
}

impl<D: Dialect> Device<D> {
    /// A device without known state.
    pub fn new(dialect: D) -> Self {
        Self(Mutex::new(Known {
            dialect,
            held: None,
        }))
    }

    /// Changes the state with the events that `add` puts into a batch, once that is durable.
    pub async fn with(
        &self,
        ingest: &SourceIngest,
        add: impl FnOnce(&mut D, &mut IngestBatch),
    ) -> Result<(), SubmitError> {
        let mut known = self.0.lock().await;
        let mut next = known.dialect.clone();
        let mut batch = ingest.batch();
        add(&mut next, &mut batch);
        ingest.store(batch).await?;
        known.dialect = next;
        Ok(())
    }

    /// Gives access to the state.
    pub async fn known<T>(&self, look: impl FnOnce(&mut D) -> T) -> T {
        look(&mut self.0.lock().await.dialect)
    }

    /// Records a new connection. Pieces that are held belong to the one before.
    pub async fn connected(&self) {
        let mut known = self.0.lock().await;
        known.dialect.connected();
        if let Some(held) = &mut known.held {
            held.is_connected_anew = true;
        }
    }

    /// Makes pieces durable. On an error the state is unchanged by those that are left.
    pub async fn take(
        &self,
        ingest: &SourceIngest,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), SubmitError> {
        while !pieces.is_empty() {
            let count = pieces.len().min(BATCH_EVENTS);
            self.with(ingest, |dialect, batch| {
                let now_ms = clock::monotonic_ms();
                for piece in &pieces[..count] {
                    add(dialect, batch, piece, now_ms);
                }
            })
            .await?;
            pieces.drain(..count);
        }
        Ok(())
    }

    /// Reads a stream to its end and makes its messages durable.
    pub async fn listen(&self, ingest: &SourceIngest, mut stream: Stream) -> Ended {
        let mut again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
        let mut retry_at = None;
        loop {
            if self.0.lock().await.held.is_none() {
                again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
                retry_at = None;
            } else if retry_at.is_none() {
                retry_at = Some(Instant::now() + again.next(random::jitter()));
            }
            let read = match retry_at {
                None => stream.read().await,
                Some(at) => match tokio::time::timeout_at(at, stream.read()).await {
                    Ok(read) => read,
                    Err(_) => {
                        retry_at = None;
                        Box::pin(self.keep(ingest, Vec::new())).await;
                        continue;
                    }
                },
            };
            match read {
                Ok(pieces) if pieces.is_empty() => {}
                Ok(pieces) => {
                    let started = Instant::now();
                    // Boxed: 6 KB that the task of each device would hold while it waits for the next piece.
                    Box::pin(self.keep(ingest, pieces)).await;
                    stream.waited(started.elapsed());
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Stores pieces, however long that takes; those that only the routine lane refuses are held. All that are held are one
    /// batch with the new ones, so that the states they report are known to those behind them.
    async fn keep(&self, ingest: &SourceIngest, pieces: Vec<Piece>) {
        let mut known = self.0.lock().await;
        let arrival = ingest.arrival();
        let mut coming = pieces.into_iter().peekable();
        // Taken out: a piece that makes the program panic is not tried again in the next session.
        let mut held = known.held.take().unwrap_or_else(|| Held {
            before: known.dialect.clone(),
            pieces: VecDeque::new(),
            is_connected_anew: false,
        });
        loop {
            for piece in coming.by_ref().take(BATCH_EVENTS) {
                held.add(piece, arrival);
            }
            let mut again = Backoff::new(AGAIN_FIRST, AGAIN_MAX);
            loop {
                let (next, stored) = held.store(ingest).await;
                match stored {
                    Ok(()) => {
                        held.pieces.clear();
                        if coming.peek().is_some() {
                            held.before = next.clone();
                        }
                        known.dialect = next;
                        break;
                    }
                    Err(error) if error.has_kept_alarms() => {
                        known.dialect = next;
                        held.give_up(ingest);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(
                            source = ingest.name(),
                            error = chain(&error),
                            "events wait for the spool"
                        );
                        tokio::time::sleep(again.next(random::jitter())).await;
                    }
                }
            }
            if coming.peek().is_none() {
                known.held = (!held.pieces.is_empty()).then_some(held);
                return;
            }
        }
    }
}

impl<D: Dialect> Held<D> {
    /// Adds a new piece. Pieces with the same bytes are numbered: a stored event without an id of one that is held is not the
    /// event of the next one.
    fn add(&mut self, piece: Piece, arrival: Arrival) {
        let alike = self.pieces.iter().filter(|held| held.piece == piece);
        self.pieces.push_back(HeldPiece {
            arrival: arrival.after_alike(alike.count()),
            piece,
            is_first: std::mem::take(&mut self.is_connected_anew),
        });
    }

    /// Stores all pieces; returns the state of the protocol after them.
    async fn store(&mut self, ingest: &SourceIngest) -> (D, Result<(), SubmitError>) {
        let mut next = self.before.clone();
        let mut batch = ingest.batch();
        for held in &mut self.pieces {
            held.add(&mut next, &mut batch);
        }
        if self.is_connected_anew {
            next.connected();
        }
        let stored = ingest.store(batch).await;
        (next, stored.map(|_| ()))
    }

    /// Gives up the oldest pieces that exceed the limits. Their alarms are durable: each was tried before.
    fn give_up(&mut self, ingest: &SourceIngest) {
        let mut bytes: usize = self.pieces.iter().map(|held| bytes(&held.piece)).sum();
        let mut batch = ingest.batch();
        let mut count = 0;
        while self.pieces.len() > HELD_MAX || bytes > HELD_BYTES_MAX {
            let Some(mut held) = self.pieces.pop_front() else {
                break;
            };
            bytes -= self::bytes(&held.piece);
            // The conditions that it reports go on, and do not begin again.
            held.add(&mut self.before, &mut batch);
            count += 1;
        }
        batch.give_up();
        if count > 0 {
            ingest.count("given_up", count);
        }
    }
}

impl HeldPiece {
    /// Adds the piece to a batch, after the change of connection that it marks.
    fn add<D: Dialect>(&mut self, dialect: &mut D, batch: &mut IngestBatch) {
        if self.is_first {
            dialect.connected();
        }
        batch.set_arrival(&mut self.arrival);
        add(dialect, batch, &self.piece, self.arrival.arrived_ms);
    }
}

fn bytes(piece: &Piece) -> usize {
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

    /// Time passed that was not the device's.
    fn waited(&mut self, time: Duration) {
        self.heard += time;
    }
}
