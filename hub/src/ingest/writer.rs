//! The task that owns the writing connection, the positions and the engine.
use futures_util::FutureExt as _;
use linli_shared::protocol::chunk::ChunkBuilder;
use linli_shared::protocol::ids::AgentId;
use linli_shared::service::telemetry;
use sqlx::Connection as _;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::acknowledge;
use super::casework::WAKING_MAX;
use super::clock::WriterClock;
use super::metrics::IngestMetrics;
use super::people_changes;
use super::poison::{Batch, Failure, PassedOver};
use super::transaction_metrics::TransactionMetrics;
use super::unit_of_work::{Due, UnitOfWork};
use super::warm_up::{PartitionState, warm_up};
use super::{Inbox, Rejection, Reply, Request};
use crate::case_policy::CasePolicy;
use crate::centre::Centre;
use crate::clock_watch::ClockPublisher;
use crate::health::Line;
use linli_domain::changes::{ChangeKind, ChangeSet};
use linli_domain::clock_guard::{ClockConfig, HubTime};
use linli_domain::correlate::rule::Rule;
use linli_store::agents::Sign;
use linli_store::{self as store, Connection, Store, StoreError, failed};
use linli_store::{
    cases, changes, mutes, orgs, positions, retention, stations, versions, warnings,
};

/// Maximum number of requests of one transaction.
const COMMIT_REQUESTS_MAX: usize = 64;
/// A transaction takes no more requests after so many events. An alarm that arrives during a commit waits for its
/// end: so many events take a millisecond or two, and the sync.
const COMMIT_EVENTS_MAX: usize = 500;
/// Maximum number of urgent transactions in a row; then other requests get one, so that an agent that sends only
/// alarms does not block the others.
const URGENT_COMMITS_MAX: u32 = 16;
/// Interval of the look at deadlines: silences, acknowledgements, cases.
const TICK: Duration = Duration::from_secs(1);
/// Interval of the count of the rules' memory, which visits all keys.
const WEIGH_EVERY: Duration = Duration::from_secs(60);
/// Maximum number of escalations in one transaction.
const ESCALATIONS_MAX: i64 = 100;
/// Interval of the pruning of old messages to stations; the first is at the start.
const PRUNE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Signs of life are written at this interval if nothing else is.
const SIGNS_EVERY: Duration = Duration::from_secs(15);
/// Pause after a failed transaction; doubled after each further failure.
const FAILED_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: no load, and short for those who wait for the disk.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Deadline of a warm-up of correlation; after it the writer counts as stuck.
const RECALL_MAX: Duration = Duration::from_secs(900);

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

/// An answer that waits for the commit; without a commit it is dropped, and the request may be retried.
type Pending = Box<dyn FnOnce() + Send>;

fn answering<T: Send + 'static>(reply: &Reply<T>, answer: Result<T, Rejection>) -> Pending {
    let reply = reply.clone();
    Box::new(move || reply.send(answer))
}

/// The writer.
pub struct Writer {
    store: Store,
    /// Taken when it runs.
    connection: Option<Connection>,
    inbox: Inbox,
    rules: Vec<Arc<Rule>>,
    centre: Centre,
    casework: CasePolicy,
    /// The version of the directory in use.
    directory_version: i64,
    /// The case after which the recomputation of deadlines goes on, while it runs.
    recomputed: Option<i64>,
    builder: ChunkBuilder,
    memory: PartitionState,
    signs: HashMap<AgentId, Sign>,
    /// A sign decides something and must not wait for other requests.
    signs_pressing: bool,
    signs_written: std::time::Instant,
    /// Last count of the rules' memory.
    weighed: std::time::Instant,
    /// Last look at deadlines.
    looked: std::time::Instant,
    /// Last pruning of messages to stations.
    pruned: Option<std::time::Instant>,
    clock: WriterClock,
    /// Urgent transactions since the last other one.
    urgent_commits: u32,
    /// Deadlines that made their transaction fail.
    passed_over: PassedOver,
    /// The number of the last change that readers were notified of.
    last_change: i64,
    metrics: IngestMetrics,
}

impl Writer {
    /// Reads the state that correlation needs.
    pub async fn open(
        store: &Store,
        rules: Vec<Arc<Rule>>,
        centre: Centre,
        casework: CasePolicy,
        inbox: Inbox,
        metrics: IngestMetrics,
        clock: (&ClockConfig, ClockPublisher),
    ) -> Result<Self, WriterError> {
        let mut connection = store.writer().await?;
        let clock = WriterClock::open(&mut connection, clock, &metrics).await?;
        let now_ms = clock.time().now_ms;
        let memory = warm_up(&mut connection, &rules, &centre, &metrics, now_ms).await?;
        let mut writer = Self {
            store: store.clone(),
            connection: Some(connection),
            inbox,
            rules,
            centre,
            casework,
            directory_version: 0,
            recomputed: None,
            builder: ChunkBuilder::new()?,
            memory,
            signs: HashMap::new(),
            signs_pressing: false,
            signs_written: std::time::Instant::now(),
            weighed: std::time::Instant::now(),
            // At once: a person may have trusted the clock, and its known time must be written.
            looked: std::time::Instant::now()
                .checked_sub(TICK)
                .unwrap_or_else(std::time::Instant::now),
            pruned: None,
            clock,
            urgent_commits: 0,
            passed_over: PassedOver::default(),
            last_change: 0,
            metrics,
        };
        if let Some(mut connection) = writer.connection.take() {
            positions::begin(&mut connection, now_ms).await?;
            writer.read_directory(&mut connection).await?;
            writer.name_missing_handlers(&mut connection).await?;
            writer.connection = Some(connection);
        }
        Ok(writer)
    }

    /// Reads the organisations if they have changed; then deadlines may change too.
    async fn read_directory(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let version = versions::get(connection, versions::DIRECTORY).await?;
        if version != self.directory_version {
            self.casework.set_directory(orgs::read(connection).await?);
        }
        let fingerprint = self.casework.fingerprint();
        if versions::get(connection, versions::DEADLINES).await? != fingerprint {
            // Written at the end: a recomputation that a stop cuts off begins anew at the next start.
            versions::set(connection, versions::DEADLINES, 0).await?;
            self.recomputed = Some(0);
        }
        // Last: after a failure above, all of it is repeated.
        self.directory_version = version;
        Ok(())
    }

    /// Names the handlers of the config in cases for named handlers only that have none, after a start.
    async fn name_missing_handlers(
        &mut self,
        connection: &mut Connection,
    ) -> Result<(), StoreError> {
        if self.casework.named_handlers.is_empty() {
            return Ok(());
        }
        let (mut named, mut after) = (0, Some(0));
        while let Some(last) = after {
            let mut transaction = store::begin(connection).await?;
            let mut work = UnitOfWork::new(
                &mut transaction,
                &mut self.memory,
                &mut self.builder,
                &self.centre,
                &self.casework,
                self.clock.time(),
            );
            let (more, looked_at) = work.name_missing_handlers(last).await?;
            work.write_changes().await?;
            transaction
                .commit()
                .await
                .map_err(failed("committing a transaction"))?;
            named += more;
            after = looked_at;
        }
        if named > 0 {
            tracing::warn!(
                cases = named,
                "cases for named handlers only had none who can sign in: those of [cases] named_handlers are named now"
            );
        }
        Ok(())
    }

    /// The next open cases whose deadlines and organisations are recomputed; empty when all are done.
    async fn recompute(&mut self, connection: &mut Connection) -> Result<Vec<i64>, StoreError> {
        let Some(after) = self.recomputed else {
            return Ok(Vec::new());
        };
        let cases = cases::with_clocks(connection, after, WAKING_MAX).await?;
        self.recomputed = cases.last().copied();
        if self.recomputed.is_none() {
            let fingerprint = self.casework.fingerprint();
            versions::set(connection, versions::DEADLINES, fingerprint).await?;
        }
        Ok(cases)
    }

    /// Works until all handles are dropped. Answers questions about its health between two transactions.
    pub async fn run(mut self, mut line: Line) -> Result<(), std::io::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.store.writer().await.map_err(std::io::Error::other)?,
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while let Some(mut requests) = self.next(&mut tick, &mut line).await {
            line.answer_all();
            self.take_signs(&mut requests);
            let reload = requests
                .iter()
                .position(|request| matches!(request, Request::Reload { .. }));
            if let Some(at) = reload
                && let Request::Reload { rules, reply } = requests.remove(at)
            {
                let reloaded = line.during(RECALL_MAX, self.reload(&mut connection, rules, reply));
                if let Err(error) = reloaded.await {
                    let failure = Failure::of(&error);
                    connection = self.recover(connection, &failure, &mut line).await;
                    // Nothing of its companions was done: their askers see their channels close.
                    continue;
                }
            }
            let due = match self.due(&mut connection).await {
                Ok(due) => due,
                Err(error) => {
                    let failure = Failure::of(&error);
                    connection = self.recover(connection, &failure, &mut line).await;
                    continue;
                }
            };
            let mut batch = Batch { requests, due };
            let signs_due = !self.signs.is_empty()
                && (self.signs_pressing || self.signs_written.elapsed() >= SIGNS_EVERY);
            if batch.is_empty() && !signs_due {
                continue;
            }
            if let Err(failure) = self.attempt(&mut connection, &mut batch).await {
                connection = self.recover(connection, &failure, &mut line).await;
                if failure.is_poison {
                    connection = self.isolate(connection, batch, &mut line).await;
                }
            }
        }
        close(connection).await;
        Ok(())
    }

    /// Runs one transaction and sends the answers. If it fails, nothing is answered.
    async fn attempt(
        &mut self,
        connection: &mut Connection,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        let started = std::time::Instant::now();
        let mut pending = Vec::with_capacity(batch.requests.len());
        // After a panic the connection is closed and the state is read again, so nothing half done is used.
        let outcome = AssertUnwindSafe(self.commit(connection, batch, &mut pending))
            .catch_unwind()
            .await;
        self.metrics
            .commit_seconds
            .observe(started.elapsed().as_secs_f64());
        let tally = match outcome {
            Ok(Ok(tally)) => tally,
            Ok(Err(error)) => return Err(Failure::of(&error)),
            Err(panic) => return Err(Failure::of_panic(&*panic)),
        };
        for answer in pending {
            answer();
        }
        self.signs.clear();
        self.signs_pressing = false;
        if self.weighed.elapsed() >= WEIGH_EVERY {
            self.weighed = std::time::Instant::now();
            let bytes = self.memory.engine.bytes();
            self.metrics.correlation_bytes(bytes);
        }
        self.signs_written = std::time::Instant::now();
        if tally.wakes_notifier() {
            self.inbox.outbox.send_replace(());
        }
        self.tell_stations(&tally);
        self.announce_changes(tally.last_change());
        tally.count(&self.metrics);
        self.metrics.correlation(&self.memory.engine);
        Ok(())
    }

    /// Commits the harmless parts of a batch, in order; see `poison`. If the store fails meanwhile, the rest is dropped and
    /// its askers come again.
    async fn isolate(
        &mut self,
        mut connection: Connection,
        batch: Batch,
        line: &mut Line,
    ) -> Connection {
        // Each part fails by its own fault only.
        let signs = std::mem::take(&mut self.signs);
        let mut parts = VecDeque::new();
        match batch.halves(&mut self.builder) {
            Ok((first, second)) => parts.extend([first, second]),
            Err(whole) => parts.push_back(*whole),
        }
        while let Some(mut part) = parts.pop_front() {
            line.answer_all();
            part.decode_again();
            let Err(failure) = self.attempt(&mut connection, &mut part).await else {
                continue;
            };
            connection = self.recover(connection, &failure, line).await;
            if !failure.is_poison {
                return connection;
            }
            match part.halves(&mut self.builder) {
                Ok((first, second)) => {
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Err(alone) => {
                    tracing::error!(
                        what = alone.words(),
                        reason = failure.reason,
                        "this makes its transaction fail each time, and is passed over"
                    );
                    self.metrics.passed_over.inc();
                    let harmless = alone.passed_over(&failure, &mut self.passed_over);
                    if let Some(mut harmless) = harmless
                        && let Err(failure) = self.attempt(&mut connection, &mut harmless).await
                    {
                        connection = self.recover(connection, &failure, line).await;
                    }
                }
            }
        }
        if !signs.is_empty() {
            self.signs = signs;
            if let Err(failure) = self.attempt(&mut connection, &mut Batch::default()).await {
                // Agents send new ones within seconds.
                self.signs.clear();
                connection = self.recover(connection, &failure, line).await;
            }
        }
        connection
    }

    /// Notifies the readers of changes if there are new ones.
    fn announce_changes(&mut self, last: Option<i64>) {
        if let Some(last) = last.filter(|last| *last != self.last_change) {
            self.last_change = last;
            self.inbox.changes.send_replace(());
        }
    }

    /// Notifies the sessions of agents whose stations got a message.
    fn tell_stations(&self, tally: &TransactionMetrics) {
        if tally.stations().is_empty() {
            return;
        }
        self.inbox.stations.send_modify(|last| {
            for (agent, number) in tally.stations() {
                last.insert(agent.clone(), number.cast_unsigned());
            }
        });
    }

    /// The requests of the next transaction: urgent ones only, if any waits. Empty: it is time to look at deadlines.
    /// `None`: all handles are dropped.
    async fn next(
        &mut self,
        tick: &mut tokio::time::Interval,
        line: &mut Line,
    ) -> Option<Vec<Request>> {
        let mut first = None;
        if self.urgent_commits >= URGENT_COMMITS_MAX {
            self.urgent_commits = 0;
            first = self.inbox.routine.try_recv().ok();
        }
        let mut urgent = false;
        if first.is_none() {
            // All arms are cancel-safe: channels and interval lose nothing by a cancelled wait.
            first = tokio::select! {
                biased;
                request = self.inbox.urgent.recv() => {
                    urgent = true;
                    // When all handles are dropped, requests left in the other queue were never acknowledged.
                    Some(request?)
                }
                Some(request) = self.inbox.routine.recv() => Some(request),
                asked = line.asked() => {
                    asked.ready();
                    None
                }
                _ = tick.tick() => None,
            };
        }
        let Some(first) = first else {
            return Some(Vec::new());
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
        Some(requests)
    }

    /// The work that is due by time; looked for once a second.
    async fn due(&mut self, connection: &mut Connection) -> Result<Due, StoreError> {
        if self.looked.elapsed() < TICK {
            return Ok(Due::default());
        }
        self.looked = std::time::Instant::now();
        if let Some(jump) = self.clock.apply_trust(connection).await? {
            self.memory.jump(jump);
        }
        let kept = self.clock.look(&self.metrics);
        let HubTime {
            now_ms,
            is_doubtful,
            ..
        } = self.clock.time();
        let prune = !is_doubtful
            && self
                .pruned
                .is_none_or(|pruned| pruned.elapsed() >= PRUNE_EVERY);
        if prune {
            self.pruned = Some(std::time::Instant::now());
        }
        if versions::get(connection, versions::DIRECTORY).await? != self.directory_version {
            self.read_directory(connection).await?;
        }
        // The command line writes changes too.
        let last = changes::last(connection).await?;
        self.announce_changes(Some(last));
        // An escalation cannot be called back, so a doubtful clock causes none.
        let (waking, unacknowledged) = if is_doubtful {
            (Vec::new(), Vec::new())
        } else {
            (
                cases::waking(connection, now_ms, WAKING_MAX).await?,
                warnings::overdue(connection, now_ms, ESCALATIONS_MAX).await?,
            )
        };
        self.passed_over.forget_old();
        Ok(Due {
            prune,
            waking,
            clock: kept,
            clock_is_news: self.clock.take_news(),
            recompute: self.recompute(connection).await?,
            silences: self.memory.overdue(now_ms),
            mutes: mutes::beginning(connection, now_ms).await?,
            unacknowledged,
        }
        .without(&self.passed_over))
    }

    /// Replaces the rules between two transactions.
    async fn reload(
        &mut self,
        connection: &mut Connection,
        rules: Vec<Arc<Rule>>,
        reply: Reply<()>,
    ) -> Result<(), StoreError> {
        let started = std::time::Instant::now();
        let outcome = self
            .memory
            .reload(
                connection,
                rules.clone(),
                &self.centre,
                &self.metrics,
                self.clock.time().now_ms,
            )
            .await;
        let outcome = match outcome {
            Ok(()) => self.write_reload(connection).await,
            failed => failed,
        };
        self.rules = rules;
        reply.send(outcome.as_ref().map(|_| ()).map_err(|_| Rejection::Store));
        tracing::info!(
            rules = self.rules.len(),
            took_ms = started.elapsed().as_millis() as u64,
            "other rules are in place"
        );
        outcome
    }

    /// Writes the change of the rules.
    async fn write_reload(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let mut transaction = store::begin(connection).await?;
        let mut set = ChangeSet::default();
        set.touch(ChangeKind::Rules, "");
        let now_ms = self.clock.time().now_ms;
        let last = changes::write(&mut transaction, &set, now_ms).await?;
        transaction
            .commit()
            .await
            .map_err(failed("committing a transaction"))?;
        self.announce_changes(last);
        Ok(())
    }

    fn take_signs(&mut self, requests: &mut Vec<Request>) {
        requests.retain_mut(|request| {
            let Request::Sign { agent, sign } = request else {
                return true;
            };
            let engine = &self.memory.engine;
            self.signs_pressing |= sign
                .watermark_ms
                .is_some_and(|watermark_ms| engine.is_due(agent.as_str(), watermark_ms))
                || self.memory.is_silent(agent.as_str());
            // A sign ends a silence at once, whenever it is written.
            if !self.memory.is_silent(agent.as_str()) {
                let now_ms = self.clock.time().now_ms;
                self.memory.heard(agent.as_str(), now_ms);
            }
            self.signs.insert(agent.clone(), sign.clone());
            false
        });
    }

    async fn commit(
        &mut self,
        connection: &mut Connection,
        batch: &mut Batch,
        pending: &mut Vec<Pending>,
    ) -> Result<TransactionMetrics, StoreError> {
        let mut transaction = store::begin(connection).await?;
        let mut work = UnitOfWork::new(
            &mut transaction,
            &mut self.memory,
            &mut self.builder,
            &self.centre,
            &self.casework,
            self.clock.time(),
        );
        for request in &mut batch.requests {
            match request {
                Request::Arrive {
                    key,
                    site,
                    offsets,
                    arrival,
                    reply,
                } => {
                    let answer = work.arrive(key, site, offsets, arrival).await?;
                    pending.push(answering(reply, answer));
                }
                Request::Positions { keys, reply } => {
                    work.asked(keys).await?;
                    let mut answer = Vec::with_capacity(keys.len());
                    for key in keys.iter() {
                        answer.push(work.position(key).await?);
                    }
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Join {
                    token_id,
                    token_secret,
                    agent,
                    serial,
                    reply,
                } => {
                    let answer = work.join(token_id, token_secret, agent, serial).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Retention { step, reply } => {
                    let answer = retention::perform(work.connection, step, work.now_ms).await?;
                    if let Some(class) = step.class()
                        && answer.deleted > 0
                    {
                        work.changes.touch(ChangeKind::Deleted, class.as_str());
                    }
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Settle { settlements, reply } => {
                    let answer = work.settle(settlements).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Acknowledge {
                    id,
                    by,
                    note,
                    reply,
                } => {
                    let answer = acknowledge::acknowledge(
                        work.connection,
                        &mut work.changes,
                        *id,
                        by,
                        note,
                        work.now_ms,
                    )
                    .await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Mute { mute, reply } => {
                    let answer =
                        acknowledge::mute(work.connection, &mut work.changes, mute, work.now_ms)
                            .await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::PeopleChange {
                    change,
                    actor,
                    reply,
                } => {
                    let answer = people_changes::perform(
                        work.connection,
                        &mut work.changes,
                        change,
                        actor,
                        work.now_ms,
                    )
                    .await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::MoveCase {
                    code,
                    actor,
                    version,
                    wanted,
                    reply,
                } => {
                    let answer = work.move_by(code, actor, *version, wanted).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Attach {
                    actor,
                    attaching,
                    reply,
                } => {
                    let answer = work.attach(actor, attaching.clone()).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Detach {
                    code,
                    actor,
                    number,
                    reason,
                    reply,
                } => {
                    let answer = work.detach(code, actor, *number, reason).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Subject {
                    actor,
                    wanted,
                    reply,
                } => {
                    let answer = work.subject(actor, wanted.clone()).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Register { actor, new, reply } => {
                    let answer = work.register(actor, new.clone()).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::EndMute { id, reply } => {
                    let answer =
                        acknowledge::end_mute(work.connection, &mut work.changes, *id, work.now_ms)
                            .await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                Request::Station {
                    agent,
                    through,
                    begins,
                    reply,
                } => {
                    if *begins {
                        stations::begin(work.connection, agent, *through, work.now_ms).await?;
                    } else {
                        stations::acknowledge(work.connection, agent, *through, work.now_ms)
                            .await?;
                    }
                    pending.push(answering(reply, Ok(())));
                }
                #[cfg(test)]
                Request::TellStation {
                    agent,
                    message,
                    reply,
                } => {
                    let answer = work.tell_station(agent, message).await?;
                    pending.push(answering(reply, Ok(answer)));
                }
                #[cfg(test)]
                Request::Panic { .. } => panic!("a test wants this"),
                Request::Sign { .. } | Request::Reload { .. } => {}
            }
        }
        for (agent, sign) in &self.signs {
            work.sign(agent, sign).await?;
        }
        work.pass_time(batch.due.clone()).await?;
        let tally = work.finish().await?;
        transaction
            .commit()
            .await
            .map_err(failed("committing a transaction"))?;
        Ok(tally)
    }

    /// Waits until the store accepts a write again. After a failure the old connection is not trusted: on a full disk SQLite
    /// ends a transaction by itself, and later statements would only seem to be committed. On a new connection a small
    /// write is tried until it commits; only then is all state read again.
    async fn recover(
        &mut self,
        connection: Connection,
        failure: &Failure,
        line: &mut Line,
    ) -> Connection {
        close(connection).await;
        // The recomputation of the failed transaction was rolled back.
        self.recomputed = self.recomputed.map(|_| 0);
        let mut reason = failure.reason.clone();
        tracing::error!(
            error = reason,
            "a transaction failed; nothing of it was acknowledged"
        );
        let mut pause = FAILED_PAUSE;
        // If the store works, there is nothing to wait for.
        let mut waits = !failure.is_poison;
        loop {
            self.metrics.store_failures.inc();
            let unready = Err(format!("the store takes no events: {reason}"));
            if waits {
                line.answering(&unready, pause * 2, tokio::time::sleep(pause))
                    .await;
                pause = (pause * 2).min(FAILED_PAUSE_MAX);
            }
            waits = true;
            match line.answering(&unready, RECALL_MAX, self.reopen()).await {
                Ok(connection) => {
                    tracing::info!("the store takes writes again");
                    return connection;
                }
                Err(error) => {
                    reason = telemetry::chain(&error);
                    tracing::error!(error = reason, "the store takes no writes");
                }
            }
        }
    }

    async fn reopen(&mut self) -> Result<Connection, StoreError> {
        let mut connection = self.store.writer().await?;
        let mut transaction = store::begin(&mut connection).await?;
        let now_ms = self.clock.time().now_ms;
        store::probe(&mut transaction, now_ms).await?;
        transaction
            .commit()
            .await
            .map_err(failed("committing a probe"))?;
        self.memory = warm_up(
            &mut connection,
            &self.rules,
            &self.centre,
            &self.metrics,
            now_ms,
        )
        .await?;
        Ok(connection)
    }
}

async fn close(connection: Connection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database did not close cleanly");
    }
}
