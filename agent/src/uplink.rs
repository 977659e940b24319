//! The uplink: sends the spools' events to a hub, and passes the hub's messages to the agent.
//!
//! ```text
//! spools ──read──▶ lane (one each) ──batch──▶ QUIC stream of its own ──▶ hub
//!        ◀──ack──                  ◀──ack──
//! ```
//!
//! One session at a time. A session starts with `Hello`; the hub answers with the position that it expects of each
//! lane, and everything from there on is sent, so a lost answer costs only a repetition. Events that this process has
//! not sent are not assumed known to the hub: a spool that was restored to an older state assigns its numbers again,
//! so the hub gets all unacknowledged events, and compares. An acknowledgement reaches the spool only when the hub
//! has synced. After the end of a session, for any reason, the next one starts after a backoff with jitter, at the
//! next address of the list.
mod dial;
mod flight;
mod lane;
mod session;

use linli_shared::protocol::frame::{CaseStatus, ClockAnchor, Command};
use linli_shared::protocol::ids::{Lane, Sequence};
use linli_shared::service::backoff::Backoff;
use linli_shared::service::clock;
use linli_shared::service::telemetry::chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::gateway_clock::GatewayClock;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::stations::Stations;
use linli_spool::Spool;

use session::{Ended, SessionError};

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Least pause after a refusal that a person must resolve.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A session that lasted this long from the hub's welcome was a good one: the backoff starts anew.
const GOOD_SESSION: Duration = Duration::from_secs(20);

/// The status of the uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct UplinkStatus {
    /// The connected hub.
    pub connected: Option<String>,
    /// Time of the last change of `connected`, milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// When the hub last acknowledged events, milliseconds since 1970 UTC.
    pub last_ack_ms: Option<i64>,
    /// Why the last session or try ended.
    pub last_error: Option<String>,
    /// Rises with every round of the uplink's loop: the watchdog's proof of life.
    #[serde(skip)]
    pub rounds: u64,
}

/// The hub's messages, for the parts of the agent that handle them.
#[derive(Debug)]
pub enum Downlink {
    /// A case has changed, and no station is served here.
    Case(CaseStatus),
    /// A command.
    Command(Command),
}

/// The inputs of an uplink.
pub struct Uplink {
    /// Identity of the agent.
    pub identity: Identity,
    /// Hubs in the order of preference.
    pub addresses: Vec<String>,
    /// Spools in the order of [`Lane::ALL`].
    pub spools: [Spool; Lane::ALL.len()],
    /// The sequence after the last that this process has sent, by lane.
    pub sent: [Sent; Lane::ALL.len()],
    /// Events on their way into the spools.
    pub pending: Pending,
    /// Whether this gateway's clock is synchronised.
    pub gateway: GatewayClock,
    /// Clock anchors of this and earlier boots.
    pub anchors: watch::Receiver<Vec<ClockAnchor>>,
    /// The inbox of the station, if this agent serves one.
    pub stations: Option<Stations>,
    /// Destination of the hub's other messages.
    pub downlink: mpsc::Sender<Downlink>,
    /// Metrics.
    pub metrics: Metrics,
    /// Status.
    pub status: watch::Sender<UplinkStatus>,
}

/// The sequence after the last event of a lane that this process has sent, in any session.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<AtomicU64>);

impl Sent {
    fn get(&self) -> Sequence {
        Sequence(self.0.load(Ordering::Relaxed))
    }

    /// Records that everything before `end` was sent; returns how many of the events were sent for the first time.
    fn note(&self, first: Sequence, end: Sequence) -> u64 {
        let before = self.0.fetch_max(end.0, Ordering::Relaxed);
        end.0.saturating_sub(before.max(first.0))
    }
}

impl Uplink {
    /// Keeps a session until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::io::Error> {
        let mut dialer = dial::Dialer::new(self.addresses.clone(), self.identity.quic.clone());
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        self.note(|status| status.since_ms = clock::wall_ms());
        while !stop.is_cancelled() {
            // Cancel-safe: on stop the session is dropped as a whole; the hub sends its position again.
            let ended = tokio::select! {
                ended = self.once(&mut dialer) => ended,
                () = stop.cancelled() => break,
            };
            self.metrics.uplink_connected.set(0);
            self.metrics
                .uplink_connects
                .with_label_values(&[ended.outcome()])
                .inc();
            let Ended { error, taken_in } = ended;
            let text = chain(&error);
            let refused = matches!(error, SessionError::Refused { .. });
            if refused {
                tracing::error!(reason = text, "the hub refuses this agent");
            } else {
                tracing::warn!(reason = text, "no session with a hub");
            }
            self.note(|status| {
                if status.connected.take().is_some() {
                    status.since_ms = clock::wall_ms();
                }
                status.last_error = Some(text);
            });
            if taken_in.is_some_and(|at| at.elapsed() >= GOOD_SESSION) {
                backoff.reset();
            }
            let mut pause = backoff.next(linli_shared::service::random::jitter());
            if let SessionError::Refused { retry_ms, .. } = error {
                pause = pause.max(if retry_ms > 0 {
                    Duration::from_millis(retry_ms).min(BACKOFF_MAX)
                } else {
                    REFUSED_PAUSE
                });
            }
            self.pause(pause, &stop).await;
        }
        dialer.close().await;
        Ok(())
    }

    /// Waits, and reports every second that the loop is alive.
    async fn pause(&self, pause: Duration, stop: &CancellationToken) {
        let until = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < until && !stop.is_cancelled() {
            self.note(|_| {});
            let step = (tokio::time::Instant::now() + Duration::from_secs(1)).min(until);
            // Both arms are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep_until(step) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Changes the status, which also reports that the loop is alive.
    fn note(&self, change: impl FnOnce(&mut UplinkStatus)) {
        self.status.send_modify(|status| {
            status.rounds += 1;
            change(status);
        });
    }
}
