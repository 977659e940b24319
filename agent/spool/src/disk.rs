//! What the spool asks of a disk: to make durable, to rename, to remove; how much is free; and a reserve.
//!
//! Each operation that durability rests on is here and nowhere else, so that a test can cut the power, end
//! the process or refuse the operation at each of them.
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use linli_shared::service::file;

#[cfg(test)]
use crate::tests::bad_disk::{after, before};

/// What is done, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// sled hands records to the kernel.
    Write,
    /// The data of a file.
    SyncFile,
    /// The names in a directory.
    SyncDirectory,
    /// A file is replaced whole.
    Replace,
    /// A directory gets another name.
    Rename,
    /// A directory goes with all in it.
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

/// Only for tests: sled is about to write to the database of `directory`.
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

/// Makes a directory that was just filled durable, with the files and empty directories in it.
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

/// Replaces a file; durable when it returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    perform(Operation::Replace, path, || {
        file::replace(path, bytes, 0o600)
    })
}

/// Gives a directory another name; durable after a sync of the directory that it is in.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    perform(Operation::Rename, from, || std::fs::rename(from, to))
}

/// Removes a directory with all in it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    perform(Operation::Remove, path, || std::fs::remove_dir_all(path))
}

/// Enough for sled to make a database and for `position` to be replaced.
pub const RESERVE_BYTES: u64 = 2 << 20;

/// A file that is released when the disk is full.
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Of a lane's directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("reserve"),
        }
    }

    /// Makes the reserve if it is not there. A lane works without one.
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

    /// Gives its space back to the disk.
    pub fn release(&self) {
        // It may be gone already; then there is nothing to give back.
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
