//! The engine: rules by kind of event, windows by key.
use linli_shared::protocol::event::Event;
use std::collections::{HashMap, VecDeque};

use super::rule::{Kind, Rule};
use super::{Firing, HORIZON_MS, KEY_EVENTS_MAX, KEYS_MAX, Origin, Reason};

/// An event in a window.
#[derive(Debug, Clone)]
struct Seen {
    at_ms: i64,
    step: u8,
    reason: Reason,
}

/// The window of one key: events by time.
type Window = VecDeque<Seen>;

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
            let state = &mut self.states[*index];
            let reason = Reason {
                event: format!(
                    "{}/{}/{:016x}/{}",
                    origin.agent, origin.lane, origin.epoch, origin.sequence
                ),
                kind: event.kind.clone(),
                at_ms: event.occurred_at_ms,
            };
            let seen = Seen {
                at_ms: event.occurred_at_ms,
                step: *step,
                reason,
            };
            let found = match rule.kind {
                Kind::Match => Some(vec![seen.reason]),
                Kind::Count { times, within_ms } => {
                    state.window(&self.key, &seen, within_ms).and_then(|window| {
                        insert(window, seen, &mut self.counts)
                            .and_then(|at| count(window, at, times, within_ms))
                    })
                }
                Kind::AllOf { within_ms } => {
                    let steps = rule.steps.len();
                    state.window(&self.key, &seen, within_ms).and_then(|window| {
                        insert(window, seen, &mut self.counts)
                            .and_then(|at| all_of(window, at, steps, within_ms))
                    })
                }
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
fn write_key(
    fields: &[String],
    event: &Event,
    origin: &Origin<'_>,
    key: &mut String,
) -> bool {
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

impl RuleState {
    /// The window of a key, made if there is room; windows that are over are let go now and then, at a
    /// cost that does not grow with each event.
    fn window(&mut self, key: &str, seen: &Seen, within_ms: i64) -> Option<&mut Window> {
        self.latest_ms = self.latest_ms.max(seen.at_ms);
        let horizon_ms = self.latest_ms - HORIZON_MS;
        if seen.at_ms < horizon_ms {
            return None;
        }
        let sweep_due = self.latest_ms - self.swept_ms > within_ms.max(3_600_000);
        if sweep_due || (self.windows.len() >= KEYS_MAX && !self.windows.contains_key(key)) {
            self.swept_ms = self.latest_ms;
            self.windows.retain(|_, window| {
                while window.front().is_some_and(|seen| seen.at_ms < horizon_ms) {
                    window.pop_front();
                }
                !window.is_empty()
            });
        }
        if !self.windows.contains_key(key) {
            if self.windows.len() >= KEYS_MAX {
                return None;
            }
            self.windows.insert(key.to_owned(), Window::new());
        }
        self.windows.get_mut(key)
    }
}

/// Puts an event where its time belongs and returns its place.
fn insert(window: &mut Window, seen: Seen, counts: &mut Counts) -> Option<usize> {
    let mut at = window.partition_point(|other| other.at_ms <= seen.at_ms);
    if window.len() >= KEY_EVENTS_MAX {
        counts.overflow += 1;
        if at == 0 {
            return None;
        }
        window.pop_front();
        at -= 1;
    }
    window.insert(at, seen);
    Some(at)
}

/// The first window of `times` events that holds place `at`.
fn count(window: &Window, at: usize, times: usize, within_ms: i64) -> Option<Vec<Reason>> {
    let first = (at + 1).saturating_sub(times);
    (first..=at)
        .filter(|first| first + times <= window.len())
        .find(|first| window[first + times - 1].at_ms - window[*first].at_ms <= within_ms)
        .map(|first| {
            window
                .range(first..first + times)
                .map(|seen| seen.reason.clone())
                .collect()
        })
}

/// One event of each step, all within the window and place `at` among them: the nearest of each.
fn all_of(window: &Window, at: usize, steps: usize, within_ms: i64) -> Option<Vec<Reason>> {
    let centre_ms = window[at].at_ms;
    // Every window of that length that holds the event starts at an event not later than it.
    (0..=at)
        .rev()
        .take_while(|first| centre_ms - window[*first].at_ms <= within_ms)
        .find_map(|first| {
            let start_ms = window[first].at_ms;
            let mut found: Vec<Option<&Seen>> = vec![None; steps];
            found[usize::from(window[at].step)] = Some(&window[at]);
            for seen in window
                .range(first..)
                .take_while(|seen| seen.at_ms - start_ms <= within_ms)
            {
                let slot = &mut found[usize::from(seen.step)];
                slot.get_or_insert(seen);
            }
            let mut all: Vec<&Seen> = found.into_iter().collect::<Option<_>>()?;
            all.sort_by_key(|seen| seen.at_ms);
            Some(all.into_iter().map(|seen| seen.reason.clone()).collect())
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
        late: now_ms - at_ms > rule.fresh_ms,
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
