//! Metrics of one transaction: counted after its commit, dropped with it
//! if it fails.
use linli_shared::protocol::ids::{AgentId, Lane};

use super::metrics::IngestMetrics;
use linli_domain::warnings::NotificationOutcome;

/// Metrics of an open transaction.
#[derive(Debug, Default)]
pub struct TransactionMetrics {
    stored_events: [u64; Lane::ALL.len()],
    stored_bytes: [u64; Lane::ALL.len()],
    doubled: [u64; Lane::ALL.len()],
    lost: Vec<(AgentId, u64)>,
    quarantined: u64,
    withheld: Vec<(AgentId, u64)>,
    delivery_ms: Vec<i64>,
    warned: Vec<(String, i64, bool)>,
    outcomes: Vec<NotificationOutcome>,
    revised: Vec<(String, &'static str)>,
    escalated: Vec<String>,
    cases_opened: u64,
    outbox_moved: bool,
    stations: Vec<(String, i64)>,
    last_change: Option<i64>,
}

impl TransactionMetrics {
    /// Counts a stored chunk.
    pub fn stored(&mut self, lane: Lane, events: u64, bytes: u64) {
        self.stored_events[usize::from(lane.number())] += events;
        self.stored_bytes[usize::from(lane.number())] += bytes;
    }

    /// Notes the delivery time of an event.
    pub fn delivered(&mut self, ms: i64) {
        self.delivery_ms.push(ms);
    }

    /// Counts duplicate events.
    pub fn doubled(&mut self, lane: Lane, events: u64) {
        self.doubled[usize::from(lane.number())] += events;
    }

    /// Counts events that an agent has lost.
    pub fn lost(&mut self, agent: &AgentId, events: u64) {
        self.lost.push((agent.clone(), events));
    }

    /// Counts quarantined events.
    pub fn quarantined(&mut self, events: u64) {
        self.quarantined += events;
    }

    /// Counts events that only stations may report, from another agent.
    pub fn withheld(&mut self, agent: &AgentId, events: u64) {
        self.withheld.push((agent.clone(), events));
    }

    /// Counts a raised warning and its latency after its last event.
    pub fn warned(&mut self, rule: &str, ms: i64, late: bool) {
        self.warned.push((rule.to_owned(), ms, late));
    }

    /// Notes whether people are notified of a raised warning.
    pub fn outcome(&mut self, outcome: NotificationOutcome) {
        self.outcomes.push(outcome);
    }

    /// Counts an amended or withdrawn warning.
    pub fn revised(&mut self, rule: &str, action: &'static str) {
        self.revised.push((rule.to_owned(), action));
    }

    /// Counts an escalated warning.
    pub fn escalated(&mut self, rule: &str) {
        self.escalated.push(rule.to_owned());
    }

    /// Counts an opened case.
    pub fn case_opened(&mut self) {
        self.cases_opened += 1;
    }

    /// Notes that the outbox has rows to send.
    pub fn outbox_moved(&mut self) {
        self.outbox_moved = true;
    }

    /// True if the notifier must look at the outbox.
    pub fn wakes_notifier(&self) -> bool {
        self.outbox_moved
    }

    /// Notes a message to the station of an agent.
    pub fn station_told(&mut self, agent: &str, number: i64) {
        self.stations.push((agent.to_owned(), number));
    }

    /// The messages to stations: agent and number.
    pub fn stations(&self) -> &[(String, i64)] {
        &self.stations
    }

    /// Notes the number of the last change.
    pub fn changed(&mut self, last: Option<i64>) {
        self.last_change = last.or(self.last_change);
    }

    /// The number of the last change.
    pub fn last_change(&self) -> Option<i64> {
        self.last_change
    }

    /// Adds everything to the metrics, after the commit.
    pub fn count(self, metrics: &IngestMetrics) {
        let seconds = |ms: i64| ms.max(0) as f64 / 1000.0;
        for lane in Lane::ALL {
            let place = usize::from(lane.number());
            metrics.stored(lane, self.stored_events[place], self.stored_bytes[place]);
            metrics.doubled(lane, self.doubled[place]);
        }
        for (agent, events) in &self.lost {
            metrics.lost(agent, *events);
        }
        metrics.quarantined.inc_by(self.quarantined);
        for (agent, events) in &self.withheld {
            metrics.withheld(agent, *events);
        }
        for ms in self.delivery_ms {
            metrics.delivery_seconds.observe(seconds(ms));
        }
        for (rule, ms, late) in &self.warned {
            metrics.warned(rule, seconds(*ms), *late);
        }
        for outcome in self.outcomes {
            metrics.outcome(outcome, 1);
        }
        for (rule, action) in &self.revised {
            metrics.revised(rule, action);
        }
        for rule in &self.escalated {
            metrics.escalated(rule);
        }
        metrics.cases_opened.inc_by(self.cases_opened);
    }
}
