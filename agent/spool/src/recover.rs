//! Brings a lane from whatever is on disk to a state that can be used.
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{Epoch, Sequence};
use linli_shared::service::file::{self, sync_directory};
use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::contents::{Contents, MARKS_MAX};
use super::generation::{self, Expected, Generation, Trouble};
use super::position::{HighMark, LostRange, LostReason, Position};
use super::seen::{EventKey, Seen};
use super::{OpenError, Settings, carve};

/// Damaged generations that are kept for a person to look at.
const BAD_KEPT: usize = 2;

/// What was found, for the figures: it counts once the recovery has come through.
#[derive(Debug, Default)]
pub struct Findings {
    pub lost_events: u64,
    pub damaged: u64,
}

fn file_error(
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

/// Makes the lane's directory, which nobody else may enter, and takes it for this process.
pub fn take_lock(directory: &Path) -> Result<File, OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(file_error("making", directory))?;
    for parent in directory.ancestors().skip(1).take(2) {
        sync_directory(parent).map_err(file_error("syncing", parent))?;
    }
    let path = directory.join("lock");
    file::lock(&path)
        .map_err(file_error("locking", &path))?
        .ok_or_else(|| OpenError::InUse(directory.to_owned()))
}

fn trouble_with(path: &Path) -> impl FnOnce(Trouble) -> OpenError + use<> {
    let path = path.to_owned();
    move |trouble| OpenError::Database {
        path,
        reason: trouble.to_string(),
    }
}

/// Directories `<prefix>-<sequence>` in order.
fn listed(directory: &Path, prefix: &str) -> Result<Vec<(Sequence, PathBuf)>, OpenError> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(file_error("listing", directory))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix(prefix)?
                    .strip_prefix('-')?
                    .split('-')
                    .next()
            })
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((Sequence(number), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Brings the lane from whatever is on disk to a state that can be used. `distrusted` is the generation
/// whose last sync failed: it is written anew.
pub fn recover(
    settings: &Settings,
    distrusted: Option<Sequence>,
) -> Result<(Contents, Findings), OpenError> {
    let mut findings = Findings::default();
    let directory = &settings.directory;
    let lane = settings.lane;
    finish_salvages(directory)?;
    let found = listed(directory, "g")?;
    let position_path = directory.join("position");
    let stored = Position::load(&position_path).map_err(file_error("reading", &position_path))?;
    let mut position = match stored {
        Some(position) => position,
        None => {
            let mut position = Position::new(epoch_of(settings, &found)?);
            // What was before the first generation was acknowledged, or it would be here.
            position.acked = found.first().map_or(Sequence(0), |(first, _)| *first);
            position.next = position.acked;
            position
        }
    };
    let high_path = directory.join("high");
    let high = HighMark::open(&high_path).map_err(file_error("opening", &high_path))?;
    let synced = high.load().unwrap_or(Sequence(0));
    let seen_path = directory.join("seen");
    let mut seen =
        Seen::open(&seen_path, settings.seen_max).map_err(file_error("reading", &seen_path))?;
    let mut generations = VecDeque::new();
    let mut marks = VecDeque::new();
    // Everything before the cursor is accounted for: acknowledged, here, or known to be lost.
    let mut cursor = position
        .acked
        .min(found.first().map_or(position.acked, |(first, _)| *first));
    for (first, path) in found {
        let expected = Expected {
            lane,
            epoch: position.epoch,
            synced,
        };
        let mut loaded = Generation::load(&path, expected).map_err(trouble_with(&path))?;
        if distrusted == Some(first) {
            let reason = || "its last sync failed".to_owned();
            loaded.damage.get_or_insert_with(reason);
        }
        let mut end = first;
        let mut chunk_bytes = 0;
        for chunk in loaded.chunks.values() {
            let header = chunk.header();
            note_gap(&mut position, &mut findings, cursor.max(end), header.first);
            end = header.end();
            cursor = cursor.max(end);
            chunk_bytes += chunk.bytes().len() as u64;
            note_events(chunk, &mut seen, &mut marks, position.acked);
        }
        let mut generation = Generation::at(path.clone(), first, end, seen.end());
        generation.chunk_bytes = chunk_bytes;
        if let Some(reason) = loaded.damage {
            tracing::error!(%lane, generation = ?path, reason, chunks = loaded.chunks.len(), "a generation was damaged; what reads is saved");
            findings.damaged += 1;
            let chunks: Vec<Chunk> = loaded.chunks.into_values().collect();
            salvage(directory, first, &path, &chunks)?;
            if chunks.is_empty() {
                continue;
            }
            generation = Generation::at(path, first, end, seen.end());
            generation.chunk_bytes = chunk_bytes;
        }
        generations.push_back(generation);
    }
    let next = position.next.max(synced);
    note_gap(&mut position, &mut findings, cursor, next);
    position.next = next.max(cursor);
    // A generation that ends before the last number cannot take the next one.
    if generations
        .back()
        .is_some_and(|last: &Generation| last.end != position.next)
    {
        let created = Generation::create(directory, position.next, seen.end())
            .map_err(trouble_with(directory))?;
        generations.push_back(created);
    }
    position
        .store(&position_path)
        .map_err(file_error("writing", &position_path))?;
    sync_directory(directory).map_err(file_error("syncing", directory))?;
    let mut contents = Contents {
        position,
        high,
        seen,
        generations,
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

/// Sequences from `from` to `to` are not on disk and were not known to be lost.
fn note_gap(position: &mut Position, findings: &mut Findings, from: Sequence, to: Sequence) {
    let mut from = from.max(position.acked);
    let known: Vec<LostRange> = position.lost.clone();
    for range in known {
        if from >= to {
            return;
        }
        if range.end <= from || range.first >= to {
            continue;
        }
        let gap_end = range.first.min(to);
        if from < gap_end {
            add_damage(position, findings, from, gap_end);
        }
        from = range.end;
    }
    if from < to {
        add_damage(position, findings, from, to);
    }
}

fn add_damage(position: &mut Position, findings: &mut Findings, first: Sequence, end: Sequence) {
    tracing::error!(%first, %end, "events are lost by damage of the disk");
    position.add_lost(LostRange {
        first,
        end,
        reason: LostReason::Damage,
    });
    findings.lost_events += end.0 - first.0;
}

fn note_events(
    chunk: &Chunk,
    seen: &mut Seen,
    marks: &mut VecDeque<(Sequence, i64)>,
    acked: Sequence,
) {
    let Ok(events) = chunk.events() else { return };
    for event in &events {
        seen.insert(EventKey::new(&event.source, &event.source_id));
    }
    let waits = chunk.header().end() > acked;
    if waits && marks.len() < MARKS_MAX {
        let oldest_ms = events.iter().map(Event::unknown_from_ms).min();
        marks.extend(oldest_ms.map(|oldest_ms| (chunk.header().first, oldest_ms)));
    }
}

/// Puts what was saved in place of the damaged generation. At every moment one of the two is there.
fn salvage(
    directory: &Path,
    first: Sequence,
    damaged: &Path,
    chunks: &[Chunk],
) -> Result<(), OpenError> {
    let saved = if chunks.is_empty() {
        None
    } else {
        let made = generation::make(directory, "salv", first, chunks);
        let place = directory.join(generation::name("salv", first));
        Some(made.map_err(trouble_with(&place))?)
    };
    let bad = (0..)
        .map(|number| directory.join(format!("{}-{number}", generation::name("bad", first))))
        .find(|path| !path.exists())
        .unwrap_or_else(|| directory.join("bad"));
    std::fs::rename(damaged, &bad).map_err(file_error("renaming", damaged))?;
    if let Some(saved) = saved {
        std::fs::rename(&saved, damaged).map_err(file_error("renaming", &saved))?;
    }
    let kept = listed(directory, "bad")?;
    for (_, path) in kept.iter().rev().skip(BAD_KEPT) {
        std::fs::remove_dir_all(path).map_err(file_error("removing", path))?;
    }
    sync_directory(directory).map_err(file_error("syncing", directory))
}

/// Ends what a crash interrupted.
fn finish_salvages(directory: &Path) -> Result<(), OpenError> {
    for (_, path) in listed(directory, "tmp")? {
        std::fs::remove_dir_all(&path).map_err(file_error("removing", &path))?;
    }
    for (first, path) in listed(directory, "salv")? {
        let place = directory.join(generation::name("g", first));
        if place.exists() {
            std::fs::remove_dir_all(&path).map_err(file_error("removing", &path))?;
        } else {
            std::fs::rename(&path, &place).map_err(file_error("renaming", &path))?;
        }
    }
    Ok(())
}

/// The epoch that the chunks on disk carry; a new one where there are none.
fn epoch_of(settings: &Settings, found: &[(Sequence, PathBuf)]) -> Result<Epoch, OpenError> {
    for (_, path) in found.iter().rev() {
        let file = path.join("db");
        let chunks =
            carve::chunks(&file, settings.lane, None).map_err(file_error("reading", &file))?;
        if let Some((_, chunk)) = chunks.last_key_value() {
            return Ok(chunk.header().epoch);
        }
    }
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| file_error("drawing an epoch for", &settings.directory)(error.into()))?;
    Ok(Epoch(u64::from_be_bytes(bytes)))
}
