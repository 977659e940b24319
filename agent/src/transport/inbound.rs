//! Devices that call the agent: they connect to it by TCP, or send it datagrams. What holds for all of them, whatever
//! they speak: bounded in connections, memory and time. The protocol is a [`Line`].
//!
//! ```text
//! accept ▶ read ▶ Line: frames, what they come to ▶ one group ▶ store (synced) ▶ answers
//!                                                                 Err: no answer; a connection is ended, and the device
//!                                                                 sends again
//! ```
//!
//! | limit | what happens then |
//! | --- | --- |
//! | `connections_max` in all, [`places::PEER_CONNECTIONS_MAX`] from one address | the new one is ended at once, counted |
//! | [`connection::FIRST_DEADLINE`] to the first good frame, `idle` between two | the connection is ended |
//! | [`connection::PARTIAL_DEADLINE`] from the first byte of a frame to its last | what came of it is rejected, the line goes on |
//! | [`connection::BAD_PIECES_MAX`] rejects one after another | the connection is ended |
//! | [`connection::WRITE_DEADLINE`] for an answer | the connection is ended |
//! | a panic of a line | the connection is ended; of datagrams: all listeners, and they are opened anew |
//!
//! A connection holds what it has read at once ([`connection::READ_BYTES`]) and a frame that is not complete.
mod connection;
mod datagrams;
pub(crate) mod places;

use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bind;
use crate::ingest::{IngestBatch, SourceIngest};
use crate::sources::{Check, Listens};
use crate::transport::reconnect::{Ended, catch_panic, run_with_reconnect};
use connection::Connection;
use datagrams::receive;
use places::{Peers, Place};

/// Before a device that could not be stored may come again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What `connections_max` may be.
const CONNECTIONS_MAX: RangeInclusive<usize> = 1..=4096;

/// `connections_max` unless the config says otherwise.
const CONNECTIONS: usize = 256;
/// `idle` unless the config says otherwise.
const IDLE: Span = Span::from_secs(300);

/// Ids of the callers that a config names, while it is checked.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, usize>);

impl Ids {
    /// Takes the id of `list[index]`; what stands behind a `/` in ids of events are its `parts`.
    pub fn take(
        &mut self,
        check: &Check<'_>,
        list: &str,
        index: usize,
        id: &str,
        parts: &str,
    ) -> Result<(), ConfigError> {
        let wrong = |message| Err(check.wrong(&format!("{list}[{index}].id"), message));
        if id.is_empty() || id.contains('/') {
            return wrong(format!(
                "{id:?} must be a name without '/': {parts} stand behind one"
            ));
        }
        match self.0.insert(id.to_owned(), index) {
            Some(other) => wrong(format!("{id:?} is the id of {list}[{other}] too")),
            None => Ok(()),
        }
    }
}

/// What is done with a device that the config does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unknown {
    /// It is told so, and counted.
    #[default]
    Refuse,
    /// Its events are taken, under the name that it gives itself.
    Take,
}

/// Where and how many callers are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callers {
    /// Connections.
    pub tcp: Option<SocketAddr>,
    /// Datagrams.
    pub udp: Option<SocketAddr>,
    /// At once.
    pub connections_max: Option<usize>,
    /// How long a connection may say nothing.
    pub idle: Option<Span>,
}

impl Callers {
    /// Where they are taken.
    pub fn listens(&self) -> Vec<Listens> {
        let of = |transport, address: Option<SocketAddr>| {
            address.map(|address| (transport, transport, address))
        };
        [of("tcp", self.tcp), of("udp", self.udp)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn connections_max(&self) -> usize {
        self.connections_max.unwrap_or(CONNECTIONS)
    }

    fn idle(&self) -> Duration {
        self.idle.unwrap_or(IDLE).0
    }

    /// Checks the keys.
    pub fn check(self, check: &Check<'_>) -> Result<Self, ConfigError> {
        if self.tcp.is_none() && self.udp.is_none() {
            return Err(check.wrong(
                "tcp",
                "is missing, and udp too: write where devices connect, like tcp = \"0.0.0.0:5200\"",
            ));
        }
        if self.tcp.is_none() {
            for (key, is_written) in [
                ("connections_max", self.connections_max.is_some()),
                ("idle", self.idle.is_some()),
            ] {
                if is_written {
                    return Err(check.wrong(
                        key,
                        "does nothing here: datagrams have no connection; leave it out, or write tcp",
                    ));
                }
            }
        }
        if !CONNECTIONS_MAX.contains(&self.connections_max()) {
            return Err(check.wrong(
                "connections_max",
                format!(
                    "is {}, must be between {} and {}",
                    self.connections_max(),
                    CONNECTIONS_MAX.start(),
                    CONNECTIONS_MAX.end()
                ),
            ));
        }
        if self.idle() < Duration::from_secs(10) {
            return Err(check.wrong(
                "idle",
                "must be at least \"10s\": devices say something now and then only",
            ));
        }
        Ok(self)
    }
}

/// What a line has to say, in order; each answer is a datagram of its own.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// Sent once everything is durable.
    pub answers: Vec<Vec<u8>>,
    /// Frames that were good.
    pub good: usize,
    /// Pieces that were not, since the last good one.
    pub bad: usize,
    /// All pieces.
    pieces: usize,
    /// Whose they were, where that is known.
    pub device: Option<String>,
}

impl Out {
    /// A good frame.
    pub fn good(&mut self, device: &str) {
        self.good += 1;
        self.pieces += 1;
        self.bad = 0;
        if self.device.as_deref() != Some(device) {
            self.device = Some(device.to_owned());
        }
    }

    /// Bytes that are no frame, or a frame of a stranger.
    pub fn bad(&mut self) {
        self.pieces += 1;
        self.bad += 1;
    }
}

/// What more will come of a frame that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It may come at any time.
    Coming,
    /// It is late: the frame is given up. What stands behind it may be another one.
    Late,
    /// Nothing more.
    Ended,
}

/// A protocol on one connection, or on all datagrams.
pub(crate) trait Line: Send {
    /// Takes bytes in.
    fn feed(&mut self, peer: SocketAddr, bytes: &[u8]);

    /// Adds messages to the group until it is full or no whole one is left, and what is to be answered.
    fn take(&mut self, batch: &mut IngestBatch, out: &mut Out, rest: Rest);

    /// Bytes of a frame that is not complete.
    fn held(&self) -> usize;
}

/// Takes callers until `stop`; `line` makes what understands them.
pub(crate) async fn run<L: Line + 'static>(
    callers: Callers,
    ingest: SourceIngest,
    stop: CancellationToken,
    line: impl Fn() -> L + Clone + Send + Sync + 'static,
) {
    let session = || session(callers, ingest.clone(), line.clone());
    run_with_reconnect(&ingest, &[], &stop, session).await;
}

/// Listens until one of the listeners fails.
async fn session<L: Line + 'static>(
    callers: Callers,
    ingest: SourceIngest,
    line: impl Fn() -> L + Send + Sync + 'static,
) -> Ended {
    let taken = |what: &str, address: SocketAddr, error: &io::Error| {
        Ended::lost(format!(
            "cannot listen on {what} {address}: {error}: {}",
            bind::remedy(error)
        ))
    };
    let mut tcp = None;
    let mut udp = None;
    let mut peers = Vec::new();
    if let Some(address) = callers.tcp {
        match TcpListener::bind(address).await {
            Ok(listener) => tcp = Some(listener),
            Err(error) => return taken("tcp", address, &error),
        }
        peers.push(format!("tcp {address}"));
    }
    if let Some(address) = callers.udp {
        match UdpSocket::bind(address).await {
            Ok(socket) => udp = Some(socket),
            Err(error) => return taken("udp", address, &error),
        }
        peers.push(format!("udp {address}"));
    }
    ingest.listens(&peers.join(", "));
    let connections = async {
        match tcp {
            Some(listener) => accept(listener, &callers, &ingest, &line).await,
            None => std::future::pending().await,
        }
    };
    let datagrams = async {
        match udp {
            Some(socket) => receive(&socket, &ingest, line()).await,
            None => std::future::pending().await,
        }
    };
    // Not cancel-safe, and need not be: when one ends, so does the session.
    tokio::select! {
        ended = connections => ended,
        ended = datagrams => ended,
    }
}

async fn accept<L: Line + 'static>(
    listener: TcpListener,
    callers: &Callers,
    ingest: &SourceIngest,
    line: &(impl Fn() -> L + Send + Sync + 'static),
) -> Ended {
    let peers = Peers::default();
    let idle = callers.idle();
    // Dropped with the session, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        // Both arms are cancel-safe.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a caller that went away: it passes.
                tracing::debug!(source = ingest.name(), %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = address.ip().to_canonical();
        let Some(place) = Place::take(&peers, peer, callers.connections_max()) else {
            ingest.count("connection_refused", 1);
            continue;
        };
        let (ingest, line) = (ingest.clone(), line());
        connections.spawn(async move {
            let _place = place;
            let mut connection = Connection::new(stream, SocketAddr::new(peer, address.port()));
            let ended = catch_panic(&ingest, connection.talk(&ingest, line, idle)).await;
            if let Some(device) = connection.device() {
                ingest.trouble(device, &format!("{peer}: {ended}"));
            }
        });
    }
}
