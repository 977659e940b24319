//! One generation: a sled database that is filled, read and deleted as a whole.
//!
//! sled panics on damage. Every call into it goes through [`guarded`], which turns a panic into an
//! error; the handle is not used again after one.
use bytes::Bytes;
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::ids::{Epoch, Lane, Sequence};
use linli_shared::service::file::sync_directory;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{carve, disk};

const SEGMENT_BYTES: usize = 512 * 1024;
/// sled does not keep to it, but a small one makes it let go early.
const CACHE_BYTES: u64 = 1 << 20;
/// Opening right after closing can fail because the lock of the old handle is let go late.
const OPEN_TRIES: u32 = 60;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// Runs a call into sled; a panic becomes an error text.
pub fn guarded<T>(
    what: &'static str,
    call: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|reason| format!("{what}: {reason}")),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            Err(format!("{what}: the database panicked: {text}"))
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Opened {
    db: sled::Db,
    /// The log file, for the sync that sled leaves out.
    file: File,
}

impl Opened {
    fn open(directory: &Path) -> Result<Self, String> {
        let mut tries = 0;
        loop {
            let opened = guarded("opening", || {
                sled::Config::new()
                    .path(directory)
                    .segment_size(SEGMENT_BYTES)
                    .cache_capacity(CACHE_BYTES)
                    .flush_every_ms(None)
                    .open()
                    .map_err(text)
            });
            tries += 1;
            match opened {
                Ok(db) => {
                    let file = File::open(directory.join("db")).map_err(text)?;
                    return Ok(Self { db, file });
                }
                Err(reason) if reason.contains("WouldBlock") && tries < OPEN_TRIES => {
                    std::thread::sleep(OPEN_PAUSE);
                }
                Err(reason) => return Err(reason),
            }
        }
    }

    fn write(&self, chunks: &[Chunk]) -> Result<(), String> {
        guarded("writing", || {
            for chunk in chunks {
                let key = chunk.header().first.0.to_be_bytes();
                self.db.insert(key, chunk.bytes().as_ref()).map_err(text)?;
            }
            self.db.flush().map_err(text)?;
            self.file.sync_data().map_err(text)
        })
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
    opened: Option<Opened>,
}

/// What a generation on disk holds.
pub struct Loaded {
    pub chunks: BTreeMap<Sequence, Chunk>,
    /// Why it must be replaced by what could be read of it.
    pub damage: Option<String>,
}

/// Name of a generation's directory.
pub fn name(prefix: &str, first: Sequence) -> String {
    format!("{prefix}-{:020}", first.0)
}

/// Makes a generation with these chunks under `prefix`, whole and synced or not at all.
pub fn make(
    parent: &Path,
    prefix: &str,
    first: Sequence,
    chunks: &[Chunk],
) -> Result<PathBuf, String> {
    let temporary = parent.join(name("tmp", first));
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary).map_err(text)?;
    }
    let opened = Opened::open(&temporary)?;
    opened.write(chunks)?;
    guarded("closing", || {
        drop(opened);
        Ok(())
    })?;
    for entry in std::fs::read_dir(&temporary).map_err(text)?.flatten() {
        File::open(entry.path())
            .and_then(|file| file.sync_all())
            .map_err(text)?;
    }
    sync_directory(&temporary).map_err(text)?;
    let directory = parent.join(name(prefix, first));
    std::fs::rename(&temporary, &directory).map_err(text)?;
    sync_directory(parent).map_err(text)?;
    Ok(directory)
}

impl Generation {
    /// A new, empty generation.
    pub fn create(parent: &Path, first: Sequence, keys_end: u64) -> Result<Self, String> {
        let directory = make(parent, "g", first, &[])?;
        let mut generation = Self::at(directory, first, first, keys_end);
        generation.open()?;
        Ok(generation)
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
        }
    }

    /// Reads everything, by way of the database and by way of the bytes of its file.
    pub fn load(directory: &Path, lane: Lane, epoch: Epoch) -> Result<Loaded, io::Error> {
        let mut damage = None;
        let mut chunks = BTreeMap::new();
        let scanned = Opened::open(directory).and_then(|opened| {
            let result = guarded("reading", || {
                for record in opened.db.iter() {
                    let (key, value) = record.map_err(text)?;
                    let chunk = Chunk::parse(&Bytes::copy_from_slice(&value)).map_err(text)?;
                    let header = chunk.header();
                    if key.as_ref() != header.first.0.to_be_bytes()
                        || header.lane != lane
                        || header.epoch != epoch
                    {
                        return Err("a record is not where it belongs".to_owned());
                    }
                    chunks.insert(header.first, chunk);
                }
                Ok(())
            });
            let closed = guarded("closing", || {
                drop(opened);
                Ok(())
            });
            result.and(closed)
        });
        if let Err(reason) = scanned {
            damage = Some(reason);
        }
        for (first, chunk) in carve::chunks(&directory.join("db"), lane, Some(epoch))? {
            if let std::collections::btree_map::Entry::Vacant(slot) = chunks.entry(first) {
                slot.insert(chunk);
                damage.get_or_insert_with(|| "records are missing from its index".to_owned());
            }
        }
        Ok(Loaded { chunks, damage })
    }

    fn open(&mut self) -> Result<&Opened, String> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => Opened::open(&self.directory)?,
        };
        Ok(self.opened.insert(opened))
    }

    /// Lets go of the database; the files stay.
    pub fn close(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.disk_bytes = disk::used_bytes(&self.directory);
            let closed = guarded("closing", || {
                drop(opened);
                Ok(())
            });
            if let Err(reason) = closed {
                tracing::warn!(directory = ?self.directory, reason, "closing a generation failed");
            }
        }
    }

    /// Appends chunks; durable when it returns.
    pub fn append(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        self.open()?.write(chunks)?;
        for chunk in chunks {
            self.chunk_bytes += chunk.bytes().len() as u64;
            self.end = chunk.header().end();
        }
        if let Some(opened) = &self.opened {
            self.disk_bytes = opened.file.metadata().map_err(text)?.len();
        }
        Ok(())
    }

    /// Chunks from the one that holds `from` on, up to about `bytes_max`.
    pub fn read(&mut self, from: Sequence, bytes_max: usize) -> Result<Vec<Chunk>, String> {
        let db = self.open()?.db.clone();
        guarded("reading", || {
            let key = from.0.to_be_bytes();
            let start = match db.get_lt(from.plus(1).0.to_be_bytes()).map_err(text)? {
                Some((before, _)) => before,
                None => sled::IVec::from(&key),
            };
            let mut chunks = Vec::new();
            let mut bytes = 0;
            for record in db.range(start..) {
                let (_, value) = record.map_err(text)?;
                let chunk = Chunk::parse(&Bytes::copy_from_slice(&value)).map_err(text)?;
                if chunk.header().end() <= from {
                    continue;
                }
                bytes += chunk.bytes().len();
                if bytes > bytes_max && !chunks.is_empty() {
                    break;
                }
                chunks.push(chunk);
            }
            Ok(chunks)
        })
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
