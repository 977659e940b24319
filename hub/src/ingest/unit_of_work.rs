//! One transaction: the effect of requests on the tables and on the writer's state.
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{AgentId, BootId, Sequence, SiteId};
use linli_shared::service::telemetry;
use std::collections::HashMap;
use std::ops::Range;

use super::acknowledge;
use super::decide::{Decision, decide};
use super::flood::Held;
use super::incident::Incident;
use super::poison::PassedOver;
use super::transaction_metrics::TransactionMetrics;
use super::warm_up::PartitionState;
use super::{Arrival, ClockOffsets, Decoded, Rejection};
use crate::case_policy::CasePolicy;
use crate::centre::Centre;
use linli_domain::changes::{ChangeDetail, ChangeKind, ChangeSet};
use linli_domain::clock_guard::{Doubt, HubTime, KeptClock};
use linli_domain::correlate::Origin;
use linli_domain::correlate::roster::Silence;
use linli_domain::correlate::rule::Rule;
use linli_domain::station_kinds;
use linli_domain::warnings::Mute;
use linli_store::agents::{self, JoiningAgent, Sign};
use linli_store::changes;
use linli_store::chunks::{self, Clocks, NewChunk, correct};
use linli_store::hub_clock;
use linli_store::positions::{self, LaneKey};
use linli_store::stations;
use linli_store::tokens::{self, TokenRefusal};
use linli_store::warnings::NotifiableWarning;
use linli_store::{Connection, StoreError, text};
use std::sync::Arc;

/// Maximum number of positions in memory; beyond it they are read again.
const POSITIONS_MAX: usize = 20_000;

/// The corrections of the times of a chunk of this boot.
fn clocks(offsets: &ClockOffsets, boot: BootId) -> Clocks {
    Clocks {
        offset_ms: offsets.of(boot),
        skew_ms: offsets.skew_ms(),
    }
}

/// The work that is due by time.
#[derive(Debug, Default, Clone)]
pub struct Due {
    /// Agents that have become silent.
    pub silences: Vec<(Arc<Rule>, Silence)>,
    /// Mutes that begin.
    pub mutes: Vec<Mute>,
    /// Warnings whose acknowledgement is overdue.
    pub unacknowledged: Vec<NotifiableWarning>,
    /// Cases with a due deadline.
    pub waking: Vec<i64>,
    /// Cases whose deadlines are to be recomputed.
    pub recompute: Vec<i64>,
    /// Prune old messages to stations.
    pub prune: bool,
    /// The state of the hub's clock to keep, and its doubt.
    pub clock: Option<(KeptClock, Option<Doubt>)>,
    /// The doubt has just begun or ended.
    pub clock_is_news: bool,
}

impl Due {
    /// Nothing is due.
    pub fn is_empty(&self) -> bool {
        !self.prune
            && self.clock.is_none()
            && self.silences.is_empty()
            && self.mutes.is_empty()
            && self.unacknowledged.is_empty()
            && self.waking.is_empty()
            && self.recompute.is_empty()
    }

    /// The name of each item, by which a failing one is passed over.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let silences = self.silences.iter();
        names.extend(silences.map(|(rule, silence)| silence_name(rule, silence)));
        names.extend(self.mutes.iter().map(|mute| format!("mute/{}", mute.id)));
        let warnings = self.unacknowledged.iter();
        names.extend(warnings.map(|warning| format!("warning/{}", warning.id)));
        names.extend(self.waking.iter().map(|case| format!("case/{case}")));
        names.extend(
            self.recompute
                .iter()
                .map(|case| format!("deadlines/{case}")),
        );
        if self.prune {
            names.push("prune".to_owned());
        }
        if self.clock.is_some() {
            names.push("clock".to_owned());
        }
        names
    }

    /// Without the items that failed lately.
    pub fn without(mut self, passed: &PassedOver) -> Self {
        self.silences
            .retain(|(rule, silence)| !passed.has(&silence_name(rule, silence)));
        self.mutes
            .retain(|mute| !passed.has(&format!("mute/{}", mute.id)));
        self.unacknowledged
            .retain(|warning| !passed.has(&format!("warning/{}", warning.id)));
        self.waking
            .retain(|case| !passed.has(&format!("case/{case}")));
        self.recompute
            .retain(|case| !passed.has(&format!("deadlines/{case}")));
        self.prune &= !passed.has("prune");
        self
    }
}

fn silence_name(rule: &Rule, silence: &Silence) -> String {
    let (Silence::Begins { agent, .. } | Silence::Ends { agent, .. }) = silence;
    format!("silence/{}/{agent}", rule.id)
}

/// Two halves. Error: it is a single item.
pub fn divided(mut due: Due) -> Result<(Due, Due), Box<Due>> {
    if due.names().len() < 2 {
        return Err(Box::new(due));
    }
    let mut second = Due::default();
    fn half<T>(from: &mut Vec<T>) -> Vec<T> {
        from.split_off(from.len() / 2)
    }
    let lists = [
        due.silences.len(),
        due.mutes.len(),
        due.unacknowledged.len(),
        due.waking.len(),
        due.recompute.len(),
    ];
    let is_many = lists.iter().any(|len| *len > 1);
    if is_many {
        second.silences = half(&mut due.silences);
        second.mutes = half(&mut due.mutes);
        second.unacknowledged = half(&mut due.unacknowledged);
        second.waking = half(&mut due.waking);
        second.recompute = half(&mut due.recompute);
        return Ok((due, second));
    }
    // At most one of each kind is left: the first kind is split off.
    match lists.iter().position(|len| *len > 0) {
        Some(0) => second.silences = std::mem::take(&mut due.silences),
        Some(1) => second.mutes = std::mem::take(&mut due.mutes),
        Some(2) => second.unacknowledged = std::mem::take(&mut due.unacknowledged),
        Some(3) => second.waking = std::mem::take(&mut due.waking),
        Some(_) => second.recompute = std::mem::take(&mut due.recompute),
        None => second.prune = std::mem::take(&mut due.prune),
    }
    Ok((second, due))
}

/// Some events of a chunk, as chunks of their own: possibly more than one, because this compressor lacks the
/// history of the agent's stream.
pub fn part(
    builder: &mut ChunkBuilder,
    decoded: &Decoded,
    range: Range<usize>,
) -> Result<Vec<Decoded>, String> {
    let events = &decoded.events.as_ref().map_err(String::clone)?[range.clone()];
    let mut left = events.iter().cloned();
    let mut packed = Packed::default();
    let header = decoded.chunk.header();
    let run = Run {
        lane: header.lane,
        retention: header.retention,
        epoch: header.epoch,
        first: header.first.plus(range.start as u64),
        boot: header.boot,
    };
    let mut built = Vec::new();
    events
        .iter()
        .try_for_each(|event| packed.push(&event.draft()))
        .and_then(|()| builder.build(run, &packed, &mut built))
        .map_err(|error| telemetry::chain(&error))?;
    Ok(built
        .into_iter()
        .map(|chunk| Decoded {
            events: Ok(left
                .by_ref()
                .take(usize::from(chunk.header().count))
                .collect()),
            chunk,
        })
        .collect())
}

/// One transaction.
pub struct UnitOfWork<'a> {
    pub connection: &'a mut Connection,
    pub memory: &'a mut PartitionState,
    pub builder: &'a mut ChunkBuilder,
    /// Hub time.
    pub now_ms: i64,
    pub time: HubTime,
    pub rows: Vec<NewChunk>,
    pub moved: HashMap<LaneKey, Sequence>,
    pub tally: TransactionMetrics,
    /// The numbered changes of this transaction.
    pub changes: ChangeSet,
    pub centre: &'a Centre,
    pub casework: &'a CasePolicy,
    pub incidents: Vec<Incident>,
    /// The case of each incident of this transaction, by the reporting event.
    pub incident_cases: HashMap<String, i64>,
    /// Warnings beyond the limit of their agent.
    pub held: Vec<Held>,
}

impl<'a> UnitOfWork<'a> {
    /// An empty transaction.
    pub fn new(
        connection: &'a mut Connection,
        memory: &'a mut PartitionState,
        builder: &'a mut ChunkBuilder,
        centre: &'a Centre,
        casework: &'a CasePolicy,
        time: HubTime,
    ) -> Self {
        Self {
            connection,
            memory,
            builder,
            now_ms: time.now_ms,
            time,
            rows: Vec::new(),
            moved: HashMap::new(),
            tally: TransactionMetrics::default(),
            changes: ChangeSet::default(),
            centre,
            casework,
            incidents: Vec::new(),
            incident_cases: HashMap::new(),
            held: Vec::new(),
        }
    }

    /// Notes that an agent has connected with these lanes.
    pub async fn asked(&mut self, keys: &[LaneKey]) -> Result<(), StoreError> {
        let mut lives: Vec<_> = keys.iter().map(|key| (&key.agent, key.epoch)).collect();
        // The lanes of a spool share one life.
        lives.dedup();
        for (agent, epoch) in lives {
            positions::asked(self.connection, agent, epoch, self.now_ms).await?;
        }
        Ok(())
    }

    /// The next expected sequence of a lane.
    pub async fn position(&mut self, key: &LaneKey) -> Result<Sequence, StoreError> {
        if let Some(position) = self.memory.positions.get(key) {
            return Ok(*position);
        }
        if self.memory.positions.len() >= POSITIONS_MAX {
            self.memory.positions.clear();
            for (key, next) in &self.moved {
                self.memory.positions.insert(key.clone(), *next);
            }
        }
        let position = positions::load(self.connection, key).await?;
        self.memory.positions.insert(key.clone(), position);
        Ok(position)
    }

    fn advance(&mut self, key: &LaneKey, next: Sequence) {
        self.memory.positions.insert(key.clone(), next);
        self.moved.insert(key.clone(), next);
    }

    /// Stores an arrival; returns the position after it, or why there is none.
    pub async fn arrive(
        &mut self,
        key: &LaneKey,
        site: &SiteId,
        offsets: &ClockOffsets,
        arrival: &mut Arrival,
    ) -> Result<Result<Sequence, Rejection>, StoreError> {
        let mut wanted = self.position(key).await?;
        match arrival {
            Arrival::Lost { first, end, reason } => {
                let (first, end) = (*first, *end);
                if first > wanted {
                    return Ok(Err(Rejection::Gap {
                        wanted,
                        came: first,
                    }));
                }
                if end > wanted {
                    positions::add_lost(
                        self.connection,
                        key,
                        wanted,
                        end,
                        &text(reason),
                        self.now_ms,
                    )
                    .await?;
                    tracing::warn!(agent = %key.agent, lane = %key.lane, first = %wanted, %end, reason, "events are lost at an agent");
                    self.tally.lost(&key.agent, end.0 - wanted.0);
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
                            let clocks = clocks(offsets, header.boot);
                            self.store(key, site, clocks, decoded).await?;
                            wanted = header.end();
                            self.advance(key, wanted);
                        }
                        Decision::Compare => {
                            self.compare(key, decoded, usize::from(header.count))
                                .await?;
                        }
                        Decision::Split(known) => {
                            if self.compare(key, decoded, known).await? {
                                let clocks = clocks(offsets, header.boot);
                                self.store_rest(key, site, clocks, decoded, known).await?;
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

    /// Stores a new chunk and passes its events to the rules.
    async fn store(
        &mut self,
        key: &LaneKey,
        site: &SiteId,
        clocks: Clocks,
        decoded: &mut Decoded,
    ) -> Result<(), StoreError> {
        let events = match &mut decoded.events {
            Ok(events) => events,
            Err(reason) => {
                return self.quarantine(key, &decoded.chunk, reason).await;
            }
        };
        let header = *decoded.chunk.header();
        let mut occurred_ms = (i64::MAX, i64::MIN);
        let mut kinds: Vec<&str> = Vec::new();
        for event in events.iter_mut() {
            correct(event, clocks, self.now_ms);
        }
        let is_station = self.memory.is_station(key.agent.as_str())
            || self
                .casework
                .directory
                .station_of(key.agent.as_str())
                .is_some();
        let mut withheld = 0;
        for (index, event) in events.iter().enumerate() {
            occurred_ms.0 = occurred_ms.0.min(event.occurred_at_ms);
            occurred_ms.1 = occurred_ms.1.max(event.occurred_at_ms);
            if !kinds.contains(&event.kind.as_str()) {
                kinds.push(&event.kind);
            }
            #[cfg(test)]
            assert_ne!(event.kind, "test.panic", "the test wants a panic");
            let origin = Origin {
                site: site.as_str(),
                agent: key.agent.as_str(),
                lane: key.lane,
                epoch: key.epoch.0,
                sequence: header.first.0 + index as u64,
            };
            self.tally
                .delivered(self.now_ms.saturating_sub(event.received_at_ms));
            if !is_station && station_kinds::is_reserved(&event.kind) {
                withheld += 1;
                continue;
            }
            self.memory.engine.observe(event, &origin, self.now_ms);
            if let Some(incident) = Incident::of(event, &origin, self.casework, self.now_ms) {
                self.incidents.push(incident);
            }
        }
        if withheld > 0 {
            self.memory.note_withheld(&key.agent);
            self.tally.withheld(&key.agent, withheld);
        }
        let kinds = text(&format!(",{},", kinds.join(","))).into_owned();
        self.tally.stored(
            key.lane,
            events.len() as u64,
            decoded.chunk.bytes().len() as u64,
        );
        self.memory.last_chunk += 1;
        self.changes
            .events(site.as_str(), key.agent.as_str(), self.memory.last_chunk);
        self.rows.push(NewChunk {
            id: self.memory.last_chunk,
            site: site.to_string(),
            key: key.clone(),
            chunk: decoded.chunk.clone(),
            occurred_ms,
            stored_ms: self.now_ms,
            clocks,
            kinds,
            withheld: withheld > 0,
        });
        Ok(())
    }

    /// Compares the first `known` events of a chunk with the stored ones. Returns true if they are equal; else the chunk
    /// is quarantined.
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
            self.tally.doubled(key.lane, known as u64);
            return Ok(true);
        }
        let reason = if positions::any_lost(self.connection, key, first, end).await? {
            "its numbers were given up as lost before"
        } else if stored.is_empty() {
            "its numbers were passed over: what came under them before is in quarantine too"
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

    /// Stores the events of a chunk after the first `known`, as chunks of their own.
    async fn store_rest(
        &mut self,
        key: &LaneKey,
        site: &SiteId,
        clocks: Clocks,
        decoded: &Decoded,
        known: usize,
    ) -> Result<(), StoreError> {
        let count = decoded.events.as_ref().map_or(0, Vec::len);
        match part(self.builder, decoded, known..count) {
            Ok(chunks) => {
                for mut rest in chunks {
                    self.store(key, site, clocks, &mut rest).await?;
                }
                Ok(())
            }
            Err(reason) => self.quarantine(key, &decoded.chunk, &reason).await,
        }
    }

    async fn quarantine(
        &mut self,
        key: &LaneKey,
        chunk: &Chunk,
        reason: &str,
    ) -> Result<(), StoreError> {
        let count = u64::from(chunk.header().count);
        // An agent that was restored to an older state sends the same chunk at every session.
        if chunks::is_quarantined(self.connection, key, chunk).await? {
            self.tally.doubled(key.lane, count);
            return Ok(());
        }
        tracing::error!(agent = %key.agent, lane = %key.lane, first = %chunk.header().first, reason, "a chunk goes to quarantine");
        self.tally.quarantined(count);
        self.memory.last_quarantine += 1;
        chunks::quarantine(
            self.connection,
            self.memory.last_quarantine,
            key,
            chunk,
            reason,
            self.now_ms,
        )
        .await
    }

    /// Uses up a join token and admits the agent.
    pub async fn join(
        &mut self,
        token_id: &str,
        token_secret: &str,
        agent: &AgentId,
        serial: &str,
    ) -> Result<Result<SiteId, TokenRefusal>, StoreError> {
        let good = tokens::check_join(self.connection, token_id, token_secret, self.time.expiry_ms)
            .await?;
        let grant = match good {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Ok(site) = grant.site.parse::<SiteId>() else {
            return Ok(Err(TokenRefusal::Unknown));
        };
        if let Some(other) = agents::alike(self.connection, agent).await? {
            return Ok(Err(TokenRefusal::NameAlike(other)));
        }
        // A token admits a gateway to its own site. Taking over the name of another site's agent would lock that agent out and
        // put the new one's events behind its positions.
        let at = agents::site_of(self.connection, agent).await?;
        if at.as_ref().is_some_and(|at| at != site.as_str()) {
            return Ok(Err(TokenRefusal::NameTaken(agent.to_string())));
        }
        if at.is_some() {
            tracing::warn!(%agent, %site, "an agent of this name joins again: the certificate that it had is refused from now on");
        }
        tokens::use_join(self.connection, token_id, agent.as_str(), self.now_ms).await?;
        let joining = JoiningAgent {
            agent,
            site: &site,
            station: grant.station,
            serial,
        };
        agents::save(self.connection, joining, self.now_ms).await?;
        let detail = ChangeDetail {
            site: site.to_string(),
            agent: agent.to_string(),
            ..ChangeDetail::default()
        };
        self.changes.add(ChangeKind::Agent, agent.as_str(), detail);
        self.memory.expect(joining);
        Ok(Ok(site))
    }

    /// Writes a sign of life of an agent.
    pub async fn sign(&mut self, agent: &AgentId, sign: &Sign) -> Result<(), StoreError> {
        agents::sign(self.connection, agent, sign).await?;
        if let Some(watermark_ms) = sign.watermark_ms {
            self.memory.engine.advance(agent.as_str(), watermark_ms);
        }
        for (rule, silence) in self.memory.heard(agent.as_str(), self.now_ms) {
            self.silence(&rule, &silence).await?;
        }
        Ok(())
    }

    /// Carries out the work that is due by time.
    pub async fn pass_time(&mut self, due: Due) -> Result<(), StoreError> {
        for (rule, silence) in &due.silences {
            self.silence(rule, silence).await?;
        }
        // Before escalations: a muted warning is not due any more.
        for mute in &due.mutes {
            acknowledge::begin(self.connection, &mut self.changes, mute, self.now_ms).await?;
        }
        if let Some((kept, doubt)) = due.clock {
            hub_clock::keep(self.connection, kept, doubt).await?;
            if due.clock_is_news {
                self.changes.touch(ChangeKind::Clock, "");
            }
        }
        self.recompute(&due.recompute).await?;
        self.wake(&due.waking).await?;
        if due.prune {
            let before_ms = self.now_ms - stations::KEPT_MS;
            let pruned = stations::prune(self.connection, before_ms).await?;
            if pruned > 0 {
                tracing::info!(messages = pruned, "old messages to stations are removed");
            }
        }
        self.escalate(due.unacknowledged).await
    }

    /// Writes a message to the station of an agent; returns its number.
    pub async fn tell_station(
        &mut self,
        agent: &str,
        message: &stations::Message,
    ) -> Result<i64, StoreError> {
        let number = stations::enqueue(self.connection, agent, message, self.now_ms).await?;
        self.tally.station_told(agent, number);
        Ok(number)
    }

    /// Writes the numbered changes, last of all.
    pub async fn write_changes(&mut self) -> Result<(), StoreError> {
        let set = std::mem::take(&mut self.changes);
        let last = changes::write(self.connection, &set, self.now_ms).await?;
        self.tally.changed(last);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            chunks::insert(self.connection, &self.rows).await?;
            self.rows.clear();
        }
        Ok(())
    }

    /// Writes everything that is buffered; returns the metrics.
    pub async fn finish(mut self) -> Result<TransactionMetrics, StoreError> {
        self.flush().await?;
        for (key, next) in &self.moved {
            positions::save(self.connection, key, *next, self.now_ms).await?;
        }
        self.open_incidents().await?;
        self.raise_all().await?;
        self.write_floods().await?;
        self.write_changes().await?;
        Ok(self.tally)
    }
}
