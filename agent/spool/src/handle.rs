//! The handle of a lane, and its requests to the lane's thread.
use linli_shared::protocol::chunk::Packed;
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot, watch};

use super::{AppendError, Appended, EventKey, Item, LaneStatus, OpenError, Settings, lane};

/// Capacity of the queue of requests to the thread. When it is full, sources wait.
const REQUESTS_MAX: usize = 64;

/// Events to append, and the channel for the result.
pub struct Append {
    /// Retention class of the events.
    pub retention: Retention,
    /// Boot in which they were received.
    pub boot: BootId,
    /// Time of receipt, milliseconds since 1970 UTC.
    pub received_ms: i64,
    /// The events.
    pub events: Packed,
    /// The key of each event.
    pub keys: Vec<EventKey>,
    /// Receives the result after the sync.
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// A request to the lane's thread; see the methods of [`Spool`].
pub enum Request {
    /// Append events.
    Append(Append),
    /// Read chunks and lost ranges.
    Read {
        /// First sequence to read.
        from: Sequence,
        /// Approximate limit of the answer, bytes.
        bytes_max: usize,
        /// Receives the answer.
        reply: oneshot::Sender<Vec<Item>>,
    },
    /// Acknowledge events.
    Ack {
        /// First sequence that is not acknowledged.
        next: Sequence,
    },
    /// Skip sequences that the hub already has.
    SkipTo {
        /// Sequence of the next event.
        next: Sequence,
    },
    /// Run one round, for the watchdog.
    Tick,
    /// End the thread.
    Close,
}

/// Handle of a lane's spool.
#[derive(Clone)]
pub struct Spool {
    lane: Lane,
    epoch: Epoch,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<LaneStatus>,
}

/// The thread of a lane's spool.
pub struct SpoolThread {
    requests: mpsc::Sender<Request>,
    thread: std::thread::JoinHandle<()>,
}

impl SpoolThread {
    /// Ends the thread even if handles remain. Earlier requests are done and everything is on disk on return;
    /// later ones get [`AppendError::Closed`]. Blocking.
    pub fn close(self) {
        // A thread that has ended has nothing left to close.
        let _ = self.requests.blocking_send(Request::Close);
        if self.thread.join().is_err() {
            tracing::error!("a spool thread ended with a panic");
        }
    }
}

impl Spool {
    /// Opens the lane, recovers its contents, and starts its thread. Blocking. Errors: [`OpenError`].
    pub fn open(settings: Settings) -> Result<(Self, SpoolThread), OpenError> {
        let lane = settings.lane;
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (status, status_seen) = watch::channel(LaneStatus::default());
        let task = lane::LaneTask::open(settings, status)?;
        let epoch = task.epoch();
        let thread = std::thread::Builder::new()
            .name(format!("spool-{lane}"))
            .spawn(move || task.run(inbox))
            .map_err(|source| OpenError::File {
                operation: "starting the thread of",
                path: PathBuf::from(lane.as_str()),
                source,
            })?;
        Ok((
            Self {
                lane,
                epoch,
                requests: requests.clone(),
                status: status_seen,
            },
            SpoolThread { requests, thread },
        ))
    }

    /// The lane.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// The epoch of its sequences.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Makes events durable; returns after the sync. `keys` has the key of each event. Errors:
    /// [`AppendError`].
    pub async fn append(
        &self,
        retention: Retention,
        boot: BootId,
        received_ms: i64,
        events: Packed,
        keys: Vec<EventKey>,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Append(Append {
            retention,
            boot,
            received_ms,
            events,
            keys,
            reply,
        });
        self.requests
            .send(request)
            .await
            .map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Reads chunks and lost ranges from `from`, up to about `bytes_max`; empty if nothing is stored yet, or
    /// nothing is readable at the moment.
    pub async fn read(&self, from: Sequence, bytes_max: usize) -> Vec<Item> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Read {
            from,
            bytes_max,
            reply,
        };
        if self.requests.send(request).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Acknowledges everything before `next`, which is durable at the hub.
    pub async fn ack(&self, next: Sequence) {
        // A closed spool needs no acknowledgement: the hub sends its position again.
        let _ = self.requests.send(Request::Ack { next }).await;
    }

    /// Skips to `next`: the hub already has events up to there, because this spool was restored to an older
    /// state. Numbering continues from there, so that no sequence is used twice.
    pub async fn skip_to(&self, next: Sequence) {
        let _ = self.requests.send(Request::SkipTo { next }).await;
    }

    /// Wakes the thread for one round, for the watchdog.
    pub async fn tick(&self) {
        let _ = self.requests.send(Request::Tick).await;
    }

    /// The status of the lane.
    pub fn status(&self) -> watch::Receiver<LaneStatus> {
        self.status.clone()
    }
}
