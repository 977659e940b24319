//! Who this agent is: the files that `join` writes, read before anything else starts.
//!
//! ```text
//! <data>/identity/agent.key   private key, made here, never leaves the gateway, mode 0600
//! <data>/identity/agent.pem   certificate from the hub's CA
//! <data>/identity/root.pem    root of that CA
//! <data>/identity/hubs        addresses that the hub announced, one a line
//! ```
use linli_shared::protocol::ALPN;
use linli_shared::service::tls::{self, AgentIdentity, TlsError};
use quinn::crypto::rustls::QuicClientConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no identity to start with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The agent has not joined.
    #[error(
        "this agent has not joined a hub: {0:?} is not there; run `linli-agent join HOST:PORT --token-file FILE`"
    )]
    NotJoined(PathBuf),
    /// A file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS for QUIC cannot be set up.
    #[error("the identity cannot be used for QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The list of hubs cannot be read.
    #[error("cannot read {path:?}")]
    Hubs {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    pub key: PathBuf,
    pub certificate: PathBuf,
    pub root: PathBuf,
    pub hubs: PathBuf,
}

impl Files {
    /// The files below a data directory.
    pub fn at(data_dir: &Path) -> Self {
        let directory = data_dir.join("identity");
        Self {
            key: directory.join("agent.key"),
            certificate: directory.join("agent.pem"),
            root: directory.join("root.pem"),
            hubs: directory.join("hubs"),
        }
    }
}

/// A usable identity.
pub struct Identity {
    /// Agent, site and end of validity, as the certificate says.
    pub agent: AgentIdentity,
    /// Addresses that the hub announced.
    pub hubs: Vec<String>,
    /// QUIC with this identity.
    pub quic: quinn::ClientConfig,
}

impl Identity {
    /// Reads the files of a data directory.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let files = Files::at(data_dir);
        if !files.certificate.exists() {
            return Err(IdentityError::NotJoined(files.certificate));
        }
        let chain = tls::certificates("agent certificate", &files.certificate)?;
        let agent = tls::agent_identity(&chain[0])?;
        let key = tls::private_key("agent key", &files.key)?;
        let roots = tls::roots(&files.root)?;
        let time = Arc::new(tls::NotBefore::new(agent.not_before_s));
        let mut config = rustls::ClientConfig::builder_with_details(tls::provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::from)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(TlsError::from)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
        quic.transport_config(Arc::new(linli_shared::service::link::transport()));
        let hubs = match std::fs::read_to_string(&files.hubs) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                return Err(IdentityError::Hubs {
                    path: files.hubs,
                    source,
                });
            }
        };
        Ok(Self { agent, hubs, quic })
    }
}
