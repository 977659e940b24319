//! The one door to the spool: stamps, routes, packs, appends, counts.
//!
//! Every source hands over [`Admitted`] events and may answer its device only after [`Intake::submit`]
//! has returned: then they are synced. A lane that refuses makes the whole submission an error; what
//! other lanes stored meanwhile is recognised by its id when the source comes again.
use linli_shared::protocol::chunk::{BuildError, Packed};
use linli_shared::protocol::event::{ClockQuality, Event, Severity};
use linli_shared::protocol::ids::{BootId, Lane, Retention};
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};

use crate::metrics::Metrics;
use crate::spool::{AppendError, EventKey, Spool};

/// Most events of one submission.
pub const SUBMIT_EVENTS_MAX: usize = 4096;

/// An event with the way that its mapping chose for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// The event.
    pub event: Event,
    /// Its lane.
    pub lane: Lane,
    /// Its retention class.
    pub retention: Retention,
}

impl Admitted {
    /// Routes by severity where a mapping does not say otherwise.
    pub fn lane_of(severity: Severity) -> Lane {
        if severity >= Severity::Alarm {
            Lane::Urgent
        } else {
            Lane::Routine
        }
    }
}

/// What was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// New events, durable now.
    pub stored: usize,
    /// Events that were there already.
    pub doubled: usize,
}

/// Why nothing, or not all, was stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// An event breaks a limit.
    #[error("event {index} cannot be stored")]
    Event {
        /// Which of the submission.
        index: usize,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// The spool did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Too many at once.
    #[error("{0} events in one submission, at most {SUBMIT_EVENTS_MAX} are accepted")]
    TooMany(usize),
}

/// Cloneable handle to the spools of all lanes.
#[derive(Clone)]
pub struct Intake {
    spools: [Spool; Lane::ALL.len()],
    boot: BootId,
    metrics: Metrics,
}

#[derive(Default)]
struct Batch {
    events: Packed,
    keys: Vec<EventKey>,
    oldest_ms: i64,
}

impl Intake {
    /// `spools` in the order of [`Lane::ALL`].
    pub fn new(spools: [Spool; Lane::ALL.len()], boot: BootId, metrics: Metrics) -> Self {
        Self {
            spools,
            boot,
            metrics,
        }
    }

    /// Stores events for good.
    pub async fn submit(&self, mut admitted: Vec<Admitted>) -> Result<Submitted, SubmitError> {
        if admitted.len() > SUBMIT_EVENTS_MAX {
            return Err(SubmitError::TooMany(admitted.len()));
        }
        let wall_ms = clock::wall_ms();
        if !clock::is_set(wall_ms) {
            let monotonic_ms = clock::monotonic_ms();
            for item in &mut admitted {
                mark_unset(&mut item.event, monotonic_ms);
            }
        }
        const BATCHES: usize = Lane::ALL.len() * Retention::ALL.len();
        let mut batches: [Batch; BATCHES] = Default::default();
        for (index, item) in admitted.iter().enumerate() {
            let slot = usize::from(item.lane.number()) * Retention::ALL.len()
                + usize::from(item.retention.number());
            let batch = &mut batches[slot];
            if batch.events.is_empty() {
                batch.oldest_ms = item.event.received_at_ms;
            }
            batch
                .events
                .push(&item.event)
                .map_err(|source| SubmitError::Event { index, source })?;
            batch
                .keys
                .push(EventKey::new(&item.event.source, &item.event.source_id));
            batch.oldest_ms = batch.oldest_ms.min(item.event.received_at_ms);
        }
        // Urgent first: the order of the lanes is the order of the slots.
        let mut total = Submitted::default();
        for (slot, batch) in batches.into_iter().enumerate() {
            if batch.events.is_empty() {
                continue;
            }
            let spool = &self.spools[slot / Retention::ALL.len()];
            let retention = Retention::ALL[slot % Retention::ALL.len()];
            let count = batch.events.len() as u64;
            let appended = spool
                .append(
                    retention,
                    self.boot,
                    batch.oldest_ms,
                    batch.events,
                    batch.keys,
                )
                .await
                .inspect_err(|_| self.metrics.refused(spool.lane(), count))?;
            self.metrics.stored(
                spool.lane(),
                appended.stored as u64,
                appended.doubled as u64,
            );
            total.stored += appended.stored;
            total.doubled += appended.doubled;
        }
        Ok(total)
    }
}

/// The agent's clock is not set: times that came from it are worth nothing until the hub puts them
/// right with the monotonic time.
fn mark_unset(event: &mut Event, monotonic_ms: u64) {
    event.monotonic_ms = Some(monotonic_ms);
    if event.clock == ClockQuality::Agent || event.clock == ClockQuality::Implausible {
        event.clock = ClockQuality::Unset;
    }
}
