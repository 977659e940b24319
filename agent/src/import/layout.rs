//! Detects the layout of a file by its bytes: a file of any program is read, or refused with the name of its format.
//!
//! Accepted: UTF-8, GB18030 and UTF-16 (with a mark, or by its zero bytes); columns separated by `,`, `;`, tab or
//! `|`; Excel's line `sep=X` before the header; title rows above the header. The header is the first of the first
//! [`HEADER_LINES_MAX`] lines with a column of the mapping; without one the file is refused, because every row would
//! be rejected.
//!
//! Refused by name: HTML, workbooks, archives, one JSON array, JSON objects over several lines.
use encoding_rs::{CoderResult, UTF_16BE, UTF_16LE};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{Format, ImportError};
use linli_devices::mapping::Mapping;
use linli_devices::text::{Encoding, unmarked};

/// Number of lines that are searched for the header.
const HEADER_LINES_MAX: usize = 20;
/// Largest size of these lines, bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Characters of a line, and columns of a header, that an error shows.
const SHOWN_CHARS: usize = 120;
const SHOWN_COLUMNS: usize = 20;
/// Separators of columns; the first is that of the standard.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Beginning of the rows in a file, and their separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Separator between two columns.
    pub delimiter: u8,
    /// Bytes before the header.
    pub skip_bytes: u64,
    /// Lines before the header.
    pub skip_lines: u64,
    /// Encoding of the text.
    pub encoding: Encoding,
}

/// A UTF-16 file as one in UTF-8, without a name in this directory; `None` if it is not UTF-16.
pub fn as_utf8(file: &mut File, directory: &Path) -> io::Result<Option<File>> {
    let mut head = [0; 4];
    let read = read_up_to(file, &mut head)?;
    let encoding = match head[..read] {
        [0xff, 0xfe, ..] => UTF_16LE,
        [0xfe, 0xff, ..] => UTF_16BE,
        [first, 0, second, 0] if first > 0 && second > 0 => UTF_16LE,
        [0, first, 0, second] if first > 0 && second > 0 => UTF_16BE,
        _ => return Ok(None),
    };
    file.rewind()?;
    let mut decoder = encoding.new_decoder_with_bom_removal();
    let mut written = tempfile::tempfile_in(directory)?;
    let mut input = vec![0; 1 << 16];
    let mut text = String::with_capacity(1 << 18);
    loop {
        let read = file.read(&mut input)?;
        let mut rest = &input[..read];
        loop {
            text.clear();
            let (result, used, _) = decoder.decode_to_string(rest, &mut text, read == 0);
            written.write_all(text.as_bytes())?;
            rest = &rest[used..];
            if result == CoderResult::InputEmpty {
                break;
            }
        }
        if read == 0 {
            written.rewind()?;
            return Ok(Some(written));
        }
    }
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    file.rewind()?;
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

impl Layout {
    /// Examines a file, which is UTF-8 or GB18030.
    pub fn of(
        file: &mut File,
        path: &Path,
        format: Format,
        mapping: &Mapping,
    ) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read {
            path: path.to_owned(),
            source,
        };
        let mut head = vec![0; HEAD_BYTES];
        let read = read_up_to(file, &mut head).map_err(failed)?;
        head.truncate(read);
        file.rewind().map_err(failed)?;
        let encoding = Encoding::of(BufReader::new(&*file)).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        if head.trim_ascii().is_empty() {
            return Err(ImportError::Empty(path.to_owned()));
        }
        if let Some(what) = not_rows(&head, format) {
            return Err(ImportError::Other {
                path: path.to_owned(),
                what,
            });
        }
        let plain = Self {
            delimiter: b',',
            skip_bytes: 0,
            skip_lines: 0,
            encoding,
        };
        match format {
            Format::Jsonl => Ok(plain),
            Format::Csv => plain.with_header(&head, path, mapping),
        }
    }

    fn with_header(self, head: &[u8], path: &Path, mapping: &Mapping) -> Result<Self, ImportError> {
        let mut skip = Self { ..self };
        let mut named = None;
        let mut first = None;
        for line in head
            .split_inclusive(|byte| *byte == b'\n')
            .take(HEADER_LINES_MAX)
        {
            let text = self.encoding.lossy(unmarked(line));
            let text = text.trim();
            if let Some(delimiter) = separator(text) {
                named = Some(delimiter);
            } else if !text.is_empty() {
                let found = DELIMITERS
                    .into_iter()
                    .filter(|delimiter| named.is_none_or(|named| named == *delimiter))
                    .map(|delimiter| (mapped_columns(text, delimiter, mapping), delimiter))
                    // The first of those with most columns: a comma if it does not matter.
                    .rev()
                    .max_by_key(|(columns, _)| *columns);
                if let Some((1.., delimiter)) = found {
                    return Ok(Self { delimiter, ..skip });
                }
                if first.is_none() {
                    first = Some(text.to_owned());
                }
            }
            skip.skip_bytes += line.len() as u64;
            skip.skip_lines += 1;
        }
        let wanted: Vec<&str> = mapping.columns().take(SHOWN_COLUMNS).collect();
        Err(ImportError::NoColumn {
            path: path.to_owned(),
            first: first
                .unwrap_or_default()
                .chars()
                .take(SHOWN_CHARS)
                .collect(),
            wanted: wanted.join(", "),
        })
    }
}

/// Excel's `sep=X`.
fn separator(line: &str) -> Option<u8> {
    let line = line.trim_matches('"');
    let (name, value) = line.split_at_checked(4)?;
    let is_named = name.eq_ignore_ascii_case("sep=");
    // Trailing empty columns may follow it.
    let delimiter = value.bytes().next().filter(|_| is_named);
    delimiter.or_else(|| (is_named && value.is_empty()).then_some(b'\t'))
}

/// Number of columns of a header that the mapping uses.
fn mapped_columns(line: &str, delimiter: u8, mapping: &Mapping) -> usize {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    if !matches!(reader.read_record(&mut record), Ok(true)) {
        return 0;
    }
    let known = record
        .iter()
        .filter(|name| mapping.column(name.trim()).is_some());
    known.count()
}

/// The format of a file without rows of the expected one, and the remedy.
fn not_rows(head: &[u8], format: Format) -> Option<&'static str> {
    let text = unmarked(head).trim_ascii_start();
    for (magic, what) in [
        (
            &b"PK\x03\x04"[..],
            "是 Excel 工作簿或压缩包，请另存为 CSV / is a workbook (.xlsx) or an archive: save it as CSV (UTF-8)",
        ),
        (
            b"\xd0\xcf\x11\xe0",
            "是旧版 Excel 工作簿，请另存为 CSV / is an old workbook (.xls): save it as CSV (UTF-8)",
        ),
        (
            b"\x1f\x8b",
            "是 gzip 压缩文件，请先解压 / is compressed (gzip): decompress it first",
        ),
        (b"%PDF", "是 PDF / is a PDF: export the data as CSV"),
    ] {
        if head.starts_with(magic) {
            return Some(what);
        }
    }
    if text.starts_with(b"<") {
        return Some(
            "是网页或 XML，不是表格：在 Excel 中打开后另存为 CSV / is HTML or XML and no table: open it in Excel and save it as CSV (UTF-8)",
        );
    }
    match (text.first(), format) {
        (Some(b'['), Format::Jsonl) => Some(
            "是一个 JSON 数组，请改为每行一个对象（jq -c '.[]' 文件） / is one JSON array: write one object a line, `jq -c '.[]' FILE`",
        ),
        (Some(b'[' | b'{'), Format::Csv) => Some(
            "是 JSON，不是 CSV：用 --format jsonl，每行一个对象 / is JSON and no CSV: say --format jsonl, with one object a line",
        ),
        (Some(b'{'), Format::Jsonl) => {
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            (line.trim_ascii() == b"{").then_some(
                "的 JSON 对象跨多行，请改为每行一个对象（jq -c . 文件） / has JSON objects over several lines: write one a line, `jq -c . FILE`",
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "JQ1,A1,2026-11-30 01:00:00\r\n";
    const HEADER: &str = "jqbh,address_key,reported_at";

    fn mapping() -> Mapping {
        let toml = "schema = 1\nid = \"/jqbh\"\naddress = \"/address_key\"\nkind = { value = \"dispute.reported\" }\n\
             occurred_at = { pointer = \"/reported_at\" }\n";
        Mapping::new("desk", toml::from_str(toml).expect("TOML")).expect("a mapping")
    }

    fn of(bytes: &[u8], format: Format) -> Result<Layout, ImportError> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        Layout::of(&mut file, Path::new("export"), format, &mapping())
    }

    #[test]
    fn what_parts_the_columns_and_where_the_header_stands_is_found() {
        let title = "警情导出,,\r\n\r\n";
        for (text, delimiter, skip_lines) in [
            (format!("{HEADER}\r\n{ROWS}"), b',', 0),
            (format!("\u{feff}{HEADER}\r\n{ROWS}"), b',', 0),
            (HEADER.replace(',', ";") + "\n", b';', 0),
            (HEADER.replace(',', "\t") + "\n", b'\t', 0),
            (HEADER.replace(',', "|") + "\n", b'|', 0),
            (format!("\u{feff}sep=,\r\n{HEADER}\r\n{ROWS}"), b',', 1),
            (
                format!("SEP=;\r\n{}\r\n", HEADER.replace(',', ";")),
                b';',
                1,
            ),
            (format!("{title}{HEADER}\r\n{ROWS}"), b',', 2),
            // A semicolon inside a quoted name is no separator.
            ("\"jqbh\",\"address_key\",\"a;b\"\n".to_owned(), b',', 0),
        ] {
            let layout = of(text.as_bytes(), Format::Csv).expect(&text);
            let found = (layout.delimiter, layout.skip_lines);
            assert_eq!(found, (delimiter, skip_lines), "{text:?}");
            let header = &text.as_bytes()[layout.skip_bytes as usize..];
            let header = String::from_utf8_lossy(header);
            assert!(
                header
                    .trim_start_matches('\u{feff}')
                    .trim_start_matches('"')
                    .starts_with("jqbh")
            );
        }
    }

    #[test]
    fn what_is_no_table_is_named_for_what_it_is() {
        for (bytes, format, named) in [
            (&b"<html><table>"[..], Format::Csv, "HTML"),
            (b"\xef\xbb\xbf  <?xml version='1.0'?>", Format::Csv, "XML"),
            (b"PK\x03\x04rest", Format::Csv, "xlsx"),
            (b"\xd0\xcf\x11\xe0rest", Format::Csv, ".xls"),
            (b"\x1f\x8brest", Format::Jsonl, "gzip"),
            (b"[{\"jqbh\":1},\n", Format::Jsonl, "jq -c '.[]'"),
            (b"{\n  \"jqbh\": 1\n}", Format::Jsonl, "several lines"),
            (b"{\"jqbh\":1}\n", Format::Csv, "--format jsonl"),
        ] {
            let error = of(bytes, format).expect_err(named).to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = of(b"a,b\n1,2\n", Format::Csv).expect_err("no column");
        let text = error.to_string();
        assert!(
            text.contains("a,b") && text.contains("address_key"),
            "{text}"
        );
        for empty in [&b""[..], b"\xef\xbb\xbf", b" \r\n\r\n"] {
            assert!(of(empty, Format::Csv).is_err());
        }
    }

    #[test]
    fn a_file_in_utf16_is_read_as_utf8() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!("{HEADER}\r\n邻里{ROWS}");
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for (mark, bytes) in [
            (&b"\xff\xfe"[..], &little),
            (b"\xfe\xff", &big),
            (b"", &little),
        ] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&[mark, bytes].concat()).expect("written");
            let mut read = as_utf8(&mut file, directory.path())
                .expect("read")
                .expect("UTF-16");
            let mut found = String::new();
            read.read_to_string(&mut found).expect("UTF-8");
            assert_eq!(found, text);
        }
        let mut plain = tempfile::tempfile().expect("a file");
        plain.write_all(text.as_bytes()).expect("written");
        assert!(
            as_utf8(&mut plain, directory.path())
                .expect("read")
                .is_none()
        );
    }
}
