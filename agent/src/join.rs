//! `linli-agent join`: makes a key, shows the token to the hub, brings home a certificate.
//!
//! The token pins the hub's root, so the first connection is verified like every later one. The key is
//! made here and stays here. An agent that has joined does not join again unless told to: its spool and
//! config stay in any case.
use linli_shared::protocol::ALPN_JOIN;
use linli_shared::protocol::codec::CodecError;
use linli_shared::protocol::frame::{Frame, Join, Joined};
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::token::JoinToken;
use linli_shared::service::link::{self, FrameReader, ReadError};
use linli_shared::service::tls::{self, PinnedRoot};
use linli_shared::service::{clock, file};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::identity::Files;

const DEADLINE: Duration = Duration::from_secs(15);

/// Why the agent did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has joined before.
    #[error(
        "this agent has already joined ({0:?} is there): nothing was changed; to join anew, add --force"
    )]
    Already(PathBuf),
    /// The hub cannot be reached or is not the one that the token pins.
    #[error("cannot join at {address}")]
    Connect {
        /// Address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The hub says no.
    #[error("the hub refuses the join ({code}): {message}")]
    Refused {
        /// A word for programs.
        code: String,
        /// For people.
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
    /// The hub answered something else.
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
        /// Why.
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
    let files = Files::at(data_dir);
    if files.certificate.exists() && !force {
        return Err(JoinError::Already(files.certificate));
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
        wall_ms: clock::wall_ms(),
    };
    let failed = |source| JoinError::Connect {
        address: address.to_owned(),
        source,
    };
    let joined = tokio::time::timeout(DEADLINE, exchange(address, token, join))
        .await
        .map_err(|_| {
            failed(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer in 15 s: check the address and that UDP reaches that port",
            ))
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
    let key_pem = key.serialize_pem();
    if let Some(directory) = files.key.parent() {
        std::fs::create_dir_all(directory).map_err(|source| JoinError::Files {
            path: directory.to_owned(),
            source,
        })?;
    }
    // The certificate comes last: it is what says that the agent has joined.
    for (path, content, mode) in [
        (&files.key, key_pem.as_str(), 0o600),
        (&files.root, joined.root_pem.as_str(), 0o644),
        (&files.hubs, &hubs.join("\n"), 0o644),
        (&files.certificate, joined.certificate_pem.as_str(), 0o644),
    ] {
        file::replace(path, content.as_bytes(), mode).map_err(|source| JoinError::Files {
            path: path.clone(),
            source,
        })?;
    }
    Ok(joined)
}

async fn exchange(address: &str, token: &JoinToken, join: Join) -> Result<Joined, JoinError> {
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
    let resolved = tokio::net::lookup_host(address)
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::Error::other("its name has no address")))?;
    let any = if resolved.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let local = any
        .parse()
        .map_err(|error| failed(io::Error::other(error)))?;
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        link::udp_socket(local).map_err(failed)?,
        Arc::new(quinn::TokioRuntime),
    )
    .map_err(failed)?;
    let connection = endpoint
        .connect_with(quic, resolved, tls::HUB_NAME)
        .map_err(|error| failed(io::Error::other(error)))?
        .await
        .map_err(|error| failed(io::Error::other(error)))?;
    let (mut send, receive) = connection.open_bi().await?;
    send.write_all(&Frame::Join(join).encode()?).await?;
    // The hub answers when it has the whole request; a stream that cannot be ended says so on reading.
    let _ = send.finish();
    let answer = FrameReader::new(receive).next().await?;
    connection.close(link::CLOSE_DONE, b"joined");
    endpoint.wait_idle().await;
    match answer {
        Some(Frame::Joined(joined)) => Ok(joined),
        Some(Frame::Refuse(refuse)) => Err(JoinError::Refused {
            code: refuse.code,
            message: refuse.message,
        }),
        _ => Err(JoinError::Unexpected),
    }
}
