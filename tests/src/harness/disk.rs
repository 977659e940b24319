//! A small disk: an ext4 file system in a file, mounted.
use anyhow::{Context, Result};
use rustix::fs::FallocateFlags;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{TempDir, tempdir};

use super::run;

/// Unmounted and removed with its handle. Needs root.
pub struct SmallDisk {
    mount: TempDir,
    image: PathBuf,
    _directory: TempDir,
}

impl SmallDisk {
    /// A new, empty disk.
    pub fn new(megabytes: u64) -> Result<Self> {
        let directory = tempdir()?;
        let image = directory.path().join("disk.img");
        std::fs::File::create(&image)?.set_len(megabytes << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        Self::mount(directory, image)
    }

    /// What a power cut would leave at this moment: whatever has reached the device, nothing that is
    /// only in memory. Mounting it replays the journal, as a start after the cut would.
    pub fn power_cut(&self) -> Result<Self> {
        let directory = tempdir()?;
        let image = directory.path().join("disk.img");
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(&self.image)
            .arg(&image))?;
        Self::mount(directory, image)
    }

    fn mount(directory: TempDir, image: PathBuf) -> Result<Self> {
        let mount = tempdir()?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(mount.path()))
        .context("mounting a file needs root and loop devices")?;
        Ok(Self {
            mount,
            image,
            _directory: directory,
        })
    }

    /// Leaves this much of it free; what fills it goes with the [`Ballast`].
    pub fn filled(&self, left_bytes: u64) -> Result<Ballast> {
        let figures = rustix::fs::statvfs(self.path())?;
        let free_bytes = figures.f_bavail * figures.f_frsize;
        let ballast = Ballast(self.path().join("ballast"));
        let file = std::fs::File::create(&ballast.0)?;
        let bytes = free_bytes.saturating_sub(left_bytes);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        Ok(ballast)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }
}

/// A file that fills a disk, removed with its handle.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        // It goes with the disk at the latest.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy, so that a process that is still dying does not keep it.
        let _ = run(Command::new("umount").arg("-l").arg(self.mount.path()));
    }
}
