//! One lane of one session: reads its spool, fills the window, takes acknowledgements.
use bytes::Bytes;
use linli_shared::protocol::frame::{Ack, Frame, LaneOpen, Lost, batch_header};
use linli_shared::protocol::ids::{Lane, Sequence};
use linli_shared::service::clock;
use linli_shared::service::link::FrameReader;
use quinn::{Connection, SendStream};
use tokio::sync::watch;

use super::flight::Flight;
use super::session::SessionError;
use super::{Sent, UplinkStatus};
use crate::metrics::Metrics;
use linli_spool::{Item, Spool};

/// Largest batch of a backlog. A hub processes a batch as a whole, so a larger one would delay alarms.
const BATCH_BYTES: usize = 64 * 1024;

/// Urgent is sent before routine, routine before media.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Urgent => 2,
        Lane::Routine => 1,
        Lane::Media => 0,
    }
}

pub struct LaneSender {
    pub spool: Spool,
    pub flight: Flight,
    pub hub_next: Sequence,
    pub sent: Sent,
    pub metrics: Metrics,
    pub status: watch::Sender<UplinkStatus>,
}

impl LaneSender {
    /// Serves the lane until the session ends, which is always an error.
    pub async fn run(mut self, connection: Connection) -> Result<(), SessionError> {
        let lane = self.spool.lane();
        let (mut send, receive) = connection.open_bi().await?;
        send.set_priority(priority(lane))
            .map_err(|_| SessionError::StreamClosed)?;
        let open = Frame::LaneOpen(LaneOpen {
            lane: lane.number(),
        });
        send.write_all(&open.encode()?).await?;
        let mut reader = FrameReader::new(receive);
        let mut spool_status = self.spool.status();
        let mut acked = self.hub_next;
        loop {
            let next = spool_status.borrow_and_update().next;
            let mut moved = false;
            if self.flight.has_room() && next > self.flight.position() {
                moved = self.fill(&mut send).await?;
            }
            let waits = !moved || !self.flight.has_room();
            // Both arms are cancel-safe: the reader keeps what it has read, a watch loses no change.
            tokio::select! {
                biased;
                frame = reader.next() => {
                    let Frame::Ack(Ack { next }) = frame?.ok_or(SessionError::StreamClosed)? else {
                        continue;
                    };
                    if let Some(next) = self.flight.acked(next)? {
                        self.spool.ack(next).await;
                        self.note_ack(lane, &mut acked, next);
                    }
                }
                changed = spool_status.changed(), if waits => {
                    changed.map_err(|_| SessionError::SpoolClosed)?;
                }
                () = std::future::ready(()), if !waits => {}
            }
        }
    }

    fn note_ack(&self, lane: Lane, acked: &mut Sequence, next: Sequence) {
        let count = next.0.saturating_sub(acked.0);
        *acked = next.max(*acked);
        let now_ms = clock::wall_ms();
        self.metrics
            .events_sent
            .with_label_values(&[lane.as_str()])
            .inc_by(count);
        self.metrics.uplink_last_ack.set(now_ms / 1000);
        self.status.send_modify(|status| {
            status.rounds += 1;
            status.last_ack_ms = Some(now_ms);
        });
    }

    /// Sends one batch, and the lost ranges around it. Returns whether anything was sent.
    async fn fill(&mut self, send: &mut SendStream) -> Result<bool, SessionError> {
        let items = self.spool.read(self.flight.position(), BATCH_BYTES).await;
        let moved = !items.is_empty();
        let mut batch: Vec<Bytes> = Vec::with_capacity(items.len() + 1);
        let mut batch_end = self.flight.position();
        for item in items {
            match item {
                Item::Chunk(chunk) => {
                    if batch.is_empty() {
                        // Placeholder of the header; its length is known at the end.
                        batch.push(Bytes::new());
                    }
                    batch_end = chunk.header().end();
                    batch.push(chunk.bytes().clone());
                }
                Item::Lost(range) => {
                    self.send_batch(send, &mut batch, batch_end).await?;
                    batch_end = range.end;
                    if range.end <= self.hub_next {
                        if let Some(next) = self.flight.pass(range.end) {
                            self.spool.ack(next).await;
                        }
                        continue;
                    }
                    let lost = Frame::Lost(Lost {
                        first: range.first.max(self.hub_next),
                        end: range.end,
                        reason: range.reason.as_str().to_owned(),
                    });
                    let frame = lost.encode()?;
                    send.write_all(&frame).await?;
                    self.flight.sent(range.end, frame.len());
                    // Counted once for each event, however often a session has to report it.
                    let count = self.sent.note(range.first, range.end);
                    self.metrics
                        .events_discarded
                        .with_label_values(&[self.spool.lane().as_str(), range.reason.as_str()])
                        .inc_by(count);
                }
            }
        }
        self.send_batch(send, &mut batch, batch_end).await?;
        Ok(moved)
    }

    async fn send_batch(
        &mut self,
        send: &mut SendStream,
        batch: &mut Vec<Bytes>,
        end: Sequence,
    ) -> Result<(), SessionError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        batch[0] = Bytes::copy_from_slice(&batch_header(bytes));
        // The chunks go to QUIC as they are, without a copy.
        send.write_all_chunks(batch).await?;
        batch.clear();
        self.sent.note(self.flight.position(), end);
        self.flight.sent(end, bytes);
        self.metrics
            .sent_bytes
            .with_label_values(&[self.spool.lane().as_str()])
            .inc_by(bytes as u64);
        Ok(())
    }
}
