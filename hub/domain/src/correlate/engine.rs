//! The engine: rules by kind of event, timelines by key. It accepts events and watermarks in any order and
//! reports the touched keys; `hits` and `revise` derive the effects on warnings.
use hashbrown::HashMap as FastMap;
use linli_shared::protocol::event::{AGENT_STARTED, Delivery, Event};
use linli_shared::protocol::ids::Lane;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::coverage::{Coverage, Gap};
use super::hits::View;
use super::rule::{Kind, Roster, Rule, Subject};
use super::timeline::{Entry, Placed, Source, Timeline};
use super::timing::Timing;
use super::{AHEAD_MS_MAX, Finding, HORIZON_MS, Origin, Reason};

/// Minimum event time between two sweeps of expired timelines, milliseconds.
const SWEEP_MS: i64 = 3_600_000;
/// A full timeline first evicts events older than its window plus this, milliseconds.
const SLACK_MS: i64 = 3_600_000;
/// Maximum number of keys in memory of one rule that reads the store.
const STORE_KEYS_MAX: usize = 20_000;
/// The step that marks the start of the wait for a thing on a roster. No rule has so many steps.
const SINCE_STEP: u16 = 1 << 15;

/// Counters of one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events evaluated.
    pub evaluated: u64,
    /// Events refused or evicted because of a limit.
    pub overflow: u64,
    /// Events too old or too far ahead: imported history, wrong clocks.
    pub beyond: u64,
}

/// The event that touched a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Kind of the event; empty if only time has passed.
    pub kind: String,
    /// Time of the event, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Identity of the event: `agent/lane/epoch/sequence`; empty if only time has passed.
    pub event: String,
}

/// A key of a rule whose hits changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Index of the rule in [`Engine::rules`].
    pub rule: usize,
    /// The key.
    pub key: String,
    /// Start of the changed time, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// End of the changed time, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Number of new events that are hits themselves.
    pub fresh_hits: i64,
    /// The last event that touched the key.
    pub cause: Trigger,
}

/// An event for a rule that reads the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Index of the rule in [`Engine::rules`].
    pub rule: usize,
    /// The key.
    pub key: String,
    /// The event as an entry of a timeline.
    pub entry: Entry,
    /// The event.
    pub cause: Trigger,
    /// The key's timeline is in memory and contains the event; if false, see [`Engine::remember`].
    pub is_known: bool,
}

/// An event of a `match` rule that is older than its timelines reach. It is a hit by itself and needs no
/// timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    /// Index of the rule in [`Engine::rules`].
    pub rule: usize,
    /// The key.
    pub key: String,
    /// The finding of this one event.
    pub finding: Finding,
}

/// A rule reached a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overflow {
    /// Index of the rule in [`Engine::rules`].
    pub rule: usize,
    /// Site of the event.
    pub site: String,
    /// Agent of the event.
    pub agent: String,
    /// Time of the event, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The limit: `max_keys` or `max_events`.
    pub limit: &'static str,
}

#[derive(Debug, Default)]
struct RuleState {
    timelines: FastMap<Box<str>, Timeline>,
    overflowed: bool,
    /// Time of the latest event, for the eviction of expired ones.
    latest_ms: i64,
    swept_ms: i64,
    /// Entries before this time were evicted; empty keys were removed.
    kept_ms: Option<i64>,
    counts: Counts,
}

/// The results since the last call of [`Engine::outcome`].
#[derive(Debug, Default)]
pub struct EngineChanges {
    /// Keys whose hits changed.
    pub touched: Vec<Touched>,
    /// Events for rules that read the store.
    pub occurrences: Vec<Occurrence>,
    /// Old events of `match` rules.
    pub outdated: Vec<Outdated>,
    /// Limits reached for the first time.
    pub overflows: Vec<Overflow>,
}

/// Rule and key → first and last due time.
type Due = HashMap<(usize, Box<str>), (i64, i64)>;

/// Timers by agent: (time, rule, key).
type Timers = HashMap<Arc<str>, BTreeSet<(i64, usize, Box<str>)>>;

/// All rules and their timelines.
pub struct Engine {
    rules: Vec<Arc<Rule>>,
    /// Kind of event → rules, each with the indices of its steps of that kind.
    by_kind: HashMap<String, Vec<(usize, Vec<u8>)>>,
    states: Vec<RuleState>,
    sources: Vec<Source>,
    source_numbers: HashMap<Source, u32>,
    last_source: u32,
    /// Site → office.
    offices: HashMap<String, Arc<str>>,
    coverage: Coverage,
    timers: Timers,
    touched: HashMap<(usize, Box<str>), Touched>,
    occurrences: Vec<Occurrence>,
    outdated: Vec<Outdated>,
    overflows: Vec<Overflow>,
    /// Rules that read the store keep their timelines here instead, and nothing is written.
    in_memory: bool,
    /// Events before this time were not read.
    base_ms: i64,
    /// If set, only these rules accept events, during a warm-up in which nobody reads the outcome.
    only: Option<Vec<bool>>,
    key: String,
}

/// How far back these rules read stored events, milliseconds; `None` if none of them does.
pub fn reach_ms(rules: &[Arc<Rule>]) -> Option<i64> {
    let windows = rules.iter().filter(|rule| !rule.kind.reads_store());
    let longest_ms = windows.map(|rule| rule.kind.within_ms()).max()?;
    Some(HORIZON_MS + longest_ms)
}

impl Engine {
    /// An engine without events. `offices`: site → office.
    pub fn new(rules: Vec<Arc<Rule>>, offices: HashMap<String, String>) -> Self {
        let mut engine = Self {
            rules: Vec::new(),
            by_kind: HashMap::new(),
            states: Vec::new(),
            sources: Vec::new(),
            source_numbers: HashMap::new(),
            last_source: 0,
            offices: offices
                .into_iter()
                .map(|(site, office)| (site, office.into()))
                .collect(),
            coverage: Coverage::default(),
            timers: Timers::new(),
            touched: HashMap::new(),
            occurrences: Vec::new(),
            outdated: Vec::new(),
            overflows: Vec::new(),
            in_memory: false,
            base_ms: i64::MIN,
            only: None,
            key: String::new(),
        };
        engine.set_rules(rules);
        engine
    }

    /// The same, with the timelines of rules that read the store in memory too: for replays.
    pub fn in_memory(rules: Vec<Arc<Rule>>, offices: HashMap<String, String>) -> Self {
        Self {
            in_memory: true,
            ..Self::new(rules, offices)
        }
    }

    fn set_rules(&mut self, rules: Vec<Arc<Rule>>) {
        self.by_kind.clear();
        for (index, rule) in rules.iter().enumerate() {
            for (step, wanted) in rule.steps.iter().enumerate() {
                let wanted_by = self.by_kind.entry(wanted.kind.clone()).or_default();
                match wanted_by.last_mut() {
                    Some((last, steps)) if *last == index => steps.push(step as u8),
                    _ => wanted_by.push((index, vec![step as u8])),
                }
            }
        }
        self.states = rules.iter().map(|_| RuleState::default()).collect();
        self.rules = rules;
    }

    /// The rules, in the order of their indices.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Site → office.
    pub fn offices(&self) -> HashMap<String, String> {
        self.offices
            .iter()
            .map(|(site, office)| (site.clone(), office.to_string()))
            .collect()
    }

    /// Events before this time were not read, so findings that need them are unknown.
    pub fn begin_at(&mut self, base_ms: i64) {
        self.base_ms = base_ms;
    }

    /// Takes over from another engine the timelines of all identical rules, and the coverage of agents.
    /// Returns the ids of rules that are new or changed.
    pub fn take_over(&mut self, mut old: Engine) -> Vec<String> {
        // Timelines contain numbers of sources, so the table of sources moves with them.
        self.sources = std::mem::take(&mut old.sources);
        self.source_numbers = std::mem::take(&mut old.source_numbers);
        self.coverage = old.coverage;
        self.base_ms = old.base_ms;
        let mut moved = HashMap::new();
        let mut others = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let before = old
                .rules
                .iter()
                .position(|other| other.id == rule.id && other.hash == rule.hash);
            match before {
                Some(before) => {
                    self.states[index] = std::mem::take(&mut old.states[before]);
                    moved.insert(before, index);
                }
                None => others.push(rule.id.clone()),
            }
        }
        for (agent, timers) in old.timers {
            let kept = timers.into_iter().filter_map(|(due_ms, rule, key)| {
                moved.get(&rule).map(|rule| (due_ms, *rule, key))
            });
            self.timers.insert(agent, kept.collect());
        }
        others
    }

    /// From now on only these rules accept events, and they touch no keys; `None`: all rules accept events
    /// and touch their keys.
    pub fn only(&mut self, ids: Option<&[String]>) {
        self.only = ids.map(|ids| {
            self.rules
                .iter()
                .map(|rule| ids.contains(&rule.id))
                .collect()
        });
    }

    /// How far back a start must read events, milliseconds; `None` if no rule has a window in memory. A late
    /// event within the horizon looks back by a whole window.
    pub fn reach_ms(&self) -> Option<i64> {
        reach_ms(&self.rules)
    }

    /// The kinds of events that timelines in memory contain.
    pub fn kinds_in_memory(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self
            .by_kind
            .iter()
            .filter(|(_, wanted_by)| {
                wanted_by
                    .iter()
                    .any(|(rule, _)| !self.rules[*rule].kind.reads_store())
            })
            .map(|(kind, _)| kind.as_str())
            .collect();
        if self.rules.iter().any(|rule| rule.kind.waits()) {
            kinds.push(AGENT_STARTED);
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The counters of each rule, by id.
    pub fn counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.rules
            .iter()
            .zip(&self.states)
            .map(|(rule, state)| (rule.id.as_str(), state.counts))
    }

    /// Number of keys in memory.
    pub fn keys(&self) -> usize {
        self.states.iter().map(|state| state.timelines.len()).sum()
    }

    /// Memory of the timelines and their keys, bytes.
    pub fn bytes(&self) -> usize {
        let state = |state: &RuleState| -> usize {
            let entry = size_of::<(Box<str>, Timeline)>() + 1;
            let heap: usize = state
                .timelines
                .iter()
                .map(|(key, timeline)| key.len() + timeline.bytes() - size_of::<Timeline>())
                .sum();
            state.timelines.capacity() * entry + heap
        };
        self.states.iter().map(state).sum()
    }

    /// The watermarks and gaps of agents.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The watermark of an agent, milliseconds since 1970 UTC.
    pub fn watermark_ms(&self, agent: &str) -> i64 {
        self.coverage.watermark_ms(agent)
    }

    /// The number of a source; assigns one if it is new.
    pub fn source(&mut self, origin: &Origin<'_>) -> u32 {
        let same = |source: &Source| {
            source.epoch == origin.epoch
                && source.lane == origin.lane
                && *source.agent == *origin.agent
                && *source.site == *origin.site
        };
        if self
            .sources
            .get(self.last_source as usize)
            .is_some_and(same)
        {
            return self.last_source;
        }
        let source = Source {
            agent: origin.agent.into(),
            lane: origin.lane,
            epoch: origin.epoch,
            site: origin.site.into(),
        };
        let next = self.sources.len() as u32;
        self.last_source = *self.source_numbers.entry(source.clone()).or_insert(next);
        if self.last_source == next {
            self.sources.push(source);
        }
        self.last_source
    }

    /// Starts the wait for a thing on a roster, at `since_ms`, by its agent. For an absence: the wait began
    /// with an event that is no longer read.
    pub fn expect(&mut self, rule: usize, key: &str, site: &str, agent: &str, since_ms: i64) {
        let origin = Origin {
            site,
            agent,
            lane: Lane::Routine,
            epoch: 0,
            sequence: 0,
        };
        let entry = Entry {
            at_ms: since_ms,
            sequence: 0,
            source: self.source(&origin),
            value: 0,
            received_s: Timing::since(since_ms).received_s(),
            steps: SINCE_STEP | self.rules[rule].on_mask(),
            delivery: Delivery::Live,
        };
        let timelines = &mut self.states[rule].timelines;
        let timeline = timelines.entry(Box::from(key)).or_default();
        timeline.insert(entry, &self.sources);
        self.arm(rule, key, entry);
    }

    /// Evaluates one event. Times after `now_ms` lie in the future.
    pub fn observe(&mut self, event: &Event, origin: &Origin<'_>, now_ms: i64) {
        if let Some(gap) = Gap::before_start(event) {
            self.note_gap(gap, event, origin);
        }
        let Some(wanted_by) = self.by_kind.get(event.kind.as_str()) else {
            return;
        };
        let timing = Timing::of(event);
        let office = self.offices.get(origin.site).cloned();
        let subject = Subject {
            event,
            site: origin.site,
            agent: origin.agent,
            office: office.as_deref().unwrap_or(origin.site),
        };
        let mut wanted: smallvec::SmallVec<[(usize, u16); 8]> = smallvec::SmallVec::new();
        for (index, steps) in wanted_by {
            let rule = &self.rules[*index];
            if self.only.as_ref().is_some_and(|only| !only[*index]) || !rule.runs(now_ms) {
                continue;
            }
            // Imported history is the past of rules that look back; other rules ignore it.
            if timing.delivery == Delivery::History && !rule.kind.reads_store() {
                continue;
            }
            let mut fitting = 0u16;
            for step in steps {
                if rule.steps[usize::from(*step)].fits(subject) {
                    fitting |= 1 << step;
                }
            }
            let state = &mut self.states[*index];
            state.counts.evaluated += 1;
            // Hours do not restrict the steps of `until` and `unless`.
            if !rule.in_hours(timing.at_ms) {
                fitting &= rule.off_mask();
            }
            if fitting != 0 {
                wanted.push((*index, fitting));
            }
        }
        for (index, steps) in wanted {
            let rule = Arc::clone(&self.rules[index]);
            let mut key = std::mem::take(&mut self.key);
            if rule.write_key(subject, &mut key) {
                self.take(index, &rule, &key, steps, (subject, timing), origin, now_ms);
            }
            self.key = key;
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one event in all its aspects, taken apart once"
    )]
    fn take(
        &mut self,
        index: usize,
        rule: &Rule,
        key: &str,
        steps: u16,
        (subject, timing): (Subject<'_>, Timing),
        origin: &Origin<'_>,
        now_ms: i64,
    ) {
        let on_roster = match &rule.roster {
            Roster::Keys(keys) => keys.get(key).is_some_and(|agent| agent == origin.agent),
            _ => true,
        };
        let value = match &rule.distinct {
            None => 0,
            Some(field) => match field.of(subject) {
                Some(value) => crc32c(value),
                None => return,
            },
        };
        if !on_roster {
            return;
        }
        // For `all_of` an event counts for the first step that it fits only.
        let steps = match rule.kind {
            Kind::AllOf { .. } => steps & steps.wrapping_neg(),
            _ => steps,
        };
        let timing = if rule.kind.reads_store() {
            timing.looking_back()
        } else {
            timing
        };
        let entry = Entry {
            at_ms: timing.at_ms,
            sequence: origin.sequence,
            source: self.source(origin),
            value,
            received_s: timing.received_s(),
            steps,
            delivery: timing.delivery,
        };
        if rule.kind.reads_store() && !self.in_memory {
            let is_known = self.states[index].timelines.contains_key(key);
            self.occurrences.push(Occurrence {
                rule: index,
                key: key.to_owned(),
                entry,
                cause: cause(subject.event, origin),
                is_known,
            });
            if !is_known {
                return;
            }
        }
        let state = &mut self.states[index];
        // A warm-up also reads the events in the windows of late events.
        let horizon_ms = match (rule.kind.reads_store(), self.only.is_some()) {
            (true, _) => i64::MAX,
            (false, true) => HORIZON_MS.saturating_add(rule.kind.reach_ms()),
            (false, false) => HORIZON_MS,
        };
        let Some(room) = state.room(rule, key, entry.at_ms, horizon_ms, now_ms) else {
            self.overflow(index, origin, entry.at_ms, "max_keys");
            return;
        };
        if !room {
            self.note_beyond(index, key, entry, (subject, timing), origin);
            return;
        }
        let Some(timeline) = state.timelines.get_mut(key) else {
            return;
        };
        let at = match timeline.insert(entry, &self.sources) {
            Placed::At(at) => at,
            Placed::Known => return,
            Placed::TooOld => {
                if !matches!(rule.kind, Kind::Match) {
                    self.overflow(index, origin, entry.at_ms, "max_events");
                }
                self.note_beyond(index, key, entry, (subject, timing), origin);
                return;
            }
        };
        let view = View::of(rule, timeline, &self.sources, &self.coverage);
        if self.only.is_none()
            && let Some((from_ms, to_ms)) = view.touched(at)
        {
            let fresh = i64::from(view.holds(at));
            let cause = cause(subject.event, origin);
            self.touch(index, key, (from_ms, to_ms), fresh, cause);
        }
        self.thin(index, rule, key, at, origin, now_ms);
        if rule.kind.waits() {
            self.arm(index, key, entry);
        }
    }

    /// An event is too old for its timeline. For `match`, where each event is a hit by itself, it is found
    /// all the same.
    fn note_beyond(
        &mut self,
        index: usize,
        key: &str,
        entry: Entry,
        (subject, timing): (Subject<'_>, Timing),
        origin: &Origin<'_>,
    ) {
        if !matches!(self.rules[index].kind, Kind::Match) {
            self.states[index].counts.beyond += 1;
            return;
        }
        if self.only.is_some() {
            return;
        }
        self.outdated.push(Outdated {
            rule: index,
            key: key.to_owned(),
            finding: Finding {
                site: origin.site.to_owned(),
                agent: origin.agent.to_owned(),
                from_ms: timing.at_ms,
                to_ms: timing.at_ms,
                hits: 1,
                reasons: vec![Reason {
                    event: origin.identity(),
                    kind: subject.event.kind.clone(),
                    at_ms: timing.at_ms,
                }],
                values: String::new(),
                ended_ms: None,
                arrived_ms: entry.live_ms(),
            },
        });
    }

    fn touch(
        &mut self,
        rule: usize,
        key: &str,
        (from_ms, to_ms): (i64, i64),
        fresh_hits: i64,
        cause: Trigger,
    ) {
        let place = (rule, Box::from(key));
        match self.touched.get_mut(&place) {
            Some(touched) => {
                touched.from_ms = touched.from_ms.min(from_ms);
                touched.to_ms = touched.to_ms.max(to_ms);
                touched.fresh_hits += fresh_hits;
                touched.cause = cause;
            }
            None => {
                let touched = Touched {
                    rule,
                    key: key.to_owned(),
                    from_ms,
                    to_ms,
                    fresh_hits,
                    cause,
                };
                self.touched.insert(place, touched);
            }
        }
    }

    /// Evicts entries that no longer matter, and the oldest ones if the timeline is full.
    fn thin(
        &mut self,
        index: usize,
        rule: &Rule,
        key: &str,
        at: usize,
        origin: &Origin<'_>,
        now_ms: i64,
    ) {
        let state = &mut self.states[index];
        let Some(timeline) = state.timelines.get_mut(key) else {
            return;
        };
        if let Kind::Silent { within_ms } = rule.kind {
            // Between two neighbours that are close there can be no silence, so the entry between them is
            // redundant.
            for middle in [Some(at), at.checked_sub(1)].into_iter().flatten() {
                let entries = timeline.entries();
                let near = middle >= 1
                    && middle + 1 < entries.len()
                    && entries[middle + 1]
                        .at_ms
                        .saturating_sub(entries[middle - 1].at_ms)
                        <= within_ms;
                if near {
                    timeline.remove(middle);
                }
            }
        }
        let count = timeline.entries().len();
        if count <= rule.max_events {
            return;
        }
        // An event from a clock that is ahead must not evict events of the present.
        let present_ms = now_ms.saturating_add(AHEAD_MS_MAX);
        if timeline.entries()[count - 1].at_ms > present_ms {
            timeline.forget_last();
            state.counts.overflow += 1;
            return;
        }
        let latest_ms = timeline.entries()[count - 1].at_ms;
        let spare_ms = latest_ms.saturating_sub(rule.kind.reach_ms().saturating_add(SLACK_MS));
        let spare = timeline.at_or_after(spare_ms);
        if spare > 0 {
            timeline.forget_first(spare);
            return;
        }
        let lost = (count / 8).max(1);
        timeline.forget_first(lost);
        state.counts.overflow += lost as u64;
        let at_ms = latest_ms;
        // For `match` each event is a hit by itself: the eviction loses nothing.
        if !matches!(rule.kind, Kind::Match) {
            self.overflow(index, origin, at_ms, "max_events");
        }
    }

    fn overflow(&mut self, rule: usize, origin: &Origin<'_>, at_ms: i64, limit: &'static str) {
        let state = &mut self.states[rule];
        if std::mem::replace(&mut state.overflowed, true) {
            return;
        }
        self.overflows.push(Overflow {
            rule,
            site: origin.site.to_owned(),
            agent: origin.agent.to_owned(),
            at_ms,
            limit,
        });
    }

    /// Records a gap of an agent without touching keys: no earlier decision depends on it.
    pub fn unheard(&mut self, agent: &str, gap: Gap) {
        self.coverage.gap(&agent.into(), gap);
    }

    /// Records a gap of an agent and touches the keys whose silence fell into it.
    fn note_gap(&mut self, gap: Gap, event: &Event, origin: &Origin<'_>) {
        let Gap { from_ms, to_ms } = gap;
        let agent: Arc<str> = origin.agent.into();
        self.coverage.gap(&agent, gap);
        let mut touched = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.kind.waits() {
                continue;
            }
            let within_ms = rule.kind.within_ms();
            for (key, timeline) in &self.states[index].timelines {
                let first = timeline.at_or_after(from_ms.saturating_sub(within_ms));
                let waits = timeline.entries()[first..]
                    .iter()
                    .take_while(|entry| entry.at_ms < to_ms)
                    .any(|entry| *self.sources[entry.source as usize].agent == *agent);
                if waits {
                    touched.push((index, key.clone()));
                }
            }
        }
        for (index, key) in touched {
            let within_ms = self.rules[index].kind.within_ms();
            let span = (from_ms, to_ms.saturating_add(within_ms));
            self.touch(index, &key, span, 0, cause(event, origin));
        }
    }

    /// Sets the timer of an undecided wait for its agent. A thing on a roster has one agent and one timer,
    /// which is renewed from its last event; other keys can have events of several agents.
    fn arm(&mut self, index: usize, key: &str, entry: Entry) {
        let rule = &self.rules[index];
        let agent = &self.sources[entry.source as usize].agent;
        let due_ms = entry.at_ms.saturating_add(rule.kind.within_ms());
        if !entry.any(rule.on_mask()) || due_ms <= self.coverage.watermark_ms(agent) {
            return;
        }
        if matches!(rule.kind, Kind::Silent { .. }) {
            let Some(timeline) = self.states[index].timelines.get_mut(key) else {
                return;
            };
            if timeline.armed_ms != 0 {
                return;
            }
            timeline.armed_ms = due_ms;
        }
        let timers = self.timers.entry(agent.clone()).or_default();
        timers.insert((due_ms, index, Box::from(key)));
    }

    /// True if a wait is decided once this agent's watermark reaches `watermark_ms`.
    pub fn is_due(&self, agent: &str, watermark_ms: i64) -> bool {
        self.timers
            .get(agent)
            .and_then(|timers| timers.first())
            .is_some_and(|(due_ms, ..)| *due_ms <= watermark_ms)
    }

    /// Sets the watermark of an agent and decides the waits that are due.
    pub fn advance(&mut self, agent: &str, watermark_ms: i64) {
        let agent: Arc<str> = agent.into();
        self.coverage.advance(&agent, watermark_ms);
        if let Some(due) = self.due(&agent, watermark_ms) {
            for ((index, key), (from_ms, to_ms)) in due {
                let rule = Arc::clone(&self.rules[index]);
                // The only timer of a thing on a roster covers all its events up to now.
                let to_ms = match rule.kind {
                    Kind::Silent { .. } => watermark_ms,
                    _ => to_ms,
                };
                let Some(timeline) = self.states[index].timelines.get_mut(&key) else {
                    continue;
                };
                timeline.armed_ms = 0;
                let last = timeline.entries().last().copied();
                let view = View::of(&rule, timeline, &self.sources, &self.coverage);
                if view.any_hit(from_ms, to_ms) {
                    let cause = Trigger {
                        kind: String::new(),
                        at_ms: watermark_ms,
                        event: String::new(),
                    };
                    self.touch(index, &key, (from_ms, to_ms), 1, cause);
                }
                if let (Kind::Silent { .. }, Some(last)) = (&rule.kind, last) {
                    self.arm(index, &key, last);
                }
            }
        }
    }

    /// Removes and returns the due keys, each with its first and last due time; `None` if there are none.
    fn due(&mut self, agent: &Arc<str>, watermark_ms: i64) -> Option<Due> {
        let timers = self.timers.get_mut(agent)?;
        let mut due = Due::new();
        while timers
            .first()
            .is_some_and(|(due_ms, ..)| *due_ms <= watermark_ms)
        {
            let (due_ms, index, key) = timers.pop_first()?;
            due.entry((index, key))
                .and_modify(|(_, to_ms)| *to_ms = due_ms)
                .or_insert((due_ms, due_ms));
        }
        (!due.is_empty()).then_some(due)
    }

    /// Removes and returns the results since the last call.
    pub fn outcome(&mut self) -> EngineChanges {
        let mut touched: Vec<Touched> = self.touched.drain().map(|(_, touched)| touched).collect();
        // Sorted by time and rule, so that the numbers of warnings do not depend on a hash.
        touched.sort_by(|one, other| {
            (one.from_ms, one.rule, &one.key).cmp(&(other.from_ms, other.rule, &other.key))
        });
        EngineChanges {
            touched,
            occurrences: std::mem::take(&mut self.occurrences),
            outdated: std::mem::take(&mut self.outdated),
            overflows: std::mem::take(&mut self.overflows),
        }
    }

    /// True if [`Engine::outcome`] would return a result.
    pub fn has_outcome(&self) -> bool {
        !(self.touched.is_empty()
            && self.occurrences.is_empty()
            && self.outdated.is_empty()
            && self.overflows.is_empty())
    }

    /// The findings of a key that touch the time from `from_ms` to `to_ms`, and the time since which all
    /// events are known.
    pub fn findings(
        &self,
        rule: usize,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> (Vec<Finding>, i64) {
        // Without a timeline nothing is known, and existing warnings stay as they are.
        let Some(timeline) = self.states[rule].timelines.get(key) else {
            return (Vec::new(), i64::MAX);
        };
        let view = self.view(rule, timeline);
        let kind = &view.rule.kind;
        let base_ms = (!kind.reads_store()).then_some(self.base_ms);
        let kept_ms = self.states[rule].kept_ms;
        let known_from_ms = match timeline.floor_ms().max(base_ms).max(kept_ms) {
            None | Some(i64::MIN) => i64::MIN,
            Some(floor_ms) => floor_ms.saturating_add(kind.reach_ms()).saturating_add(1),
        };
        (view.findings(from_ms, to_ms), known_from_ms)
    }

    /// A timeline with everything that decides its rule.
    fn view<'a>(&'a self, rule: usize, timeline: &'a Timeline) -> View<'a> {
        View::of(&self.rules[rule], timeline, &self.sources, &self.coverage)
    }

    /// True if the timeline of a key is in memory.
    pub fn knows(&self, rule: usize, key: &str) -> bool {
        self.states[rule].timelines.contains_key(key)
    }

    /// Loads the stored events of a key into memory. `fresh` are those among them that have just arrived.
    pub fn remember(
        &mut self,
        rule: usize,
        key: &str,
        events: Vec<Entry>,
        floor_ms: Option<i64>,
        fresh: &[(Entry, Trigger)],
    ) {
        let state = &mut self.states[rule];
        if state.timelines.len() >= STORE_KEYS_MAX {
            // Their timelines are read again on demand.
            state.timelines.clear();
        }
        let mut timeline = Timeline::default();
        for entry in events {
            timeline.insert(entry, &self.sources);
        }
        if let Some(floor_ms) = floor_ms {
            timeline.begin_at(floor_ms);
        }
        let view = self.view(rule, &timeline);
        let mut touched = Vec::new();
        for (entry, cause) in fresh {
            let at = timeline.entries().iter().position(|other| {
                (other.at_ms, other.sequence, other.source)
                    == (entry.at_ms, entry.sequence, entry.source)
            });
            if let Some(at) = at
                && let Some(span) = view.touched(at)
            {
                touched.push((span, i64::from(view.holds(at)), cause.clone()));
            }
        }
        for (span, fresh_hits, cause) in touched {
            self.touch(rule, key, span, fresh_hits, cause);
        }
        self.states[rule].timelines.insert(Box::from(key), timeline);
    }

    /// The timeline of a key.
    #[cfg(test)]
    pub fn timeline(&self, rule: usize, key: &str) -> Option<&Timeline> {
        self.states[rule].timelines.get(key)
    }

    /// The source of an entry.
    pub fn source_of(&self, entry: &Entry) -> &Source {
        &self.sources[entry.source as usize]
    }
}

impl RuleState {
    /// Ensures a timeline for a key. Expired entries are evicted now and then, at a constant cost per event.
    /// `None`: no room for another key; false: the event is too old or in the future.
    fn room(
        &mut self,
        rule: &Rule,
        key: &str,
        at_ms: i64,
        horizon: i64,
        now_ms: i64,
    ) -> Option<bool> {
        // An event in the future must not make all others too old.
        self.latest_ms = self.latest_ms.max(at_ms.min(now_ms));
        let horizon_ms = self.latest_ms.saturating_sub(horizon);
        // An event this far ahead shares no window with the present, and its window would never end.
        if at_ms < horizon_ms || at_ms > now_ms.saturating_add(HORIZON_MS) {
            return Some(false);
        }
        let within_ms = rule.kind.reach_ms();
        if !rule.kind.reads_store()
            && self.latest_ms.saturating_sub(self.swept_ms) > within_ms.max(SWEEP_MS)
        {
            self.swept_ms = self.latest_ms;
            // A late event within the horizon looks back by a whole window.
            let kept_ms = horizon_ms.saturating_sub(within_ms);
            self.kept_ms = self.kept_ms.max(Some(kept_ms));
            let roomy = self.timelines.len() < rule.max_keys / 2;
            self.timelines.retain(|_, timeline| {
                let old = timeline.at_or_after(kept_ms);
                // An event that still waits is kept, because a late event can end its wait; except where keys
                // that never end would take the room of others.
                let last = timeline.entries().len().saturating_sub(1);
                let keeps_last = roomy || matches!(rule.kind, Kind::Silent { .. });
                let waits = keeps_last
                    && rule.kind.waits()
                    && timeline.entries()[last..]
                        .iter()
                        .any(|entry| entry.any(rule.on_mask()));
                timeline.forget_first(if waits { old.min(last) } else { old });
                !timeline.entries().is_empty()
            });
            self.overflowed &= self.timelines.len() >= rule.max_keys;
        }
        if !self.timelines.contains_key(key) {
            if self.timelines.len() >= rule.max_keys {
                self.counts.overflow += 1;
                return None;
            }
            self.timelines.insert(Box::from(key), Timeline::default());
        }
        Some(true)
    }
}

fn cause(event: &Event, origin: &Origin<'_>) -> Trigger {
    Trigger {
        kind: event.kind.clone(),
        at_ms: event.occurred_at_ms,
        event: origin.identity(),
    }
}

/// Hash of a value; `distinct` compares hashes.
fn crc32c(value: &str) -> u32 {
    crc32c::crc32c(value.as_bytes())
}

#[cfg(test)]
mod tests;
