//! The door between a source and the intake. Each rule that holds for every device is implemented here, once.
//!
//! A source hands over each message with its decoded form; the ingest
//! 1. keeps the raw message on this box for `keep_raw_for` ([`raw_log`]),
//! 2. stamps the receipt, and decides from it and the device's claim when the event happened ([`device_clock`]),
//! 3. deduplicates: the spool receives the event's id, and a state that is already known creates no event,
//! 4. watches for silent devices ([`devices`]): their state is unknown, never normal,
//! 5. counts unreadable messages and keeps a bounded sample ([`source_status`]),
//! 6. returns only when everything is synced: then the source may answer its device,
//! 7. replaces cards and names with pseudonyms, or drops them.
//!
//! ```text
//! source ─ raw, DecodedMessage ▶ IngestBatch ─ store ▶ intake ▶ spool    Ok: all is durable, known and counted
//!                                    │                                   Err: ask the device again; a lane that stored is done
//!                                    └▶ raw log, live tap
//! ```
//!
//! **No batch blocks another.** No lock is held over a sync: batches of a source are stored side by side and share
//! syncs. A message that repeats a state in flight is answered when that state is durable. The lanes of a batch do
//! not wait for each other's outcome, and the agent's own events (`device.online`, `device.clock`) never block a
//! device: if the spool refuses one, the agent reports it again later.
//!
//! **A store that has begun always finishes**, on a task of its own, even if its source ends: the outcome is never
//! lost.
mod arrival;
mod batch;
pub(crate) mod device;
pub(crate) mod device_clock;
mod device_events;
pub(crate) mod devices;
mod items;
pub(crate) mod live_tap;
pub(crate) mod places;
mod pledges;
pub(crate) mod raw_log;
pub(crate) mod source_status;
pub(crate) mod state_store;
pub(crate) mod states;

use jiff::tz::TimeZone;
use linli_shared::protocol::event::{DEVICE_OFFLINE, Severity};
use linli_shared::service::clock;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock_anchors;
use crate::intake::{Intake, Submission, SubmitError, SubmitOutcome, Submitted};
use crate::metrics::{Metrics, SourceFigures};
use crate::pending::Pending;
use crate::pseudonym::Pseudonyms;
pub use arrival::Arrival;
pub use batch::IngestBatch;
pub use device_clock::Receipt;
use devices::Devices;
pub use items::Items;
use linli_devices::device_event::{DecodedMessage, DeviceEvent, Reject};
use live_tap::{LiveTap, Seen};
use places::DevicePlace;
use raw_log::RawLog;
use source_status::{Away, SourceStatus, SourceView};

/// A batch with this many events is stored before more is read.
pub const BATCH_EVENTS: usize = 256;

/// State shared by all sources of an agent.
#[derive(Clone)]
pub struct Shared {
    /// Name of the agent; empty before it has joined.
    pub agent: Arc<str>,
    /// Time since which no agent accepted events, as of this start, milliseconds since 1970 UTC.
    pub down_since_ms: Option<i64>,
    /// The intake that receives the events.
    pub intake: Intake,
    /// Submissions on their way to the intake.
    pub pending: Pending,
    /// Places by device id.
    pub places: Arc<HashMap<String, DevicePlace>>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// The log of raw messages; `None` if none are kept.
    pub raw: Option<RawLog>,
    /// Metrics.
    pub metrics: Metrics,
}

/// Settings that every source has.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name.
    pub name: String,
    /// `type` in the config.
    pub kind: &'static str,
    /// Zone of times that carry none.
    pub zone: TimeZone,
    /// How long raw messages stay on this box.
    pub keep_raw_for: Duration,
    /// Longest silence of a device.
    pub silent_after: Option<Duration>,
    /// Largest trusted offset of a device's clock.
    pub clock_bound: Duration,
}

impl Settings {
    fn clock_bound_ms(&self) -> i64 {
        self.clock_bound.as_millis() as i64
    }
}

/// Cloneable; all clones belong to the same source.
#[derive(Clone)]
pub struct SourceIngest(Arc<Inner>);

struct Inner {
    settings: Settings,
    shared: Shared,
    figures: SourceFigures,
    status: Mutex<SourceStatus>,
    tap: LiveTap,
    batches: AtomicU64,
}

impl SourceIngest {
    /// The ingest of a source that expects these devices.
    pub fn new(settings: Settings, devices: &[String], shared: Shared) -> Self {
        let mut status = SourceStatus::new(settings.silent_after);
        let now_ms = clock::monotonic_ms();
        for device in devices {
            status.devices.expect(device, now_ms);
        }
        let figures = shared.metrics.source(&settings.name);
        Self(Arc::new(Inner {
            figures,
            status: Mutex::new(status),
            tap: LiveTap::new(),
            batches: AtomicU64::new(0),
            settings,
            shared,
        }))
    }

    /// Name of the source.
    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// Name of the agent.
    pub fn agent(&self) -> &str {
        &self.0.shared.agent
    }

    /// Time since which no agent accepted events, as of this start.
    pub fn down_since_ms(&self) -> Option<i64> {
        self.0.shared.down_since_ms
    }

    /// The zone of times that carry none.
    pub fn zone(&self) -> &TimeZone {
        &self.0.settings.zone
    }

    /// The time that may be sent to devices, milliseconds since 1970 UTC; `None` while the gateway's clock is not
    /// synchronised.
    pub fn told_ms(&self) -> Option<i64> {
        let gateway = self.0.shared.intake.gateway();
        gateway.told_ms(clock::wall_ms(), clock_anchors::offset_ms())
    }

    fn status(&self) -> MutexGuard<'_, SourceStatus> {
        // Each change of the status is complete after one statement, so a poisoned lock is consistent.
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> u64 {
        self.0.batches.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives access to the devices of the source.
    pub fn with_devices<T>(&self, look: impl FnOnce(&mut Devices) -> T) -> T {
        look(&mut self.status().devices)
    }

    /// An empty batch; its messages count as received now. Create it only when messages are at hand: while it lives,
    /// no watermark passes its beginning.
    pub fn batch(&self) -> IngestBatch {
        IngestBatch::new(self)
    }

    /// A receipt now.
    fn receipt(&self) -> Receipt {
        Receipt {
            received_ms: clock::wall_ms(),
            is_synchronised: self
                .0
                .shared
                .intake
                .gateway()
                .is_synchronised_at(clock_anchors::offset_ms()),
            bound_ms: self.clock_bound_ms(),
        }
    }

    /// The arrival of a message now.
    pub fn arrival(&self) -> Arrival {
        Arrival::now(self.receipt())
    }

    /// Makes a batch durable. Only then may its device be answered. The store finishes even if the caller stops
    /// waiting.
    pub async fn store(&self, batch: IngestBatch) -> Result<Submitted, SubmitError> {
        let (stored, _) = self.finished(batch).await;
        stored
    }

    /// Makes the agent's own events durable. False: report them again later.
    async fn store_told(&self, batch: IngestBatch) -> bool {
        let (_, is_told) = self.finished(batch).await;
        is_told
    }

    async fn finished(&self, batch: IngestBatch) -> (Result<Submitted, SubmitError>, bool) {
        match tokio::spawn(Self::finish(batch)).await {
            Ok(finished) => finished,
            Err(error) => {
                tracing::error!(source = self.name(), %error, "storing a batch ended with a fault");
                (Err(SubmitError::Task), false)
            }
        }
    }

    async fn finish(batch: IngestBatch) -> (Result<Submitted, SubmitError>, bool) {
        let mut is_told = false;
        let stored = Self::settle(batch, &mut is_told).await;
        (stored, is_told)
    }

    async fn settle(batch: IngestBatch, is_told: &mut bool) -> Result<Submitted, SubmitError> {
        let IngestBatch {
            ingest,
            stamp,
            submission,
            own,
            mut pledges,
            earlier,
            prints,
            done,
            tally,
            raw,
            seen,
            lag_ms,
            said,
            ..
        } = batch;
        let received_ms = stamp.received_ms();
        let events = submission.len() as u64;
        let inner = &ingest.0;
        let intake = &inner.shared.intake;
        let submit = |submission: Submission| async {
            match submission.len() {
                0 => Ok(SubmitOutcome::default()),
                _ => intake.submit(submission).await,
            }
        };
        let (told, outcome) = tokio::join!(submit(own), submit(submission));
        match told {
            Ok(told) if told.refused.is_empty() => {
                *is_told = true;
                pledges.told();
                inner.figures.stored.inc_by(told.submitted.stored as u64);
            }
            _ => pledges.not_told(),
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                inner.figures.refused.inc_by(events);
                return Err(error);
            }
        };
        let refused: Vec<_> = outcome.refused.iter().map(|(way, _)| *way).collect();
        let is_whole = refused.is_empty();
        {
            let mut status = ingest.status();
            if is_whole {
                status.remove_done(&done);
            } else {
                status.remove_done(&done);
                // The device sends the whole batch again: events that are already durable are not stored again.
                let durable = prints.iter().filter(|(_, way)| !refused.contains(way));
                status.add_done(
                    done.into_iter().chain(durable.map(|(print, _)| *print)),
                    clock::monotonic_ms(),
                );
            }
        }
        pledges.settle(refused);
        let stored = outcome.submitted.stored as u64;
        let figures = &inner.figures;
        figures.stored.inc_by(stored);
        figures
            .doubled
            .inc_by(outcome.submitted.doubled as u64 + tally.doubled);
        figures.conflicts.inc_by(outcome.submitted.conflicts as u64);
        let submitted = match outcome.whole() {
            Ok(submitted) => submitted,
            Err(error) => {
                figures.refused.inc_by(events.saturating_sub(stored));
                return Err(error);
            }
        };
        drop(stamp);
        for mut batch in earlier {
            // A dropped sender has stored nothing.
            let settled = batch.settled.wait_for(Option::is_some).await;
            let is_durable = settled.is_ok_and(|refused| {
                refused
                    .as_ref()
                    .is_some_and(|ways| !ways.contains(&batch.way))
            });
            if !is_durable {
                return Err(SubmitError::Earlier);
            }
        }
        {
            let mut status = ingest.status();
            if said {
                status.last_message_ms = Some(received_ms);
            }
            if lag_ms.is_some() {
                status.lag_ms = lag_ms;
            }
            for (reason, sample) in tally.samples {
                status.reject(received_ms, reason, &sample);
            }
        }
        figures.repeated.inc_by(tally.repeated);
        figures.heartbeat.inc_by(tally.heartbeat);
        figures.filtered.inc_by(tally.left_out);
        figures.rejected.inc_by(tally.rejected);
        figures.implausible_times.inc_by(tally.implausible_times);
        figures.unreadable_times.inc_by(tally.unreadable_times);
        if let Some(log) = &inner.shared.raw
            && !raw.is_empty()
        {
            log.keep(ingest.name(), raw);
        }
        for seen in seen {
            inner.tap.show(seen);
        }
        Ok(submitted)
    }

    /// Stores one message as a batch of its own.
    pub async fn take(
        &self,
        raw: &[u8],
        decoded: Result<DecodedMessage<'_>, Reject>,
    ) -> Result<Submitted, SubmitError> {
        let mut batch = self.batch();
        batch.message(raw, decoded);
        self.store(batch).await
    }

    /// Records that the source is connected to this peer.
    pub fn up(&self, peer: &str) {
        self.status().up(peer, clock::wall_ms());
    }

    /// Records that the source listens: its devices may connect or not.
    pub fn listens(&self, address: &str) {
        self.status().listening(address, clock::wall_ms());
    }

    /// Records that the source is not connected, or no longer listens.
    pub fn down(&self, why: &str) {
        self.status()
            .down(why, clock::wall_ms(), clock::monotonic_ms());
    }

    /// Records that a connection to one device failed or ended. The device's next message clears it.
    pub fn trouble(&self, device: &str, why: &str) {
        self.status()
            .devices
            .trouble(device, why, clock::monotonic_ms());
    }

    /// Largest trusted offset of a device's clock.
    pub fn clock_bound_ms(&self) -> i64 {
        self.0.settings.clock_bound_ms()
    }

    /// Counts messages with this outcome; for sources that answer them by themselves.
    pub fn count(&self, outcome: &'static str, count: u64) {
        self.0.figures.count(outcome, count);
    }

    /// Records a message that was refused whole: it is shown and kept as the sample of this `key`, see
    /// [`SourceStatus::refused`]. `raw` is empty if the sender is not authenticated.
    pub fn refused(&self, key: &str, raw: &[u8], reason: &str) {
        let now_ms = clock::wall_ms();
        self.status().refused(now_ms, key, reason, raw);
        if self.0.tap.is_watched() {
            let mut seen = Seen::new(now_ms, raw);
            seen.outcome = Cow::Borrowed("refused");
            seen.reason = Some(reason.to_owned());
            self.0.tap.show(seen);
        }
        if let Some(log) = &self.0.shared.raw
            && !raw.is_empty()
            && !self.0.settings.keep_raw_for.is_zero()
        {
            let mut line = String::new();
            raw_log::line(&mut line, now_ms, "refused", raw);
            log.keep(self.name(), line);
        }
    }

    /// Clears the last error: the message that was refused last has now been accepted.
    pub fn error_is_over(&self) {
        self.status().error_is_over();
    }

    /// Reports devices that have fallen silent, and a source that is away. Called by the clock of all sources.
    pub async fn tick(&self) {
        self.tell_away().await;
        let silent = self.status().devices.fallen_silent(clock::monotonic_ms());
        if silent.is_empty() {
            return;
        }
        for names in silent.chunks(BATCH_EVENTS) {
            let mut batch = self.batch();
            for name in names {
                let device_event =
                    DeviceEvent::new(DEVICE_OFFLINE, Severity::Notice, name.as_str())
                        .with("state", "unknown");
                if let Err(reject) = batch.tell(&device_event) {
                    tracing::warn!(source = self.name(), %reject, "a silent device cannot be told");
                }
            }
            if !self.store_told(batch).await {
                tracing::debug!(source = self.name(), "silent devices are told later");
                return;
            }
            let mut status = self.status();
            for name in names {
                status.devices.told_silent(name);
            }
        }
    }

    /// Reports a source that lost its broker or its listening port, and so hears no device, under the source's own
    /// name.
    async fn tell_away(&self) {
        let Some(away) = self.status().away(clock::monotonic_ms()) else {
            return;
        };
        let name = self.name();
        let device_event = match &away {
            Away::Gone(why) => DeviceEvent::new(DEVICE_OFFLINE, Severity::Notice, name)
                .with("state", "unknown")
                .with("reason", why.as_str()),
            Away::Back => DeviceEvent::new("device.online", Severity::Info, name),
        };
        let mut batch = self.batch();
        if let Err(reject) = batch.tell(&device_event) {
            tracing::warn!(source = name, %reject, "a source that is away cannot be told");
        }
        if self.store_told(batch).await {
            self.status().told_away(&away);
        } else {
            tracing::debug!(source = name, "that a source is away is told later");
        }
    }

    /// Copies the devices' presence into the metrics.
    pub fn scrape(&self) {
        let status = self.status();
        let figures = &self.0.figures;
        let count = status.devices.count();
        figures
            .connected
            .set(i64::from(status.is_up() || count.online > 0));
        figures.online.set(count.online as i64);
        figures.unknown.set(count.unknown as i64);
        figures
            .last_message
            .set(status.last_message_ms.unwrap_or(0) / 1000);
        figures.lag.set(status.lag_ms.unwrap_or(0) as f64 / 1000.0);
        let clocks = status.devices.clocks_off(self.0.settings.clock_bound_ms());
        let offset_ms = clocks.first().map_or(0, |(_, offset_ms)| *offset_ms);
        figures.clocks_off.set(clocks.len() as i64);
        figures.clock_offset.set(offset_ms as f64 / 1000.0);
    }

    /// The source as `status` shows it.
    pub fn view(&self) -> SourceView {
        let settings = &self.0.settings;
        self.status().view(
            &settings.name,
            settings.kind,
            settings.clock_bound_ms(),
            &self.0.figures,
        )
    }

    /// Arriving messages, live.
    pub fn tap(&self) -> &LiveTap {
        &self.0.tap
    }
}

impl Inner {
    /// The place of a device; a device behind a panel has the panel's place unless the config says otherwise.
    fn place(&self, device: &str) -> Option<&DevicePlace> {
        let places = &self.shared.places;
        places.get(device).or_else(|| {
            let (panel, _) = device.rsplit_once('/')?;
            places.get(panel)
        })
    }
}

#[cfg(test)]
mod tests;
