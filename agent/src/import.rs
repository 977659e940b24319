//! `linli-agent import`: a backlog from a file (a station's export) through the same mapping as a push.
//!
//! Rows go to the running agent by its socket, or into the spool directly if no agent runs. They go in order, in
//! groups, each answered after its sync; a [`mark`] then records the progress. An interrupted import is simply run
//! again and resumes there, and a complete one stores nothing twice. The last group before a crash is recognised by
//! the source's own ids.
//!
//! [`layout`] detects the layout of the file, [`history`] separates news from history. The effect is shown before
//! anything is stored. An id with other content is stored and counted as a conflict, which the exit code reports.
mod admission;
pub mod history;
mod layout;
mod mark;
mod rows;

use indicatif::{ProgressBar, ProgressStyle};
use linli_shared::protocol::event::{ClockQuality, Delivery};
use linli_shared::service::{clock, telemetry};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::gateway_clock::GatewayClock;
use crate::ingest::Receipt;
use crate::intake::{Intake, Submission, SubmitError, SubmitOutcome, Submitted};
use crate::socket::{self, SocketError};
use admission::Reading;
use history::{Mode, Preview};
use layout::Layout;
use linli_devices::mapping::Mapping;
use mark::Mark;
use rows::{Place, Rows, RowsError};

/// Rows of one submission.
pub const GROUP_ROWS: usize = 512;
/// Rejected rows in the summary; a file can take all.
const REJECTS_SHOWN_MAX: usize = 20;
/// Pause between tries while the agent's spool is full.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// Tries before the import gives up on a spool that stays full.
const BUSY_TRIES_MAX: u32 = 30;
/// Interval of progress lines without a terminal.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Destination of the rows.
pub enum Target {
    /// The running agent.
    Running(PathBuf),
    /// The spool itself.
    Spool(Box<Intake>),
}

/// Layout of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// The layout by the file's ending.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            _ => None,
        }
    }
}

/// A row that was not imported.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedRow {
    /// Line in the file, from 1.
    pub line: u64,
    /// The reason.
    pub reason: String,
}

/// The result of an import. Rows = earlier + stored + doubled + filtered + rejected.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Rows of the file.
    pub rows: u64,
    /// Skipped rows that an earlier import of the file has processed.
    pub earlier: u64,
    /// New events, durable now.
    pub stored: u64,
    /// New events that are history.
    pub history: u64,
    /// New events with the id of another one and other content.
    pub conflicts: u64,
    /// Rows that were already stored.
    pub doubled: u64,
    /// Rows that the mapping leaves out.
    pub filtered: u64,
    /// Rows whose implausible time was replaced by the time of the import: is the mapping's zone right?
    pub implausible_times: u64,
    /// Rows that the mapping rejects.
    pub rejected: u64,
    /// The first rejected rows.
    pub rejects: Vec<RejectedRow>,
}

/// Why an import stopped. Everything counted as stored is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The list of rejected rows cannot be written.
    #[error("cannot write the rejected rows to {path:?}")]
    Rejects {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file has no header line.
    #[error(
        "{0:?} has no header line that can be read: the first line of a CSV file names its columns"
    )]
    Header(PathBuf),
    /// The file has another format.
    #[error("{path:?} {what}")]
    Other {
        /// The file.
        path: PathBuf,
        /// The format, and the remedy.
        what: &'static str,
    },
    /// No line of the file names a column of the mapping.
    #[error(
        "{path:?} 没有映射所需的列 has no column that the mapping points at: its first line is {first:?}, the mapping reads {wanted}; \
         choose another --mapping, or name the columns so"
    )]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// Its first line.
        first: String,
        /// Columns of the mapping.
        wanted: String,
    },
    /// The file has no rows.
    #[error("{0:?} 没有数据 has no rows: nothing was imported")]
    Empty(PathBuf),
    /// The path is a pipe or a directory.
    #[error("{0:?} is not a plain file: an import reads it more than once; write it to disk first")]
    NotAFile(PathBuf),
    /// A row has no end.
    #[error(
        "the row that begins on line {line} of {path:?} does not end: a quote in it is not closed, or it is \
         longer than {} bytes; the rows before it are imported: mend it and run the import again",
        rows::ROW_BYTES_MAX
    )]
    Unclosed {
        /// The file.
        path: PathBuf,
        /// Line on which the row begins.
        line: u64,
    },
    /// The mark cannot be read or written.
    #[error("cannot keep how far the import has come in {path:?}")]
    Mark {
        /// The mark, or the directory of all marks.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The running agent did not take rows.
    #[error("the import stopped after line {line}; run it again, it goes on there")]
    Socket {
        /// Last submitted line.
        line: u64,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// The spool refused rows.
    #[error("the import stopped after line {line}; run it again, it goes on there")]
    Submit {
        /// Last submitted line.
        line: u64,
        /// Why.
        #[source]
        source: SubmitError,
    },
    /// Rows could not be encoded.
    #[error(transparent)]
    Codec(#[from] linli_shared::protocol::codec::CodecError),
}

impl Target {
    async fn submit(&self, rows: Submission, line: u64) -> Result<Submitted, ImportError> {
        match self {
            Self::Spool(intake) => intake
                .submit(rows)
                .await
                .and_then(SubmitOutcome::whole)
                .map_err(|source| ImportError::Submit { line, source }),
            Self::Running(path) => {
                let body = rows.encode()?;
                let mut tries = 0;
                loop {
                    let answer =
                        socket::call(path, hyper::Method::POST, "/v1/submit", body.clone()).await;
                    match answer {
                        Ok(bytes) => {
                            return serde_json::from_slice(&bytes).map_err(|source| {
                                let source = SocketError::Answer(source);
                                ImportError::Socket { line, source }
                            });
                        }
                        Err(error) if error.is_busy() && tries < BUSY_TRIES_MAX => {
                            tries += 1;
                            tokio::time::sleep(BUSY_PAUSE).await;
                        }
                        Err(source) => return Err(ImportError::Socket { line, source }),
                    }
                }
            }
        }
    }
}

/// The parameters of an import.
pub struct Import<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its layout.
    pub format: Format,
    /// Name of the source that its events carry.
    pub source: &'a str,
    /// The mapping of its rows.
    pub mapping: &'a Mapping,
    /// The file of the mapping: a mark is valid as long as it stays the same.
    pub mapping_path: &'a Path,
    /// File for all rejected rows.
    pub rejects_path: Option<&'a Path>,
    /// Directory of the marks.
    pub data_dir: &'a Path,
    /// The clock of this gateway.
    pub gateway: GatewayClock,
    /// The rows that are history.
    pub mode: Mode,
    /// How far this clock is ahead of the hub's, milliseconds.
    pub skew_ms: i64,
    /// Import rows even if a mark records them as imported.
    pub again: bool,
}

/// An open file.
struct Input {
    file: File,
    bytes: u64,
    layout: Layout,
}

/// A running import.
struct Running<'a> {
    target: &'a Target,
    mark: Mark,
    group: Submission,
    gateway: &'a GatewayClock,
    /// The last row that was read.
    last: Place,
    summary: &'a mut Summary,
}

impl Running<'_> {
    /// Stores the gathered rows, then advances the mark.
    async fn store(&mut self) -> Result<(), ImportError> {
        let group = std::mem::replace(&mut self.group, Submission::new(self.gateway));
        if group.len() > 0 {
            let submitted = self.target.submit(group, self.last.line).await?;
            self.summary.stored += submitted.stored as u64;
            self.summary.doubled += submitted.doubled as u64;
            self.summary.conflicts += submitted.conflicts as u64;
        }
        self.mark
            .advance(self.last.end)
            .map_err(|source| ImportError::Mark {
                path: self.mark.path().to_owned(),
                source,
            })
    }
}

impl Import<'_> {
    /// The effect of importing the file. Nothing is stored.
    pub fn preview(&self) -> Result<Preview, ImportError> {
        let mut input = self.open()?;
        let reading = self.reading();
        let mut rows = self.rows(&mut input, &ProgressBar::hidden())?;
        let mut preview = Preview::default();
        while let Some((_, row)) = rows.next().map_err(|error| self.failed(error))? {
            let encoding = input.layout.encoding;
            let admitted = row.admit(self.mapping, encoding, &reading, &mut |_, draft| {
                preview.add(draft.kind, draft.delivery);
                Ok(())
            });
            preview.rows += admitted.items();
            preview.no_events += admitted.items() - admitted.events as u64;
        }
        Ok(preview)
    }

    /// Imports the file as far as possible. The counts of the summary are true, whatever the outcome.
    pub async fn run(&self, target: &Target) -> (Summary, Result<(), ImportError>) {
        let mut summary = Summary::default();
        let outcome = self.all(target, &mut summary).await;
        (summary, outcome)
    }

    fn failed(&self, error: RowsError) -> ImportError {
        let path = self.path.to_owned();
        match error {
            RowsError::Read(source) => ImportError::Read { path, source },
            RowsError::Unclosed(line) => ImportError::Unclosed { path, line },
        }
    }

    fn reading(&self) -> Reading {
        let now_ms = clock::wall_ms();
        Reading {
            receipt: Receipt {
                received_ms: now_ms,
                // Any clock that was ever set is later than the times in a file.
                is_synchronised: clock::is_set(now_ms),
                bound_ms: i64::MAX,
            },
            mode: self.mode,
            hub_now_ms: now_ms.saturating_sub(self.skew_ms),
        }
    }

    /// Opens the file, converted to UTF-8 if it is UTF-16, and detects its layout.
    fn open(&self) -> Result<Input, ImportError> {
        let failed = |source| ImportError::Read {
            path: self.path.to_owned(),
            source,
        };
        let mut file = File::open(self.path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(ImportError::NotAFile(self.path.to_owned()));
        }
        if let Some(read) = layout::as_utf8(&mut file, self.data_dir).map_err(failed)? {
            file = read;
        }
        let bytes = file.metadata().map_err(failed)?.len();
        let layout = Layout::of(&mut file, self.path, self.format, self.mapping)?;
        Ok(Input {
            file,
            bytes,
            layout,
        })
    }

    fn rows(&self, input: &mut Input, progress: &ProgressBar) -> Result<Rows, ImportError> {
        let failed = |source| ImportError::Read {
            path: self.path.to_owned(),
            source,
        };
        let mut file = input.file.try_clone().map_err(failed)?;
        let start = SeekFrom::Start(input.layout.skip_bytes);
        file.seek(start).map_err(failed)?;
        Rows::open(
            self.format,
            file,
            progress,
            (self.path, input.layout),
            self.mapping,
        )
    }

    async fn all(&self, target: &Target, summary: &mut Summary) -> Result<(), ImportError> {
        let rejects_error = |source| ImportError::Rejects {
            path: self.rejects_path.unwrap_or(Path::new("")).to_owned(),
            source,
        };
        let mut input = self.open()?;
        let (bytes, encoding) = (input.bytes, input.layout.encoding);
        let mark = self.mark(&input.file, bytes)?;
        let answered = mark.bytes();
        let mut rejects_file = match self.rejects_path {
            Some(path) => {
                // Skipped rows were rejected before: their reasons stay.
                let mut options = File::options();
                options.create(true).write(true);
                let options = options.append(answered > 0).truncate(answered == 0);
                Some(options.open(path).map_err(rejects_error)?)
            }
            None => None,
        };
        let progress = progress(bytes);
        let mut rows = self.rows(&mut input, &progress)?;
        let mut running = Running {
            target,
            mark,
            group: Submission::new(&self.gateway),
            gateway: &self.gateway,
            last: Place::default(),
            summary,
        };
        let reading = self.reading();
        let mut printed = Instant::now();
        let outcome = loop {
            let (place, row) = match rows.next() {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(error) => break Err(self.failed(error)),
            };
            running.last = Place {
                line: place.line,
                end: place.end.min(bytes),
            };
            if running.last.end <= answered {
                running.summary.rows += 1;
                running.summary.earlier += 1;
                continue;
            }
            let Running { group, summary, .. } = &mut running;
            let admitted = row.admit(self.mapping, encoding, &reading, &mut |way, draft| {
                let (clock, delivery) = (draft.clock, draft.delivery);
                group
                    .push(way.0, way.1, draft)
                    .map_err(|error| error.to_string())?;
                let is_read = !matches!(clock, ClockQuality::Implausible | ClockQuality::Unknown);
                summary.implausible_times += u64::from(!is_read);
                summary.history += u64::from(delivery == Delivery::History);
                Ok(())
            });
            summary.rows += admitted.items();
            summary.filtered += admitted.left_out as u64;
            summary.rejected += admitted.reasons.len() as u64;
            for reason in admitted.reasons {
                let row = RejectedRow {
                    line: place.line,
                    reason,
                };
                if let Some(file) = &mut rejects_file {
                    writeln!(file, "{}\t{}", row.line, row.reason).map_err(rejects_error)?;
                }
                if summary.rejects.len() < REJECTS_SHOWN_MAX {
                    summary.rejects.push(row);
                }
            }
            if running.group.len() >= GROUP_ROWS {
                running.store().await?;
                let Summary { rows, stored, .. } = running.summary;
                progress.set_message(format!("{rows} rows"));
                if progress.is_hidden() && printed.elapsed() >= PLAIN_PROGRESS_EVERY {
                    eprintln!("{rows} rows, {stored} stored");
                    printed = Instant::now();
                }
            }
        };
        if outcome.is_ok() {
            // With blank lines at the end, if there are any.
            running.last.end = bytes;
        }
        running.store().await?;
        progress.finish_and_clear();
        if outcome.is_ok() && summary.rows == 0 {
            return Err(ImportError::Empty(self.path.to_owned()));
        }
        outcome
    }

    fn mark(&self, file: &File, bytes: u64) -> Result<Mark, ImportError> {
        let mapping = std::fs::read(self.mapping_path).map_err(|source| ImportError::Read {
            path: self.mapping_path.to_owned(),
            source,
        })?;
        Mark::open(
            self.data_dir,
            (self.path, file, bytes),
            self.source,
            &mapping,
            self.again,
        )
        .map_err(|source| ImportError::Mark {
            path: self.data_dir.join("imports"),
            source,
        })
    }
}

fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {percent:>3} % {msg}  {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.set_style(style),
        Err(error) => tracing::debug!(error = %telemetry::chain(&error), "plain progress"),
    }
    bar
}

impl Summary {
    /// The summary for people, Chinese first.
    pub fn text(&self) -> String {
        let Self {
            rows,
            earlier,
            stored,
            history,
            conflicts,
            doubled,
            filtered,
            implausible_times,
            rejected,
            rejects,
        } = self;
        let mut text = format!(
            "读取 {rows} 行：导入 {stored}，已有 {doubled}，按映射略过 {filtered}，拒绝 {rejected}\n\
             {rows} rows read: {stored} imported, {doubled} already there, {filtered} left out by the mapping, \
             {rejected} rejected\n",
        );
        if *history > 0 {
            text.push_str(&format!(
                "  其中历史 {history} 条：不产生预警、不立案 / {history} of them are history: they raise nothing\n"
            ));
        }
        if *conflicts > 0 {
            text.push_str(&format!(
                "  {conflicts} 行的编号与另一行相同、内容不同，已分别入库：检查编号列（Excel 会把长编号改成科学计数） / \
                 {conflicts} rows have the id of another row and other content; each is stored: check the column of ids (Excel \
                 turns long ones into 3.1E+19)\n"
            ));
        }
        if *earlier > 0 {
            text.push_str(&format!(
                "  另有 {earlier} 行之前已导入，未再处理（--again 重新导入）/ {earlier} rows were imported earlier and \
                 passed over (--again imports them anew)\n"
            ));
        }
        if *implausible_times > 0 {
            text.push_str(&format!(
                "  {implausible_times} 行的时间在未来或无法识别，已改用导入时间：检查映射的 zone 和 formats / the times of \
                 {implausible_times} rows are in the future or cannot be read and were replaced by that of the import: check \
                 the mapping's zone and formats\n"
            ));
        }
        for row in rejects {
            text.push_str(&format!(
                "  第 {} 行 line {}: {}\n",
                row.line, row.line, row.reason
            ));
        }
        let unnamed = rejected - rejects.len() as u64;
        if unnamed > 0 {
            text.push_str(&format!(
                "  另有 {unnamed} 行，用 --rejects FILE 写出全部 / {unnamed} more: --rejects FILE writes all of them\n"
            ));
        }
        text
    }
}
