//! `linli-agent import`: a backlog from a file (a station's export) through the same mapping as a push.
//!
//! Goes to the running agent by its socket, or into the spool directly where no agent runs. Rows go in
//! order, in groups, each answered after its sync. An import that was interrupted is simply run again:
//! rows that are there already are recognised by the source's own ids.
use indicatif::{ProgressBar, ProgressStyle};
use linli_shared::service::{clock, telemetry};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::intake::{Intake, Submission, SubmitError, Submitted};
use crate::socket::{self, SocketError};
use crate::sources::mapping::capture::{Capture, Slot};
use crate::sources::mapping::{Mapped, Mapping, Reject, Tense};
use crate::sources::text;

/// Rows that go to the spool at once.
pub const GROUP_ROWS: usize = 512;
/// Longest line of JSON Lines, bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
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

/// What an import did. Rows = stored + doubled + filtered + rejected.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Rows of the file.
    pub rows: u64,
    /// New events, durable now.
    pub stored: u64,
    /// Rows that were there already.
    pub doubled: u64,
    /// Rows that the mapping leaves out.
    pub filtered: u64,
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
    /// The running agent did not take rows.
    #[error(
        "the import stopped after line {line}; run it again, rows that are stored are recognised"
    )]
    Socket {
        /// Last line that was handed over.
        line: u64,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// The spool did not take rows.
    #[error(
        "the import stopped after line {line}; run it again, rows that are stored are recognised"
    )]
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
                .map_err(|source| ImportError::Submit { line, source }),
            Self::Running(path) => {
                let body = rows.encode()?;
                let mut tries = 0;
                loop {
                    let answer =
                        socket::call(path, hyper::Method::POST, "/v1/submit", body.clone()).await;
                    match answer {
                        Ok(bytes) => return Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
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

/// Rows of either format, one after the other.
enum Rows<R: Read> {
    Csv {
        reader: Box<csv::Reader<R>>,
        columns: Vec<Column>,
        record: csv::ByteRecord,
    },
    Jsonl {
        reader: BufReader<R>,
        bytes: Vec<u8>,
        line: u64,
    },
}

/// A column of CSV, and where its values go.
struct Column {
    name: String,
    slot: Option<Slot>,
}

/// What stands in a row.
enum Row<'r> {
    Csv(&'r [Column], &'r csv::ByteRecord),
    Jsonl(&'r [u8]),
    Bad(String),
}

impl<R: Read> Rows<R> {
    fn open(format: Format, input: R, path: &Path, mapping: &Mapping) -> Result<Self, ImportError> {
        match format {
            Format::Jsonl => Ok(Self::Jsonl {
                reader: BufReader::with_capacity(1 << 16, input),
                bytes: Vec::new(),
                line: 0,
            }),
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
                let header = reader
                    .byte_headers()
                    .map_err(|_| ImportError::Header(path.to_owned()))?;
                let columns: Option<Vec<Column>> = header
                    .iter()
                    .map(|column| {
                        let name = text::decode(column)?.trim().to_owned();
                        let slot = mapping.column(&name);
                        Some(Column { name, slot })
                    })
                    .collect();
                let columns = columns
                    .filter(|columns| columns.iter().any(|column| !column.name.is_empty()))
                    .ok_or_else(|| ImportError::Header(path.to_owned()))?;
                Ok(Self::Csv {
                    reader: Box::new(reader),
                    columns,
                    record: csv::ByteRecord::new(),
                })
            }
        }
    }

    /// The next row, with the line that it starts on.
    fn next(&mut self) -> std::io::Result<Option<(u64, Row<'_>)>> {
        match self {
            Self::Csv {
                reader,
                columns,
                record,
            } => match reader.read_byte_record(record) {
                Ok(false) => Ok(None),
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    Ok(Some((line, Row::Csv(columns, record))))
                }
                Err(error) => match error.into_kind() {
                    csv::ErrorKind::Io(error) => Err(error),
                    other => Ok(Some((
                        reader.position().line(),
                        Row::Bad(format!("not a row of CSV: {other:?}")),
                    ))),
                },
            },
            Self::Jsonl {
                reader,
                bytes,
                line,
            } => loop {
                bytes.clear();
                let read = reader
                    .by_ref()
                    .take(LINE_BYTES_MAX as u64 + 1)
                    .read_until(b'\n', bytes)?;
                if read == 0 {
                    return Ok(None);
                }
                *line += 1;
                if read > LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                    skip_line(reader)?;
                    let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                    return Ok(Some((*line, Row::Bad(reason))));
                }
                if !bytes.trim_ascii().is_empty() {
                    return Ok(Some((*line, Row::Jsonl(bytes))));
                }
            },
        }
    }
}

impl Row<'_> {
    /// Packs the row's event; false if the mapping leaves it out, an error says why it is rejected.
    fn admit(&self, mapping: &Mapping, into: &mut Submission) -> Result<bool, String> {
        let text;
        let item = match self {
            Self::Csv(columns, record) => capture(mapping, columns, record)?,
            Self::Jsonl(bytes) => {
                text = text::decode(bytes)
                    .ok_or_else(|| "the line is neither UTF-8 nor GB18030".to_owned())?;
                mapping
                    .item(text.trim())
                    .map_err(|error| format!("not JSON: {error}"))?
            }
            Self::Bad(reason) => return Err(reason.clone()),
        };
        match mapping.map(&item, Tense::Backlog, clock::wall_ms()) {
            Ok(Mapped {
                draft,
                lane,
                retention,
            }) => into
                .push(lane, retention, draft)
                .map(|()| true)
                .map_err(|error| error.to_string()),
            Err(Reject::Filtered { .. }) => Ok(false),
            Err(reject) => Err(reject.to_string()),
        }
    }
}

/// What a row of CSV has of what the mapping points at.
fn capture<'r>(
    mapping: &Mapping,
    columns: &[Column],
    record: &'r csv::ByteRecord,
) -> Result<Capture<'r>, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "has {} fields, the header has {}",
            record.len(),
            columns.len()
        ));
    }
    let mut item = mapping.row();
    let mut raw = mapping.keeps_raw().then(serde_json::Map::new);
    for (column, field) in columns.iter().zip(record) {
        if column.slot.is_none() && raw.is_none() {
            continue;
        }
        let value = text::decode(field)
            .ok_or_else(|| format!("column {:?} is neither UTF-8 nor GB18030", column.name))?;
        if let Some(raw) = &mut raw {
            raw.insert(column.name.clone(), value.clone().into());
        }
        if let Some(slot) = column.slot {
            item.set(slot, value);
        }
    }
    item.raw = raw.map(|raw| serde_json::Value::Object(raw).to_string().into());
    Ok(item)
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffered = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', buffered);
        let bytes = end.map_or(buffered.len(), |end| end + 1);
        reader.consume(bytes);
        if end.is_some() || bytes == 0 {
            return Ok(());
        }
    }
}

/// What an import is asked to do.
pub struct Import<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its layout.
    pub format: Format,
    /// How its rows become events.
    pub mapping: &'a Mapping,
    /// Where to write all rejected rows.
    pub rejects_path: Option<&'a Path>,
}

impl Import<'_> {
    /// Imports the whole file.
    pub async fn run(&self, target: &Target) -> Result<Summary, ImportError> {
        let read_error = |source| ImportError::Read {
            path: self.path.to_owned(),
            source,
        };
        let rejects_error = |source| ImportError::Rejects {
            path: self.rejects_path.unwrap_or(Path::new("")).to_owned(),
            source,
        };
        let file = File::open(self.path).map_err(read_error)?;
        let progress = progress(file.metadata().map_err(read_error)?.len());
        let mut rows = Rows::open(
            self.format,
            progress.wrap_read(file),
            self.path,
            self.mapping,
        )?;
        let mut rejects_file = match self.rejects_path {
            Some(path) => Some(File::create(path).map_err(rejects_error)?),
            None => None,
        };
        let mut summary = Summary::default();
        let mut group = Submission::new();
        let mut printed = std::time::Instant::now();
        let mut last_line = 0;
        loop {
            let row = rows.next().map_err(read_error)?;
            if row.is_none() || group.len() == GROUP_ROWS {
                let full = std::mem::replace(&mut group, Submission::new());
                let submitted = target.submit(full, last_line).await?;
                summary.stored += submitted.stored as u64;
                summary.doubled += submitted.doubled as u64;
                progress.set_message(format!("{} rows", summary.rows));
                if progress.is_hidden() && printed.elapsed() >= PLAIN_PROGRESS_EVERY {
                    eprintln!("{} rows, {} stored", summary.rows, summary.stored);
                    printed = std::time::Instant::now();
                }
            }
            let Some((line, row)) = row else { break };
            summary.rows += 1;
            last_line = line;
            match row.admit(self.mapping, &mut group) {
                Ok(true) => {}
                Ok(false) => summary.filtered += 1,
                Err(reason) => {
                    summary.rejected += 1;
                    let row = RejectedRow { line, reason };
                    if let Some(file) = &mut rejects_file {
                        writeln!(file, "{}\t{}", row.line, row.reason).map_err(rejects_error)?;
                    }
                    if summary.rejects.len() < REJECTS_SHOWN_MAX {
                        summary.rejects.push(row);
                    }
                }
            }
        }
        progress.finish_and_clear();
        Ok(summary)
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
        let mut text = format!(
            "读取 {} 行：导入 {}，已有 {}，按映射略过 {}，拒绝 {}\n\
             {} rows read: {} imported, {} already there, {} left out by the mapping, {} rejected\n",
            self.rows,
            self.stored,
            self.doubled,
            self.filtered,
            self.rejected,
            self.rows,
            self.stored,
            self.doubled,
            self.filtered,
            self.rejected,
        );
        for row in &self.rejects {
            text.push_str(&format!(
                "  第 {} 行 line {}: {}\n",
                row.line, row.line, row.reason
            ));
        }
        let unnamed = self.rejected - self.rejects.len() as u64;
        if unnamed > 0 {
            text.push_str(&format!(
                "  另有 {unnamed} 行，用 --rejects FILE 写出全部 / {unnamed} more: --rejects FILE writes all of them\n"
            ));
        }
        text
    }
}
