//! Devices that call the agent: they connect to it by TCP, or send it datagrams. The rules for all protocols: bounded
//! in connections, memory and time. The protocol is a [`Line`].
//!
//! ```text
//! accept ▶ read ▶ Line: frames, their events ▶ one batch ▶ store (synced) ▶ answers
//!                                                            Err: no answer; a connection is closed, and the device
//!                                                            sends again
//! ```
//!
//! | limit | consequence |
//! | --- | --- |
//! | `connections_max` in all, [`places::PEER_CONNECTIONS_MAX`] from one address | the new one is closed at once, counted |
//! | [`connection::FIRST_DEADLINE`] to the first good frame, `idle` between two | the connection is closed |
//! | [`connection::PARTIAL_DEADLINE`] from the first byte of a frame to its last | the incomplete frame is rejected, the line goes on |
//! | [`connection::BAD_PIECES_MAX`] rejects one after another | the connection is ended |
//! | [`connection::WRITE_DEADLINE`] for an answer | the connection is ended |
//! | a panic of a line | the connection is ended; of datagrams: all listeners, and they are opened anew |
//!
//! A connection holds the bytes of one read ([`connection::READ_BYTES`]) and an incomplete frame.
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
use crate::source_check::Check;
use crate::transport::reconnect::{Ended, catch_panic, run_with_reconnect};
use connection::Connection;
use datagrams::receive;
use places::{Peers, Place};

/// Pause before a device whose events were refused may connect again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Allowed values of `connections_max`.
const CONNECTIONS_MAX: RangeInclusive<usize> = 1..=4096;

/// Default of `connections_max`.
const CONNECTIONS: usize = 256;
/// Default of `idle`.
const IDLE: Span = Span::from_secs(300);

/// A listening address: the config key that names it, `tcp` or `udp`, and the address.
pub(crate) type Listens = (&'static str, &'static str, SocketAddr);

/// Ids of the callers in a config, while it is checked.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, usize>);

impl Ids {
    /// Adds the id of `list[index]`; its `parts` follow a `/` in ids of events.
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

/// Treatment of a device that is not in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unknown {
    /// It is refused, and counted.
    #[default]
    Refuse,
    /// Its events are accepted, under its own name.
    Take,
}

/// Listening addresses and limits of callers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callers {
    /// Address for connections.
    pub tcp: Option<SocketAddr>,
    /// Address for datagrams.
    pub udp: Option<SocketAddr>,
    /// Largest number of simultaneous connections.
    pub connections_max: Option<usize>,
    /// Longest silence of a connection.
    pub idle: Option<Span>,
}

impl Callers {
    /// The listening addresses.
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

    /// Checks the config.
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

/// The answers of a line, in order; each is a datagram of its own.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// Answers that are sent once everything is durable.
    pub answers: Vec<Vec<u8>>,
    /// Number of good frames.
    pub good: usize,
    /// Number of bad pieces since the last good frame.
    pub bad: usize,
    /// Number of all pieces.
    pieces: usize,
    /// The sending device, if known.
    pub device: Option<String>,
}

impl Out {
    /// Counts a good frame.
    pub fn good(&mut self, device: &str) {
        self.good += 1;
        self.pieces += 1;
        self.bad = 0;
        if self.device.as_deref() != Some(device) {
            self.device = Some(device.to_owned());
        }
    }

    /// Counts bytes that are no frame, or a frame of an unknown sender.
    pub fn bad(&mut self) {
        self.pieces += 1;
        self.bad += 1;
    }
}

/// What to expect of an incomplete frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The rest may arrive at any time.
    Coming,
    /// The rest is late: the frame is given up. Another one may follow it.
    Late,
    /// No more bytes will arrive.
    Ended,
}

/// A protocol on one connection, or on all datagrams.
pub(crate) trait Line: Send {
    /// Adds bytes.
    fn feed(&mut self, peer: SocketAddr, bytes: &[u8]);

    /// Adds messages to the batch until it is full or no complete one is left, and their answers to `out`.
    fn take(&mut self, batch: &mut IngestBatch, out: &mut Out, rest: Rest);

    /// Number of bytes of an incomplete frame.
    fn held(&self) -> usize;
}

/// Accepts callers until `stop`; `line` makes the protocol of each.
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
                // Out of descriptors, or a caller that disconnected: it is temporary.
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
