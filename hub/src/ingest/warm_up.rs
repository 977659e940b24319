//! The writer's state beside the database, and the warm-up that reads it from there.
use linli_shared::protocol::ids::{AgentId, Sequence};
use linli_shared::service::{clock, systemd, telemetry};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::flood::Floods;
use super::metrics::IngestMetrics;
use crate::centre::Centre;
use linli_domain::correlate::Origin;
use linli_domain::correlate::coverage::Gap;
use linli_domain::correlate::engine::{Engine, Occurrence};
use linli_domain::correlate::roster::{AgentRoster, Silence};
use linli_domain::correlate::rule::{Roster, Rule};
use linli_store::agents::{JoiningAgent, WATERMARK_AHEAD_MS_MAX};
use linli_store::chunks::{self, StoredChunk, correct};
use linli_store::occurrences::{self, OccurrenceRow};
use linli_store::positions::LaneKey;
use linli_store::{Connection, StoreError, agents, cases, hub_clock, outbox, warnings};

/// Rows of one page; between two pages systemd is told that the hub lives.
const PAGE_ROWS: i64 = 500;
/// Maximum number of rows that a warm-up visits. Most are passed over without their bytes, so a start stays within the
/// ten minutes that its unit grants.
const ROWS_MAX: i64 = 1_000_000;

/// The clock of agents' silence: it never steps.
fn monotonic_ms() -> i64 {
    clock::monotonic_ms().cast_signed()
}

/// The state of a partition. It is read again after a failed transaction.
pub struct PartitionState {
    /// Positions of the lanes that have connected.
    pub positions: HashMap<LaneKey, Sequence>,
    /// The rules with their timelines.
    pub engine: Engine,
    /// The roster of each rule about silence, by the rule's index.
    rosters: HashMap<usize, AgentRoster>,
    /// Site of each agent.
    sites: HashMap<String, String>,
    /// Agents with a station's join token.
    stations: HashSet<String>,
    /// Counts of the warnings of agents.
    pub floods: Floods,
    /// Agents that reported kinds of stations; the log has said so.
    withheld_logged: HashSet<AgentId>,
    /// The last ids.
    pub last_chunk: i64,
    pub last_quarantine: i64,
    pub last_warning: i64,
    pub last_case: i64,
    pub last_outbox: i64,
}

impl PartitionState {
    /// Adds an agent to the rosters.
    pub fn expect(&mut self, joining: JoiningAgent<'_>) {
        let agent = joining.agent;
        self.sites
            .insert(agent.to_string(), joining.site.to_string());
        if joining.station {
            self.stations.insert(agent.to_string());
        } else {
            self.stations.remove(agent.as_str());
        }
        for roster in self.rosters.values_mut() {
            roster.expect(agent.as_str(), monotonic_ms(), false);
        }
    }

    /// True if the agent had a station's join token.
    pub fn is_station(&self, agent: &str) -> bool {
        self.stations.contains(agent)
    }

    /// Logs once that an agent reports kinds of stations; the metrics count each event.
    pub fn note_withheld(&mut self, agent: &AgentId) {
        if self.withheld_logged.insert(agent.clone()) {
            tracing::error!(
                %agent,
                "an agent that is no station's reports disputes, incidents or dangers: they are stored and withheld from \
                 rules and cases. If it is a station's, name it in the directory, or join it with a token of \
                 `linli-hub token create --station`"
            );
        }
    }

    /// The site of an agent; empty if it has not joined.
    pub fn site_of(&self, agent: &str) -> String {
        self.sites.get(agent).cloned().unwrap_or_default()
    }

    /// Notes a sign of life; returns the silences that it ends.
    pub fn heard(&mut self, agent: &str, now_ms: i64) -> Vec<(Arc<Rule>, Silence)> {
        let rules = self.engine.rules();
        self.rosters
            .iter_mut()
            .filter_map(|(index, roster)| {
                roster.heard(agent, monotonic_ms())?;
                let ends = Silence::Ends {
                    agent: agent.to_owned(),
                    at_ms: now_ms,
                };
                Some((Arc::clone(&rules[*index]), ends))
            })
            .collect()
    }

    /// Shifts the rosters by a jump of hub time.
    pub fn jump(&mut self, (before_ms, after_ms): (i64, i64)) {
        let gap = Gap {
            from_ms: before_ms.min(after_ms),
            to_ms: before_ms.max(after_ms),
        };
        for agent in self.sites.keys() {
            self.engine.unheard(agent, gap);
        }
    }

    /// True if the agent's next sign of life ends a silence.
    pub fn is_silent(&self, agent: &str) -> bool {
        self.rosters.values().any(|roster| roster.is_silent(agent))
    }

    /// The agents that have been silent for too long, by the monotonic clock; reported in hub time.
    pub fn overdue(&mut self, now_ms: i64) -> Vec<(Arc<Rule>, Silence)> {
        let rules = self.engine.rules();
        let monotonic_ms = monotonic_ms();
        let by_hub = |silence| match silence {
            Silence::Begins {
                agent,
                heard_ms,
                at_ms,
            } => Silence::Begins {
                agent,
                heard_ms: now_ms.saturating_sub(monotonic_ms - heard_ms),
                at_ms: now_ms.saturating_sub(monotonic_ms - at_ms),
            },
            ends => ends,
        };
        let mut silences = Vec::new();
        for (index, roster) in &mut self.rosters {
            let rule = &rules[*index];
            if !rule.runs(now_ms) {
                continue;
            }
            let begun = roster.overdue(rule.kind.within_ms(), monotonic_ms);
            silences.extend(
                begun
                    .into_iter()
                    .map(|silence| (Arc::clone(rule), by_hub(silence))),
            );
        }
        silences
    }

    /// Replaces the rules. Unchanged rules keep their timelines; the others
    /// are filled from the store.
    pub async fn reload(
        &mut self,
        connection: &mut Connection,
        rules: Vec<Arc<Rule>>,
        centre: &Centre,
        metrics: &IngestMetrics,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut engine = Engine::new(rules, centre.offices());
        let none = Engine::new(Vec::new(), HashMap::new());
        let old = std::mem::replace(&mut self.engine, none);
        // By id: indices change.
        let rosters = std::mem::take(&mut self.rosters);
        let mut kept: HashMap<String, AgentRoster> = rosters
            .into_iter()
            .map(|(index, roster)| (old.rules()[index].id.clone(), roster))
            .collect();
        let others = engine.take_over(old);
        kept.retain(|id, _| !others.contains(id));
        self.begin(connection, engine, &others, kept, (metrics, now_ms))
            .await
    }

    /// Fills the new rules of an engine, and the rosters; `kept` are those of unchanged rules.
    async fn begin(
        &mut self,
        connection: &mut Connection,
        mut engine: Engine,
        others: &[String],
        mut kept: HashMap<String, AgentRoster>,
        (metrics, now_ms): (&IngestMetrics, i64),
    ) -> Result<(), StoreError> {
        let agents = agents::roster(connection).await?;
        for entry in &agents {
            let present_ms = now_ms.saturating_add(WATERMARK_AHEAD_MS_MAX);
            engine.advance(&entry.agent, entry.watermark_ms.min(present_ms));
        }
        if let Some((from_ms, to_ms)) = hub_clock::gap(connection).await? {
            for entry in &agents {
                engine.unheard(&entry.agent, Gap { from_ms, to_ms });
            }
        }
        self.sites = agents
            .iter()
            .map(|entry| (entry.agent.clone(), entry.site.clone()))
            .collect();
        let stations = agents.iter().filter(|entry| entry.station);
        self.stations = stations.map(|entry| entry.agent.clone()).collect();
        engine.only(Some(others));
        let known = occurrences::rules(connection).await?;
        let rules = engine.rules().to_vec();
        let mut changed = Vec::new();
        self.rosters.clear();
        for (index, rule) in rules.iter().enumerate() {
            let since_ms = match known.get(&rule.id) {
                Some((hash, since_ms)) if *hash == rule.hash => *since_ms,
                _ => {
                    changed.push(Arc::clone(rule));
                    now_ms
                }
            };
            match &rule.roster {
                Roster::None => {}
                Roster::Agents => {
                    let open = warnings::open(connection, &rule.id).await?;
                    // An agent of the roster keeps its last sign of life.
                    let mut roster = kept.remove(&rule.id).unwrap_or_default();
                    for entry in &agents {
                        let silent = open.iter().any(|open| open.agent == entry.agent);
                        roster.expect(&entry.agent, monotonic_ms(), silent);
                    }
                    self.rosters.insert(index, roster);
                }
                Roster::Keys(keys) if others.contains(&rule.id) => {
                    for (key, agent) in keys {
                        let site = self.site_of(agent);
                        engine.expect(index, key, &site, agent, since_ms);
                    }
                }
                Roster::Keys(_) => {}
            }
        }
        if !others.is_empty() {
            fill(connection, &mut engine, self.last_chunk, now_ms, metrics).await?;
            self.wait_on(connection, &mut engine, others, now_ms)
                .await?;
        }
        for rule in changed.iter().filter(|rule| rule.kind.reads_store()) {
            backfill(connection, rule, engine.offices(), self.last_chunk, now_ms).await?;
        }
        // Written last: the next start takes only filled rules for filled.
        for rule in changed {
            occurrences::set_rule(connection, &rule.id, &rule.hash, now_ms).await?;
        }
        for id in known.keys() {
            if !rules.iter().any(|rule| rule.id == *id) {
                occurrences::forget_rule(connection, id).await?;
            }
        }
        engine.only(None);
        // The findings of stored events were raised before.
        engine.outcome();
        metrics.rules.set(engine.rules().len() as i64);
        self.engine = engine;
        Ok(())
    }
}

impl PartitionState {
    /// An absence from before the warm-up's range still ends with later events.
    async fn wait_on(
        &self,
        connection: &mut Connection,
        engine: &mut Engine,
        others: &[String],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Some(reach_ms) = engine.reach_ms() else {
            return Ok(());
        };
        let from_ms = now_ms.saturating_sub(reach_ms);
        let rules = engine.rules().to_vec();
        for (index, rule) in rules.iter().enumerate() {
            let waits = rule.kind.waits() && rule.roster != Roster::Agents;
            if !waits || !others.contains(&rule.id) {
                continue;
            }
            for open in warnings::open(connection, &rule.id).await? {
                let since_ms = open.until_ms.saturating_sub(rule.kind.within_ms());
                if since_ms < from_ms {
                    engine.begin_at(from_ms);
                    engine.expect(index, &open.key, &open.site, &open.agent, since_ms);
                }
            }
        }
        Ok(())
    }
}

/// Reads the ids, and fills the timelines of the rules from the stored events.
pub async fn warm_up(
    connection: &mut Connection,
    rules: &[Arc<Rule>],
    centre: &Centre,
    metrics: &IngestMetrics,
    now_ms: i64,
) -> Result<PartitionState, StoreError> {
    let (last_chunk, last_quarantine) = chunks::last_ids(connection).await?;
    let mut memory = PartitionState {
        positions: HashMap::new(),
        engine: Engine::new(Vec::new(), HashMap::new()),
        rosters: HashMap::new(),
        sites: HashMap::new(),
        stations: HashSet::new(),
        floods: Floods::default(),
        withheld_logged: HashSet::new(),
        last_chunk,
        last_quarantine,
        last_warning: warnings::last_id(connection).await?,
        last_case: cases::last_id(connection).await?,
        last_outbox: outbox::last_id(connection).await?,
    };
    let started = std::time::Instant::now();
    let engine = Engine::new(rules.to_vec(), centre.offices());
    let all: Vec<String> = rules.iter().map(|rule| rule.id.clone()).collect();
    let none = HashMap::new();
    memory
        .begin(connection, engine, &all, none, (metrics, now_ms))
        .await?;
    metrics.recall_seconds.set(started.elapsed().as_secs_f64());
    Ok(memory)
}

/// Notes the stored events of a new or changed rule that reads the store.
async fn backfill(
    connection: &mut Connection,
    rule: &Arc<Rule>,
    offices: HashMap<String, String>,
    last_chunk: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    occurrences::forget(connection, &rule.id).await?;
    let mut engine = Engine::new(vec![Arc::clone(rule)], offices);
    let mut kinds: Vec<String> = rule.steps.iter().map(|step| step.kind.clone()).collect();
    kinds.sort();
    kinds.dedup();
    let from_ms = now_ms.saturating_sub(rule.kind.reach_ms());
    let floor = (last_chunk - ROWS_MAX).max(0);
    let mut last = last_chunk;
    while last > floor {
        let after = (last - PAGE_ROWS).max(floor);
        let page = chunks::replay(connection, &kinds, from_ms, after, last).await?;
        if page.newest_ms.is_some_and(|newest_ms| newest_ms < from_ms) {
            break;
        }
        for stored in &page.chunks {
            observe(&mut engine, stored, now_ms);
        }
        let rows: Vec<_> = engine
            .outcome()
            .occurrences
            .iter()
            .map(|occurrence| row(&engine, occurrence))
            .collect();
        occurrences::insert(connection, &rows).await?;
        last = after;
        systemd::alive();
    }
    if last == floor && floor > 0 {
        tracing::warn!(
            rule = rule.id,
            rows = ROWS_MAX,
            "the past of a rule is not read to its beginning: it may miss what happened before; make its `within` shorter"
        );
    }
    Ok(())
}

/// An event of a rule as the store has it.
pub fn row(engine: &Engine, occurrence: &Occurrence) -> OccurrenceRow {
    let source = engine.source_of(&occurrence.entry);
    OccurrenceRow {
        rule: engine.rules()[occurrence.rule].id.clone(),
        key: occurrence.key.clone(),
        at_ms: occurrence.entry.at_ms,
        agent: source.agent.to_string(),
        lane: source.lane,
        epoch: source.epoch,
        sequence: occurrence.entry.sequence,
        site: source.site.to_string(),
        steps: occurrence.entry.steps,
        received_s: occurrence.entry.received_s,
        delivery: occurrence.entry.delivery,
    }
}

/// Newest page first, until a page is older than all windows: the order of arrival does not decide
/// what fires, and older years are not read.
async fn fill(
    connection: &mut Connection,
    engine: &mut Engine,
    last_chunk: i64,
    now_ms: i64,
    metrics: &IngestMetrics,
) -> Result<(), StoreError> {
    let Some(reach_ms) = engine.reach_ms() else {
        return Ok(());
    };
    let started = std::time::Instant::now();
    let kinds: Vec<String> = engine
        .kinds_in_memory()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let from_ms = now_ms.saturating_sub(reach_ms);
    let floor = (last_chunk - ROWS_MAX).max(0);
    let mut last = last_chunk;
    let mut events = 0;
    let mut reached = floor == 0;
    let mut read_to_ms = now_ms;
    while last > floor {
        let after = (last - PAGE_ROWS).max(floor);
        let page = chunks::replay(connection, &kinds, from_ms, after, last).await?;
        read_to_ms = page.newest_ms.unwrap_or(read_to_ms);
        if page.newest_ms.is_some_and(|newest_ms| newest_ms < from_ms) {
            reached = true;
            engine.begin_at(from_ms);
            break;
        }
        for stored in &page.chunks {
            events += observe(engine, stored, now_ms);
        }
        last = after;
        systemd::alive();
    }
    metrics.recall_cut.set(i64::from(!reached));
    if !reached {
        engine.begin_at(read_to_ms);
        tracing::warn!(
            rows = ROWS_MAX,
            "the windows of the rules are not filled to their beginning: rules with long windows may miss what happened before; make their `within` shorter"
        );
    }
    tracing::info!(
        events,
        took_ms = started.elapsed().as_millis() as u64,
        "the windows of the rules are filled from the store"
    );
    Ok(())
}

/// Passes the events of a stored chunk to the rules; returns how many.
fn observe(engine: &mut Engine, stored: &StoredChunk, now_ms: i64) -> usize {
    let events = match stored.chunk.events() {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(row = stored.id, error = %telemetry::chain(&error), "a stored chunk cannot be read");
            return 0;
        }
    };
    let header = stored.chunk.header();
    let count = events.len();
    for (index, mut event) in events.into_iter().enumerate() {
        if stored.withholds(&event.kind) {
            continue;
        }
        correct(&mut event, stored.clocks, stored.stored_ms);
        let origin = Origin {
            site: &stored.site,
            agent: &stored.agent,
            lane: header.lane,
            epoch: header.epoch.0,
            sequence: header.first.0 + index as u64,
        };
        engine.observe(&event, &origin, now_ms);
    }
    count
}
