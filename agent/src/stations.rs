//! The way back: messages of the hub to the station whose incidents this agent reports.
//!
//! ```text
//! uplink ─CaseStatus─▶ inbox (a thread, on disk) ─▶ webhook: the station's system, in order, for ever
//!    ▲                      │      ▲                fetch: GET /station/cases, POST /station/cases/ack
//!    └── stored (watch) ◀───┘      └── removed by the first of the two that the station's system answers
//! ```
//!
//! `app` starts it if the config has `[station]`; without it, the agent reports to the hub that it has no inbox and
//! the hub keeps the messages. The inbox has one owner, its thread; the uplink offers messages and never waits for
//! the disk, the others send requests through [`Stations`].
//!
//! Invariants:
//! * A number is acknowledged to the hub after that message, and all before it, are synced (`inbox`).
//! * A message stays until the station's system has acknowledged it, and is offered in the order of numbers. After a
//!   kill between that answer and the mark on disk, it is offered once more, under the same id.
//! * Messages without room wait here in memory, at most [`CASES_IN_FLIGHT_MAX`], unacknowledged: the hub sends no
//!   more, and all of them again in the next session.
//!
//! After an error of the disk the inbox is opened again from disk, as after a crash, every [`RETRY_EVERY`].
pub mod fetch;
pub mod inbox;
pub mod webhook;

use linli_shared::protocol::frame::CaseStatus;
use linli_shared::protocol::limits::CASES_IN_FLIGHT_MAX;
use linli_shared::service::clock;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

use inbox::{Held, Inbox, Limits};
use linli_spool::sled_log::Trouble;

/// Queued requests for the thread: the messages of a session, and room for readers.
const REQUESTS_MAX: usize = 2 * CASES_IN_FLIGHT_MAX + 16;
/// Interval of retries for messages that could not be stored.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Why the inbox did not serve a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Too many requests wait for its thread.
    #[error("the inbox of the station is busy: its disk is slow")]
    Busy,
    /// The disk failed.
    #[error("the inbox of the station cannot be used: {0}")]
    Disk(String),
    /// The acknowledged number was never stored here.
    #[error("no message has the number {through}: the last one is {stored}")]
    NotThere {
        /// Acknowledged number.
        through: u64,
        /// The last stored number.
        stored: u64,
    },
    /// The agent stops.
    #[error("the inbox of the station is closed: the agent stops")]
    Closed,
}

/// The state of the inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxState {
    /// The last synced number.
    pub stored: u64,
    /// The last number that the station's system has acknowledged.
    pub removed: u64,
    /// Waiting messages.
    pub waiting: usize,
    /// Bytes of their records.
    pub bytes: u64,
    /// Arrival of the oldest of them.
    pub oldest_ms: Option<i64>,
    /// Why no more messages are stored.
    pub refusing: Option<String>,
}

enum Request {
    /// A session begins: messages that wait in memory arrive again.
    Begin,
    Offer(CaseStatus),
    Read {
        after: u64,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<Held>, InboxError>>,
    },
    Remove {
        through: u64,
        reply: oneshot::Sender<Result<usize, InboxError>>,
    },
    Close,
}

/// Handle of the inbox.
#[derive(Clone)]
pub struct Stations {
    requests: SyncSender<Request>,
    standing: watch::Receiver<InboxState>,
}

/// The thread of the inbox.
pub struct StationsThread {
    requests: SyncSender<Request>,
    thread: std::thread::JoinHandle<()>,
}

impl StationsThread {
    /// Ends the thread even if handles remain, and waits for it. Blocking.
    pub fn close(self) {
        // If this fails, the thread is gone already.
        let _ = self.requests.send(Request::Close);
        if self.thread.join().is_err() {
            tracing::error!("the inbox of the station ended with a panic");
        }
    }
}

impl Stations {
    /// Opens the inbox below the data directory and starts its thread. If opening fails it is retried: events are
    /// accepted meanwhile, and the hub keeps the messages.
    pub fn open(data_dir: &Path, limits: Limits) -> Result<(Self, StationsThread), std::io::Error> {
        let (requests, inbox) = sync_channel(REQUESTS_MAX);
        let (status, standing) = watch::channel(InboxState::default());
        let mut owner = Owner {
            directory: data_dir.join("stations"),
            limits,
            contents: Err(String::new()),
            coming: VecDeque::new(),
            overrun: false,
            status,
        };
        owner.open();
        owner.publish(None);
        let thread = std::thread::Builder::new()
            .name("stations".to_owned())
            .spawn(move || owner.run(&inbox))?;
        let handle = Self {
            requests: requests.clone(),
            standing,
        };
        Ok((handle, StationsThread { requests, thread }))
    }

    /// The state of the inbox.
    pub fn standing(&self) -> watch::Receiver<InboxState> {
        self.standing.clone()
    }

    /// Begins a session.
    pub fn begin(&self) -> Result<(), InboxError> {
        self.send(Request::Begin)
    }

    /// Offers a message of the hub. Does not wait for the disk.
    pub fn offer(&self, status: CaseStatus) -> Result<(), InboxError> {
        self.send(Request::Offer(status))
    }

    /// Reads waiting messages above a number, in order.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Held>, InboxError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Read {
            after,
            limit,
            reply,
        })?;
        answer.await.map_err(|_| InboxError::Closed)?
    }

    /// Records that the station's system has everything up to a number; returns how many of them waited.
    pub async fn remove(&self, through: u64) -> Result<usize, InboxError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Remove { through, reply })?;
        answer.await.map_err(|_| InboxError::Closed)?
    }

    fn send(&self, request: Request) -> Result<(), InboxError> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                TrySendError::Full(_) => InboxError::Busy,
                TrySendError::Disconnected(_) => InboxError::Closed,
            })
    }
}

/// The state of the thread.
struct Owner {
    directory: PathBuf,
    limits: Limits,
    /// The inbox, or why it is not open.
    contents: Result<Inbox, String>,
    /// Messages that are not stored yet.
    coming: VecDeque<CaseStatus>,
    /// Too many messages arrived: none is accepted until the next session sends them in order.
    overrun: bool,
    status: watch::Sender<InboxState>,
}

impl Owner {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let idle = self.coming.is_empty() && self.contents.is_ok();
            let first = if idle {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(RETRY_EVERY)
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                break;
            }
            // Requests that arrived meanwhile go into one sync.
            let gathered: Vec<Request> = first.into_iter().chain(requests.try_iter()).collect();
            if self.contents.is_err() {
                self.open();
            }
            let mut closing = false;
            for request in gathered {
                closing |= self.serve(request);
            }
            if closing {
                break;
            }
            let refusing = self.store();
            self.publish(refusing);
        }
        if let Ok(inbox) = self.contents
            && let Err(trouble) = inbox.close()
        {
            tracing::warn!(%trouble, "closing the inbox of the station failed");
        }
    }

    fn open(&mut self) {
        self.contents = Inbox::open(&self.directory, self.limits).map_err(|trouble| {
            let reason = trouble.to_string();
            if self.contents.as_ref().err() != Some(&reason) {
                tracing::error!(reason, "the inbox of the station cannot be opened");
            }
            reason
        });
    }

    /// Serves a request. True: the thread must end.
    fn serve(&mut self, request: Request) -> bool {
        match request {
            Request::Begin => {
                self.coming.clear();
                self.overrun = false;
            }
            Request::Offer(status) => self.offer(status),
            Request::Read {
                after,
                limit,
                reply,
            } => {
                let answer = self.with(|inbox| inbox.read(after, limit));
                // The caller may have gone; then nothing is lost.
                let _ = reply.send(answer);
            }
            Request::Remove { through, reply } => {
                let stored = self.contents.as_ref().map_or(u64::MAX, Inbox::stored);
                let answer = if through > stored {
                    Err(InboxError::NotThere { through, stored })
                } else {
                    self.with(|inbox| inbox.remove(through))
                };
                // A caller that has its answer sees it in the status. The guard of the borrow must not outlive the
                // look.
                let refusing = self.status.borrow().refusing.clone();
                self.publish(refusing);
                let _ = reply.send(answer);
            }
            Request::Close => return true,
        }
        false
    }

    fn offer(&mut self, status: CaseStatus) {
        let last = self.coming.back().map_or(0, |last| last.id);
        if self.overrun || status.id <= last {
            return;
        }
        if self.coming.len() >= CASES_IN_FLIGHT_MAX {
            tracing::error!(
                "the hub sends more messages to the station than may be on their way: they wait for its next session"
            );
            self.overrun = true;
            return;
        }
        self.coming.push_back(status);
    }

    /// Runs an operation on the inbox; an error closes it, and it is opened again.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Inbox) -> Result<T, Trouble>,
    ) -> Result<T, InboxError> {
        let failed = match &mut self.contents {
            Ok(inbox) => match work(inbox) {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble.to_string(),
            },
            Err(reason) => return Err(InboxError::Disk(reason.clone())),
        };
        tracing::error!(
            reason = failed,
            "the inbox of the station failed and is opened again"
        );
        if let Ok(inbox) = std::mem::replace(&mut self.contents, Err(failed.clone())) {
            // It has already failed.
            let _ = inbox.close();
        }
        Err(InboxError::Disk(failed))
    }

    /// Stores waiting messages; returns why not all, if so.
    fn store(&mut self) -> Option<String> {
        let mut coming = std::mem::take(&mut self.coming);
        let stored = self.with(|inbox| inbox.store(&mut coming, clock::wall_ms()));
        self.coming = coming;
        stored.unwrap_or_else(|error| Some(error.to_string()))
    }

    fn publish(&self, refusing: Option<String>) {
        self.status.send_if_modified(|status| {
            let now = match &self.contents {
                Ok(inbox) => InboxState {
                    stored: inbox.stored(),
                    removed: inbox.removed(),
                    waiting: inbox.waiting(),
                    bytes: inbox.bytes(),
                    oldest_ms: inbox.oldest_ms(),
                    refusing,
                },
                Err(reason) => InboxState {
                    refusing: Some(reason.clone()),
                    ..status.clone()
                },
            };
            let news = *status != now;
            if now.refusing.is_some() && now.refusing != status.refusing {
                tracing::warn!(
                    reason = now.refusing,
                    "messages to the station are not stored"
                );
            }
            *status = now;
            news
        });
    }
}
