//! Free space, and the reserve that is let go when there is none.
use rustix::fs::FallocateFlags;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// Enough for sled to open a database and for `position` to be replaced.
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

    /// Makes the reserve if it is not there. Having none is a pity, not an error.
    pub fn keep(&self) {
        let there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == RESERVE_BYTES);
        if there {
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
