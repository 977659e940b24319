//! The directory of the files, `attachments` beside a database: `ab/ab…` by digest, `incoming` for arriving files, and
//! `lock`.
//!
//! A file is synced, then renamed, then its directory is synced. It is renamed also over an equal file of the same
//! name: so it is as young as its last arrival, and the sweep, which deletes old files only, leaves it to the request that
//! is about to refer to it. Both hold the lock, which all processes on this directory share.
use linli_shared::service::file::sync_directory;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use linli_shared::service::random;
use linli_store::sealed::Sealer;
use linli_store::sealed::file::{self, FileError, Opened, Sealed, Sealing};

/// Digits of a digest.
const DIGEST_CHARS: usize = 64;
const OTHER_LENGTH: &str = "it has another length";

/// The directory.
#[derive(Clone)]
pub struct Files {
    root: PathBuf,
    sealer: Arc<Sealer>,
}

/// An arriving file; dropped, it is deleted.
pub struct Incoming {
    path: PathBuf,
    sealing: Sealing,
    gone: Gone,
}

/// Deletes a file that was not kept.
struct Gone(Option<PathBuf>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // If this fails, the next start deletes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A complete file without a name.
pub struct Received {
    path: PathBuf,
    sealed: Sealed,
    gone: Gone,
}

impl Incoming {
    /// Appends to the content.
    pub fn push(&mut self, content: &[u8]) -> io::Result<()> {
        self.sealing.push(content)
    }

    /// Completes the file.
    pub fn finish(self) -> io::Result<Received> {
        Ok(Received {
            path: self.path,
            sealed: self.sealing.finish()?,
            gone: self.gone,
        })
    }
}

impl Received {
    /// Its digest, which is its name.
    pub fn digest(&self) -> &str {
        &self.sealed.digest
    }

    /// Length of its content.
    pub fn bytes(&self) -> u64 {
        self.sealed.bytes
    }
}

impl Files {
    /// The directory beside a database; nothing is created.
    pub fn beside(directory: &Path, sealer: Arc<Sealer>) -> Self {
        Self {
            root: directory.join("attachments"),
            sealer,
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a digest.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.directory(digest).join(digest)
    }

    fn directory(&self, digest: &str) -> PathBuf {
        self.root.join(digest.get(..2).unwrap_or("00"))
    }

    /// Makes a directory that only its owner reads; durable.
    fn make(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        sync_directory(directory.parent().unwrap_or(Path::new(".")))
    }

    /// A new file under a temporary name.
    fn temporary(&self) -> io::Result<(PathBuf, File)> {
        self.make(&self.root)?;
        let incoming = self.root.join("incoming");
        self.make(&incoming)?;
        let path = incoming.join(hex::encode(random::secret::<12>()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok((path, file))
    }

    /// Begins to receive a file.
    pub fn begin(&self) -> io::Result<Incoming> {
        let (path, file) = self.temporary()?;
        let gone = Gone(Some(path.clone()));
        Ok(Incoming {
            path,
            sealing: Sealing::begin(&self.sealer, file)?,
            gone,
        })
    }

    /// The content of a complete file.
    pub fn look(&self, received: &Received) -> Result<Opened, FileError> {
        Opened::new(&self.sealer, File::open(&received.path)?)
    }

    /// Gives a file its name, durably.
    pub fn keep(&self, mut received: Received) -> io::Result<()> {
        received.sealed.file.sync_all()?;
        self.name(&received.path, &received.sealed.digest)?;
        received.gone.0 = None;
        Ok(())
    }

    fn name(&self, from: &Path, digest: &str) -> io::Result<()> {
        let directory = self.directory(digest);
        self.make(&directory)?;
        let _lock = self.lock()?;
        // Its age counts from its arrival, not from its first byte.
        File::options()
            .write(true)
            .open(from)?
            .set_modified(SystemTime::now())?;
        std::fs::rename(from, self.path(digest))?;
        sync_directory(&directory)
    }

    /// Copies a file from another directory, unless it is here and undamaged; true if it was copied. A damaged one
    /// is not copied.
    pub fn copy_from(&self, other: &Self, digest: &str, bytes: u64) -> Result<bool, FileError> {
        if self.verify(digest, bytes).is_ok() {
            return Ok(false);
        }
        let mut from = File::open(other.path(digest))?;
        let (path, mut file) = self.temporary()?;
        let mut gone = Gone(Some(path.clone()));
        io::copy(&mut from, &mut file)?;
        if file::verify(&self.sealer, &path, digest)? != bytes {
            return Err(FileError::Damaged(OTHER_LENGTH));
        }
        file.sync_all()?;
        self.name(&path, digest)?;
        gone.0 = None;
        Ok(true)
    }

    /// The content of a file of a case.
    pub fn open(&self, digest: &str) -> Result<Opened, FileError> {
        Opened::new(&self.sealer, File::open(self.path(digest))?)
    }

    /// Verifies that a file exists, undamaged.
    pub fn verify(&self, digest: &str, bytes: u64) -> Result<(), FileError> {
        let found = file::verify(&self.sealer, &self.path(digest), digest)?;
        if found == bytes {
            return Ok(());
        }
        Err(FileError::Damaged(OTHER_LENGTH))
    }

    /// The lock: no process names or deletes files while it is held.
    pub fn lock(&self) -> io::Result<File> {
        let lock = File::create(self.root.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// The last arrival of a file, milliseconds since 1970 UTC; `None`: it does not exist.
    pub fn came_ms(&self, digest: &str) -> io::Result<Option<i64>> {
        let modified = match self.path(digest).metadata() {
            Ok(metadata) => metadata.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let since = modified.duration_since(SystemTime::UNIX_EPOCH);
        Ok(Some(since.map_or(0, |since| since.as_millis() as i64)))
    }

    /// The digests of all files.
    pub fn all(&self) -> io::Result<Vec<String>> {
        let mut digests = Vec::new();
        if !self.root.exists() {
            return Ok(digests);
        }
        for directory in std::fs::read_dir(&self.root)? {
            let directory = directory?;
            let name = directory.file_name();
            if name.len() != 2 || !directory.file_type()?.is_dir() {
                continue;
            }
            for entry in std::fs::read_dir(directory.path())? {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                // A file of another name is not the hub's.
                if name.len() == DIGEST_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    digests.push(name.into_owned());
                }
            }
        }
        digests.sort();
        Ok(digests)
    }

    /// Deletes a file durably; the lock is held.
    pub fn remove(&self, digest: &str, _lock: &File) -> io::Result<()> {
        std::fs::remove_file(self.path(digest))?;
        sync_directory(&self.directory(digest))
    }

    /// Deletes incomplete files at a start, before any arrives.
    pub fn clear_incoming(&self) -> io::Result<()> {
        let incoming = self.root.join("incoming");
        if !incoming.exists() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&incoming)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

/// Runs blocking work on a thread for that.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn files(directory: &Path) -> Files {
        Files::beside(directory, Arc::new(Sealer::of_test()))
    }

    fn take(files: &Files, content: &[u8]) -> String {
        let mut incoming = files.begin().expect("begun");
        incoming.push(content).expect("written");
        let received = incoming.finish().expect("an end");
        let digest = received.digest().to_owned();
        files.keep(received).expect("kept");
        digest
    }

    #[test]
    fn the_same_content_is_one_file_and_what_is_not_kept_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = files(directory.path());
        assert_eq!(files.all().expect("none yet"), Vec::<String>::new());
        let one = take(&files, b"one");
        assert_eq!(take(&files, b"one"), one);
        let two = take(&files, b"two");
        let mut wanted = vec![one.clone(), two.clone()];
        wanted.sort();
        assert_eq!(files.all().expect("digests"), wanted);
        let mut dropped = files.begin().expect("begun");
        dropped.push(b"three").expect("written");
        drop(dropped.finish().expect("an end"));
        drop(files.begin().expect("begun"));
        let incoming = std::fs::read_dir(files.root().join("incoming")).expect("a directory");
        assert_eq!(incoming.count(), 0);
        let mut content = Vec::new();
        let mut opened = files.open(&one).expect("a file");
        opened.read_to_end(&mut content).expect("its content");
        assert_eq!(content, b"one");
        files.verify(&one, 3).expect("it is whole");
        assert!(files.verify(&one, 4).is_err());
        let lock = files.lock().expect("the lock");
        files.remove(&two, &lock).expect("removed");
        drop(lock);
        assert!(matches!(files.verify(&two, 3), Err(FileError::Missing)));
        assert_eq!(files.came_ms(&two).expect("a look"), None);
    }

    #[test]
    fn another_directory_takes_over_what_it_does_not_have() {
        let (here, there) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let (here, there) = (files(here.path()), files(there.path()));
        let one = take(&here, b"one");
        assert!(there.copy_from(&here, &one, 3).expect("copied"));
        assert!(!there.copy_from(&here, &one, 3).expect("it is there"));
        there.verify(&one, 3).expect("it is whole");
        // A file that is cut off is replaced.
        std::fs::write(there.path(&one), b"x").expect("damaged");
        assert!(there.copy_from(&here, &one, 3).expect("copied"));
        there.verify(&one, 3).expect("it is whole");
        let none = "ab".repeat(32);
        assert!(matches!(
            there.copy_from(&here, &none, 3),
            Err(FileError::Missing)
        ));
    }
}
