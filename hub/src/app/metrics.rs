//! The metrics of the process, its certificates and its disk.
use linli_shared::service::metrics::Registrar;
use linli_shared::service::process::ProcessFigures;
use prometheus::{IntGauge, IntGaugeVec};

use linli_store::Store;

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct ProcessMetrics {
    not_after: IntGaugeVec,
    store_bytes: IntGauge,
    free_bytes: IntGauge,
    process: ProcessFigures,
}

impl ProcessMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let build = registrar.gauges(
            "linli_hub_build_info",
            "Always 1; the label is the version.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            not_after: registrar.gauges(
                "linli_hub_cert_not_after_timestamp_seconds",
                "When a certificate ends.",
                &["cert"],
            )?,
            store_bytes: registrar
                .gauge("linli_hub_store_bytes", "Database and its log, on disk.")?,
            free_bytes: registrar.gauge(
                "linli_hub_store_free_bytes",
                "What the disk of the database has left for the hub.",
            )?,
            process: ProcessFigures::register(registrar.registry())?,
        })
    }

    /// Says when a certificate ends.
    pub fn certificate(&self, name: &str, not_after_s: i64) {
        self.not_after.with_label_values(&[name]).set(not_after_s);
    }

    /// Reads the sizes of the database and its disk, and the figures of the process. Values that cannot be read stay
    /// as they were.
    pub async fn refresh(&self, store: &Store) {
        let (store_bytes, free_bytes) = store.size().await;
        if let Some(bytes) = store_bytes {
            self.store_bytes.set(bytes);
        }
        if let Some(bytes) = free_bytes {
            self.free_bytes.set(bytes);
        }
        self.process.look();
    }
}
