//! The thread that owns a lane: recovers it, commits appends in groups, reads, acknowledges.
use linli_shared::protocol::chunk::{ChunkBuilder, Packed, Run};
use linli_shared::protocol::ids::{Epoch, Sequence};
use std::fs::File;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

use super::contents::Contents;
use super::disk::{self, Reserve};
use super::generation::Trouble;
use super::handle::{Append, Request};
use super::recover::{Findings, recover, take_lock};
use super::seen::Novelty;
use super::{AppendError, Appended, Item, LaneStatus, OpenError, Settings, WhenFull};

/// A commit with this many events accepts no more appends.
const COMMIT_EVENTS_MAX: usize = 2048;
/// Pause before a failed lane is reopened. Tests fail often.
const RECOVER_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Why the contents are unavailable, and the state kept meanwhile.
struct Failure {
    reason: String,
    at: Instant,
    /// The generation whose last sync failed.
    distrusted: Option<Sequence>,
    /// The position that the hub has acknowledged.
    acked: Sequence,
}

/// The state of a lane's thread.
pub struct LaneTask {
    settings: Settings,
    status: watch::Sender<LaneStatus>,
    builder: ChunkBuilder,
    reserve: Reserve,
    contents: Result<Contents, Failure>,
    epoch: Epoch,
    _lock: File,
}

impl LaneTask {
    /// Locks the lane's directory and recovers its contents.
    pub fn open(settings: Settings, status: watch::Sender<LaneStatus>) -> Result<Self, OpenError> {
        let directory = &settings.directory;
        let lock = take_lock(directory)?;
        let reserve = Reserve::new(directory);
        let (contents, findings) = recover(&settings, None).or_else(|error| {
            // sled cannot open on a full disk: the reserve is for this.
            tracing::warn!(lane = %settings.lane, %error, "recovery failed, trying again with the reserve released");
            reserve.release();
            recover(&settings, None)
        })?;
        let epoch = contents.position.epoch;
        reserve.keep();
        let task = Self {
            builder: ChunkBuilder::new()?,
            reserve,
            contents: Ok(contents),
            epoch,
            settings,
            status,
            _lock: lock,
        };
        task.note(findings);
        task.publish(None);
        Ok(task)
    }

    /// The epoch of the lane's sequences.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Serves requests until a close request, or until all handles are dropped.
    pub fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut appends: Vec<Append> = Vec::new();
        let mut others: Vec<Request> = Vec::new();
        let mut closing = false;
        while !closing && let Some(request) = inbox.blocking_recv() {
            let mut events = self.sort(request, &mut appends, &mut others);
            // Appends that arrived during the last sync go into one commit.
            while events < COMMIT_EVENTS_MAX
                && let Ok(request) = inbox.try_recv()
            {
                events += self.sort(request, &mut appends, &mut others);
            }
            let mut refusing = self.status.borrow().refusing.clone();
            if !appends.is_empty() {
                let outcome = self.commit(&appends);
                refusing = outcome.as_ref().err().map(AppendError::to_string);
                // Before the answers: a source with an answer finds its events in the status.
                self.publish(refusing.clone());
                answer(&mut appends, &outcome);
            }
            for request in others.drain(..) {
                match request {
                    Request::Read {
                        from,
                        bytes_max,
                        reply,
                    } => {
                        // The uplink may have been dropped meanwhile; then nobody needs the answer.
                        let _ = reply.send(self.read(from, bytes_max));
                    }
                    Request::Ack { next } => self.ack(next),
                    Request::Tick => refusing = self.tick(),
                    Request::Close => closing = true,
                    Request::Append(_) | Request::SkipTo { .. } => {}
                }
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
                generation.seal();
            }
        }
    }

    /// Sorts a request into its queue and returns the number of events that it adds to the commit.
    fn sort(
        &mut self,
        request: Request,
        appends: &mut Vec<Append>,
        others: &mut Vec<Request>,
    ) -> usize {
        match request {
            Request::Append(append) => {
                let count = append.events.len();
                appends.push(append);
                count
            }
            // Sequences that the hub already has must not be assigned to events of this round.
            Request::SkipTo { next } => {
                self.skip_to(next);
                0
            }
            other => {
                others.push(other);
                0
            }
        }
    }

    /// Checks in advance whether events would be accepted.
    fn tick(&mut self) -> Option<String> {
        let refusing = self.admit().err().map(|error| error.to_string());
        let blob_files = self.contents.as_ref().map_or(0, Contents::blob_files);
        self.status.send_modify(|status| {
            status.rounds += 1;
            status.blob_files = status.blob_files.max(blob_files);
        });
        refusing
    }

    fn note(&self, findings: Findings) {
        self.status.send_modify(|status| {
            status.lost_events += findings.lost_events;
            status.damaged += findings.damaged;
        });
    }

    /// Commits all appends together; returns the result of each.
    fn commit(&mut self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        self.admit()?;
        self.write(appends).map_err(|trouble| self.failed(trouble))
    }

    /// Checks whether events may be appended. Without room, deletes what may be deleted.
    fn admit(&mut self) -> Result<(), AppendError> {
        self.recover_if_failed();
        let mut room = self.room();
        if room.is_err() {
            self.make_room().map_err(|trouble| self.failed(trouble))?;
            room = self.room();
        }
        if !matches!(room, Err(AppendError::DiskFull { .. })) {
            self.reserve.keep();
        }
        room
    }

    /// Checks the free space and the quota.
    fn room(&self) -> Result<(), AppendError> {
        let Settings {
            directory,
            lane,
            quota_bytes,
            free_bytes_min,
            ..
        } = &self.settings;
        let free_bytes = disk::free_bytes(directory).unwrap_or(0);
        if free_bytes < *free_bytes_min {
            return Err(AppendError::DiskFull {
                free_bytes,
                free_bytes_min: *free_bytes_min,
            });
        }
        let contents = self
            .contents
            .as_ref()
            .map_err(|failure| AppendError::Disk {
                lane: *lane,
                reason: failure.reason.clone(),
            })?;
        let bytes = contents.disk_bytes();
        if bytes > *quota_bytes {
            return Err(AppendError::Quota {
                lane: *lane,
                bytes,
                quota_bytes: *quota_bytes,
            });
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Trouble> {
        if let Ok(contents) = &mut self.contents {
            contents.delete_acknowledged(&self.settings.directory)?;
        }
        while self.settings.when_full == WhenFull::DropOldest
            && self.room().is_err()
            && let Ok(contents) = &mut self.contents
            && contents.generations.len() > 1
        {
            let lost = contents.drop_oldest(&self.settings.directory)?;
            self.status.send_modify(|status| status.lost_events += lost);
        }
        Ok(())
    }

    /// Handles a failure of the disk during an append.
    fn failed(&mut self, trouble: Trouble) -> AppendError {
        let reason = trouble.to_string();
        self.fail(trouble);
        AppendError::Disk {
            lane: self.settings.lane,
            reason,
        }
    }

    fn write(&mut self, appends: &[Append]) -> Result<Vec<Appended>, Trouble> {
        let contents = match &mut self.contents {
            Ok(contents) => contents,
            Err(failure) => return Err(Trouble::System(failure.reason.clone())),
        };
        let mut counts = Vec::with_capacity(appends.len());
        let mut chunks = Vec::new();
        let mut run_events = Packed::default();
        let mut next = contents.position.next;
        for (index, append) in appends.iter().enumerate() {
            let mut count = Appended::default();
            let is_new: Vec<bool> = append
                .keys
                .iter()
                .map(|key| {
                    let novelty = contents.seen.insert(*key);
                    count.add(novelty);
                    novelty != Novelty::Repeated
                })
                .collect();
            counts.push(count);
            if count.doubled == 0 {
                run_events.append(&append.events);
            } else {
                run_events.append_where(&append.events, &is_new);
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
                    .map_err(|error| Trouble::System(error.to_string()))?;
                next = next.plus(run_events.len() as u64);
                run_events.clear();
            }
        }
        if chunks.is_empty() {
            return Ok(counts);
        }
        let syncs = contents.write(&self.settings, &chunks, next)?;
        if let Some(oldest_ms) = appends.iter().map(|append| append.received_ms).min() {
            contents.mark(chunks[0].header().first, oldest_ms);
        }
        self.status.send_modify(|status| status.syncs += syncs);
        Ok(counts)
    }

    fn read(&mut self, from: Sequence, bytes_max: usize) -> Vec<Item> {
        self.recover_if_failed();
        let Ok(contents) = &mut self.contents else {
            return Vec::new();
        };
        let read = contents.read(self.settings.lane, from, bytes_max);
        read.unwrap_or_else(|trouble| {
            self.fail(trouble);
            Vec::new()
        })
    }

    fn ack(&mut self, next: Sequence) {
        match &mut self.contents {
            Ok(contents) => {
                if let Err(trouble) = contents.ack(&self.settings.directory, next) {
                    self.fail(trouble);
                }
            }
            Err(failure) => failure.acked = failure.acked.max(next),
        }
    }

    fn skip_to(&mut self, next: Sequence) {
        self.recover_if_failed();
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
        if let Err(trouble) = contents.skip_to(&self.settings.directory, next) {
            self.fail(trouble);
        }
    }

    /// Handles a failure of the disk: discards the state in memory, which is no longer reliable.
    fn fail(&mut self, trouble: Trouble) {
        let reason = trouble.to_string();
        tracing::error!(lane = %self.settings.lane, reason, "the spool failed, it is opened again");
        if trouble.is_no_space() {
            self.reserve.release();
        }
        if let Ok(contents) = &mut self.contents {
            for generation in &mut contents.generations {
                generation.seal();
            }
            let distrusted = contents
                .generations
                .iter()
                .find(|generation| generation.is_distrusted);
            self.contents = Err(Failure {
                reason,
                at: Instant::now(),
                distrusted: distrusted.map(|generation| generation.first),
                acked: contents.position.acked,
            });
        }
    }

    fn recover_if_failed(&mut self) {
        let Err(failure) = &mut self.contents else {
            return;
        };
        if failure.at.elapsed() < RECOVER_PAUSE {
            return;
        }
        let acked = failure.acked;
        match recover(&self.settings, failure.distrusted) {
            Ok((contents, findings)) => {
                tracing::info!(lane = %self.settings.lane, "the spool works again");
                self.contents = Ok(contents);
                self.note(findings);
                self.ack(acked);
            }
            Err(error) => {
                failure.reason = linli_shared::service::telemetry::chain(&error);
                failure.at = Instant::now();
            }
        }
    }

    fn publish(&self, refusing: Option<String>) {
        // The uplink waits on this: only a change wakes it, not every round.
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

/// Answers each source. A source that was dropped meanwhile sends its events again.
fn answer(appends: &mut Vec<Append>, outcome: &Result<Vec<Appended>, AppendError>) {
    for (index, append) in appends.drain(..).enumerate() {
        let of_this = outcome.as_ref().map(|counts| counts[index]);
        let _ = append.reply.send(of_this.map_err(AppendError::clone));
    }
}
