//! The metrics of retention.
use linli_shared::service::metrics::Registrar;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use linli_store::retention::class::Class;

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct RetentionMetrics {
    deleted: IntCounterVec,
    oldest: IntGaugeVec,
    last_run: IntGauge,
    /// Runs of retention that did not come to their end.
    pub failures: IntCounter,
}

impl RetentionMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            deleted: registrar.counters(
                "linli_hub_retention_deleted_rows_total",
                "Rows that the hub has deleted because their time was over, by class.",
                &["class"],
            )?,
            oldest: registrar.gauges(
                "linli_hub_retention_oldest_age_seconds",
                "Age of the oldest row of a class, as of the last run or start.",
                &["class"],
            )?,
            last_run: registrar.gauge(
                "linli_hub_retention_last_run_timestamp_seconds",
                "When what was due was last deleted; 0: never yet.",
            )?,
            failures: registrar.counter(
                "linli_hub_retention_failures_total",
                "Runs of retention that did not come to their end.",
            )?,
        };
        for class in Class::ALL {
            metrics.deleted(class, 0);
        }
        Ok(metrics)
    }

    /// Counts rows that were deleted because their time was over.
    pub fn deleted(&self, class: Class, rows: u64) {
        self.deleted
            .with_label_values(&[class.as_str()])
            .inc_by(rows);
    }

    /// How old the oldest row of a class is.
    pub fn oldest(&self, class: Class, age_ms: i64) {
        self.oldest
            .with_label_values(&[class.as_str()])
            .set(age_ms.max(0) / 1000);
    }

    /// When a run of retention came to its end.
    pub fn last_run(&self, at_ms: i64) {
        self.last_run.set(at_ms / 1000);
    }
}
