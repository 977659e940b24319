//! A session of an agent: authentication, `Hello` and `Welcome`, then its lanes until it ends.
use linli_shared::protocol::frame::{Frame, Heartbeat, Hello, LanePosition, Refuse, Welcome};
use linli_shared::protocol::ids::{AgentId, Lane};
use linli_shared::protocol::{VERSION, VERSION_MIN};
use linli_shared::service::link::{
    CLOSE_DONE, CLOSE_PROTOCOL, CLOSE_REFUSED, CLOSE_STORE, FrameReader, ReadError,
};
use linli_shared::service::telemetry;
use linli_shared::service::tls::{self, AgentIdentity};
use quinn::{Connection, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::claims;
use super::skew::Skew;
use super::station::Station;
use super::{Shared, lane};
use crate::ingest::{ClockOffsets, Rejection};
use linli_store::agents::{self, Sign};
use linli_store::positions::LaneKey;
use linli_store::text;

/// Deadline from the connection to `Hello`.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Grace for a refused agent to read the reason.
const REFUSED_LINGER: Duration = Duration::from_secs(2);
/// Retry delay of an agent that a person's decision refuses, milliseconds.
const REFUSED_RETRY_MS: u64 = 30_000;
const BUSY_RETRY_MS: u64 = 2_000;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Refused, with a reason for the agent.
    #[error("refused ({code}): {message}")]
    Refused {
        /// Code for programs.
        code: &'static str,
        /// Text for people.
        message: String,
    },
    /// The agent broke the protocol.
    #[error("the agent sent {0} where it should not")]
    Unexpected(&'static str),
    /// The writer rejected an arrival: the agent broke the order, or the store failed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No `Hello` arrived.
    #[error("no hello came in time")]
    NoHello,
    /// The link.
    #[error("the link was lost")]
    Link(#[from] quinn::ConnectionError),
    /// Reading.
    #[error("reading failed")]
    Read(#[from] ReadError),
    /// Writing.
    #[error("writing failed")]
    Write(#[from] quinn::WriteError),
    /// A frame could not be made.
    #[error(transparent)]
    Codec(#[from] linli_shared::protocol::codec::CodecError),
    /// The agent ended it.
    #[error("the agent ended it")]
    Closed,
}

impl Ended {
    /// The close code for the agent, and the label for the metrics.
    fn outcome(&self) -> (VarInt, &'static str) {
        match self {
            Self::Refused { code, .. } => (CLOSE_REFUSED, code),
            Self::Rejected(Rejection::Store) => (CLOSE_STORE, "store"),
            Self::Unexpected(_)
            | Self::Rejected(_)
            | Self::Read(ReadError::Frame(_) | ReadError::Cut) => (CLOSE_PROTOCOL, "protocol"),
            Self::NoHello => (CLOSE_PROTOCOL, "slow"),
            _ => (CLOSE_DONE, "ended"),
        }
    }
}

pub async fn serve(connection: Connection, shared: Arc<Shared>) {
    let ended = match session(&connection, &shared).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    };
    let text = telemetry::chain(&ended);
    let (close_code, outcome) = ended.outcome();
    if matches!(ended, Ended::Refused { .. }) {
        // The close would overtake the frame with the reason.
        let _ = tokio::time::timeout(REFUSED_LINGER, connection.closed()).await;
    }
    shared.metrics.sessions.with_label_values(&[outcome]).inc();
    tracing::info!(remote = %connection.remote_address(), reason = text, "a session ended");
    // A reason is bounded; a longer one would be the hub's error, not the agent's.
    connection.close(close_code, &text.as_bytes()[..text.len().min(200)]);
}

fn identity(connection: &Connection) -> Result<AgentIdentity, Ended> {
    let refused = |message: String| Ended::Refused {
        code: "identity",
        message,
    };
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or_else(|| {
            refused("a session needs a certificate of this hub: join first".to_owned())
        })?;
    let certificate = chain
        .first()
        .ok_or_else(|| refused("the certificate is missing".to_owned()))?;
    tls::agent_identity(certificate).map_err(|error| refused(error.to_string()))
}

async fn session(
    connection: &Connection,
    shared: &Arc<Shared>,
) -> Result<std::convert::Infallible, Ended> {
    let greeting = async {
        let (send, receive) = connection.accept_bi().await?;
        let mut reader = FrameReader::new(receive);
        let first = reader.next().await?;
        Ok::<_, Ended>((send, reader, first))
    };
    let (mut send, mut reader, first) = tokio::time::timeout(HELLO_DEADLINE, greeting)
        .await
        .map_err(|_| Ended::NoHello)??;
    let mut skew = Skew::default();
    let hello = match first {
        Some(Frame::Hello(hello)) => {
            skew.hear(&shared.clock, hello.wall_ms, connection.rtt());
            hello
        }
        Some(other) => return Err(Ended::Unexpected(other.name())),
        None => return Err(Ended::Closed),
    };
    let admitted = admit(connection, shared, &hello).await;
    if let Err(Ended::Refused { code, message }) = &admitted {
        let refuse = Frame::Refuse(Refuse {
            code: (*code).to_owned(),
            message: message.clone(),
            retry_ms: if *code == "busy" {
                BUSY_RETRY_MS
            } else {
                REFUSED_RETRY_MS
            },
        });
        send.write_all(&refuse.encode()?).await?;
    }
    let agent = admitted?;
    let keys: Vec<LaneKey> = hello
        .lanes
        .iter()
        .filter_map(|position| {
            Some(LaneKey {
                agent: agent.clone(),
                lane: Lane::from_number(position.lane)?,
                epoch: position.epoch,
            })
        })
        .collect();
    let positions = shared.ingest.positions(&agent, keys.clone()).await?;
    let welcome = Frame::Welcome(Welcome {
        version: VERSION.min(hello.version),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        hub_ms: shared.clock.now_ms(),
        heartbeat_ms: shared.heartbeat.as_millis() as u64,
        lanes: keys
            .iter()
            .zip(&positions)
            .map(|(key, next)| LanePosition {
                lane: key.lane.number(),
                epoch: key.epoch,
                first: Default::default(),
                next: *next,
            })
            .collect(),
        clock_doubtful: shared.clock.doubt().is_some(),
    });
    shared
        .sessions
        .enter(&agent, connection, &shared.metrics.agents_connected);
    shared
        .metrics
        .sessions
        .with_label_values(&["taken_in"])
        .inc();
    tracing::info!(%agent, site = %hello.site, remote = %connection.remote_address(), "an agent is taken in");
    let outcome = async {
        send.write_all(&welcome.encode()?).await?;
        lanes(connection, shared, &hello, keys, skew, &mut reader, send).await
    }
    .await;
    let left = shared
        .sessions
        .leave(&agent, connection, &shared.metrics.agents_connected);
    if left {
        shared.metrics.skew(&agent, None);
    }
    outcome
}

/// Checks the agent's identity, its admission and its protocol version.
async fn admit(connection: &Connection, shared: &Shared, hello: &Hello) -> Result<AgentId, Ended> {
    let refused = |code: &'static str, message: String| Ended::Refused { code, message };
    let identity = identity(connection)?;
    if identity.agent != hello.agent || identity.site != hello.site {
        return Err(refused(
            "identity",
            format!(
                "the certificate is for {} @ {}, the hello says {} @ {}",
                identity.agent, identity.site, hello.agent, hello.site
            ),
        ));
    }
    if hello.version < VERSION_MIN || hello.version_min > VERSION {
        return Err(refused(
            "version",
            format!(
                "the agent speaks protocol {} to {}, this hub {VERSION_MIN} to {VERSION}: update the older of the two",
                hello.version_min, hello.version
            ),
        ));
    }
    match agents::admitted(shared.store.admissions(), &identity.agent, &identity.serial).await {
        Ok(Ok(())) => Ok(identity.agent),
        Ok(Err(reason)) => Err(refused("revoked", reason.to_owned())),
        Err(error) => {
            tracing::error!(error = %telemetry::chain(&error), "an agent cannot be looked up");
            Err(refused(
                "busy",
                "the hub's store does not answer at the moment".to_owned(),
            ))
        }
    }
}

/// The clock offsets of the agent: those that it reports of earlier boots, and for this boot, if its
/// clock is not set, the hub's time at its hello.
fn clock_offsets(hello: &Hello, hub_ms: i64) -> ClockOffsets {
    let told: HashMap<_, _> = hello
        .anchors
        .iter()
        .map(|anchor| (anchor.boot, anchor.offset_ms))
        .collect();
    let own = (!hello.wall_set).then(|| {
        let offset_ms = hub_ms.saturating_sub(hello.monotonic_ms as i64);
        (hello.boot, offset_ms)
    });
    ClockOffsets::new(told, own)
}

async fn lanes(
    connection: &Connection,
    shared: &Arc<Shared>,
    hello: &Hello,
    keys: Vec<LaneKey>,
    mut skew: Skew,
    reader: &mut FrameReader,
    send: SendStream,
) -> Result<std::convert::Infallible, Ended> {
    let began = std::time::Instant::now();
    let offsets = Arc::new(clock_offsets(hello, shared.clock.now_ms()));
    let opened = Arc::new(lane::Opened::default());
    let mut tasks: JoinSet<Result<(), Ended>> = JoinSet::new();
    // Held to the end: closing a control stream would end the session.
    let mut control = Some(send);
    let (stored, stored_watch) = watch::channel(hello.case_status_stored.unwrap_or(0));
    if hello.case_status_stored.is_some()
        && let Some(send) = control.take()
    {
        let station = Station::new(&hello.agent, shared, send, stored_watch);
        tasks.spawn(station.run());
    }
    note_skew(shared, hello, &skew, &offsets);
    note_sign(shared, hello, None, &skew, &offsets).await;
    loop {
        // All arms are cancel-safe: streams stay with the connection, the reader keeps what it has
        // read, a JoinSet keeps its results.
        tokio::select! {
            stream = connection.accept_bi() => {
                let (send, receive) = stream?;
                let lane = lane::LaneSession {
                    keys: keys.clone(),
                    next: hello.lanes.clone(),
                    greeted: began,
                    metrics: shared.metrics.clone(),
                    site: hello.site.clone(),
                    offsets: offsets.clone(),
                    opened: opened.clone(),
                    ingest: shared.ingest.clone(),
                };
                tasks.spawn(lane.run(send, receive));
            }
            frame = reader.next() => match frame? {
                Some(Frame::Heartbeat(heartbeat)) => {
                    if let Some(through) = heartbeat.case_status_stored {
                        stored.send_if_modified(|stored| {
                            let news = through > *stored;
                            *stored = through.max(*stored);
                            news
                        });
                    }
                    skew.hear(&shared.clock, heartbeat.wall_ms, connection.rtt());
                    note_skew(shared, hello, &skew, &offsets);
                    note_sign(shared, hello, Some(&heartbeat), &skew, &offsets).await;
                }
                Some(Frame::Unknown(_)) => {}
                Some(other) => return Err(Ended::Unexpected(other.name())),
                None => return Err(Ended::Closed),
            },
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(ended)) => return Err(ended),
                Err(error) => {
                    tracing::error!(%error, "a lane failed");
                    return Err(Ended::Closed);
                }
            },
        }
    }
}

/// Later events are corrected by the present estimate of the skew.
fn note_skew(shared: &Shared, hello: &Hello, skew: &Skew, offsets: &ClockOffsets) {
    offsets.set_skew(skew.estimate_ms());
    shared.metrics.skew(&hello.agent, offsets.skew_ms());
}

async fn note_sign(
    shared: &Shared,
    hello: &Hello,
    heartbeat: Option<&Heartbeat>,
    skew: &Skew,
    offsets: &ClockOffsets,
) {
    let ahead_ms = offsets.skew_ms().unwrap_or(0);
    let watermark = heartbeat.map(|heartbeat| {
        claims::watermark_ms(heartbeat.watermark_ms, ahead_ms, shared.clock.now_ms())
    });
    if watermark.is_some_and(|watermark| watermark.is_clamped) {
        shared.metrics.clamped("watermark");
    }
    let sign = Sign {
        software: text(&hello.software).chars().take(64).collect(),
        seen_ms: shared.clock.now_ms(),
        watermark_ms: watermark.map(|watermark| watermark.taken),
        waiting_events: heartbeat.map_or(0, |heartbeat| {
            heartbeat
                .spool
                .iter()
                .map(|figures| figures.events)
                .fold(0, u64::saturating_add)
                .min(i64::MAX as u64) as i64
        }),
        skew_ms: skew.estimate_ms(),
        clock_set: hello.wall_set,
    };
    let agent = hello.agent.clone();
    // False only when the hub stops.
    let _ = shared.ingest.sign(agent, sign).await;
}
