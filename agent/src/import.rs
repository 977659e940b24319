//! `linli-agent import`: a backlog from a file (a station's export) through the same mapping as a push.
//!
//! Goes to the running agent by its socket, or into the spool directly where no agent runs. Rows go in
//! order, in groups, each answered after its sync; a [`mark`] then says how far the file has come. An
//! import that was interrupted is simply run again and goes on there, and one that is done stores
//! nothing twice. The last group before a crash is recognised by the source's own ids.
mod mark;
mod rows;

use indicatif::{ProgressBar, ProgressStyle};
use linli_shared::protocol::event::{ClockQuality, Delivery};
use linli_shared::service::{clock, telemetry};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::gateway_clock::GatewayClock;
use crate::ingest::Receipt;
use crate::ingest::device_clock::DeviceClock;
use crate::intake::{Intake, Outcome, Submission, SubmitError, Submitted};
use crate::socket::{self, SocketError};
use linli_devices::mapping::{Mapped, Mapping};
use linli_devices::text::Encoding;
use linli_devices::time::Claim;
use mark::Mark;
use rows::{Place, Row, Rows, RowsError};

/// Rows that go to the spool at once.
pub const GROUP_ROWS: usize = 512;
/// Rejected rows that the summary names; a file can take all.
const REJECTS_SHOWN_MAX: usize = 20;
/// Between tries while the agent's spool is full.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// Tries before the import gives up on a spool that stays full.
const BUSY_TRIES_MAX: u32 = 30;
/// How often progress is printed where there is no terminal.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Where rows go.
pub enum Target {
    /// The agent that runs.
    Running(PathBuf),
    /// The spool itself.
    Spool(Box<Intake>),
}

/// How the file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// By the file's ending.
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
    /// Why.
    pub reason: String,
}

/// What an import did. Rows = earlier + stored + doubled + filtered + rejected.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Rows of the file.
    pub rows: u64,
    /// Rows that an earlier import of the file has answered for, passed over.
    pub earlier: u64,
    /// New events, durable now.
    pub stored: u64,
    /// Rows that were there already.
    pub doubled: u64,
    /// Rows that the mapping leaves out.
    pub filtered: u64,
    /// Rows whose time cannot be and was replaced by the time of the import: is the mapping's zone right?
    pub implausible_times: u64,
    /// Rows that the mapping rejects.
    pub rejected: u64,
    /// The first of them.
    pub rejects: Vec<RejectedRow>,
}

/// Why an import stopped. Everything that it had counted as stored is stored.
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
    /// It is a pipe or a directory.
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
        /// Where it begins.
        line: u64,
    },
    /// The mark cannot be read or written.
    #[error("cannot keep how far the import has come in {path:?}")]
    Mark {
        /// The mark, or the directory of all.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The running agent did not take rows.
    #[error("the import stopped after line {line}; run it again, it goes on there")]
    Socket {
        /// Last line that was handed over.
        line: u64,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// The spool did not take rows.
    #[error("the import stopped after line {line}; run it again, it goes on there")]
    Submit {
        /// Last line that was handed over.
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
                .and_then(Outcome::whole)
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

impl Row<'_> {
    /// Packs the row's event and gives the quality of its time; `None` if the mapping leaves the row out,
    /// an error says why it is rejected.
    fn admit(
        &self,
        mapping: &Mapping,
        encoding: Encoding,
        receipt: &Receipt,
        into: &mut Submission,
    ) -> Result<Option<ClockQuality>, String> {
        let text;
        let item = match self {
            Self::Csv(columns, record) => rows::capture(mapping, encoding, columns, record)?,
            Self::Jsonl(bytes) => {
                text = encoding
                    .decode(bytes)
                    .ok_or_else(|| format!("the line is not {encoding}, as the file is"))?;
                mapping
                    .item(text.trim())
                    .map_err(|error| format!("not JSON: {error}"))?
            }
            Self::Bad(reason) => return Err(reason.clone()),
        };
        match mapping.map(&item) {
            Ok(Mapped {
                mut draft,
                claim,
                replayed: _,
                end_id,
                lane,
                retention,
                // Each row of the past is an event, and nobody in it becomes a pseudonym.
                persons: _,
                state: _,
                anew: _,
            }) => {
                if let Some(id) = &end_id {
                    draft.source_id = id;
                }
                let moment = DeviceClock::default().moment(&claim, Delivery::History, receipt);
                draft.occurred_at_ms = moment.occurred_at_ms;
                draft.received_at_ms = receipt.received_ms;
                draft.clock = moment.clock;
                draft.device_time_ms = moment.device_time_ms;
                draft.delivery = Delivery::Replayed;
                if let Claim::Unreadable(text) = &claim {
                    draft.attributes.push(("device_time", text));
                    draft.attributes.sort_by_key(|(name, _)| *name);
                }
                let clock = draft.clock;
                into.push(lane, retention, draft)
                    .map(|()| Some(clock))
                    .map_err(|error| error.to_string())
            }
            Err(reject) if reject.is_left_out() => Ok(None),
            Err(reject) => Err(reject.to_string()),
        }
    }
}

/// What an import is asked to do.
pub struct Import<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its layout.
    pub format: Format,
    /// Name of the source that its events carry.
    pub source: &'a str,
    /// How its rows become events.
    pub mapping: &'a Mapping,
    /// The file of the mapping: a mark serves as long as it stays the same.
    pub mapping_path: &'a Path,
    /// Where to write all rejected rows.
    pub rejects_path: Option<&'a Path>,
    /// Where marks are kept.
    pub data_dir: &'a Path,
    /// The clock of this gateway.
    pub gateway: GatewayClock,
    /// Rows are imported although a mark says that they have been.
    pub again: bool,
}

/// An import on its way.
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
    /// Stores what has gathered, then says so in the mark.
    async fn store(&mut self) -> Result<(), ImportError> {
        let group = std::mem::replace(&mut self.group, Submission::new(self.gateway));
        if group.len() > 0 {
            let submitted = self.target.submit(group, self.last.line).await?;
            self.summary.stored += submitted.stored as u64;
            self.summary.doubled += submitted.doubled as u64;
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
    /// Imports the file as far as it goes. What the summary counts is so, whatever the outcome.
    pub async fn run(&self, target: &Target) -> (Summary, Result<(), ImportError>) {
        let mut summary = Summary::default();
        let outcome = self.all(target, &mut summary).await;
        (summary, outcome)
    }

    async fn all(&self, target: &Target, summary: &mut Summary) -> Result<(), ImportError> {
        let read_error = |source| ImportError::Read {
            path: self.path.to_owned(),
            source,
        };
        let rejects_error = |source| ImportError::Rejects {
            path: self.rejects_path.unwrap_or(Path::new("")).to_owned(),
            source,
        };
        let file = File::open(self.path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(ImportError::NotAFile(self.path.to_owned()));
        }
        let bytes = metadata.len();
        let encoding = Encoding::of(&file).map_err(read_error)?;
        let mark = self.mark(&file, bytes)?;
        let answered = mark.bytes();
        let mut rejects_file = match self.rejects_path {
            Some(path) => {
                // What is passed over was rejected before: its reasons stay.
                let mut options = File::options();
                options.create(true).write(true);
                let options = options.append(answered > 0).truncate(answered == 0);
                Some(options.open(path).map_err(rejects_error)?)
            }
            None => None,
        };
        let progress = progress(bytes);
        let mut rows = Rows::open(
            self.format,
            File::open(self.path).map_err(read_error)?,
            &progress,
            (self.path, encoding),
            self.mapping,
        )?;
        let mut running = Running {
            target,
            mark,
            group: Submission::new(&self.gateway),
            gateway: &self.gateway,
            last: Place::default(),
            summary,
        };
        let receipt = Receipt {
            received_ms: clock::wall_ms(),
            is_synchronised: self.gateway.is_synchronised(),
            bound_ms: i64::MAX,
        };
        let mut printed = Instant::now();
        let outcome = loop {
            let (place, row) = match rows.next() {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(RowsError::Read(source)) => break Err(read_error(source)),
                Err(RowsError::Unclosed(line)) => {
                    let path = self.path.to_owned();
                    break Err(ImportError::Unclosed { path, line });
                }
            };
            running.summary.rows += 1;
            running.last = Place {
                line: place.line,
                end: place.end.min(bytes),
            };
            if running.last.end <= answered {
                running.summary.earlier += 1;
                continue;
            }
            match row.admit(self.mapping, encoding, &receipt, &mut running.group) {
                Ok(Some(ClockQuality::Implausible)) => running.summary.implausible_times += 1,
                Ok(Some(_)) => {}
                Ok(None) => running.summary.filtered += 1,
                Err(reason) => {
                    running.summary.rejected += 1;
                    let row = RejectedRow {
                        line: place.line,
                        reason,
                    };
                    if let Some(file) = &mut rejects_file {
                        writeln!(file, "{}\t{}", row.line, row.reason).map_err(rejects_error)?;
                    }
                    if running.summary.rejects.len() < REJECTS_SHOWN_MAX {
                        running.summary.rejects.push(row);
                    }
                }
            }
            if running.group.len() == GROUP_ROWS {
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
    /// The summary as a person reads it, Chinese first.
    pub fn text(&self) -> String {
        let Self {
            rows,
            earlier,
            stored,
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
        if *earlier > 0 {
            text.push_str(&format!(
                "  另有 {earlier} 行之前已导入，未再处理（--again 重新导入）/ {earlier} rows were imported earlier and \
                 passed over (--again imports them anew)\n"
            ));
        }
        if *implausible_times > 0 {
            text.push_str(&format!(
                "  {implausible_times} 行的时间在未来，已改用导入时间：检查映射的 zone / the times of \
                 {implausible_times} rows are in the future and were replaced by that of the import: check the \
                 mapping's zone\n"
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
