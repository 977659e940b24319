//! What the hub may conclude from not having heard of something: how far each agent has told everything,
//! and when it could not hear.
use linli_shared::protocol::event::{AGENT_STARTED, DOWN_SINCE, Event};
use std::collections::HashMap;
use std::sync::Arc;

/// Gaps that are remembered of one agent; the oldest go first.
const GAPS_MAX: usize = 1_000;

/// A time in which an agent did not hear, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// From.
    pub from_ms: i64,
    /// To.
    pub to_ms: i64,
}

impl Gap {
    /// What an agent did not hear before a start that it tells; `None`: the event is another.
    pub fn before_start(event: &Event) -> Option<Self> {
        if event.kind != AGENT_STARTED {
            return None;
        }
        // Before its first start nobody heard. A watermark of an earlier life does not count: it is not an
        // event, and what is found must not depend on when it was told. And a clock that was put back does
        // not make the gap nothing.
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
    /// By time.
    gaps: Vec<Gap>,
}

/// The hearing of all agents.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    agents: HashMap<Arc<str>, Hearing>,
}

/// What is known of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// All that happened has arrived.
    All,
    /// It may still come.
    NotYet,
    /// The agent was not there to hear.
    Never,
}

impl Coverage {
    /// An agent has told everything up to a time. It never goes back.
    pub fn advance(&mut self, agent: &Arc<str>, watermark_ms: i64) {
        let hearing = self.agents.entry(agent.clone()).or_default();
        hearing.watermark_ms = hearing.watermark_ms.max(watermark_ms);
    }

    /// An agent did not hear for a while.
    pub fn gap(&mut self, agent: &Arc<str>, gap: Gap) {
        let hearing = self.agents.entry(agent.clone()).or_default();
        if let Err(at) = hearing.gaps.binary_search(&gap) {
            hearing.gaps.insert(at, gap);
            if hearing.gaps.len() > GAPS_MAX {
                hearing.gaps.remove(0);
            }
        }
    }

    /// How far an agent has told everything, milliseconds since 1970 UTC.
    pub fn watermark_ms(&self, agent: &str) -> i64 {
        self.agents
            .get(agent)
            .map_or(0, |hearing| hearing.watermark_ms)
    }

    /// A gap in the time after `from_ms` and up to `to_ms`.
    pub fn gap_in(&self, agent: &str, from_ms: i64, to_ms: i64) -> Option<Gap> {
        let gaps = &self.agents.get(agent)?.gaps;
        let within = |gap: &&Gap| gap.from_ms < to_ms && gap.to_ms > from_ms;
        gaps.iter().find(within).copied()
    }

    /// What is known of the time after `from_ms` and up to `to_ms`.
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
