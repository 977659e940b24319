//! One generation: a sled database that is filled, read and deleted as a whole.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, ChunkError};
use linli_shared::protocol::ids::{Epoch, Lane, Sequence};
use linli_shared::service::file::sync_directory;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{carve, disk};
use crate::sled_log::SledLog;

pub use crate::sled_log::Trouble;

impl From<ChunkError> for Trouble {
    fn from(error: ChunkError) -> Self {
        Self::Damage(error.to_string())
    }
}

pub struct Generation {
    pub first: Sequence,
    /// After the last event.
    pub end: Sequence,
    /// Bytes of its chunks.
    pub chunk_bytes: u64,
    /// Bytes of its files when it was last looked at.
    pub disk_bytes: u64,
    /// Number of source ids up to and with this generation, see `seen`.
    pub keys_end: u64,
    directory: PathBuf,
    opened: Option<SledLog>,
    /// A sync failed. The kernel says so once and may have dropped the pages: what reads from memory
    /// is perhaps not on disk, and no later sync would tell.
    pub distrusted: bool,
}

/// What a generation on disk holds.
pub struct Loaded {
    pub chunks: BTreeMap<Sequence, Chunk>,
    /// Why it must be replaced by what could be read of it.
    pub damage: Option<String>,
}

/// What is expected of a generation before it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub lane: Lane,
    pub epoch: Epoch,
    /// Everything below was synced; above it, chunks that are whole may never have been acknowledged.
    pub synced: Sequence,
}

/// Name of a generation's directory.
pub fn name(prefix: &str, first: Sequence) -> String {
    format!("{prefix}-{:020}", first.0)
}

/// Chunks as they are stored: by the sequence of their first event.
fn records(chunks: &[Chunk]) -> impl Iterator<Item = (u64, &[u8])> {
    chunks
        .iter()
        .map(|chunk| (chunk.header().first.0, chunk.bytes().as_ref()))
}

/// Makes a generation with these chunks under `prefix`, whole and synced or not at all.
pub fn make(
    parent: &Path,
    prefix: &str,
    first: Sequence,
    chunks: &[Chunk],
) -> Result<PathBuf, Trouble> {
    let temporary = parent.join(name("tmp", first));
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary)?;
    }
    let opened = SledLog::open(&temporary)?;
    opened.write(records(chunks))?;
    opened.sync()?;
    opened.close()?;
    for entry in std::fs::read_dir(&temporary)?.flatten() {
        File::open(entry.path())?.sync_all()?;
    }
    sync_directory(&temporary)?;
    let directory = parent.join(name(prefix, first));
    std::fs::rename(&temporary, &directory)?;
    sync_directory(parent)?;
    Ok(directory)
}

impl Generation {
    /// A new, empty generation.
    pub fn create(parent: &Path, first: Sequence, keys_end: u64) -> Result<Self, Trouble> {
        let directory = make(parent, "g", first, &[])?;
        Ok(Self::at(directory, first, first, keys_end))
    }

    /// A generation that is on disk; nothing is opened yet.
    pub fn at(directory: PathBuf, first: Sequence, end: Sequence, keys_end: u64) -> Self {
        Self {
            first,
            end,
            chunk_bytes: 0,
            disk_bytes: disk::used_bytes(&directory),
            keys_end,
            directory,
            opened: None,
            distrusted: false,
        }
    }

    /// Reads everything: first by way of the bytes of its file, for a damaged one loses more when the
    /// database opens and tidies it, then by way of the database.
    pub fn load(directory: &Path, expected: Expected) -> Result<Loaded, Trouble> {
        let Expected {
            lane,
            epoch,
            synced,
        } = expected;
        let carved = carve::chunks(&directory.join("db"), lane, Some(epoch))?;
        let mut chunks = BTreeMap::new();
        let scanned = SledLog::open(directory).and_then(|opened| {
            let result = opened.all(|key, value| {
                let chunk = Chunk::parse(&Bytes::copy_from_slice(value))?;
                let header = chunk.header();
                if key != header.first.0.to_be_bytes()
                    || header.lane != lane
                    || header.epoch != epoch
                {
                    let reason = "a record is not where it belongs".to_owned();
                    return Err(Trouble::Damage(reason));
                }
                chunks.insert(header.first, chunk);
                Ok(())
            });
            result.and(opened.close())
        });
        let mut damage = match scanned {
            Ok(()) => None,
            Err(Trouble::Damage(reason)) => Some(reason),
            Err(trouble) => return Err(trouble),
        };
        for (first, chunk) in carved {
            // Beyond what was synced, a chunk that does not follow the one before is a write that a
            // power cut tore: nobody was told that it is stored.
            let follows = chunks
                .last_key_value()
                .is_none_or(|(_, last): (_, &Chunk)| last.header().end() == first);
            if !chunks.contains_key(&first) && (first < synced || follows) {
                chunks.insert(first, chunk);
                damage.get_or_insert_with(|| "records are missing from its index".to_owned());
            }
        }
        Ok(Loaded { chunks, damage })
    }

    fn open(&mut self) -> Result<&SledLog, Trouble> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => SledLog::open(&self.directory)?,
        };
        Ok(self.opened.insert(opened))
    }

    /// Lets go of the database; the files stay.
    pub fn close(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.disk_bytes = disk::used_bytes(&self.directory);
            if let Err(reason) = opened.close() {
                tracing::warn!(directory = ?self.directory, %reason, "closing a generation failed");
            }
        }
    }

    /// Appends chunks; durable when it returns.
    pub fn append(&mut self, chunks: &[Chunk]) -> Result<(), Trouble> {
        let opened = self.open()?;
        opened.write(records(chunks))?;
        if let Err(trouble) = opened.sync() {
            self.distrusted = true;
            return Err(trouble);
        }
        for chunk in chunks {
            self.chunk_bytes += chunk.bytes().len() as u64;
            self.end = chunk.header().end();
        }
        if let Some(opened) = &self.opened {
            self.disk_bytes = opened.file_bytes()?;
        }
        Ok(())
    }

    /// Chunks from the one that holds `from` on, up to about `bytes_max`.
    pub fn read(&mut self, from: Sequence, bytes_max: usize) -> Result<Vec<Chunk>, Trouble> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        self.open()?.around(from.0, |value| {
            let chunk = Chunk::parse(&Bytes::copy_from_slice(value))?;
            if chunk.header().end() <= from {
                return Ok(true);
            }
            bytes += chunk.bytes().len();
            if bytes > bytes_max && !chunks.is_empty() {
                return Ok(false);
            }
            chunks.push(chunk);
            Ok(true)
        })?;
        Ok(chunks)
    }

    /// Removes the files.
    pub fn delete(mut self) -> io::Result<()> {
        self.close();
        std::fs::remove_dir_all(&self.directory)
    }

    /// Files in `blobs/`, where sled puts what is too large for its log: there must be none.
    pub fn blob_files(&self) -> u64 {
        std::fs::read_dir(self.directory.join("blobs"))
            .map(|entries| entries.count() as u64)
            .unwrap_or(0)
    }
}
