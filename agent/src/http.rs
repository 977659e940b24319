//! HTTP/1.1 as the agent serves it to devices, to itself and to Prometheus: every connection is bounded
//! in size and in time, so that no peer can hold memory or a shutdown by sending slowly or not at all.
//!
//! One address has at most half of the connections. At the limit of an address, or of the listener, its oldest idle
//! connection makes room for a new one; an address whose connections are all busy gets no further one.
//!
//! `app` starts one [`serve`] for each listener. A connection ends by itself after [`CONNECTION_AGE_MAX`];
//! at a stop it may answer the current request, then it is cut off. [`serve`] returns after the last connection is
//! gone, with everything that its handlers held.
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use linli_shared::service::problem::Problem;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From a connection's start, or its last answer, to the end of the next request's head. So it also bounds the idle
/// time of a connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// From the head of a request to its answer. A push bounds its body within this time.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// An older connection takes no further request. This bounds a peer that no other deadline does: one that sends
/// requests and never reads an answer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
/// Deadline for connections to end at a stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Limits for reading the rest of a refused request after its answer: a peer that still writes when its connection
/// closes sees a broken pipe and not the answer that names the fix.
const LINGER_DEADLINE: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Buffer of a connection: a head must fit, a body arrives in pieces of this size.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections_max: usize,
    /// Age of a connection that takes another request, and of an answer that goes on.
    pub age_max: Duration,
}

impl Limits {
    /// Limits for this many connections of untrusted peers.
    pub fn of_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            age_max: CONNECTION_AGE_MAX,
        }
    }
}

/// The origin of a connection, as far as it distinguishes senders.
pub trait Peer {
    /// Its address.
    fn ip(&self) -> Option<IpAddr>;
}

impl Peer for SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        Some(SocketAddr::ip(self).to_canonical())
    }
}

impl Peer for tokio::net::unix::SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        None
    }
}

/// An open connection.
struct Open {
    peer: Option<IpAddr>,
    /// A request is not answered yet.
    is_busy: Arc<AtomicBool>,
    cut: CancellationToken,
}

/// Open connections by their numbers, the oldest first.
#[derive(Default)]
struct Connections(BTreeMap<u64, Open>);

impl Connections {
    /// The oldest idle connection of this peer, or of any.
    fn idle(&self, peer: Option<Option<IpAddr>>) -> Option<u64> {
        let mut open = self.0.iter();
        let found = open.find(|(_, open)| {
            peer.is_none_or(|peer| open.peer == peer) && !open.is_busy.load(Ordering::Relaxed)
        });
        found.map(|(number, _)| *number)
    }

    /// Makes room for a connection of this peer. False: there is no room.
    fn make_room(&mut self, peer: Option<IpAddr>, connections_max: usize) -> bool {
        let of_peer = self.0.values().filter(|open| open.peer == peer).count();
        let is_peer_full = peer.is_some() && of_peer >= connections_max.div_ceil(2);
        if !is_peer_full && self.0.len() < connections_max {
            return true;
        }
        let whose = is_peer_full.then_some(peer);
        let Some(idle) = self.idle(whose) else {
            return false;
        };
        if let Some(open) = self.0.remove(&idle) {
            open.cut.cancel();
        }
        true
    }
}

/// Serves until `stop`. With `connections_max` open and busy, further ones wait in the kernel's queue until one ends,
/// which the deadlines above ensure.
pub async fn serve<L: Listener<Addr: Peer>>(
    mut listener: L,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections_max = limits.connections_max;
    let mut connections = JoinSet::new();
    let mut open = Connections::default();
    let mut number = 0;
    loop {
        let has_room = open.0.len() < connections_max || open.idle(None).is_some();
        // All arms are cancel-safe: a connection that is not accepted yet stays in the kernel's queue.
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                match ended {
                    Ok(number) => {
                        open.0.remove(&number);
                    }
                    Err(error) => tracing::error!(%error, "a connection ended with a panic"),
                }
                continue;
            }
            accepted = listener.accept(), if has_room => accepted,
        };
        let peer = address.ip();
        if !open.make_room(peer, connections_max) {
            tracing::debug!(
                ?peer,
                "a connection is refused: its address has all that it may have, and all are busy"
            );
            continue;
        }
        number += 1;
        let this = Open {
            peer,
            is_busy: Arc::default(),
            cut: stop.child_token(),
        };
        let served = attend(
            stream,
            router.clone(),
            this.is_busy.clone(),
            limits.age_max,
            this.cut.clone(),
        );
        connections.spawn(async move {
            served.await;
            number
        });
        open.0.insert(number, this);
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_DEADLINE, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::debug!(
            connections = connections.len(),
            "connections are cut off: they did not end in time"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// One connection, from its first byte to its end.
async fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    is_busy: Arc<AtomicBool>,
    age_max: Duration,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let with_body = !request.body().is_end_stream();
        let answer = router.call(request);
        let is_busy = is_busy.clone();
        is_busy.store(true, Ordering::Relaxed);
        Box::pin(async move {
            let mut response = in_time(answer).await;
            is_busy.store(false, Ordering::Relaxed);
            // A refused request may not have been read to its end, and then this connection takes no other: a client
            // that is not told would lose the next request.
            if with_body && !response.status().is_success() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // All arms are cancel-safe: the connection is only polled, and goes on below.
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = async {
            tokio::select! {
                () = tokio::time::sleep(age_max) => {}
                () = stop.cancelled() => {}
            }
        } => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            let last = poll_fn(|context| connection.poll_without_shutdown(context));
            tokio::time::timeout(REQUEST_DEADLINE, last).await.unwrap_or(Ok(()))
        }
    };
    let stream = connection.into_parts().io.into_inner();
    match ended {
        // Cancel-safe: the read bytes are discarded.
        Ok(()) => {
            tokio::select! {
                () = linger(stream) => {}
                () = stop.cancelled() => {}
            }
        }
        // A peer that disconnects or sends no HTTP is no error of ours.
        Err(error) => tracing::debug!(%error, "a connection ended with an error"),
    }
}

/// The scheme of tokens (RFC 6750, § 2.1), in any case (RFC 9110, § 11.1).
const SCHEME: &[u8] = b"bearer";

/// Whether a request carries this token, compared in constant time.
pub fn has_token(headers: &HeaderMap, token: &[u8]) -> bool {
    let sent = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes().trim_ascii())
        .and_then(|value| value.split_at_checked(SCHEME.len()))
        .filter(|(scheme, rest)| scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with(b" "))
        .map(|(_, rest)| rest.trim_ascii());
    bool::from(sent.unwrap_or_default().ct_eq(token))
}

/// Closes the writing side, then reads until the peer is done too.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let ended = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // A peer that is gone, or does not end, has received its answer.
    let _ = tokio::time::timeout(LINGER_DEADLINE, ended).await;
}

/// The router's answer, or a timeout error.
async fn in_time(answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "deadline",
            format!(
                "not done within {} s: the disk may be slow; send the request again",
                REQUEST_DEADLINE.as_secs()
            ),
        )
        .retry_after(10)
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_whatever_the_case_of_its_scheme() {
        let shows = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            has_token(&headers, b"secret")
        };
        for good in [
            "Bearer secret",
            "bearer secret",
            "BEARER  secret",
            " bearer secret ",
        ] {
            assert!(shows(good), "{good}");
        }
        for bad in [
            "secret",
            "Bearersecret",
            "Basic secret",
            "Bearer",
            "Bearer secre",
            "",
        ] {
            assert!(!shows(bad), "{bad}");
        }
        assert!(!has_token(&HeaderMap::new(), b"secret"));
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        const MAX: usize = 8;
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut open = Connections::default();
        let mut number = 0;
        let mut connect = |open: &mut Connections, peer, is_busy: bool| {
            if !open.make_room(Some(peer), MAX) {
                return false;
            }
            number += 1;
            let this = Open {
                peer: Some(peer),
                is_busy: Arc::new(AtomicBool::new(is_busy)),
                cut: CancellationToken::new(),
            };
            open.0.insert(number, this);
            true
        };
        for _ in 0..700 {
            assert!(connect(&mut open, one, false));
        }
        // The youngest half of all; the other address has room.
        assert_eq!(open.0.len(), MAX / 2);
        for _ in 0..MAX / 2 {
            assert!(connect(&mut open, other, true));
        }
        // A busy connection is not cut off for another of its own address, nor for one of another.
        assert!(!connect(&mut open, other, false));
        assert!(connect(&mut open, one, false));
        assert_eq!(open.0.len(), MAX);
    }
}
