//! The engine: rules by kind of event, windows by key.
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::Lane;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::rule::{Kind, Rule};
use super::{Firing, HORIZON_MS, KEY_EVENTS_MAX, KEYS_MAX, Origin, Reason};

/// Windows that are over are looked for no more often than this, by the time of events, milliseconds.
const SWEEP_MS: i64 = 3_600_000;

/// An event in a window. Small: a key can hold a thousand.
#[derive(Debug, Clone)]
struct Seen {
    at_ms: i64,
    agent: Arc<str>,
    lane: Lane,
    epoch: u64,
    sequence: u64,
}

/// The window of one key: for each step, its events by time. Rules that count hold all in one.
type Window = Vec<VecDeque<Seen>>;

#[derive(Debug, Default)]
struct RuleState {
    windows: HashMap<String, Window>,
    overflowed: bool,
    /// The latest event, for letting go of windows that are over.
    latest_ms: i64,
    swept_ms: i64,
}

/// How much the engine has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that some rule looked at.
    pub evaluated: u64,
    /// Firings.
    pub fired: u64,
    /// Events that no window took, for a limit.
    pub overflow: u64,
}

/// All rules with their windows.
pub struct Engine {
    rules: Vec<Rule>,
    /// Kind of event → (rule, step).
    by_kind: HashMap<String, Vec<(usize, u8)>>,
    states: Vec<RuleState>,
    /// The names of agents, so that an event in a window does not hold a copy.
    agents: HashSet<Arc<str>>,
    counts: Counts,
    key: String,
}

impl Engine {
    /// An engine with empty windows.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut by_kind: HashMap<String, Vec<(usize, u8)>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            for (step, wanted) in rule.steps.iter().enumerate() {
                by_kind
                    .entry(wanted.kind.clone())
                    .or_default()
                    .push((index, step as u8));
            }
        }
        let states = rules.iter().map(|_| RuleState::default()).collect();
        Self {
            rules,
            by_kind,
            states,
            agents: HashSet::new(),
            counts: Counts::default(),
            key: String::new(),
        }
    }

    /// The longest window of all rules, milliseconds: how far back a restart has to read.
    pub fn reach_ms(&self) -> i64 {
        self.rules.iter().map(Rule::within_ms).max().unwrap_or(0)
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Keys that are held now.
    pub fn keys(&self) -> usize {
        self.states.iter().map(|state| state.windows.len()).sum()
    }

    /// Looks at one event; appends what fires to `out`. `now_ms` decides about 补报 only.
    pub fn observe(
        &mut self,
        event: &Event,
        origin: &Origin<'_>,
        now_ms: i64,
        out: &mut Vec<Firing>,
    ) {
        let Some(wanted_by) = self.by_kind.get(event.kind.as_str()) else {
            return;
        };
        self.counts.evaluated += 1;
        let fired_before = out.len();
        let mut last_rule = usize::MAX;
        for (index, step) in wanted_by {
            let rule = &self.rules[*index];
            let one_step_is_enough = !matches!(rule.kind, Kind::AllOf { .. });
            if (one_step_is_enough && last_rule == *index)
                || !rule.steps[usize::from(*step)].fits(event)
            {
                continue;
            }
            last_rule = *index;
            if !write_key(&rule.key, event, origin, &mut self.key) {
                continue;
            }
            let agent = match self.agents.get(origin.agent) {
                Some(agent) => agent.clone(),
                None => {
                    let agent: Arc<str> = origin.agent.into();
                    self.agents.insert(agent.clone());
                    agent
                }
            };
            let seen = Seen {
                at_ms: event.occurred_at_ms,
                agent,
                lane: origin.lane,
                epoch: origin.epoch,
                sequence: origin.sequence,
            };
            let state = &mut self.states[*index];
            let counts = &mut self.counts;
            let found = match rule.kind {
                Kind::Match => Some(vec![reason(&seen, &event.kind)]),
                Kind::Count { times, within_ms } => state
                    .window(&self.key, &seen, within_ms, 1, now_ms)
                    .and_then(|window| {
                        let events = &mut window[0];
                        let at = insert(events, seen, counts)?;
                        let first = count(events, at, times, within_ms)?;
                        let range = events.range(first..first + times);
                        Some(range.map(|seen| reason(seen, &event.kind)).collect())
                    }),
                Kind::AllOf { within_ms } => state
                    .window(&self.key, &seen, within_ms, rule.steps.len(), now_ms)
                    .and_then(|window| {
                        let step = usize::from(*step);
                        let at = insert(&mut window[step], seen, counts)?;
                        all_of(window, step, at, within_ms, rule)
                    }),
            };
            if state.windows.len() >= KEYS_MAX && !state.overflowed {
                state.overflowed = true;
                out.push(overflow(rule, origin, event.occurred_at_ms));
            }
            if let Some(reasons) = found {
                out.push(firing(rule, origin, &self.key, reasons, now_ms));
            }
        }
        self.counts.fired += (out.len() - fired_before) as u64;
    }
}

/// Writes the values of the key's fields; false if one is missing.
fn write_key(fields: &[String], event: &Event, origin: &Origin<'_>, key: &mut String) -> bool {
    key.clear();
    for (index, field) in fields.iter().enumerate() {
        let value = if field == "site" {
            Some(origin.site)
        } else {
            event.field(field)
        };
        let Some(value) = value else { return false };
        if index > 0 {
            key.push('|');
        }
        key.push_str(value);
    }
    true
}

fn reason(seen: &Seen, kind: &str) -> Reason {
    Reason {
        event: format!(
            "{}/{}/{:016x}/{}",
            seen.agent, seen.lane, seen.epoch, seen.sequence
        ),
        kind: kind.to_owned(),
        at_ms: seen.at_ms,
    }
}

impl RuleState {
    /// The window of a key, made if there is room; windows that are over are let go now and then, at a
    /// cost that does not grow with each event.
    fn window(
        &mut self,
        key: &str,
        seen: &Seen,
        within_ms: i64,
        steps: usize,
        now_ms: i64,
    ) -> Option<&mut Window> {
        // A device's time in the future must not make everything else too old.
        self.latest_ms = self.latest_ms.max(seen.at_ms.min(now_ms));
        let horizon_ms = self.latest_ms - HORIZON_MS;
        if seen.at_ms < horizon_ms {
            return None;
        }
        let sweep_due = self.latest_ms - self.swept_ms > within_ms.max(SWEEP_MS);
        if sweep_due {
            self.swept_ms = self.latest_ms;
            // A late event within the horizon looks back by a whole window.
            let kept_ms = horizon_ms - within_ms;
            self.windows.retain(|_, window| {
                for events in window.iter_mut() {
                    while events.front().is_some_and(|seen| seen.at_ms < kept_ms) {
                        events.pop_front();
                    }
                }
                window.iter().any(|events| !events.is_empty())
            });
        }
        if !self.windows.contains_key(key) {
            if self.windows.len() >= KEYS_MAX {
                return None;
            }
            self.windows
                .insert(key.to_owned(), vec![VecDeque::new(); steps]);
        }
        self.windows.get_mut(key)
    }
}

/// Puts an event where its time belongs and returns its place.
fn insert(events: &mut VecDeque<Seen>, seen: Seen, counts: &mut Counts) -> Option<usize> {
    let mut at = events.partition_point(|other| other.at_ms <= seen.at_ms);
    if events.len() >= KEY_EVENTS_MAX {
        counts.overflow += 1;
        if at == 0 {
            return None;
        }
        events.pop_front();
        at -= 1;
    }
    events.insert(at, seen);
    Some(at)
}

/// Where the first window of `times` events begins that holds place `at`.
fn count(events: &VecDeque<Seen>, at: usize, times: usize, within_ms: i64) -> Option<usize> {
    let first = (at + 1).saturating_sub(times);
    (first..=at)
        .filter(|first| first + times <= events.len())
        .find(|first| events[first + times - 1].at_ms - events[*first].at_ms <= within_ms)
}

/// One event of each step, all within the window and place `at` of `step` among them.
///
/// Of each other step only the nearest event before and the nearest after can matter: a farther one on
/// the same side makes the span longer. The window begins at our event or at one of those before it.
fn all_of(
    window: &Window,
    step: usize,
    at: usize,
    within_ms: i64,
    rule: &Rule,
) -> Option<Vec<Reason>> {
    let centre = &window[step][at];
    let nearest: Vec<(Option<&Seen>, Option<&Seen>)> = window
        .iter()
        .enumerate()
        .map(|(other, events)| {
            if other == step {
                return (Some(centre), Some(centre));
            }
            let after = events.partition_point(|seen| seen.at_ms <= centre.at_ms);
            (
                after.checked_sub(1).and_then(|before| events.get(before)),
                events.get(after),
            )
        })
        .collect();
    let mut starts: Vec<i64> = nearest
        .iter()
        .filter_map(|(before, _)| before.map(|seen| seen.at_ms))
        .filter(|start_ms| centre.at_ms - start_ms <= within_ms)
        .collect();
    // The latest start first: the closest events explain best.
    starts.sort_unstable_by(|one, other| other.cmp(one));
    starts.into_iter().find_map(|start_ms| {
        let mut chosen: Vec<(&Seen, &str)> = nearest
            .iter()
            .zip(&rule.steps)
            .map(|((before, after), step)| {
                before
                    .filter(|seen| seen.at_ms >= start_ms)
                    .or(after.filter(|seen| seen.at_ms - start_ms <= within_ms))
                    .map(|seen| (seen, step.kind.as_str()))
            })
            .collect::<Option<_>>()?;
        chosen.sort_by_key(|(seen, _)| seen.at_ms);
        Some(
            chosen
                .into_iter()
                .map(|(seen, kind)| reason(seen, kind))
                .collect(),
        )
    })
}

fn firing(
    rule: &Rule,
    origin: &Origin<'_>,
    key: &str,
    reasons: Vec<Reason>,
    now_ms: i64,
) -> Firing {
    let at_ms = reasons.iter().map(|reason| reason.at_ms).max().unwrap_or(0);
    Firing {
        rule: rule.id.clone(),
        rule_hash: rule.hash.clone(),
        name: rule.name.clone(),
        severity: rule.severity,
        site: origin.site.to_owned(),
        key: key.to_owned(),
        at_ms,
        late: now_ms.saturating_sub(at_ms) > rule.fresh_ms,
        reasons,
        fold_ms: rule.fold_ms,
        case: rule.case.clone(),
        route: rule.route.clone(),
    }
}

/// A rule holds as many keys as it may: that must be seen.
fn overflow(rule: &Rule, origin: &Origin<'_>, at_ms: i64) -> Firing {
    Firing {
        rule: "rule.overflow".to_owned(),
        rule_hash: rule.hash.clone(),
        name: format!("规则键数超限：{}", rule.name),
        severity: linli_shared::protocol::event::Severity::Warning,
        site: origin.site.to_owned(),
        key: rule.id.clone(),
        at_ms,
        late: false,
        reasons: Vec::new(),
        fold_ms: HORIZON_MS,
        case: None,
        route: String::new(),
    }
}

#[cfg(test)]
mod tests;
