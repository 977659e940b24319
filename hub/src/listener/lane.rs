//! A lane of a session: decodes arrivals, hands them to the writer, returns the answers in order.
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::frame::{Ack, Frame, LanePosition};
use linli_shared::protocol::ids::{Lane, Sequence, SiteId};
use linli_shared::service::link::FrameReader;
use linli_shared::service::telemetry;
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

use super::claims;
use super::metrics::ListenerMetrics;
use super::session::Ended;
use crate::ingest::{self, Arrival, ClockOffsets, Decoded, Ingest, Rejection, Request};
use linli_store::positions::LaneKey;

/// Maximum number of arrivals of one lane that wait for the writer.
const WAITING_MAX: usize = 16;

/// The lanes of a session that have had their stream. A second stream would only be a second set of waiting
/// arrivals.
#[derive(Default)]
pub struct Opened([AtomicBool; Lane::ALL.len()]);

impl Opened {
    fn is_first(&self, lane: Lane) -> bool {
        !self.0[usize::from(lane.number())].swap(true, Ordering::Relaxed)
    }
}

pub struct LaneSession {
    /// Lanes of the hello.
    pub keys: Vec<LaneKey>,
    /// Positions of the lanes in the hello.
    pub next: Vec<LanePosition>,
    /// Time of the hello.
    pub greeted: Instant,
    pub metrics: ListenerMetrics,
    pub site: SiteId,
    pub offsets: Arc<ClockOffsets>,
    pub opened: Arc<Opened>,
    pub ingest: Ingest,
}

/// The pending answer to an arrival. A frame can be several arrivals and is acknowledged once, with the
/// last of them.
struct Answer {
    outcome: oneshot::Receiver<Result<Sequence, Rejection>>,
    ends_frame: bool,
}

impl LaneSession {
    /// Runs until the agent ends the stream.
    pub async fn run(self, send: SendStream, receive: RecvStream) -> Result<(), Ended> {
        let mut reader = FrameReader::new(receive);
        let lane = match reader.next().await? {
            Some(Frame::LaneOpen(open)) => Lane::from_number(open.lane),
            // A later version may have other kinds of streams: this one ignores them.
            Some(Frame::Unknown(_)) => return Ok(()),
            Some(other) => return Err(Ended::Unexpected(other.name())),
            None => return Ok(()),
        };
        let key = self
            .keys
            .iter()
            .find(|key| Some(key.lane) == lane)
            .cloned()
            .ok_or(Ended::Unexpected("a lane that its hello does not have"))?;
        if !self.opened.is_first(key.lane) {
            return Err(Ended::Unexpected("a second stream of one lane"));
        }
        let (waiting, answers) = mpsc::channel(WAITING_MAX);
        // Both end together: the reader by dropping `waiting`, the answers by an error.
        tokio::try_join!(self.read(key, reader, waiting), answer(send, answers))?;
        Ok(())
    }

    async fn read(
        &self,
        key: LaneKey,
        mut reader: FrameReader,
        waiting: mpsc::Sender<Answer>,
    ) -> Result<(), Ended> {
        while let Some(frame) = reader.next().await? {
            match frame {
                Frame::Batch(chunks) => {
                    let mut arrivals = ingest::arrivals(chunks).into_iter().peekable();
                    while let Some(chunks) = arrivals.next() {
                        let arrival = || Arrival::Batch(chunks.into_iter().map(decode).collect());
                        let ends_frame = arrivals.peek().is_none();
                        self.hand_over(&key, arrival, ends_frame, &waiting).await?;
                    }
                }
                Frame::Lost(lost) => {
                    if lost.first > lost.end {
                        return Err(Ended::Unexpected("a lost range that ends before it begins"));
                    }
                    let end = self.bounded_end(&key, lost.end);
                    let arrival = || Arrival::Lost {
                        first: lost.first,
                        end,
                        reason: lost.reason.chars().take(64).collect(),
                    };
                    self.hand_over(&key, arrival, true, &waiting).await?;
                }
                Frame::Unknown(_) => {}
                other => return Err(Ended::Unexpected(other.name())),
            }
        }
        Ok(())
    }

    /// The end of a lost range, bounded by what the agent can have reached.
    fn bounded_end(&self, key: &LaneKey, end: Sequence) -> Sequence {
        let of_lane = |position: &&LanePosition| {
            position.lane == key.lane.number() && position.epoch == key.epoch
        };
        let next = self.next.iter().find(of_lane);
        let hello_next = next.map_or(Sequence(0), |position| position.next);
        let claim = claims::lost_end(end, hello_next, self.greeted.elapsed());
        if claim.is_clamped {
            self.metrics.clamped("lost");
            tracing::warn!(
                agent = %key.agent, lane = %key.lane, %end, taken = %claim.taken,
                "an agent reports as lost what it cannot have had"
            );
        }
        claim.taken
    }

    /// Decodes an arrival when there is room for it and for its answer, so that decoded events stay
    /// bounded whatever agents send.
    async fn hand_over(
        &self,
        key: &LaneKey,
        arrival: impl FnOnce() -> Arrival,
        ends_frame: bool,
        waiting: &mpsc::Sender<Answer>,
    ) -> Result<(), Ended> {
        // Absent only when the answers have ended with an error, which is the session's.
        let Ok(slot) = waiting.reserve().await else {
            return Ok(());
        };
        if key.lane != Lane::Urgent {
            // Decoding takes time: a task with an alarm goes first.
            tokio::task::yield_now().await;
        }
        let place = self.ingest.place(&key.agent, key.lane).await;
        let place = place.ok_or(Ended::Rejected(Rejection::Store))?;
        let (reply, outcome) = ingest::Reply::channel();
        place.send(Request::Arrive {
            key: key.clone(),
            site: self.site.clone(),
            offsets: self.offsets.clone(),
            arrival: arrival(),
            reply,
        });
        slot.send(Answer {
            outcome,
            ends_frame,
        });
        Ok(())
    }
}

fn decode(chunk: Chunk) -> Decoded {
    let events = chunk.events().map_err(|error| telemetry::chain(&error));
    Decoded { chunk, events }
}

async fn answer(mut send: SendStream, mut answers: mpsc::Receiver<Answer>) -> Result<(), Ended> {
    while let Some(answer) = answers.recv().await {
        let next = answer.outcome.await.unwrap_or(Err(Rejection::Store))?;
        if !answer.ends_frame {
            continue;
        }
        send.write_all(&Frame::Ack(Ack { next }).encode()?).await?;
    }
    Ok(())
}
