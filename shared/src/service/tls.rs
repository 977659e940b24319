//! TLS 1.3 with certificates of the hub's own CA at both ends, and the pin of the root.
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::ids::{AgentId, SiteId};

/// The name in a hub's certificate, regardless of its address.
pub const HUB_NAME: &str = "hub.linli.internal";
const DAY: Duration = Duration::from_secs(86_400);
/// Prefix of the URI in an agent's certificate: `linli:agent/<agent>/site/<site>` (RFC 5280, 4.2.1.6).
const AGENT_URI: &str = "linli:agent/";

/// An error of a certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error(
        "cannot use {what} {path:?}: check that the file is there, is PEM and may be read by this user"
    )]
    Pem {
        /// The role of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// rustls refuses certificate or key.
    #[error("certificate and key are not accepted")]
    Rustls(#[from] rustls::Error),
    /// The certificate is not an agent's.
    #[error("the certificate names no agent: it must carry the URI {AGENT_URI}<agent>/site/<site>")]
    NoAgent,
    /// The certificate cannot be parsed.
    #[error("the certificate cannot be parsed")]
    Parse,
}

/// The cryptography used everywhere: ring.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads all certificates of a PEM file. Errors: [`TlsError`].
pub fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .and_then(|certificates: Vec<_>| {
            if certificates.is_empty() {
                return Err(rustls::pki_types::pem::Error::NoItemsFound);
            }
            Ok(certificates)
        })
        .map_err(|source| TlsError::Pem {
            what,
            path: path.to_owned(),
            source,
        })
}

/// Reads the private key of a PEM file. Errors: [`TlsError`].
pub fn private_key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem {
        what,
        path: path.to_owned(),
        source,
    })
}

/// A store of trusted roots from a PEM file. Errors: [`TlsError`].
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("root certificate", path)? {
        store.add(certificate)?;
    }
    Ok(store)
}

/// SHA-256 of a certificate's DER: the pin of a root.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// The URI in an agent's certificate that names the agent and its site.
pub fn agent_uri(agent: &AgentId, site: &SiteId) -> String {
    format!("{AGENT_URI}{agent}/site/{site}")
}

/// The identity in an agent's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The agent.
    pub agent: AgentId,
    /// Its site.
    pub site: SiteId,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of validity, seconds since 1970 UTC.
    pub not_before_s: i64,
    /// End of validity, seconds since 1970 UTC.
    pub not_after_s: i64,
}

/// The time for checking certificates on a machine whose clock may not be set: never earlier than the start
/// of its own certificate, because that was issued later.
#[derive(Debug)]
pub struct NotBefore(Duration);

impl NotBefore {
    /// `not_before_s`: start of its own certificate, seconds since 1970 UTC.
    pub fn new(not_before_s: i64) -> Self {
        Self(Duration::from_secs(not_before_s.max(0).cast_unsigned()))
    }
}

impl TimeProvider for NotBefore {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Plus one day, so that certificates issued in the same hour are valid too.
        Some(UnixTime::since_unix_epoch(now.max(self.0 + DAY)))
    }
}

/// Reads an agent's identity from its certificate, which the caller has verified. Errors: [`TlsError`].
pub fn agent_identity(certificate: &CertificateDer<'_>) -> Result<AgentIdentity, TlsError> {
    use x509_parser::prelude::*;
    let (_, parsed) =
        X509Certificate::from_der(certificate.as_ref()).map_err(|_| TlsError::Parse)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| TlsError::Parse)?
        .ok_or(TlsError::NoAgent)?;
    for name in &names.value.general_names {
        let GeneralName::URI(uri) = name else {
            continue;
        };
        let Some((agent, site)) = uri
            .strip_prefix(AGENT_URI)
            .and_then(|rest| rest.split_once("/site/"))
        else {
            continue;
        };
        return Ok(AgentIdentity {
            agent: agent.parse().map_err(|_| TlsError::NoAgent)?,
            site: site.parse().map_err(|_| TlsError::NoAgent)?,
            serial: hex::encode(parsed.raw_serial()),
            not_before_s: parsed.validity().not_before.timestamp(),
            not_after_s: parsed.validity().not_after.timestamp(),
        });
    }
    Err(TlsError::NoAgent)
}

/// Verifies a hub by the SHA-256 of its root, for the one connection on which an agent joins. The hub sends
/// its root behind its own certificate. The root must have the pinned hash, and the rest is verified against
/// it as usual.
#[derive(Debug)]
pub struct PinnedRoot {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinnedRoot {
    /// A verifier that pins this hash.
    pub fn new(fingerprint: [u8; 32]) -> Self {
        Self {
            fingerprint,
            provider: provider(),
        }
    }
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(root) = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.fingerprint)
        else {
            let shown: Vec<String> = intermediates
                .iter()
                .map(|certificate| hex::encode(fingerprint(certificate)))
                .collect();
            return Err(rustls::Error::General(format!(
                "the token pins root {}, the hub shows {}: this is not the hub that made the token; \
                 check the address, or have a new token made on this hub",
                hex::encode(self.fingerprint),
                if shown.is_empty() {
                    "none".to_owned()
                } else {
                    shown.join(", ")
                },
            )));
        };
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
