//! One session with a hub, from `Hello` to the end.
use linli_shared::protocol::codec::CodecError;
use linli_shared::protocol::frame::{Frame, Heartbeat, Hello, LanePosition, SpoolFigures, Welcome};
use linli_shared::protocol::ids::{Lane, Sequence};
use linli_shared::protocol::{VERSION, VERSION_MIN};
use linli_shared::service::clock;
use linli_shared::service::link::{FrameReader, ReadError};
use quinn::{Connection, SendStream};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dial::Dialer;
use super::flight::{AckError, Flight};
use super::lane::LaneSender;
use super::{Downlink, Uplink};
use crate::clock_anchors;
use crate::stations::{InboxError, InboxState, Stations};

/// Deadline from the connection to `Welcome`.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);
/// Interval at which the loop reports that it runs, however rare heartbeats are.
const PULSE: Duration = Duration::from_secs(2);
const HEARTBEAT_MIN: Duration = Duration::from_millis(200);

/// Why a session ended, or none began. Only the agent's own stop is a good end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No hub is configured.
    #[error("no hub address is known: set [hub] addresses, or join again")]
    NoAddress,
    /// The hub cannot be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// Address.
        address: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The hub did not answer `Hello`.
    #[error("the hub took the connection and did not answer in {} s", WELCOME_DEADLINE.as_secs())]
    NoWelcome,
    /// The hub refuses this agent.
    #[error("refused ({code}): {message}")]
    Refused {
        /// A code for programs.
        code: String,
        /// A message for people.
        message: String,
        /// When to try again.
        retry_ms: u64,
    },
    /// The hub sent another frame.
    #[error("the hub sent {0} where it should not")]
    Unexpected(&'static str),
    /// The link failed.
    #[error("the link to the hub was lost")]
    Link(#[from] quinn::ConnectionError),
    /// Sending failed.
    #[error("sending to the hub failed")]
    Write(#[from] quinn::WriteError),
    /// Reading failed.
    #[error("reading from the hub failed")]
    Read(#[from] ReadError),
    /// The hub ended a stream.
    #[error("the hub ended a stream")]
    StreamClosed,
    /// The hub broke the protocol.
    #[error(transparent)]
    Ack(#[from] AckError),
    /// A frame could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The inbox takes no message: the hub sends it again in the next session.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The spool is gone: the agent stops.
    #[error("the spool is closed")]
    SpoolClosed,
}

/// The end of a session or a try.
pub struct Ended {
    /// The reason.
    pub error: SessionError,
    /// When the hub accepted the agent, if it did.
    pub taken_in: Option<Instant>,
}

impl Ended {
    /// The outcome that it is counted as. Each one counted as `taken_in` is later counted as `lost`.
    pub fn outcome(&self) -> &'static str {
        match &self.error {
            _ if self.taken_in.is_some() => "lost",
            SessionError::NoAddress | SessionError::Connect { .. } => "unreachable",
            SessionError::Refused { .. } => "refused",
            _ => "no_welcome",
        }
    }
}

impl Uplink {
    /// Connects and keeps a session; returns how it ended.
    pub(super) async fn once(&self, dialer: &mut Dialer) -> Ended {
        let mut taken_in = None;
        let (address, connection) = match dialer.dial(&mut || self.note(|_| {})).await {
            Ok(dialled) => dialled,
            Err(error) => return Ended { error, taken_in },
        };
        let error = match self.session(&address, &connection, &mut taken_in).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        dialer.next_address();
        connection.close(linli_shared::service::link::CLOSE_DONE, b"session ended");
        Ended { error, taken_in }
    }

    async fn session(
        &self,
        address: &str,
        connection: &Connection,
        taken_in: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible, SessionError> {
        self.note(|_| {});
        let (mut send, receive) = connection.open_bi().await?;
        // Control frames are few and carry signs of life: they go before every lane.
        send.set_priority(3)
            .map_err(|_| SessionError::StreamClosed)?;
        let mut reader = FrameReader::new(receive);
        if let Some(stations) = &self.stations {
            stations.begin()?;
        }
        send.write_all(&Frame::Hello(self.hello()?).encode()?)
            .await?;
        let answer = tokio::time::timeout(WELCOME_DEADLINE, reader.next())
            .await
            .map_err(|_| SessionError::NoWelcome)?;
        let answer = match answer {
            Ok(answer) => answer,
            // A refusal may close the connection before its frame is read: the close reason is equivalent.
            Err(error) => return Err(connection.close_reason().map_or(error.into(), Into::into)),
        };
        let welcome = match answer.ok_or(SessionError::StreamClosed)? {
            Frame::Welcome(welcome) => welcome,
            Frame::Refuse(refuse) => {
                return Err(SessionError::Refused {
                    code: refuse.code,
                    message: refuse.message,
                    retry_ms: refuse.retry_ms,
                });
            }
            other => return Err(SessionError::Unexpected(other.name())),
        };
        self.metrics
            .uplink_connects
            .with_label_values(&["taken_in"])
            .inc();
        *taken_in = Some(Instant::now());
        if !welcome.clock_doubtful {
            self.judge_clock(&welcome, connection.rtt());
        }
        self.metrics.uplink_connected.set(1);
        tracing::info!(
            hub = address,
            software = welcome.software,
            "taken in by the hub"
        );
        self.note(|status| {
            status.connected = Some(address.to_owned());
            status.since_ms = clock::wall_ms();
            status.last_error = None;
        });
        // Dropping the set ends its tasks with the session.
        let mut lanes = JoinSet::new();
        for (spool, sent) in self.spools.iter().zip(&self.sent) {
            let hub_next = welcome
                .lanes
                .iter()
                .find(|position| {
                    position.lane == spool.lane().number() && position.epoch == spool.epoch()
                })
                .map_or(Sequence(0), |position| position.next);
            let (acked, next) = {
                let status = spool.status();
                let status = status.borrow();
                (status.acked, status.next)
            };
            if hub_next > next {
                spool.skip_to(hub_next).await;
            }
            let mut from = hub_next;
            if hub_next > acked.max(sent.get()) {
                from = acked;
            } else {
                spool.ack(hub_next).await;
            }
            let sender = LaneSender {
                spool: spool.clone(),
                flight: Flight::new(from, hub_next),
                hub_next,
                sent: sent.clone(),
                metrics: self.metrics.clone(),
                status: self.status.clone(),
            };
            lanes.spawn(sender.run(connection.clone()));
        }
        self.control(&welcome, &mut send, &mut reader, &mut lanes)
            .await
    }

    async fn control(
        &self,
        welcome: &Welcome,
        send: &mut SendStream,
        reader: &mut FrameReader,
        lanes: &mut JoinSet<Result<(), SessionError>>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let every = Duration::from_millis(welcome.heartbeat_ms).max(HEARTBEAT_MIN);
        let mut beat = tokio::time::interval(every);
        let mut pulse = tokio::time::interval(PULSE);
        let mut inbox = self.stations.as_ref().map(Stations::standing);
        let mut told = self.stored();
        loop {
            // All arms are cancel-safe: interval, JoinSet, watch and the frame reader keep their state. A selected
            // arm runs to its end: a frame is never written by half while the session lives.
            tokio::select! {
                _ = beat.tick() => told = self.beat(send).await?,
                Some(()) = changed(&mut inbox) => {
                    // The hub waits for this before it sends more.
                    if self.stored() > told {
                        told = self.beat(send).await?;
                    }
                }
                _ = pulse.tick() => self.note(|_| {}),
                frame = reader.next() => {
                    match frame?.ok_or(SessionError::StreamClosed)? {
                        Frame::CaseStatus(status) => match &self.stations {
                            Some(stations) => stations.offer(status)?,
                            None => self.deliver(Downlink::Case(status)).await,
                        },
                        Frame::Command(command) => self.deliver(Downlink::Command(command)).await,
                        Frame::Unknown(_) => self.metrics.unknown_frames.inc(),
                        other => return Err(SessionError::Unexpected(other.name())),
                    }
                }
                ended = lanes.join_next() => match ended {
                    Some(Ok(Err(error))) => return Err(error),
                    _ => return Err(SessionError::StreamClosed),
                },
            }
        }
    }

    /// Sends a heartbeat; returns the acknowledged number of the inbox.
    async fn beat(&self, send: &mut SendStream) -> Result<Option<u64>, SessionError> {
        // Taken first: events that arrive while the figures are read are not covered.
        let watermark_ms = self.watermark();
        let heartbeat = self.heartbeat(watermark_ms);
        let told = heartbeat.case_status_stored;
        send.write_all(&Frame::Heartbeat(heartbeat).encode()?)
            .await?;
        Ok(told)
    }

    /// The number up to which messages to the station are synced.
    fn stored(&self) -> Option<u64> {
        let stations = self.stations.as_ref()?;
        Some(stations.standing().borrow().stored)
    }

    async fn deliver(&self, message: Downlink) {
        // The receiver lives as long as the app; it is gone only when the agent stops.
        let _ = self.downlink.send(message).await;
    }

    /// Compares this gateway's clock with the hub's at its welcome. Half of the round trip is the welcome's way.
    fn judge_clock(&self, welcome: &Welcome, round_trip: Duration) {
        let hub_ms = welcome.hub_ms + (round_trip / 2).as_millis() as i64;
        let skew_ms = clock::wall_ms() - hub_ms;
        let was_synchronised = self.gateway.is_synchronised();
        self.gateway.hub_says(skew_ms, clock_anchors::offset_ms());
        self.metrics.clock_skew.set(skew_ms as f64 / 1000.0);
        let is_synchronised = self.gateway.is_synchronised();
        self.metrics.clock_set.set(i64::from(is_synchronised));
        if !is_synchronised {
            tracing::warn!(
                skew_ms,
                "the hub says that this clock is off: set it, or let chrony or systemd-timesyncd do so; until then events \
                 carry the time since boot, which the hub puts right"
            );
        } else if !was_synchronised {
            tracing::info!(skew_ms, "the hub vouches for this clock");
        }
    }

    fn hello(&self) -> Result<Hello, SessionError> {
        let anchors = self.anchors.borrow().clone();
        let wall_ms = clock::wall_ms();
        Ok(Hello {
            version: VERSION,
            version_min: VERSION_MIN,
            agent: self.identity.agent.agent.clone(),
            site: self.identity.agent.site.clone(),
            boot: clock::boot_id().unwrap_or_default(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            monotonic_ms: clock::monotonic_ms(),
            wall_ms,
            wall_set: self.gateway.is_synchronised(),
            anchors,
            lanes: self
                .spools
                .iter()
                .map(|spool| {
                    let status = spool.status();
                    let status = status.borrow();
                    LanePosition {
                        lane: spool.lane().number(),
                        epoch: spool.epoch(),
                        first: status.acked,
                        next: status.next,
                    }
                })
                .collect(),
            case_status_stored: self.stored(),
        })
    }

    /// The time up to which the hub has acknowledged everything received. The order counts: first the time and the
    /// pending events, then the spools' marks. An event that is no longer pending has been answered, and a spool
    /// shows its events before it answers.
    fn watermark(&self) -> i64 {
        let (now_ms, on_its_way_ms) = self.pending.look();
        let waiting_ms = self
            .spools
            .iter()
            .map(|spool| spool.status().borrow().oldest_ms);
        waiting_ms
            .chain([on_its_way_ms])
            .flatten()
            .map(|oldest_ms| oldest_ms - 1)
            .fold(now_ms, i64::min)
    }

    fn heartbeat(&self, watermark_ms: i64) -> Heartbeat {
        let figures = self.spools.iter().map(|spool| {
            let status = spool.status();
            let status = status.borrow();
            SpoolFigures {
                lane: spool.lane().number(),
                events: status.events(),
                bytes: status.bytes,
                oldest_ms: status.oldest_ms.unwrap_or(0),
            }
        });
        Heartbeat {
            wall_ms: clock::wall_ms(),
            watermark_ms,
            spool: figures.collect(),
            case_status_stored: self.stored(),
        }
    }
}

/// Waits until the inbox changes; for ever if there is none, or it is gone.
async fn changed(inbox: &mut Option<watch::Receiver<InboxState>>) -> Option<()> {
    if let Some(inbox) = inbox
        && inbox.changed().await.is_ok()
    {
        return Some(());
    }
    std::future::pending().await
}

const _: () = assert!(
    Lane::ALL.len() == 3,
    "a lane more is a stream more: see STREAMS_MAX"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_by_whether_the_hub_had_taken_the_agent_in() {
        let outcome = |error, taken_in| Ended { error, taken_in }.outcome();
        let refused = || SessionError::Refused {
            code: "site".to_owned(),
            message: String::new(),
            retry_ms: 0,
        };
        assert_eq!(outcome(SessionError::NoAddress, None), "unreachable");
        assert_eq!(outcome(refused(), None), "refused");
        assert_eq!(outcome(SessionError::NoWelcome, None), "no_welcome");
        assert_eq!(outcome(SessionError::Unexpected("Ack"), None), "no_welcome");
        let taken_in = Some(Instant::now());
        assert_eq!(outcome(SessionError::StreamClosed, taken_in), "lost");
    }
}
