//! Notifications: the notifier sends the rows of the outbox.
//!
//! ```text
//! ingest writer: decision ─▶ outbox row for each channel ─▶ commit ─▶ wake
//! notifier:  one worker a channel: due rows ─▶ plan ─▶ peer ─▶ settlement ─▶ ingest writer ─▶ commit
//! ```
//!
//! It writes nothing to the database: it reads due rows, and the ingest writer writes their deliveries. Each channel has
//! a worker, a task of its own, so that a peer that does not answer delays no other
//! channel.
//!
//! Invariants:
//! * **Once for each decision and channel.** There is at most one row for a decision and a channel, ever
//!   (`UNIQUE (decision, channel)`), and a `sent` row is never sent again. A moment lies between the peer's
//!   answer and the commit of `sent`; a hub that is killed there sends the row again
//!   after its start, under the same id (decision and channel), by which the receiver can drop it:
//!   CloudEvents `id`, mail `Message-ID`, the labels of an alert, the warning's number in a text. While the
//!   process lives, a row whose settlement cannot be committed yet is not sent again.
//! * **A dropped row is not sent.** Rows are read immediately before they are sent, also after a restart, and the
//!   writer's drops are excluded.
//! * **No names, no numbers.** A message is made of a [`Notice`](linli_domain::notice::Notice) and nothing else, which has no
//!   field for a person and none of an event's attributes (`notice`).
//! * Life goes first; a burst goes as a digest; nobody is sent more than the channel's rate (`plan`, `bucket`).
//! * A notice that a peer refuses is dead at once; a notice that a peer does not take is retried for a day. Dead rows stay, are
//!   counted, and are sent again by `linli-hub notifications resend` or the API.
//!
//! Limits: [`plan::DIGEST_MAX`] rows a message, [`peer::SEND_DEADLINE`] for one try, [`LOOK_EVERY`] until a
//! worker sees rows of the command line.
//!
//! Files: `plan` and `bucket` decide when a message is sent, `words` writes it, `peer` speaks the protocol,
//! `channel_worker` is the task of a channel. `centre` decides which channels a notice goes to.
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

/// Interval at which an idle worker reads its rows.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Maximum number of rows of a removed channel that are given up at once.
const ORPHANS_PAGE: usize = 200;

/// The notifier, built and not running.
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

    /// Runs until `stop`; then waits a while for the message on its way.
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
        // Its handle would keep the writer alive.
        drop(self.ingest);
        // Both arms are cancel-safe: a JoinSet keeps its results.
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = desks.join_next() => {
                ended.map_err(io::Error::other)?;
                // A worker also ends with the writer; `app` sees the writer first and reports it.
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

/// Gives up the waiting rows of channels that are no longer in the config. They stay visible, and can be sent again when
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
            // The writer reports its own failure; the next start tries again.
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
