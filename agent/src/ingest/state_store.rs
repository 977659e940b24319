//! The state of devices on disk, so that it outlives a restart of the agent: states of points, the offset of the
//! clock, and how far the device's memory was read.
//!
//! ```text
//! <data>/states/<source>     version, and the kept state of each device; CBOR and its CRC-32C; replaced whole, synced
//! ```
//!
//! * **Bounded** by [`FILE_BYTES_MAX`]: `POINTS_MAX` points of `NAME_BYTES_MAX` bytes, and twice `DEVICES_MAX` names
//!   of devices (those heard since the start and recalled ones), each with its CBOR prefix. In memory it is about
//!   twice that.
//! * **Written** every [`KEEP_EVERY_S`] s if a state has changed, and once more when everything else has ended. At
//!   rest nothing is written.
//! * **Read** at a start, as the earlier state: so the end of an alarm is reported even if the device sends it only
//!   as a snapshot, and so is an alarm that began while nobody listened.
//! * **Killed**: the states of the last [`KEEP_EVERY_S`] s are missing. An alarm that began within them, and ended
//!   while the agent was away, is not reported as ended if the device sends the end only as a snapshot; an alarm that
//!   ended within them is reported as ended once more. Events were synced before, so none is missing.
//! * **Damaged**, or of another version: a warning names the file, and it is removed. The states are unknown then.
//! * **Full disk**: one warning, a retry each time, and one line when it works again. The file stays as it was.
//! * Files of sources that are no longer in the config are removed at a start.
use linli_shared::protocol::codec::{self, CodecError};
use linli_shared::service::file;
use linli_shared::service::telemetry::chain;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::SourceIngest;
use super::device::Kept;
use super::devices::Devices;

/// Seconds between two writes.
pub const KEEP_EVERY_S: u64 = 10;
/// Largest file: that of a source at all its limits.
pub const FILE_BYTES_MAX: u64 = 10 << 20;
const VERSION: u8 = 2;
const MODE: u32 = 0o600;

#[derive(Serialize)]
struct Written<'a> {
    version: u8,
    devices: Vec<(&'a str, Kept)>,
}

#[derive(Deserialize)]
struct Read {
    version: u8,
    devices: Vec<(String, Kept)>,
}

/// Why a file of states is unusable.
#[derive(Debug, thiserror::Error)]
pub enum BadStates {
    /// The checksum does not match.
    #[error("its checksum is wrong")]
    Damaged,
    /// This version does not write such bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Another version wrote it.
    #[error("it is of version {0}, and this program reads version {VERSION}")]
    Version(u8),
    /// This program writes no file this large.
    #[error("it has {0} bytes, and a source has at most {FILE_BYTES_MAX}")]
    Large(u64),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Encodes the file.
pub fn encode(devices: &Devices) -> Result<Vec<u8>, CodecError> {
    let written = Written {
        version: VERSION,
        devices: devices.kept(),
    };
    let mut bytes = codec::encode("states of points", &written)?;
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    Ok(bytes)
}

/// Decodes a file into devices that were not heard yet.
pub fn decode(bytes: &[u8], devices: &mut Devices) -> Result<(), BadStates> {
    let (body, _) = bytes
        .split_last_chunk::<4>()
        .filter(|(body, crc)| crc32c::crc32c(body) == u32::from_be_bytes(**crc))
        .ok_or(BadStates::Damaged)?;
    let read: Read = codec::decode("states of points", body)?;
    if read.version != VERSION {
        return Err(BadStates::Version(read.version));
    }
    for (device, kept) in read.devices {
        devices.recall(device, kept);
    }
    Ok(())
}

/// Reads a file, if there is one.
fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, BadStates> {
    let length = match std::fs::metadata(path) {
        Ok(of_file) => of_file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > FILE_BYTES_MAX {
        return Err(BadStates::Large(length));
    }
    Ok(Some(std::fs::read(path)?))
}

/// Keeps the states of all sources. Cloneable; all clones are the same.
#[derive(Clone)]
pub(crate) struct StateStore(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    ingests: Vec<SourceIngest>,
    /// The last write failed; locked during a write.
    failing: Mutex<bool>,
}

impl StateStore {
    /// Reads back the states of these sources. Blocking.
    pub fn open(data_dir: &Path, ingests: Vec<SourceIngest>) -> Self {
        let directory = data_dir.join("states");
        for ingest in &ingests {
            let path = directory.join(ingest.name());
            let read = match bytes_of(&path) {
                Ok(Some(bytes)) => ingest.with_devices(|devices| decode(&bytes, devices)),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                tracing::warn!(
                    source = ingest.name(),
                    ?path,
                    error = chain(&error),
                    "states of before the start cannot be read and are taken for unknown"
                );
                // A file that cannot be removed is replaced by the next write.
                let _ = std::fs::remove_file(&path);
            }
        }
        Self(Arc::new(Inner {
            directory,
            ingests,
            failing: Mutex::new(false),
        }))
    }

    /// Removes the files of all other sources. Blocking.
    pub fn remove_others(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if self.0.ingests.iter().all(|ingest| ingest.name() != name) {
                tracing::info!(path = ?entry.path(), "removes what is of no source of the config");
                // A file that stays is tried again at the next start.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Writes the changes, on a thread for blocking work.
    pub async fn keep(&self) {
        let changed = |ingest: &SourceIngest| ingest.with_devices(|devices| devices.is_changed());
        if !self.0.ingests.iter().any(changed) {
            return;
        }
        let keeper = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || keeper.keep_now()).await {
            tracing::error!(%error, "states of points are not kept");
        }
    }

    /// Writes the changes. Blocking.
    pub fn keep_now(&self) {
        let inner = &*self.0;
        let mut failing = inner.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        let mut written = false;
        for ingest in &inner.ingests {
            match inner.write(ingest) {
                Ok(was_changed) => written |= was_changed,
                Err(error) => failed = Some((ingest.name(), error)),
            }
        }
        match failed {
            Some((source, error)) if !*failing => {
                tracing::warn!(
                    source,
                    directory = ?inner.directory,
                    %error,
                    "states of points cannot be written: make room on the disk; until then a start of the agent does not know them"
                );
                *failing = true;
            }
            None if *failing && written => {
                tracing::info!("states of points are written again");
                *failing = false;
            }
            _ => {}
        }
    }
}

impl Inner {
    /// Writes the states of a source. True: there was something to write.
    fn write(&self, ingest: &SourceIngest) -> io::Result<bool> {
        let bytes = ingest.with_devices(|devices| {
            let changed = devices.is_changed();
            devices.set_changed(false);
            changed.then(|| encode(devices))
        });
        let Some(bytes) = bytes else {
            return Ok(false);
        };
        let written = bytes
            .map_err(io::Error::other)
            .and_then(|bytes| self.replace(ingest.name(), &bytes));
        if written.is_err() {
            ingest.with_devices(|devices| devices.set_changed(true));
        }
        written.map(|()| true)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        file::replace(&self.directory.join(name), bytes, MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::devices::{DEVICES_MAX, POINTS_MAX};
    use crate::ingest::states::{News, Staged};

    fn devices(states: &[(&str, &str, bool)]) -> Devices {
        let mut devices = Devices::new(None);
        for (device, point, active) in states {
            let staged = Staged {
                device: (*device).to_owned(),
                point: (*point).to_owned(),
                active: *active,
                at_ms: None,
                arrived_ms: 0,
            };
            devices.apply(staged, 0);
        }
        devices
    }

    fn news(devices: &Devices, device: &str, point: &str, active: bool) -> News {
        let staged = Staged {
            device: device.to_owned(),
            point: point.to_owned(),
            active,
            at_ms: None,
            arrived_ms: 0,
        };
        devices.news(&staged, true, false)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let written = devices(&[
            ("闸机", "门/1", true),
            ("闸机", "锁", false),
            ("b", "", true),
        ]);
        let bytes = encode(&written).expect("bytes");
        let mut read = Devices::new(None);
        decode(&bytes, &mut read).expect("a file");
        assert_eq!(news(&read, "闸机", "门/1", false), News::Changed);
        assert_eq!(news(&read, "闸机", "锁", false), News::Noted);
        assert_eq!(news(&read, "b", "", true), News::Changed);
        let sorted = |devices: &Devices| {
            let mut states: Vec<String> = devices
                .kept()
                .into_iter()
                .flat_map(|(device, kept)| {
                    kept.states
                        .into_iter()
                        .map(move |(point, active)| format!("{device} {point} {active}"))
                })
                .collect();
            states.sort();
            states
        };
        assert_eq!(sorted(&read), sorted(&written));
        assert!(!read.is_changed());
    }

    #[test]
    fn a_file_of_as_much_as_there_may_be_keeps_to_its_bound() {
        // Devices recalled and heard, with longer names and in larger numbers than the limits.
        let mut all = Devices::new(None);
        let name = |first: char, number: usize| format!("{first}{number:0>127}");
        let each = POINTS_MAX / (2 * DEVICES_MAX);
        for device in 0..DEVICES_MAX + 10 {
            let points = (0..each).map(|point| (name('p', point), true));
            let long = ("p".repeat(900_000), true);
            let kept = Kept {
                states: std::iter::once(long).chain(points).collect(),
                ..Kept::default()
            };
            all.recall(name('r', device), kept);
        }
        let kept = Kept {
            states: vec![("p".to_owned(), true)],
            ..Kept::default()
        };
        all.recall("d".repeat(900_000), kept);
        for device in 0..DEVICES_MAX + 10 {
            for point in 0..each {
                let staged = Staged {
                    device: name('d', device),
                    point: name('p', point),
                    active: true,
                    at_ms: None,
                    arrived_ms: 0,
                };
                all.apply(staged, 0);
            }
        }
        let kept = all.kept();
        let points: usize = kept.iter().map(|(_, kept)| kept.states.len()).sum();
        assert_eq!((kept.len(), points), (2 * DEVICES_MAX, POINTS_MAX));
        let bytes = encode(&all).expect("bytes").len() as u64;
        assert!(bytes <= FILE_BYTES_MAX, "{bytes}");
        assert!(bytes > FILE_BYTES_MAX * 9 / 10, "{bytes}");
    }

    #[test]
    fn damage_anywhere_is_seen_and_nothing_of_the_file_is_known() {
        let bytes = encode(&devices(&[("d", "p", true), ("d", "q", false)])).expect("bytes");
        for at in 0..bytes.len() {
            let cut = &bytes[..at];
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            for damaged in [cut, &flipped] {
                let mut read = Devices::new(None);
                assert!(decode(damaged, &mut read).is_err(), "byte {at}");
                assert!(read.kept().is_empty());
            }
        }
    }

    #[test]
    fn a_file_of_another_version_is_named_so() {
        let written = Written {
            version: 9,
            devices: Vec::new(),
        };
        let mut bytes = codec::encode("test", &written).expect("bytes");
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        let refused = decode(&bytes, &mut Devices::new(None));
        assert!(matches!(refused, Err(BadStates::Version(9))));
    }
}
