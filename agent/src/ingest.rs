//! The door between a source and the intake: what must hold for every device holds here, once.
//!
//! A source gives each message with what it came to; the feed
//! 1. keeps the raw message on this box for `keep_raw_for` ([`raw_log`]),
//! 2. stamps the receipt, reads the device's time in the source's zone, and does not believe what cannot be,
//! 3. stores what a device says again once: the id of its event goes to the spool, a state that is known is no event,
//! 4. watches over the silence of devices ([`devices`](crate::ingest::presence)): unknown, never normal,
//! 5. counts what could not be read, with a bounded sample ([`standing`](crate::ingest::source_status)),
//! 6. gives back only when everything is synced: then the source may answer its device,
//! 7. makes pseudonyms of cards and names, or drops them.
//!
//! ```text
//! source ─ raw, DecodedMessage ▶ IngestBatch ─ store ▶ intake ▶ spool      Ok: all of it is durable, states are known, it is counted
//!                        │                                 Err: nothing of it is known or counted; ask the device again
//!                        └▶ raw log, live watch
//! ```
mod batch;
mod items;
pub(crate) mod live_tap;
pub(crate) mod places;
pub(crate) mod presence;
pub(crate) mod raw_log;
pub(crate) mod source_status;
pub(crate) mod state_store;

use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use linli_shared::service::clock;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

use crate::ingest::live_tap::{LiveTap, Seen};
use crate::ingest::places::DevicePlace;
use crate::ingest::presence::Devices;
use crate::ingest::raw_log::RawLog;
use crate::ingest::source_status::{Away, SourceStatus, SourceView};
use crate::intake::{Intake, SubmitError, Submitted};
use crate::metrics::{Metrics, SourceFigures};
use crate::pending::Pending;
use crate::pseudonym::Pseudonyms;
pub use batch::IngestBatch;
pub use items::Items;
use linli_devices::device_event::{DecodedMessage, DeviceEvent, Reject};

/// A group that has as many events is stored before more is read.
pub const BATCH_EVENTS: usize = 256;

/// What all sources of an agent share.
#[derive(Clone)]
pub struct Shared {
    /// Where events go.
    pub intake: Intake,
    /// What is on its way there.
    pub pending: Pending,
    /// Places by device id.
    pub places: Arc<HashMap<String, DevicePlace>>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Raw messages; `None` where none are kept.
    pub raw: Option<RawLog>,
    /// Figures.
    pub metrics: Metrics,
}

/// What the config says of every source.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name.
    pub name: String,
    /// `type` in the config.
    pub kind: &'static str,
    /// Of times that carry none.
    pub zone: TimeZone,
    /// How long raw messages stay on this box.
    pub keep_raw_for: Duration,
    /// How long a device may say nothing.
    pub silent_after: Option<Duration>,
}

/// Cloneable; all clones are of the same source.
#[derive(Clone)]
pub struct SourceIngest(Arc<Inner>);

struct Inner {
    settings: Settings,
    shared: Shared,
    figures: SourceFigures,
    /// Held from the look at a state to its durability, where several may tell of one device at once.
    states: Arc<AsyncMutex<()>>,
    book: Mutex<SourceStatus>,
    watch: LiveTap,
}

impl SourceIngest {
    /// Of a source that expects these devices.
    pub fn new(settings: Settings, devices: &[String], shared: Shared) -> Self {
        let mut book = SourceStatus::new(settings.silent_after);
        let now_ms = clock::monotonic_ms();
        for device in devices {
            book.devices.expect(device, now_ms);
        }
        let figures = shared.metrics.source(&settings.name);
        Self(Arc::new(Inner {
            figures,
            states: Arc::default(),
            book: Mutex::new(book),
            watch: LiveTap::new(),
            settings,
            shared,
        }))
    }

    /// Name of the source.
    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// The zone of times that carry none.
    pub fn zone(&self) -> &TimeZone {
        &self.0.settings.zone
    }

    fn book(&self) -> MutexGuard<'_, SourceStatus> {
        // Each change of it is whole after one statement.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of its devices.
    pub fn with_devices<T>(&self, look: impl FnOnce(&mut Devices) -> T) -> T {
        look(&mut self.book().devices)
    }

    /// An empty group, alone with the states of the source until it is stored: for sources that hear one device in several
    /// ways at once. Without it a state that waits for its sync would be compared with what was before it.
    pub async fn alone(&self) -> IngestBatch<'_> {
        let alone = self.0.states.clone().lock_owned().await;
        IngestBatch::new(self, Some(alone))
    }

    /// An empty group; messages are received now. Only for what is at hand: while it lives, no watermark passes its beginning.
    pub fn batch(&self) -> IngestBatch<'_> {
        IngestBatch::new(self, None)
    }

    /// Makes a group durable. Only then may its device be answered.
    pub async fn store(&self, batch: IngestBatch<'_>) -> Result<Submitted, SubmitError> {
        let IngestBatch {
            stamp,
            submission,
            staged,
            mut back,
            tally,
            raw,
            seen,
            lag_ms,
            said,
            _alone,
            ..
        } = batch;
        let received_ms = stamp.received_ms();
        let events = submission.len();
        let submitted = if events == 0 {
            Ok(Submitted::default())
        } else {
            self.0.shared.intake.submit(submission).await
        };
        drop(stamp);
        let submitted = match submitted {
            Ok(submitted) => {
                back.devices.clear();
                submitted
            }
            Err(error) => {
                self.0.figures.refused.inc_by(events as u64);
                if let SubmitError::Append { lane: refused, .. } = &error {
                    // What was for a lane before is durable: said again it is no news.
                    let mut book = self.book();
                    let now_ms = clock::monotonic_ms();
                    for (lane, staged) in staged {
                        if lane.is_some_and(|lane| lane < *refused) {
                            book.devices.apply(staged, now_ms);
                        }
                    }
                }
                return Err(error);
            }
        };
        {
            let mut book = self.book();
            let now_ms = clock::monotonic_ms();
            for (_, staged) in staged {
                book.devices.apply(staged, now_ms);
            }
            if said {
                book.last_message_ms = Some(received_ms);
            }
            if lag_ms.is_some() {
                book.lag_ms = lag_ms;
            }
            for (reason, sample) in tally.samples {
                book.reject(received_ms, reason, &sample);
            }
        }
        let figures = &self.0.figures;
        figures.stored.inc_by(submitted.stored as u64);
        figures.doubled.inc_by(submitted.doubled as u64);
        figures.repeated.inc_by(tally.repeated);
        figures.heartbeat.inc_by(tally.heartbeat);
        figures.filtered.inc_by(tally.left_out);
        figures.rejected.inc_by(tally.rejected);
        figures.implausible_times.inc_by(tally.implausible_times);
        if let Some(log) = &self.0.shared.raw
            && !raw.is_empty()
        {
            log.keep(self.name(), raw);
        }
        for seen in seen {
            self.0.watch.show(seen);
        }
        Ok(submitted)
    }

    /// One message as a group of its own.
    pub async fn take(
        &self,
        raw: &[u8],
        said: Result<DecodedMessage<'_>, Reject>,
    ) -> Result<Submitted, SubmitError> {
        let mut batch = self.alone().await;
        batch.message(raw, said);
        self.store(batch).await
    }

    /// What the source is connected to is there.
    pub fn up(&self, peer: &str) {
        self.book().up(peer, clock::wall_ms());
    }

    /// The source listens: its devices may come or not.
    pub fn listens(&self, address: &str) {
        self.book().listening(address, clock::wall_ms());
    }

    /// It is not, or no more.
    pub fn down(&self, why: &str) {
        self.book()
            .down(why, clock::wall_ms(), clock::monotonic_ms());
    }

    /// The connection of one device could not be made, or ended. It is heard again when it says something.
    pub fn trouble(&self, device: &str, why: &str) {
        self.book()
            .devices
            .trouble(device, why, clock::monotonic_ms());
    }

    /// Messages that gave an answer of their own, counted by the source itself.
    pub fn count(&self, outcome: &'static str, count: u64) {
        self.0.figures.count(outcome, count);
    }

    /// A message that was refused whole: shown and kept as the sample of this `key`, see [`SourceStatus::refused`]. `raw` is empty
    /// where nobody has proved to have sent it.
    pub fn refused(&self, key: &str, raw: &[u8], reason: &str) {
        let now_ms = clock::wall_ms();
        self.book().refused(now_ms, key, reason, raw);
        if self.0.watch.is_watched() {
            let mut seen = Seen::new(now_ms, raw);
            seen.outcome = Cow::Borrowed("refused");
            seen.reason = Some(reason.to_owned());
            self.0.watch.show(seen);
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

    /// What was refused last has come well.
    pub fn error_is_over(&self) {
        self.book().error_is_over();
    }

    /// Tells devices that have fallen silent, and that the source itself is away. Called by the clock of all sources.
    pub async fn tick(&self) {
        self.tell_away().await;
        let silent = self.book().devices.fallen_silent(clock::monotonic_ms());
        if silent.is_empty() {
            return;
        }
        for names in silent.chunks(BATCH_EVENTS) {
            let mut batch = self.batch();
            for name in names {
                let device_event =
                    DeviceEvent::new("device.offline", Severity::Notice, name.as_str())
                        .with("state", "unknown");
                if let Err(reject) = batch.event(&device_event) {
                    tracing::warn!(source = self.name(), %reject, "a silent device cannot be told");
                }
            }
            if let Err(error) = self.store(batch).await {
                tracing::debug!(source = self.name(), %error, "silent devices are told later");
                return;
            }
            let mut book = self.book();
            for name in names {
                book.devices.told_silent(name);
            }
        }
    }

    /// Without its broker, or the port that its devices call, a source hears none of them: that is told under its own name.
    async fn tell_away(&self) {
        let Some(away) = self.book().away(clock::monotonic_ms()) else {
            return;
        };
        let name = self.name();
        let device_event = match &away {
            Away::Gone(why) => DeviceEvent::new("device.offline", Severity::Notice, name)
                .with("state", "unknown")
                .with("reason", why.as_str()),
            Away::Back => DeviceEvent::new("device.online", Severity::Info, name),
        };
        let mut batch = self.batch();
        if let Err(reject) = batch.event(&device_event) {
            tracing::warn!(source = name, %reject, "a source that is away cannot be told");
        }
        match self.store(batch).await {
            Ok(_) => self.book().told_away(&away),
            Err(error) => {
                tracing::debug!(source = name, %error, "that a source is away is told later")
            }
        }
    }

    /// Copies how the devices stand into the figures.
    pub fn scrape(&self) {
        let book = self.book();
        let figures = &self.0.figures;
        let count = book.devices.count();
        figures
            .connected
            .set(i64::from(book.is_up() || count.online > 0));
        figures.online.set(count.online as i64);
        figures.unknown.set(count.unknown as i64);
        figures
            .last_message
            .set(book.last_message_ms.unwrap_or(0) / 1000);
        figures.lag.set(book.lag_ms.unwrap_or(0) as f64 / 1000.0);
    }

    /// How it stands, as `status` shows it.
    pub fn view(&self) -> SourceView {
        let settings = &self.0.settings;
        self.book()
            .view(&settings.name, settings.kind, &self.0.figures)
    }

    /// What arrives, live.
    pub fn watch(&self) -> &LiveTap {
        &self.0.watch
    }
}

impl Inner {
    /// Where a device is; what lies behind a panel is where the panel is unless the config says more.
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
