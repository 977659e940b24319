//! A database of numbered records on disk, used by the spool's generations and the stations' inbox. The only
//! module that uses sled.
//!
//! sled panics on damage. Every call goes through [`catch_panic`], which converts a panic into an error; the
//! handle is not used again afterwards. Writes are durable after [`SledLog::sync`], which sled omits. A
//! record must not exceed the size of a chunk: sled keeps larger values in files that it never syncs.
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;

const SEGMENT_BYTES: usize = 512 * 1024;
/// Maximum size of records passed to sled between two syncs, bytes: less than a segment, so that it never
/// reuses a segment for new records before their older copy elsewhere is durable.
pub(crate) const UNSYNCED_BYTES_MAX: usize = 128 * 1024;
/// sled exceeds this size, but a small one makes it evict early.
const CACHE_BYTES: u64 = 1 << 20;
/// Opening right after closing can fail, because the old handle releases its lock late.
const OPEN_TRIES: u32 = 60;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// Why a database is unusable.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The bytes differ from the written ones: the readable part must be moved to a new database.
    #[error("{0}")]
    Damage(String),
    /// The system refused (no space, no descriptors, no permission): the bytes may be intact.
    #[error("{0}")]
    System(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        // An unreadable sector is damage; sled's own findings have no number.
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
            // sled wraps the cause of a refused open in a text.
            sled::Error::Io(error) if is_busy(&error) => Self::System(error.to_string()),
            sled::Error::Io(error) => error.into(),
            other => Self::Damage(other.to_string()),
        }
    }
}

/// True if another handle still holds the lock of the database.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

/// True if the text reports a full disk, or the user's quota on it. sled passes on only texts.
fn is_no_space(text: &str) -> bool {
    [
        "No space left",
        "StorageFull",
        "Disk quota exceeded",
        "QuotaExceeded",
    ]
    .iter()
    .any(|words| text.contains(words))
}

impl Trouble {
    /// True if the disk is full.
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.to_string())
    }
}

/// Runs a call into sled; a panic becomes an error.
pub fn catch_panic<T>(
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
            // sled turns some refusals of the system into panics with their text.
            if is_no_space(text) || text.contains("Too many open files") {
                return Err(Trouble::System(reason));
            }
            Err(Trouble::Damage(reason))
        }
    }
}

/// An open database.
pub struct SledLog {
    db: sled::Db,
    /// The log file, for the sync that sled omits.
    file: File,
    directory: PathBuf,
}

impl SledLog {
    /// Opens the database in a directory; creates it if it does not exist. Errors: [`Trouble`].
    pub fn open(directory: &Path) -> Result<Self, Trouble> {
        let mut tries = 0;
        loop {
            let opened = catch_panic("opening", || {
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
                    let directory = directory.to_owned();
                    return Ok(Self {
                        db,
                        file,
                        directory,
                    });
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

    /// Writes records in parts of at most `UNSYNCED_BYTES_MAX`, and makes each part durable with `sync`,
    /// which must call [`SledLog::sync`]. All records are durable on return. Errors: [`Trouble`].
    pub fn commit<'a>(
        &self,
        records: impl Iterator<Item = (u64, &'a [u8])>,
        mut sync: impl FnMut(&Self) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut records = records.peekable();
        while records.peek().is_some() {
            let mut bytes = 0;
            self.write(std::iter::from_fn(|| {
                let is_first = bytes == 0;
                let next = records.next_if(|(_, record)| {
                    is_first || bytes + record.len() <= UNSYNCED_BYTES_MAX
                })?;
                bytes += next.1.len();
                Some(next)
            }))?;
            sync(self)?;
        }
        Ok(())
    }

    /// Passes records to the kernel.
    fn write<'a>(&self, records: impl Iterator<Item = (u64, &'a [u8])>) -> Result<(), Trouble> {
        disk::about_to_write(&self.directory)?;
        catch_panic("writing", || {
            for (number, bytes) in records {
                self.db.insert(number.to_be_bytes(), bytes)?;
            }
            self.db.flush()?;
            Ok(())
        })
    }

    /// Makes all writes durable. Errors: [`Trouble`].
    pub fn sync(&self) -> Result<(), Trouble> {
        Ok(disk::sync_file(&self.file, &self.directory.join("db"))?)
    }

    /// Size of the log file, bytes.
    pub fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Visits all records in order. Errors: [`Trouble`].
    pub fn all(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        catch_panic("reading", || {
            for record in self.db.iter() {
                let (key, value) = record?;
                visit(&key, &value)?;
            }
            Ok(())
        })
    }

    /// Visits records in order while `visit` returns true, beginning with the last one at or before `from`,
    /// or else with the first one after it. Errors: [`Trouble`].
    pub fn around(
        &self,
        from: u64,
        mut visit: impl FnMut(&[u8]) -> Result<bool, Trouble>,
    ) -> Result<(), Trouble> {
        catch_panic("reading", || {
            let key = from.to_be_bytes();
            let start = match self.db.get_lt(from.saturating_add(1).to_be_bytes())? {
                Some((before, _)) => before,
                None => sled::IVec::from(&key),
            };
            for record in self.db.range(start..) {
                let (_, value) = record?;
                if !visit(&value)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Closes the database. A panic meanwhile changes nothing on disk.
    pub fn close(self) -> Result<(), Trouble> {
        catch_panic("closing", || {
            drop(self);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_sled_is_damage_and_one_about_space_is_the_systems() {
        let panics = |text: &'static str| {
            catch_panic("reading", || -> Result<(), Trouble> { panic!("{text}") })
                .expect_err("an error")
        };
        let damage = panics("tried to serialize Uninitialized");
        assert!(matches!(damage, Trouble::Damage(_)), "{damage}");
        assert!(!damage.is_no_space());
        let full = panics("called `Result::unwrap()`: No space left on device (os error 28)");
        assert!(
            matches!(full, Trouble::System(_)) && full.is_no_space(),
            "{full}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_and_not_a_panic() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let log = SledLog::open(directory.path()).expect("a new database");
        log.commit([(7, b"seven".as_slice())].into_iter(), SledLog::sync)
            .expect("committed");
        log.close().expect("closed");
        let file = directory.path().join("db");
        let mut bytes = std::fs::read(&file).expect("the file");
        for at in (0..bytes.len()).step_by(7) {
            bytes[at] ^= 0x5a;
        }
        std::fs::write(&file, bytes).expect("written");
        // Whatever sled makes of the file, it must not return a different value for a number.
        if let Ok(log) = SledLog::open(directory.path()) {
            let visited = log.all(|key, value| {
                assert!(key != 7_u64.to_be_bytes() || value == b"seven");
                Ok(())
            });
            drop(visited);
        }
    }
}
