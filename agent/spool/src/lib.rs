//! The spool: events that were acknowledged to their source and are not yet acknowledged by the hub.
//!
//! Each lane has one spool, in its own directory, owned by one thread. Sources append through a cloneable
//! [`Spool`] handle; the uplink reads, and acknowledges the events that the hub has stored.
//!
//! ```text
//! <data>/spool/<lane>/
//!   position                 epoch, next, acked, lost ranges; with a checksum; replaced atomically
//!   high                     the sequence after the last synced event; reveals damage
//!   lock                     held by the process that owns the lane
//!   seen                     keys of events that are no longer in a generation
//!   reserve                  2 MiB, released when the disk is full, so that acknowledging still works
//!   g-<first sequence>/      a generation: one sled database of at most generation_bytes
//!   tmp-<first sequence>/    a generation being created or removed; a start removes it
//!   salv-<first sequence>/   a rewritten generation, complete, about to replace the original
//!   bad-<first sequence>-<n>/ a damaged generation, kept for a person; the two newest are kept
//! ```
//!
//! A record is a chunk: key = sequence of its first event (u64, big-endian), value = the chunk's bytes
//! as [`linli_shared::protocol::chunk`] writes them.
//!
//! # Rules
//! * **Written**: an append is answered after `flush()` of sled, which passes its log to the kernel, and our
//!   own `fdatasync` of the database file, which sled omits. All waiting appends share one commit, of at most
//!   `COMMIT_EVENTS_MAX` events (in `lane`); it is synced after every 128 KiB.
//! * **Small values**: no record is larger than a chunk (6 KiB): sled keeps larger values in files that it
//!   never syncs. `blobs/` is checked to stay empty.
//! * **Opened by sled**: only the last generation, and only if this process created it. sled rewrites a file
//!   that it opens and cuts off everything behind damage of its own records. All other generations are read
//!   by the magic and the checksum of their chunks, which changes no byte and needs no index of sled.
//! * **Read**: from any sequence, in order, whole chunks. A missing sequence is reported as a [`LostRange`],
//!   never skipped.
//! * **Deleted**: a generation is deleted as a whole, after its last event is acknowledged. Before that,
//!   `position` is replaced and its keys go to `seen`, so that neither sequence nor event is used twice.
//! * **Duplicates**: an event whose [`EventKey`] (id and content) is among the last [`Settings::seen_max`] is
//!   answered as stored and not stored again. A known id with different content is stored, and counted as a
//!   conflict.
//! * **Start**: everything is read before anything is changed. The last generation is rewritten, so that sled
//!   can open it, unless it is at least half full: then a new one begins. The time is bounded (see
//!   `recover.rs`), and [`Settings::progress`] increases meanwhile.
//! * **Damage**: intact chunks are written to a new generation, which is synced and replaces the damaged one.
//!   Missing chunks become a lost range. Damage of sled's own records loses nothing. An error of the system
//!   (no space, no descriptors) is not damage: the operation is retried.
//! * **Full**: below [`Settings::free_bytes_min`] of free disk space, or above the lane's quota, an append is
//!   refused and the source holds back; acknowledged events are never dropped. With
//!   `when_full = "drop-oldest"` the routine lane instead drops its oldest generation, as a lost range. The
//!   urgent lane never drops. A start without room to rewrite a generation reads it as it is.
//! * **Failure**: after an error of the disk, or a panic of sled, which is caught, the whole lane is reopened
//!   as after a crash: there is only one way to recover. A generation whose sync failed is rewritten, because
//!   the kernel reports lost pages only once.
//!
//! # What a start can find
//!
//! | on the disk | action | test in `tests::` |
//! | --- | --- | --- |
//! | `tmp-N`, half created or half removed | removed | `states::a_generation_that_was_half_made_is_removed` |
//! | `salv-N` beside `g-N` with less in it | replaces it | `states::a_salvage_beside_the_damaged_original_takes_its_place` |
//! | `salv-N` without `g-N` | becomes it | `states::a_salvage_without_its_original_takes_its_place` |
//! | `salv-N` with less than `g-N` | removed | `states::a_salvage_that_has_less_than_its_original_is_removed` |
//! | `bad-N-n` | the two newest are kept | `states::a_damaged_generation_is_kept_beside_earlier_ones_the_two_newest` |
//! | a damaged chunk | a lost range; the others are rewritten | `lane::one_damaged_chunk_costs_its_events_and_no_others` |
//! | sled's own records damaged or gone | nothing is lost | `states::a_database_that_is_destroyed_between_its_chunks_loses_none_and_is_no_damage` |
//! | an intact generation | no byte of it is changed | `states::a_start_changes_nothing_in_the_generations_that_it_keeps` |
//! | a generation without events | created anew | `states::an_empty_generation_is_made_anew_whatever_is_in_its_file` |
//! | a generation half removed, acknowledged | removed | `states::a_generation_that_was_half_removed_is_removed` |
//! | a last generation with few events | continued | `states::starts_again_and_again_make_no_more_generations_than_one` |
//! | two generations with the same events | each event once | `states::generations_that_overlap_give_each_event_once` |
//! | a number in another spelling | ignored | `states::a_directory_with_another_spelling_of_a_number_is_left_alone` |
//! | no generation | the waiting events are a lost range | `states::without_its_generations_all_that_waited_is_reported_as_lost` |
//! | files in `blobs/` | counted | `states::files_in_blobs_are_counted_and_change_nothing` |
//! | chunks of another epoch beside those of the position | a lost range | `states::chunks_of_another_epoch_beside_those_of_the_position_are_not_taken` |
//! | only chunks of another epoch than the position's | the chunks are kept, with their epoch | `states::a_position_of_another_epoch_than_all_chunks_is_not_believed` |
//! | no position, or a damaged one | epoch and numbers of the chunks | `states::without_a_position_epoch_and_numbers_are_those_of_the_chunks` |
//! | an older position | later events are sent again, deleted ones are a lost range | `states::an_older_position_gives_what_was_acknowledged_since_as_lost_and_the_rest_again` |
//! | a position or `high` beyond the chunks | a lost range; numbering continues after it | `states::a_position_or_a_high_mark_beyond_the_chunks_means_that_events_are_lost` |
//! | `high` behind the chunks, damaged or missing | chunks that follow are kept | `states::with_a_high_mark_that_is_behind_damaged_or_missing_all_chunks_that_follow_are_kept` |
//! | intact chunks behind a torn write above `high` | left out: they were never acknowledged | `states::chunks_behind_a_torn_write_that_nobody_was_answered_for_are_not_taken` |
//! | `seen` cut, damaged, missing, of an earlier version | no event is lost by it | `states::a_file_of_keys_that_is_cut_damaged_or_missing_costs_no_event`, `seen::tests` |
//! | the lock held | refused, nothing is touched | `states::a_lane_that_is_in_use_is_refused_and_is_not_touched` |
//! | no reserve | created | `states::a_missing_reserve_is_made` |
//! | a full or failing disk | the start succeeds, or the next one | `states::a_start_that_is_refused_at_any_operation_opens_then_or_the_next_time_with_everything` |
//! | the remains of a killed start | no intact chunk is lost | `kills::*` |
//! | the remains of a power cut | no acknowledged event is lost, none is wrong | `model::whatever_is_done_to_a_lane_it_holds_what_a_model_of_it_holds_also_after_a_power_cut` |
//! | any damage | each event as it was, or a lost range | `model::whatever_is_damaged_in_a_lane_each_event_is_there_as_it_was_or_reported_as_lost` |
mod chunk_file;
mod contents;
pub mod disk;
mod event_key;
mod generation;
mod handle;
mod lane;
mod position;
mod recover;
mod salvage;
mod seen;
pub mod sled_log;
mod survey;

use linli_shared::protocol::chunk::{BuildError, Chunk};
use linli_shared::protocol::ids::{Lane, Sequence};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use event_key::EventKey;
pub use handle::{Spool, SpoolThread};
pub use position::LostRange;

/// The behaviour of a lane at its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Refuse new events: the source keeps them and tries again.
    Refuse,
    /// Drop the oldest generation and report its range as lost.
    DropOldest,
}

/// Layout and limits of a lane's spool.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the lane.
    pub directory: PathBuf,
    /// Lane.
    pub lane: Lane,
    /// Size at which a generation is closed, bytes.
    pub generation_bytes: u64,
    /// Maximum size of this lane on disk, bytes.
    pub quota_bytes: u64,
    /// Minimum free space on the disk, bytes.
    pub free_bytes_min: u64,
    /// Number of events whose keys are remembered.
    pub seen_max: usize,
    /// Behaviour at the quota.
    pub when_full: WhenFull,
    /// Increases while the lane is being opened.
    pub progress: Progress,
}

/// Counts the work of opening a lane: blocks read, chunks decoded or rewritten. If it stops increasing, the
/// opening hangs.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// The work done so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why an append was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk has too little space left.
    #[error(
        "the disk of the spool has {free_bytes} bytes free, less than the {free_bytes_min} that must stay: \
         make room on it or move [spool] directory"
    )]
    DiskFull {
        /// Free bytes.
        free_bytes: u64,
        /// Bytes that must stay free.
        free_bytes_min: u64,
    },
    /// The lane's quota is reached.
    #[error(
        "the {lane} spool holds {bytes} bytes, its quota is {quota_bytes}: check why the hub does not \
         take events, or raise [spool] quota"
    )]
    Quota {
        /// Lane of the spool.
        lane: Lane,
        /// Bytes in use.
        bytes: u64,
        /// The quota, bytes.
        quota_bytes: u64,
    },
    /// The disk failed; the lane is being reopened.
    #[error("the {lane} spool cannot write: {reason}")]
    Disk {
        /// Lane.
        lane: Lane,
        /// Cause.
        reason: String,
    },
    /// The agent is stopping.
    #[error("the spool is closed: the agent stops")]
    Closed,
}

/// Why a lane could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("{operation} {path:?} failed")]
    File {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A generation could not be created.
    #[error("the database {path:?} cannot be opened: {reason}")]
    Database {
        /// The generation.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// The compressor could not be created.
    #[error("chunks cannot be built")]
    Build(#[from] BuildError),
    /// Another process uses the spool.
    #[error("the spool {0:?} is in use by another process: is the agent already running?")]
    InUse(PathBuf),
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Number of new events.
    pub stored: usize,
    /// Number of events already stored, by id and content.
    pub doubled: usize,
    /// Number of new events whose id was already stored with different content.
    pub conflicts: usize,
}

impl Appended {
    fn add(&mut self, novelty: seen::Novelty) {
        match novelty {
            seen::Novelty::New => self.stored += 1,
            seen::Novelty::Conflict => {
                self.stored += 1;
                self.conflicts += 1;
            }
            seen::Novelty::Repeated => self.doubled += 1,
        }
    }
}

/// A chunk or a gap, as a read returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A chunk.
    Chunk(Chunk),
    /// A lost range.
    Lost(LostRange),
}

/// The status of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Epoch.
    pub epoch: u64,
    /// First unacknowledged sequence.
    pub acked: Sequence,
    /// Sequence of the next event.
    pub next: Sequence,
    /// Size on disk, bytes.
    pub bytes: u64,
    /// Receipt of the oldest waiting event, milliseconds since 1970 UTC; a lower bound. The event of an
    /// agent's start counts from the beginning of the downtime.
    pub oldest_ms: Option<i64>,
    /// Why appends are refused; `None` if they are accepted.
    pub refusing: Option<String>,
    /// Number of events lost since the start, by damage or by quota.
    pub lost_events: u64,
    /// Number of damaged generations found since the start.
    pub damaged: u64,
    /// Number of syncs since the start.
    pub syncs: u64,
    /// Number of files in `blobs/`; must stay 0.
    pub blob_files: u64,
    /// Number of ticks that the thread has answered: proof of life for the watchdog.
    pub rounds: u64,
}

impl LaneStatus {
    /// Number of waiting events.
    pub fn events(&self) -> u64 {
        self.next.0.saturating_sub(self.acked.0)
    }
}

#[cfg(test)]
mod tests;
