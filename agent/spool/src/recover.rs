//! Recovers a lane from any state of the disk.
//!
//! 1. Interrupted salvages and removals are finished ([`salvage::finish`]).
//! 2. Everything is read and nothing changed ([`plan`]): the position, and the chunks of each generation, by
//!    their own checksums; missing ones are recorded as lost.
//! 3. Generations are rewritten if needed ([`salvage::write_anew`]): those with lost chunks, and the last
//!    one, which will be written to. sled opens the new one. A last one that is at least half full is sealed
//!    instead, and so is one that the disk has no room to rewrite.
//! 4. The position is stored; acknowledged generations are deleted.
//!
//! All bytes of all generations are read. Only chunks whose keys are remembered are decoded, and at most
//! [`MARKS_MAX`] chunks for their receipt times. So the time of a start is bounded by the lane's quota, by
//! `seen_max` and by this number.
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::Sequence;
use linli_shared::service::file;
use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::contents::{Contents, MARKS_MAX};
use super::event_key::EventKey;
use super::generation::{Generation, Trouble};
use super::position::{HighMark, LostRange};
use super::seen::Seen;
use super::survey::{Plan, Survey, plan, scan};
use super::{OpenError, Settings, disk, salvage};

/// Findings for the metrics, counted once the recovery has succeeded.
#[derive(Debug, Default)]
pub struct Findings {
    /// Number of lost events.
    pub lost_events: u64,
    /// Number of damaged generations.
    pub damaged: u64,
}

/// Wraps the error of a file operation.
pub fn file_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::File {
        operation,
        path,
        source,
    }
}

/// Wraps the error of a database.
pub fn trouble_with(path: &Path) -> impl FnOnce(Trouble) -> OpenError + use<> {
    let path = path.to_owned();
    move |trouble| OpenError::Database {
        path,
        reason: trouble.to_string(),
    }
}

/// Creates the lane's directory, which no other user may enter, and locks it for this process.
pub fn take_lock(directory: &Path) -> Result<File, OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(file_error("making", directory))?;
    for parent in directory.ancestors().skip(1).take(2) {
        disk::sync_directory(parent).map_err(file_error("syncing", parent))?;
    }
    let path = directory.join("lock");
    file::lock(&path)
        .map_err(file_error("locking", &path))?
        .ok_or_else(|| OpenError::InUse(directory.to_owned()))
}

/// Recovers the lane from any state of the disk. `distrusted` is the generation whose last sync failed; it is
/// rewritten.
pub fn recover(
    settings: &Settings,
    distrusted: Option<Sequence>,
) -> Result<(Contents, Findings), OpenError> {
    let directory = &settings.directory;
    salvage::finish(settings)?;
    let high_path = directory.join("high");
    let high = HighMark::open(&high_path).map_err(file_error("opening", &high_path))?;
    let plan = plan(settings, high.load())?;
    for LostRange { first, end, .. } in &plan.lost {
        tracing::error!(lane = %settings.lane, %first, %end, "events are lost by damage of the disk");
    }
    let mut findings = Findings {
        lost_events: plan.lost_events(),
        damaged: 0,
    };
    let seen_path = directory.join("seen");
    let mut seen =
        Seen::open(&seen_path, settings.seen_max).map_err(file_error("reading", &seen_path))?;
    let marks = marks(settings, &plan)?;
    let key_ends = remember_keys(settings, &plan, &mut seen)?;
    let mut generations = VecDeque::new();
    let last = plan.surveys.len().checked_sub(1);
    for (index, survey) in plan.surveys.iter().enumerate() {
        let is_distrusted = distrusted == Some(survey.first);
        let kept = keep(settings, &plan, survey, is_distrusted, last == Some(index))?;
        if survey.is_damaged || is_distrusted {
            findings.damaged += 1;
        }
        if let Some(mut generation) = kept {
            generation.keys_end = key_ends[index];
            generations.push_back(generation);
        }
    }
    // Only an open generation that ends at the last sequence can be continued.
    let next = plan.position.next;
    if generations
        .back()
        .is_none_or(|last: &Generation| last.is_sealed || last.end != next)
    {
        if let Some(last) = generations.back_mut() {
            last.seal();
        }
        let created =
            Generation::create(directory, next, seen.end()).map_err(trouble_with(directory))?;
        generations.push_back(created);
    }
    let position_path = directory.join("position");
    plan.position
        .store(&position_path)
        .map_err(file_error("writing", &position_path))?;
    disk::sync_directory(directory).map_err(file_error("syncing", directory))?;
    let mut contents = Contents {
        position: plan.position,
        high,
        seen,
        generations,
        reader: None,
        marks,
    };
    let acked = contents.position.acked;
    while contents.generations.len() > 1 && contents.generations[0].end <= acked {
        contents
            .delete_oldest(directory)
            .map_err(trouble_with(directory))?;
    }
    Ok((contents, findings))
}

/// Receipt times of the waiting events, oldest first.
fn marks(settings: &Settings, plan: &Plan) -> Result<VecDeque<(Sequence, i64)>, OpenError> {
    let mut marks = VecDeque::new();
    for survey in &plan.surveys {
        if survey.end <= plan.position.acked || marks.len() >= MARKS_MAX {
            continue;
        }
        let scanned = scan(settings, plan, survey)?;
        for found in &scanned.chunks {
            if found.end() > plan.position.acked && marks.len() < MARKS_MAX {
                let events = scanned.chunk(found).map(|chunk| events(&chunk));
                // A chunk that has become unreadable is reported as damaged when it is needed.
                let oldest_ms = events.ok().and_then(|events| {
                    let times = events.iter().map(Event::unknown_from_ms);
                    times.min()
                });
                marks.extend(oldest_ms.map(|oldest_ms| (found.first, oldest_ms)));
                settings.progress.advance();
            }
        }
    }
    Ok(marks)
}

/// Remembers the keys of stored events, the newest if there are too many. Returns the number of keys up to
/// and including each generation.
fn remember_keys(settings: &Settings, plan: &Plan, seen: &mut Seen) -> Result<Vec<u64>, OpenError> {
    let mut wanted = settings.seen_max;
    let mut newest = VecDeque::new();
    for survey in plan.surveys.iter().rev() {
        if wanted == 0 {
            break;
        }
        let scanned = scan(settings, plan, survey)?;
        let mut keys = Vec::new();
        for chunk in scanned.all().flatten() {
            let events = events(&chunk);
            let with_id = events.iter().map(|event| EventKey::of(&event.draft()));
            keys.extend(with_id.filter(|key| key.0.is_some()));
            settings.progress.advance();
        }
        wanted = wanted.saturating_sub(keys.len());
        newest.push_front(keys);
    }
    let skipped = plan.surveys.len() - newest.len();
    let mut ends = vec![seen.end(); skipped];
    for keys in newest {
        for key in keys {
            seen.insert(key);
        }
        ends.push(seen.end());
    }
    Ok(ends)
}

/// The events of a chunk; none if an event of a newer version makes it unreadable.
fn events(chunk: &Chunk) -> Vec<Event> {
    chunk.events().unwrap_or_default()
}

/// Makes a generation usable: unchanged, or rewritten. `None` if nothing of it is left.
fn keep(
    settings: &Settings,
    plan: &Plan,
    survey: &Survey,
    is_distrusted: bool,
    is_last: bool,
) -> Result<Option<Generation>, OpenError> {
    let directory = &settings.directory;
    let is_wanted = survey.end > plan.position.acked;
    if survey.chunk_bytes == 0 && (is_last || survey.is_damaged) {
        salvage::put_away(directory, survey, survey.is_damaged)?;
        return Ok(None);
    }
    let keys_end = 0;
    let mut generation =
        Generation::sealed(survey.path.clone(), survey.first, survey.end, keys_end);
    generation.chunk_bytes = survey.chunk_bytes;
    let goes_on = is_last
        && is_wanted
        && survey.end == plan.position.next
        && survey.chunk_bytes < settings.generation_bytes / 2;
    if !is_wanted || !(survey.is_damaged || is_distrusted || goes_on) {
        if is_last {
            salvage::sync(&survey.path)?;
        }
        return Ok(Some(generation));
    }
    let keeps_original = survey.is_damaged || is_distrusted;
    if keeps_original {
        tracing::error!(lane = %settings.lane, generation = ?survey.path, "a generation is damaged; its chunks that are whole are saved");
    }
    let scanned = scan(settings, plan, survey)?;
    match salvage::write_anew(settings, survey, &scanned, keeps_original) {
        Ok(()) => {}
        // It is as good as before, because this process only reads it.
        Err(error) if error.is_no_space() && !is_distrusted && survey.path.exists() => {
            tracing::warn!(lane = %settings.lane, generation = ?survey.path, %error, "there is no room to write a generation anew, it is read as it is");
            salvage::sync(&survey.path)?;
            return Ok(Some(generation));
        }
        Err(error) => return Err(trouble_with(&survey.path)(error)),
    }
    generation.disk_bytes = disk::used_bytes(&survey.path);
    if goes_on {
        generation.unseal().map_err(trouble_with(&survey.path))?;
    }
    Ok(Some(generation))
}
