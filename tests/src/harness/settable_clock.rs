//! A wall clock that a test sets while programs run by it.
use anyhow::Result;
use std::path::{Path, PathBuf};

use super::faketime;

/// The wall clock of every program that is started with its wrapper: the right time and an offset, 0 at first.
pub struct SettableClock {
    offset: PathBuf,
    /// Makes a program run by this clock.
    pub wrapper: Vec<String>,
}

impl SettableClock {
    /// A clock whose offset is in a file of this directory.
    pub fn new(directory: &Path) -> Result<Self> {
        let offset = directory.join("offset");
        let wrapper = faketime(&[
            format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
        ])?;
        let clock = Self { offset, wrapper };
        clock.set("+0")?;
        Ok(clock)
    }

    /// Sets the offset, like `+1h` or `-1095d`, at once for all programs.
    pub fn set(&self, offset: &str) -> Result<()> {
        // A program that looked at a half-written file would see another time.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, offset)?;
        Ok(std::fs::rename(new, &self.offset)?)
    }
}
