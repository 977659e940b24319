//! The metrics of the files of cases.
use linli_shared::service::metrics::Registrar;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::NotTaken;
use linli_store::{Store, attachments};

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct AttachmentMetrics {
    files: IntGauge,
    bytes: IntGauge,
    refused: IntCounterVec,
    /// Files of cases that could not be shown: missing, damaged, or without their key.
    pub unreadable: IntCounter,
    files_deleted: IntCounter,
}

impl AttachmentMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            files: registrar.gauge("linli_hub_attachments", "Files of cases.")?,
            bytes: registrar.gauge(
                "linli_hub_attachment_bytes",
                "Bytes of the files of cases, those of a file that two cases have twice.",
            )?,
            refused: registrar.counters(
                "linli_hub_attachments_refused_total",
                "Files that were not taken, by why: name, type, size, room, cut, busy, disk.",
                &["reason"],
            )?,
            unreadable: registrar.counter(
                "linli_hub_attachments_unreadable_total",
                "Requests for a file of a case that is missing, damaged or without its key.",
            )?,
            files_deleted: registrar.counter(
                "linli_hub_attachment_files_deleted_total",
                "Files that retention has deleted because no case refers to them any more.",
            )?,
        };
        for reason in NotTaken::ALL {
            metrics
                .refused
                .with_label_values(&[reason.as_str()])
                .inc_by(0);
        }
        Ok(metrics)
    }

    /// Reads how many files cases have, and their bytes. Values that cannot be read stay as they were.
    pub async fn refresh(&self, store: &Store) {
        if let Ok((files, bytes)) = attachments::sum(store.readers()).await {
            self.files.set(files);
            self.bytes.set(bytes);
        }
    }

    /// Counts a file that was not taken.
    pub fn refused(&self, reason: NotTaken) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts files that no case referred to.
    pub fn files_deleted(&self, files: u64) {
        self.files_deleted.inc_by(files);
    }
}
