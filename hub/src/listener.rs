//! The listener: accepts QUIC connections, runs a session for each agent, and joins gateways.
//!
//! * One port, two ALPN names: `linli/1` requires a certificate of this hub's CA, `linli-join/1` a token.
//! * Admission: at most [`SESSIONS_MAX`] sessions, and the handshakes of [`handshakes`]; beyond that a
//!   connection is refused before it costs anything, and the agent retries after its backoff. When
//!   handshakes pile up, addresses must prove themselves first (QUIC Retry, RFC 9000, 8.1.2).
//! * One session an agent: a new session ends the earlier one, whose gateway may have lost power.
mod claims;
mod handshakes;
mod join;
mod lane;
pub mod metrics;
mod session;
mod skew;
mod station;

use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::{ALPN, ALPN_JOIN};
use linli_shared::service::link::{self, CLOSE_REFUSED, CLOSE_REPLACED};
use linli_shared::service::tls::{self, TlsError};
use prometheus::IntGauge;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Endpoint, Incoming};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handshakes::Handshakes;
use crate::ca::{Authority, CaError, Files};
use crate::clock_watch::ClockWatch;
use crate::health::Line;
use crate::ingest::Ingest;
use linli_store::Store;
use metrics::ListenerMetrics;

/// Maximum number of sessions.
const SESSIONS_MAX: usize = 6000;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Grace of the sessions at a stop.
const GRACE: Duration = Duration::from_secs(3);

/// Why the listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The verifier of agents' certificates.
    #[error("certificates of agents cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// QUIC.
    #[error("TLS cannot be set up for QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The port.
    #[error("cannot listen on UDP {address}: is another hub there? Change [listen] in the config")]
    Bind {
        /// Address.
        address: SocketAddr,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
}

/// What sessions share.
pub struct Shared {
    /// The way of events to the writer.
    pub ingest: Ingest,
    /// For looking up admitted agents.
    pub store: Store,
    /// Metrics.
    pub metrics: ListenerMetrics,
    /// Signs certificates of joining agents.
    pub authority: Authority,
    /// Addresses that agents are told at their join.
    pub announce: Vec<String>,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Open sessions.
    pub sessions: Sessions,
    /// The hub's clock.
    pub clock: ClockWatch,
}

/// The connected agents. Only this part changes it, for moments; others read.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<AgentId, Connection>>>);

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AgentId, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a session.
    pub fn connected(&self, agent: &AgentId) -> bool {
        self.lock().contains_key(agent)
    }

    /// The gauge is set under the lock: set after it, two concurrent changes could leave it wrong
    /// until the next one.
    fn enter(&self, agent: &AgentId, connection: &Connection, gauge: &IntGauge) {
        let mut open = self.lock();
        if let Some(before) = open.insert(agent.clone(), connection.clone()) {
            before.close(CLOSE_REPLACED, b"the agent has connected again");
        }
        gauge.set(open.len() as i64);
    }

    /// Removes a session; true if the agent has no other.
    fn leave(&self, agent: &AgentId, connection: &Connection, gauge: &IntGauge) -> bool {
        let mut open = self.lock();
        let is_this = open
            .get(agent)
            .is_some_and(|current| current.stable_id() == connection.stable_id());
        if is_this {
            open.remove(agent);
        }
        gauge.set(open.len() as i64);
        is_this
    }
}

/// A listener that has its port and does not accept yet.
pub struct Listener {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds the port.
    pub fn bind(
        data_dir: &Path,
        address: SocketAddr,
        shared: Shared,
    ) -> Result<Self, ListenerError> {
        let files = Files::at(data_dir);
        let roots = Arc::new(tls::roots(&files.root)?);
        // A joining gateway has no certificate yet; sessions check theirs.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider())
            .allow_unauthenticated()
            .build()?;
        // Certificates of agents expire by known time.
        let time = Arc::new(shared.clock.clone());
        let mut config = rustls::ServerConfig::builder_with_details(tls::provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::from)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                tls::certificates("hub certificate", &files.hub)?,
                tls::private_key("hub key", &files.hub_key)?,
            )
            .map_err(TlsError::from)?;
        config.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
        let mut quic =
            quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
        quic.transport_config(Arc::new(link::transport()));
        let bind_error = |source| ListenerError::Bind { address, source };
        let endpoint = Endpoint::new(
            endpoint_config(&files)?,
            Some(quic),
            link::udp_socket(address).map_err(bind_error)?,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(bind_error)?;
        Ok(Self {
            endpoint,
            shared: Arc::new(shared),
        })
    }

    /// Accepts until `stop`.
    pub async fn run(self, mut line: Line, stop: CancellationToken) -> Result<(), std::io::Error> {
        let handshakes = Handshakes::default();
        let tasks = TaskTracker::new();
        loop {
            // All arms are cancel-safe: a connection that was not accepted stays with the endpoint.
            let incoming = tokio::select! {
                asked = line.asked() => {
                    asked.ready();
                    continue;
                }
                incoming = self.endpoint.accept() => incoming,
                () = stop.cancelled() => break,
            };
            let Some(incoming) = incoming else { break };
            let Some(place) = handshakes.enter(incoming.remote_address().ip()) else {
                self.count("busy");
                incoming.refuse();
                continue;
            };
            if tasks.len() >= SESSIONS_MAX {
                self.count("busy");
                incoming.refuse();
                continue;
            }
            if place.is_crowded() && !incoming.remote_address_validated() {
                // It fails only for a validated address.
                let _ = incoming.retry();
                continue;
            }
            let shared = self.shared.clone();
            tasks.spawn(async move {
                let taken =
                    tokio::time::timeout(HANDSHAKE_DEADLINE, handshake(incoming, &shared)).await;
                drop(place);
                match taken {
                    Ok(Some((connection, true))) => session::serve(connection, shared).await,
                    Ok(Some((connection, false))) => join::serve(connection, shared).await,
                    Ok(None) => {}
                    Err(_) => shared.metrics.sessions.with_label_values(&["slow"]).inc(),
                }
            });
        }
        self.endpoint
            .close(link::CLOSE_DONE, b"the hub stops, come again");
        tasks.close();
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(sessions = tasks.len(), "some sessions did not end in time");
        }
        Ok(())
    }

    fn count(&self, outcome: &str) {
        self.shared
            .metrics
            .sessions
            .with_label_values(&[outcome])
            .inc();
    }
}

/// With the same key after every start, a killed hub can tell agents at once that their
/// connections are gone (stateless reset, RFC 9000, 10.3); otherwise they would wait for the timeout.
fn endpoint_config(files: &Files) -> Result<quinn::EndpointConfig, ListenerError> {
    let key = tls::private_key("hub key", &files.hub_key)?;
    let mut digest = Sha256::new();
    digest.update(b"linli stateless reset");
    digest.update(key.secret_der());
    let digest = digest.finalize();
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &digest);
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key));
    // Connection ids carry a check; a reset is sent only for ids that this hub could have given.
    let cid_key = digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    Ok(config)
}

/// Completes the handshake. True: an agent; false: a joining gateway.
async fn handshake(incoming: Incoming, shared: &Shared) -> Option<(Connection, bool)> {
    let remote = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            shared
                .metrics
                .sessions
                .with_label_values(&["handshake_failed"])
                .inc();
            tracing::info!(%remote, %error, "a handshake failed");
            return None;
        }
    };
    let protocol = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    let is_agent = protocol.as_deref() == Some(ALPN);
    // The verifier admits connections without a certificate, for the join. Others have no business here, and no session
    // whose deadline would free their place.
    if is_agent && connection.peer_identity().is_none() {
        shared
            .metrics
            .sessions
            .with_label_values(&["identity"])
            .inc();
        connection.close(
            CLOSE_REFUSED,
            b"a session needs a certificate of this hub: join first",
        );
        return None;
    }
    Some((connection, is_agent))
}
