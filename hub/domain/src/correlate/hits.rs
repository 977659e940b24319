//! Where a rule's condition holds on a timeline, and the events that each hit rests on.
//!
//! Each hit belongs to one event, its anchor, and hits are ordered by their anchors. The time of a hit is
//! that of its anchor, or `within` later for the kinds that wait.
use linli_shared::protocol::event::Delivery;
use std::collections::HashMap;

use super::coverage::{Coverage, Heard};
use super::rule::{Kind, Rule, SURGE_WINDOWS};
use super::surge::chance;
use super::timeline::{Entry, Source, Timeline};
use super::{Finding, Origin, Reason};

/// Minimum number of windows of history for a `surge`.
pub const SURGE_WINDOWS_MIN: f64 = 2.0;
/// Maximum number of events listed as reasons; nobody reads hundreds.
const REASONS_MAX: usize = 20;

/// A timeline with everything that decides its rule.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The events, ordered by time.
    pub entries: &'a [Entry],
    /// All steps that some event fits.
    pub steps: u16,
    /// The sources, by number.
    pub sources: &'a [Source],
    /// Watermarks and gaps of agents.
    pub coverage: &'a Coverage,
}

impl<'a> View<'a> {
    /// The view of a rule's timeline.
    pub fn of(
        rule: &'a Rule,
        timeline: &'a Timeline,
        sources: &'a [Source],
        coverage: &'a Coverage,
    ) -> Self {
        Self {
            rule,
            entries: timeline.entries(),
            steps: timeline.steps,
            sources,
            coverage,
        }
    }

    /// Time from an anchor to its hit, milliseconds.
    fn shift_ms(&self) -> i64 {
        if self.rule.kind.waits() {
            self.rule.kind.within_ms()
        } else {
            0
        }
    }

    fn hit_ms(&self, anchor: usize) -> i64 {
        self.entries[anchor].at_ms.saturating_add(self.shift_ms())
    }

    /// Index of the first event at or after a time.
    fn at_or_after(&self, at_ms: i64) -> usize {
        self.entries.partition_point(|entry| entry.at_ms < at_ms)
    }

    /// Index of the first event of the window that ends at `anchor`; both ends are included.
    fn window(&self, anchor: usize, within_ms: i64) -> usize {
        self.at_or_after(self.entries[anchor].at_ms.saturating_sub(within_ms))
    }

    /// True if the condition holds at this anchor.
    pub fn holds(&self, anchor: usize) -> bool {
        let entry = &self.entries[anchor];
        if !entry.any(self.rule.on_mask()) && self.rule.on > 0 {
            return false;
        }
        // Imported history is never a hit.
        if entry.delivery == Delivery::History {
            return false;
        }
        match self.rule.kind {
            Kind::Match => true,
            Kind::Count { times, within_ms } | Kind::Repeat { times, within_ms } => {
                (anchor + 1).checked_sub(times).is_some_and(|first| {
                    entry.at_ms.saturating_sub(self.entries[first].at_ms) <= within_ms
                })
            }
            Kind::Distinct { times, within_ms } => {
                anchor + 1 >= times && self.distinct(anchor, within_ms, times).len() >= times
            }
            Kind::AllOf { within_ms } => self.latest_of_each(anchor, within_ms).is_some(),
            Kind::Sequence { within_ms } => self.chain(anchor, within_ms).is_some(),
            Kind::Absent { within_ms } => {
                let due_ms = entry.at_ms.saturating_add(within_ms);
                self.heard(entry, due_ms) == Heard::All
                    && !self.entries[self.at_or_after(entry.at_ms)..]
                        .iter()
                        .take_while(|other| other.at_ms <= due_ms)
                        .any(|other| other.any(self.rule.off_mask()))
            }
            Kind::Silent { within_ms } => {
                let due_ms = entry.at_ms.saturating_add(within_ms);
                self.heard(entry, due_ms) == Heard::All
                    && self
                        .entries
                        .get(anchor + 1)
                        .is_none_or(|next| next.at_ms > due_ms)
            }
            Kind::Surge { .. } => self.surge(anchor).is_some_and(|surge| surge.holds),
        }
    }

    fn heard(&self, entry: &Entry, due_ms: i64) -> Heard {
        let agent = &self.sources[entry.source as usize].agent;
        self.coverage.heard(agent, entry.at_ms, due_ms)
    }

    /// The latest event of each different value in the window, latest first, up to `enough` of them.
    fn distinct(&self, anchor: usize, within_ms: i64, enough: usize) -> Vec<usize> {
        let first = self.window(anchor, within_ms);
        let mut found: Vec<usize> = Vec::new();
        for at in (first..=anchor).rev() {
            let value = self.entries[at].value;
            if !found
                .iter()
                .any(|other| self.entries[*other].value == value)
            {
                found.push(at);
                if found.len() >= enough {
                    break;
                }
            }
        }
        found
    }

    /// For each event, whether the window that ends with it contains at least `times` different values.
    fn all_distinct(&self, times: usize, within_ms: i64) -> Vec<bool> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        let mut first = 0;
        let mut all = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            *counts.entry(entry.value).or_default() += 1;
            let begin_ms = entry.at_ms.saturating_sub(within_ms);
            while self.entries[first].at_ms < begin_ms {
                let value = self.entries[first].value;
                if let Some(count) = counts.get_mut(&value) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&value);
                    }
                }
                first += 1;
            }
            all.push(counts.len() >= times);
        }
        all
    }

    /// For each event, whether no event of `until` followed it.
    fn all_absent(&self, within_ms: i64) -> Vec<bool> {
        let mut all = vec![false; self.entries.len()];
        let mut followed_ms = i64::MAX;
        let mut end = self.entries.len();
        // From the end, all events of one time together: an event at the same time counts as having followed.
        while end > 0 {
            let at_ms = self.entries[end - 1].at_ms;
            let first = self.at_or_after(at_ms);
            let together = &self.entries[first..end];
            if together.iter().any(|entry| entry.any(self.rule.off_mask())) {
                followed_ms = at_ms;
            }
            let due_ms = at_ms.saturating_add(within_ms);
            for (entry, holds) in together.iter().zip(&mut all[first..end]) {
                *holds = followed_ms > due_ms
                    && entry.any(self.rule.on_mask())
                    && self.heard(entry, due_ms) == Heard::All;
            }
            end = first;
        }
        all
    }

    /// True if a hit lies between these times, both included.
    pub fn any_hit(&self, from_ms: i64, to_ms: i64) -> bool {
        let first = self
            .entries
            .partition_point(|entry| entry.at_ms.saturating_add(self.shift_ms()) < from_ms);
        (first..self.entries.len())
            .take_while(|anchor| self.hit_ms(*anchor) <= to_ms)
            .any(|anchor| self.holds(anchor))
    }

    /// The latest event of each step in the window, latest first.
    fn latest_of_each(&self, anchor: usize, within_ms: i64) -> Option<Vec<usize>> {
        let wanted = self.rule.on_mask();
        let first = self.window(anchor, within_ms);
        let mut have = 0;
        let mut found = Vec::new();
        for at in (first..=anchor).rev() {
            let steps = self.entries[at].steps;
            if steps & !have != 0 {
                have |= steps;
                found.push(at);
                if have & wanted == wanted {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The latest chain of all steps in order that ends here, latest first. Every other chain begins no
    /// later: if this one is too long or contains an event of `unless`, so does every other.
    fn chain(&self, anchor: usize, within_ms: i64) -> Option<Vec<usize>> {
        let mut wanted = self.rule.on - 1;
        if !self.entries[anchor].is(wanted) {
            return None;
        }
        let mut found = vec![anchor];
        let first = self.window(anchor, within_ms);
        for at in (first..anchor).rev() {
            if wanted == 0 {
                break;
            }
            let entry = &self.entries[at];
            if entry.any(self.rule.off_mask()) {
                return None;
            }
            if entry.is(wanted - 1) {
                wanted -= 1;
                found.push(at);
            }
        }
        (wanted == 0).then_some(found)
    }

    fn surge(&self, anchor: usize) -> Option<Surge> {
        let Kind::Surge {
            times,
            within_ms,
            ratio,
            p,
        } = self.rule.kind
        else {
            return None;
        };
        let at_ms = self.entries[anchor].at_ms;
        let present_ms = at_ms.saturating_sub(within_ms);
        let oldest_ms = at_ms.saturating_sub(within_ms.saturating_mul(SURGE_WINDOWS + 1));
        let first = self
            .entries
            .partition_point(|entry| entry.at_ms <= present_ms);
        let oldest = self
            .entries
            .partition_point(|entry| entry.at_ms <= oldest_ms);
        let now = anchor + 1 - first;
        let before = first - oldest;
        let known_ms = present_ms.saturating_sub(self.entries[0].at_ms).max(0);
        let windows = (known_ms as f64 / within_ms as f64).min(SURGE_WINDOWS as f64);
        if now < times || windows < SURGE_WINDOWS_MIN {
            return None;
        }
        let usual = before as f64 / windows;
        let chance = chance(now, before, windows);
        Some(Surge {
            holds: now as f64 >= ratio * usual && chance <= p,
            now,
            usual,
            chance,
            first,
        })
    }

    /// The events that a hit rests on, oldest first, and the counted values in words.
    fn rests_on(&self, anchor: usize) -> (Vec<usize>, String) {
        let (mut found, values) = match self.rule.kind {
            Kind::Match | Kind::Absent { .. } | Kind::Silent { .. } => {
                (vec![anchor], String::new())
            }
            Kind::Count { times, .. } | Kind::Repeat { times, .. } => {
                let first = (anchor + 1).saturating_sub(times);
                ((first..=anchor).rev().collect(), format!("count={times}"))
            }
            Kind::Distinct { times, within_ms } => {
                let found = self.distinct(anchor, within_ms, times);
                let values = format!("distinct={}", found.len());
                (found, values)
            }
            Kind::AllOf { within_ms } => {
                let found = self.latest_of_each(anchor, within_ms).unwrap_or_default();
                (found, String::new())
            }
            Kind::Sequence { within_ms } => {
                let found = self.chain(anchor, within_ms).unwrap_or_default();
                (found, String::new())
            }
            Kind::Surge { .. } => match self.surge(anchor) {
                Some(surge) => (
                    (surge.first..=anchor).rev().collect(),
                    format!(
                        "count={} usual={:.1} p={:.4}",
                        surge.now, surge.usual, surge.chance
                    ),
                ),
                None => (Vec::new(), String::new()),
            },
        };
        found.truncate(REASONS_MAX);
        found.sort_unstable();
        (found, values)
    }

    /// When the hub could know of these hits, the first of which rests on `rests_on`. A wait ends relative to
    /// the receipt of its first event if that was live, because the device's clock may be slow.
    fn arrived_ms(&self, anchors: &[usize], rests_on: &[usize]) -> Option<i64> {
        if self.rule.kind.waits() {
            let over_ms = |anchor: &usize| {
                let received_ms = self.entries[*anchor].live_ms().unwrap_or(i64::MIN);
                self.hit_ms(*anchor)
                    .max(received_ms.saturating_add(self.shift_ms()))
            };
            return anchors.iter().map(over_ms).max();
        }
        let all = anchors.iter().chain(rests_on);
        all.filter_map(|at| self.entries[*at].live_ms()).max()
    }

    /// An event as a reason.
    pub fn reason(&self, at: usize) -> Reason {
        let entry = &self.entries[at];
        let source = &self.sources[entry.source as usize];
        let step = entry.steps.trailing_zeros() as usize;
        Reason {
            event: Origin {
                site: &source.site,
                agent: &source.agent,
                lane: source.lane,
                epoch: source.epoch,
                sequence: entry.sequence,
            }
            .identity(),
            kind: self
                .rule
                .steps
                .get(step)
                .map(|step| step.kind.clone())
                .unwrap_or_default(),
            at_ms: entry.at_ms,
        }
    }

    /// When the missing event occurred after all.
    fn ended_ms(&self, anchor: usize) -> Option<i64> {
        let due_ms = self.hit_ms(anchor);
        let late = |entry: &&Entry| entry.at_ms > due_ms;
        match self.rule.kind {
            Kind::Absent { .. } => self.entries[anchor..]
                .iter()
                .filter(late)
                .find(|entry| entry.any(self.rule.off_mask()))
                .map(|entry| entry.at_ms),
            Kind::Silent { .. } => self.entries.get(anchor + 1).map(|entry| entry.at_ms),
            _ => None,
        }
    }

    /// The findings that touch the time from `from_ms` to `to_ms`, each complete.
    pub fn findings(&self, from_ms: i64, to_ms: i64) -> Vec<Finding> {
        let fold_ms = self.rule.fold_ms;
        // One pass over all windows replaces a look into each.
        let at_once = match self.rule.kind {
            Kind::Distinct { times, within_ms } => Some(self.all_distinct(times, within_ms)),
            Kind::Absent { within_ms } => Some(self.all_absent(within_ms)),
            _ => None,
        };
        let holds = |anchor: usize| match &at_once {
            Some(all) => all[anchor],
            None => self.holds(anchor),
        };
        let middle = self
            .entries
            .partition_point(|entry| entry.at_ms.saturating_add(self.shift_ms()) < from_ms);
        let mut anchors: Vec<usize> = Vec::new();
        let mut edge_ms = to_ms;
        for anchor in middle..self.entries.len() {
            if self.hit_ms(anchor) > edge_ms {
                break;
            }
            if holds(anchor) {
                edge_ms = edge_ms.max(self.hit_ms(anchor).saturating_add(fold_ms));
                anchors.push(anchor);
            }
        }
        // A finding at the edge may have begun long before, hit by hit.
        let first_ms = anchors
            .first()
            .map_or(i64::MAX, |first| self.hit_ms(*first));
        let mut edge_ms = first_ms.saturating_sub(fold_ms);
        let mut earlier = Vec::new();
        for anchor in (0..middle).rev() {
            if self.hit_ms(anchor) < edge_ms {
                break;
            }
            if holds(anchor) {
                edge_ms = self.hit_ms(anchor).saturating_sub(fold_ms);
                earlier.push(anchor);
            }
        }
        earlier.reverse();
        earlier.extend(anchors);
        let anchors = earlier;
        self.fold(&anchors)
    }

    fn fold(&self, anchors: &[usize]) -> Vec<Finding> {
        let near = |one: &usize, next: &usize| {
            self.hit_ms(*next).saturating_sub(self.hit_ms(*one)) <= self.rule.fold_ms
        };
        anchors
            .chunk_by(near)
            .filter_map(|group| {
                let (first, last) = (*group.first()?, *group.last()?);
                let source = &self.sources[self.entries[first].source as usize];
                let (rests_on, values) = self.rests_on(first);
                Some(Finding {
                    site: source.site.to_string(),
                    agent: source.agent.to_string(),
                    from_ms: self.hit_ms(first),
                    to_ms: self.hit_ms(last),
                    hits: group.len() as i64,
                    arrived_ms: self.arrived_ms(group, &rests_on),
                    reasons: rests_on.into_iter().map(|at| self.reason(at)).collect(),
                    values,
                    ended_ms: self.ended_ms(last),
                })
            })
            .collect()
    }

    /// The time in which the event just inserted at `at` creates, ends or removes hits; `None` if it does
    /// not.
    pub fn touched(&self, at: usize) -> Option<(i64, i64)> {
        let entry = &self.entries[at];
        let within_ms = self.rule.kind.reach_ms();
        match self.rule.kind {
            Kind::Match => Some((entry.at_ms, entry.at_ms)),
            Kind::Absent { .. } => self.touched_absence(at),
            Kind::Silent { .. } => self.touched_silence(at),
            // A larger past makes the present less of a surge, so no anchor can be skipped.
            Kind::Surge { .. } => {
                let last_ms = self.entries.last().map_or(entry.at_ms, |last| last.at_ms);
                // A new first event changes the history of all anchors that began with the old one.
                let from_ms = match self.entries.get(1) {
                    Some(next) if at == 0 => next.at_ms,
                    _ => entry.at_ms,
                };
                Some((entry.at_ms, last_ms.min(from_ms.saturating_add(within_ms))))
            }
            Kind::Count { times, .. } | Kind::Repeat { times, .. } => {
                // Of the later events, only the next ones have it among their last `times`.
                let end = (at + times).min(self.entries.len());
                self.span((at..end).filter(|anchor| self.holds(*anchor)))
            }
            Kind::Distinct { .. } | Kind::AllOf { .. } => {
                if !matches!(self.rule.kind, Kind::Distinct { .. }) && !self.complete() {
                    return None;
                }
                // For a late event, the window is re-evaluated once per transaction.
                if at + 1 < self.entries.len() {
                    return self.span(self.after(at, within_ms));
                }
                self.span((at..=at).filter(|anchor| self.holds(*anchor)))
            }
            Kind::Sequence { .. } => {
                if !self.complete() {
                    return None;
                }
                // For a late event, the window is re-evaluated once per transaction.
                if at + 1 < self.entries.len() {
                    return self.span(self.after(at, within_ms));
                }
                self.span((at..=at).filter(|anchor| self.holds(*anchor)))
            }
        }
    }

    /// True if every step has an event.
    fn complete(&self) -> bool {
        let wanted = self.rule.on_mask();
        self.steps & wanted == wanted
    }

    /// The anchors whose windows contain the event at `at`.
    fn after(&self, at: usize, within_ms: i64) -> std::ops::Range<usize> {
        let end_ms = self.entries[at].at_ms.saturating_add(within_ms);
        at..self.entries.partition_point(|entry| entry.at_ms <= end_ms)
    }

    fn span(&self, mut anchors: impl Iterator<Item = usize>) -> Option<(i64, i64)> {
        let first = anchors.next()?;
        let last = anchors.last().unwrap_or(first);
        Some((self.hit_ms(first), self.hit_ms(last)))
    }

    fn touched_absence(&self, at: usize) -> Option<(i64, i64)> {
        let entry = &self.entries[at];
        if entry.any(self.rule.on_mask()) && self.holds(at) {
            return Some((self.hit_ms(at), self.hit_ms(at)));
        }
        if !entry.any(self.rule.off_mask()) {
            return None;
        }
        // It ends or removes the absences up to now. Events before an earlier event of `until` were followed
        // by that one; events of the same time are followed by this one.
        let from = self.entries[..at]
            .iter()
            .rposition(|other| other.any(self.rule.off_mask()))
            .unwrap_or(0);
        let end = self
            .entries
            .partition_point(|other| other.at_ms <= entry.at_ms);
        let decided = |anchor: &usize| {
            let other = &self.entries[*anchor];
            other.any(self.rule.on_mask()) && self.heard(other, self.hit_ms(*anchor)) == Heard::All
        };
        self.span((from..end).filter(decided))
    }

    fn touched_silence(&self, at: usize) -> Option<(i64, i64)> {
        let decided =
            |anchor: &usize| self.heard(&self.entries[*anchor], self.hit_ms(*anchor)) == Heard::All;
        let next_ms = self.entries.get(at + 1).map_or(i64::MAX, |next| next.at_ms);
        // If the neighbours are close, there was no silence before either.
        let was_silent =
            |anchor: &usize| next_ms.saturating_sub(self.hit_ms(*anchor)) > 0 && decided(anchor);
        self.span((at.saturating_sub(1)..=at).filter(was_silent))
    }
}

struct Surge {
    holds: bool,
    now: usize,
    usual: f64,
    chance: f64,
    first: usize,
}
