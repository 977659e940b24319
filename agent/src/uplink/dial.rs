//! Finds a hub: each address of the list in turn, each with a deadline of our own, because QUIC's
//! handshake can hang where a path drops large datagrams.
//!
//! The UDP socket is kept from session to session. After [`FAILURES_MAX`] consecutive failures at all addresses it is
//! replaced: a router may hold a stale mapping for its port, or its network is gone.
use linli_shared::service::{link, tls};
use quinn::{Connection, Endpoint};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::session::SessionError;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Consecutive failed connections before the socket is replaced.
const FAILURES_MAX: u32 = 3;

pub struct Dialer {
    addresses: Vec<String>,
    config: quinn::ClientConfig,
    /// Index of the next address.
    turn: usize,
    endpoint: Option<(bool, Endpoint)>,
    /// Connections that failed since the last good one.
    failures: u32,
}

impl Dialer {
    pub fn new(addresses: Vec<String>, config: quinn::ClientConfig) -> Self {
        Self {
            addresses,
            config,
            turn: 0,
            endpoint: None,
            failures: 0,
        }
    }

    /// Connects to the next address that accepts; returns the connection with the address's name. An address that
    /// worked is tried first again. `round` is called before each step that has a deadline of its own.
    pub async fn dial(
        &mut self,
        round: &mut impl FnMut(),
    ) -> Result<(String, Connection), SessionError> {
        let mut last = None;
        for _ in 0..self.addresses.len() {
            let address = self.addresses[self.turn].clone();
            match self.dial_one(&address, round).await {
                Ok(connection) => return Ok((address, connection)),
                Err(error) => {
                    tracing::debug!(address, error = %linli_shared::service::telemetry::chain(&error), "no connection");
                    last = Some(error);
                    self.next_address();
                }
            }
        }
        Err(last.unwrap_or(SessionError::NoAddress))
    }

    /// Moves on to the next address.
    pub fn next_address(&mut self) {
        self.turn = (self.turn + 1) % self.addresses.len().max(1);
    }

    async fn dial_one(
        &mut self,
        address: &str,
        round: &mut impl FnMut(),
    ) -> Result<Connection, SessionError> {
        let failed = |source: io::Error| SessionError::Connect {
            address: address.to_owned(),
            source,
        };
        round();
        let resolved = tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(address))
            .await
            .map_err(|_| failed(io::Error::other("its name was not resolved in time")))?
            .map_err(failed)?;
        let mut last = io::Error::other("its name has no address");
        for socket_address in resolved {
            round();
            match self.connect(socket_address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    async fn connect(&mut self, address: SocketAddr) -> io::Result<Connection> {
        if self.failures >= FAILURES_MAX {
            self.failures = 0;
            // Dropped with all its connections: there are none.
            self.endpoint = None;
        }
        let config = self.config.clone();
        let endpoint = self.endpoint(address.is_ipv6())?;
        let connecting = endpoint
            .connect_with(config, address, tls::HUB_NAME)
            .map_err(io::Error::other)?;
        let connected = match tokio::time::timeout(CONNECT_DEADLINE, connecting).await {
            Ok(connected) => connected.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer in 5 s: check that UDP reaches the hub's port",
            )),
        };
        match &connected {
            Ok(_) => self.failures = 0,
            Err(_) => self.failures += 1,
        }
        connected
    }

    fn endpoint(&mut self, v6: bool) -> io::Result<&Endpoint> {
        if self.endpoint.as_ref().is_none_or(|(is_v6, _)| *is_v6 != v6) {
            self.endpoint = Some((v6, link::client_endpoint(v6)?));
        }
        match &self.endpoint {
            Some((_, endpoint)) => Ok(endpoint),
            None => Err(io::Error::other("no UDP socket")),
        }
    }

    /// Closes the connection towards the peer.
    pub async fn close(self) {
        if let Some((_, endpoint)) = self.endpoint {
            endpoint.close(link::CLOSE_DONE, b"the agent stops");
            // Past the deadline the hub finds out by its idle timeout.
            let _ = tokio::time::timeout(CLOSE_DEADLINE, endpoint.wait_idle()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::crypto::rustls::QuicClientConfig;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn every_address_that_is_tried_shows_that_the_dialer_is_alive() {
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let quic = QuicClientConfig::try_from(config).expect("a suite for QUIC");
        // Nobody accepts a connection there.
        let silent: Vec<std::net::UdpSocket> = (0..3)
            .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let addresses = silent
            .iter()
            .map(|socket| socket.local_addr().expect("bound").to_string())
            .collect();
        let mut dialer = Dialer::new(addresses, quinn::ClientConfig::new(Arc::new(quic)));
        let began = tokio::time::Instant::now();
        let mut rounds = Vec::new();
        let dialled = dialer.dial(&mut || rounds.push(began.elapsed())).await;
        assert!(matches!(dialled, Err(SessionError::Connect { .. })));
        assert!(began.elapsed() >= 3 * CONNECT_DEADLINE);
        rounds.push(began.elapsed());
        // Three failures: the next try is from a new socket, unaffected by a router's stale mapping.
        let port = |dialer: &Dialer| {
            let (_, endpoint) = dialer.endpoint.as_ref().expect("an endpoint");
            endpoint.local_addr().expect("bound").port()
        };
        let before = port(&dialer);
        assert!(dialer.dial(&mut || {}).await.is_err());
        assert_ne!(port(&dialer), before);
        let longest = rounds.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(
            longest <= Some(CONNECT_DEADLINE + Duration::from_secs(1)),
            "{rounds:?}"
        );
    }
}
