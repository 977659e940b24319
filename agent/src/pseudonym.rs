//! Keyed pseudonyms: a card or a name in a device's message becomes a code before it is an event.
//!
//! * A pseudonym is `k<number>-<hex>`: the number of the key, and the first 16 bytes of HMAC-SHA256(key, kind of the
//!   value, 0, value). The same card has the same pseudonym as long as the key lives, at this site only. Without the
//!   key it identifies nobody; a card's number is short enough for brute force, so the key never leaves this machine,
//!   and a rotated key is destroyed.
//! * Off unless `[pseudonyms] enabled` is set: then cards and names are dropped.
//! * A key lives for `rotate_every`, or until `linli-agent pseudonyms rotate`. It is synced to disk before it is
//!   used. A failed rotation is tried again after [`RETRY_EVERY_MS`]; the old key serves meanwhile.
//! * A damaged or unreadable key stops nothing: personal data are dropped, alarms go on, and log, status and
//!   `linli_agent_pseudonyms_broken` report it. It is never replaced silently: `pseudonyms rotate` makes a new one.
//!
//! ```text
//! <data>/pseudonym.key     JSON {"number", "made_at_ms", "key"}, the key in hexadecimal; 0600
//! ```
use hmac::{Hmac, KeyInit, Mac};
use linli_shared::service::config::Span;
use linli_shared::service::file;
use linli_shared::service::telemetry::chain;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use linli_devices::device_event::Person;

const KEY_BYTES: usize = 32;
/// Pause before a failed rotation is tried again, milliseconds.
const RETRY_EVERY_MS: i64 = 3_600_000;
/// Number of bytes of the tag that a pseudonym shows.
const SHOWN_BYTES: usize = 16;

/// `[pseudonyms]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseudonymConfig {
    /// Whether cards and names become pseudonyms; otherwise they are dropped.
    pub enabled: bool,
    /// Lifetime of a key.
    pub rotate_every: Span,
}

impl Default for PseudonymConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            rotate_every: Span::from_secs(90 * 86_400),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key of pseudonyms {path:?} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file has no key.
    #[error(
        "{0:?} is damaged, so persons are dropped from events: `linli-agent pseudonyms rotate` makes a new key (old pseudonyms \
         then stand alone)"
    )]
    Damaged(PathBuf),
    /// Pseudonyms are off.
    #[error(
        "pseudonyms are off: set [pseudonyms] enabled = true in the agent's config and restart the agent"
    )]
    Off,
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    number: u64,
    made_at_ms: i64,
    key: String,
}

struct Key {
    number: u64,
    made_at_ms: i64,
    mac: Hmac<Sha256>,
}

/// Cloneable; all clones use the same key.
#[derive(Clone, Default)]
pub struct Pseudonyms(Option<Arc<Kept>>);

struct Kept {
    path: PathBuf,
    rotate_every_ms: i64,
    state: RwLock<State>,
}

struct State {
    /// The key; `None` if it is damaged or unreadable.
    key: Option<Key>,
    /// Why there is none, or why it could not be replaced.
    trouble: Option<String>,
    /// Time of the next try after a failed rotation.
    retry_at_ms: i64,
}

impl Pseudonyms {
    /// Reads the key, and makes it if there is none. If that fails there is no key, and [`trouble`](Self::trouble)
    /// gives the reason.
    pub fn load(data_dir: &Path, config: &PseudonymConfig, now_ms: i64) -> Self {
        if !config.enabled {
            return Self(None);
        }
        let path = data_dir.join("pseudonym.key");
        let key = match std::fs::read(&path) {
            Ok(bytes) => Key::read(&bytes).ok_or_else(|| KeyError::Damaged(path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Key::make(&path, 1, now_ms),
            Err(source) => Err(KeyError::File {
                path: path.clone(),
                source,
            }),
        };
        let (key, trouble) = match key {
            Ok(key) => (Some(key), None),
            Err(error) => {
                let trouble = chain(&error);
                tracing::error!(reason = trouble, "persons are dropped from events");
                (None, Some(trouble))
            }
        };
        let state = State {
            key,
            trouble,
            retry_at_ms: i64::MIN,
        };
        Self(Some(Arc::new(Kept {
            path,
            rotate_every_ms: config.rotate_every.as_millis(),
            state: RwLock::new(state),
        })))
    }

    /// The pseudonym of a value; `None` if pseudonyms are off or have no key.
    pub fn of(&self, person: Person, value: &str) -> Option<String> {
        let kept = self.0.as_ref()?;
        let state = kept.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = state.key.as_ref()?;
        let mut mac = key.mac.clone();
        mac.update(person.attribute().as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        let tag = mac.finalize().into_bytes();
        Some(format!(
            "k{}-{}",
            key.number,
            hex::encode(&tag[..SHOWN_BYTES])
        ))
    }

    /// Why there is no key, or why it could not be replaced.
    pub fn trouble(&self) -> Option<String> {
        let kept = self.0.as_ref()?;
        let state = kept.state.read().unwrap_or_else(PoisonError::into_inner);
        state.trouble.clone()
    }

    /// Whether the key's lifetime is over, and no rotation failed recently.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.0.as_ref().is_some_and(|kept| {
            let state = kept.state.read().unwrap_or_else(PoisonError::into_inner);
            state.key.as_ref().is_some_and(|key| {
                now_ms.saturating_sub(key.made_at_ms) >= kept.rotate_every_ms
                    && now_ms >= state.retry_at_ms
            })
        })
    }

    /// Makes a new key and destroys the old one; returns its number. Blocking.
    pub fn rotate(&self, now_ms: i64) -> Result<u64, KeyError> {
        let kept = self.0.as_ref().ok_or(KeyError::Off)?;
        let mut state = kept.state.write().unwrap_or_else(PoisonError::into_inner);
        // The number of a damaged key is unknown, and must not be given again.
        let number = match &state.key {
            Some(key) => key.number + 1,
            None => (now_ms / 1000).unsigned_abs(),
        };
        match Key::make(&kept.path, number, now_ms) {
            Ok(key) => {
                *state = State {
                    key: Some(key),
                    trouble: None,
                    retry_at_ms: i64::MIN,
                };
                Ok(number)
            }
            Err(error) => {
                state.trouble = Some(chain(&error));
                state.retry_at_ms = now_ms.saturating_add(RETRY_EVERY_MS);
                Err(error)
            }
        }
    }
}

impl Key {
    fn make(path: &Path, number: u64, now_ms: i64) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let bytes: [u8; KEY_BYTES] = linli_shared::service::random::bytes().map_err(failed)?;
        let written = KeyFile {
            number,
            made_at_ms: now_ms,
            key: hex::encode(bytes),
        };
        let text = serde_json::to_vec(&written).map_err(|error| failed(error.into()))?;
        file::replace(path, &text, 0o600).map_err(failed)?;
        Ok(Self::new(written, &bytes))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let file: KeyFile = serde_json::from_slice(bytes).ok()?;
        let key: [u8; KEY_BYTES] = hex::decode(&file.key).ok()?.try_into().ok()?;
        Some(Self::new(file, &key))
    }

    fn new(file: KeyFile, key: &[u8; KEY_BYTES]) -> Self {
        Self {
            number: file.number,
            made_at_ms: file.made_at_ms,
            mac: Hmac::new_from_slice(key).expect("HMAC takes a key of any length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on() -> PseudonymConfig {
        PseudonymConfig {
            enabled: true,
            ..PseudonymConfig::default()
        }
    }

    #[test]
    fn off_by_default_and_then_nothing_is_made_or_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let pseudonyms = Pseudonyms::load(directory.path(), &PseudonymConfig::default(), 0);
        assert_eq!(pseudonyms.of(Person::Card, "0012345678"), None);
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("list").count(),
            0
        );
        assert!(matches!(pseudonyms.rotate(0), Err(KeyError::Off)));
    }

    #[test]
    fn the_same_card_has_one_pseudonym_across_restarts_and_another_after_a_rotation() {
        let directory = tempfile::tempdir().expect("directory");
        let load = || Pseudonyms::load(directory.path(), &on(), 1_000);
        let first = load();
        let card = first.of(Person::Card, "0012345678").expect("on");
        assert!(
            card.starts_with("k1-") && !card.contains("12345678"),
            "{card}"
        );
        assert_eq!(load().of(Person::Card, "0012345678"), Some(card.clone()));
        // The same digits as a name have another pseudonym.
        assert_ne!(first.of(Person::Name, "0012345678"), Some(card.clone()));
        let day_ms = 86_400_000;
        assert!(!first.is_due(1_000 + 89 * day_ms));
        assert!(first.is_due(1_000 + 90 * day_ms));
        assert_eq!(first.rotate(1_000 + 90 * day_ms).expect("rotate"), 2);
        assert!(!first.is_due(1_000 + 91 * day_ms));
        let later = first.of(Person::Card, "0012345678").expect("on");
        assert!(
            later.starts_with("k2-") && later[3..] != card[3..],
            "{later}"
        );
        assert_eq!(load().of(Person::Card, "0012345678"), Some(later));
        let text = std::fs::read_to_string(directory.path().join("pseudonym.key")).expect("file");
        assert!(text.contains("\"number\":2"), "the old key is gone: {text}");
    }

    #[test]
    fn two_sites_do_not_share_pseudonyms() {
        let of = || {
            let directory = tempfile::tempdir().expect("directory");
            let pseudonyms = Pseudonyms::load(directory.path(), &on(), 0);
            pseudonyms.of(Person::Card, "0012345678")
        };
        assert_ne!(of(), of());
    }

    #[test]
    fn a_damaged_key_drops_persons_and_is_replaced_by_a_person_only() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("pseudonym.key");
        std::fs::write(&path, "{}").expect("write");
        let loaded = Pseudonyms::load(directory.path(), &on(), 5_000);
        assert_eq!(loaded.of(Person::Card, "0012345678"), None);
        assert!(
            loaded
                .trouble()
                .is_some_and(|trouble| trouble.contains("pseudonyms rotate"))
        );
        // Never by itself, however much time passes.
        assert!(!loaded.is_due(i64::MAX));
        assert_eq!(std::fs::read(&path).expect("read"), b"{}");
        assert_eq!(
            loaded.rotate(1_790_000_000_000).expect("rotate"),
            1_790_000_000
        );
        assert!(loaded.trouble().is_none());
        assert!(loaded.of(Person::Card, "0012345678").is_some());
    }

    #[test]
    fn a_rotation_that_fails_is_tried_again_later_and_the_old_key_serves() {
        let directory = tempfile::tempdir().expect("directory");
        let data_dir = directory.path().join("data");
        std::fs::create_dir(&data_dir).expect("made");
        let pseudonyms = Pseudonyms::load(&data_dir, &on(), 0);
        let card = pseudonyms.of(Person::Card, "1");
        let due_ms = 90 * 86_400_000;
        assert!(pseudonyms.is_due(due_ms));
        std::fs::remove_dir_all(&data_dir).expect("removed");
        assert!(pseudonyms.rotate(due_ms).is_err());
        assert!(pseudonyms.trouble().is_some());
        assert!(!pseudonyms.is_due(due_ms + RETRY_EVERY_MS - 1));
        assert!(pseudonyms.is_due(due_ms + RETRY_EVERY_MS));
        assert_eq!(pseudonyms.of(Person::Card, "1"), card);
    }
}
