//! The disk operations of the spool: sync, rename, remove; the free space; and a reserve.
//!
//! All operations that durability depends on are here, so that a test can cut the power, kill the process or
//! refuse the operation at each of them.
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use linli_shared::service::file;

#[cfg(test)]
use crate::tests::bad_disk::{after, before};

/// An operation, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// sled passes records to the kernel.
    Write,
    /// Sync of a file's data.
    SyncFile,
    /// Sync of a directory's names.
    SyncDirectory,
    /// Replacement of a whole file.
    Replace,
    /// Rename of a directory.
    Rename,
    /// Removal of a directory and its content.
    Remove,
}

#[cfg(not(test))]
#[inline]
fn before(_: Operation, _: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
#[inline]
fn after(_: Operation, _: &Path) {}

fn perform(
    operation: Operation,
    path: &Path,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    before(operation, path)?;
    act()?;
    after(operation, path);
    Ok(())
}

/// Marks, for tests, that sled is about to write to the database of `directory`.
pub(crate) fn about_to_write(directory: &Path) -> io::Result<()> {
    before(Operation::Write, directory)
}

/// Makes the data of a file durable.
pub(crate) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    perform(Operation::SyncFile, path, || file.sync_data())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    perform(Operation::SyncDirectory, path, || {
        file::sync_directory(path)
    })
}

/// Makes a newly filled directory durable, with the files and empty directories in it.
pub(crate) fn sync_filled_directory(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let opened = File::open(entry.path())?;
        let operation = if entry.file_type()?.is_dir() {
            Operation::SyncDirectory
        } else {
            Operation::SyncFile
        };
        perform(operation, &entry.path(), || opened.sync_all())?;
    }
    sync_directory(path)
}

/// Replaces a file; durable on return.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    perform(Operation::Replace, path, || {
        file::replace(path, bytes, 0o600)
    })
}

/// Renames a directory; durable after a sync of its parent.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    perform(Operation::Rename, from, || std::fs::rename(from, to))
}

/// Removes a directory with its content.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    perform(Operation::Remove, path, || std::fs::remove_dir_all(path))
}

/// Size of the reserve, bytes: enough for sled to create a database and for `position` to be replaced.
pub const RESERVE_BYTES: u64 = 2 << 20;

/// A file that is released when the disk is full.
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of a lane's directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("reserve"),
        }
    }

    /// Creates the reserve if it is missing. The reserve is optional.
    pub fn keep(&self) {
        let is_there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == RESERVE_BYTES);
        if is_there {
            return;
        }
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.path)
            .and_then(|file| {
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)
                    .map_err(io::Error::from)
            });
        if made.is_err() {
            self.release();
        }
    }

    /// Releases its space.
    pub fn release(&self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes that this user can still write on the disk of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(directory)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Bytes of all files below `directory`.
pub fn used_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
