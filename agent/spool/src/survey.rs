//! The survey of a lane's disk, before anything is changed.
use linli_shared::protocol::ids::{Epoch, Sequence};
use std::path::PathBuf;

use super::chunk_file::{self, Scanned, Wanted};
use super::position::{LostRange, LostReason, Position};
use super::recover::file_error;
use super::{OpenError, Settings, salvage};

/// A generation as found on disk.
pub struct Survey {
    /// Sequence of its first event, by the name of its directory.
    pub first: Sequence,
    /// Its directory.
    pub path: PathBuf,
    /// The sequence after its last event.
    pub end: Sequence,
    /// The first sequence that belongs to the next generation.
    limit: Sequence,
    /// Size of its chunks, bytes.
    pub chunk_bytes: u64,
    /// Some of its events are missing.
    pub is_damaged: bool,
}

/// The complete findings, before anything is changed.
pub struct Plan {
    /// The position, corrected by the findings.
    pub position: Position,
    /// Everything below this sequence was synced.
    pub synced: Sequence,
    /// All generations, in order.
    pub surveys: Vec<Survey>,
    /// Lost ranges that were not known yet.
    pub lost: Vec<LostRange>,
}

impl Plan {
    /// Number of events in the new lost ranges.
    pub fn lost_events(&self) -> u64 {
        self.lost
            .iter()
            .map(|range| range.end.0 - range.first.0)
            .sum()
    }
}

/// Reads the position and all generations.
pub fn plan(settings: &Settings, high: Option<Sequence>) -> Result<Plan, OpenError> {
    let directory = &settings.directory;
    let found = salvage::listed(directory, "g")?;
    let position_path = directory.join("position");
    let stored = Position::load(&position_path).map_err(file_error("reading", &position_path))?;
    if let Some(position) = stored {
        let (plan, stranger) = survey(settings, position, high, &found)?;
        let has_chunks = plan.surveys.iter().any(|survey| survey.chunk_bytes > 0);
        let Some(stranger) = stranger.filter(|_| !has_chunks) else {
            return Ok(plan);
        };
        tracing::error!(
            lane = %settings.lane, position = %plan.position.epoch, chunks = %stranger,
            "the position is of another life of this spool than all of its chunks: the chunks are kept"
        );
        return Ok(survey(settings, anew(stranger, &found), high, &found)?.0);
    }
    let epoch = epoch_of(settings, &found)?;
    Ok(survey(settings, anew(epoch, &found), high, &found)?.0)
}

/// The position if none is stored: events before the first generation must have been acknowledged.
fn anew(epoch: Epoch, found: &[(Sequence, PathBuf)]) -> Position {
    let first = found.first().map_or(Sequence(0), |(first, _)| *first);
    Position {
        next: first,
        acked: first,
        ..Position::new(epoch)
    }
}

/// Surveys all generations; also returns an epoch of chunks that differs from the position's.
fn survey(
    settings: &Settings,
    position: Position,
    high: Option<Sequence>,
    found: &[(Sequence, PathBuf)],
) -> Result<(Plan, Option<Epoch>), OpenError> {
    let mut plan = Plan {
        synced: position.next.max(high.unwrap_or(Sequence(0))),
        position,
        surveys: Vec::with_capacity(found.len()),
        lost: Vec::new(),
    };
    let mut stranger = None;
    // Everything before the cursor is accounted for: acknowledged, here, or known to be lost.
    let first = found.first().map(|(first, _)| *first);
    let acked = plan.position.acked;
    let mut cursor = first.map_or(acked, |first| first.min(acked));
    for (index, (first, path)) in found.iter().enumerate() {
        let limit = found.get(index + 1).map(|(first, _)| *first);
        let lost_before = plan.lost.len();
        // Sequences between two generations belong to the earlier one.
        note_gap(&mut plan, cursor, *first);
        let mut survey = Survey {
            first: *first,
            path: path.clone(),
            end: *first,
            limit: limit.unwrap_or(Sequence(u64::MAX)),
            chunk_bytes: 0,
            is_damaged: false,
        };
        cursor = cursor.max(*first);
        let scanned = scan(settings, &plan, &survey)?;
        if let Some(epoch) = scanned.epoch.filter(|epoch| *epoch != plan.position.epoch) {
            stranger = Some(epoch);
        }
        for chunk in &scanned.chunks {
            note_gap(&mut plan, cursor, chunk.first);
            cursor = cursor.max(chunk.end());
            survey.end = chunk.end();
            survey.chunk_bytes += chunk.bytes();
        }
        // If numbering continues, sequences behind the last chunk are missing too.
        let end = limit.unwrap_or(plan.synced);
        note_gap(&mut plan, cursor, end);
        cursor = cursor.max(limit.unwrap_or(cursor));
        survey.is_damaged = plan.lost.len() > lost_before;
        plan.surveys.push(survey);
    }
    let synced = plan.synced;
    note_gap(&mut plan, cursor, synced);
    plan.position.next = synced.max(cursor);
    Ok((plan, stranger))
}

/// Scans the chunks of a generation.
pub fn scan(settings: &Settings, plan: &Plan, survey: &Survey) -> Result<Scanned, OpenError> {
    let wanted = Wanted {
        lane: settings.lane,
        epoch: Some(plan.position.epoch),
    };
    let mut scanned = chunk_file::scan(&survey.path, wanted, &settings.progress)
        .map_err(file_error("reading", &survey.path))?;
    scanned.retain(survey.first, survey.limit, plan.synced);
    Ok(scanned)
}

/// Records the sequences from `from` to `to` as lost, except those known to be.
fn note_gap(plan: &mut Plan, from: Sequence, to: Sequence) {
    let mut from = from.max(plan.position.acked);
    let known: Vec<LostRange> = plan.position.lost.clone();
    for range in known {
        if from >= to {
            return;
        }
        if range.end <= from || range.first >= to {
            continue;
        }
        if from < range.first {
            add_damage(plan, from, range.first);
        }
        from = range.end;
    }
    if from < to {
        add_damage(plan, from, to);
    }
}

fn add_damage(plan: &mut Plan, first: Sequence, end: Sequence) {
    let range = LostRange {
        first,
        end,
        reason: LostReason::Damage,
    };
    plan.position.add_lost(range);
    plan.lost.push(range);
}

/// The epoch of the newest chunks on disk; a new one if there are none.
fn epoch_of(settings: &Settings, found: &[(Sequence, PathBuf)]) -> Result<Epoch, OpenError> {
    let wanted = Wanted {
        lane: settings.lane,
        epoch: None,
    };
    for (_, path) in found.iter().rev() {
        let scanned = chunk_file::scan(path, wanted, &settings.progress)
            .map_err(file_error("reading", path))?;
        if let Some(epoch) = scanned.epoch {
            return Ok(epoch);
        }
    }
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| file_error("drawing an epoch for", &settings.directory)(error.into()))?;
    Ok(Epoch(u64::from_be_bytes(bytes)))
}
