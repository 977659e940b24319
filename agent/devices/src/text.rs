//! Text of devices and exports: UTF-8, else GB18030. Headers lie about it, so the bytes decide: of a
//! push all of its body, of a file the whole file, because a few letters of GB18030 can be good UTF-8.
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Seek};

/// Read at once from a file.
const READ_BYTES: usize = 1 << 16;

/// How text is written in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// With or without a mark at its start.
    Utf8,
    /// And so GBK and GB 2312.
    Gb18030,
}

impl Encoding {
    /// Of a whole file: the one with fewer sequences that are none of it. So a damaged byte costs its own
    /// row and does not turn all others into other letters.
    pub fn of(mut file: impl Read + Seek) -> io::Result<Self> {
        let not_utf8 = malformed(encoding_rs::UTF_8, &mut file)?;
        if not_utf8 == 0 {
            return Ok(Self::Utf8);
        }
        file.rewind()?;
        let not_gb18030 = malformed(encoding_rs::GB18030, &mut file)?;
        Ok(if not_gb18030 < not_utf8 {
            Self::Gb18030
        } else {
            Self::Utf8
        })
    }

    /// The text of these bytes; `None` if they are not of this encoding.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(unmarked(bytes)).ok().map(Cow::Borrowed),
            Self::Gb18030 => {
                encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(bytes)
            }
        }
    }
}

/// Bytes without the mark that editors of Windows begin UTF-8 with, and nobody sees.
pub fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "UTF-8",
            Self::Gb18030 => "GB18030",
        })
    }
}

/// Sequences that are none of an encoding.
fn malformed(encoding: &'static encoding_rs::Encoding, input: &mut impl Read) -> io::Result<u64> {
    use encoding_rs::DecoderResult;
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut bytes = vec![0; READ_BYTES];
    let mut text = vec![0; 4 * READ_BYTES];
    let mut count = 0;
    loop {
        let read = input.read(&mut bytes)?;
        let last = read == 0;
        let mut rest = &bytes[..read];
        loop {
            let (result, used, _) =
                decoder.decode_to_utf8_without_replacement(rest, &mut text, last);
            rest = &rest[used..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(_, _) => count += 1,
            }
        }
        if last {
            return Ok(count);
        }
    }
}

/// The text of a message; `None` if it is of neither encoding.
pub fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    Encoding::Utf8
        .decode(bytes)
        .or_else(|| Encoding::Gb18030.decode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn utf8_gb18030_and_neither() {
        assert_eq!(decode("邻里".as_bytes()).as_deref(), Some("邻里"));
        assert_eq!(decode(b"\xef\xbb\xbfa").as_deref(), Some("a"));
        assert_eq!(decode(b"\xc1\xda\xc0\xef").as_deref(), Some("邻里"));
        assert_eq!(decode(b"\xff\xff\xff"), None);
    }

    #[test]
    fn a_file_has_one_encoding_and_a_damaged_byte_does_not_change_it() {
        let of = |bytes: &[u8]| Encoding::of(Cursor::new(bytes)).expect("memory");
        assert_eq!(of(b""), Encoding::Utf8);
        // A letter of three bytes across the place where reading is cut.
        let utf8 = format!("{}邻里\n中,\n", "a".repeat(READ_BYTES - 1));
        assert_eq!(of(utf8.as_bytes()), Encoding::Utf8);
        let damaged = [utf8.as_bytes(), b"\xff\n", "噪音，中,\n".as_bytes()].concat();
        assert_eq!(of(&damaged), Encoding::Utf8);
        // 模 alone is good UTF-8 as well.
        assert_eq!(of(b"\xc4\xa3"), Encoding::Utf8);
        assert_eq!(of(b"\xc4\xa3,\xc1\xda\xc0\xef\n"), Encoding::Gb18030);
        assert_eq!(Encoding::Gb18030.decode(b"\xc4\xa3").as_deref(), Some("模"));
    }
}
