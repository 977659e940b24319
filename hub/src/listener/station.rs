//! The way back to a station: one task for each session of an agent that serves one.
//!
//! ```text
//! writer: commit ─▶ last numbers (watch) ─▶ this task ─ CaseStatus ─▶ agent: syncs it
//! table  ─ unacked, above what was sent ──▶     ▲                        │
//! writer ◀─ acknowledge ────────────────────────┴─── case_status_stored ─┘  (Hello, Heartbeat)
//! ```
//!
//! The agent's word counts: the task begins with the hello's position, and has the writer correct the
//! table by it. At most [`CASES_IN_FLIGHT_MAX`] messages are sent and not acknowledged; an agent whose
//! inbox is full acknowledges none, and then none are sent. The table is read when a message was written
//! for this agent, when there is room again, and every [`LOOK_EVERY`].
use linli_shared::protocol::frame::Frame;
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::limits::CASES_IN_FLIGHT_MAX;
use linli_shared::service::telemetry;
use quinn::SendStream;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;

use super::Shared;
use super::session::Ended;
use crate::ingest::{Ingest, LastNumbers};
use linli_store::{Store, stations};

/// Interval of reading the table without a wake-up: for messages of another process.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause after a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// What a session's task uses.
pub struct Station {
    agent: AgentId,
    store: Store,
    ingest: Ingest,
    send: SendStream,
    /// The last number on the agent's disk.
    stored: watch::Receiver<u64>,
    news: watch::Receiver<LastNumbers>,
    /// The number of the last message that was sent, or that the agent had before.
    sent: u64,
    /// Sent and not acknowledged.
    in_flight: VecDeque<u64>,
    /// The position that the writer has written.
    acknowledged: u64,
}

impl Station {
    /// A task that has sent nothing.
    pub fn new(
        agent: &AgentId,
        shared: &Shared,
        send: SendStream,
        stored: watch::Receiver<u64>,
    ) -> Self {
        let begin = *stored.borrow();
        Self {
            agent: agent.clone(),
            store: shared.store.clone(),
            ingest: shared.ingest.clone(),
            send,
            stored,
            news: shared.ingest.stations(),
            sent: begin,
            in_flight: VecDeque::new(),
            acknowledged: begin,
        }
    }

    /// Works until the session ends; the next session begins with the agent's position.
    pub async fn run(mut self) -> Result<(), Ended> {
        let begin = self.acknowledged;
        // While the store takes no writes nothing is sent: rows of the table may be below `begin`.
        while let Err(rejection) = self.ingest.station(self.agent.clone(), begin, true).await {
            tracing::warn!(agent = %self.agent, error = %rejection, "messages to a station wait for the store");
            tokio::time::sleep(STORE_PAUSE).await;
        }
        loop {
            // A commit after this wakes the wait below.
            self.news.borrow_and_update();
            let stored = *self.stored.borrow_and_update();
            self.in_flight.retain(|number| *number > stored);
            let mut pause = LOOK_EVERY;
            if stored > self.acknowledged {
                let told = self.ingest.station(self.agent.clone(), stored, false).await;
                match told {
                    Ok(()) => self.acknowledged = stored,
                    // Reported again, with later ones.
                    Err(_) => pause = STORE_PAUSE,
                }
            }
            if !self.send_more().await? {
                pause = STORE_PAUSE;
            }
            self.wait(pause).await?;
        }
    }

    /// Sends waiting messages, as many as may be in flight; false if the store could not be read.
    async fn send_more(&mut self) -> Result<bool, Ended> {
        let room = CASES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
        if room == 0 {
            return Ok(true);
        }
        let waiting = stations::unacked(self.store.readers(), &self.agent, self.sent, room).await;
        let waiting = match waiting {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(agent = %self.agent, error = %telemetry::chain(&error), "messages to a station cannot be read");
                return Ok(false);
            }
        };
        for status in waiting {
            let number = status.id;
            self.send
                .write_all(&Frame::CaseStatus(status).encode()?)
                .await?;
            self.sent = number;
            self.in_flight.push_back(number);
        }
        Ok(true)
    }

    /// Waits until the agent has stored more, a message was written for it, or the pause is over.
    async fn wait(&mut self, pause: Duration) -> Result<(), Ended> {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        loop {
            // All arms are cancel-safe: watches and a pinned sleep lose nothing.
            tokio::select! {
                () = &mut sleep => return Ok(()),
                // Its sender lives as long as the session, the writer's as long as the hub.
                changed = self.stored.changed() => return changed.map_err(|_| Ended::Closed),
                changed = self.news.changed() => {
                    changed.map_err(|_| Ended::Closed)?;
                    let last = self.news.borrow_and_update().get(self.agent.as_str()).copied();
                    if last.is_some_and(|last| last > self.sent) {
                        return Ok(());
                    }
                }
            }
        }
    }
}
