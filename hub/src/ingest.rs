//! Ingest: takes batches of all sessions, stores each event once, correlates, acknowledges.
//!
//! ```text
//! sessions ─▶ urgent queue ─┐
//! sessions ─▶ routine queue ─┴▶ writer: trim · quarantine · correlate ─▶ one transaction ─▶ acks
//! ```
//!
//! One task owns the writing connection, the positions and the correlation engine. What waits goes into
//! one transaction: chunks, positions, warnings, cases, signs of life; an acknowledgement is given after
//! its commit, which is synced. When a transaction fails, nothing of it is acknowledged; once the store
//! takes a write again, engine and positions are read from it.
//!
//! Where an urgent request waits, the transaction takes urgent requests only. A batch is decoded when
//! there is room in the queue for what it becomes, in arrivals of bounded size, so that no agent can fill
//! the memory with chunks that are small on the wire.
//!
//! Rules for a chunk that comes, against the position that is wanted next:
//! * it starts there: stored.
//! * it is wholly before: compared with what is stored; the same is dropped, other content goes to
//!   quarantine.
//! * it overlaps: what is stored is compared, the rest is stored as a chunk of its own.
//! * it starts later: the agent broke the order; its session ends and begins again at the position.
//! * its events cannot be read: quarantine; the position moves on. The same bytes are there once.
//!
//! Files: `decide` is that table; `writer` the task; `work` one transaction, `raise` its warnings and
//! cases, `attach` files of cases, `subject` what residents ask for, `flood` the bound on them, `announce` what people are told of them and `attend` what they do about them, `tally` its figures; `clock` the hub's own clock; `recall` what a start reads.
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

/// Arrivals that wait in each queue, decoded; then sessions wait, and then agents.
const QUEUE_MAX: usize = 64;
/// Events of one arrival: an ordinary batch of a backlog (64 KiB) is five or so.
const ARRIVAL_EVENTS_MAX: usize = 500;
/// Chunks of one arrival: they decompress to 768 KiB at most.
const ARRIVAL_CHUNKS_MAX: usize = 16;

/// A chunk with its events, or why they cannot be read.
pub struct Decoded {
    /// The chunk.
    pub chunk: Chunk,
    /// Its events.
    pub events: Result<Vec<Event>, String>,
}

/// The chunks of a batch in arrivals of bounded size. At least one, for an empty batch wants its answer too.
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

/// A skew of less than this is left as it is: it is no more than what links and loaded machines add.
pub const SKEW_MS_MIN: i64 = 2000;

/// What a session knows of its agent's clocks.
#[derive(Debug, Default)]
pub struct ClockOffsets {
    /// Wall minus monotonic time of boots, milliseconds, as the agent tells it.
    told: HashMap<BootId, i64>,
    /// The same of its present boot by the hub's own clock, where the agent's was not set at its hello.
    own: Option<(BootId, i64)>,
    /// By how much the agent's clock is ahead, where it is worth a correction; else 0.
    skew_ms: AtomicI64,
}

impl ClockOffsets {
    /// What the agent tells of its boots, and what the hub's own clock says of the present one.
    pub fn new(told: HashMap<BootId, i64>, own: Option<(BootId, i64)>) -> Self {
        Self {
            told,
            own,
            skew_ms: AtomicI64::new(0),
        }
    }

    /// The offset of a boot, put right by the skew if it is the agent's; `None` if nobody has ever learnt it.
    pub fn of(&self, boot: BootId) -> Option<i64> {
        match self.own {
            Some((own, offset_ms)) if own == boot => Some(offset_ms),
            _ => {
                let told_ms = *self.told.get(&boot)?;
                Some(told_ms.saturating_sub(self.skew_ms().unwrap_or(0)))
            }
        }
    }

    /// Notes what is known of the skew now.
    pub fn set_skew(&self, estimate_ms: Option<i64>) {
        let worth_ms = estimate_ms.filter(|skew_ms| skew_ms.saturating_abs() >= SKEW_MS_MIN);
        self.skew_ms.store(worth_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// By how much the agent's clock is ahead; `None` where it is not worth a correction.
    pub fn skew_ms(&self) -> Option<i64> {
        let skew_ms = self.skew_ms.load(Ordering::Relaxed);
        (skew_ms != 0).then_some(skew_ms)
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
    /// The request itself makes its transaction fail; to send it again changes nothing.
    #[error("the request makes the hub fail, and is passed over")]
    Poison,
}

/// Where the answer to a request goes. It can be answered once; a transaction that is tried again answers when it commits.
pub struct Reply<T>(Arc<Mutex<Option<Answer<T>>>>);

/// The asker's end.
type Answer<T> = oneshot::Sender<Result<T, Rejection>>;

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reply<T> {
    /// A reply, and where its answer arrives; the latter fails when the request was dropped.
    pub fn channel() -> (Self, oneshot::Receiver<Result<T, Rejection>>) {
        let (sender, answer) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), answer)
    }

    /// Answers. The asker may have gone; it will ask again.
    pub fn send(&self, answer: Result<T, Rejection>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }
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
        reply: Reply<Sequence>,
    },
    /// Where do these lanes stand?
    Positions {
        /// Lanes.
        keys: Vec<LaneKey>,
        /// In the same order.
        reply: Reply<Vec<Sequence>>,
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
        reply: Reply<Result<SiteId, TokenRefusal>>,
    },
    /// Put other rules in the place of these.
    Reload {
        /// All rules, checked.
        rules: Vec<Arc<Rule>>,
        /// They are in place.
        reply: Reply<()>,
    },
    /// Somebody acknowledges a warning.
    Acknowledge {
        /// Warning.
        id: i64,
        /// Who.
        by: String,
        /// What they say.
        note: String,
        /// What came of it.
        reply: Reply<Acknowledged>,
    },
    /// Tell nobody of some warnings for a time.
    Mute {
        /// The mute, its number not given yet.
        mute: Mute,
        /// Its number.
        reply: Reply<i64>,
    },
    /// Take a mute back.
    EndMute {
        /// Its number.
        id: i64,
        /// It held until now.
        reply: Reply<bool>,
    },
    /// Somebody moves a case.
    MoveCase {
        /// Its code.
        code: String,
        /// Who.
        actor: Actor,
        /// The version that they have seen.
        version: i64,
        /// What.
        wanted: Move,
        /// Its version after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Somebody registers a case.
    Register {
        /// Who.
        actor: Actor,
        /// What.
        new: NewRegistration,
        /// Its code.
        reply: Reply<Result<String, CaseRefusal>>,
    },
    /// A file is on the disk: it becomes one of a case.
    Attach {
        /// Who.
        actor: Actor,
        /// What.
        attaching: NewAttachment,
        /// What came of it.
        reply: Reply<Result<Attached, CaseRefusal>>,
    },
    /// A file is none of a case any more.
    Detach {
        /// The code of the case.
        code: String,
        /// Who.
        actor: Actor,
        /// The number of the file.
        number: i64,
        /// Why.
        reason: String,
        /// The version of the case after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Do something to a case under a resident's request.
    Subject {
        /// Who.
        actor: Actor,
        /// What.
        wanted: SubjectChange,
        /// The version of the case after it.
        reply: Reply<Result<i64, CaseRefusal>>,
    },
    /// Change something about people or organisations.
    PeopleChange {
        /// What.
        change: PeopleChange,
        /// Who.
        actor: String,
        /// It changed something.
        reply: Reply<bool>,
    },
    /// Delete what is due.
    Retention {
        /// A bounded part of it.
        step: Step,
        /// What came of it.
        reply: Reply<Stepped>,
    },
    /// Write what became of notices.
    Settle {
        /// What became of each.
        settlements: Vec<Settlement>,
        /// How many of them it was news for.
        reply: Reply<usize>,
    },
    /// An agent says which messages to its station are on its disk.
    Station {
        /// Agent.
        agent: AgentId,
        /// All up to this number.
        through: u64,
        /// A session begins: it has none above that.
        begins: bool,
        /// It is written.
        reply: Reply<()>,
    },
    /// Panic in the transaction.
    #[cfg(test)]
    Panic {
        /// Never, but for that it does.
        reply: Reply<()>,
    },
    /// Tell the station of an agent something.
    #[cfg(test)]
    TellStation {
        /// Agent.
        agent: String,
        /// What.
        message: linli_store::stations::Message,
        /// The number of the message.
        reply: Reply<i64>,
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

/// Handle of the writers: each owns a partition, and there is one today. Whoever asks names what it is about
/// ([`Owner`]), and the request goes to its partition.
#[derive(Clone)]
pub struct Ingest {
    layout: Layout,
    partitions: Arc<[Queues]>,
    outbox: watch::Receiver<()>,
    stations: watch::Receiver<LastNumbers>,
    changes: watch::Receiver<()>,
}

/// The ways to one writer.
struct Queues {
    urgent: mpsc::Sender<Request>,
    routine: mpsc::Sender<Request>,
}

/// The number of the last message to the station of each agent that was written since the hub's start.
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
    /// A handle of one partition, and what its writer reads from.
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

    /// Changes after each commit that has put something into the outbox.
    pub fn outbox(&self) -> watch::Receiver<()> {
        self.outbox.clone()
    }

    /// Changes after each commit that has written a message to a station.
    pub fn stations(&self) -> watch::Receiver<LastNumbers> {
        self.stations.clone()
    }

    /// Changes after each commit that has written numbered changes, within a second where the command line did.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// An agent has all messages to its station up to a number on its disk; where a session begins, none
    /// above it.
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

    /// Writes what became of notices: how many of them it was news for.
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

    /// Deletes some of what is due, when nothing urgent waits.
    pub async fn retention(&self, step: Step) -> Result<Stepped, Rejection> {
        let queue = &self.of(Owner::District).routine;
        ask(queue, |reply| Request::Retention { step, reply }).await
    }

    /// Puts other rules in the place of these; returns when they are.
    pub async fn reload(&self, rules: Vec<Arc<Rule>>) -> Result<(), Rejection> {
        for partition in self.partitions.iter() {
            let rules = rules.clone();
            ask(&partition.urgent, |reply| Request::Reload { rules, reply }).await?;
        }
        Ok(())
    }

    /// Somebody acknowledges a warning.
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

    /// Moves a case; its version after that.
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

    /// Registers a case; its code.
    pub async fn register(
        &self,
        actor: Actor,
        new: NewRegistration,
    ) -> Result<Result<String, CaseRefusal>, Rejection> {
        let queue = &self.of(Owner::District).urgent;
        ask(queue, |reply| Request::Register { actor, new, reply }).await
    }

    /// Makes a file one of a case.
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

    /// Takes a file from a case; its version after that.
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

    /// Does something to a case under a resident's request; its version after that.
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

    /// Takes a mute back; false if it does not hold.
    pub async fn end_mute(&self, id: i64) -> Result<bool, Rejection> {
        let queue = &self.of(Owner::Number(id)).urgent;
        ask(queue, |reply| Request::EndMute { id, reply }).await
    }

    /// Waits for a place in the queue of an agent's lane, to be filled with an arrival; `None` if the hub stops.
    pub async fn place(&self, agent: &AgentId, lane: Lane) -> Option<mpsc::Permit<'_, Request>> {
        let queues = self.of(Owner::Agent(agent));
        let queue = match lane {
            Lane::Urgent => &queues.urgent,
            Lane::Routine | Lane::Media => &queues.routine,
        };
        queue.reserve().await.ok()
    }

    /// An agent lives; false if the hub stops.
    pub async fn sign(&self, agent: AgentId, sign: Sign) -> bool {
        let queue = &self.of(Owner::Agent(&agent)).routine;
        queue.send(Request::Sign { agent, sign }).await.is_ok()
    }

    /// Where these lanes of an agent stand.
    pub async fn positions(
        &self,
        agent: &AgentId,
        keys: Vec<LaneKey>,
    ) -> Result<Vec<Sequence>, Rejection> {
        let queue = &self.of(Owner::Agent(agent)).urgent;
        ask(queue, |reply| Request::Positions { keys, reply }).await
    }

    /// Uses up a join token and takes the agent in.
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

/// Asks a writer; an error where it does not answer.
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
