//! Rewrites a generation and replaces the original.
//!
//! ```text
//! tmp-N is created, filled, synced ─▶ renamed salv-N ─▶ g-N renamed bad-N-n, or tmp-N if it is intact
//!                                                 ─▶ salv-N renamed g-N ─▶ directory synced ─▶ tmp-N removed
//! ```
//!
//! At every moment `g-N` or a complete `salv-N` exists, and neither is removed before the other is durable. A
//! `salv-N` has all chunks of `g-N` that were readable when it was created.
use linli_shared::protocol::ids::Sequence;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::chunk_file::{self, Scanned, Wanted};
use super::generation::{self, Trouble};
use super::recover::file_error;
use super::survey::Survey;
use super::{OpenError, Settings, disk};

/// Number of damaged generations kept for examination.
const BAD_KEPT: usize = 2;

/// The directories `<prefix>-<sequence>`, or `bad-<sequence>-<number>` for the prefix `bad`, in order.
pub fn listed(directory: &Path, prefix: &str) -> Result<Vec<(Sequence, PathBuf)>, OpenError> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(file_error("listing", directory))?;
    for entry in entries {
        let entry = entry.map_err(file_error("listing", directory))?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let number = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('-')?.split('-').next()?.parse().ok());
        let Some(first) = number.map(Sequence) else {
            continue;
        };
        // Two spellings of one number would be two generations with the same number.
        if name == generation::name(prefix, first) || prefix == "bad" {
            found.push((first, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Finishes the work that a crash interrupted.
pub fn finish(settings: &Settings) -> Result<(), OpenError> {
    let directory = &settings.directory;
    for (first, salvage) in listed(directory, "salv")? {
        let place = directory.join(generation::name("g", first));
        if place.exists() {
            let (saved, left) = (events(settings, &salvage)?, events(settings, &place)?);
            if saved < left {
                // The salvage was damaged afterwards.
                put_aside(directory, first, &salvage, false)?;
                continue;
            }
            put_aside(directory, first, &place, saved > left)?;
        }
        disk::rename(&salvage, &place).map_err(file_error("renaming", &salvage))?;
    }
    disk::sync_directory(directory).map_err(file_error("syncing", directory))?;
    for (_, path) in listed(directory, "tmp")? {
        disk::remove(&path).map_err(file_error("removing", &path))?;
    }
    Ok(())
}

/// The number of events in a directory.
fn events(settings: &Settings, path: &Path) -> Result<u64, OpenError> {
    let wanted = Wanted {
        lane: settings.lane,
        epoch: None,
    };
    let scanned =
        chunk_file::scan(path, wanted, &settings.progress).map_err(file_error("reading", path))?;
    let counts = scanned
        .chunks
        .iter()
        .map(|found| found.end().0 - found.first.0);
    Ok(counts.sum())
}

/// Rewrites the chunks of a generation. `keeps_original` keeps the old one for examination.
pub fn write_anew(
    settings: &Settings,
    survey: &Survey,
    scanned: &Scanned,
    keeps_original: bool,
) -> Result<(), Trouble> {
    let directory = &settings.directory;
    let chunks = scanned.all().inspect(|_| settings.progress.advance());
    let salvage = generation::make(directory, "salv", survey.first, chunks)?;
    let replace = || -> Result<(), OpenError> {
        let aside = put_aside(directory, survey.first, &survey.path, keeps_original)?;
        disk::rename(&salvage, &survey.path).map_err(file_error("renaming", &salvage))?;
        disk::sync_directory(directory).map_err(file_error("syncing", directory))?;
        if !keeps_original {
            disk::remove(&aside).map_err(file_error("removing", &aside))?;
        }
        Ok(())
    };
    replace().map_err(|error| Trouble::System(linli_shared::service::telemetry::chain(&error)))
}

/// Removes a generation without readable chunks.
pub fn put_away(directory: &Path, survey: &Survey, is_kept: bool) -> Result<(), OpenError> {
    let aside = put_aside(directory, survey.first, &survey.path, is_kept)?;
    if !is_kept {
        disk::remove(&aside).map_err(file_error("removing", &aside))?;
    }
    Ok(())
}

/// Renames a generation to a bad one, or to a temporary one that the next start removes.
fn put_aside(
    directory: &Path,
    first: Sequence,
    path: &Path,
    is_kept: bool,
) -> Result<PathBuf, OpenError> {
    let temporary = directory.join(generation::name("tmp", first));
    let aside = if is_kept {
        trim(directory)?;
        let bad =
            |number: u32| directory.join(format!("{}-{number}", generation::name("bad", first)));
        let mut number = 0;
        while bad(number).exists() {
            number += 1;
        }
        bad(number)
    } else {
        if temporary.exists() {
            disk::remove(&temporary).map_err(file_error("removing", &temporary))?;
        }
        temporary
    };
    disk::rename(path, &aside).map_err(file_error("renaming", path))?;
    Ok(aside)
}

/// Removes the oldest bad generations to make room for one more.
fn trim(directory: &Path) -> Result<(), OpenError> {
    let kept = listed(directory, "bad")?;
    for (_, path) in kept.iter().rev().skip(BAD_KEPT - 1) {
        disk::remove(path).map_err(file_error("removing", path))?;
    }
    Ok(())
}

/// Syncs data that an earlier process may not have synced, because every readable chunk counts as stored.
pub fn sync(path: &Path) -> Result<(), OpenError> {
    let database = path.join("db");
    let synced = File::open(&database).and_then(|file| disk::sync_file(&file, &database));
    match synced {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(file_error("syncing", &database)),
    }
}
