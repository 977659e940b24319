//! The one door to the spool: stamps, routes, packs, appends, counts.
//!
//! A source fills a [`Submission`], which packs each event at once, and may answer its device only after
//! [`Intake::submit`] has returned that everything in it is synced. Lanes are appended side by side, and the outcome
//! is per lane: events synced by one lane are done, whatever another refuses.
//!
//! While the gateway's clock is not synchronised, times based on it are marked so, and events carry the time since
//! boot.
//!
//! A submission also travels between processes, from `linli-agent import` to the running agent: packed CBOR, an array
//! of [`Part`], checked event by event on arrival.
use linli_shared::protocol::chunk::{BuildError, Packed};
use linli_shared::protocol::codec::{self, CodecError};
use linli_shared::protocol::event::{ClockQuality, Draft, Event};
use linli_shared::protocol::ids::{BootId, Lane, Retention};
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use crate::clock_anchors;
use crate::gateway_clock::GatewayClock;
use crate::metrics::Metrics;
use linli_spool::{AppendError, EventKey, Spool};

/// Most events of one submission.
pub const SUBMIT_EVENTS_MAX: usize = 4096;

/// Lane and retention class, the unit of an append.
pub type Way = (Lane, Retention);

const SLOTS: usize = Lane::ALL.len() * Retention::ALL.len();

/// Counts of stored events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// New events, durable now.
    pub stored: usize,
    /// Events that were already stored, by id and content.
    pub doubled: usize,
    /// New events with the id of another event of the source.
    #[serde(default)]
    pub conflicts: usize,
}

/// The outcome of a submission.
#[derive(Debug, Default)]
pub struct SubmitOutcome {
    /// Counts of the lanes that stored their events.
    pub submitted: Submitted,
    /// The ways that were refused, and the reasons.
    pub refused: Vec<(Way, AppendError)>,
}

impl SubmitOutcome {
    /// Ok if everything is durable, else the error: the urgent lane's first.
    pub fn whole(self) -> Result<Submitted, SubmitError> {
        match self.refused.into_iter().next() {
            None => Ok(self.submitted),
            Some(((lane, _), source)) => Err(SubmitError::Append { lane, source }),
        }
    }
}

/// Why nothing, or not everything, was stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A lane refused its events.
    #[error("the {lane} lane did not take it")]
    Append {
        /// The lane.
        lane: Lane,
        /// The cause.
        #[source]
        source: AppendError,
    },
    /// It depends on an earlier message of its device, which was not stored.
    #[error("an earlier message of the device was not stored: it is to be sent again")]
    Earlier,
    /// Too many events in one submission.
    #[error("{0} events in one submission, at most {SUBMIT_EVENTS_MAX} are accepted")]
    TooMany(usize),
    /// The storing task ended.
    #[error(
        "storing it ended with a fault of this program: please report what its log says of a panic"
    )]
    Task,
}

impl SubmitError {
    /// Whether the urgent lane has stored its events: only events of other lanes are missing.
    pub fn has_kept_alarms(&self) -> bool {
        matches!(
            self,
            Self::Append {
                lane: Lane::Routine | Lane::Media,
                ..
            }
        )
    }
}

/// Why bytes are not a submission.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// They are no CBOR of a submission.
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
    /// Batches by lane, then by retention class: urgent is appended first.
    batches: [Batch; SLOTS],
    /// The time since boot, if the wall clock is not synchronised.
    monotonic_ms: Option<u64>,
}

impl Submission {
    /// An empty submission; checks whether the clock is synchronised.
    pub fn new(gateway: &GatewayClock) -> Self {
        let is_unset = !gateway.is_synchronised_at(clock_anchors::offset_ms());
        Self {
            batches: Default::default(),
            monotonic_ms: is_unset.then(clock::monotonic_ms),
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
            draft.monotonic_ms.get_or_insert(monotonic_ms);
        }
        // Times of a clock that nobody vouched for are unusable until the hub corrects them.
        if draft.monotonic_ms.is_some() && draft.clock.is_agents() {
            draft.clock = ClockQuality::Unset;
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
        batch.keys.push(EventKey::of(&draft));
        Ok(())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.keys.len()).sum()
    }

    /// The batches with events, each with its lane and class.
    fn into_batches(self) -> impl Iterator<Item = (Lane, Retention, Batch)> {
        let ways = Lane::ALL
            .into_iter()
            .flat_map(|lane| Retention::ALL.map(|retention| (lane, retention)));
        ways.zip(self.batches)
            .filter(|(_, batch)| !batch.events.is_empty())
            .map(|((lane, retention), batch)| (lane, retention, batch))
    }

    /// The events.
    #[cfg(test)]
    pub fn events(self) -> Vec<Event> {
        let batches = self.into_batches().map(|(_, _, batch)| batch);
        let decode = |batch: Batch| {
            let bytes = batch.events.into_bytes();
            codec::decode_sequence("event", &bytes, SUBMIT_EVENTS_MAX).expect("events")
        };
        batches.flat_map(decode).collect()
    }

    /// Encodes it for another process.
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

    /// Decodes a submission of another process.
    pub fn decode(bytes: &[u8], gateway: &GatewayClock) -> Result<Self, PartError> {
        let parts: Vec<Part> = codec::decode("submission", bytes)?;
        let mut submission = Self::new(gateway);
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
    gateway: GatewayClock,
    metrics: Metrics,
}

impl Intake {
    /// An intake of these `spools`, in the order of [`Lane::ALL`].
    pub fn new(
        spools: [Spool; Lane::ALL.len()],
        boot: BootId,
        gateway: GatewayClock,
        metrics: Metrics,
    ) -> Self {
        Self {
            spools,
            boot,
            gateway,
            metrics,
        }
    }

    /// The gateway's clock.
    pub fn gateway(&self) -> &GatewayClock {
        &self.gateway
    }

    /// An empty submission.
    pub fn submission(&self) -> Submission {
        Submission::new(&self.gateway)
    }

    /// Makes events durable, each lane by itself. A store that has begun finishes even if the caller stops waiting.
    pub async fn submit(&self, submission: Submission) -> Result<SubmitOutcome, SubmitError> {
        let count = submission.len();
        if count > SUBMIT_EVENTS_MAX {
            return Err(SubmitError::TooMany(count));
        }
        let mut appends = JoinSet::new();
        let mut first = None;
        for (lane, retention, batch) in submission.into_batches() {
            let spool = self.spools[usize::from(lane.number())].clone();
            let boot = self.boot;
            let append = async move {
                let count = batch.events.len() as u64;
                let appended = spool
                    .append(retention, boot, batch.oldest_ms, batch.events, batch.keys)
                    .await;
                ((lane, retention), count, appended)
            };
            // Most submissions have one batch, which needs no task.
            match first {
                None => first = Some(append),
                Some(_) => {
                    appends.spawn(append);
                }
            }
        }
        let mut outcome = SubmitOutcome::default();
        let mut done = Vec::with_capacity(1 + appends.len());
        if let Some(first) = first {
            done.push(first.await);
        }
        while let Some(joined) = appends.join_next().await {
            done.push(joined.map_err(|_| SubmitError::Task)?);
        }
        done.sort_by_key(|(way, _, _)| way.0);
        for (way, count, appended) in done {
            let lane = way.0;
            match appended {
                Ok(appended) => {
                    self.metrics
                        .stored(lane, appended.stored as u64, appended.doubled as u64);
                    outcome.submitted.stored += appended.stored;
                    outcome.submitted.doubled += appended.doubled;
                    outcome.submitted.conflicts += appended.conflicts;
                }
                Err(source) => {
                    self.metrics.refused(lane, count);
                    outcome.refused.push((way, source));
                }
            }
        }
        Ok(outcome)
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
        let gateway = GatewayClock::default();
        let mut submission = Submission::new(&gateway);
        submission
            .push(Lane::Routine, Retention::Access, draft("door.opened"))
            .expect("within the limits");
        submission
            .push(Lane::Urgent, Retention::Standard, draft("fire.alarm"))
            .expect("within the limits");
        let bytes = submission.encode().expect("CBOR");
        let arrived = Submission::decode(&bytes, &gateway).expect("a submission");
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

    #[tokio::test(flavor = "multi_thread")]
    async fn an_id_with_other_content_is_stored_and_counted_as_a_conflict() {
        let directory = tempfile::tempdir().expect("directory");
        let mut config = crate::config::Config {
            data_dir: directory.path().to_owned(),
            ..crate::config::Config::default()
        };
        config.spool.free_min = linli_shared::service::config::Bytes(8 << 20);
        let spools = crate::app::Spools::open(&config).expect("spools");
        let intake = Intake::new(
            spools.handles.clone(),
            BootId(1),
            GatewayClock::default(),
            Metrics::new().expect("metrics"),
        );
        let submit = async |kind| {
            let mut submission = intake.submission();
            submission
                .push(Lane::Routine, Retention::Access, draft(kind))
                .expect("within the limits");
            let outcome = intake.submit(submission).await.expect("an outcome");
            outcome.whole().expect("stored")
        };
        let counts = |stored, doubled, conflicts| Submitted {
            stored,
            doubled,
            conflicts,
        };
        assert_eq!(submit("door.opened").await, counts(1, 0, 0));
        assert_eq!(submit("door.closed").await, counts(1, 0, 1));
        assert_eq!(submit("door.opened").await, counts(0, 1, 0));
        assert_eq!(submit("door.closed").await, counts(0, 1, 0));
        tokio::task::block_in_place(|| spools.close());
    }

    #[test]
    fn what_is_no_submission_is_refused() {
        assert!(matches!(
            Submission::decode(b"{}", &GatewayClock::default()),
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
            Submission::decode(&part(9, b""), &GatewayClock::default()),
            Err(PartError::Unknown { lane: 9, .. })
        ));
        assert!(matches!(
            Submission::decode(&part(0, &[0x61]), &GatewayClock::default()),
            Err(PartError::Codec(_))
        ));
        let bad = codec::encode("event", &draft("No Kind")).expect("CBOR");
        assert!(matches!(
            Submission::decode(&part(0, &bad), &GatewayClock::default()),
            Err(PartError::Event(_))
        ));
    }
}
