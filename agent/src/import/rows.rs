//! The rows of a file, one after the other: CSV with a header line, or JSON Lines.
//!
//! No row may have more than [`ROW_BYTES_MAX`]. An unclosed quote makes the rest of a CSV file one row; it is
//! detected by that limit, or because the end of the file is inside of the row.
use indicatif::ProgressBar;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use super::layout::Layout;
use super::{Format, ImportError};
use linli_devices::mapping::Mapping;
use linli_devices::mapping::capture::{Capture, Slot};
use linli_devices::text::Encoding;

/// Longest row, bytes.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// Appended to the file as a row of its own; inside of an unclosed quote it is not one.
const END: &[u8] = b"\n\0linli-end-of-file\0\n";

/// Rows of either format.
pub enum Rows {
    /// Rows of CSV.
    Csv {
        /// Splits the file.
        reader: Box<csv::Reader<Bounded>>,
        /// Number of bytes that the row may still read.
        left: Rc<Cell<usize>>,
        /// The header.
        columns: Vec<Column>,
        /// The last row.
        record: csv::ByteRecord,
        /// The part before the header.
        skipped: Layout,
    },
    /// Rows of JSON Lines.
    Jsonl {
        /// The file.
        reader: BufReader<Bounded>,
        /// The last row.
        bytes: Vec<u8>,
        /// Line of the last row.
        line: u64,
        /// End of the last row.
        end: u64,
    },
}

/// A column of CSV, and the slot for its values.
pub struct Column {
    name: String,
    slot: Option<Slot>,
}

/// The content of a row.
pub enum Row<'r> {
    /// Fields in the order of the columns.
    Csv(&'r [Column], &'r csv::ByteRecord),
    /// An object.
    Jsonl(&'r [u8]),
    /// The row cannot be split.
    Bad(String),
}

/// The position of a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The line that it starts on, from 1.
    pub line: u64,
    /// End of the row, in bytes from the start of the file.
    pub end: u64,
}

/// Why there are no more rows.
#[derive(Debug)]
pub enum RowsError {
    /// The file cannot be read.
    Read(io::Error),
    /// The row that begins on this line does not end.
    Unclosed(u64),
}

/// A row has exceeded its limit.
#[derive(Debug, thiserror::Error)]
#[error("a row is too long")]
struct TooLong;

/// The file, then [`END`] if it is CSV; one row reads no more than its limit.
pub struct Bounded {
    input: indicatif::ProgressBarIter<File>,
    left: Rc<Cell<usize>>,
    end: &'static [u8],
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::other(TooLong));
        }
        let room = buffer.len().min(self.left.get());
        let mut read = self.input.read(&mut buffer[..room])?;
        if read == 0 && room > 0 {
            read = self.end.read(&mut buffer[..room])?;
        }
        self.left.set(self.left.get() - read);
        Ok(read)
    }
}

impl Rows {
    /// Begins at the start of `file`, for CSV at its header.
    pub fn open(
        format: Format,
        file: File,
        progress: &ProgressBar,
        (path, layout): (&Path, Layout),
        mapping: &Mapping,
    ) -> Result<Self, ImportError> {
        let left = Rc::new(Cell::new(usize::MAX));
        let input = Bounded {
            input: progress.wrap_read(file),
            left: left.clone(),
            end: match format {
                Format::Csv => END,
                Format::Jsonl => &[],
            },
        };
        if format == Format::Jsonl {
            return Ok(Self::Jsonl {
                reader: BufReader::with_capacity(1 << 16, input),
                bytes: Vec::new(),
                line: layout.skip_lines,
                end: layout.skip_bytes,
            });
        }
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .delimiter(layout.delimiter)
            .from_reader(input);
        left.set(ROW_BYTES_MAX);
        let header = reader
            .byte_headers()
            .map_err(|_| ImportError::Header(path.to_owned()))?;
        let columns: Vec<Column> = header
            .iter()
            .map(|column| {
                let name = layout.encoding.lossy(column).trim().to_owned();
                let slot = mapping.column(&name);
                Column { name, slot }
            })
            .collect();
        let is_binary = columns.iter().any(|column| column.name.contains('\0'));
        if is_binary || columns.iter().all(|column| column.name.is_empty()) {
            return Err(ImportError::Header(path.to_owned()));
        }
        Ok(Self::Csv {
            reader: Box::new(reader),
            left,
            columns,
            record: csv::ByteRecord::new(),
            skipped: layout,
        })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<(Place, Row<'_>)>, RowsError> {
        match self {
            Self::Csv {
                reader,
                left,
                columns,
                record,
                skipped,
            } => {
                left.set(ROW_BYTES_MAX);
                let begins = skipped.skip_lines + reader.position().line();
                match reader.read_byte_record(record) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let last = record.iter().next_back().unwrap_or_default();
                        let line = record
                            .position()
                            .map_or(begins, |position| skipped.skip_lines + position.line());
                        if record.len() == 1 && last == END.trim_ascii() {
                            return Ok(None);
                        }
                        if last.ends_with(END) {
                            return Err(RowsError::Unclosed(line));
                        }
                        let end = skipped.skip_bytes + reader.position().byte();
                        Ok(Some((Place { line, end }, Row::Csv(columns, record))))
                    }
                    Err(error) => match error.into_kind() {
                        csv::ErrorKind::Io(error)
                            if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) =>
                        {
                            Err(RowsError::Unclosed(begins))
                        }
                        csv::ErrorKind::Io(error) => Err(RowsError::Read(error)),
                        other => {
                            let place = Place {
                                line: begins,
                                end: skipped.skip_bytes + reader.position().byte(),
                            };
                            let reason = format!("not a row of CSV: {other:?}");
                            Ok(Some((place, Row::Bad(reason))))
                        }
                    },
                }
            }
            Self::Jsonl {
                reader,
                bytes,
                line,
                end,
            } => loop {
                bytes.clear();
                let read = reader
                    .by_ref()
                    .take(ROW_BYTES_MAX as u64 + 1)
                    .read_until(b'\n', bytes)
                    .map_err(RowsError::Read)?;
                if read == 0 {
                    return Ok(None);
                }
                *line += 1;
                *end += read as u64;
                if read > ROW_BYTES_MAX && bytes.last() != Some(&b'\n') {
                    *end += skip_line(reader).map_err(RowsError::Read)?;
                    let reason = format!("the line is longer than {ROW_BYTES_MAX} bytes");
                    let place = Place {
                        line: *line,
                        end: *end,
                    };
                    return Ok(Some((place, Row::Bad(reason))));
                }
                if !bytes.trim_ascii().is_empty() {
                    let place = Place {
                        line: *line,
                        end: *end,
                    };
                    return Ok(Some((place, Row::Jsonl(bytes))));
                }
            },
        }
    }
}

/// Skips the rest of a line; returns its length.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffered = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', buffered);
        let bytes = end.map_or(buffered.len(), |end| end + 1);
        reader.consume(bytes);
        skipped += bytes as u64;
        if end.is_some() || bytes == 0 {
            return Ok(skipped);
        }
    }
}

/// Captures the values of the mapping from a row of CSV.
pub fn capture<'r>(
    mapping: &Mapping,
    encoding: Encoding,
    columns: &[Column],
    record: &'r csv::ByteRecord,
) -> Result<Capture<'r>, String> {
    if record.len() != columns.len() {
        let mut reason = format!(
            "has {} fields, the header has {}",
            record.len(),
            columns.len()
        );
        let lines: usize = record
            .iter()
            .map(|field| memchr::memchr_iter(b'\n', field).count())
            .sum();
        if lines > 0 {
            reason.push_str(&format!(
                " and runs over {} lines: is a quote not closed in it?",
                lines + 1
            ));
        }
        return Err(reason);
    }
    let mut item = mapping.row();
    let mut raw = mapping.keeps_raw().then(serde_json::Map::new);
    for (column, field) in columns.iter().zip(record) {
        if column.slot.is_none() && raw.is_none() {
            continue;
        }
        let value = encoding.lossy(field);
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
