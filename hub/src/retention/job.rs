//! The daily job of retention in the hub, at the hour of the config, and its metrics.
//!
//! While the hub's clock is doubtful nothing is deleted (`clock_guard.rs`).
//!
//! The database has the time of the last run, so a hub that was off at the hour catches up when it runs. The
//! first hour of a new hub is the next one.
use linli_shared::service::telemetry;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::RetentionConfig;
use super::metrics::RetentionMetrics;
use super::{Class, DAY_MS, Floors, RetentionError, RetentionWriter, Run};
use crate::attachments::files::Files;
use crate::attachments::metrics::AttachmentMetrics;
use crate::clock_watch::ClockWatch;
use crate::health::Line;
use crate::ingest::Ingest;
use linli_domain::correlate::rule::Rule;
use linli_domain::local_time;
use linli_store::retention as stored;
use linli_store::sealed::Sealer;
use linli_store::{Store, StoreError};

/// Interval of looking at the clock.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after a failed run.
const FAILED_PAUSE_MS: i64 = 600_000;
/// The actor in proofs and in the audit log.
const ACTOR: &str = "hub";

/// The job.
pub struct Job {
    pub store: Store,
    pub ingest: Ingest,
    /// The rules that run.
    pub rules: watch::Receiver<Vec<Arc<Rule>>>,
    pub config: RetentionConfig,
    pub sealer: Arc<Sealer>,
    pub files: Files,
    pub metrics: RetentionMetrics,
    /// Metrics of the files that it deletes.
    pub attachments: AttachmentMetrics,
    pub clock: ClockWatch,
}

/// The first due time after another time.
fn next_ms(after_ms: i64, minute: u16) -> i64 {
    let at_ms = i64::from(minute) * 60_000;
    let midnight_ms = local_time::midnight_ms(local_time::at(after_ms).date()).unwrap_or(after_ms);
    let today_ms = midnight_ms.saturating_add(at_ms);
    if today_ms > after_ms {
        today_ms
    } else {
        today_ms.saturating_add(DAY_MS)
    }
}

/// Maximum duration of a run; after it the job counts as stuck.
const RUN_MAX: Duration = Duration::from_secs(6 * 3600);

impl Job {
    /// Runs until `stop`.
    pub async fn run(self, mut line: Line, stop: CancellationToken) -> io::Result<()> {
        let mut due_ms = 0;
        let mut is_known = false;
        loop {
            let now_ms = self.clock.now_ms();
            if !is_known {
                match line.during(RUN_MAX, self.begin(now_ms)).await {
                    Ok(last_ms) => {
                        due_ms = next_ms(last_ms, self.config.minute());
                        is_known = true;
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = telemetry::chain(&error),
                            "when retention ran last cannot be read"
                        );
                    }
                }
            } else if now_ms >= due_ms && self.clock.doubt().is_none() {
                // Not cancelled: it ends between two batches with the writer.
                due_ms = match line.during(RUN_MAX, self.once(now_ms)).await {
                    Ok(()) => next_ms(now_ms, self.config.minute()),
                    Err(error) => {
                        self.metrics.failures.inc();
                        tracing::error!(
                            error = telemetry::chain(&error),
                            "what is due was not all deleted; it is tried again"
                        );
                        now_ms.saturating_add(FAILED_PAUSE_MS)
                    }
                };
            }
            // All arms are cancel-safe: the clock is read again.
            tokio::select! {
                asked = line.asked() => asked.ready(),
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// The time of the last run; a new hub counts from now.
    async fn begin(&self, now_ms: i64) -> Result<i64, StoreError> {
        let mut reader = self.store.reader().await?;
        let last_ms = stored::last_run_ms(&mut reader).await?;
        drop(reader);
        self.metrics.last_run(last_ms);
        self.look(now_ms).await?;
        Ok(if last_ms == 0 { now_ms } else { last_ms })
    }

    async fn once(&self, now_ms: i64) -> Result<(), RetentionError> {
        let rules = self.rules.borrow().clone();
        if let Err(message) = Floors::of(&rules).check(&self.config) {
            tracing::warn!(
                message,
                "rules look back further than the config keeps: what they need stays"
            );
        }
        let run = Run {
            store: &self.store,
            sealer: &self.sealer,
            files: &self.files,
            config: &self.config,
            rules: &rules,
            actor: ACTOR,
            now_ms,
        };
        let deleted = run.carry_out(RetentionWriter::Hub(&self.ingest)).await?;
        let mut rows = 0;
        self.attachments.files_deleted(deleted.files);
        for (class, count) in deleted.rows {
            self.metrics.deleted(class, count);
            rows += count;
        }
        self.metrics.last_run(now_ms);
        tracing::info!(rows, files = deleted.files, "what was due is deleted");
        Ok(self.look(now_ms).await?)
    }

    /// The ages of the oldest rows.
    async fn look(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut reader = self.store.reader().await?;
        for class in Class::ALL {
            let oldest_ms = stored::oldest_ms(&mut reader, class).await?;
            let age_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
            self.metrics.oldest(class, age_ms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_due_at_the_next_hour_by_the_centres_clock() {
        let at = |text: &str| -> i64 {
            let time: jiff::Timestamp = text.parse().expect("a time");
            time.as_millisecond()
        };
        for (after, wanted) in [
            ("2026-03-01T00:00:00+08:00", "2026-03-01T03:30:00+08:00"),
            ("2026-03-01T03:29:59+08:00", "2026-03-01T03:30:00+08:00"),
            ("2026-03-01T03:30:00+08:00", "2026-03-02T03:30:00+08:00"),
            ("2026-02-28T23:00:00+08:00", "2026-03-01T03:30:00+08:00"),
        ] {
            assert_eq!(next_ms(at(after), 210), at(wanted), "{after}");
        }
    }
}
