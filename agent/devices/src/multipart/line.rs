//! Lines of the stream: delimiters and headers.
use memchr::memmem;

use super::BOUNDARY_BYTES_MAX;

/// Beginning of the head of a part.
pub const HEAD: &[u8] = b"content-";

/// The first complete line from here on that begins with two dashes: its position, the range behind the dashes, and
/// the text after it.
pub fn dashed(held: &[u8], mut from: usize) -> Option<(usize, std::ops::Range<usize>, &[u8])> {
    loop {
        let starts = from == 0 || held[from - 1] == b'\n';
        let line = if starts && held[from..].starts_with(b"--") {
            from
        } else {
            from + memmem::find(&held[from..], b"\n--")? + 1
        };
        let end = line + memchr::memchr(b'\n', &held[line..])?;
        let text = held[line..end].trim_ascii_end();
        let dashes = text.iter().take_while(|byte| **byte == b'-').count();
        if (1..=BOUNDARY_BYTES_MAX).contains(&(text.len() - dashes)) {
            let name = line + dashes..line + text.len();
            return Some((line, name, held[end + 1..].trim_ascii_start()));
        }
        from = end;
    }
}

/// The boundary of a content type, without dashes and quotes.
pub fn declared(content_type: &str) -> Vec<u8> {
    let Some(at) = content_type.to_ascii_lowercase().find("boundary=") else {
        return Vec::new();
    };
    let value = &content_type[at + "boundary=".len()..];
    let value = value.split(';').next().unwrap_or_default();
    let value = value
        .trim()
        .trim_matches('"')
        .trim()
        .trim_start_matches('-');
    value.as_bytes()[..value.len().min(BOUNDARY_BYTES_MAX)].to_vec()
}

/// Whether a byte is allowed in a header's name.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Splits a line of a head into name and value.
pub fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (
        line[..colon].trim_ascii_end(),
        line[colon + 1..].trim_ascii(),
    );
    (!name.is_empty() && name.iter().all(|byte| is_token(*byte))).then_some((name, value))
}
