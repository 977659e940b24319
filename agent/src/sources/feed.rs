//! The door between a source and the intake: what must hold for every device holds here, once.
//!
//! A source gives each message with what it came to; the feed
//! 1. keeps the raw message on this box for `keep_raw_for` ([`raw`](super::raw)),
//! 2. stamps the receipt, reads the device's time in the source's zone, and does not believe what cannot be,
//! 3. stores what a device says again once: the id of its event goes to the spool, a state that is known is no event,
//! 4. watches over the silence of devices ([`devices`](super::devices)): unknown, never normal,
//! 5. counts what could not be read, with a bounded sample ([`standing`](super::standing)),
//! 6. gives back only when everything is synced: then the source may answer its device,
//! 7. makes pseudonyms of cards and names, or drops them.
//!
//! ```text
//! source ─ raw, Said ▶ Group ─ store ▶ intake ▶ spool      Ok: all of it is durable, states are known, it is counted
//!                        │                                 Err: nothing of it is known or counted; ask the device again
//!                        └▶ raw log, live watch
//! ```
use jiff::tz::TimeZone;
use linli_shared::protocol::event::{ClockQuality, Draft, PlaceDraft, Severity};
use linli_shared::protocol::ids::{Lane, Retention};
use linli_shared::protocol::limits::ATTRIBUTE_BYTES_MAX;
use linli_shared::service::clock;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::devices::{Devices, News, Staged};
use super::mapping::capture::Capture;
use super::mapping::{self, Mapped, Mapping, MessageError, lane_of};
use super::raw::{self, RawLog};
use super::reading::{DeviceTime, Reading, Reject, Said, State};
use super::standing::{Book, SourceView};
use super::time::{Tense, is_plausible};
use super::watch::{Seen, Watch};
use crate::config::DeviceConfig;
use crate::intake::{Intake, SUBMIT_EVENTS_MAX, Submission, SubmitError, Submitted};
use crate::metrics::{Metrics, SourceFigures};
use crate::pending::{Pending, Stamp};
use crate::pseudonym::Pseudonyms;

/// A group that has as many events is stored before more is read.
pub const GROUP_EVENTS: usize = 256;

/// Rejected items of a message of which it is said why.
const REASONS_MAX: usize = 20;

/// What all sources of an agent share.
#[derive(Clone)]
pub struct Shared {
    /// Where events go.
    pub intake: Intake,
    /// What is on its way there.
    pub pending: Pending,
    /// Places by device id.
    pub places: Arc<HashMap<String, DeviceConfig>>,
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
pub struct Feed(Arc<Inner>);

struct Inner {
    settings: Settings,
    shared: Shared,
    figures: SourceFigures,
    /// Held from the look at a state to its durability, where several may tell of one device at once.
    states: Arc<AsyncMutex<()>>,
    book: Mutex<Book>,
    watch: Watch,
}

impl Feed {
    /// Of a source that expects these devices.
    pub fn new(settings: Settings, devices: &[String], shared: Shared) -> Self {
        let mut book = Book::new(settings.silent_after);
        let now_ms = clock::monotonic_ms();
        for device in devices {
            book.devices.expect(device, now_ms);
        }
        let figures = shared.metrics.source(&settings.name);
        Self(Arc::new(Inner {
            figures,
            states: Arc::default(),
            book: Mutex::new(book),
            watch: Watch::new(),
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

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each change of it is whole after one statement.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of its devices.
    pub fn with_devices<T>(&self, look: impl FnOnce(&mut Devices) -> T) -> T {
        look(&mut self.book().devices)
    }

    /// An empty group, alone with the states of the source until it is stored: for sources that hear one device in several
    /// ways at once. Without it a state that waits for its sync would be compared with what was before it.
    pub async fn alone(&self) -> Group<'_> {
        let alone = self.0.states.clone().lock_owned().await;
        Group {
            _alone: Some(alone),
            ..self.group()
        }
    }

    /// An empty group; messages are received now. Only for what is at hand: while it lives, no watermark passes its beginning.
    pub fn group(&self) -> Group<'_> {
        Group {
            feed: self,
            _alone: None,
            stamp: self.0.shared.pending.stamp(),
            submission: Submission::new(),
            staged: Vec::new(),
            back: Back {
                feed: self,
                devices: Vec::new(),
            },
            tally: Tally::default(),
            raw: String::new(),
            seen: Vec::new(),
            lag_ms: None,
        }
    }

    /// Makes a group durable. Only then may its device be answered.
    pub async fn store(&self, group: Group<'_>) -> Result<Submitted, SubmitError> {
        let Group {
            stamp,
            submission,
            staged,
            mut back,
            tally,
            raw,
            seen,
            lag_ms,
            _alone,
            ..
        } = group;
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
            book.last_message_ms = Some(received_ms);
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
        said: Result<Said<'_>, Reject>,
    ) -> Result<Submitted, SubmitError> {
        let mut group = self.alone().await;
        group.message(raw, said);
        self.store(group).await
    }

    /// What the source listens on or is connected to is there.
    pub fn up(&self, peer: &str) {
        self.book().up(peer, clock::wall_ms());
    }

    /// It is not, or no more.
    pub fn down(&self, why: &str) {
        self.book().down(why, clock::wall_ms());
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

    /// A message that was refused whole: shown and kept as a sample. `raw` is empty where nobody has proved to have sent it.
    pub fn refused(&self, raw: &[u8], reason: &str) {
        let now_ms = clock::wall_ms();
        self.book().refused(now_ms, reason, raw);
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
            raw::line(&mut line, now_ms, "refused", raw);
            log.keep(self.name(), line);
        }
    }

    /// What was refused last has come well.
    pub fn error_is_over(&self) {
        self.book().error_is_over();
    }

    /// Tells devices that have fallen silent. Called by the clock of all sources.
    pub async fn tick(&self) {
        let silent = self.book().devices.fallen_silent(clock::monotonic_ms());
        if silent.is_empty() {
            return;
        }
        for names in silent.chunks(GROUP_EVENTS) {
            let mut group = self.group();
            for name in names {
                let reading = Reading::new("device.offline", Severity::Notice, name.as_str())
                    .with("state", "unknown");
                if let Err(reject) = group.event(&reading) {
                    tracing::warn!(source = self.name(), %reject, "a silent device cannot be told");
                }
            }
            if let Err(error) = self.store(group).await {
                tracing::debug!(source = self.name(), %error, "silent devices are told later");
                return;
            }
            let mut book = self.book();
            for name in names {
                book.devices.told_silent(name);
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
    pub fn watch(&self) -> &Watch {
        &self.0.watch
    }
}

#[derive(Default)]
struct Tally {
    repeated: u64,
    heartbeat: u64,
    left_out: u64,
    rejected: u64,
    implausible_times: u64,
    samples: Vec<(String, Vec<u8>)>,
}

/// Devices that a group tells to be there. A group that is not stored, however it ends, has not told.
struct Back<'f> {
    feed: &'f Feed,
    devices: Vec<String>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        let mut book = self.feed.book();
        for device in &self.devices {
            book.devices.not_told(device);
        }
    }
}

/// Messages that become durable with one sync.
pub struct Group<'f> {
    feed: &'f Feed,
    _alone: Option<OwnedMutexGuard<()>>,
    /// Lives until everything is stored or refused.
    stamp: Stamp,
    submission: Submission,
    /// States that are known once it is durable, each with the lane of its event, where it has one.
    staged: Vec<(Option<Lane>, Staged)>,
    back: Back<'f>,
    tally: Tally,
    raw: String,
    seen: Vec<Seen>,
    lag_ms: Option<i64>,
}

/// What became of the items of a message that mappings read.
#[derive(Debug, Default)]
pub struct Items {
    /// New events, or such as came before under their id.
    pub events: usize,
    /// Of these, events whose device time could not be.
    pub implausible_times: usize,
    /// States that were known.
    pub known: usize,
    /// What the mapping leaves out.
    pub left_out: usize,
    /// What it rejects.
    pub rejected: usize,
    /// Why: the first of them, each with the number of its item.
    pub reasons: Vec<(usize, String)>,
    /// Items of the mapping that saw most.
    pub most: usize,
}

impl Items {
    fn reject(&mut self, index: usize, reason: String) {
        self.rejected += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push((index, reason));
        }
    }

    /// Why the first that was rejected was.
    fn reason(&self) -> Option<String> {
        let (index, reason) = self.reasons.first()?;
        Some(if self.most > 1 {
            format!("item {index}: {reason}")
        } else {
            reason.clone()
        })
    }
}

/// What became of a reading.
enum Taken {
    Event,
    Repeated,
}

impl Group<'_> {
    /// It has enough events to be stored.
    pub fn is_full(&self) -> bool {
        self.submission.len() >= GROUP_EVENTS
    }

    /// Adds a message with what it came to.
    pub fn message(&mut self, raw: &[u8], said: Result<Said<'_>, Reject>) {
        let mut shown = self
            .feed
            .0
            .watch
            .is_watched()
            .then(|| Seen::new(self.stamp.received_ms(), raw));
        let outcome = match said {
            Ok(Said::Events(readings)) => {
                let mut outcome = "repeated";
                for reading in &readings {
                    self.heard(reading.by.as_deref().unwrap_or(&reading.device));
                    match self.reading(reading, shown.as_mut()) {
                        Ok(Taken::Event) => outcome = "event",
                        Ok(Taken::Repeated) => self.tally.repeated += 1,
                        Err(reject) => {
                            outcome = "rejected";
                            self.reject(raw, &reject, shown.as_mut());
                        }
                    }
                }
                outcome
            }
            Ok(Said::Heartbeat { device }) => {
                self.heard(&device);
                self.tally.heartbeat += 1;
                "heartbeat"
            }
            Ok(Said::LeftOut { device, what }) => {
                self.heard(&device);
                self.tally.left_out += 1;
                if let Some(shown) = &mut shown {
                    shown.reason = Some(what.into_owned());
                }
                "left_out"
            }
            Err(reject) => {
                self.reject(raw, &reject, shown.as_mut());
                "rejected"
            }
        };
        if let Some(mut shown) = shown {
            shown.outcome = Cow::Borrowed(outcome);
            self.seen.push(shown);
        }
        self.keep_raw(outcome, raw);
    }

    /// Keeps a message on this box.
    fn keep_raw(&mut self, outcome: &str, raw: &[u8]) {
        // Signs of life, and states that are as they were, say nothing new.
        let is_news = !matches!(outcome, "heartbeat" | "repeated");
        if is_news && !self.feed.0.settings.keep_raw_for.is_zero() {
            raw::line(&mut self.raw, self.stamp.received_ms(), outcome, raw);
        }
    }

    fn reject(&mut self, raw: &[u8], reject: &Reject, shown: Option<&mut Seen>) {
        self.tally.rejected += 1;
        if let Some(shown) = shown {
            shown.reason = Some(reject.reason.clone());
        }
        Book::sample(&mut self.tally.samples, &reject.reason, raw);
    }

    /// A sign of life of a device; of one that is back, that is an event.
    fn heard(&mut self, device: &str) {
        if device.is_empty() {
            return;
        }
        let back = self
            .feed
            .book()
            .devices
            .heard(device, clock::monotonic_ms());
        if back {
            let reading = Reading::new("device.online", Severity::Info, device);
            if self.event(&reading).is_ok() {
                self.back.devices.push(device.to_owned());
            }
        }
    }

    fn reading(
        &mut self,
        reading: &Reading<'_>,
        shown: Option<&mut Seen>,
    ) -> Result<Taken, Reject> {
        let mut staged = None;
        if let Some(state) = &reading.state {
            staged = match reading.by.as_deref() {
                // A part lives and falls silent with the panel that tells of it: its points are points of the panel.
                Some(by) => {
                    let point = format!("{}/{}", reading.device, state.point).into();
                    self.news(by, &State { point, ..*state })
                }
                None => self.news(&reading.device, state),
            };
            if staged.is_none() && !reading.anew {
                return Ok(Taken::Repeated);
            }
        }
        let event = self.event(reading)?;
        if let Some(shown) = shown {
            shown.events.push(event);
        }
        let lane = Some(lane_of(reading.severity));
        self.staged.extend(staged.map(|staged| (lane, staged)));
        Ok(Taken::Event)
    }

    /// What is to be known of a state once its event is durable; `None` where it is no news.
    fn news(&mut self, device: &str, state: &State<'_>) -> Option<Staged> {
        // What stands before it in this group is newer than what is known.
        let before = self
            .staged
            .iter()
            .rev()
            .map(|(_, staged)| staged)
            .find(|staged| staged.device == device && staged.point == state.point);
        let news = match before {
            Some(before) if before.active == state.active => News::Repeated,
            Some(_) => News::Changed,
            None => {
                let devices = &self.feed.book().devices;
                devices.news(device, &state.point, state.active, state.initial)
            }
        };
        if news == News::Repeated {
            return None;
        }
        let staged = Staged {
            device: device.to_owned(),
            point: state.point.clone().into_owned(),
            active: state.active,
        };
        if news == News::Noted {
            self.staged.push((None, staged));
            return None;
        }
        Some(staged)
    }

    /// Packs the event of a reading. What it is, for those who watch; `Null` if nobody does.
    fn event(&mut self, reading: &Reading<'_>) -> Result<serde_json::Value, Reject> {
        let inner = &self.feed.0;
        if self.submission.len() >= SUBMIT_EVENTS_MAX {
            return Err(Reject::new(format!(
                "more than {SUBMIT_EVENTS_MAX} events in one message"
            )));
        }
        let now_ms = self.stamp.received_ms();
        let pseudonyms: Vec<(&str, Option<String>)> = reading
            .persons
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(person, value)| {
                (
                    person.attribute(),
                    inner.shared.pseudonyms.of(*person, value),
                )
            })
            .collect();
        let mut attributes: Vec<(&str, &str)> = reading
            .attributes
            .iter()
            .map(|(name, value)| (*name, bounded(value)))
            .chain(
                pseudonyms
                    .iter()
                    .filter_map(|(name, value)| Some((*name, value.as_deref()?))),
            )
            .collect();
        let mut occurred_at_ms = now_ms;
        let mut clock = ClockQuality::Agent;
        let told = reading.time.ms(&inner.settings.zone);
        let unread = match &told {
            Ok(None) => None,
            Ok(Some(device_ms)) if is_plausible(*device_ms, Tense::Live, now_ms) => {
                occurred_at_ms = *device_ms;
                clock = ClockQuality::Device;
                None
            }
            Ok(Some(device_ms)) => Some(match reading.time {
                DeviceTime::Text(text) => text.to_owned(),
                _ => clock::rfc3339(*device_ms),
            }),
            Err(text) => Some(text.clone()),
        };
        if let Some(text) = &unread {
            clock = ClockQuality::Implausible;
            attributes.push(("device_time", bounded(text)));
        }
        // By name, each once: the first of a name stands.
        attributes.sort_by_key(|(name, _)| *name);
        attributes.dedup_by_key(|(name, _)| *name);
        let place = inner.place(&reading.device);
        let draft = Draft {
            kind: &reading.kind,
            occurred_at_ms,
            received_at_ms: now_ms,
            clock,
            severity: reading.severity,
            source: &inner.settings.name,
            source_id: &reading.id,
            device: &reading.device,
            place: place.map_or_else(PlaceDraft::default, |place| PlaceDraft {
                building: &place.building,
                unit: &place.unit,
                address: "",
            }),
            attributes,
            ..Draft::default()
        };
        let shown = if inner.watch.is_watched() {
            super::watch::event(&draft)
        } else {
            serde_json::Value::Null
        };
        self.submission
            .push(lane_of(reading.severity), reading.retention, draft)
            .map_err(|error| Reject::new(linli_shared::service::telemetry::chain(&error)))?;
        match clock {
            ClockQuality::Implausible => self.tally.implausible_times += 1,
            ClockQuality::Device => self.lag_ms = Some(now_ms - occurred_at_ms),
            _ => {}
        }
        Ok(shown)
    }

    /// Adds an item of a mapping; gives the quality of its time.
    fn item(
        &mut self,
        mapping: &Mapping,
        item: &Capture<'_>,
    ) -> Result<ClockQuality, mapping::Reject> {
        let mapped = mapping.map(item, Tense::Live, self.stamp.received_ms())?;
        self.draft(mapped)
    }

    /// Adds a mapped event.
    fn draft(&mut self, mapped: Mapped<'_>) -> Result<ClockQuality, mapping::Reject> {
        let Mapped {
            mut draft,
            lane,
            retention,
            persons,
            state,
            anew,
        } = mapped;
        let feed = self.feed;
        if self.submission.len() >= SUBMIT_EVENTS_MAX {
            return Err(mapping::Reject::Event(format!(
                "more than {SUBMIT_EVENTS_MAX} events in one message"
            )));
        }
        let pseudonyms: Vec<(&str, String)> = persons
            .iter()
            .filter_map(|(person, value)| {
                let pseudonym = feed.0.shared.pseudonyms.of(*person, value)?;
                Some((person.attribute(), pseudonym))
            })
            .collect();
        if !pseudonyms.is_empty() {
            draft.attributes.extend(
                pseudonyms
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
            draft.attributes.sort_by_key(|(name, _)| *name);
            draft.attributes.dedup_by_key(|(name, _)| *name);
        }
        if draft.place.building.is_empty()
            && let Some(place) = feed.0.place(draft.device)
        {
            draft.place.building = &place.building;
            draft.place.unit = &place.unit;
        }
        if feed.0.settings.silent_after.is_some() {
            self.heard(draft.device);
        }
        let staged = match &state {
            None => None,
            Some(state) => match self.news(draft.device, state) {
                None if !anew => return Err(mapping::Reject::Repeated),
                staged => staged,
            },
        };
        let clock = draft.clock;
        if clock == ClockQuality::Device {
            self.lag_ms = Some(draft.received_at_ms - draft.occurred_at_ms);
        }
        if feed.0.watch.is_watched() {
            self.watched(super::watch::event(&draft));
        }
        self.push(lane, retention, draft)?;
        self.staged
            .extend(staged.map(|staged| (Some(lane), staged)));
        Ok(clock)
    }

    /// Adds a message that these mappings read: each takes what it knows of. One that all of them leave out is of no
    /// interest.
    pub fn mapped(&mut self, raw: &[u8], text: &str, mappings: &[&Mapping]) {
        self.begin(raw);
        let mut all = Items::default();
        for mapping in mappings {
            if let Err(error) = self.items(mapping, text, &mut all) {
                all.reject(0, error.to_string());
                break;
            }
        }
        if all.most > SUBMIT_EVENTS_MAX {
            let count = all.most;
            let reason =
                format!("{count} items, at most {SUBMIT_EVENTS_MAX} of one message are read");
            all.reject(SUBMIT_EVENTS_MAX, reason);
        }
        all.left_out = usize::from(all.events == 0 && all.known == 0 && all.rejected == 0);
        all.rejected = all.rejected.min(1);
        self.came_to(raw, &all);
    }

    /// Adds the items of the message that was begun, as a mapping reads them. After an error what was added is worth nothing.
    pub fn items(
        &mut self,
        mapping: &Mapping,
        text: &str,
        all: &mut Items,
    ) -> Result<(), MessageError> {
        let mut index = 0;
        let read = mapping.items(text, &mut |item| {
            // Whoever calls says what becomes of a message with more.
            if index < SUBMIT_EVENTS_MAX {
                match self.item(mapping, item) {
                    Ok(clock) => {
                        all.events += 1;
                        all.implausible_times += usize::from(clock == ClockQuality::Implausible);
                    }
                    Err(mapping::Reject::Repeated) => all.known += 1,
                    Err(mapping::Reject::Filtered { .. }) => all.left_out += 1,
                    Err(reject) => all.reject(index, reject.to_string()),
                }
            }
            index += 1;
        });
        all.most = all.most.max(index);
        read
    }

    /// Counts what the items of the message that was begun came to, and shows why some are none.
    pub fn came_to(&mut self, raw: &[u8], all: &Items) {
        self.tally.repeated += all.known as u64;
        self.tally.left_out += all.left_out as u64;
        self.tally.rejected += all.rejected as u64;
        self.tally.implausible_times += all.implausible_times as u64;
        let reason = all.reason();
        if let Some(reason) = &reason {
            Book::sample(&mut self.tally.samples, reason, raw);
        }
        if let Some(seen) = self.seen.last_mut() {
            seen.outcome = Cow::Borrowed(match all {
                _ if reason.is_some() => "rejected",
                Items { events: 1.., .. } => "event",
                Items { known: 1.., .. } => "repeated",
                _ => "left_out",
            });
            seen.reason = reason;
        }
    }

    fn push(
        &mut self,
        lane: Lane,
        retention: Retention,
        draft: Draft<'_>,
    ) -> Result<(), mapping::Reject> {
        self.submission
            .push(lane, retention, draft)
            .map_err(|error| mapping::Reject::Event(error.to_string()))
    }

    /// An event of the message that is being read, for those who watch.
    fn watched(&mut self, event: serde_json::Value) {
        if let Some(seen) = self.seen.last_mut() {
            seen.events.push(event);
        }
    }

    /// The items that follow are of this message.
    pub fn begin(&mut self, raw: &[u8]) {
        if self.feed.0.watch.is_watched() {
            let mut seen = Seen::new(self.stamp.received_ms(), raw);
            seen.outcome = Cow::Borrowed("event");
            self.seen.push(seen);
        }
        self.keep_raw("items", raw);
    }

    /// When the messages were received, milliseconds since 1970 UTC.
    pub fn received_ms(&self) -> i64 {
        self.stamp.received_ms()
    }
}

impl Inner {
    /// Where a device is; what lies behind a panel is where the panel is unless the config says more.
    fn place(&self, device: &str) -> Option<&DeviceConfig> {
        let places = &self.shared.places;
        places.get(device).or_else(|| {
            let (panel, _) = device.rsplit_once('/')?;
            places.get(panel)
        })
    }
}

/// The front of a value that keeps to the limit.
fn bounded(value: &str) -> &str {
    &value[..value.floor_char_boundary(ATTRIBUTE_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
