//! The inbox on disk: messages that were acknowledged to the hub, until the station's system has them.
//!
//! ```text
//! <data>/stations/
//!   marks       the last number stored and the last one removed; CBOR and its CRC-32C; replaced whole
//!   i-<n>/      the records: one sled database; the one with the highest n is the newest
//!   tmp/        a database that is being made, or a copy that is read; removed at start
//! ```
//!
//! A record is a [`Held`]: key = number of the message (u64, big-endian), value = its packed CBOR.
//!
//! # Rules
//! * **Written**: a message counts as stored after sled has flushed it, its log is synced, and the new `marks` are
//!   synced. Then it is acknowledged to the hub.
//! * **Once**: a number that is not above the last one stored is a repetition and is dropped.
//! * **Removed**: by `marks`, in one replacement of the file. Records are never deleted one by one: a database whose
//!   removed records outnumber the rest is rewritten without them. So sled never reuses a segment that is not synced.
//! * **Opened**: everything is read and rewritten, synced, so that nothing depends on a sync that failed. sled
//!   changes a database that it opens, so it opens a copy: the original stays unchanged until the new database is
//!   synced.
//! * **Damaged**: each record names the number before it, and `marks` the last one. Where the chain breaks, later
//!   messages are given up here and a lower number is reported to the hub: it sends them again, under the same
//!   numbers.
//! * **Full**: above [`Limits`], or with less than [`FREE_BYTES_MIN`] free, nothing more is stored.
use linli_shared::protocol::codec;
use linli_shared::protocol::frame::CaseStatus;
use linli_shared::protocol::limits::{KIND_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use linli_shared::service::file::{self, sync_directory};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};

use linli_spool::disk;
use linli_spool::sled_log::{SledLog, Trouble};

/// Removed records that a database may hold before it is rewritten, unless more than that still wait.
const REMOVED_RECORDS_MAX: usize = 512;
/// Bytes of disk that stay free: alarms need them more.
const FREE_BYTES_MIN: u64 = 8 << 20;
const MARKS: &str = "marks";
const TEMPORARY: &str = "tmp";
const MARKS_MODE: u32 = 0o600;

/// Limits of the inbox.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes of their records.
    pub bytes_max: u64,
}

/// A waiting message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Arrival, milliseconds since 1970 UTC.
    pub received_ms: i64,
    /// The number stored before it; 0 for the first.
    pub before: u64,
    /// The message.
    pub status: CaseStatus,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Marks {
    stored: u64,
    removed: u64,
}

struct Entry {
    number: u64,
    received_ms: i64,
    bytes: u64,
}

/// The inbox, open.
pub struct Inbox {
    directory: PathBuf,
    limits: Limits,
    records: SledLog,
    /// Directory of the database.
    place: PathBuf,
    /// Number of the next database.
    next_place: u64,
    marks: Marks,
    waiting: VecDeque<Entry>,
    bytes: u64,
    /// Removed records in the database.
    removed_records: usize,
}

impl Inbox {
    /// Opens the existing inbox, or begins a new one.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, Trouble> {
        std::fs::create_dir_all(directory)?;
        let marks = read_marks(directory)?;
        let (mut found, places) = read_all(directory)?;
        let removed = marks.map_or(0, |marks| marks.removed);
        found.retain(|number, _| *number > removed);
        let mut stored = removed;
        let mut whole = Vec::new();
        for (number, held) in found {
            if held.before > stored || held.status.id != number {
                break;
            }
            stored = number;
            whole.push(held);
        }
        let expected = marks.map_or(stored, |marks| marks.stored);
        if stored < expected {
            tracing::error!(
                stored,
                expected,
                "messages to the station are damaged on this disk: the hub is asked for them again"
            );
        }
        let next_place = places.iter().map(|(n, _)| n + 1).max().unwrap_or(0);
        let (records, place) = make(directory, next_place, &whole)?;
        for (_, old) in &places {
            std::fs::remove_dir_all(old)?;
        }
        let mut inbox = Self {
            directory: directory.to_owned(),
            limits,
            records,
            place,
            next_place: next_place + 1,
            marks: Marks { stored, removed },
            waiting: VecDeque::new(),
            bytes: 0,
            removed_records: 0,
        };
        for held in &whole {
            let bytes = encoded(held)?.len() as u64;
            inbox.note(held, bytes);
        }
        inbox.write_marks(inbox.marks)?;
        Ok(inbox)
    }

    /// The last number on disk, whether it still waits or not.
    pub fn stored(&self) -> u64 {
        self.marks.stored
    }

    /// The last removed number.
    pub fn removed(&self) -> u64 {
        self.marks.removed
    }

    /// Waiting messages.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of their records.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Arrival of the oldest of them.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.waiting.front().map(|entry| entry.received_ms)
    }

    /// Stores messages from the front as far as there is room, and takes off those that are stored or were stored
    /// before; durable when it returns. Returns why not all, if so.
    pub fn store(
        &mut self,
        coming: &mut VecDeque<CaseStatus>,
        now_ms: i64,
    ) -> Result<Option<String>, Trouble> {
        coming.retain(|status| status.id > self.marks.stored);
        if coming.is_empty() {
            return Ok(None);
        }
        let free_bytes = disk::free_bytes(&self.directory)?;
        if free_bytes < FREE_BYTES_MIN {
            return Ok(Some(format!(
                "the disk has {free_bytes} bytes free, less than the {FREE_BYTES_MIN} that must stay: make room on it"
            )));
        }
        let mut batch: Vec<(Held, Vec<u8>)> = Vec::new();
        let mut full = None;
        let (mut messages, mut bytes) = (self.waiting.len(), self.bytes);
        let mut before = self.marks.stored;
        for status in coming.iter() {
            let held = Held {
                received_ms: now_ms,
                before,
                status: bounded(status.clone()),
            };
            let record = encoded(&held)?;
            messages += 1;
            bytes += record.len() as u64;
            if messages > self.limits.messages_max || bytes > self.limits.bytes_max {
                full = Some(format!(
                    "the inbox of the station is full with {} messages of {} bytes: check why its system takes none, \
                     or raise [station] messages_max and bytes_max; the hub keeps the others",
                    self.waiting.len() + batch.len(),
                    bytes - record.len() as u64
                ));
                break;
            }
            before = status.id;
            batch.push((held, record));
        }
        if let Some((last, _)) = batch.last() {
            let marks = Marks {
                stored: last.status.id,
                ..self.marks
            };
            let records = batch
                .iter()
                .map(|(held, record)| (held.status.id, record.as_slice()));
            self.records.commit(records, SledLog::sync)?;
            self.write_marks(marks)?;
            for (held, record) in &batch {
                self.note(held, record.len() as u64);
            }
            coming.drain(..batch.len());
        }
        Ok(full)
    }

    /// Reads waiting messages above a number, in order, at most `limit`.
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<Held>, Trouble> {
        let after = after.max(self.marks.removed);
        let mut found = Vec::new();
        if limit == 0 || after >= self.marks.stored {
            return Ok(found);
        }
        self.records.around(after + 1, |bytes| {
            let held = decoded(bytes)?;
            if held.status.id > after {
                found.push(held);
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// Records that the station's system has everything up to a number; returns how many of them waited. Durable when
    /// it returns.
    pub fn remove(&mut self, through: u64) -> Result<usize, Trouble> {
        let through = through.min(self.marks.stored);
        if through <= self.marks.removed {
            return Ok(0);
        }
        let count = self
            .waiting
            .iter()
            .take_while(|entry| entry.number <= through)
            .count();
        self.write_marks(Marks {
            removed: through,
            ..self.marks
        })?;
        for entry in self.waiting.drain(..count) {
            self.bytes -= entry.bytes;
        }
        self.removed_records += count;
        if self.removed_records >= REMOVED_RECORDS_MAX.max(self.waiting.len()) {
            self.write_anew()?;
        }
        Ok(count)
    }

    /// Writes the waiting records into a new database.
    fn write_anew(&mut self) -> Result<(), Trouble> {
        let whole = self.read(self.marks.removed, self.waiting.len())?;
        let (records, place) = make(&self.directory, self.next_place, &whole)?;
        self.next_place += 1;
        let old = std::mem::replace(&mut self.records, records);
        let old_place = std::mem::replace(&mut self.place, place);
        self.removed_records = 0;
        old.close()?;
        std::fs::remove_dir_all(old_place)?;
        Ok(())
    }

    /// Closes the database.
    pub fn close(self) -> Result<(), Trouble> {
        self.records.close()
    }

    fn note(&mut self, held: &Held, bytes: u64) {
        self.bytes += bytes;
        self.waiting.push_back(Entry {
            number: held.status.id,
            received_ms: held.received_ms,
            bytes,
        });
    }

    fn write_marks(&mut self, marks: Marks) -> Result<(), Trouble> {
        let mut bytes = codec::encode("marks", &marks).map_err(damage)?;
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        file::replace(&self.directory.join(MARKS), &bytes, MARKS_MODE)?;
        self.marks = marks;
        Ok(())
    }
}

/// Bounds the texts of a message. Those of a hub are bounded already; a record must fit sled's log whoever sends it.
fn bounded(mut status: CaseStatus) -> CaseStatus {
    for (text, bytes_max) in [
        (&mut status.case, NAME_BYTES_MAX),
        (&mut status.source, NAME_BYTES_MAX),
        (&mut status.source_id, NAME_BYTES_MAX),
        (&mut status.state, NAME_BYTES_MAX),
        (&mut status.text, TEXT_BYTES_MAX),
        (&mut status.kind, KIND_BYTES_MAX),
    ] {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    status
}

fn damage(error: impl std::fmt::Display) -> Trouble {
    Trouble::Damage(error.to_string())
}

fn encoded(held: &Held) -> Result<Vec<u8>, Trouble> {
    codec::encode("message to the station", held).map_err(damage)
}

fn decoded(bytes: &[u8]) -> Result<Held, Trouble> {
    codec::decode("message to the station", bytes).map_err(damage)
}

/// Reads the marks. `None`: there are none, or they are unreadable, and the records decide.
fn read_marks(directory: &Path) -> Result<Option<Marks>, Trouble> {
    let bytes = match std::fs::read(directory.join(MARKS)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let marks = bytes
        .split_last_chunk::<4>()
        .filter(|(body, crc)| crc32c::crc32c(body) == u32::from_be_bytes(**crc))
        .and_then(|(body, _)| codec::decode("marks", body).ok());
    if marks.is_none() {
        tracing::error!(
            "the marks of messages to the station are damaged: some may be delivered once more"
        );
    }
    Ok(marks)
}

/// All readable records, and the databases that hold them.
#[expect(clippy::type_complexity, reason = "two lists that belong together")]
fn read_all(directory: &Path) -> Result<(BTreeMap<u64, Held>, Vec<(u64, PathBuf)>), Trouble> {
    let mut found = BTreeMap::new();
    let mut places = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == TEMPORARY {
            std::fs::remove_dir_all(entry.path())?;
        } else if let Some(number) = name.strip_prefix("i-").and_then(|text| text.parse().ok()) {
            places.push((number, entry.path()));
        }
    }
    places.sort();
    for (_, place) in &places {
        let copy = directory.join(TEMPORARY);
        copy_files(place, &copy)?;
        let read = SledLog::open(&copy).and_then(|records| {
            let read = records.all(|_, value| {
                let held = decoded(value)?;
                found.insert(held.status.id, held);
                Ok(())
            });
            read.and(records.close())
        });
        std::fs::remove_dir_all(&copy)?;
        match read {
            Ok(()) => {}
            // Records read before the damage count, as far as the chain goes.
            Err(Trouble::Damage(reason)) => {
                tracing::error!(?place, reason, "messages to the station are damaged");
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok((found, places))
}

/// Copies the files of a database; sled uses no subdirectories for it.
fn copy_files(from: &Path, to: &Path) -> Result<(), Trouble> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes a database with these records, complete and synced or not at all, and opens it.
fn make(directory: &Path, number: u64, whole: &[Held]) -> Result<(SledLog, PathBuf), Trouble> {
    let temporary = directory.join(TEMPORARY);
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary)?;
    }
    let encoded: Vec<(u64, Vec<u8>)> = whole
        .iter()
        .map(|held| Ok((held.status.id, encoded(held)?)))
        .collect::<Result<_, Trouble>>()?;
    let records = SledLog::open(&temporary)?;
    let numbered = encoded
        .iter()
        .map(|(number, record)| (*number, record.as_slice()));
    records.commit(numbered, SledLog::sync)?;
    records.close()?;
    for entry in std::fs::read_dir(&temporary)?.flatten() {
        File::open(entry.path())?.sync_all()?;
    }
    sync_directory(&temporary)?;
    let place = directory.join(format!("i-{number:020}"));
    std::fs::rename(&temporary, &place)?;
    sync_directory(directory)?;
    Ok((SledLog::open(&place)?, place))
}

#[cfg(test)]
mod tests;
