//! Telling people: the notifier sends what stands in the outbox.
//!
//! ```text
//! ingest writer: decision ─▶ outbox row for each channel ─▶ commit ─▶ wake
//! notifier:  a desk for each channel: due rows ─▶ plan ─▶ peer ─▶ settlement ─▶ ingest writer ─▶ commit
//! ```
//!
//! It owns nothing in the database: it reads what is due, and the ingest writer writes what became of it.
//! Each channel has a desk, a task of its own, so that a peer that does not answer keeps none of the
//! others waiting.
//!
//! Invariants:
//! * **Once for each decision and channel.** There is at most one row for a decision and a channel, ever
//!   (`UNIQUE (decision, channel)`), and a row that is `sent` is never sent again. Between the peer's
//!   answer and the commit that says `sent` lies a moment; a hub that is killed there sends the row again
//!   after its start, under the same id (decision and channel), by which the receiver can drop it:
//!   CloudEvents `id`, mail `Message-ID`, the labels of an alert, the warning's number in a text. While the
//!   process lives, a row whose settlement cannot be committed yet is not sent again.
//! * **What is dropped is not sent.** Rows are read right before they are sent, after a restart too, and
//!   what the writer has dropped meanwhile is not among them.
//! * **No names, no numbers.** A message is made of a [`Notice`](linli_domain::notice::Notice) and nothing else, which has no
//!   field for a person and none of an event's attributes (`notice`).
//! * Life goes first; a burst goes as a digest; nobody is sent more than the channel's rate (`plan`, `bucket`).
//! * What a peer refuses is dead at once, what it does not take is tried for a day. Dead rows stay, are
//!   counted, and are sent again by `linli-hub notifications resend` or the API.
//!
//! Limits: [`plan::DIGEST_MAX`] rows a message, [`peer::SEND_DEADLINE`] for one try, [`LOOK_EVERY`] until a
//! desk sees what the command line has written.
//!
//! Files: `plan` and `bucket` decide when a message is sent, `words` writes it, `peer` speaks the protocol, `desk` is the
//! task of a channel. Which channels a notice goes to is decided in `centre`.
mod bucket;
mod channel_worker;
pub mod metrics;
pub mod peer;
mod plan;
mod words;

use std::io;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::centre::channels::Channel;
use crate::clock_watch::ClockWatch;
use crate::health::Health;
use crate::ingest::Ingest;
use channel_worker::ChannelWorker;
use linli_shared::service::telemetry;
use linli_store::outbox::{self, Delivery, Settlement};
use linli_store::{Store, StoreError};
use metrics::NotifyMetrics;
use peer::{Peer, PeerError};

/// A desk looks at its rows this often where nothing wakes it.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Rows of a channel that is no more, given up at once.
const ORPHANS_PAGE: usize = 200;

/// The notifier, built and not running yet.
pub struct Notifier {
    desks: Vec<ChannelWorker>,
    store: Store,
    ingest: Ingest,
}

impl Notifier {
    /// Reads the secrets of all channels; connects to nothing. `source` names this hub to receivers.
    pub fn open(
        channels: &[Channel],
        source: &str,
        store: &Store,
        ingest: &Ingest,
        metrics: &NotifyMetrics,
        clock: &ClockWatch,
    ) -> Result<Self, PeerError> {
        let desk = |channel: &Channel| {
            let peer = Peer::open(channel, source)?;
            metrics.channel(peer.channel());
            Ok(ChannelWorker::new(
                peer,
                channel.rate,
                store.clone(),
                ingest.clone(),
                metrics.clone(),
                clock.clone(),
            ))
        };
        Ok(Self {
            desks: channels.iter().map(desk).collect::<Result<_, _>>()?,
            store: store.clone(),
            ingest: ingest.clone(),
        })
    }

    /// Runs until `stop`; a message that is under way then is waited for, for a while.
    pub async fn run(self, health: Health, stop: CancellationToken) -> io::Result<()> {
        let names: Vec<String> = self
            .desks
            .iter()
            .map(|desk| desk.channel().to_owned())
            .collect();
        let mut desks = JoinSet::new();
        for desk in self.desks {
            let line = health.part(format!("channel {}", desk.channel()));
            desks.spawn(desk.run(line, stop.clone()));
        }
        if let Err(error) = bury_orphans(&self.store, &self.ingest, &names).await {
            tracing::error!(error = %telemetry::chain(&error), "notices of channels that are no more cannot be given up");
        }
        // Its handle would keep the writer from its end.
        drop(self.ingest);
        // Both arms are cancel-safe: a JoinSet keeps its results.
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = desks.join_next() => {
                ended.map_err(io::Error::other)?;
                // A desk also ends when the writer has, which `app` sees and tells first.
                if !stop.is_cancelled() {
                    return Err(io::Error::other("the desk of a channel has ended"));
                }
            }
        }
        while let Some(ended) = desks.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Gives up what waits for channels that are no longer in the config: it can be seen, and sent again once
/// the channel is back.
async fn bury_orphans(store: &Store, ingest: &Ingest, names: &[String]) -> Result<(), StoreError> {
    for channel in outbox::channels_waiting(store.readers()).await? {
        if names.contains(&channel) {
            continue;
        }
        let mut buried = 0;
        loop {
            let rows = outbox::due(store.readers(), &channel, i64::MAX, ORPHANS_PAGE).await?;
            let settlements: Vec<Settlement> = rows
                .iter()
                .map(|row| Settlement {
                    id: row.id,
                    outcome: Delivery::Dead {
                        error: "the channel is not in the config: add it, and send this again"
                            .to_owned(),
                    },
                })
                .collect();
            // The writer that takes nothing says so itself; the next start tries again.
            if settlements.is_empty() || ingest.settle(settlements).await.is_err() {
                break;
            }
            buried += rows.len();
        }
        tracing::warn!(
            channel,
            notices = buried,
            "notices of a channel that is not in the config are given up"
        );
    }
    Ok(())
}
