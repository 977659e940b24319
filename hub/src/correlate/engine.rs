//! The engine: rules by kind of event, windows by key.
use linli_shared::protocol::event::{Event, Severity};
use linli_shared::protocol::ids::Lane;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::rule::{Kind, Rule};
use super::{AHEAD_MS_MAX, Firing, HORIZON_MS, KEY_EVENTS_MAX, KEYS_MAX, Origin, Reason};

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
    /// Events that no window took, or that one let go of, for a limit.
    pub overflow: u64,
    /// Events that were too old, or too far ahead, for any window: history that is imported, clocks.
    pub beyond: u64,
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

    /// How far back a restart has to read, milliseconds; `None` where no rule has a window. A late event
    /// within the horizon looks back by a whole window.
    pub fn reach_ms(&self) -> Option<i64> {
        let longest_ms = self.rules.iter().map(Rule::within_ms).max()?;
        (longest_ms > 0).then_some(HORIZON_MS + longest_ms)
    }

    /// The kinds of events that windows hold.
    pub fn windowed_kinds(&self) -> Vec<&str> {
        self.by_kind
            .iter()
            .filter(|(_, wanted_by)| {
                wanted_by
                    .iter()
                    .any(|(rule, _)| self.rules[*rule].within_ms() > 0)
            })
            .map(|(kind, _)| kind.as_str())
            .collect()
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Keys that are held now.
    pub fn keys(&self) -> usize {
        self.states.iter().map(|state| state.windows.len()).sum()
    }

    /// Looks at one event; appends what fires to `out`. `now_ms` decides about 补报, and about what is of
    /// the future.
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
        let mut last_rule = usize::MAX;
        for (index, step) in wanted_by {
            let rule = &self.rules[*index];
            let one_step_is_enough = !matches!(rule.kind, Kind::AllOf { .. });
            if (one_step_is_enough && last_rule == *index)
                || !rule.steps[usize::from(*step)].fits(event, origin.site)
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
                    .window(&self.key, &seen, within_ms, 1, now_ms, counts)
                    .and_then(|window| {
                        let events = &mut window[0];
                        let at = insert(events, seen, now_ms, counts)?;
                        let first = count(events, at, times, within_ms)?;
                        let range = events.range(first..first + times);
                        Some(range.map(|seen| reason(seen, &event.kind)).collect())
                    }),
                Kind::AllOf { within_ms } => state
                    .window(
                        &self.key,
                        &seen,
                        within_ms,
                        rule.steps.len(),
                        now_ms,
                        counts,
                    )
                    .and_then(|window| {
                        let step = usize::from(*step);
                        let at = insert(&mut window[step], seen, now_ms, counts)?;
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
        counts: &mut Counts,
    ) -> Option<&mut Window> {
        // A device's time in the future must not make everything else too old.
        self.latest_ms = self.latest_ms.max(seen.at_ms.min(now_ms));
        let horizon_ms = self.latest_ms.saturating_sub(HORIZON_MS);
        // As far ahead nothing of the present goes together with it, and its window would never be over.
        if seen.at_ms < horizon_ms || seen.at_ms > now_ms.saturating_add(HORIZON_MS) {
            counts.beyond += 1;
            return None;
        }
        let sweep_due = self.latest_ms.saturating_sub(self.swept_ms) > within_ms.max(SWEEP_MS);
        if sweep_due {
            self.swept_ms = self.latest_ms;
            // A late event within the horizon looks back by a whole window.
            let kept_ms = horizon_ms.saturating_sub(within_ms);
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
                counts.overflow += 1;
                return None;
            }
            self.windows
                .insert(key.to_owned(), vec![VecDeque::new(); steps]);
        }
        self.windows.get_mut(key)
    }
}

/// Puts an event where its time belongs and returns its place. A full window lets go of what is of the
/// future first, be it the new event, so that a clock that is ahead does not push out the present; then
/// of the oldest, be it the new event.
fn insert(
    events: &mut VecDeque<Seen>,
    seen: Seen,
    now_ms: i64,
    counts: &mut Counts,
) -> Option<usize> {
    let mut at = events.partition_point(|other| other.at_ms <= seen.at_ms);
    if events.len() >= KEY_EVENTS_MAX {
        counts.overflow += 1;
        let present_ms = now_ms.saturating_add(AHEAD_MS_MAX);
        if seen.at_ms > present_ms {
            return None;
        }
        if events.back().is_some_and(|last| last.at_ms > present_ms) {
            events.pop_back();
        } else if at == 0 {
            return None;
        } else {
            events.pop_front();
            at -= 1;
        }
    }
    events.insert(at, seen);
    Some(at)
}

/// Where the first window of `times` events begins that holds place `at`.
fn count(events: &VecDeque<Seen>, at: usize, times: usize, within_ms: i64) -> Option<usize> {
    let first = (at + 1).saturating_sub(times);
    (first..=at)
        .filter(|first| first + times <= events.len())
        .find(|first| span_ms(&events[*first], &events[first + times - 1]) <= within_ms)
}

/// From one event to a later one; event times are what devices say, and can be anything.
fn span_ms(one: &Seen, later: &Seen) -> i64 {
    later.at_ms.saturating_sub(one.at_ms)
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
    let mut starts: Vec<&Seen> = nearest
        .iter()
        .filter_map(|(before, _)| *before)
        .filter(|start| span_ms(start, centre) <= within_ms)
        .collect();
    // The latest start first: the closest events explain best.
    starts.sort_unstable_by_key(|start| std::cmp::Reverse(start.at_ms));
    starts.into_iter().find_map(|start| {
        let mut chosen: Vec<(&Seen, &str)> = nearest
            .iter()
            .zip(&rule.steps)
            .map(|((before, after), step)| {
                before
                    .filter(|seen| seen.at_ms >= start.at_ms)
                    .or(after.filter(|seen| span_ms(start, seen) <= within_ms))
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
        severity: Severity::Warning,
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
