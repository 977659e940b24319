//! The one door to the spool: stamps, routes, packs, appends, counts.
//!
//! A source fills a [`Submission`], which packs each event at once, and may answer its device only after
//! [`Intake::submit`] has returned: then everything of it is synced. A lane that refuses makes the whole
//! submission an error; what other lanes stored meanwhile is recognised by its id when the source comes
//! again.
//!
//! A submission also travels, from `linli-agent import` to the running agent: packed CBOR, an array of
//! [`Part`], checked event by event when it arrives.
use linli_shared::protocol::chunk::{BuildError, Packed};
use linli_shared::protocol::codec::{self, CodecError};
use linli_shared::protocol::event::{ClockQuality, Draft, Event};
use linli_shared::protocol::ids::{BootId, Lane, Retention};
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::metrics::Metrics;
use linli_spool::{AppendError, EventKey, Spool};

/// Most events of one submission.
pub const SUBMIT_EVENTS_MAX: usize = 4096;

const SLOTS: usize = Lane::ALL.len() * Retention::ALL.len();

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
    /// A lane did not take it.
    #[error("the {lane} lane did not take it")]
    Append {
        /// What was for lanes before this one is durable.
        lane: Lane,
        /// Why.
        #[source]
        source: AppendError,
    },
    /// Too many at once.
    #[error("{0} events in one submission, at most {SUBMIT_EVENTS_MAX} are accepted")]
    TooMany(usize),
}

/// Why bytes are not a submission.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// They are not CBOR of it.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A lane or retention class that this version does not have.
    #[error("lane {lane} or retention class {retention} is not known here")]
    Unknown {
        /// Number of the lane.
        lane: u8,
        /// Number of the class.
        retention: u8,
    },
    /// An event cannot be stored.
    #[error("an event cannot be stored")]
    Event(#[from] BuildError),
}

/// Events of one lane and retention class on their way between two processes of one agent.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    lane: u8,
    retention: u8,
    events: ByteBuf,
}

#[derive(Default)]
struct Batch {
    events: Packed,
    keys: Vec<EventKey>,
    oldest_ms: i64,
}

/// Events that are packed and not stored yet.
pub struct Submission {
    /// By lane, then by retention class: urgent is appended first.
    batches: [Batch; SLOTS],
    /// The time since boot, where the wall clock is not set.
    monotonic_ms: Option<u64>,
}

impl Submission {
    /// An empty one; looks at the clock.
    pub fn new() -> Self {
        let unset = !clock::is_set(clock::wall_ms());
        Self {
            batches: Default::default(),
            monotonic_ms: unset.then(clock::monotonic_ms),
        }
    }

    /// Packs an event. On an error nothing is added.
    pub fn push(
        &mut self,
        lane: Lane,
        retention: Retention,
        mut draft: Draft<'_>,
    ) -> Result<(), BuildError> {
        if let Some(monotonic_ms) = self.monotonic_ms {
            // Times of this clock are worth nothing until the hub puts them right.
            draft.monotonic_ms = Some(monotonic_ms);
            if draft.clock.is_agents() {
                draft.clock = ClockQuality::Unset;
            }
        }
        let slot =
            usize::from(lane.number()) * Retention::ALL.len() + usize::from(retention.number());
        let batch = &mut self.batches[slot];
        batch.events.push(&draft)?;
        let from_ms = draft.unknown_from_ms();
        batch.oldest_ms = if batch.keys.is_empty() {
            from_ms
        } else {
            batch.oldest_ms.min(from_ms)
        };
        batch
            .keys
            .push(EventKey::new(draft.source, draft.source_id));
        Ok(())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.keys.len()).sum()
    }

    /// The batches that have events, each with its lane and class.
    fn into_batches(self) -> impl Iterator<Item = (Lane, Retention, Batch)> {
        let ways = Lane::ALL
            .into_iter()
            .flat_map(|lane| Retention::ALL.map(|retention| (lane, retention)));
        ways.zip(self.batches)
            .filter(|(_, batch)| !batch.events.is_empty())
            .map(|((lane, retention), batch)| (lane, retention, batch))
    }

    /// As it travels.
    pub fn encode(self) -> Result<Vec<u8>, CodecError> {
        let parts: Vec<Part> = self
            .into_batches()
            .map(|(lane, retention, batch)| Part {
                lane: lane.number(),
                retention: retention.number(),
                events: ByteBuf::from(batch.events.into_bytes()),
            })
            .collect();
        codec::encode("submission", &parts)
    }

    /// Reads what travelled.
    pub fn decode(bytes: &[u8]) -> Result<Self, PartError> {
        let parts: Vec<Part> = codec::decode("submission", bytes)?;
        let mut submission = Self::new();
        for part in parts {
            let (lane, retention) = Lane::from_number(part.lane)
                .zip(Retention::from_number(part.retention))
                .ok_or(PartError::Unknown {
                    lane: part.lane,
                    retention: part.retention,
                })?;
            let events: Vec<Event> =
                codec::decode_sequence("event", &part.events, SUBMIT_EVENTS_MAX)?;
            for event in &events {
                submission.push(lane, retention, event.draft())?;
            }
        }
        Ok(submission)
    }
}

/// Cloneable handle to the spools of all lanes.
#[derive(Clone)]
pub struct Intake {
    spools: [Spool; Lane::ALL.len()],
    boot: BootId,
    metrics: Metrics,
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
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        let count = submission.len();
        if count > SUBMIT_EVENTS_MAX {
            return Err(SubmitError::TooMany(count));
        }
        let mut total = Submitted::default();
        for (lane, retention, batch) in submission.into_batches() {
            let spool = &self.spools[usize::from(lane.number())];
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
                .map_err(|source| {
                    self.metrics.refused(lane, count);
                    SubmitError::Append { lane, source }
                })?;
            self.metrics
                .stored(lane, appended.stored as u64, appended.doubled as u64);
            total.stored += appended.stored;
            total.doubled += appended.doubled;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: &str) -> Draft<'_> {
        Draft {
            kind,
            received_at_ms: 5,
            source: "doors",
            source_id: "1",
            ..Draft::default()
        }
    }

    #[test]
    fn a_submission_travels_whole_and_urgent_comes_first() {
        let mut submission = Submission::new();
        submission
            .push(Lane::Routine, Retention::Access, draft("door.opened"))
            .expect("within the limits");
        submission
            .push(Lane::Urgent, Retention::Standard, draft("fire.alarm"))
            .expect("within the limits");
        let bytes = submission.encode().expect("CBOR");
        let arrived = Submission::decode(&bytes).expect("a submission");
        assert_eq!(arrived.len(), 2);
        let ways: Vec<(Lane, Retention, usize)> = arrived
            .into_batches()
            .map(|(lane, retention, batch)| (lane, retention, batch.events.len()))
            .collect();
        assert_eq!(
            ways,
            [
                (Lane::Urgent, Retention::Standard, 1),
                (Lane::Routine, Retention::Access, 1)
            ]
        );
    }

    #[test]
    fn what_is_no_submission_is_refused() {
        assert!(matches!(
            Submission::decode(b"{}"),
            Err(PartError::Codec(_))
        ));
        let part = |lane, events: &[u8]| {
            let part = Part {
                lane,
                retention: 0,
                events: ByteBuf::from(events),
            };
            codec::encode("submission", &[part]).expect("CBOR")
        };
        assert!(matches!(
            Submission::decode(&part(9, b"")),
            Err(PartError::Unknown { lane: 9, .. })
        ));
        assert!(matches!(
            Submission::decode(&part(0, &[0x61])),
            Err(PartError::Codec(_))
        ));
        let bad = codec::encode("event", &draft("No Kind")).expect("CBOR");
        assert!(matches!(
            Submission::decode(&part(0, &bad)),
            Err(PartError::Event(_))
        ));
    }
}
