//! Raw messages, kept on this box for a few days so that an installer can see what a device really said.
//!
//! They stay in the data directory, which only the agent's user enters, and never go to the hub: they have what events
//! must not have. A line of JSON a message:
//!
//! ```text
//! <data>/raw/<source>/<day, UTC>.jsonl    {"at":"…","outcome":"stored","raw":"…"} or "raw_base64"
//! ```
//!
//! * A file of a day takes [`DAY_BYTES_MAX`]; what is beyond is counted and not kept. Files older than the source's
//!   `keep_raw_for` are removed, day by day: a message stays for up to a day longer.
//! * They are the first thing to go when space is short: below twice `[spool] free_min` of free disk the oldest files are
//!   removed, and nothing is kept where that is not enough. Events need the room.
//! * Writing is not synced and never waited for: the way to the disk has room for [`QUEUE_MAX`] groups, and on a full
//!   disk messages are not kept. Events are what is durable.
use linli_shared::service::clock;
use prometheus::IntCounter;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Of one source and day.
pub const DAY_BYTES_MAX: u64 = 16 << 20;
/// Groups on their way to the disk.
const QUEUE_MAX: usize = 64;
/// Of one message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// How often old files are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Lines of one group of messages.
struct Lines {
    source: String,
    text: String,
}

/// Cloneable handle.
#[derive(Clone)]
pub struct RawLog {
    lines: mpsc::Sender<Lines>,
    dropped: IntCounter,
}

/// The task that writes.
pub struct RawWriter {
    directory: PathBuf,
    lines: mpsc::Receiver<Lines>,
    keep: HashMap<String, Duration>,
    free_bytes_min: u64,
    dropped: IntCounter,
}

/// A handle and the task behind it. `keep`: for how long, by source; `spool_free_min`: what the spool leaves free, bytes;
/// `dropped` counts what was not kept.
pub fn open(
    data_dir: &Path,
    keep: HashMap<String, Duration>,
    spool_free_min: u64,
    dropped: IntCounter,
) -> (RawLog, RawWriter) {
    let (sender, lines) = mpsc::channel(QUEUE_MAX);
    let log = RawLog {
        lines: sender,
        dropped: dropped.clone(),
    };
    let writer = RawWriter {
        directory: data_dir.join("raw"),
        lines,
        keep,
        free_bytes_min: 2 * spool_free_min,
        dropped,
    };
    (log, writer)
}

/// One message as its line.
pub fn line(out: &mut String, at_ms: i64, outcome: &str, raw: &[u8]) {
    let shown = &raw[..raw.len().min(MESSAGE_BYTES_MAX)];
    let mut line = serde_json::json!({ "at": clock::rfc3339(at_ms), "outcome": outcome });
    match std::str::from_utf8(shown) {
        Ok(text) => line["raw"] = text.into(),
        Err(_) => {
            use base64::Engine;
            line["raw_base64"] = base64::engine::general_purpose::STANDARD
                .encode(shown)
                .into();
        }
    }
    if shown.len() < raw.len() {
        line["bytes"] = raw.len().into();
    }
    out.push_str(&line.to_string());
    out.push('\n');
}

impl RawLog {
    /// Keeps lines of a source, if there is room on the way.
    pub fn keep(&self, source: &str, text: String) {
        let lines = Lines {
            source: source.to_owned(),
            text,
        };
        if self.lines.try_send(lines).is_err() {
            self.dropped.inc();
        }
    }
}

impl RawWriter {
    /// Runs until `stop`, and writes what is on its way then.
    pub async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            // All arms are cancel-safe: a receive, a token and a tick.
            let lines = tokio::select! {
                biased;
                _ = tidy.tick() => {
                    self = on_disk(self, |writer| writer.tidy(clock::wall_ms())).await?;
                    continue;
                }
                lines = self.lines.recv() => lines,
                () = stop.cancelled() => return Ok(()),
            };
            let Some(lines) = lines else {
                // There is no source that could say anything.
                stop.cancelled().await;
                return Ok(());
            };
            self = on_disk(self, move |writer| writer.write(&lines, clock::wall_ms())).await?;
        }
    }

    fn write(&self, lines: &Lines, now_ms: i64) {
        if self.append(lines, now_ms).is_err() {
            self.dropped.inc();
        }
    }

    fn append(&self, lines: &Lines, now_ms: i64) -> io::Result<()> {
        let directory = self.directory.join(&lines.source);
        self.make_room()?;
        let path = directory.join(format!("{}.jsonl", day(now_ms)));
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&directory)?;
                options.open(&path)?
            }
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() + lines.text.len() as u64 > DAY_BYTES_MAX {
            return Err(io::Error::other("the day is full"));
        }
        file.write_all(lines.text.as_bytes())
    }

    /// Removes the oldest files while space is short.
    fn make_room(&self) -> io::Result<()> {
        let above = self.directory.parent().unwrap_or(&self.directory);
        let is_short = || {
            let free_bytes = linli_spool::disk::free_bytes(above)?;
            Ok::<bool, io::Error>(free_bytes < self.free_bytes_min)
        };
        if !is_short()? {
            return Ok(());
        }
        let mut files = self.files();
        // Named by their days: the oldest come first, whatever their source.
        files.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        for file in files {
            // One that cannot be removed frees nothing; the others may.
            let _ = std::fs::remove_file(&file);
            if !is_short()? {
                return Ok(());
            }
        }
        Err(io::Error::other("too little space is free"))
    }

    /// The files of all sources.
    fn files(&self) -> Vec<PathBuf> {
        let below = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let sources = below(&self.directory);
        sources.iter().flat_map(|source| below(source)).collect()
    }

    /// Removes files that are older than their source keeps them. What cannot be removed now is tried again.
    fn tidy(&self, now_ms: i64) {
        let Ok(sources) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for source in sources.flatten() {
            let name = source.file_name().to_string_lossy().into_owned();
            // Of a source that is no more, nothing is kept.
            let keep = self.keep.get(&name).copied().unwrap_or_default();
            let oldest = day(now_ms.saturating_sub(keep.as_millis() as i64));
            let Ok(files) = std::fs::read_dir(source.path()) else {
                continue;
            };
            for file in files.flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                let old = name
                    .strip_suffix(".jsonl")
                    .is_some_and(|day| day < oldest.as_str() || keep.is_zero());
                if old {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
    }
}

/// Runs on a thread that may wait for a disk.
async fn on_disk(
    writer: RawWriter,
    act: impl FnOnce(&RawWriter) + Send + 'static,
) -> io::Result<RawWriter> {
    let done = tokio::task::spawn_blocking(move || {
        act(&writer);
        writer
    });
    done.await.map_err(io::Error::other)
}

fn day(ms: i64) -> String {
    clock::rfc3339(ms).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const NOW_MS: i64 = 1_782_878_400_000;

    fn writer(directory: &Path) -> (RawLog, RawWriter) {
        writer_on(directory, 0)
    }

    fn writer_on(directory: &Path, spool_free_min: u64) -> (RawLog, RawWriter) {
        let keep = HashMap::from([("doors".to_owned(), Duration::from_secs(3 * 86_400))]);
        let dropped = IntCounter::new("dropped", "of a test").expect("a counter");
        open(directory, keep, spool_free_min, dropped)
    }

    #[test]
    fn messages_are_kept_for_their_days_and_then_removed() {
        let directory = tempfile::tempdir().expect("directory");
        let (_, writer) = writer(directory.path());
        let mut text = String::new();
        line(&mut text, NOW_MS, "stored", "邻里".as_bytes());
        line(&mut text, NOW_MS, "rejected", &[0xff, 0]);
        for (source, ago_days) in [("doors", 0), ("doors", 3), ("doors", 4), ("gone", 0)] {
            let lines = Lines {
                source: source.to_owned(),
                text: text.clone(),
            };
            writer.write(&lines, NOW_MS - ago_days * DAY_MS);
        }
        writer.tidy(NOW_MS);
        let names = |source: &str| {
            let mut names: Vec<String> =
                std::fs::read_dir(directory.path().join("raw").join(source))
                    .expect("list")
                    .map(|file| {
                        file.expect("file")
                            .file_name()
                            .to_string_lossy()
                            .into_owned()
                    })
                    .collect();
            names.sort();
            names
        };
        assert_eq!(names("doors"), ["2026-06-28.jsonl", "2026-07-01.jsonl"]);
        assert!(names("gone").is_empty());
        let kept = std::fs::read_to_string(directory.path().join("raw/doors/2026-07-01.jsonl"))
            .expect("file");
        assert!(
            kept.contains("\"raw\":\"邻里\"") && kept.contains("\"raw_base64\":\"/wA=\""),
            "{kept}"
        );
    }

    #[test]
    fn where_space_is_short_raw_messages_go_first_and_none_are_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let (_, plenty) = writer(directory.path());
        let lines = Lines {
            source: "doors".to_owned(),
            text: "x".to_owned(),
        };
        plenty.write(&lines, NOW_MS - DAY_MS);
        plenty.write(&lines, NOW_MS);
        assert_eq!(plenty.files().len(), 2);
        // No disk has as much: all go, the oldest first, and what comes is counted.
        let (_, short) = writer_on(directory.path(), u64::MAX / 2);
        short.write(&lines, NOW_MS);
        assert_eq!((short.files().len(), short.dropped.get()), (0, 1));
    }

    #[test]
    fn a_day_takes_so_much_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().expect("directory");
        let (_, writer) = writer(directory.path());
        let lines = Lines {
            source: "doors".to_owned(),
            text: "x".repeat(DAY_BYTES_MAX as usize / 2),
        };
        for _ in 0..3 {
            writer.write(&lines, NOW_MS);
        }
        assert_eq!(writer.dropped.get(), 1);
    }

    #[test]
    fn a_long_message_is_kept_by_its_beginning() {
        let mut text = String::new();
        line(
            &mut text,
            NOW_MS,
            "rejected",
            &vec![b'x'; MESSAGE_BYTES_MAX + 1],
        );
        assert!(text.len() < MESSAGE_BYTES_MAX + 200 && text.contains("\"bytes\":16385"));
    }
}
