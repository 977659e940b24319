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
//! | `connections_max` in all, [`PEER_CONNECTIONS_MAX`] from one address | the new one is ended at once, counted |
//! | [`FIRST_DEADLINE`] to the first good frame, `idle` between two | the connection is ended |
//! | [`PARTIAL_DEADLINE`] from the first byte of a frame to its last | what came of it is rejected, the line goes on |
//! | [`BAD_PIECES_MAX`] rejects one after another | the connection is ended |
//! | [`WRITE_DEADLINE`] for an answer | the connection is ended |
//!
//! A connection holds what it has read at once ([`READ_BYTES`]) and a frame that is not complete.
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Check;
use super::feed::{Feed, Group};
use super::session::{Ended, hold};

/// Read at once.
const READ_BYTES: usize = 4096;
/// Longest datagram that is read whole.
const DATAGRAM_BYTES: usize = 8192;
/// Datagrams that are stored with one sync.
const DATAGRAMS_MAX: usize = 64;
/// Connections from one address: a gateway before several panels has one for each.
const PEER_CONNECTIONS_MAX: usize = 64;
/// Until the first good frame.
const FIRST_DEADLINE: Duration = Duration::from_secs(30);
/// From the first byte of a frame to its last.
const PARTIAL_DEADLINE: Duration = Duration::from_secs(10);
/// For an answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Rejects one after another.
const BAD_PIECES_MAX: usize = 64;
/// Before a device that could not be stored may come again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What `connections_max` may be.
const CONNECTIONS_MAX: RangeInclusive<usize> = 1..=4096;

/// `connections_max` unless the config says otherwise.
pub(super) fn default_connections_max() -> usize {
    256
}

/// `idle` unless the config says otherwise.
pub(super) fn default_idle() -> Span {
    Span::from_secs(300)
}

/// Ids of the callers that a config names, while it is checked.
#[derive(Default)]
pub(super) struct Ids(HashMap<String, usize>);

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
    pub connections_max: usize,
    /// How long a connection may say nothing.
    pub idle: Span,
}

impl Callers {
    /// Checks the keys.
    pub fn check(self, check: &Check<'_>) -> Result<Self, ConfigError> {
        if self.tcp.is_none() && self.udp.is_none() {
            return Err(check.wrong(
                "tcp",
                "is missing, and udp too: write where devices connect, like tcp = \"0.0.0.0:5200\"",
            ));
        }
        if !CONNECTIONS_MAX.contains(&self.connections_max) {
            return Err(check.wrong(
                "connections_max",
                format!(
                    "is {}, must be between {} and {}",
                    self.connections_max,
                    CONNECTIONS_MAX.start(),
                    CONNECTIONS_MAX.end()
                ),
            ));
        }
        if self.idle.0 < Duration::from_secs(10) {
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
    /// Said once everything is durable.
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
    fn take(&mut self, group: &mut Group<'_>, out: &mut Out, rest: Rest);

    /// Bytes of a frame that is not complete.
    fn held(&self) -> usize;
}

/// Takes callers until `stop`; `line` makes what understands them.
pub(crate) async fn run<L: Line + 'static>(
    callers: Callers,
    feed: Feed,
    stop: CancellationToken,
    line: impl Fn() -> L + Clone + Send + Sync + 'static,
) {
    let session = || session(callers, feed.clone(), line.clone());
    hold(&feed, &[], &stop, session).await;
}

/// Listens until one of the listeners fails.
async fn session<L: Line + 'static>(
    callers: Callers,
    feed: Feed,
    line: impl Fn() -> L + Send + Sync + 'static,
) -> Ended {
    let taken = |what: &str, address: SocketAddr, error: &io::Error| {
        Ended::lost(format!(
            "cannot listen on {what} {address}: {error}: is another program there?"
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
    feed.up(&peers.join(", "));
    let connections = async {
        match tcp {
            Some(listener) => accept(listener, &callers, &feed, &line).await,
            None => std::future::pending().await,
        }
    };
    let datagrams = async {
        match udp {
            Some(socket) => receive(&socket, &feed, line()).await,
            None => std::future::pending().await,
        }
    };
    // Not cancel-safe, and need not be: when one ends, so does the session.
    tokio::select! {
        ended = connections => ended,
        ended = datagrams => ended,
    }
}

/// Connections of each address.
pub(super) type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the connections.
pub(super) struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Place {
    /// `None` where all of them, or those of the address, are taken.
    pub fn take(peers: &Peers, peer: IpAddr, connections_max: usize) -> Option<Self> {
        let mut known = peers.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = known.values().sum();
        let of_peer = known.entry(peer).or_default();
        if all >= connections_max || *of_peer >= PEER_CONNECTIONS_MAX {
            if *of_peer == 0 {
                known.remove(&peer);
            }
            return None;
        }
        *of_peer += 1;
        Some(Self {
            peers: peers.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.peer);
            }
        }
    }
}

async fn accept<L: Line + 'static>(
    listener: TcpListener,
    callers: &Callers,
    feed: &Feed,
    line: &(impl Fn() -> L + Send + Sync + 'static),
) -> Ended {
    let peers = Peers::default();
    let idle = callers.idle.0;
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
                tracing::debug!(source = feed.name(), %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = address.ip().to_canonical();
        let Some(place) = Place::take(&peers, peer, callers.connections_max) else {
            feed.count("connection_refused", 1);
            continue;
        };
        let (feed, line) = (feed.clone(), line());
        connections.spawn(async move {
            let _place = place;
            let mut connection = Connection {
                stream,
                address: SocketAddr::new(peer, address.port()),
                device: None,
            };
            let why = connection.talk(&feed, line, idle).await;
            if let Some(device) = &connection.device {
                feed.trouble(device, &format!("{peer}: {why}"));
            }
        });
    }
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    device: Option<String>,
}

impl Connection {
    /// Until it ends; gives why.
    async fn talk(&mut self, feed: &Feed, mut line: impl Line, idle: Duration) -> String {
        let mut bytes = vec![0; READ_BYTES];
        let mut until = Instant::now() + FIRST_DEADLINE.min(idle);
        let mut partial: Option<Instant> = None;
        let mut bad = 0;
        loop {
            let wait = partial.map_or(until, |partial| partial.min(until));
            let read = timeout_at(wait, self.stream.read(&mut bytes)).await;
            let mut rest = Rest::Coming;
            match read {
                Ok(Ok(0)) => rest = Rest::Ended,
                Ok(Ok(count)) => line.feed(self.address, &bytes[..count]),
                Ok(Err(error)) => return error.to_string(),
                Err(_) if Instant::now() >= until => {
                    return "it said nothing for too long".to_owned();
                }
                Err(_) => {}
            }
            let is_late = partial.is_some_and(|partial| Instant::now() >= partial);
            if is_late && rest == Rest::Coming {
                rest = Rest::Late;
            }
            let mut found = false;
            loop {
                let mut group = feed.alone().await;
                let mut out = Out {
                    bad,
                    ..Out::default()
                };
                line.take(&mut group, &mut out, rest);
                bad = out.bad;
                if out.good > 0 {
                    until = Instant::now() + idle;
                }
                if out.device.is_some() {
                    self.device = out.device;
                }
                if out.pieces == 0 {
                    break;
                }
                found = true;
                if rest == Rest::Late {
                    rest = Rest::Coming;
                }
                if let Err(error) = feed.store(group).await {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    return format!("it could not be stored and was not answered: {error}");
                }
                let answers = out.answers.concat();
                match timeout(WRITE_DEADLINE, self.stream.write_all(&answers)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "it does not take its answers".to_owned(),
                }
                if bad >= BAD_PIECES_MAX {
                    return format!("{BAD_PIECES_MAX} pieces one after another were no frames");
                }
            }
            if rest == Rest::Ended {
                return "it ended the connection".to_owned();
            }
            // A frame that has begun has its time; another one has it anew.
            partial = match line.held() {
                0 => None,
                _ if found => Some(Instant::now() + PARTIAL_DEADLINE),
                _ => partial.or(Some(Instant::now() + PARTIAL_DEADLINE)),
            };
        }
    }
}

/// Datagrams, until the socket fails.
async fn receive(socket: &UdpSocket, feed: &Feed, mut line: impl Line) -> Ended {
    let mut bytes = vec![0; DATAGRAM_BYTES];
    // Whose frames did not fit into the last group.
    let mut unread: Option<SocketAddr> = None;
    loop {
        if unread.is_none() {
            // What cannot be read for another reason than the wait is said by the read.
            let _ = socket.readable().await;
        }
        let mut group = feed.alone().await;
        let mut answers: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        let mut pieces = 0;
        for _ in 0..DATAGRAMS_MAX {
            let address = match unread.take() {
                Some(address) => address,
                None => match socket.try_recv_from(&mut bytes) {
                    Ok((count, address)) => {
                        let from = SocketAddr::new(address.ip().to_canonical(), address.port());
                        line.feed(from, &bytes[..count]);
                        address
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What was said to somebody who is gone.
                    Err(error) if is_of_a_peer(&error) => continue,
                    Err(error) => {
                        return Ended::lost(format!("datagrams cannot be received: {error}"));
                    }
                },
            };
            let mut out = Out::default();
            line.take(&mut group, &mut out, Rest::Ended);
            pieces += out.pieces;
            answers.extend(out.answers.into_iter().map(|answer| (address, answer)));
            if line.held() > 0 {
                unread = Some(address);
                break;
            }
        }
        if pieces == 0 {
            continue;
        }
        if let Err(error) = feed.store(group).await {
            tracing::debug!(source = feed.name(), %error, "datagrams are not answered");
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        }
        for (address, answer) in answers {
            // Who does not get it sends again.
            let _ = socket.send_to(&answer, address).await;
        }
    }
}

fn is_of_a_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_peer_and_come_back() {
        let peers = Peers::default();
        let one: IpAddr = [10, 0, 0, 1].into();
        let other: IpAddr = [10, 0, 0, 2].into();
        let held: Vec<Place> = (0..PEER_CONNECTIONS_MAX)
            .map(|_| Place::take(&peers, one, 100).expect("a place"))
            .collect();
        assert!(Place::take(&peers, one, 100).is_none());
        let more: Vec<Option<Place>> = (PEER_CONNECTIONS_MAX..100)
            .map(|_| Place::take(&peers, other, 100))
            .collect();
        assert!(more.iter().all(Option::is_some));
        assert!(Place::take(&peers, other, 100).is_none());
        drop(held);
        assert!(Place::take(&peers, one, 100).is_some());
        drop(more);
        assert!(peers.lock().expect("not poisoned").is_empty());
    }
}
