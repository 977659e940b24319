//! `linli-agent join`: makes a key, sends the token to the hub, receives a certificate.
//!
//! The token pins the hub's root, so the first connection is verified like every later one. The key is made here and
//! stays here. An agent that has joined does not join again unless forced: its spool and config stay in any case.
use linli_shared::protocol::ALPN_JOIN;
use linli_shared::protocol::codec::CodecError;
use linli_shared::protocol::frame::{Frame, Join, Joined};
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::token::JoinToken;
use linli_shared::service::clock;
use linli_shared::service::data_dir::{self, DataDirError};
use linli_shared::service::link::{self, FrameReader, ReadError};
use linli_shared::service::tls::{self, PinnedRoot};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::identity::{self, IdentityError, NewIdentity};

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline for each address of the name.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline from the connection to the hub's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Why the agent did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The agent has joined before.
    #[error(
        "this agent has already joined ({0:?} is there): nothing was changed; to join anew, add --force"
    )]
    Already(PathBuf),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// It is unknown whether it has joined before.
    #[error(transparent)]
    Look(#[from] IdentityError),
    /// The clock is not set, so no certificate can be checked.
    #[error(
        "the clock of this machine says {now}: it has not been set since power came, and the hub's certificate \
         cannot be checked against it; set the clock (NTP, or `date -s`; is the battery of the clock empty?) and \
         join again, the token is still good"
    )]
    Clock {
        /// The time it shows.
        now: String,
    },
    /// The hub is unreachable or not the one that the token pins.
    #[error("cannot join at {address}")]
    Connect {
        /// Address.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The hub has the token and does not answer.
    #[error(
        "the hub at {address} did not answer within {} s after it was shown the token: the token may be used up; \
         look with `linli-hub agents` and have a new one made",
        ANSWER_DEADLINE.as_secs()
    )]
    NoAnswer {
        /// Address.
        address: String,
    },
    /// The hub refuses.
    #[error("the hub refuses the join ({code}): {message}")]
    Refused {
        /// A code for programs.
        code: String,
        /// A message for people.
        message: String,
    },
    /// The exchange broke off.
    #[error("the exchange with the hub broke off")]
    Read(#[from] ReadError),
    /// The exchange broke off.
    #[error("the exchange with the hub broke off")]
    Write(#[from] quinn::WriteError),
    /// The exchange broke off.
    #[error("the exchange with the hub broke off")]
    Link(#[from] quinn::ConnectionError),
    /// The hub sent another frame.
    #[error("the hub did not answer the join as agreed")]
    Unexpected,
    /// The answer does not fit the token.
    #[error("the hub answered with a root that is not the one in the token: nothing was written")]
    Root,
    /// A key or request could not be made.
    #[error("the key or the certificate request could not be made")]
    Key(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// TLS cannot be set up for QUIC.
    #[error("TLS cannot be set up for QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// A frame could not be made.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A file cannot be written.
    #[error("cannot write {path:?}: is the data directory there and may this user write to it?")]
    Files {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Joins. Returns the site that the token was made for.
pub async fn join(
    data_dir: &Path,
    address: &str,
    token: &JoinToken,
    agent: AgentId,
    force: bool,
) -> Result<Joined, JoinError> {
    data_dir::prepare(data_dir)?;
    if let Some(certificate) = identity::certificate(data_dir)?
        && !force
    {
        return Err(JoinError::Already(certificate));
    }
    let wall_ms = clock::wall_ms();
    if !clock::is_set(wall_ms) {
        return Err(JoinError::Clock {
            now: clock::rfc3339(wall_ms),
        });
    }
    let key = rcgen::KeyPair::generate()?;
    let mut request = rcgen::CertificateParams::new(Vec::<String>::new())?;
    request
        .distinguished_name
        .push(rcgen::DnType::CommonName, agent.as_str());
    let csr_pem = request.serialize_request(&key)?.pem()?;
    let join = Join {
        token_id: token.id.clone(),
        token_secret: token.secret.clone(),
        agent,
        csr_pem,
        wall_ms,
    };
    let (endpoint, connection) = connect(address, token).await?;
    let joined = tokio::time::timeout(ANSWER_DEADLINE, exchange(&connection, join))
        .await
        .map_err(|_| JoinError::NoAnswer {
            address: address.to_owned(),
        })??;
    let root =
        CertificateDer::from_pem_slice(joined.root_pem.as_bytes()).map_err(|_| JoinError::Root)?;
    if tls::fingerprint(&root) != token.root {
        return Err(JoinError::Root);
    }
    let hubs = if joined.hubs.is_empty() {
        vec![address.to_owned()]
    } else {
        joined.hubs.clone()
    };
    // The token is spent: first the answer goes to disk, then the connection is closed.
    NewIdentity {
        key_pem: &key.serialize_pem(),
        certificate_pem: &joined.certificate_pem,
        root_pem: &joined.root_pem,
        hubs: &hubs,
    }
    .store(data_dir)
    .map_err(|(path, source)| JoinError::Files { path, source })?;
    connection.close(link::CLOSE_DONE, b"joined");
    // Past the deadline the hub finds out by its idle timeout.
    let _ = tokio::time::timeout(CLOSE_DEADLINE, endpoint.wait_idle()).await;
    Ok(joined)
}

/// Connects to the first of the name's addresses that accepts and shows the root of the token.
async fn connect(address: &str, token: &JoinToken) -> Result<(Endpoint, Connection), JoinError> {
    let failed = |source| JoinError::Connect {
        address: address.to_owned(),
        source,
    };
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedRoot::new(token.root)))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    quic.transport_config(Arc::new(link::transport()));
    let resolved = tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(address))
        .await
        .map_err(|_| failed(io::Error::other("its name was not resolved in time")))?
        .map_err(failed)?;
    let mut last = io::Error::other("its name has no address");
    for socket_address in resolved {
        match connect_to(socket_address, quic.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

async fn connect_to(
    address: SocketAddr,
    quic: quinn::ClientConfig,
) -> io::Result<(Endpoint, Connection)> {
    let endpoint = link::client_endpoint(address.is_ipv6())?;
    let connecting = endpoint
        .connect_with(quic, address, tls::HUB_NAME)
        .map_err(io::Error::other)?;
    let connection = tokio::time::timeout(CONNECT_DEADLINE, connecting)
        .await
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "no answer from {address} in {} s: check the address and that UDP reaches that port",
                    CONNECT_DEADLINE.as_secs()
                ),
            )
        })?
        .map_err(io::Error::other)?;
    Ok((endpoint, connection))
}

/// Sends the token and reads the answer.
async fn exchange(connection: &Connection, join: Join) -> Result<Joined, JoinError> {
    let (mut send, receive) = connection.open_bi().await?;
    send.write_all(&Frame::Join(join).encode()?).await?;
    // The hub answers when it has the whole request; a failure to end the stream appears on reading.
    let _ = send.finish();
    match FrameReader::new(receive).next().await? {
        Some(Frame::Joined(joined)) => Ok(joined),
        Some(Frame::Refuse(refuse)) => Err(JoinError::Refused {
            code: refuse.code,
            message: refuse.message,
        }),
        _ => Err(JoinError::Unexpected),
    }
}
