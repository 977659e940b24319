//! Sensitive fields at rest: names, phones, addresses and narratives of residents.
//!
//! * A field is sealed with AES-256-GCM (NIST SP 800-38D). The keys are not in the database but in a file of
//!   the data directory, one key per line, 64 hexadecimal digits. The first key seals, every key opens: a new
//!   key is inserted before the old ones, and old fields stay readable. `linli-hub init` creates the first
//!   key.
//! * Sealed text is `s1.<key>.<nonce and ciphertext>`: the key is named by the first 8 hexadecimal digits of
//!   its SHA-256, the rest is base64. The owner of the text (table, column, number) is authenticated with it,
//!   so the text of one case does not open in another's row.
//! * The nonce is random, 96 bits: one key may seal 2^32 fields (SP 800-38D, 8.3), far more than a district
//!   has.
//! * Files are sealed too (`file`), each with its own key, derived from a line of the same file.
//! * Without unmasking, people see the result of `mask`: that a value exists, and little of it.
pub mod file;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use linli_shared::service::file as files;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

use linli_shared::service::random;

const VERSION: &str = "s1";
const KEY_BYTES: usize = 32;
/// HKDF salt that separates keys of files from keys of fields.
const FILES: &[u8] = b"linli files 1";

/// Why sealed fields cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read.
    #[error(
        "the key file {path:?} cannot be read: restore it from its copy, or run `linli-hub init` on a new hub"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The key file cannot be written.
    #[error("the key file {path:?} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A line of the key file is not a key.
    #[error("{path:?}: line {line} is not a key: 64 hexadecimal digits")]
    Key {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The key of a field is not in the key file.
    #[error(
        "it was sealed with key {key:?}, which is not in the key file: put it back, below the newer ones"
    )]
    Unknown {
        /// Name of the key.
        key: String,
    },
    /// The text was changed, or belongs to another row.
    #[error("a sealed field does not open: it was changed, or belongs elsewhere")]
    Open,
}

struct Key {
    name: String,
    key: LessSafeKey,
    /// Derives the keys of files, and the key for naming files.
    files: hkdf::Prk,
}

impl Key {
    fn of(bytes: &[u8]) -> Option<Self> {
        let unbound = UnboundKey::new(&AES_256_GCM, bytes).ok()?;
        Some(Self {
            name: hex::encode(&Sha256::digest(bytes)[..4]),
            key: LessSafeKey::new(unbound),
            files: hkdf::Salt::new(hkdf::HKDF_SHA256, FILES).extract(bytes),
        })
    }

    /// Derives the key of one file.
    fn of_file(&self, salt: &[u8]) -> LessSafeKey {
        let info = [b"file".as_slice(), salt];
        let derived = self.files.expand(&info, &AES_256_GCM);
        LessSafeKey::new(derived.expect("one key is far less than HKDF gives").into())
    }

    /// Begins the name of a file: HMAC-SHA-256 of its content.
    fn naming(&self) -> hmac::Context {
        let derived = self.files.expand(&[b"name"], hmac::HMAC_SHA256);
        let key = hmac::Key::from(derived.expect("one key is far less than HKDF gives"));
        hmac::Context::with_key(&key)
    }
}

/// The keys of sealed fields; the first one seals.
pub struct Sealer {
    keys: Vec<Key>,
}

/// Path of the key file in a data directory.
pub fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("fields.key")
}

/// Creates the key file with a first key if it does not exist; returns its path. Errors: [`SealError`].
pub fn init(data_dir: &Path) -> Result<PathBuf, SealError> {
    let path = key_file(data_dir);
    if path.exists() {
        return Ok(path);
    }
    let line = format!("{}\n", hex::encode(random::secret::<KEY_BYTES>()));
    match files::replace(&path, line.as_bytes(), 0o600) {
        Ok(()) => Ok(path),
        Err(source) => Err(SealError::Write { path, source }),
    }
}

impl Sealer {
    /// A sealer with a public key, for tests.
    #[doc(hidden)]
    pub fn of_test() -> Self {
        let key = Key::of(&[7; KEY_BYTES]).expect("a key of the right length");
        Self { keys: vec![key] }
    }

    /// A sealer with a key of this process only, for data that is kept elsewhere for minutes.
    pub fn of_process() -> Self {
        let key = Key::of(&random::secret::<KEY_BYTES>()).expect("a key of the right length");
        Self { keys: vec![key] }
    }

    /// Reads the keys of a data directory. Errors: [`SealError`].
    pub fn load(data_dir: &Path) -> Result<Self, SealError> {
        let path = key_file(data_dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(SealError::Read { path, source }),
        };
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let bytes = hex::decode(line.trim()).ok();
            let Some(key) = bytes.as_deref().and_then(Key::of) else {
                return Err(SealError::Key {
                    path,
                    line: index + 1,
                });
            };
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(SealError::Key { path, line: 1 });
        }
        Ok(Self { keys })
    }

    /// Seals a text for its owner, like `cases.narrative/17`. An empty text stays empty.
    pub fn seal(&self, text: &str, belongs: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let nonce = random::secret::<NONCE_LEN>();
        let mut bytes = text.as_bytes().to_vec();
        let key = &self.keys[0];
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(belongs.as_bytes()),
                &mut bytes,
            )
            .expect("a field is far shorter than the 64 GiB that AES-GCM takes");
        let mut sealed = nonce.to_vec();
        sealed.append(&mut bytes);
        format!("{VERSION}.{}.{}", key.name, BASE64.encode(sealed))
    }

    fn key(&self, name: &str) -> Result<&Key, SealError> {
        let key = self.keys.iter().find(|key| key.name == name);
        key.ok_or_else(|| SealError::Unknown {
            key: name.to_owned(),
        })
    }

    /// Opens a text that was sealed for this owner. Errors: [`SealError`].
    pub fn open(&self, sealed: &str, belongs: &str) -> Result<String, SealError> {
        if sealed.is_empty() {
            return Ok(String::new());
        }
        let mut parts = sealed.splitn(3, '.');
        let (Some(VERSION), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Open);
        };
        let key = self.key(name)?;
        let mut bytes = BASE64.decode(rest).map_err(|_| SealError::Open)?;
        if bytes.len() < NONCE_LEN {
            return Err(SealError::Open);
        }
        let mut cipher = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| SealError::Open)?;
        let text = key
            .key
            .open_in_place(nonce, Aad::from(belongs.as_bytes()), &mut cipher)
            .map_err(|_| SealError::Open)?;
        String::from_utf8(text.to_vec()).map_err(|_| SealError::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: &[u8]) -> Sealer {
        let keys = keys
            .iter()
            .map(|byte| Key::of(&[*byte; KEY_BYTES]).expect("a key"));
        Sealer {
            keys: keys.collect(),
        }
    }

    #[test]
    fn a_field_opens_where_it_belongs_and_nowhere_else() {
        let sealer = sealer(&[1]);
        let sealed = sealer.seal("张某因漏水与楼上争执", "cases.narrative/7");
        assert!(!sealed.contains("漏水"));
        assert_ne!(
            sealed,
            sealer.seal("张某因漏水与楼上争执", "cases.narrative/7")
        );
        let opened = sealer.open(&sealed, "cases.narrative/7");
        assert_eq!(opened.expect("the text"), "张某因漏水与楼上争执");
        assert!(matches!(
            sealer.open(&sealed, "cases.narrative/8"),
            Err(SealError::Open)
        ));
        let mut changed = sealed.clone();
        let last = changed.pop().expect("a letter");
        changed.push(if last == 'A' { 'B' } else { 'A' });
        assert!(sealer.open(&changed, "cases.narrative/7").is_err());
        for rubbish in ["x", "s1", "s1.ab", "s1.00000000.AAAA", "s2.a.b"] {
            assert!(sealer.open(rubbish, "x").is_err(), "{rubbish}");
        }
        assert_eq!(sealer.seal("", "x"), "");
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let sealed = sealer(&[1]).seal("text", "x");
        assert_eq!(
            sealer(&[2, 1]).open(&sealed, "x").expect("the text"),
            "text"
        );
        assert!(matches!(
            sealer(&[2]).open(&sealed, "x"),
            Err(SealError::Unknown { .. })
        ));
    }

    #[test]
    fn a_key_file_is_made_once_and_a_bad_line_of_it_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = init(directory.path()).expect("a key file");
        let sealed = Sealer::load(directory.path())
            .expect("keys")
            .seal("text", "x");
        init(directory.path()).expect("the same file");
        let again = Sealer::load(directory.path()).expect("keys");
        assert_eq!(again.open(&sealed, "x").expect("the text"), "text");
        let keys = std::fs::read_to_string(&path).expect("keys");
        std::fs::write(&path, format!("{keys}zz\n")).expect("written");
        assert!(matches!(
            Sealer::load(directory.path()),
            Err(SealError::Key { line: 2, .. })
        ));
    }
}
