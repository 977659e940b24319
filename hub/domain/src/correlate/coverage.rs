//! What the hub may conclude from the absence of an event: how far each agent has reported everything, and
//! when it was down.
use linli_shared::protocol::event::{AGENT_STARTED, DOWN_SINCE, Event};
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum number of gaps per agent; the oldest are evicted first.
const GAPS_MAX: usize = 1_000;

/// A time in which an agent was down, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Start.
    pub from_ms: i64,
    /// End.
    pub to_ms: i64,
}

impl Gap {
    /// The gap before the start that an event reports; `None` for every other event.
    pub fn before_start(event: &Event) -> Option<Self> {
        if event.kind != AGENT_STARTED {
            return None;
        }
        // Before its first start the agent was down. The watermark of an earlier epoch does not count: it is
        // no event, and findings must not depend on when it was reported. A clock that was set back still
        // leaves a gap of at least one millisecond.
        let since = event.attributes.get(DOWN_SINCE);
        let since_ms = since.and_then(|since| since.parse::<i64>().ok());
        let to_ms = event.occurred_at_ms;
        let from_ms = since_ms.unwrap_or(0).min(to_ms.saturating_sub(1));
        Some(Self { from_ms, to_ms })
    }
}

#[derive(Debug, Clone, Default)]
struct Hearing {
    watermark_ms: i64,
    /// Ordered by time.
    gaps: Vec<Gap>,
}

/// The coverage of all agents.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    agents: HashMap<Arc<str>, Hearing>,
}

/// The coverage of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// All events of the time have arrived.
    All,
    /// Events may still arrive.
    NotYet,
    /// The agent was down.
    Never,
}

impl Coverage {
    /// Raises the watermark of an agent; it never decreases.
    pub fn advance(&mut self, agent: &Arc<str>, watermark_ms: i64) {
        let hearing = self.agents.entry(agent.clone()).or_default();
        hearing.watermark_ms = hearing.watermark_ms.max(watermark_ms);
    }

    /// Records a gap of an agent.
    pub fn gap(&mut self, agent: &Arc<str>, gap: Gap) {
        let hearing = self.agents.entry(agent.clone()).or_default();
        if let Err(at) = hearing.gaps.binary_search(&gap) {
            hearing.gaps.insert(at, gap);
            if hearing.gaps.len() > GAPS_MAX {
                hearing.gaps.remove(0);
            }
        }
    }

    /// The watermark of an agent, milliseconds since 1970 UTC; 0 if unknown.
    pub fn watermark_ms(&self, agent: &str) -> i64 {
        self.agents
            .get(agent)
            .map_or(0, |hearing| hearing.watermark_ms)
    }

    /// A gap that overlaps the time after `from_ms` and up to `to_ms`.
    pub fn gap_in(&self, agent: &str, from_ms: i64, to_ms: i64) -> Option<Gap> {
        let gaps = &self.agents.get(agent)?.gaps;
        let within = |gap: &&Gap| gap.from_ms < to_ms && gap.to_ms > from_ms;
        gaps.iter().find(within).copied()
    }

    /// The coverage of the time after `from_ms` and up to `to_ms`.
    pub fn heard(&self, agent: &str, from_ms: i64, to_ms: i64) -> Heard {
        let Some(hearing) = self.agents.get(agent) else {
            return Heard::NotYet;
        };
        if self.gap_in(agent, from_ms, to_ms).is_some() {
            Heard::Never
        } else if hearing.watermark_ms >= to_ms {
            Heard::All
        } else {
            Heard::NotYet
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_heard_when_the_watermark_has_passed_and_no_gap_is_in_it() {
        let agent: Arc<str> = "gw-1".into();
        let mut coverage = Coverage::default();
        assert_eq!(coverage.heard("gw-1", 0, 10), Heard::NotYet);
        coverage.advance(&agent, 10);
        coverage.advance(&agent, 5);
        assert_eq!(coverage.heard("gw-1", 0, 10), Heard::All);
        assert_eq!(coverage.heard("gw-1", 0, 11), Heard::NotYet);
        coverage.gap(
            &agent,
            Gap {
                from_ms: 4,
                to_ms: 6,
            },
        );
        for (from_ms, to_ms, heard) in [
            (0, 4, Heard::All),
            (0, 5, Heard::Never),
            (5, 20, Heard::Never),
            (6, 10, Heard::All),
        ] {
            assert_eq!(
                coverage.heard("gw-1", from_ms, to_ms),
                heard,
                "{from_ms} {to_ms}"
            );
        }
        assert_eq!(coverage.heard("gw-2", 0, 1), Heard::NotYet);
    }
}
