//! The metrics of channels: what waits, what was sent, what was given up.
use linli_shared::service::metrics::Registrar;
use prometheus::{IntCounterVec, IntGaugeVec};

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct NotifyMetrics {
    outbox_waiting: IntGaugeVec,
    outbox_oldest: IntGaugeVec,
    outbox_dead: IntGaugeVec,
    notifications: IntCounterVec,
    notify_failures: IntCounterVec,
}

impl NotifyMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            outbox_waiting: registrar.gauges(
                "linli_hub_outbox_waiting",
                "Notices that are still to be sent.",
                &["channel"],
            )?,
            outbox_oldest: registrar.gauges(
                "linli_hub_outbox_oldest_age_seconds",
                "Age of the oldest notice that is still to be sent.",
                &["channel"],
            )?,
            outbox_dead: registrar.gauges(
                "linli_hub_outbox_dead",
                "Notices that were given up and wait for somebody to send them again.",
                &["channel"],
            )?,
            notifications: registrar.counters(
                "linli_hub_notifications_total",
                "Notices by what became of them: sent, dead.",
                &["channel", "outcome"],
            )?,
            notify_failures: registrar.counters(
                "linli_hub_notify_failures_total",
                "Messages that a peer did not take; most are tried again.",
                &["channel"],
            )?,
        };
        Ok(metrics)
    }

    /// Makes the figures of a channel, so that they are there before anything happens.
    pub fn channel(&self, channel: &str) {
        for outcome in ["sent", "dead"] {
            self.notified(channel, outcome, 0);
        }
        self.notify_failures.with_label_values(&[channel]).inc_by(0);
        self.outbox(channel, 0, 0, 0);
    }

    /// How the outbox of a channel stands.
    pub fn outbox(&self, channel: &str, waiting: i64, oldest_ms: i64, dead: i64) {
        let channel = [channel];
        self.outbox_waiting.with_label_values(&channel).set(waiting);
        self.outbox_oldest
            .with_label_values(&channel)
            .set(oldest_ms.max(0) / 1000);
        self.outbox_dead.with_label_values(&channel).set(dead);
    }

    /// Counts notices by what became of them.
    pub fn notified(&self, channel: &str, outcome: &str, notices: usize) {
        self.notifications
            .with_label_values(&[channel, outcome])
            .inc_by(notices as u64);
    }

    /// Counts a message that a peer did not take.
    pub fn notify_failed(&self, channel: &str) {
        self.notify_failures.with_label_values(&[channel]).inc();
    }
}
