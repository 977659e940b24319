//! The agent's own starts as events, so that downtime is known to be a gap.
//!
//! At each start one event of the kind [`AGENT_STARTED`] is stored, on the routine lane, with the time since when no
//! process was known to accept events. So a rule about absence ("opened and not closed within 5 min") does not
//! mistake the silence of an agent that was down for the silence of a door.
//!
//! ```text
//! <data>/alive     the wall clock, milliseconds since 1970 UTC, twenty digits and a line feed
//! ```
//!
//! `alive` is written every [`WRITE_EVERY`] while the wall clock is set, and at a clean stop. The first time in a
//! process it is replaced whole and synced; then it is overwritten in place, at the same length and without a sync.
//! After a power cut an older value may be there: the reported gap is then longer than the real one, never shorter.
//! If the wall clock was put back since, the gap would begin after its end: it is reported to begin at the start,
//! because its length is unknown.
//!
//! # Order
//! * `alive` is not touched before the event is in the spool: an agent that is killed before that reports the whole
//!   gap at its next start.
//! * The event is tried before pushes are served, for [`FIRST_TRY`] at most, so it is normally in the spool before
//!   this process answers anything. If a full disk refuses it, it is retried until it is stored, beside pushes, which
//!   never wait for it.
//! * The watermark holds in every case: until the hub has acknowledged the event, no heartbeat reports completeness
//!   beyond the beginning of the gap. On its way into the spool a [`Stamp`] ensures that, then the spool's own mark,
//!   also after another start.
use linli_shared::protocol::chunk::BuildError;
use linli_shared::protocol::event::{
    AGENT_ITSELF, AGENT_STARTED, ClockQuality, DOWN_SINCE, Draft, Severity,
};
use linli_shared::protocol::ids::{BootId, Lane, Retention};
use linli_shared::service::{clock, file, telemetry};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::intake::{Intake, SubmitError};
use crate::pending::{Pending, Stamp};

/// Interval of writes to the file: a reported gap is longer than the real one by up to this much.
const WRITE_EVERY: Duration = Duration::from_secs(15);
/// Longest wait for the start's event before pushes are served.
const FIRST_TRY: Duration = Duration::from_secs(2);
/// Interval of retries after the spool refused.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Largest valid file.
const FILE_BYTES_MAX: u64 = 64;

/// Why a start is not reported yet.
#[derive(Debug, thiserror::Error)]
enum TellError {
    /// The spool refused it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The event cannot be packed.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The task that reports this start and keeps the file.
pub struct Downtime {
    path: PathBuf,
    start: Start,
    intake: Intake,
    /// Held until the event is in the spool.
    untold: Option<Stamp>,
    /// The file, once this process has written it.
    file: Option<File>,
}

/// The start to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    /// Time of the start since boot.
    at_monotonic_ms: u64,
    down_since_ms: Option<i64>,
    /// The id of the event: it identifies a retry of an event that was stored after all.
    id: String,
}

impl Start {
    fn new(boot: BootId, known_ms: Option<i64>, wall_ms: i64, monotonic_ms: u64) -> Self {
        Self {
            at_monotonic_ms: monotonic_ms,
            down_since_ms: known_ms.map(|known_ms| {
                if clock::is_set(wall_ms) {
                    // The clock was put back since; the gap did not begin after its end.
                    known_ms.min(wall_ms)
                } else {
                    known_ms
                }
            }),
            id: format!("{boot}-{monotonic_ms}"),
        }
    }

    /// The event, by the current clocks: a wall clock that was set since the start is more accurate.
    fn draft<'a>(
        &'a self,
        down_since: Option<&'a str>,
        wall_ms: i64,
        monotonic_ms: u64,
    ) -> Draft<'a> {
        let since_ms = monotonic_ms.saturating_sub(self.at_monotonic_ms) as i64;
        let at_ms = wall_ms.saturating_sub(since_ms);
        let down_since = down_since.map(|text| (DOWN_SINCE, text));
        let version = ("version", env!("CARGO_PKG_VERSION"));
        Draft {
            kind: AGENT_STARTED,
            occurred_at_ms: at_ms,
            received_at_ms: at_ms,
            clock: ClockQuality::Agent,
            severity: Severity::Info,
            source: AGENT_ITSELF,
            source_id: &self.id,
            device: AGENT_ITSELF,
            // In the order of their names.
            attributes: down_since.into_iter().chain([version]).collect(),
            ..Draft::default()
        }
    }
}

impl Downtime {
    /// Reads the file of the previous process, and holds the watermark there.
    pub fn load(data_dir: &Path, boot: BootId, intake: Intake, pending: &Pending) -> Self {
        let path = data_dir.join("alive");
        let known_ms = match read(&path) {
            Ok(known_ms) => known_ms,
            Err(error) => {
                tracing::warn!(?path, %error, "it is not known since when the agent was down");
                None
            }
        };
        let start = Start::new(boot, known_ms, clock::wall_ms(), clock::monotonic_ms());
        let untold = match start.down_since_ms {
            Some(down_since_ms) => pending.stamp_at(down_since_ms),
            None => pending.stamp(),
        };
        Self {
            path,
            start,
            intake,
            untold: Some(untold),
            file: None,
        }
    }

    /// Reports the start, or gives up for now after a moment.
    pub async fn tell_first(&mut self) {
        // A try that is cut off may still be stored; the id identifies its retry.
        match tokio::time::timeout(FIRST_TRY, self.tell()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                reason = telemetry::chain(&error),
                "the start cannot be told yet; it is tried again until it can"
            ),
            Err(_) => tracing::warn!("the spool is slow: the start is told later"),
        }
    }

    /// Reports the start until it is stored, then keeps the file until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let mut retry = tokio::time::interval(RETRY_EVERY);
        while self.untold.is_some() {
            // Both arms are cancel-safe: see tell_first.
            tokio::select! {
                () = async {
                    retry.tick().await;
                    // The first try logged the reason, and status shows it as long as it lasts.
                    let _ = self.tell().await;
                } => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        let mut write = tokio::time::interval(WRITE_EVERY);
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                _ = write.tick() => self.note(),
                () = stop.cancelled() => {
                    self.note();
                    return Ok(());
                }
            }
        }
    }

    async fn tell(&mut self) -> Result<(), TellError> {
        let down_since = self.start.down_since_ms.map(|ms| ms.to_string());
        let mut submission = self.intake.submission();
        let draft = self.start.draft(
            down_since.as_deref(),
            clock::wall_ms(),
            clock::monotonic_ms(),
        );
        submission.push(Lane::Routine, Retention::Standard, draft)?;
        self.intake.submit(submission).await?.whole()?;
        self.untold = None;
        Ok(())
    }

    /// Records that the process accepts events.
    fn note(&mut self) {
        let now_ms = clock::wall_ms();
        if !clock::is_set(now_ms) {
            return;
        }
        if let Err(error) = self.write(now_ms) {
            self.file = None;
            tracing::warn!(path = ?self.path, %error, "the sign of life cannot be written");
        }
    }

    fn write(&mut self, now_ms: i64) -> io::Result<()> {
        let text = format!("{now_ms:020}\n");
        if let Some(file) = &self.file {
            return file.write_all_at(text.as_bytes(), 0);
        }
        file::replace(&self.path, text.as_bytes(), 0o600)?;
        self.file = Some(OpenOptions::new().write(true).open(&self.path)?);
        Ok(())
    }
}

/// When a process was last known to accept events, by the file; `None` if unknown.
pub fn known_ms(data_dir: &Path) -> Option<i64> {
    read(&data_dir.join("alive")).ok().flatten()
}

/// The time in the file; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<i64>> {
    let text = match std::fs::metadata(path) {
        Ok(found) if found.len() > FILE_BYTES_MAX => String::new(),
        Ok(_) => std::fs::read_to_string(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match text.trim().parse() {
        Ok(known_ms) if clock::is_set(known_ms) => Ok(Some(known_ms)),
        _ => Err(io::Error::other("the file does not hold a time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    const NOON_MS: i64 = 1_790_000_000_000;

    #[test]
    fn the_file_is_read_as_it_is_written_and_anything_else_is_no_time() {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("alive");
        assert_eq!(read(&path).expect("no file"), None);
        for (text, wanted) in [
            (format!("{NOON_MS:020}\n"), Some(NOON_MS)),
            (String::new(), None),
            ("0".repeat(20), None),
            ("1".repeat(100), None),
            ("noon".to_owned(), None),
        ] {
            std::fs::write(&path, &text).expect("written");
            assert_eq!(read(&path).ok().flatten(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_gap_never_begins_after_its_end_and_a_clock_that_is_not_set_says_nothing_of_it() {
        let since = |known_ms, wall_ms| Start::new(BootId(1), known_ms, wall_ms, 7).down_since_ms;
        assert_eq!(since(None, NOON_MS), None);
        assert_eq!(since(Some(NOON_MS - 5), NOON_MS), Some(NOON_MS - 5));
        assert_eq!(since(Some(NOON_MS + 5), NOON_MS), Some(NOON_MS));
        assert_eq!(since(Some(NOON_MS), 5_000), Some(NOON_MS));
    }

    #[test]
    fn a_start_that_is_told_late_keeps_its_time_and_its_id() {
        let start = Start::new(BootId(1), Some(NOON_MS - 60_000), NOON_MS, 1_000);
        let told = |late_ms: i64| {
            start.draft(
                Some("1789999940000"),
                NOON_MS + late_ms,
                1_000 + late_ms as u64,
            )
        };
        for draft in [told(0), told(90_000)] {
            draft.check().expect("an event within the limits");
            assert_eq!(draft.occurred_at_ms, NOON_MS);
            assert_eq!(draft.unknown_from_ms(), NOON_MS - 60_000);
            assert_eq!(draft.source_id, start.id);
        }
    }
}
