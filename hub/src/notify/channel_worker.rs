//! The task of one channel: reads due rows, sends them, has the writer write their deliveries.
use linli_shared::service::telemetry;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::LOOK_EVERY;
use super::bucket::Bucket;
use super::metrics::NotifyMetrics;
use super::peer::{Failure, Letter, Peer};
use super::plan::{self, Step};
use crate::centre::channels::Rate;
use crate::clock_watch::ClockWatch;
use crate::health::Line;
use crate::ingest::Ingest;
use linli_store::outbox::{self, Delivery, Settlement, Waiting};
use linli_store::{Store, StoreError};

/// Grace of a message on its way at a stop.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// A round sends one message; after this time its worker counts as stuck.
const ROUND_MAX: Duration = Duration::from_secs(300);
/// Pause after a failure of the store or the writer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The worker of a channel.
pub struct ChannelWorker {
    peer: Peer,
    store: Store,
    ingest: Ingest,
    metrics: NotifyMetrics,
    wake: watch::Receiver<()>,
    bucket: Bucket,
    /// Failed tries since the last successful one.
    failures: u32,
    /// Nothing is sent before this time, after a failed try.
    paused_until_ms: i64,
    /// Deliveries that the writer has not committed. Their rows are not sent meanwhile.
    unsettled: Vec<Settlement>,
    /// The hub's clock.
    clock: ClockWatch,
}

impl ChannelWorker {
    /// A worker that has sent nothing.
    pub fn new(
        peer: Peer,
        rate: Rate,
        store: Store,
        ingest: Ingest,
        metrics: NotifyMetrics,
        clock: ClockWatch,
    ) -> Self {
        Self {
            peer,
            store,
            wake: ingest.outbox(),
            ingest,
            metrics,
            bucket: Bucket::new(rate, clock.now_ms()),
            clock,
            failures: 0,
            paused_until_ms: i64::MIN,
            unsettled: Vec::new(),
        }
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.peer.channel()
    }

    /// Works until `stop`.
    pub async fn run(mut self, mut line: Line, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Rows that are written after this wake the wait below.
            self.wake.borrow_and_update();
            let pause = match line.during(ROUND_MAX, self.round(&stop)).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(channel = self.channel(), error = %telemetry::chain(&error), "the outbox cannot be read");
                    STORE_PAUSE
                }
            };
            if pause.is_zero() {
                continue;
            }
            // All arms are cancel-safe: a cancelled wait consumes nothing.
            tokio::select! {
                asked = line.asked() => asked.ready(),
                () = tokio::time::sleep(pause) => {}
                changed = self.wake.changed() => {
                    // The writer has ended, and the hub with it.
                    if changed.is_err() {
                        return;
                    }
                }
                () = stop.cancelled() => {}
            }
        }
    }

    /// Sends at most one message; returns how long there is nothing to do.
    async fn round(&mut self, stop: &CancellationToken) -> Result<Duration, StoreError> {
        if !self.settle().await {
            return Ok(STORE_PAUSE);
        }
        // Rows are due by hub time, so a step of the clock delays nothing.
        let now_ms = self.clock.now_ms();
        let until = |at_ms: i64| {
            let ms = at_ms.saturating_sub(now_ms).max(1).cast_unsigned();
            Duration::from_millis(ms).min(LOOK_EVERY)
        };
        let pool = self.store.readers();
        let standing = outbox::standing(pool, self.peer.channel()).await?;
        let oldest_ms = standing.oldest_ms.map_or(0, |oldest_ms| now_ms - oldest_ms);
        self.metrics.outbox(
            self.peer.channel(),
            standing.waiting,
            oldest_ms,
            standing.dead,
        );
        // A clock that was set back does not pause the channel for ever.
        let pause_max_ms = plan::PAUSE_MAX.as_millis() as i64 * 5;
        if (1..=pause_max_ms).contains(&self.paused_until_ms.saturating_sub(now_ms)) {
            return Ok(until(self.paused_until_ms));
        }
        let due = outbox::due(pool, self.peer.channel(), now_ms, plan::DIGEST_MAX).await?;
        if self.give_up_unreadable(&due) {
            return Ok(Duration::ZERO);
        }
        let severities: Vec<_> = due.iter().map(|row| row.severity).collect();
        match plan::next(&severities, &mut self.bucket, now_ms) {
            Step::Idle => Ok(standing.due_ms.map_or(LOOK_EVERY, until)),
            Step::Wait(at_ms) => Ok(until(at_ms)),
            Step::Send(count) => {
                self.bucket.take();
                self.send(&due[..count], stop).await;
                Ok(Duration::ZERO)
            }
        }
    }

    /// Gives up rows of a newer version that this one cannot read; true if there are any.
    fn give_up_unreadable(&mut self, due: &[Waiting]) -> bool {
        for row in due {
            if let Err(error) = &row.notice {
                tracing::error!(
                    channel = self.peer.channel(),
                    notice = row.id,
                    error,
                    "a notice cannot be read"
                );
                self.metrics.notified(self.peer.channel(), "dead", 1);
                self.unsettled.push(Settlement {
                    id: row.id,
                    outcome: Delivery::Dead {
                        error: format!("this notice cannot be read: {error}"),
                    },
                });
            }
        }
        !self.unsettled.is_empty()
    }

    async fn send(&mut self, rows: &[Waiting], stop: &CancellationToken) {
        let letters: Vec<Letter> = rows
            .iter()
            .filter_map(|row| {
                Some(Letter {
                    id: format!("{}/{}", row.decision, self.peer.channel()),
                    notice: row.notice.as_ref().ok()?.clone(),
                })
            })
            .collect();
        let sending = self.peer.send(&self.store, &letters, self.clock.now_ms());
        let cut_off = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        // Neither arm is cancel-safe, and neither is awaited again: a message that is cut off here is sent again
        // after the start, under the same ids.
        let outcome = tokio::select! {
            outcome = sending => outcome,
            () = cut_off => return,
        };
        let now_ms = self.clock.now_ms();
        let channel = self.peer.channel();
        match outcome {
            Ok(_) => {
                tracing::info!(channel, notices = rows.len(), "people are told");
                self.failures = 0;
                self.paused_until_ms = i64::MIN;
                self.metrics.notified(channel, "sent", rows.len());
                self.unsettled.extend(rows.iter().map(|row| Settlement {
                    id: row.id,
                    outcome: Delivery::Sent,
                }));
            }
            Err(failure) => {
                self.metrics.notify_failed(channel);
                let due_ms = match &failure {
                    Failure::Permanent { .. } => None,
                    Failure::Temporary { retry_after_ms, .. } => {
                        self.failures = self.failures.saturating_add(1);
                        let random =
                            u64::from_be_bytes(linli_shared::service::random::secret::<8>());
                        let pause_ms = plan::pause_ms(self.failures, random);
                        Some(now_ms + pause_ms.max(retry_after_ms.unwrap_or(0)))
                    }
                };
                tracing::warn!(
                    channel,
                    notices = rows.len(),
                    error = failure.error(),
                    again = due_ms.is_some(),
                    "people could not be told"
                );
                if let Some(due_ms) = due_ms {
                    self.paused_until_ms = due_ms;
                }
                let mut dead = 0;
                for row in rows {
                    let error = failure.error().to_owned();
                    let given_up = plan::is_given_up(row.attempts + 1, row.created_ms, now_ms);
                    let outcome = match due_ms {
                        Some(due_ms) if !given_up => Delivery::Retry { due_ms, error },
                        _ => {
                            dead += 1;
                            Delivery::Dead { error }
                        }
                    };
                    self.unsettled.push(Settlement {
                        id: row.id,
                        outcome,
                    });
                }
                if dead > 0 {
                    tracing::error!(
                        channel,
                        notices = dead,
                        error = failure.error(),
                        "notices are given up: see `linli-hub notifications list --state dead`"
                    );
                    self.metrics.notified(channel, "dead", dead);
                }
            }
        }
        // Also at a stop: the writer ends after this worker.
        self.settle().await;
    }

    /// Has the writer write deliveries; false if it does not at the moment.
    async fn settle(&mut self) -> bool {
        if self.unsettled.is_empty() {
            return true;
        }
        let settled = self.ingest.settle(self.unsettled.clone()).await.is_ok();
        if settled {
            self.unsettled.clear();
        }
        settled
    }
}
