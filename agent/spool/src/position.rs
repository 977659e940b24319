//! The `position` file: the position of a lane's sequences. CBOR and its CRC-32C, replaced atomically.
use linli_shared::protocol::codec;
use linli_shared::protocol::ids::{Epoch, Sequence};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk;

/// Why a range is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostReason {
    /// The disk returned data that differ from the written ones.
    Damage,
    /// The quota was reached and the config says to drop the oldest generation.
    Quota,
    /// The hub asks for events that it acknowledged before: it was restored to an older state.
    Deleted,
}

impl LostReason {
    /// The word on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Quota => "quota",
            Self::Deleted => "deleted",
        }
    }
}

/// A range of sequences that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// First missing sequence.
    pub first: Sequence,
    /// The sequence after the last missing one.
    pub end: Sequence,
    /// Reason.
    pub reason: LostReason,
}

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epoch of the lane's sequences.
    pub epoch: Epoch,
    /// Sequence of the next event.
    pub next: Sequence,
    /// First unacknowledged sequence.
    pub acked: Sequence,
    /// Lost ranges that the hub has not acknowledged, in order.
    pub lost: Vec<LostRange>,
}

impl Position {
    /// The position of a new epoch.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            next: Sequence(0),
            acked: Sequence(0),
            lost: Vec::new(),
        }
    }

    /// Loads the position; `None` if the file is missing or damaged.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((body, checksum)) = bytes.split_last_chunk::<4>() else {
            return Ok(None);
        };
        if crc32c::crc32c(body).to_be_bytes() != *checksum {
            return Ok(None);
        }
        Ok(codec::decode("position", body).ok())
    }

    /// Replaces the file; durable on return.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let mut bytes = codec::encode("position", self).map_err(io::Error::other)?;
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        disk::replace(path, &bytes)
    }

    /// Adds a lost range in order. Adjoining ranges with the same reason are merged.
    pub fn add_lost(&mut self, range: LostRange) {
        if range.end <= range.first {
            return;
        }
        let at = self.lost.partition_point(|known| known.first < range.first);
        self.lost.insert(at, range);
        let mut joined: Vec<LostRange> = Vec::with_capacity(self.lost.len());
        for range in self.lost.drain(..) {
            match joined.last_mut() {
                Some(last) if range.first <= last.end && last.reason == range.reason => {
                    last.end = last.end.max(range.end);
                }
                _ => joined.push(range),
            }
        }
        self.lost = joined;
    }

    /// Removes ranges that the hub has acknowledged.
    pub fn forget_lost(&mut self) {
        let acked = self.acked;
        self.lost.retain(|range| range.end > acked);
    }
}

/// The `high` file: the sequence after the last synced event, written after each sync and never synced
/// itself. It survives a killed process, and is never ahead of the database after a power cut. So if it is
/// ahead, the database was damaged, and the extent is known.
pub struct HighMark(File);

impl HighMark {
    /// Opens the file; creates it if it does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map(Self)
    }

    /// The mark; `None` if it is missing or truncated.
    pub fn load(&self) -> Option<Sequence> {
        let mut bytes = [0; 12];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body).to_be_bytes() != *checksum {
            return None;
        }
        Some(Sequence(u64::from_be_bytes(*body.first_chunk()?)))
    }

    /// Writes the mark, without a sync.
    pub fn store(&self, next: Sequence) -> io::Result<()> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&next.0.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&checksum.to_be_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
