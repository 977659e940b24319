//! The hub's own certificate authority: a root, the hub's certificate, certificates of agents.
//!
//! ```text
//! <data>/ca/root.pem, root.key     the root, ten years; the key signs agents and nothing else
//! <data>/tls/hub.pem, hub.key      the hub's certificate for QUIC and the API; hub.pem ends with the root
//! ```
use linli_shared::protocol::ids::{AgentId, SiteId};
use linli_shared::service::file;
use linli_shared::service::random;
use linli_shared::service::tls::{self, HUB_NAME, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

const ROOT_DAYS: u64 = 3653;
const HUB_DAYS: u64 = 3650;
/// Certificates begin this long ago, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(86_400);
const DAY_S: u64 = 86_400;

/// Why the authority failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It is there already.
    #[error(
        "{0:?} is there already: this hub has been initialised, nothing was changed; for other names in its \
         certificate, init --reissue --name NAME"
    )]
    Exists(PathBuf),
    /// A file cannot be written or read.
    #[error("{operation} {path:?} failed")]
    File {
        /// The operation.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A file is invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name of the site or agent does not fit a certificate.
    #[error("{0:?} does not fit a certificate: give a host name or an address, like hub.example")]
    Name(String),
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    pub root: PathBuf,
    pub root_key: PathBuf,
    pub hub: PathBuf,
    pub hub_key: PathBuf,
}

impl Files {
    /// The files below a data directory.
    pub fn at(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("ca/root.pem"),
            root_key: data_dir.join("ca/root.key"),
            hub: data_dir.join("tls/hub.pem"),
            hub_key: data_dir.join("tls/hub.key"),
        }
    }
}

/// Makes the root and the hub's certificate. `names` are host names and addresses under which the API
/// is reached.
pub fn init(data_dir: &Path, names: &[String]) -> Result<Files, CaError> {
    let files = Files::at(data_dir);
    if files.root.exists() {
        return Err(CaError::Exists(files.root));
    }
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::new(Vec::<String>::new())?;
    root.distinguished_name
        .push(DnType::CommonName, "Linli hub root");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut root, ROOT_DAYS);
    let root_certificate = root.self_signed(&root_key)?;
    let root_pem = root_certificate.pem();
    let issuer = Issuer::new(root, root_key);

    let root_key_pem = issuer.key().serialize_pem();
    write_hub(&files, &issuer, &root_pem, names)?;
    // The root is written last: it marks the hub as initialised.
    write(&files.root_key, &root_key_pem, 0o600)?;
    write(&files.root, &root_pem, 0o644)?;
    Ok(files)
}

/// Makes a new certificate for a hub that has been initialised: agents that have joined trust the root,
/// which stays.
pub fn reissue(data_dir: &Path, names: &[String]) -> Result<Files, CaError> {
    let files = Files::at(data_dir);
    let authority = Authority::load(data_dir, 1)?;
    write_hub(&files, &authority.issuer, &authority.root_pem, names)?;
    Ok(files)
}

/// Every name of the hub's certificate, where these are given.
pub fn hub_names(names: &[String]) -> Vec<String> {
    let mut all = [HUB_NAME, "localhost", "127.0.0.1"]
        .map(str::to_owned)
        .to_vec();
    all.extend(names.iter().cloned());
    all
}

fn write_hub(
    files: &Files,
    issuer: &Issuer<'_, KeyPair>,
    root_pem: &str,
    names: &[String],
) -> Result<(), CaError> {
    if let Some(wrong) = names.iter().find(|name| !is_host(name)) {
        return Err(CaError::Name(wrong.clone()));
    }
    let key = KeyPair::generate()?;
    // rcgen takes addresses and host names apart by itself.
    let mut hub = CertificateParams::new(hub_names(names))?;
    hub.distinguished_name.push(DnType::CommonName, "Linli hub");
    hub.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    hub.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    validity(&mut hub, HUB_DAYS);
    let certificate = hub.signed_by(&key, issuer)?;
    write(&files.hub_key, &key.serialize_pem(), 0o600)?;
    write(
        &files.hub,
        &format!("{}{root_pem}", certificate.pem()),
        0o644,
    )
}

/// An address, or a host name (RFC 1123, 2.1).
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || (name.len() <= 253 && name.trim_start_matches("*.").split('.').all(label))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| file::replace(path, text.as_bytes(), mode))
        .map_err(|source| CaError::File {
            operation: "writing",
            path: path.to_owned(),
            source,
        })
}

fn validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + Duration::from_secs(days * DAY_S)).into();
}

/// Signs agents.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The root, PEM.
    pub root_pem: String,
    days: u64,
}

impl Authority {
    /// Reads the root and its key. `days` is how long an agent's certificate is good.
    pub fn load(data_dir: &Path, days: u64) -> Result<Self, CaError> {
        let files = Files::at(data_dir);
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CaError::File {
                operation: "reading",
                path: path.to_owned(),
                source,
            })
        };
        let root_pem = read(&files.root)?;
        let key = KeyPair::from_pem(&read(&files.root_key)?)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&root_pem, key)?,
            root_pem,
            days,
        })
    }

    /// A serial number that was never used.
    pub fn new_serial() -> String {
        let mut bytes: [u8; 16] = random::secret();
        // Positive and of full length (RFC 5280, 4.1.2.2).
        bytes[0] = bytes[0] & 0x3f | 0x40;
        hex::encode(bytes)
    }

    /// Signs the key of a request and gives the certificate, PEM; of what else the request says nothing is
    /// taken.
    pub fn sign(
        &self,
        csr_pem: &str,
        agent: &AgentId,
        site: &SiteId,
        serial: &str,
    ) -> Result<String, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, agent.as_str());
        let uri = tls::agent_uri(agent, site)
            .try_into()
            .map_err(|_| CaError::Name(agent.to_string()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(hex::decode(serial).unwrap_or_default()));
        validity(&mut params, self.days);
        let signed = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(signed.pem())
    }
}

/// The root's certificate.
pub fn root_certificate(files: &Files) -> Result<CertificateDer<'static>, CaError> {
    let mut certificates = tls::certificates("root certificate", &files.root)?;
    Ok(certificates.swap_remove(0))
}

/// When the first certificate of a file ends, seconds since 1970 UTC.
pub fn not_after_s(what: &'static str, path: &Path) -> Result<i64, CaError> {
    let certificates = tls::certificates(what, path)?;
    let (_, parsed) = X509Certificate::from_der(&certificates[0]).map_err(|_| TlsError::Parse)?;
    Ok(parsed.validity().not_after.timestamp())
}
