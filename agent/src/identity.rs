//! The identity of this agent: the files that `join` writes, read before anything else starts.
//!
//! ```text
//! <data>/identity/agent.key   private key, made here, never leaves the gateway, mode 0600
//! <data>/identity/agent.pem   certificate from the hub's CA
//! <data>/identity/root.pem    root of that CA
//! <data>/identity/hubs        addresses that the hub announced, one a line
//! ```
//!
//! They belong together, so they change together: a join writes all of them into `identity.new` and puts
//! that in the place of `identity` with one rename.
use linli_shared::protocol::ALPN;
use linli_shared::service::data_dir;
use linli_shared::service::file;
use linli_shared::service::tls::{self, AgentIdentity, TlsError};
use quinn::crypto::rustls::QuicClientConfig;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;
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
    /// Its files cannot be examined.
    #[error("cannot look for {path:?}: is this the user that the agent runs as?")]
    Look {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
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
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Paths of the files.
struct Files {
    key: PathBuf,
    certificate: PathBuf,
    root: PathBuf,
    hubs: PathBuf,
}

impl Files {
    fn within(directory: &Path) -> Self {
        Self {
            key: directory.join("agent.key"),
            certificate: directory.join("agent.pem"),
            root: directory.join("root.pem"),
            hubs: directory.join("hubs"),
        }
    }
}

/// The result of a join.
pub struct NewIdentity<'a> {
    /// Private key, PEM.
    pub key_pem: &'a str,
    /// Certificate, PEM.
    pub certificate_pem: &'a str,
    /// Root of the CA, PEM.
    pub root_pem: &'a str,
    /// Addresses of hubs.
    pub hubs: &'a [String],
}

impl NewIdentity<'_> {
    /// Replaces the existing identity, if any: completely or not at all. An error names the file that could not be
    /// written.
    pub fn store(&self, data_dir: &Path) -> Result<(), (PathBuf, io::Error)> {
        let place = data_dir.join("identity");
        let new = data_dir.join("identity.new");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        // A leftover of an incomplete join, or of the identity that a join replaced.
        remove(&new).map_err(at(&new))?;
        data_dir::make(&new).map_err(at(&new))?;
        let files = Files::within(&new);
        let hubs = self.hubs.join("\n");
        for (path, content, mode) in [
            (&files.key, self.key_pem, 0o600),
            (&files.root, self.root_pem, 0o644),
            (&files.hubs, &hubs, 0o644),
            (&files.certificate, self.certificate_pem, 0o644),
        ] {
            file::replace(path, content.as_bytes(), mode).map_err(at(path))?;
        }
        swap(&new, &place).map_err(at(&place))?;
        file::sync_directory(data_dir).map_err(at(data_dir))?;
        remove(&new).map_err(at(&new))
    }
}

/// Moves the directory `new` to `place`; the previous content of `place` is at `new` then.
fn swap(new: &Path, place: &Path) -> io::Result<()> {
    if !place.try_exists()? {
        return std::fs::rename(new, place);
    }
    let exchanged = renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE);
    match exchanged {
        // A file system that cannot exchange two names. A crash between these leaves both directories, and
        // a start that says that the agent has not joined.
        Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV) => {
            let old = place.with_extension("old");
            remove(&old)?;
            std::fs::rename(place, &old)?;
            std::fs::rename(new, place)?;
            remove(&old)
        }
        other => Ok(other?),
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The certificate, if this agent has joined.
pub fn certificate(data_dir: &Path) -> Result<Option<PathBuf>, IdentityError> {
    let path = Files::within(&data_dir.join("identity")).certificate;
    match path.try_exists() {
        Ok(true) => Ok(Some(path)),
        Ok(false) => Ok(None),
        Err(source) => Err(IdentityError::Look { path, source }),
    }
}

/// A usable identity.
pub struct Identity {
    /// Agent, site and end of validity, by the certificate.
    pub agent: AgentIdentity,
    /// Addresses that the hub announced.
    pub hubs: Vec<String>,
    /// QUIC with this identity.
    pub quic: quinn::ClientConfig,
}

impl Identity {
    /// Reads the files of a data directory.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let files = Files::within(&data_dir.join("identity"));
        if certificate(data_dir)?.is_none() {
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn store(data_dir: &Path, text: &str) {
        NewIdentity {
            key_pem: text,
            certificate_pem: text,
            root_pem: text,
            hubs: &[text.to_owned()],
        }
        .store(data_dir)
        .expect("stored");
    }

    fn contents(directory: &Path) -> Vec<String> {
        let files = Files::within(directory);
        [files.key, files.certificate, files.root, files.hubs]
            .iter()
            .map(|path| std::fs::read_to_string(path).expect("there"))
            .collect()
    }

    #[test]
    fn a_new_identity_takes_the_place_of_the_old_one_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let data_dir = directory.path();
        let place = data_dir.join("identity");
        assert!(matches!(certificate(data_dir), Ok(None)));
        store(data_dir, "old");
        assert_eq!(contents(&place), ["old"; 4]);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&place.join("agent.key")), 0o600);
        // A killed join leaves a part of its files: they are ignored.
        let new = data_dir.join("identity.new");
        std::fs::create_dir(&new).expect("made");
        std::fs::write(new.join("agent.key"), "half").expect("written");
        assert_eq!(contents(&place), ["old"; 4]);
        store(data_dir, "new");
        assert_eq!(contents(&place), ["new"; 4]);
        assert!(!new.exists(), "the old key is gone");
        assert!(matches!(certificate(data_dir), Ok(Some(_))));
    }
}
