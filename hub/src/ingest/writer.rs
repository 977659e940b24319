//! The task that owns the writing connection, the positions and the engine.
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{AgentId, Sequence, SiteId};
use linli_shared::service::{clock, telemetry};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;

use super::decide::{Decision, decide};
use super::{Arrival, ClockOffsets, Decoded, Inbox, Rejection, Request};
use crate::cases;
use crate::correlate::engine::Engine;
use crate::correlate::rule::Rule;
use crate::correlate::{Firing, Origin};
use crate::metrics::Metrics;
use crate::store::agents::{self, Sign};
use crate::store::chunks::{self, NewChunk, correct};
use crate::store::positions::{self, LaneKey};
use crate::store::tokens;
use crate::store::warnings;
use crate::store::{Store, StoreError, failed};

/// Requests of one transaction.
const COMMIT_REQUESTS_MAX: usize = 64;
/// Events after which a transaction takes no more: it bounds how long an alarm waits for a commit of
/// routine events that has begun.
const COMMIT_EVENTS_MAX: usize = 8_000;
/// Signs of life are written this often where nothing else is.
const SIGNS_EVERY: Duration = Duration::from_secs(15);
/// Positions that are held in memory; then they are read again.
const POSITIONS_MAX: usize = 20_000;
/// Rows that a start reads at once for correlation.
const REPLAY_ROWS: i64 = 500;
/// Chunks back in row numbers that a start looks at, at most.
const REPLAY_CHUNKS_MAX: u64 = 200_000;
/// After a failed transaction.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

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
        oneshot::Sender<Result<Result<SiteId, tokens::TokenRefusal>, Rejection>>,
        Result<SiteId, tokens::TokenRefusal>,
    ),
}

impl Pending {
    /// The agent may have gone; then nobody wants the answer, and it will ask again.
    fn answer(self, committed: bool) {
        match self {
            Self::Arrive(reply, answer) => {
                let _ = reply.send(if committed {
                    answer
                } else {
                    Err(Rejection::Store)
                });
            }
            Self::Positions(reply, answer) => {
                let _ = reply.send(if committed {
                    Ok(answer)
                } else {
                    Err(Rejection::Store)
                });
            }
            Self::Join(reply, answer) => {
                let _ = reply.send(if committed {
                    Ok(answer)
                } else {
                    Err(Rejection::Store)
                });
            }
        }
    }
}

/// What is known beside the database; read from it again when a transaction fails.
struct Memory {
    positions: HashMap<LaneKey, Sequence>,
    engine: Engine,
    next_chunk: i64,
    next_quarantine: i64,
    next_warning: i64,
    next_case: i64,
}

/// The writer.
pub struct Writer {
    inbox: Inbox,
    connection: SqliteConnection,
    rules: Vec<Rule>,
    builder: ChunkBuilder,
    memory: Memory,
    signs: HashMap<AgentId, Sign>,
    metrics: Metrics,
}

impl Writer {
    /// Opens the writing connection and reads what correlation needs of the past.
    pub async fn open(
        store: &Store,
        rules: Vec<Rule>,
        inbox: Inbox,
        metrics: Metrics,
    ) -> Result<Self, WriterError> {
        let mut connection = store.writer().await?;
        let memory = recall(&mut connection, &rules).await?;
        metrics.rules.set(rules.len() as i64);
        Ok(Self {
            inbox,
            connection,
            rules,
            builder: ChunkBuilder::new()?,
            memory,
            signs: HashMap::new(),
            metrics,
        })
    }

    /// Works until all handles are gone.
    pub async fn run(mut self) -> Result<(), std::io::Error> {
        let mut signs_due = tokio::time::interval(SIGNS_EVERY);
        let mut requests = Vec::new();
        loop {
            // All arms are cancel-safe: channels and interval lose nothing by a wait that did not end.
            let first = tokio::select! {
                biased;
                request = self.inbox.urgent.recv() => match request {
                    Some(request) => Some(request),
                    // All handles are gone; what is left in the other queue was never acknowledged.
                    None => break,
                },
                Some(request) = self.inbox.routine.recv() => Some(request),
                _ = signs_due.tick() => None,
            };
            let only_signs = first.is_none();
            requests.extend(first);
            self.gather(&mut requests);
            self.take_signs(&mut requests);
            if requests.is_empty() && (self.signs.is_empty() || !only_signs) {
                continue;
            }
            let started = std::time::Instant::now();
            let mut pending = Vec::with_capacity(requests.len());
            let outcome = self.commit(&mut requests, &mut pending).await;
            self.metrics
                .commit_seconds
                .observe(started.elapsed().as_secs_f64());
            let committed = outcome.is_ok();
            for answer in pending {
                answer.answer(committed);
            }
            if let Err(error) = outcome {
                requests.clear();
                self.recover(error).await;
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database did not close cleanly");
        }
        Ok(())
    }

    /// Takes what waits: urgent before routine, up to the size of a commit.
    fn gather(&mut self, requests: &mut Vec<Request>) {
        let mut events: usize = requests.iter().map(Request::events).sum();
        while requests.len() < COMMIT_REQUESTS_MAX && events < COMMIT_EVENTS_MAX {
            let next = self
                .inbox
                .urgent
                .try_recv()
                .or_else(|_| self.inbox.routine.try_recv());
            match next {
                Ok(request) => {
                    events += request.events();
                    requests.push(request);
                }
                Err(_) => return,
            }
        }
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

    /// The store failed: everything is read again, until it can be.
    async fn recover(&mut self, error: StoreError) {
        tracing::error!(error = %telemetry::chain(&error), "a transaction failed; nothing of it was acknowledged");
        self.metrics.store_failures.inc();
        loop {
            tokio::time::sleep(FAILED_PAUSE).await;
            match recall(&mut self.connection, &self.rules).await {
                Ok(memory) => {
                    self.memory = memory;
                    return;
                }
                Err(error) => {
                    tracing::error!(error = %telemetry::chain(&error), "the store cannot be read");
                }
            }
        }
    }

    async fn commit(
        &mut self,
        requests: &mut Vec<Request>,
        pending: &mut Vec<Pending>,
    ) -> Result<(), StoreError> {
        let Self {
            connection,
            memory,
            builder,
            signs,
            metrics,
            ..
        } = self;
        let mut transaction = connection
            .begin()
            .await
            .map_err(failed("beginning a transaction"))?;
        let now_ms = clock::wall_ms();
        let mut work = Work {
            connection: &mut transaction,
            memory,
            builder,
            metrics,
            now_ms,
            rows: Vec::new(),
            moved_keys: HashMap::new(),
            firings: Vec::new(),
        };
        for request in requests.drain(..) {
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
                Request::Sign { .. } => {}
            }
        }
        work.finish().await?;
        for (agent, sign) in signs.iter() {
            agents::sign(&mut transaction, agent, sign).await?;
        }
        transaction
            .commit()
            .await
            .map_err(failed("committing a transaction"))?;
        signs.clear();
        let counts = memory.engine.counts();
        metrics.correlation(counts, memory.engine.keys());
        Ok(())
    }
}

/// One transaction in the making.
struct Work<'a> {
    connection: &'a mut SqliteConnection,
    memory: &'a mut Memory,
    builder: &'a mut ChunkBuilder,
    metrics: &'a Metrics,
    now_ms: i64,
    rows: Vec<NewChunk>,
    moved_keys: HashMap<LaneKey, Sequence>,
    firings: Vec<Firing>,
}

impl Work<'_> {
    async fn position(&mut self, key: &LaneKey) -> Result<Sequence, StoreError> {
        if let Some(position) = self.memory.positions.get(key) {
            return Ok(*position);
        }
        if self.memory.positions.len() >= POSITIONS_MAX {
            self.memory.positions.clear();
            for (key, next) in &self.moved_keys {
                self.memory.positions.insert(key.clone(), *next);
            }
        }
        let position = positions::load(self.connection, key).await?;
        self.memory.positions.insert(key.clone(), position);
        Ok(position)
    }

    fn advance(&mut self, key: &LaneKey, next: Sequence) {
        self.memory.positions.insert(key.clone(), next);
        self.moved_keys.insert(key.clone(), next);
    }

    async fn arrive(
        &mut self,
        key: &LaneKey,
        site: &SiteId,
        offsets: &ClockOffsets,
        arrival: Arrival,
    ) -> Result<Result<Sequence, Rejection>, StoreError> {
        let mut wanted = self.position(key).await?;
        match arrival {
            Arrival::Lost { first, end, reason } => {
                if first > wanted {
                    return Ok(Err(Rejection::Gap {
                        wanted,
                        came: first,
                    }));
                }
                if end > wanted {
                    positions::add_lost(self.connection, key, wanted, end, &reason, self.now_ms)
                        .await?;
                    tracing::warn!(agent = %key.agent, lane = %key.lane, first = %wanted, %end, reason, "events are lost at an agent");
                    self.metrics.lost(&key.agent, end.0 - wanted.0);
                    wanted = end;
                    self.advance(key, wanted);
                }
            }
            Arrival::Batch(batch) => {
                for decoded in batch {
                    let header = *decoded.chunk.header();
                    if header.lane != key.lane || header.epoch != key.epoch {
                        return Ok(Err(Rejection::Stray));
                    }
                    match decide(wanted, header.first, header.end()) {
                        Decision::Gap => {
                            return Ok(Err(Rejection::Gap {
                                wanted,
                                came: header.first,
                            }));
                        }
                        Decision::Store => {
                            let offset_ms = offsets.of(header.boot);
                            self.store(key, site, offset_ms, decoded).await?;
                            wanted = header.end();
                            self.advance(key, wanted);
                        }
                        Decision::Compare => {
                            self.compare(key, &decoded, usize::from(header.count))
                                .await?;
                        }
                        Decision::Split(known) => {
                            if self.compare(key, &decoded, known).await?
                                && let Some(rest) = self.rest(&decoded, known)
                            {
                                let offset_ms = offsets.of(header.boot);
                                self.store(key, site, offset_ms, rest).await?;
                            }
                            wanted = header.end();
                            self.advance(key, wanted);
                        }
                    }
                }
            }
        }
        Ok(Ok(wanted))
    }

    /// Stores a new chunk and lets the rules see its events.
    async fn store(
        &mut self,
        key: &LaneKey,
        site: &SiteId,
        clock_offset_ms: Option<i64>,
        decoded: Decoded,
    ) -> Result<(), StoreError> {
        let mut events = match decoded.events {
            Ok(events) => events,
            Err(reason) => {
                return self.quarantine(key, &decoded.chunk, &reason).await;
            }
        };
        let header = *decoded.chunk.header();
        let mut occurred_ms = (i64::MAX, i64::MIN);
        let mut kinds: Vec<&str> = Vec::new();
        for event in &mut events {
            correct(event, clock_offset_ms);
        }
        for (index, event) in events.iter().enumerate() {
            occurred_ms.0 = occurred_ms.0.min(event.occurred_at_ms);
            occurred_ms.1 = occurred_ms.1.max(event.occurred_at_ms);
            if !kinds.contains(&event.kind.as_str()) {
                kinds.push(&event.kind);
            }
            let origin = Origin {
                site: site.as_str(),
                agent: key.agent.as_str(),
                lane: key.lane,
                epoch: key.epoch.0,
                sequence: header.first.0 + index as u64,
            };
            self.memory
                .engine
                .observe(event, &origin, self.now_ms, &mut self.firings);
            self.metrics
                .delivery_seconds
                .observe((self.now_ms - event.received_at_ms).max(0) as f64 / 1000.0);
        }
        let kinds = format!(",{},", kinds.join(","));
        self.metrics.stored(
            key.lane,
            events.len() as u64,
            decoded.chunk.bytes().len() as u64,
        );
        self.memory.next_chunk += 1;
        self.rows.push(NewChunk {
            id: self.memory.next_chunk,
            site: site.to_string(),
            key: key.clone(),
            chunk: decoded.chunk,
            occurred_ms,
            stored_ms: self.now_ms,
            clock_offset_ms,
            kinds,
        });
        Ok(())
    }

    /// Compares the first `known` events of a chunk with what is stored under their numbers. Says
    /// whether they are the same; if not, the chunk is in quarantine.
    async fn compare(
        &mut self,
        key: &LaneKey,
        decoded: &Decoded,
        known: usize,
    ) -> Result<bool, StoreError> {
        let header = decoded.chunk.header();
        let first = header.first;
        let end = first.plus(known as u64);
        // Rows of this transaction are not in the table yet.
        self.flush().await?;
        let stored = chunks::overlapping(self.connection, key, first, end).await?;
        let same_bytes = stored
            .iter()
            .any(|chunk| chunk.bytes() == decoded.chunk.bytes());
        if same_bytes || self.same_events(&stored, decoded, known) {
            self.metrics.doubled(key.lane, known as u64);
            return Ok(true);
        }
        let reason = if stored.is_empty() {
            "its numbers were given up as lost before"
        } else {
            "its numbers are taken by other content"
        };
        self.quarantine(key, &decoded.chunk, reason).await?;
        Ok(false)
    }

    fn same_events(&self, stored: &[Chunk], decoded: &Decoded, known: usize) -> bool {
        let Ok(events) = &decoded.events else {
            return false;
        };
        let mut by_sequence: HashMap<u64, Event> = HashMap::new();
        for chunk in stored {
            let first = chunk.header().first.0;
            for (index, event) in chunk.events().unwrap_or_default().into_iter().enumerate() {
                by_sequence.insert(first + index as u64, event);
            }
        }
        let first = decoded.chunk.header().first.0;
        events
            .iter()
            .take(known)
            .enumerate()
            .all(|(index, event)| by_sequence.get(&(first + index as u64)) == Some(event))
    }

    /// The events of a chunk after the first `known`, as a chunk of their own.
    fn rest(&mut self, decoded: &Decoded, known: usize) -> Option<Decoded> {
        let events: Vec<Event> = decoded.events.as_ref().ok()?[known..].to_vec();
        let header = decoded.chunk.header();
        let mut packed = Packed::default();
        for event in &events {
            packed.push(&event.draft()).ok()?;
        }
        let run = Run {
            lane: header.lane,
            retention: header.retention,
            epoch: header.epoch,
            first: header.first.plus(known as u64),
            boot: header.boot,
        };
        let mut built = Vec::new();
        self.builder.build(run, &packed, &mut built).ok()?;
        // Fewer events than the chunk that they came in: they fit one.
        let chunk = built.pop().filter(|_| built.is_empty())?;
        Some(Decoded {
            chunk,
            events: Ok(events),
        })
    }

    async fn quarantine(
        &mut self,
        key: &LaneKey,
        chunk: &Chunk,
        reason: &str,
    ) -> Result<(), StoreError> {
        tracing::error!(agent = %key.agent, lane = %key.lane, first = %chunk.header().first, reason, "a chunk goes to quarantine");
        self.metrics
            .quarantined
            .inc_by(u64::from(chunk.header().count));
        self.memory.next_quarantine += 1;
        chunks::quarantine(
            self.connection,
            self.memory.next_quarantine,
            key,
            chunk,
            reason,
            self.now_ms,
        )
        .await
    }

    async fn join(
        &mut self,
        token_id: &str,
        token_secret: &str,
        agent: &AgentId,
        serial: &str,
    ) -> Result<Result<SiteId, tokens::TokenRefusal>, StoreError> {
        let used = tokens::use_join(
            self.connection,
            token_id,
            token_secret,
            agent.as_str(),
            self.now_ms,
        )
        .await?;
        let site: SiteId = match used {
            Ok(site) => match site.parse() {
                Ok(site) => site,
                Err(_) => return Ok(Err(tokens::TokenRefusal::Unknown)),
            },
            Err(refusal) => return Ok(Err(refusal)),
        };
        agents::save(self.connection, agent, &site, serial, self.now_ms).await?;
        Ok(Ok(site))
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            chunks::insert(self.connection, &self.rows).await?;
            self.rows.clear();
        }
        Ok(())
    }

    /// Writes what has gathered.
    async fn finish(mut self) -> Result<(), StoreError> {
        self.flush().await?;
        for (key, next) in &self.moved_keys {
            positions::save(self.connection, key, *next).await?;
        }
        // A storm of one kind is one statement, not one for each event.
        let mut folds: HashMap<(String, String), Fold> = HashMap::new();
        for firing in std::mem::take(&mut self.firings) {
            let place = (firing.rule.clone(), firing.key.clone());
            let near = folds
                .get_mut(&place)
                .filter(|fold| (firing.at_ms - fold.at_ms).abs() <= firing.fold_ms);
            if let Some(fold) = near {
                fold.count += 1;
                continue;
            }
            let (warning, at_ms, count) =
                match warnings::find_fold(self.connection, &firing).await? {
                    Some((warning, at_ms)) => (warning, at_ms, 1),
                    None => (self.raise(&firing).await?, firing.at_ms, 0),
                };
            let fold = Fold {
                warning,
                at_ms,
                count,
            };
            if let Some(before) = folds.insert(place, fold) {
                warnings::fold(self.connection, before.warning, before.count).await?;
            }
        }
        for fold in folds.values() {
            warnings::fold(self.connection, fold.warning, fold.count).await?;
        }
        Ok(())
    }

    /// Raises a warning, and opens or joins its case.
    async fn raise(&mut self, firing: &Firing) -> Result<i64, StoreError> {
        self.memory.next_warning += 1;
        let warning = self.memory.next_warning;
        warnings::insert(self.connection, warning, firing, self.now_ms).await?;
        self.metrics.warned(
            &firing.rule,
            (self.now_ms - firing.at_ms).max(0) as f64 / 1000.0,
        );
        tracing::info!(
            warning,
            rule = firing.rule,
            key = firing.key,
            late = firing.late,
            "a warning is raised"
        );
        let Some(opening) = cases::opening(firing, self.memory.next_case + 1, self.now_ms) else {
            return Ok(warning);
        };
        let actor = format!("rule:{}", firing.rule);
        let open =
            crate::store::cases::find_open(self.connection, &opening.kind, &opening.key).await?;
        let (case, action) = match open {
            Some(case) => (case, "warning_added"),
            None => {
                self.memory.next_case += 1;
                let case = self.memory.next_case;
                crate::store::cases::insert(self.connection, case, &opening).await?;
                self.metrics.cases_opened.inc();
                (case, "registered")
            }
        };
        crate::store::cases::link(self.connection, case, warning).await?;
        let note = format!("{} (warning {warning})", firing.name);
        crate::store::cases::act(self.connection, case, self.now_ms, &actor, action, &note).await?;
        Ok(warning)
    }
}

/// Repetitions of one warning in one transaction.
struct Fold {
    warning: i64,
    at_ms: i64,
    count: i64,
}

/// Reads numbers and positions, and fills the windows of the rules from the stored events. What fires
/// again on the way was raised before, so it is left out.
async fn recall(connection: &mut SqliteConnection, rules: &[Rule]) -> Result<Memory, StoreError> {
    let started = std::time::Instant::now();
    let mut engine = Engine::new(rules.to_vec());
    let (last_chunk, last_quarantine) = chunks::last_ids(connection).await?;
    let last_warning = warnings::last_id(connection).await?;
    let last_case = crate::store::cases::last_id(connection).await?;
    let now_ms = clock::wall_ms();
    let from_ms = now_ms - engine.reach_ms();
    let mut after = last_chunk - REPLAY_CHUNKS_MAX as i64;
    let mut read = 0_u64;
    let mut dropped = Vec::new();
    if engine.reach_ms() > 0 {
        loop {
            let rows = chunks::since(connection, from_ms, after, REPLAY_ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            for stored in &rows {
                let header = stored.chunk.header();
                for (index, mut event) in stored
                    .chunk
                    .events()
                    .unwrap_or_default()
                    .into_iter()
                    .enumerate()
                {
                    correct(&mut event, stored.clock_offset_ms);
                    let origin = Origin {
                        site: &stored.site,
                        agent: &stored.agent,
                        lane: header.lane,
                        epoch: header.epoch.0,
                        sequence: header.first.0 + index as u64,
                    };
                    engine.observe(&event, &origin, now_ms, &mut dropped);
                    read += 1;
                }
                dropped.clear();
            }
        }
    }
    tracing::info!(
        events = read,
        took_ms = started.elapsed().as_millis() as u64,
        "the windows of the rules are filled from the store"
    );
    Ok(Memory {
        positions: HashMap::new(),
        engine,
        next_chunk: last_chunk,
        next_quarantine: last_quarantine,
        next_warning: last_warning,
        next_case: last_case,
    })
}
