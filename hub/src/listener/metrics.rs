//! The metrics of the sessions with agents.
use linli_shared::protocol::ids::AgentId;
use linli_shared::service::metrics::Registrar;
use prometheus::{GaugeVec, IntCounterVec, IntGauge};

use linli_store::{Store, stations};

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct ListenerMetrics {
    /// Sessions that are open.
    pub agents_connected: IntGauge,
    /// Handshakes and joins, by outcome.
    pub sessions: IntCounterVec,
    claims_clamped: IntCounterVec,
    clock_skew: GaugeVec,
    station_waiting: IntGauge,
    station_oldest: IntGauge,
}

impl ListenerMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            agents_connected: registrar.gauge("linli_hub_agents_connected", "Sessions that are open.")?,
            sessions: registrar.counters(
                "linli_hub_sessions_total",
                "Handshakes and joins, by outcome.",
                &["outcome"],
            )?,
            claims_clamped: registrar.counters(
                "linli_hub_agent_claims_clamped_total",
                "What agents said of themselves and cannot be: watermarks of the future, lost events that they never had.",
                &["claim"],
            )?,
            clock_skew: registrar.fractions("linli_hub_agent_clock_skew_seconds", "By how much the clock of a connected agent is ahead of the hub's, where it is 2 s or more.", &["agent"])?,
            station_waiting: registrar.gauge(
                "linli_hub_station_messages_waiting",
                "Messages to stations that their agents have not acknowledged.",
            )?,
            station_oldest: registrar.gauge(
                "linli_hub_station_messages_oldest_age_seconds",
                "Age of the oldest message to a station that its agent has not acknowledged.",
            )?,
        };
        for claim in ["watermark", "lost"] {
            metrics.claims_clamped.with_label_values(&[claim]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts something that an agent said of itself and cannot be: `watermark` or `lost`.
    pub fn clamped(&self, claim: &str) {
        self.claims_clamped.with_label_values(&[claim]).inc();
    }

    /// Says by how much an agent's clock is ahead; `None`: it is fine, or nobody knows.
    pub fn skew(&self, agent: &AgentId, skew_ms: Option<i64>) {
        let agent = [agent.as_str()];
        match skew_ms {
            Some(skew_ms) => self
                .clock_skew
                .with_label_values(&agent)
                .set(skew_ms as f64 / 1000.0),
            // An error means that it was not there.
            None => drop(self.clock_skew.remove_label_values(&agent)),
        }
    }

    /// Reads how many messages to stations wait. Values that cannot be read stay as they were.
    pub async fn refresh(&self, store: &Store, now_ms: i64) {
        if let Ok(standing) = stations::standing(store.readers()).await {
            let age_ms = standing.oldest_ms.map_or(0, |oldest_ms| now_ms - oldest_ms);
            self.station_waiting.set(standing.waiting);
            self.station_oldest.set(age_ms.max(0) / 1000);
        }
    }
}
