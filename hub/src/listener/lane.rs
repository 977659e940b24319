//! A lane of a session: decodes what comes, hands it to the writer, gives its answers back in order.
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::frame::{Ack, Frame};
use linli_shared::protocol::ids::{Lane, Sequence, SiteId};
use linli_shared::service::link::FrameReader;
use linli_shared::service::telemetry;
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

use super::session::Ended;
use crate::ingest::{Arrival, ClockOffsets, Decoded, Ingest, Rejection, Request};
use crate::store::positions::LaneKey;

/// Arrivals of one lane that wait for the writer.
const WAITING_MAX: usize = 16;

pub struct LaneSession {
    /// Lanes of the hello.
    pub keys: Vec<LaneKey>,
    pub site: SiteId,
    pub offsets: Arc<ClockOffsets>,
    pub ingest: Ingest,
}

type Answer = oneshot::Receiver<Result<Sequence, Rejection>>;

impl LaneSession {
    /// Runs until the agent ends the stream.
    pub async fn run(self, send: SendStream, receive: RecvStream) -> Result<(), Ended> {
        let mut reader = FrameReader::new(receive);
        let lane = match reader.next().await? {
            Some(Frame::LaneOpen(open)) => Lane::from_number(open.lane),
            // A kind of stream that a later version may have: it is left alone.
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
            let arrival = match frame {
                Frame::Batch(chunks) => Arrival::Batch(chunks.into_iter().map(decode).collect()),
                Frame::Lost(lost) => Arrival::Lost {
                    first: lost.first,
                    end: lost.end,
                    reason: lost.reason.chars().take(64).collect(),
                },
                Frame::Unknown(_) => continue,
                other => return Err(Ended::Unexpected(other.name())),
            };
            let (reply, answer) = oneshot::channel();
            let request = Request::Arrive {
                key: key.clone(),
                site: self.site.clone(),
                offsets: self.offsets.clone(),
                arrival,
                reply,
            };
            // Room for the answer first, so that what is with the writer stays bounded.
            let Ok(slot) = waiting.reserve().await else {
                return Ok(());
            };
            if !self.ingest.send(request).await {
                return Err(Ended::Rejected(Rejection::Store));
            }
            slot.send(answer);
        }
        Ok(())
    }
}

fn decode(chunk: Chunk) -> Decoded {
    let events = chunk.events().map_err(|error| telemetry::chain(&error));
    Decoded { chunk, events }
}

async fn answer(mut send: SendStream, mut answers: mpsc::Receiver<Answer>) -> Result<(), Ended> {
    while let Some(answer) = answers.recv().await {
        let next = answer.await.unwrap_or(Err(Rejection::Store))?;
        send.write_all(&Frame::Ack(Ack { next }).encode()?).await?;
    }
    Ok(())
}
