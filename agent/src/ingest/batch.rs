//! Messages with their decoded forms, on their way to one sync.
use linli_shared::protocol::event::{ClockQuality, Delivery, Draft};
use linli_shared::protocol::limits::NAME_BYTES_MAX;
use linli_shared::service::clock;
use siphasher::sip::SipHasher13;
use std::borrow::Cow;
use std::hash::Hasher;
use tokio::sync::watch;

use super::device_clock::Moment;
use super::devices::Received;
use super::live_tap::Seen;
use super::pledges::{Earlier, Pledges};
use super::raw_log;
use super::source_status::SourceStatus;
use super::states::{Flight, News, Staged};
use super::{Arrival, BATCH_EVENTS, Receipt, SourceIngest};
use crate::intake::{Submission, Way};
use crate::pending::Stamp;
use linli_devices::bounded;
use linli_devices::device_event::{Reject, State};
use linli_devices::time::Claim;

/// Counts that are published once the batch is durable.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) repeated: u64,
    pub(super) doubled: u64,
    pub(super) heartbeat: u64,
    pub(super) left_out: u64,
    pub(super) rejected: u64,
    pub(super) implausible_times: u64,
    pub(super) unreadable_times: u64,
    pub(super) samples: Vec<(String, Vec<u8>)>,
}

/// Messages that become durable with one sync.
pub struct IngestBatch {
    pub(super) ingest: SourceIngest,
    /// Stamp of the receipt; lives until everything is stored or refused.
    pub(super) stamp: Stamp,
    pub(super) submission: Submission,
    /// The agent's own events; they never block a device.
    pub(super) own: Submission,
    pub(super) pledges: Pledges,
    /// Batches in flight that carry states which this one takes as known.
    pub(super) earlier: Vec<Earlier>,
    /// Events without an id of their own, by their message, each with its way.
    pub(super) prints: Vec<(u64, Way)>,
    /// Events without an id that an earlier try has stored.
    pub(super) done: Vec<u64>,
    pub(super) tally: Tally,
    pub(super) raw: String,
    pub(super) seen: Vec<Seen>,
    pub(super) lag_ms: Option<i64>,
    /// The batch has a message of a device, not only the agent's own events.
    pub(super) said: bool,
    /// Hash of the current message, if it has events without an id.
    raw_hash: u64,
    /// Number of events of the current message so far.
    pub(super) nth: u32,
    is_replayed: bool,
    /// The arrival of the message that is being read.
    pub(super) arrival: Arrival,
    /// When reading of the current message began, since boot.
    pub(super) now_ms: u64,
}

/// A reported state, as a batch sees it.
pub(super) enum StateNews {
    /// The state is known.
    Known,
    /// The state has changed; it is known once its event is durable.
    Changed(Staged),
    /// The state is older than the known one: it gives an event and changes nothing else.
    Late,
}

impl IngestBatch {
    /// An empty batch, received now.
    pub(super) fn new(ingest: &SourceIngest) -> Self {
        let shared = &ingest.0.shared;
        let stamp = shared.pending.stamp();
        let receipt = Receipt {
            received_ms: stamp.received_ms(),
            ..ingest.receipt()
        };
        Self {
            stamp,
            arrival: Arrival::now(receipt),
            submission: shared.intake.submission(),
            own: shared.intake.submission(),
            pledges: Pledges {
                ingest: ingest.clone(),
                number: ingest.next_batch(),
                back: Vec::new(),
                clocks: Vec::new(),
                flying: Vec::new(),
                settled: None,
            },
            earlier: Vec::new(),
            prints: Vec::new(),
            done: Vec::new(),
            tally: Tally::default(),
            raw: String::new(),
            seen: Vec::new(),
            lag_ms: None,
            said: false,
            raw_hash: 0,
            nth: 0,
            is_replayed: false,
            now_ms: clock::monotonic_ms(),
            ingest: ingest.clone(),
        }
    }

    /// Whether the batch has enough events to be stored.
    pub fn is_full(&self) -> bool {
        self.submission.len() >= BATCH_EVENTS
    }

    /// Begins the next event of the message.
    pub(super) fn begin_event(&mut self) {
        self.nth += 1;
    }

    /// Hashes a message that has events without an id: its bytes identify them.
    pub(super) fn hash(&mut self, raw: &[u8]) {
        let mut hasher = SipHasher13::new();
        hasher.write(raw);
        if self.arrival.alike > 0 {
            hasher.write_u64(self.arrival.alike);
        }
        self.raw_hash = hasher.finish();
    }

    /// The messages that follow arrived then. One that was tried before says nothing of a device's clock, and a state of it does
    /// not replace one that arrived since.
    pub fn set_arrival(&mut self, arrival: &mut Arrival) {
        self.arrival = *arrival;
        arrival.is_tried = true;
    }

    /// Ends a batch whose messages are not tried again: forgets which of their events are durable.
    pub fn give_up(self) {
        self.ingest.status().remove_done(&self.done);
    }

    /// The messages that follow report the past, or not: the transport says so.
    pub fn set_replayed(&mut self, is_replayed: bool) {
        self.is_replayed = is_replayed;
    }

    pub(super) fn delivery(&self, replayed: bool) -> Delivery {
        if replayed || self.is_replayed {
            Delivery::Replayed
        } else {
            Delivery::Live
        }
    }

    /// Keeps a message on this box.
    pub(super) fn keep_raw(&mut self, outcome: &str, raw: &[u8]) {
        // Signs of life and unchanged states carry no news.
        let is_news = !matches!(outcome, "heartbeat" | "repeated");
        if is_news && !self.ingest.0.settings.keep_raw_for.is_zero() {
            raw_log::line(&mut self.raw, self.stamp.received_ms(), outcome, raw);
        }
    }

    pub(super) fn reject(&mut self, raw: &[u8], reject: &Reject, shown: Option<&mut Seen>) {
        self.tally.rejected += 1;
        if let Some(shown) = shown {
            shown.reason = Some(reject.reason.clone());
        }
        SourceStatus::sample(&mut self.tally.samples, &reject.reason, raw);
    }

    /// Records a message of a device, and decides when its event happened. If the device was away, or its clock was
    /// found to be off, this adds an event of the agent. A device whose name is too long for an event is not watched.
    pub(super) fn receive(
        &mut self,
        device: &str,
        is_alive: bool,
        is_offline: bool,
        claim: &Claim<'_>,
        delivery: Delivery,
    ) -> Moment {
        let received = Received {
            is_alive,
            is_offline,
            claim,
            delivery,
            is_sample: delivery.is_live() && !self.arrival.is_tried,
            receipt: &self.arrival.receipt,
        };
        let changes = self
            .ingest
            .status()
            .devices
            .receive(device, &received, self.now_ms);
        if changes.is_back {
            self.tell_online(device);
        }
        if let Some(news) = changes.clock {
            self.tell_clock(device, news);
        }
        changes.moment
    }

    /// Counts an event by the quality of its time.
    pub(super) fn count_time(&mut self, moment: &Moment, delivery: Delivery) {
        match moment.clock {
            ClockQuality::Implausible => self.tally.implausible_times += 1,
            ClockQuality::Unknown => self.tally.unreadable_times += 1,
            ClockQuality::Device if delivery.is_live() => {
                self.lag_ms = Some(self.arrival.receipt.received_ms - moment.occurred_at_ms);
            }
            _ => {}
        }
    }

    /// Whether an event without an id was already stored by a batch that another lane refused in part; the device
    /// then sends the whole batch again. The message and the event's place in it identify the event.
    fn is_done(&mut self, draft: &Draft<'_>, way: Way) -> bool {
        let mut print = SipHasher13::new();
        print.write_u64(self.raw_hash);
        print.write_u32(self.nth);
        print.write(draft.kind.as_bytes());
        print.write(draft.device.as_bytes());
        let print = print.finish();
        if self.ingest.status().is_done(print, self.now_ms) {
            self.done.push(print);
            return true;
        }
        self.prints.push((print, way));
        false
    }

    /// Packs an event of a device.
    pub(super) fn push(
        &mut self,
        way: Way,
        draft: Draft<'_>,
    ) -> Result<(), linli_shared::protocol::chunk::BuildError> {
        if draft.source_id.is_empty() && self.is_done(&draft, way) {
            self.tally.doubled += 1;
            return Ok(());
        }
        self.submission.push(way.0, way.1, draft)
    }

    /// Marks a state as in flight: its event is in this batch, or it has none.
    pub(super) fn fly(&mut self, staged: Staged, way: Option<Way>) {
        let number = self.pledges.number;
        let flight = Flight { batch: number, way };
        self.ingest.status().devices.fly(flight, staged.clone());
        if self.pledges.flying.is_empty() {
            let settled = watch::Sender::new(None);
            self.ingest
                .status()
                .begin_flight(number, settled.subscribe());
            self.pledges.settled = Some(settled);
        }
        self.pledges.flying.push((staged, way));
    }

    /// Compares a state with the known ones and those in flight. The number of known states stays bounded, however
    /// many names messages invent. `at_ms`: when the state began, if messages can arrive out of order.
    pub(super) fn news(
        &mut self,
        device: &str,
        state: &State<'_>,
        at_ms: Option<i64>,
    ) -> Result<StateNews, Reject> {
        if device.len() > NAME_BYTES_MAX {
            let bytes = device.len();
            return Err(Reject::new(format!(
                "device has {bytes} bytes, at most {NAME_BYTES_MAX} are accepted"
            )));
        }
        let staged = Staged {
            device: device.to_owned(),
            point: bounded::bounded(Cow::Borrowed(&*state.point)).into_owned(),
            active: state.active,
            at_ms,
            arrived_ms: self.arrival.arrived_ms,
        };
        let news = self
            .ingest
            .status()
            .devices
            .news(&staged, state.initial, self.arrival.is_tried);
        match news {
            News::Repeated(flight) => {
                match flight {
                    Some(flight) if flight.batch != self.pledges.number => self.hang_on(flight),
                    Some(_) => {}
                    None => self.ingest.status().devices.confirm(&staged),
                }
                Ok(StateNews::Known)
            }
            News::Noted => {
                self.fly(staged, None);
                Ok(StateNews::Known)
            }
            News::Changed => Ok(StateNews::Changed(staged)),
            News::Late => Ok(StateNews::Late),
        }
    }

    /// Makes this batch depend on an earlier one: the states it takes as known are known only if that one becomes
    /// durable.
    fn hang_on(&mut self, flight: Flight) {
        if let Some(way) = flight.way
            && let Some(settled) = self.ingest.status().flight(flight.batch)
        {
            self.earlier.push(Earlier { way, settled });
        }
    }

    /// Adds an event of the current message for watchers.
    pub(super) fn watched(&mut self, event: serde_json::Value) {
        if let Some(seen) = self.seen.last_mut() {
            seen.events.push(event);
        }
    }

    /// Begins a message; the items that follow belong to it.
    pub fn begin(&mut self, raw: &[u8]) {
        self.said = true;
        self.nth = 0;
        self.now_ms = clock::monotonic_ms();
        if self.ingest.0.tap.is_watched() {
            let mut seen = Seen::new(self.stamp.received_ms(), raw);
            seen.outcome = Cow::Borrowed("event");
            self.seen.push(seen);
        }
        self.keep_raw("items", raw);
    }

    /// When the messages were received, milliseconds since 1970 UTC.
    pub fn received_ms(&self) -> i64 {
        self.arrival.receipt.received_ms
    }

    /// Whether that time is synchronised, so devices may be sent it.
    pub fn is_synchronised(&self) -> bool {
        self.arrival.receipt.is_synchronised
    }
}
