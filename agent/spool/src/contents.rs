//! The contents of a lane and the operations on them: write, read, acknowledge, drop. After a failure of the
//! disk they are discarded as a whole and recovered from disk.
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::ids::{Lane, Sequence};
use std::collections::VecDeque;
use std::path::Path;

use super::chunk_file::{Scanned, Wanted};
use super::generation::{Generation, Trouble};
use super::position::{HighMark, LostRange, LostReason, Position};
use super::seen::Seen;
use super::{Item, Settings};

/// Maximum number of receipt times kept for the watermark; beyond it they become coarser, never wrong.
pub const MARKS_MAX: usize = 4096;

/// The state of a lane, in memory and on disk.
pub struct Contents {
    /// The stored position.
    pub position: Position,
    /// The `high` file.
    pub high: HighMark,
    /// Keys of the stored events.
    pub seen: Seen,
    /// The last one is written to, the others are sealed.
    pub generations: VecDeque<Generation>,
    /// The sealed generation that is being read, by its first sequence.
    pub reader: Option<(Sequence, Scanned)>,
    /// (first sequence, receipt time) of appends: a lower bound for the waiting events.
    pub marks: VecDeque<(Sequence, i64)>,
}

impl Contents {
    /// Size of all generations on disk, bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.generations
            .iter()
            .map(|generation| generation.disk_bytes)
            .sum()
    }

    /// Appends chunks whose events end at `next`, in a new generation if the last one is full; durable on
    /// return. Returns the number of syncs.
    pub fn write(
        &mut self,
        settings: &Settings,
        chunks: &[Chunk],
        next: Sequence,
    ) -> Result<u64, Trouble> {
        let is_full = self.generations.back().is_none_or(|active| {
            active.disk_bytes.max(active.chunk_bytes) >= settings.generation_bytes
                && active.chunk_bytes > 0
        });
        let keys_end = self.seen.end();
        if is_full {
            self.position.store(&settings.directory.join("position"))?;
            self.begin_generation(&settings.directory)?;
        }
        let Some(active) = self.generations.back_mut() else {
            let reason = "there is no generation to write to".to_owned();
            return Err(Trouble::System(reason));
        };
        let syncs = active.append(chunks)?;
        active.keys_end = keys_end;
        self.position.next = next;
        self.high.store(next)?;
        Ok(syncs)
    }

    /// Seals the last generation and begins one at the next sequence.
    fn begin_generation(&mut self, directory: &Path) -> Result<(), Trouble> {
        if let Some(active) = self.generations.back_mut() {
            active.seal();
        }
        let created = Generation::create(directory, self.position.next, self.seen.end())?;
        self.generations.push_back(created);
        Ok(())
    }

    /// Records the receipt time of an append.
    pub fn mark(&mut self, first: Sequence, received_ms: i64) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push_back((first, received_ms));
        }
    }

    /// Reads chunks and lost ranges from `from`, up to about `bytes_max`.
    pub fn read(
        &mut self,
        lane: Lane,
        from: Sequence,
        bytes_max: usize,
    ) -> Result<Vec<Item>, Trouble> {
        let mut items = Vec::new();
        let mut from = from;
        let mut bytes = 0;
        while from < self.position.next && bytes < bytes_max {
            let lost = self
                .position
                .lost
                .iter()
                .find(|range| range.first <= from && from < range.end);
            if let Some(range) = lost {
                items.push(Item::Lost(LostRange {
                    first: from,
                    ..*range
                }));
                from = range.end;
                continue;
            }
            let holding = self
                .generations
                .iter()
                .find(|generation| from < generation.end);
            let Some(generation) = holding else {
                // The hub asks for events that it had acknowledged, and nothing follows them.
                let end = self.position.next;
                items.push(Item::Lost(deleted(from, end)));
                break;
            };
            if from < generation.first {
                items.push(Item::Lost(deleted(from, generation.first)));
                from = generation.first;
                continue;
            }
            let chunks = if generation.is_sealed {
                let kept = self.reader.take();
                let scanned = match kept.filter(|(first, _)| *first == generation.first) {
                    Some((_, scanned)) => scanned,
                    None => generation.scan(Wanted {
                        lane,
                        epoch: Some(self.position.epoch),
                    })?,
                };
                let (_, scanned) = self.reader.insert((generation.first, scanned));
                scanned.read(from, bytes_max - bytes)?
            } else {
                generation.read(from, bytes_max - bytes)?
            };
            if chunks
                .first()
                .is_none_or(|chunk| chunk.header().first > from)
            {
                let reason = format!("sequence {from} is not where it was written");
                return Err(Trouble::Damage(reason));
            }
            for chunk in chunks {
                // Damage removed chunks from the middle: the next round reports them as lost.
                if chunk.header().first > from {
                    break;
                }
                bytes += chunk.bytes().len();
                from = chunk.header().end();
                items.push(Item::Chunk(chunk));
            }
        }
        Ok(items)
    }

    /// Acknowledges everything before `next`, and deletes generations that are no longer needed.
    pub fn ack(&mut self, directory: &Path, next: Sequence) -> Result<(), Trouble> {
        let next = next.min(self.position.next);
        if next <= self.position.acked {
            return Ok(());
        }
        self.position.acked = next;
        self.position.forget_lost();
        while self.marks.get(1).is_some_and(|mark| mark.0 <= next) {
            self.marks.pop_front();
        }
        if next == self.position.next {
            self.marks.clear();
        }
        // The last one is kept for writing.
        while self.generations.len() > 1 && self.generations[0].end <= next {
            self.delete_oldest(directory)?;
        }
        Ok(())
    }

    /// Deletes the oldest generation, after storing its keys and the position.
    pub fn delete_oldest(&mut self, directory: &Path) -> Result<(), Trouble> {
        let Some(oldest) = self.generations.pop_front() else {
            return Ok(());
        };
        self.reader = self
            .reader
            .take()
            .filter(|(first, _)| *first != oldest.first);
        let path = directory.join("position");
        self.seen
            .persist(oldest.keys_end)
            .and_then(|()| self.position.store(&path))
            .and_then(|()| oldest.delete(directory))
            .map_err(Trouble::from)
    }

    /// Drops the oldest generation as a lost range; returns the number of lost events.
    pub fn drop_oldest(&mut self, directory: &Path) -> Result<u64, Trouble> {
        let Some(oldest) = self.generations.front() else {
            return Ok(0);
        };
        let range = LostRange {
            first: oldest.first.max(self.position.acked),
            end: oldest.end,
            reason: LostReason::Quota,
        };
        self.position.add_lost(range);
        while self.marks.get(1).is_some_and(|mark| mark.0 <= range.end) {
            self.marks.pop_front();
        }
        self.delete_oldest(directory)?;
        Ok(range.end.0.saturating_sub(range.first.0))
    }

    /// Deletes the last generation too if all its events are acknowledged: the next write begins a new one.
    pub fn delete_acknowledged(&mut self, directory: &Path) -> Result<(), Trouble> {
        let next = self.position.next;
        if self.position.acked == next && self.disk_bytes() > 0 {
            // A generation that is still empty already has this name.
            if self
                .generations
                .back()
                .is_none_or(|last| last.first != next)
            {
                self.begin_generation(directory)?;
            }
            while self.generations.len() > 1 {
                self.delete_oldest(directory)?;
            }
        }
        Ok(())
    }

    /// Number of files in `blobs/` of the generation being written; must be 0.
    pub fn blob_files(&self) -> u64 {
        self.generations.back().map_or(0, Generation::blob_files)
    }

    /// Continues the numbering at `next`.
    pub fn skip_to(&mut self, directory: &Path, next: Sequence) -> Result<(), Trouble> {
        // Events that wait here under sequences that the hub has exist nowhere else, so they stay readable;
        // if they differ from the hub's, it quarantines them.
        self.position.add_lost(deleted(self.position.next, next));
        self.position.next = next;
        // The position is stored first: a `high` beyond it means damage.
        self.position.store(&directory.join("position"))?;
        self.high.store(next)?;
        // A generation has no gaps, so numbering goes on in a new one.
        self.begin_generation(directory)
    }
}

fn deleted(first: Sequence, end: Sequence) -> LostRange {
    LostRange {
        first,
        end,
        reason: LostReason::Deleted,
    }
}
