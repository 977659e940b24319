//! One generation: a sled database that is filled, read and deleted as a whole.
//!
//! sled panics on damage. Every call into it goes through [`guarded`], which turns a panic into an
//! error; the handle is not used again after one.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, ChunkError};
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

/// Why a generation could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Its bytes are not what was written: what can still be read moves to a new one.
    #[error("{0}")]
    Damage(String),
    /// The system refused (no space, no descriptors, no right): its bytes may be as good as ever.
    #[error("{0}")]
    System(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        // A sector that cannot be read is damage; sled's own findings come without a number.
        match error.raw_os_error() {
            Some(number) if number != rustix::io::Errno::IO.raw_os_error() => {
                Self::System(error.to_string())
            }
            _ => Self::Damage(error.to_string()),
        }
    }
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            // sled wraps the cause of a refused open in a text of its own kind.
            sled::Error::Io(error) if is_busy(&error) => Self::System(error.to_string()),
            sled::Error::Io(error) => error.into(),
            other => Self::Damage(other.to_string()),
        }
    }
}

impl From<ChunkError> for Trouble {
    fn from(error: ChunkError) -> Self {
        Self::Damage(error.to_string())
    }
}

/// Another handle still holds the lock of the database.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

/// Runs a call into sled; a panic is damage.
pub fn guarded<T>(
    what: &'static str,
    call: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Trouble::Damage(reason))) => Err(Trouble::Damage(format!("{what}: {reason}"))),
        Ok(Err(Trouble::System(reason))) => Err(Trouble::System(format!("{what}: {reason}"))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            let reason = format!("{what}: the database panicked: {text}");
            // sled turns some refusals of the system into panics; they say so.
            if text.contains("No space left") || text.contains("Too many open files") {
                return Err(Trouble::System(reason));
            }
            Err(Trouble::Damage(reason))
        }
    }
}

struct Opened {
    db: sled::Db,
    /// The log file, for the sync that sled leaves out.
    file: File,
}

impl Opened {
    fn open(directory: &Path) -> Result<Self, Trouble> {
        let mut tries = 0;
        loop {
            let opened = guarded("opening", || {
                Ok(sled::Config::new()
                    .path(directory)
                    .segment_size(SEGMENT_BYTES)
                    .cache_capacity(CACHE_BYTES)
                    .flush_every_ms(None)
                    .open()?)
            });
            tries += 1;
            match opened {
                Ok(db) => {
                    let file = File::open(directory.join("db"))?;
                    return Ok(Self { db, file });
                }
                Err(Trouble::System(reason))
                    if reason.contains("WouldBlock") && tries < OPEN_TRIES =>
                {
                    std::thread::sleep(OPEN_PAUSE);
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Hands chunks to the kernel; they are durable after [`Opened::sync`].
    fn write(&self, chunks: &[Chunk]) -> Result<(), Trouble> {
        guarded("writing", || {
            for chunk in chunks {
                let key = chunk.header().first.0.to_be_bytes();
                self.db.insert(key, chunk.bytes().as_ref())?;
            }
            self.db.flush()?;
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), Trouble> {
        Ok(self.file.sync_data()?)
    }
}

/// Lets go of a database. A panic on the way changes nothing of what is on disk.
fn close(opened: Opened) -> Result<(), Trouble> {
    guarded("closing", || {
        drop(opened);
        Ok(())
    })
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
    let opened = Opened::open(&temporary)?;
    opened.write(chunks)?;
    opened.sync()?;
    close(opened)?;
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
        let scanned = Opened::open(directory).and_then(|opened| {
            let result = guarded("reading", || {
                for record in opened.db.iter() {
                    let (key, value) = record?;
                    let chunk = Chunk::parse(&Bytes::copy_from_slice(&value))?;
                    let header = chunk.header();
                    if key.as_ref() != header.first.0.to_be_bytes()
                        || header.lane != lane
                        || header.epoch != epoch
                    {
                        let reason = "a record is not where it belongs".to_owned();
                        return Err(Trouble::Damage(reason));
                    }
                    chunks.insert(header.first, chunk);
                }
                Ok(())
            });
            result.and(close(opened))
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

    fn open(&mut self) -> Result<&Opened, Trouble> {
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
            if let Err(reason) = close(opened) {
                tracing::warn!(directory = ?self.directory, %reason, "closing a generation failed");
            }
        }
    }

    /// Appends chunks; durable when it returns.
    pub fn append(&mut self, chunks: &[Chunk]) -> Result<(), Trouble> {
        let opened = self.open()?;
        opened.write(chunks)?;
        if let Err(trouble) = opened.sync() {
            self.distrusted = true;
            return Err(trouble);
        }
        for chunk in chunks {
            self.chunk_bytes += chunk.bytes().len() as u64;
            self.end = chunk.header().end();
        }
        if let Some(opened) = &self.opened {
            self.disk_bytes = opened.file.metadata()?.len();
        }
        Ok(())
    }

    /// Chunks from the one that holds `from` on, up to about `bytes_max`.
    pub fn read(&mut self, from: Sequence, bytes_max: usize) -> Result<Vec<Chunk>, Trouble> {
        let db = self.open()?.db.clone();
        guarded("reading", || {
            let key = from.0.to_be_bytes();
            let start = match db.get_lt(from.plus(1).0.to_be_bytes())? {
                Some((before, _)) => before,
                None => sled::IVec::from(&key),
            };
            let mut chunks = Vec::new();
            let mut bytes = 0;
            for record in db.range(start..) {
                let (_, value) = record?;
                let chunk = Chunk::parse(&Bytes::copy_from_slice(&value))?;
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
