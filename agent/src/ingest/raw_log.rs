//! Raw messages, kept on this box for a few days so that an installer can see the bytes that a device really sent.
//!
//! They stay in the data directory, which only the agent's user can enter, and never go to the hub: they contain data
//! that events must not have. Each message is a line of JSON:
//!
//! ```text
//! <data>/raw/<source>/<day, UTC>.jsonl    {"at":"…","outcome":"stored","raw":"…"} or "raw_base64"
//! ```
//!
//! * The file of a day takes [`DAY_BYTES_MAX`]; further messages are counted and not kept. Files older than the
//!   source's `keep_raw_for` are removed, day by day: a message stays for up to a day longer.
//! * They are evicted first when space is short: below twice `[spool] free_min` of free disk the oldest files are
//!   removed, and if that is not enough nothing is kept. Events need the room.
//! * Writing is not synced and nothing waits for it: the queue to the disk holds [`QUEUE_MAX`] groups, and on a full
//!   disk messages are not kept. Only events are durable.
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

/// Largest file of one source and day.
pub const DAY_BYTES_MAX: u64 = 16 << 20;
/// Groups queued for the disk.
const QUEUE_MAX: usize = 64;
/// Largest part of one message that is kept.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Interval between searches for old files.
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

/// The task that writes the files.
pub struct RawWriter {
    directory: PathBuf,
    lines: mpsc::Receiver<Lines>,
    keep: HashMap<String, Duration>,
    free_bytes_min: u64,
    dropped: IntCounter,
}

/// Creates a handle and the task behind it. `keep`: how long, by source; `spool_free_min`: free space that the spool
/// leaves, bytes; `dropped` counts messages that were not kept.
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

/// Appends one message as its line.
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
    /// Keeps lines of a source, if the queue has room.
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
    /// Runs until `stop`, then writes the queued lines.
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
                // No handle is left, so no lines can arrive.
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
        // Files are named by their days: the oldest come first, whatever their source.
        files.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        for file in files {
            // A file that cannot be removed frees nothing; the others may.
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

    /// Removes files that are older than their source keeps them. Files that cannot be removed now are tried again.
    fn tidy(&self, now_ms: i64) {
        let Ok(sources) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for source in sources.flatten() {
            let name = source.file_name().to_string_lossy().into_owned();
            // Files of a removed source are not kept.
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

/// Runs blocking disk work on its own thread.
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
        // No disk has this much: all files go, the oldest first, and later messages are counted.
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
