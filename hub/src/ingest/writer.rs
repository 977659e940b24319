//! The task that owns the writing connection, the positions and the engine.
use linli_shared::protocol::chunk::ChunkBuilder;
use linli_shared::protocol::ids::{AgentId, Sequence, SiteId};
use linli_shared::service::{clock, systemd, telemetry};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;

use super::recall::{Memory, recall};
use super::tally::Tally;
use super::work::Work;
use super::{Health, Inbox, Rejection, Request};
use crate::correlate::rule::Rule;
use crate::metrics::Metrics;
use crate::notify::addressees::Addressees;
use crate::store::agents::{self, Sign};
use crate::store::tokens::TokenRefusal;
use crate::store::{self, Store, StoreError, failed};

/// Requests of one transaction.
const COMMIT_REQUESTS_MAX: usize = 64;
/// Events after which a transaction takes no more. An alarm that comes while a commit is under way waits
/// for its end: so many events take a millisecond or two, and the sync.
const COMMIT_EVENTS_MAX: usize = 500;
/// Transactions of urgent requests in a row; then what else waits gets one, so that an agent that sends
/// nothing but alarms does not hold back all others for ever.
const URGENT_COMMITS_MAX: u32 = 16;
/// Signs of life are written this often where nothing else is.
const SIGNS_EVERY: Duration = Duration::from_secs(15);
/// After a failed transaction, and then twice as long each time.
const FAILED_PAUSE: Duration = Duration::from_millis(500);
/// Long enough to be no load, short enough for systemd's watchdog and for who waits for the disk.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The lock is taken at the beginning. A transaction that reads first and finds at its first write that
/// the command line has committed meanwhile could not go on.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// Why the writer could not start.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The compressor.
    #[error("chunks cannot be built")]
    Build(#[from] linli_shared::protocol::chunk::BuildError),
}

/// An answer that waits for the commit.
enum Pending {
    Arrive(
        oneshot::Sender<Result<Sequence, Rejection>>,
        Result<Sequence, Rejection>,
    ),
    Positions(
        oneshot::Sender<Result<Vec<Sequence>, Rejection>>,
        Vec<Sequence>,
    ),
    Join(
        oneshot::Sender<Result<Result<SiteId, TokenRefusal>, Rejection>>,
        Result<SiteId, TokenRefusal>,
    ),
    Settle(oneshot::Sender<Result<usize, Rejection>>, usize),
}

impl Pending {
    /// The agent may have gone; then nobody wants the answer, and it will ask again.
    fn answer(self, committed: bool) {
        fn send<T>(
            reply: oneshot::Sender<Result<T, Rejection>>,
            answer: Result<T, Rejection>,
            committed: bool,
        ) {
            let _ = reply.send(if committed {
                answer
            } else {
                Err(Rejection::Store)
            });
        }
        match self {
            Self::Arrive(reply, answer) => send(reply, answer, committed),
            Self::Positions(reply, answer) => send(reply, Ok(answer), committed),
            Self::Join(reply, answer) => send(reply, Ok(answer), committed),
            Self::Settle(reply, answer) => send(reply, Ok(answer), committed),
        }
    }
}

/// The writer.
pub struct Writer {
    store: Store,
    inbox: Inbox,
    rules: Vec<Rule>,
    addressees: Addressees,
    builder: ChunkBuilder,
    memory: Memory,
    signs: HashMap<AgentId, Sign>,
    /// Transactions of urgent requests since the last other one.
    urgent_commits: u32,
    metrics: Metrics,
}

impl Writer {
    /// Reads what correlation needs of the past.
    pub async fn open(
        store: &Store,
        rules: Vec<Rule>,
        addressees: Addressees,
        inbox: Inbox,
        metrics: Metrics,
    ) -> Result<Self, WriterError> {
        let mut connection = store.writer().await?;
        let memory = recall(&mut connection, &rules, &metrics).await?;
        close(connection).await;
        metrics.rules.set(rules.len() as i64);
        Ok(Self {
            store: store.clone(),
            inbox,
            rules,
            addressees,
            builder: ChunkBuilder::new()?,
            memory,
            signs: HashMap::new(),
            urgent_commits: 0,
            metrics,
        })
    }

    /// Works until all handles are gone.
    pub async fn run(mut self) -> Result<(), std::io::Error> {
        let mut connection = self.store.writer().await.map_err(std::io::Error::other)?;
        let mut signs_due = tokio::time::interval(SIGNS_EVERY);
        while let Some((mut requests, only_signs)) = self.next(&mut signs_due).await {
            self.take_signs(&mut requests);
            if requests.is_empty() && (self.signs.is_empty() || !only_signs) {
                continue;
            }
            let started = std::time::Instant::now();
            let mut pending = Vec::with_capacity(requests.len());
            let outcome = self.commit(&mut connection, requests, &mut pending).await;
            self.metrics
                .commit_seconds
                .observe(started.elapsed().as_secs_f64());
            let committed = outcome.is_ok();
            for answer in pending {
                answer.answer(committed);
            }
            match outcome {
                Ok(tally) => {
                    self.signs.clear();
                    if tally.wakes_notifier() {
                        self.inbox.outbox.send_replace(());
                    }
                    tally.count(&self.metrics);
                    self.metrics
                        .correlation(self.memory.engine.counts(), self.memory.engine.keys());
                }
                Err(error) => connection = self.recover(connection, error).await,
            }
        }
        close(connection).await;
        Ok(())
    }

    /// What goes into the next transaction: urgent requests and nothing else where one waits. True with
    /// it: nobody asks anything, but signs of life are due. `None`: all handles are gone.
    async fn next(
        &mut self,
        signs_due: &mut tokio::time::Interval,
    ) -> Option<(Vec<Request>, bool)> {
        let mut first = None;
        if self.urgent_commits >= URGENT_COMMITS_MAX {
            self.urgent_commits = 0;
            first = self.inbox.routine.try_recv().ok();
        }
        let mut urgent = false;
        if first.is_none() {
            // All arms are cancel-safe: channels and interval lose nothing by a wait that did not end.
            first = tokio::select! {
                biased;
                request = self.inbox.urgent.recv() => {
                    urgent = true;
                    // Without a handle what is left in the other queue was never acknowledged.
                    Some(request?)
                }
                Some(request) = self.inbox.routine.recv() => Some(request),
                _ = signs_due.tick() => None,
            };
        }
        let Some(first) = first else {
            return Some((Vec::new(), true));
        };
        self.urgent_commits = if urgent { self.urgent_commits + 1 } else { 0 };
        let queue = if urgent {
            &mut self.inbox.urgent
        } else {
            &mut self.inbox.routine
        };
        let mut events = first.events();
        let mut requests = vec![first];
        while requests.len() < COMMIT_REQUESTS_MAX && events < COMMIT_EVENTS_MAX {
            let Ok(request) = queue.try_recv() else { break };
            events += request.events();
            requests.push(request);
        }
        Some((requests, false))
    }

    fn take_signs(&mut self, requests: &mut Vec<Request>) {
        requests.retain_mut(|request| {
            let Request::Sign { agent, sign } = request else {
                return true;
            };
            self.signs.insert(agent.clone(), sign.clone());
            false
        });
    }

    async fn commit(
        &mut self,
        connection: &mut SqliteConnection,
        requests: Vec<Request>,
        pending: &mut Vec<Pending>,
    ) -> Result<Tally, StoreError> {
        let mut transaction = connection
            .begin_with(BEGIN)
            .await
            .map_err(failed("beginning a transaction"))?;
        let mut work = Work::new(
            &mut transaction,
            &mut self.memory,
            &mut self.builder,
            &self.rules,
            &self.addressees,
            clock::wall_ms(),
        );
        for request in requests {
            match request {
                Request::Arrive {
                    key,
                    site,
                    offsets,
                    arrival,
                    reply,
                } => {
                    let answer = work.arrive(&key, &site, &offsets, arrival).await?;
                    pending.push(Pending::Arrive(reply, answer));
                }
                Request::Positions { keys, reply } => {
                    let mut answer = Vec::with_capacity(keys.len());
                    for key in &keys {
                        answer.push(work.position(key).await?);
                    }
                    pending.push(Pending::Positions(reply, answer));
                }
                Request::Join {
                    token_id,
                    token_secret,
                    agent,
                    serial,
                    reply,
                } => {
                    let answer = work.join(&token_id, &token_secret, &agent, &serial).await?;
                    pending.push(Pending::Join(reply, answer));
                }
                Request::Settle { settlements, reply } => {
                    let answer = work.settle(&settlements).await?;
                    pending.push(Pending::Settle(reply, answer));
                }
                Request::Sign { .. } => {}
            }
        }
        let tally = work.finish().await?;
        for (agent, sign) in &self.signs {
            agents::sign(&mut transaction, agent, sign).await?;
        }
        transaction
            .commit()
            .await
            .map_err(failed("committing a transaction"))?;
        Ok(tally)
    }

    /// The store failed. Nothing that the old connection says of its transaction is believed: on a full
    /// disk SQLite ends one by itself, and what came after would only seem to be committed. With a new
    /// connection a small write is tried until it commits, and only then is everything read again.
    async fn recover(
        &mut self,
        connection: SqliteConnection,
        error: StoreError,
    ) -> SqliteConnection {
        close(connection).await;
        let mut reason = telemetry::chain(&error);
        tracing::error!(
            error = reason,
            "a transaction failed; nothing of it was acknowledged"
        );
        let mut pause = FAILED_PAUSE;
        loop {
            self.metrics.store_failures.inc();
            self.inbox.health.send_replace(Health::Recovering(reason));
            tokio::time::sleep(pause).await;
            // A start from the beginning could do no better than this loop.
            systemd::alive();
            match self.reopen().await {
                Ok(connection) => {
                    tracing::info!("the store takes writes again");
                    self.inbox.health.send_replace(Health::Writing);
                    return connection;
                }
                Err(error) => {
                    reason = telemetry::chain(&error);
                    tracing::error!(error = reason, "the store takes no writes");
                }
            }
            pause = (pause * 2).min(FAILED_PAUSE_MAX);
        }
    }

    async fn reopen(&mut self) -> Result<SqliteConnection, StoreError> {
        let mut connection = self.store.writer().await?;
        let mut transaction = connection
            .begin_with(BEGIN)
            .await
            .map_err(failed("beginning a transaction"))?;
        store::probe(&mut transaction, clock::wall_ms()).await?;
        transaction
            .commit()
            .await
            .map_err(failed("committing a probe"))?;
        self.memory = recall(&mut connection, &self.rules, &self.metrics).await?;
        Ok(connection)
    }
}

async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database did not close cleanly");
    }
}
