//! Ingest: receives batches of all sessions, stores each event once, correlates, acknowledges.
//!
//! ```text
//! sessions ─▶ urgent queue ─┐
//! sessions ─▶ routine queue ─┴▶ writer: trim · quarantine · correlate ─▶ one transaction ─▶ acks
//! ```
//!
//! One task owns the writing connection, the positions and the correlation engine. One transaction commits the
//! waiting requests: chunks, positions, warnings, cases, signs of life. The acknowledgement follows the commit, which
//! is synced. If a transaction fails, nothing of it is acknowledged; when the store accepts writes again, engine and
//! positions are read from it.
//!
//! If an urgent request waits, the transaction takes urgent requests only. A batch is decoded when the queue has room
//! for its arrivals, which are bounded in size: no agent can fill the memory with chunks that are small on
//! the wire.
//!
//! Rules for an incoming chunk, compared with the next expected position:
//! * it starts there: store it.
//! * it lies wholly before: compare it with the stored events; drop an equal one, quarantine
//!   another.
//! * it overlaps: compare the stored part, store the rest as a chunk of its own.
//! * it starts later: the agent broke the order; its session ends and resumes at the position.
//! * its events are unreadable: quarantine it once; the position moves on.
//!
//! Files: `decide` is that table; `writer` the task; `unit_of_work` one transaction; `raise` its warnings and cases;
//! `casework` moves of cases; `attach` files of cases; `subject` residents' requests; `flood` the bound on warnings;
//! `announce` notices; `acknowledge` acknowledgements and mutes; `people_changes` users and organisations; `poison`
//! the isolation of failures; `transaction_metrics` metrics of one transaction; `clock` the hub's own clock; `warm_up`
//! the reading at a start.
pub mod acknowledge;
mod announce;
pub mod attach;
pub mod casework;
mod clock;
pub mod decide;
pub mod flood;
mod incident;
pub mod metrics;
pub mod people_changes;
mod poison;
mod raise;
pub mod subject;
mod transaction_metrics;
mod unit_of_work;
mod warm_up;
mod writer;

use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{AgentId, BootId, Lane, Sequence, SiteId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

use attach::{Attached, NewAttachment};
use casework::{CaseRefusal, NewRegistration};
use linli_domain::cases::moves::Move;
use linli_domain::correlate::rule::Rule;
use linli_domain::partition::{Layout, Owner};
use linli_domain::rights::Actor;
use linli_domain::warnings::Mute;
use linli_store::agents::Sign;
use linli_store::outbox::Settlement;
use linli_store::positions::LaneKey;
use linli_store::retention::{Step, Stepped};
use linli_store::tokens::TokenRefusal;
use people_changes::PeopleChange;
use subject::SubjectChange;

pub use acknowledge::Acknowledged;
pub use writer::{Writer, WriterError};

/// Capacity of each queue, decoded arrivals; a full queue makes sessions, and then agents, wait.
const QUEUE_MAX: usize = 64;
/// Maximum number of events of one arrival; an ordinary batch of a backlog (64 KiB) has five or so.
const ARRIVAL_EVENTS_MAX: usize = 500;
/// Maximum number of chunks of one arrival: they decompress to at most 768 KiB.
const ARRIVAL_CHUNKS_MAX: usize = 16;

/// A chunk with its events, or the reason why they are unreadable.
pub struct Decoded {
    /// The chunk.
    pub chunk: Chunk,
    /// Its events.
    pub events: Result<Vec<Event>, String>,
}

/// The chunks of a batch in arrivals of bounded size; at least one, because an empty batch is answered too.
pub fn arrivals(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut arrivals = vec![Vec::new()];
    let mut events = 0;
    for chunk in chunks {
        let count = usize::from(chunk.header().count);
        let full = arrivals.last().is_none_or(|arrival: &Vec<Chunk>| {
            arrival.len() >= ARRIVAL_CHUNKS_MAX
                || (!arrival.is_empty() && events + count > ARRIVAL_EVENTS_MAX)
        });
        if full {
            arrivals.push(Vec::new());
            events = 0;
        }
        events += count;
        if let Some(arrival) = arrivals.last_mut() {
            arrival.push(chunk);
        }
    }
    arrivals
}

/// A smaller skew is not corrected: links and loaded machines add as much.
pub const SKEW_MS_MIN: i64 = 2000;

/// The clock offsets of a session's agent.
#[derive(Debug, Default)]
pub struct ClockOffsets {
    /// Wall minus monotonic time of boots, milliseconds, as reported by the agent.
    told: HashMap<BootId, i64>,
    /// The same of the present boot by the hub's clock, if the agent's clock was not set at its hello.
    own: Option<(BootId, i64)>,
    /// How far the agent's clock is ahead, milliseconds, if that is worth a correction; else 0.
    skew_ms: AtomicI64,
}

impl ClockOffsets {
    /// The offsets that the agent reported, and that of the present boot by the hub's own clock.
    pub fn new(told: HashMap<BootId, i64>, own: Option<(BootId, i64)>) -> Self {
        Self {
            told,
            own,
            skew_ms: AtomicI64::new(0),
        }
    }

    /// The offset of a boot, corrected by the skew if the agent reported it; `None` if it is unknown.
    pub fn of(&self, boot: BootId) -> Option<i64> {
        match self.own {
            Some((own, offset_ms)) if own == boot => Some(offset_ms),
            _ => {
                let told_ms = *self.told.get(&boot)?;
                Some(told_ms.saturating_sub(self.skew_ms().unwrap_or(0)))
            }
        }
    }

    /// Sets the present estimate of the skew.
    pub fn set_skew(&self, estimate_ms: Option<i64>) {
        let worth_ms = estimate_ms.filter(|skew_ms| skew_ms.saturating_abs() >= SKEW_MS_MIN);
        self.skew_ms.store(worth_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// How far the agent's clock is ahead, milliseconds; `None` if it is not worth a correction.
    pub fn skew_ms(&self) -> Option<i64> {
        let skew_ms = self.skew_ms.load(Ordering::Relaxed);
        (skew_ms != 0).then_some(skew_ms)
    }
}

/// The content of an arrival.
pub enum Arrival {
    /// Chunks in order.
    Batch(Vec<Decoded>),
    /// A range of events that is lost.
    Lost {
        /// The first sequence.
        first: Sequence,
        /// The sequence after the last.
        end: Sequence,
        /// The reason.
        reason: String,
    },
}

/// Why an arrival is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Events between are missing.
    #[error("sequence {came} came where {wanted} is wanted")]
    Gap {
        /// The expected sequence.
        wanted: Sequence,
        /// The received sequence.
        came: Sequence,
    },
    /// A chunk of another lane or epoch.
    #[error("a chunk of another lane or epoch came on this lane's stream")]
    Stray,
    /// The store failed; the agent keeps the events and sends them again.
    #[error("the store failed")]
    Store,
    /// The request itself makes its transaction fail; sending it again changes nothing.
    #[error("the request makes the hub fail, and is passed over")]
    Poison,
}

/// Where the answer to a request goes, once. A transaction that is retried answers when it commits.
pub struct Reply<T>(Arc<Mutex<Option<Answer<T>>>>);

/// The asker's end.
type Answer<T> = oneshot::Sender<Result<T, Rejection>>;

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reply<T> {
    /// A reply and its receiver; the receiver fails if the request was dropped.
    pub fn channel() -> (Self, oneshot::Receiver<Result<T, Rejection>>) {
        let (sender, answer) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), answer)
    }

    /// Answers. If the asker has gone, it asks again later.
    pub fn send(&self, answer: Result<T, Rejection>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }
}

/// A request to the writer.
pub enum Request {
    /// Store an arrival.
    Arrive {
        /// Lane of the session.
        key: LaneKey,
        /// Site of the agent.
        site: SiteId,
        /// Clock offsets of the session.
        offsets: Arc<ClockOffsets>,
        /// The arrival.
        arrival: Arrival,
        /// Gets the durable position after it.
        reply: Reply<Sequence>,
    },
    /// The positions of lanes.
    Positions {
        /// Lanes.
        keys: Vec<LaneKey>,
        /// Gets them in the same order.
        reply: Reply<Vec<Sequence>>,
    },
    /// A sign of life of an agent, written with the next commit or after a while.
    Sign {
        /// Agent.
        agent: AgentId,
        /// Its content.
        sign: Sign,
    },
    /// Use up a join token and admit the agent.
    Join {
        /// Token.
        token_id: String,
        /// Secret.
        token_secret: String,
        /// Agent.
        agent: AgentId,
        /// Serial number of the certificate that the agent will get.
        serial: String,
        /// Gets the site of the token.
        reply: Reply<Result<SiteId, TokenRefusal>>,
    },
    /// Replace the rules.
    Reload {
        /// All rules, checked.
        rules: Vec<Arc<Rule>>,
        /// Answered when they are in place.
        reply: Reply<()>,
    },
    /// Acknowledge a warning.
    Acknowledge {
        /// Warning.
        id: i64,
        /// The person.
        by: String,
        /// The person's note.
        note: String,
        /// Gets the result.
        reply: Reply<Acknowledged>,
    },
    /// Add a mute.
    Mute {
        /// The mute, without its number.
        mute: Mute,
        /// Gets its number.
        reply: Reply<i64>,
    },
    /// End a mute.
    EndMute {
        /// Its number.
        id: i64,
        /// Gets true if it was in force until now.
        reply: Reply<bool>,
    },
    /// Move a case.
    MoveCase {
        /// Its code.
        code: String,
        /// The actor.
        actor: Actor,
        /// The version that the actor has seen.
        version: i64,
        /// The move.
        wanted: Move,
        /// Gets the version after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Register a case.
    Register {
        /// The actor.
        actor: Actor,
        /// The case.
        new: NewRegistration,
        /// Gets its code.
        reply: Reply<Result<String, CaseRefusal>>,
    },
    /// Add a file, which is on the disk, to a case.
    Attach {
        /// The actor.
        actor: Actor,
        /// The file.
        attaching: NewAttachment,
        /// Gets the result.
        reply: Reply<Result<Attached, CaseRefusal>>,
    },
    /// Remove a file from a case.
    Detach {
        /// The code of the case.
        code: String,
        /// The actor.
        actor: Actor,
        /// The number of the file.
        number: i64,
        /// The reason.
        reason: String,
        /// Gets the version of the case after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Change a case under a resident's request.
    Subject {
        /// The actor.
        actor: Actor,
        /// The change.
        wanted: SubjectChange,
        /// Gets the version of the case after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Change something about people or organisations.
    PeopleChange {
        /// The change.
        change: PeopleChange,
        /// The actor.
        actor: String,
        /// Gets true if it changed something.
        reply: Reply<bool>,
    },
    /// Delete expired rows.
    Retention {
        /// A bounded step of the run.
        step: Step,
        /// Gets the result.
        reply: Reply<Stepped>,
    },
    /// Write deliveries of notices.
    Settle {
        /// The delivery of each.
        settlements: Vec<Settlement>,
        /// Gets how many changed a row.
        reply: Reply<usize>,
    },
    /// An agent acknowledges messages to its station.
    Station {
        /// Agent.
        agent: AgentId,
        /// All up to this number are on its disk.
        through: u64,
        /// A session begins: no later message is on its disk.
        begins: bool,
        /// Answered when it is written.
        reply: Reply<()>,
    },
    /// Panic in the transaction.
    #[cfg(test)]
    Panic {
        /// Gets no answer but a refusal.
        reply: Reply<()>,
    },
    /// Send a message to the station of an agent.
    #[cfg(test)]
    TellStation {
        /// Agent.
        agent: String,
        /// The message.
        message: linli_store::stations::Message,
        /// Gets the number of the message.
        reply: Reply<i64>,
    },
}

impl Request {
    /// Number of events in the request.
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

/// Handle of the writers: each owns a partition; there is one today. A caller names the owner of a request
/// ([`Owner`]), and the request goes to that owner's partition.
#[derive(Clone)]
pub struct Ingest {
    layout: Layout,
    partitions: Arc<[Queues]>,
    outbox: watch::Receiver<()>,
    stations: watch::Receiver<LastNumbers>,
    changes: watch::Receiver<()>,
}

/// The queues of one writer.
struct Queues {
    urgent: mpsc::Sender<Request>,
    routine: mpsc::Sender<Request>,
}

/// For each agent, the number of the last message to its station that was written since the hub's start.
pub type LastNumbers = HashMap<String, u64>;

/// The writer's ends of the queues.
pub struct Inbox {
    urgent: mpsc::Receiver<Request>,
    routine: mpsc::Receiver<Request>,
    outbox: watch::Sender<()>,
    stations: watch::Sender<LastNumbers>,
    changes: watch::Sender<()>,
}

impl Ingest {
    /// A handle of one partition, and the inbox of its writer.
    pub fn channel() -> (Self, Inbox) {
        let (urgent, urgent_inbox) = mpsc::channel(QUEUE_MAX);
        let (routine, routine_inbox) = mpsc::channel(QUEUE_MAX);
        let (outbox, outbox_watch) = watch::channel(());
        let (stations, stations_watch) = watch::channel(LastNumbers::new());
        let (changes, changes_watch) = watch::channel(());
        (
            Self {
                layout: Layout::ONE,
                partitions: Arc::new([Queues { urgent, routine }]),
                outbox: outbox_watch,
                stations: stations_watch,
                changes: changes_watch,
            },
            Inbox {
                urgent: urgent_inbox,
                routine: routine_inbox,
                outbox,
                stations,
                changes,
            },
        )
    }

    fn of(&self, owner: Owner<'_>) -> &Queues {
        &self.partitions[self.layout.of(owner).index()]
    }

    /// Notifies after each commit that added rows to the outbox.
    pub fn outbox(&self) -> watch::Receiver<()> {
        self.outbox.clone()
    }

    /// Notifies after each commit that wrote a message to a station.
    pub fn stations(&self) -> watch::Receiver<LastNumbers> {
        self.stations.clone()
    }

    /// Notifies after each commit that wrote numbered changes; within a second if the command line wrote them.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Notes that an agent has all messages to its station up to a number on its disk; at the beginning of a session, none
    /// after it.
    pub async fn station(
        &self,
        agent: AgentId,
        through: u64,
        begins: bool,
    ) -> Result<(), Rejection> {
        let queue = &self.of(Owner::Agent(&agent)).routine;
        ask(queue, |reply| Request::Station {
            agent,
            through,
            begins,
            reply,
        })
        .await
    }

    /// Writes deliveries of notices; returns how many changed a row.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<usize, Rejection> {
        let mut settled = 0;
        for partition in self.layout.all() {
            let of_it = |settlement: &&Settlement| {
                self.layout.of(Owner::Number(settlement.id)) == partition
            };
            let own: Vec<Settlement> = settlements.iter().filter(of_it).cloned().collect();
            if !own.is_empty() {
                let queue = &self.partitions[partition.index()].routine;
                settled += ask(queue, |reply| Request::Settle {
                    settlements: own,
                    reply,
                })
                .await?;
            }
        }
        Ok(settled)
    }

    /// Deletes some expired rows when no urgent request waits.
    pub async fn retention(&self, step: Step) -> Result<Stepped, Rejection> {
        let queue = &self.of(Owner::District).routine;
        ask(queue, |reply| Request::Retention { step, reply }).await
    }

    /// Replaces the rules; returns when they are in place.
    pub async fn reload(&self, rules: Vec<Arc<Rule>>) -> Result<(), Rejection> {
        for partition in self.partitions.iter() {
            let rules = rules.clone();
            ask(&partition.urgent, |reply| Request::Reload { rules, reply }).await?;
        }
        Ok(())
    }

    /// Acknowledges a warning.
    pub async fn acknowledge(
        &self,
        id: i64,
        by: String,
        note: String,
    ) -> Result<Acknowledged, Rejection> {
        let queue = &self.of(Owner::Number(id)).urgent;
        ask(queue, |reply| Request::Acknowledge {
            id,
            by,
            note,
            reply,
        })
        .await
    }

    /// Adds a mute that has been checked; its number.
    pub async fn mute(&self, mute: Mute) -> Result<i64, Rejection> {
        let queue = &self.of(Owner::District).urgent;
        ask(queue, |reply| Request::Mute { mute, reply }).await
    }

    /// Moves a case; returns its version after the move.
    pub async fn move_case(
        &self,
        code: String,
        actor: Actor,
        version: i64,
        wanted: Move,
    ) -> Result<Result<i64, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::Code(&code)).urgent;
        ask(queue, |reply| Request::MoveCase {
            code,
            actor,
            version,
            wanted,
            reply,
        })
        .await
    }

    /// Registers a case; returns its code.
    pub async fn register(
        &self,
        actor: Actor,
        new: NewRegistration,
    ) -> Result<Result<String, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::District).urgent;
        ask(queue, |reply| Request::Register { actor, new, reply }).await
    }

    /// Adds a file to a case.
    pub async fn attach(
        &self,
        actor: Actor,
        attaching: NewAttachment,
    ) -> Result<Result<Attached, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::Code(&attaching.code)).urgent;
        ask(queue, |reply| Request::Attach {
            actor,
            attaching,
            reply,
        })
        .await
    }

    /// Removes a file from a case; returns its version.
    pub async fn detach(
        &self,
        code: String,
        actor: Actor,
        number: i64,
        reason: String,
    ) -> Result<Result<i64, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::Code(&code)).urgent;
        ask(queue, |reply| Request::Detach {
            code,
            actor,
            number,
            reason,
            reply,
        })
        .await
    }

    /// Changes a case under a resident's request; returns its version.
    pub async fn subject(
        &self,
        actor: Actor,
        wanted: SubjectChange,
    ) -> Result<Result<i64, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::Code(&wanted.code)).urgent;
        ask(queue, |reply| Request::Subject {
            actor,
            wanted,
            reply,
        })
        .await
    }

    /// Changes something about people or organisations; false if that changes nothing.
    pub async fn people(&self, change: PeopleChange, actor: &str) -> Result<bool, Rejection> {
        let actor = actor.to_owned();
        let queue = &self.of(Owner::District).urgent;
        ask(queue, |reply| Request::PeopleChange {
            change,
            actor,
            reply,
        })
        .await
    }

    /// Ends a mute; false if it was not in force.
    pub async fn end_mute(&self, id: i64) -> Result<bool, Rejection> {
        let queue = &self.of(Owner::Number(id)).urgent;
        ask(queue, |reply| Request::EndMute { id, reply }).await
    }

    /// Waits for a place for an arrival in the queue of an agent's lane; `None` if the hub stops.
    pub async fn place(&self, agent: &AgentId, lane: Lane) -> Option<mpsc::Permit<'_, Request>> {
        let queues = self.of(Owner::Agent(agent));
        let queue = match lane {
            Lane::Urgent => &queues.urgent,
            Lane::Routine | Lane::Media => &queues.routine,
        };
        queue.reserve().await.ok()
    }

    /// Passes a sign of life on; false if the hub stops.
    pub async fn sign(&self, agent: AgentId, sign: Sign) -> bool {
        let queue = &self.of(Owner::Agent(&agent)).routine;
        queue.send(Request::Sign { agent, sign }).await.is_ok()
    }

    /// The positions of lanes of an agent.
    pub async fn positions(
        &self,
        agent: &AgentId,
        keys: Vec<LaneKey>,
    ) -> Result<Vec<Sequence>, Rejection> {
        let queue = &self.of(Owner::Agent(agent)).urgent;
        ask(queue, |reply| Request::Positions { keys, reply }).await
    }

    /// Uses up a join token and admits the agent.
    pub async fn join(
        &self,
        token_id: String,
        token_secret: String,
        agent: AgentId,
        serial: String,
    ) -> Result<Result<SiteId, TokenRefusal>, Rejection> {
        let queue = &self.of(Owner::Agent(&agent)).urgent;
        ask(queue, |reply| Request::Join {
            token_id,
            token_secret,
            agent,
            serial,
            reply,
        })
        .await
    }
}

/// Asks a writer. Error: it does not answer.
async fn ask<T>(
    queue: &mpsc::Sender<Request>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Rejection> {
    let (reply, answer) = Reply::channel();
    queue
        .send(request(reply))
        .await
        .map_err(|_| Rejection::Store)?;
    answer.await.unwrap_or(Err(Rejection::Store))
}

#[cfg(test)]
mod tests;
