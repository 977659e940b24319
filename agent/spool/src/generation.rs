//! One generation: a sled database that is filled, read and deleted as a whole.
//!
//! sled opens only databases that this process created and has not closed since. Closed ones are read by
//! [`chunk_file`], which changes nothing.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, ChunkError};
use linli_shared::protocol::ids::Sequence;
use std::io;
use std::path::{Path, PathBuf};

use super::chunk_file::{self, Scanned, Wanted};
use super::{Progress, disk};
use crate::sled_log::{SledLog, UNSYNCED_BYTES_MAX};

pub use crate::sled_log::Trouble;

impl From<ChunkError> for Trouble {
    fn from(error: ChunkError) -> Self {
        Self::Damage(error.to_string())
    }
}

/// One generation of a lane.
pub struct Generation {
    /// Sequence of its first event.
    pub first: Sequence,
    /// The sequence after the last event.
    pub end: Sequence,
    /// Bytes of its chunks.
    pub chunk_bytes: u64,
    /// Size of its files when last measured, bytes.
    pub disk_bytes: u64,
    /// Number of keys up to and including this generation, see `seen`.
    pub keys_end: u64,
    directory: PathBuf,
    log: Option<SledLog>,
    /// No longer written to.
    pub is_sealed: bool,
    /// A sync failed. The kernel reports that once and may have dropped the pages: data read from memory may
    /// not be on disk, and no later sync would report it.
    pub is_distrusted: bool,
}

/// Name of a generation's directory.
pub fn name(prefix: &str, first: Sequence) -> String {
    format!("{prefix}-{:020}", first.0)
}

/// Writes chunks to a database; durable on return. Counts the syncs, and sets whether one failed.
fn write(
    log: &SledLog,
    chunks: &[Chunk],
    syncs: &mut u64,
    has_sync_failed: &mut bool,
) -> Result<(), Trouble> {
    let records = chunks
        .iter()
        .map(|chunk| (chunk.header().first.0, chunk.bytes().as_ref()));
    log.commit(records, |log| {
        *has_sync_failed = true;
        log.sync()?;
        *has_sync_failed = false;
        *syncs += 1;
        Ok(())
    })
}

/// Creates a generation with these chunks under `prefix`: complete and synced, or not at all.
pub fn make(
    parent: &Path,
    prefix: &str,
    first: Sequence,
    chunks: impl Iterator<Item = Result<Chunk, Trouble>>,
) -> Result<PathBuf, Trouble> {
    let temporary = parent.join(name("tmp", first));
    if temporary.exists() {
        disk::remove(&temporary)?;
    }
    let directory = parent.join(name(prefix, first));
    let made = fill(&temporary, chunks).and_then(|()| {
        disk::sync_filled_directory(&temporary)?;
        disk::rename(&temporary, &directory)?;
        Ok(disk::sync_directory(parent)?)
    });
    if made.is_err() {
        // On a full disk it would occupy needed space. If this fails, the next start removes it.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    made.map(|()| directory)
}

fn fill(
    directory: &Path,
    chunks: impl Iterator<Item = Result<Chunk, Trouble>>,
) -> Result<(), Trouble> {
    let log = SledLog::open(directory)?;
    let write = |chunks: &[Chunk]| write(&log, chunks, &mut 0, &mut false);
    let mut bytes = 0;
    let mut gathered = Vec::new();
    for chunk in chunks {
        let chunk = chunk?;
        bytes += chunk.bytes().len();
        gathered.push(chunk);
        if bytes >= UNSYNCED_BYTES_MAX / 2 {
            write(&gathered)?;
            gathered.clear();
            bytes = 0;
        }
    }
    write(&gathered)?;
    log.close()
}

impl Generation {
    /// A new, empty generation.
    pub fn create(parent: &Path, first: Sequence, keys_end: u64) -> Result<Self, Trouble> {
        let directory = make(parent, "g", first, std::iter::empty())?;
        let mut created = Self::sealed(directory, first, first, keys_end);
        created.is_sealed = false;
        Ok(created)
    }

    /// A read-only generation on disk.
    pub fn sealed(directory: PathBuf, first: Sequence, end: Sequence, keys_end: u64) -> Self {
        Self {
            first,
            end,
            chunk_bytes: 0,
            disk_bytes: disk::used_bytes(&directory),
            keys_end,
            directory,
            log: None,
            is_sealed: true,
            is_distrusted: false,
        }
    }

    /// Opens it for writing. This process must have just written it.
    pub fn unseal(&mut self) -> Result<(), Trouble> {
        self.log = Some(SledLog::open(&self.directory)?);
        self.is_sealed = false;
        Ok(())
    }

    /// Closes the database permanently.
    pub fn seal(&mut self) {
        self.is_sealed = true;
        if let Some(log) = self.log.take() {
            let file = self.directory.join("db");
            // sled may write while closing.
            let closed = log.close().and_then(|()| {
                let opened = std::fs::File::open(&file)?;
                Ok(disk::sync_file(&opened, &file)?)
            });
            if let Err(reason) = closed {
                tracing::warn!(directory = ?self.directory, %reason, "closing a generation failed");
            }
            self.disk_bytes = disk::used_bytes(&self.directory);
        }
    }

    /// Appends chunks; durable on return. Returns the number of syncs.
    pub fn append(&mut self, chunks: &[Chunk]) -> Result<u64, Trouble> {
        let log = match self.log.take() {
            Some(log) => log,
            // It is still empty, so sled cannot rewrite anything.
            None => SledLog::open(&self.directory)?,
        };
        let log = self.log.insert(log);
        let mut syncs = 0;
        write(log, chunks, &mut syncs, &mut self.is_distrusted)?;
        for chunk in chunks {
            self.chunk_bytes += chunk.bytes().len() as u64;
            self.end = chunk.header().end();
        }
        self.disk_bytes = log.file_bytes()?;
        Ok(syncs)
    }

    /// Reads chunks of the generation being written, from the one that contains `from`, up to about
    /// `bytes_max`.
    pub fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Chunk>, Trouble> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let Some(log) = &self.log else {
            return Ok(chunks);
        };
        log.around(from.0, |value| {
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

    /// Finds the chunks of a sealed generation.
    pub fn scan(&self, wanted: Wanted) -> io::Result<Scanned> {
        let mut scanned = chunk_file::scan(&self.directory, wanted, &Progress::default())?;
        scanned.retain(self.first, self.end, self.end);
        Ok(scanned)
    }

    /// Removes the files.
    pub fn delete(mut self, parent: &Path) -> io::Result<()> {
        if let Some(log) = self.log.take() {
            // Its data are no longer needed.
            let _ = log.close();
        }
        set_aside(parent, &self.directory, self.first)
    }

    /// Number of files in `blobs/`, where sled puts values too large for its log: must be 0.
    pub fn blob_files(&self) -> u64 {
        std::fs::read_dir(self.directory.join("blobs"))
            .map(|entries| entries.count() as u64)
            .unwrap_or(0)
    }
}

/// Removes a generation: first renamed to a name that a start removes, so that a partial one is never found.
pub fn set_aside(parent: &Path, directory: &Path, first: Sequence) -> io::Result<()> {
    let temporary = parent.join(name("tmp", first));
    if temporary.exists() {
        disk::remove(&temporary)?;
    }
    disk::rename(directory, &temporary)?;
    disk::remove(&temporary)
}
