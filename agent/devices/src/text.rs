//! Text of devices and exports: UTF-8, else GB18030; UTF-16 if a mark or its zero bytes show it. Declarations are
//! often wrong, so the bytes decide: the whole body of a message, or the whole file, because a few letters of GB18030
//! can be valid UTF-8.
//!
//! No message is refused because of its letters: an invalid byte sequence becomes U+FFFD. Devices cut a name in the
//! middle of a letter where their buffer ends, and mix encodings in one message.
use encoding_rs::{DecoderResult, GB18030, UTF_8, UTF_16BE, UTF_16LE};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Seek};

/// A value without surrounding white space.
#[inline]
pub fn trimmed(value: Cow<'_, str>) -> Cow<'_, str> {
    // Nearly always there is nothing to trim, which two bytes show.
    if let ([first, ..], [.., last]) = (value.as_bytes(), value.as_bytes())
        && first.is_ascii_graphic()
        && last.is_ascii_graphic()
    {
        return value;
    }
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// Bytes read at once from a file.
const READ_BYTES: usize = 1 << 16;
/// Bytes decoded at once while sequences are counted.
const COUNTED_BYTES: usize = 1 << 10;

/// The encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8 with or without a mark at its start.
    Utf8,
    /// GB18030, which includes GBK and GB 2312.
    Gb18030,
}

impl Encoding {
    /// Detects the encoding of a whole file, so that a damaged byte affects only its own row.
    pub fn of(mut file: impl Read + Seek) -> io::Result<Self> {
        let mut utf8 = Sequences::of(UTF_8);
        utf8.read(&mut file)?;
        if utf8.broken == 0 {
            return Ok(Self::Utf8);
        }
        file.rewind()?;
        let mut gb18030 = Sequences::of(GB18030);
        gb18030.read(&mut file)?;
        Ok(Self::by(&utf8, &gb18030))
    }

    /// Chooses the encoding of bytes that are not entirely valid UTF-8. Chinese text in UTF-8 has valid sequences of
    /// three bytes, and GB18030 decodes them without errors: so the choice is UTF-8 if these are at least as many as
    /// the broken ones, else the encoding with fewer broken sequences.
    fn by(utf8: &Sequences, gb18030: &Sequences) -> Self {
        if utf8.broken <= utf8.wide || utf8.broken < gb18030.broken {
            Self::Utf8
        } else {
            Self::Gb18030
        }
    }

    /// Decodes the bytes; an invalid sequence becomes U+FFFD.
    pub fn lossy(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Utf8 => String::from_utf8_lossy(unmarked(bytes)),
            Self::Gb18030 => GB18030.decode_without_bom_handling(bytes).0,
        }
    }
}

/// The bytes without the invisible mark that Windows editors put before UTF-8.
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

/// How well bytes fit an encoding.
struct Sequences {
    decoder: encoding_rs::Decoder,
    /// Invalid sequences.
    broken: u64,
    /// Letters of three bytes, like Chinese ones.
    wide: u64,
}

impl Sequences {
    fn of(encoding: &'static encoding_rs::Encoding) -> Self {
        Self {
            decoder: encoding.new_decoder_without_bom_handling(),
            broken: 0,
            wide: 0,
        }
    }

    fn read(&mut self, input: &mut impl Read) -> io::Result<()> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let read = input.read(&mut bytes)?;
            self.count(&bytes[..read], read == 0);
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn count(&mut self, mut bytes: &[u8], last: bool) {
        let mut text = [0; COUNTED_BYTES];
        loop {
            let (result, used, written) = self
                .decoder
                .decode_to_utf8_without_replacement(bytes, &mut text, last);
            bytes = &bytes[used..];
            let wide = text[..written]
                .iter()
                .filter(|byte| (0xe0..0xf0).contains(*byte));
            self.wide += wide.count() as u64;
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(_, _) => self.broken += 1,
            }
        }
    }
}

/// UTF-16 by its mark, or by the zero bytes of the two ASCII letters at the start of a message.
fn utf16(bytes: &[u8]) -> Option<(&'static encoding_rs::Encoding, &[u8])> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => Some((UTF_16LE, rest)),
        [0xfe, 0xff, rest @ ..] => Some((UTF_16BE, rest)),
        [first, 0, second, 0, ..] if *first > 0 && *second > 0 => Some((UTF_16LE, bytes)),
        [0, first, 0, second, ..] if *first > 0 && *second > 0 => Some((UTF_16BE, bytes)),
        _ => None,
    }
}

/// Decodes the text of a message. Invalid bytes become U+FFFD.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Some((encoding, bytes)) = utf16(bytes) {
        return encoding.decode_without_bom_handling(bytes).0;
    }
    let bytes = unmarked(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    // A single byte that is invalid in UTF-8 is damage. As the lead byte of a letter it would consume the next one.
    let is_letter = |pair: &[u8]| (0x81..0xff).contains(&pair[0]) && pair[1] >= 0x80;
    if !bytes.windows(2).any(is_letter) {
        return String::from_utf8_lossy(bytes);
    }
    let (mut utf8, mut gb18030) = (Sequences::of(UTF_8), Sequences::of(GB18030));
    utf8.count(bytes, true);
    gb18030.count(bytes, true);
    // A damaged letter of UTF-8 is one or two broken sequences; GB18030 makes rare letters of the others.
    if utf8.broken <= 2 * utf8.wide && !is_of_common_letters(bytes) {
        return String::from_utf8_lossy(bytes);
    }
    Encoding::by(&utf8, &gb18030).lossy(bytes)
}

/// Whether at least half of the wide letters that GB18030 makes of the bytes are common ones (GB 2312, level 1).
fn is_of_common_letters(mut bytes: &[u8]) -> bool {
    let (mut common, mut rare) = (0, 0);
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        if let (0x81.., [second, rest @ ..]) = (*first, rest) {
            bytes = rest;
            match (0xb0..=0xd7).contains(first) && *second >= 0xa1 {
                true => common += 1,
                false => rare += 1,
            }
        }
    }
    common >= rare
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    #[test]
    fn a_message_is_read_in_its_encoding_and_what_is_no_letter_is_replaced() {
        for (bytes, text) in [
            ("邻里".as_bytes(), "邻里"),
            (b"\xef\xbb\xbfa", "a"),
            (b"\xc1\xda\xc0\xef", "邻里"),
            (b"\xff\xff\xff", "\u{fffd}\u{fffd}\u{fffd}"),
            // Cut in the middle of a letter, in both encodings.
            (b"\"\xd5\xc5\xc8\"}", "\"张\u{fffd}\"}"),
            (b"\"3\xba\xc5\xc2\",", "\"3号\u{fffd}\","),
            (b"\"\xe9\x82\xbb\xe9\x87\"}", "\"邻\u{fffd}\"}"),
            // The high bit of a letter is lost.
            (b"\"\xe9\x82\xbbi\x87\x8c\"}", "\"邻i\u{fffd}\u{fffd}\"}"),
            (b"\"\xc1\xda@\xef\"}", "\"邻@\u{fffd}\"}"),
            ("烟感\u{0}".as_bytes(), "烟感\u{0}"),
            // One damaged byte consumes no other.
            (b"a\x8aCode=\xfd", "a\u{fffd}Code=\u{fffd}"),
            // GB18030 decodes every byte of this, yet it is UTF-8.
            (
                b"\xe7\x83\x9f\xe6\x84\x9f\xe6\x8a\xa5\xe8\xad\xa6\xe5\x99 7\xe6\xa5\xbc",
                "烟感报警\u{fffd} 7楼",
            ),
            (b"\xff\xfe{\x00}\x00", "{}"),
            (b"\xfe\xff\x00{\x00}", "{}"),
            (b"{\x00\"\x00\xbb\x90\"\x00}\x00", "{\"邻\"}"),
            (b"\x00{\x00}", "{}"),
            (b"", ""),
        ] {
            assert_eq!(lossy(bytes), text, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_file_has_one_encoding_and_a_damaged_byte_does_not_change_it() {
        let of = |bytes: &[u8]| Encoding::of(Cursor::new(bytes)).expect("memory");
        assert_eq!(of(b""), Encoding::Utf8);
        // A letter of three bytes across the boundary of two reads.
        let utf8 = format!("{}邻里\n中,\n", "a".repeat(READ_BYTES - 1));
        assert_eq!(of(utf8.as_bytes()), Encoding::Utf8);
        let damaged = [utf8.as_bytes(), b"\xff\n", "噪音，中,\n".as_bytes()].concat();
        assert_eq!(of(&damaged), Encoding::Utf8);
        // 模 alone is valid UTF-8 as well.
        assert_eq!(of(b"\xc4\xa3"), Encoding::Utf8);
        assert_eq!(of(b"\xc4\xa3,\xc1\xda\xc0\xef\n"), Encoding::Gb18030);
        assert_eq!(Encoding::Gb18030.lossy(b"\xc4\xa3"), "模");
        assert_eq!(Encoding::Gb18030.lossy(b"\xc4\xa3\xc4"), "模\u{fffd}");
        // One cut letter in a large text does not change the encoding.
        let cut = ["邻里噪音\n".as_bytes(), b"\xe9\x82\n"].concat();
        assert_eq!(of(&cut), Encoding::Utf8);
    }

    proptest! {
        #[test]
        fn text_of_either_encoding_survives_a_cut_in_its_last_letter(text in "[a-z{}\":,东南西北号楼单元层室烟感火灾报警门口摄像机张伟王芳]{0,40}[东南西北号楼单元层室烟感火灾报警门口摄像机张伟王芳]{3}") {
            let utf8 = &text.as_bytes()[..text.len() - 1];
            let gb18030 = encoding_rs::GB18030.encode(&text).0;
            let gb18030 = &gb18030[..gb18030.len() - 1];
            for bytes in [utf8, gb18030] {
                let read = lossy(bytes);
                let whole = text.char_indices().next_back().map_or(0, |(at, _)| at);
                prop_assert!(read.starts_with(&text[..whole]), "{read} {text}");
            }
        }
    }
}
