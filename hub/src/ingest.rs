//! Ingest: takes batches of all sessions, stores each event once, correlates, acknowledges.
//!
//! ```text
//! sessions ─▶ urgent queue ─┐
//! sessions ─▶ routine queue ─┴▶ writer: trim · quarantine · correlate ─▶ one transaction ─▶ acks
//! ```
//!
//! One task owns the writing connection, the positions and the correlation engine. What waits goes into
//! one transaction: chunks, positions, warnings, cases, signs of life; an acknowledgement is given after
//! its commit, which is synced. When a transaction fails, nothing of it is acknowledged, and engine and
//! positions are read from the store again.
//!
//! Rules for a chunk that comes, against the position that is wanted next:
//! * it starts there: stored.
//! * it is wholly before: compared with what is stored; the same is dropped, other content goes to
//!   quarantine.
//! * it overlaps: what is stored is compared, the rest is stored as a chunk of its own.
//! * it starts later: the agent broke the order; its session ends and begins again at the position.
//! * its events cannot be read: quarantine; the position moves on.
pub mod decide;
mod writer;

use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{AgentId, BootId, Lane, Sequence, SiteId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

use crate::store::agents::Sign;
use crate::store::positions::LaneKey;
use crate::store::tokens::TokenRefusal;

pub use writer::{Writer, WriterError};

/// Batches that wait in each queue; then sessions wait, and then agents.
const QUEUE_MAX: usize = 128;

/// A chunk with its events, or why they cannot be read.
pub struct Decoded {
    /// The chunk.
    pub chunk: Chunk,
    /// Its events.
    pub events: Result<Vec<Event>, String>,
}

/// Wall minus monotonic time of the boots that an agent knows of, milliseconds.
#[derive(Debug, Default)]
pub struct ClockOffsets(pub HashMap<BootId, i64>);

impl ClockOffsets {
    /// The offset of a boot; `None` if nobody has ever learnt it.
    pub fn of(&self, boot: BootId) -> Option<i64> {
        self.0.get(&boot).copied()
    }
}

/// What a lane of a session brings.
pub enum Arrival {
    /// Chunks in order.
    Batch(Vec<Decoded>),
    /// A range that will never come.
    Lost {
        /// First.
        first: Sequence,
        /// After the last.
        end: Sequence,
        /// Why.
        reason: String,
    },
}

/// Why an arrival is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The agent left something out.
    #[error("sequence {came} came where {wanted} is wanted")]
    Gap {
        /// Wanted.
        wanted: Sequence,
        /// Came.
        came: Sequence,
    },
    /// A chunk of another lane or epoch.
    #[error("a chunk of another lane or epoch came on this lane's stream")]
    Stray,
    /// The store failed; the agent keeps it and comes again.
    #[error("the store failed")]
    Store,
}

/// What the writer is asked.
pub enum Request {
    /// Store.
    Arrive {
        /// Lane of the session.
        key: LaneKey,
        /// Site of the agent.
        site: SiteId,
        /// What the session knows of clocks.
        offsets: Arc<ClockOffsets>,
        /// What came.
        arrival: Arrival,
        /// The position after it, durable.
        reply: oneshot::Sender<Result<Sequence, Rejection>>,
    },
    /// Where do these lanes stand?
    Positions {
        /// Lanes.
        keys: Vec<LaneKey>,
        /// In the same order.
        reply: oneshot::Sender<Result<Vec<Sequence>, Rejection>>,
    },
    /// An agent lives. Written with the next commit, or after a while.
    Sign {
        /// Agent.
        agent: AgentId,
        /// What it tells.
        sign: Sign,
    },
    /// Use up a join token and take the agent in.
    Join {
        /// Token.
        token_id: String,
        /// Secret.
        token_secret: String,
        /// Agent.
        agent: AgentId,
        /// Serial of the certificate that it will get.
        serial: String,
        /// The site of the token.
        reply: oneshot::Sender<Result<Result<SiteId, TokenRefusal>, Rejection>>,
    },
}

impl Request {
    /// Events that it brings.
    fn events(&self) -> usize {
        match self {
            Self::Arrive {
                arrival: Arrival::Batch(batch),
                ..
            } => batch
                .iter()
                .map(|decoded| usize::from(decoded.chunk.header().count))
                .sum(),
            _ => 0,
        }
    }
}

/// Handle of the writer.
#[derive(Clone)]
pub struct Ingest {
    urgent: mpsc::Sender<Request>,
    routine: mpsc::Sender<Request>,
}

/// The writer's ends of the queues.
pub struct Inbox {
    urgent: mpsc::Receiver<Request>,
    routine: mpsc::Receiver<Request>,
}

impl Ingest {
    /// A handle and what the writer reads from.
    pub fn channel() -> (Self, Inbox) {
        let (urgent, urgent_inbox) = mpsc::channel(QUEUE_MAX);
        let (routine, routine_inbox) = mpsc::channel(QUEUE_MAX);
        (
            Self { urgent, routine },
            Inbox {
                urgent: urgent_inbox,
                routine: routine_inbox,
            },
        )
    }

    /// Hands a request over; false if the hub stops.
    pub async fn send(&self, request: Request) -> bool {
        let urgent = match &request {
            Request::Arrive { key, .. } => key.lane == Lane::Urgent,
            Request::Positions { .. } | Request::Join { .. } => true,
            Request::Sign { .. } => false,
        };
        let queue = if urgent { &self.urgent } else { &self.routine };
        queue.send(request).await.is_ok()
    }

    /// Where these lanes stand.
    pub async fn positions(&self, keys: Vec<LaneKey>) -> Result<Vec<Sequence>, Rejection> {
        let (reply, answer) = oneshot::channel();
        if !self.send(Request::Positions { keys, reply }).await {
            return Err(Rejection::Store);
        }
        answer.await.unwrap_or(Err(Rejection::Store))
    }

    /// Uses up a join token and takes the agent in.
    pub async fn join(
        &self,
        token_id: String,
        token_secret: String,
        agent: AgentId,
        serial: String,
    ) -> Result<Result<SiteId, TokenRefusal>, Rejection> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Join {
            token_id,
            token_secret,
            agent,
            serial,
            reply,
        };
        if !self.send(request).await {
            return Err(Rejection::Store);
        }
        answer.await.unwrap_or(Err(Rejection::Store))
    }
}
