//! The thread that owns a lane: recovers it, commits appends in groups, reads, acknowledges.
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::ids::{BootId, Epoch, Retention, Sequence};
use linli_shared::service::file::sync_directory;
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, Reserve};
use super::generation::{self, Generation};
use super::position::{HighMark, LostRange, LostReason, Position};
use super::seen::{EventKey, Seen};
use super::{
    AppendError, Appended, Item, LaneStatus, OpenError, Request, Settings, WhenFull, carve,
};

/// Events after which a commit takes no more appends.
const COMMIT_EVENTS_MAX: usize = 1024;
/// Receipt times that are kept for the watermark; beyond it they get coarser, never wrong.
const MARKS_MAX: usize = 4096;
/// Damaged generations that are kept for a person to look at.
const BAD_KEPT: usize = 2;
/// How often a lane that failed is opened again.
const RECOVER_PAUSE: Duration = Duration::from_secs(1);

struct Append {
    retention: Retention,
    boot: BootId,
    received_ms: i64,
    events: Packed,
    keys: Vec<EventKey>,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// What a recovery builds; it is thrown away whole when the disk fails.
struct Contents {
    position: Position,
    high: HighMark,
    seen: Seen,
    generations: VecDeque<Generation>,
    /// (first sequence, receipt time) of appends: a lower bound of what waits.
    marks: VecDeque<(Sequence, i64)>,
}

pub struct LaneTask {
    settings: Settings,
    status: watch::Sender<LaneStatus>,
    builder: ChunkBuilder,
    reserve: Reserve,
    contents: Result<Contents, (String, Instant)>,
    epoch: Epoch,
    _lock: File,
}

impl LaneTask {
    /// Takes the lane's directory and recovers what it holds.
    pub fn open(settings: Settings, status: watch::Sender<LaneStatus>) -> Result<Self, OpenError> {
        let directory = &settings.directory;
        let lock = take_lock(directory)?;
        let reserve = Reserve::new(directory);
        let recovered = recover(&settings, &status).or_else(|error| {
            // A full disk keeps sled from opening: the reserve is for this.
            tracing::warn!(lane = %settings.lane, %error, "recovery failed, trying again with the reserve released");
            reserve.release();
            recover(&settings, &status)
        })?;
        let epoch = recovered.position.epoch;
        reserve.keep();
        let task = Self {
            builder: ChunkBuilder::new()?,
            reserve,
            contents: Ok(recovered),
            epoch,
            settings,
            status,
            _lock: lock,
        };
        task.publish(None);
        Ok(task)
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Serves requests until all handles are gone.
    pub fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut appends: Vec<Append> = Vec::new();
        let mut others: Vec<Request> = Vec::new();
        while let Some(request) = inbox.blocking_recv() {
            let mut events = sort(request, &mut appends, &mut others);
            // What has gathered during the last sync goes into one commit.
            while events < COMMIT_EVENTS_MAX
                && let Ok(request) = inbox.try_recv()
            {
                events += sort(request, &mut appends, &mut others);
            }
            let mut refusing = self.status.borrow().refusing.clone();
            if !appends.is_empty() {
                refusing = self.commit(&mut appends);
            }
            for request in others.drain(..) {
                self.serve(request);
            }
            self.publish(refusing);
        }
        if let Ok(contents) = &mut self.contents {
            if let Err(error) = contents
                .position
                .store(&self.settings.directory.join("position"))
            {
                tracing::warn!(lane = %self.settings.lane, %error, "the position could not be written at the end");
            }
            for generation in &mut contents.generations {
                generation.close();
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Append { .. } => {}
            Request::Tick => self.status.send_modify(|status| status.rounds += 1),
            Request::Read {
                from,
                bytes_max,
                reply,
            } => {
                // The uplink may have gone away meanwhile; then nobody wants the answer.
                let _ = reply.send(self.read(from, bytes_max));
            }
            Request::Ack { next } => self.ack(next),
            Request::SkipTo { next } => self.skip_to(next),
        }
    }

    /// Commits all appends with one sync. Returns why appends are refused, if they are.
    fn commit(&mut self, appends: &mut Vec<Append>) -> Option<String> {
        if let Err(error) = self.admit() {
            let text = error.to_string();
            for append in appends.drain(..) {
                let _ = append.reply.send(Err(error.clone()));
            }
            return Some(text);
        }
        let outcome = self.write(appends);
        match outcome {
            Ok(counts) => {
                for (append, appended) in appends.drain(..).zip(counts) {
                    let _ = append.reply.send(Ok(appended));
                }
                None
            }
            Err(reason) => {
                self.fail(reason.clone());
                for append in appends.drain(..) {
                    let _ = append.reply.send(Err(AppendError::Disk {
                        lane: self.settings.lane,
                        reason: reason.clone(),
                    }));
                }
                Some(reason)
            }
        }
    }

    /// May events be appended at all?
    fn admit(&mut self) -> Result<(), AppendError> {
        let free_bytes = disk::free_bytes(&self.settings.directory).unwrap_or(0);
        if free_bytes < self.settings.free_bytes_min {
            return Err(AppendError::DiskFull {
                free_bytes,
                free_bytes_min: self.settings.free_bytes_min,
            });
        }
        self.reserve.keep();
        self.recover_if_failed();
        let lane = self.settings.lane;
        let contents = match &mut self.contents {
            Ok(contents) => contents,
            Err((reason, _)) => {
                return Err(AppendError::Disk {
                    lane,
                    reason: reason.clone(),
                });
            }
        };
        let quota_bytes = self.settings.quota_bytes;
        let mut bytes = contents.disk_bytes();
        while bytes > quota_bytes
            && self.settings.when_full == WhenFull::DropOldest
            && contents.generations.len() > 1
        {
            if let Err(reason) = contents.drop_oldest(&self.settings.directory, &self.status) {
                self.fail(reason.clone());
                return Err(AppendError::Disk { lane, reason });
            }
            bytes = contents.disk_bytes();
        }
        if bytes > quota_bytes {
            return Err(AppendError::Quota {
                lane,
                bytes,
                quota_bytes,
            });
        }
        Ok(())
    }

    fn write(&mut self, appends: &[Append]) -> Result<Vec<Appended>, String> {
        let contents = self
            .contents
            .as_mut()
            .map_err(|(reason, _)| reason.clone())?;
        let keys_before = contents.seen.end();
        let mut counts = Vec::with_capacity(appends.len());
        let mut chunks = Vec::new();
        let mut run_events = Packed::default();
        let mut next = contents.position.next;
        for (index, append) in appends.iter().enumerate() {
            let fresh: Vec<bool> = append
                .keys
                .iter()
                .map(|key| contents.seen.insert(*key))
                .collect();
            let stored = fresh.iter().filter(|fresh| **fresh).count();
            counts.push(Appended {
                stored,
                doubled: fresh.len() - stored,
            });
            if stored == fresh.len() {
                run_events.append(&append.events);
            } else {
                run_events.append_where(&append.events, &fresh);
            }
            let run_ends = appends.get(index + 1).is_none_or(|following| {
                (following.retention, following.boot) != (append.retention, append.boot)
            });
            if run_ends {
                let run = Run {
                    lane: self.settings.lane,
                    retention: append.retention,
                    epoch: contents.position.epoch,
                    first: next,
                    boot: append.boot,
                };
                self.builder
                    .build(run, &run_events, &mut chunks)
                    .map_err(|error| error.to_string())?;
                next = next.plus(run_events.len() as u64);
                run_events.clear();
            }
        }
        if chunks.is_empty() {
            return Ok(counts);
        }
        let written = contents.write(&self.settings, &chunks, next);
        if let Err(reason) = written {
            contents.seen.forget_from(keys_before);
            return Err(reason);
        }
        if let Some(oldest_ms) = appends.iter().map(|append| append.received_ms).min() {
            contents.mark(chunks[0].header().first, oldest_ms);
        }
        self.status.send_modify(|status| status.syncs += 1);
        Ok(counts)
    }

    fn read(&mut self, from: Sequence, bytes_max: usize) -> Vec<Item> {
        self.recover_if_failed();
        let Ok(contents) = &mut self.contents else {
            return Vec::new();
        };
        match contents.read(from, bytes_max) {
            Ok(items) => items,
            Err(reason) => {
                self.fail(reason);
                Vec::new()
            }
        }
    }

    fn ack(&mut self, next: Sequence) {
        let Ok(contents) = &mut self.contents else {
            return;
        };
        if let Err(reason) = contents.ack(&self.settings.directory, next) {
            self.fail(reason);
        }
    }

    fn skip_to(&mut self, next: Sequence) {
        let Ok(contents) = &mut self.contents else {
            return;
        };
        if next <= contents.position.next {
            return;
        }
        tracing::warn!(
            lane = %self.settings.lane, from = %contents.position.next, to = %next,
            "the hub is ahead of this spool: it was put back to an older state; numbering goes on from the hub's position"
        );
        if let Err(reason) = contents.skip_to(&self.settings.directory, next) {
            self.fail(reason);
        }
    }

    /// The disk failed: what is in memory is not trusted any more.
    fn fail(&mut self, reason: String) {
        tracing::error!(lane = %self.settings.lane, reason, "the spool failed, it is opened again");
        if reason.contains("No space left") || reason.contains("StorageFull") {
            self.reserve.release();
        }
        let failed = Err((reason, Instant::now()));
        if let Ok(mut contents) = std::mem::replace(&mut self.contents, failed) {
            for generation in &mut contents.generations {
                generation.close();
            }
        }
    }

    fn recover_if_failed(&mut self) {
        let Err((_, at)) = &self.contents else { return };
        if at.elapsed() < RECOVER_PAUSE {
            return;
        }
        match recover(&self.settings, &self.status) {
            Ok(contents) => {
                tracing::info!(lane = %self.settings.lane, "the spool works again");
                self.contents = Ok(contents);
            }
            Err(error) => {
                let reason = linli_shared::service::telemetry::chain(&error);
                self.contents = Err((reason, Instant::now()));
            }
        }
    }

    fn publish(&self, refusing: Option<String>) {
        // The uplink waits on this: it is woken by a change, not by every round.
        self.status.send_if_modified(|status| {
            let mut now = LaneStatus {
                refusing,
                ..status.clone()
            };
            if let Ok(contents) = &self.contents {
                now.epoch = contents.position.epoch.0;
                now.acked = contents.position.acked;
                now.next = contents.position.next;
                now.bytes = contents.disk_bytes();
                now.oldest_ms = contents.marks.front().map(|mark| mark.1);
            }
            let changed = now != *status;
            *status = now;
            changed
        });
    }
}

/// Puts a request where it belongs and returns the events that it adds to the commit.
fn sort(request: Request, appends: &mut Vec<Append>, others: &mut Vec<Request>) -> usize {
    match request {
        Request::Append {
            retention,
            boot,
            received_ms,
            events,
            keys,
            reply,
        } => {
            let count = events.len();
            appends.push(Append {
                retention,
                boot,
                received_ms,
                events,
                keys,
                reply,
            });
            count
        }
        other => {
            others.push(other);
            0
        }
    }
}

impl Contents {
    fn disk_bytes(&self) -> u64 {
        self.generations
            .iter()
            .map(|generation| generation.disk_bytes)
            .sum()
    }

    fn write(
        &mut self,
        settings: &Settings,
        chunks: &[Chunk],
        next: Sequence,
    ) -> Result<(), String> {
        let full = self.generations.back().is_none_or(|active| {
            active.disk_bytes.max(active.chunk_bytes) >= settings.generation_bytes
                && active.chunk_bytes > 0
        });
        if full {
            self.position
                .store(&settings.directory.join("position"))
                .map_err(|error| error.to_string())?;
            if let Some(active) = self.generations.back_mut() {
                active.close();
            }
            let created =
                Generation::create(&settings.directory, self.position.next, self.seen.end())?;
            self.generations.push_back(created);
        }
        let keys_end = self.seen.end();
        let Some(active) = self.generations.back_mut() else {
            return Err("there is no generation to write to".to_owned());
        };
        active.append(chunks)?;
        active.keys_end = keys_end;
        self.position.next = next;
        self.high.store(next).map_err(|error| error.to_string())
    }

    fn mark(&mut self, first: Sequence, received_ms: i64) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push_back((first, received_ms));
        }
    }

    fn read(&mut self, from: Sequence, bytes_max: usize) -> Result<Vec<Item>, String> {
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
            let active = self.generations.len().saturating_sub(1);
            let holding = self
                .generations
                .iter_mut()
                .enumerate()
                .find(|(_, generation)| from < generation.end);
            let Some((index, generation)) = holding else {
                // The hub asks for what it had acknowledged, and nothing follows it.
                let end = self.position.next;
                items.push(Item::Lost(deleted(from, end)));
                break;
            };
            if from < generation.first {
                items.push(Item::Lost(deleted(from, generation.first)));
                from = generation.first;
                continue;
            }
            let chunks = generation.read(from, bytes_max - bytes)?;
            if chunks
                .first()
                .is_none_or(|chunk| chunk.header().first > from)
            {
                return Err(format!("sequence {from} is not where it was written"));
            }
            for chunk in chunks {
                if chunk.header().first > from {
                    return Err(format!("sequence {from} is not where it was written"));
                }
                bytes += chunk.bytes().len();
                from = chunk.header().end();
                items.push(Item::Chunk(chunk));
            }
            if from >= generation.end && index != active {
                generation.close();
            }
        }
        Ok(items)
    }

    fn ack(&mut self, directory: &Path, next: Sequence) -> Result<(), String> {
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
        // The last one stays to be written to.
        while self.generations.len() > 1 && self.generations[0].end <= next {
            self.delete_oldest(directory)?;
        }
        Ok(())
    }

    fn delete_oldest(&mut self, directory: &Path) -> Result<(), String> {
        let Some(oldest) = self.generations.pop_front() else {
            return Ok(());
        };
        let path = directory.join("position");
        self.seen
            .persist(oldest.keys_end)
            .and_then(|()| self.position.store(&path))
            .and_then(|()| oldest.delete())
            .map_err(|error| error.to_string())
    }

    fn drop_oldest(
        &mut self,
        directory: &Path,
        status: &watch::Sender<LaneStatus>,
    ) -> Result<(), String> {
        let Some(oldest) = self.generations.front() else {
            return Ok(());
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
        status
            .send_modify(|status| status.lost_events += range.end.0.saturating_sub(range.first.0));
        self.delete_oldest(directory)
    }

    fn skip_to(&mut self, directory: &Path, next: Sequence) -> Result<(), String> {
        // What waits here under numbers that the hub has is offered again by no one else, so it stays
        // readable; the hub keeps it in quarantine if it differs from what it has.
        self.position.add_lost(deleted(self.position.next, next));
        self.position.next = next;
        self.high.store(next).map_err(|error| error.to_string())?;
        self.position
            .store(&directory.join("position"))
            .map_err(|error| error.to_string())?;
        // A generation has no gaps, so numbering goes on in a new one.
        if let Some(active) = self.generations.back_mut() {
            active.close();
        }
        let created = Generation::create(directory, next, self.seen.end())?;
        self.generations.push_back(created);
        Ok(())
    }
}

fn deleted(first: Sequence, end: Sequence) -> LostRange {
    LostRange {
        first,
        end,
        reason: LostReason::Deleted,
    }
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

fn take_lock(directory: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(directory).map_err(file_error("making", directory))?;
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(file_error("making", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(file_error("locking", &path)(source)),
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

/// Brings the lane from whatever is on disk to a state that can be used.
fn recover(settings: &Settings, status: &watch::Sender<LaneStatus>) -> Result<Contents, OpenError> {
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
        let loaded =
            Generation::load(&path, lane, position.epoch).map_err(file_error("reading", &path))?;
        let mut end = first;
        let mut chunk_bytes = 0;
        let mut gap = false;
        for chunk in loaded.chunks.values() {
            let header = chunk.header();
            gap |= header.first > end;
            note_gap(&mut position, status, cursor.max(end), header.first);
            end = header.end();
            cursor = cursor.max(end);
            chunk_bytes += chunk.bytes().len() as u64;
            note_events(chunk, &mut seen, &mut marks, position.acked);
        }
        let mut generation = Generation::at(path.clone(), first, end, seen.end());
        generation.chunk_bytes = chunk_bytes;
        if let Some(reason) = loaded.damage {
            tracing::error!(%lane, generation = ?path, reason, gap, chunks = loaded.chunks.len(), "a generation was damaged; what reads is saved");
            status.send_modify(|status| status.damaged += 1);
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
    let next = position.next.max(high.load().unwrap_or(Sequence(0)));
    note_gap(&mut position, status, cursor, next);
    position.next = next.max(cursor);
    // A generation that ends before the last number cannot take the next one.
    if generations
        .back()
        .is_some_and(|last: &Generation| last.end != position.next)
    {
        let created =
            Generation::create(directory, position.next, seen.end()).map_err(|reason| {
                OpenError::Database {
                    path: directory.clone(),
                    reason,
                }
            })?;
        generations.push_back(created);
    }
    position
        .store(&position_path)
        .map_err(file_error("writing", &position_path))?;
    sync_directory(directory).map_err(file_error("syncing", directory))?;
    status.send_modify(|status| {
        status.blob_files = generations.iter().map(Generation::blob_files).sum();
    });
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
            .map_err(|reason| OpenError::Database {
                path: directory.clone(),
                reason,
            })?;
    }
    Ok(contents)
}

/// Sequences from `from` to `to` are not on disk and were not known to be lost.
fn note_gap(
    position: &mut Position,
    status: &watch::Sender<LaneStatus>,
    from: Sequence,
    to: Sequence,
) {
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
            add_damage(position, status, from, gap_end);
        }
        from = range.end;
    }
    if from < to {
        add_damage(position, status, from, to);
    }
}

fn add_damage(
    position: &mut Position,
    status: &watch::Sender<LaneStatus>,
    first: Sequence,
    end: Sequence,
) {
    tracing::error!(%first, %end, "events are lost by damage of the disk");
    position.add_lost(LostRange {
        first,
        end,
        reason: LostReason::Damage,
    });
    status.send_modify(|status| status.lost_events += end.0 - first.0);
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
        let oldest_ms = events.iter().map(|event| event.received_at_ms).min();
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
        Some(made.map_err(|reason| OpenError::Database {
            path: directory.join(generation::name("salv", first)),
            reason,
        })?)
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
