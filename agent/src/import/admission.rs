//! Turns rows of a file into events: one of a row of CSV, and one of each object of a line of JSON Lines.
use linli_shared::protocol::event::{Delivery, Draft};

use super::history::Mode;
use super::rows::{self, Row};
use crate::ingest::Receipt;
use crate::ingest::device_clock::DeviceClock;
use crate::intake::Way;
use linli_devices::mapping::capture::Capture;
use linli_devices::mapping::{Mapped, Mapping};
use linli_devices::text::Encoding;
use linli_devices::time::Claim;

/// Largest number of objects on one line that become events.
const LINE_EVENTS_MAX: usize = 1024;

/// The outcome of a row's items.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Events.
    pub events: usize,
    /// Items that the mapping leaves out.
    pub left_out: usize,
    /// Why items were rejected.
    pub reasons: Vec<String>,
}

impl Admitted {
    fn rejected(reason: String) -> Self {
        Self {
            reasons: vec![reason],
            ..Self::default()
        }
    }

    /// Number of items; those of one line can be several.
    pub fn items(&self) -> u64 {
        (self.events + self.left_out + self.reasons.len()) as u64
    }
}

impl Row<'_> {
    /// Passes the row's events to `take`, each with its way: one of a row of CSV, and one of each object of a line.
    pub fn admit(
        &self,
        mapping: &Mapping,
        encoding: Encoding,
        reading: &Reading,
        take: &mut dyn FnMut(Way, Draft<'_>) -> Result<(), String>,
    ) -> Admitted {
        let mut admitted = Admitted::default();
        let mut admit = |item: &Capture<'_>| {
            if admitted.events == LINE_EVENTS_MAX {
                let reason = format!("more than {LINE_EVENTS_MAX} objects on one line");
                admitted.reasons.push(reason);
                return;
            }
            let taken = match mapping.map(item) {
                Ok(mapped) => reading.take(mapped, take),
                Err(reject) if reject.is_left_out() => {
                    admitted.left_out += 1;
                    return;
                }
                Err(reject) => Err(reject.to_string()),
            };
            match taken {
                Ok(()) => admitted.events += 1,
                Err(reason) => admitted.reasons.push(reason),
            }
        };
        let read = match self {
            Self::Csv(columns, record) => {
                rows::capture(mapping, encoding, columns, record).map(|item| admit(&item))
            }
            Self::Jsonl(bytes) => mapping
                .line(encoding.lossy(bytes).trim(), &mut admit)
                .map_err(|error| format!("not JSON: {error}")),
            Self::Bad(reason) => Err(reason.clone()),
        };
        match read {
            Ok(()) => admitted,
            Err(reason) => Admitted::rejected(reason),
        }
    }
}

/// The reading of rows into events.
pub struct Reading {
    /// Receipt of all rows.
    pub receipt: Receipt,
    /// The rows that are history.
    pub mode: Mode,
    /// The hub's time.
    pub hub_now_ms: i64,
}

impl Reading {
    /// Passes the event of a mapped item to `take`.
    fn take(
        &self,
        mapped: Mapped<'_>,
        take: &mut dyn FnMut(Way, Draft<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Mapped {
            mut draft,
            claim,
            replayed: _,
            end_id,
            lane,
            retention,
            // Each row of the past is an event, and persons in it get no pseudonym.
            persons: _,
            state: _,
            anew: _,
        } = mapped;
        if let Some(id) = &end_id {
            draft.source_id = id;
        }
        let receipt = &self.receipt;
        let moment = DeviceClock::default().moment(&claim, Delivery::History, receipt);
        draft.occurred_at_ms = moment.occurred_at_ms;
        draft.received_at_ms = receipt.received_ms;
        draft.clock = moment.clock;
        draft.device_time_ms = moment.device_time_ms;
        draft.delivery = self.mode.delivery(moment.occurred_at_ms, self.hub_now_ms);
        if let Claim::Unreadable(text) = &claim {
            draft.attributes.push(("device_time", text));
            draft.attributes.sort_by_key(|(name, _)| *name);
        }
        take((lane, retention), draft)
    }
}
