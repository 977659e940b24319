//! A message of SIA DC-09 (clauses 5.5.1.2 to 5.5.1.9): its header, its data, and its answers. Pure.
//!
//! ```text
//! "ID"seq R receiver L prefix #account [data] [xdata]… _HH:MM:SS,MM-DD-YYYY
//! ```
//!
//! `*` before the ID: everything behind the first `[` is sealed ([`cipher`](super::cipher)). The receiver may be
//! missing, and in an unsealed message the time too; times are UTC. IDs that are read: `NULL` and `XNM` (link tests),
//! `SIA-DCS`, `ADM-CID`.
//!
//! Known deviations of panels: an `R` or `L` without digits counts as missing. An invalid time, like
//! `_00:00:00,00-00-0000`, extended data without an end and text behind the last `]` are ignored and lose no alarm.
//!
//! | answer | when |
//! | --- | --- |
//! | `ACK` with the message's sequence, receiver, prefix and account; sealed if the message was | its events are durable |
//! | `NAK` 0000 R0 L0 A0 with the agent's time | it could not be opened, or its time is too far from now; the panel sets its clock by it |
//! | `DUH` with the message's fields | it was opened, and its content is unreadable |
//! | none | length or CRC are wrong: the panel sends again |
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::borrow::Cow;

use super::cipher::{Key, PAD_BYTES_MAX};
use super::frame;
use crate::text;

/// Longest ID.
const ID_BYTES_MAX: usize = 16;
/// Longest receiver or prefix.
const PLACE_BYTES_MAX: usize = 6;
/// Longest account.
pub const ACCOUNT_BYTES_MAX: usize = 16;
/// Most blocks of extended data.
const XDATA_MAX: usize = 32;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// A link test.
    Null,
    /// DC-03 events.
    SiaDcs,
    /// DC-05, that is Contact ID.
    AdmCid,
}

/// The header before the data. Fields are as received, for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// ID as written.
    pub id: &'a str,
    /// Everything behind the first `[` is sealed.
    pub sealed: bool,
    /// Four digits.
    pub sequence: &'a str,
    /// Receiver without its `R`.
    pub receiver: Option<&'a str>,
    /// Prefix without its `L`.
    pub prefix: Option<&'a str>,
    /// Account without its `#`; empty if only the data name it.
    pub account: &'a str,
}

/// Why a body is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A bad header.
    #[error("the header has no {0} where it should stand")]
    Header(&'static str),
    /// The sealed part is no hexadecimal, or no whole blocks, or the key is wrong.
    #[error(
        "what is sealed does not open: is the key of account {0} the one of the panel? Set key_file to a file with its digits"
    )]
    Sealed(String),
    /// Bad data.
    #[error("the data have no ] at their end")]
    NoEnd,
}

/// The rest of some bytes, read from the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    /// Takes bytes for which `holds` is true, between `least` and `most` of them.
    fn run(&mut self, least: usize, most: usize, holds: impl Fn(u8) -> bool) -> Option<&'a str> {
        let length = self.0.iter().take_while(|byte| holds(**byte)).count();
        if !(least..=most).contains(&length) {
            return None;
        }
        let (front, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(front).ok()
    }
}

impl<'a> Header<'a> {
    /// Reads the header of a body; returns the rest behind the first `[`.
    pub fn read(body: &'a [u8]) -> Result<(Self, &'a [u8]), MessageError> {
        let missing = MessageError::Header;
        let mut rest = Rest(body);
        if !rest.skip(b'"') {
            return Err(missing("ID in quotation marks"));
        }
        let sealed = rest.skip(b'*');
        let id = rest
            .run(1, ID_BYTES_MAX, |byte| {
                byte.is_ascii_alphanumeric() || byte == b'-'
            })
            .filter(|_| rest.skip(b'"'))
            .ok_or(missing("ID in quotation marks"))?;
        let sequence = rest
            .0
            .split_at_checked(4)
            .filter(|(digits, _)| digits.iter().all(u8::is_ascii_digit))
            .and_then(|(digits, behind)| Some((std::str::from_utf8(digits).ok()?, behind)));
        let Some((sequence, behind)) = sequence else {
            return Err(missing("sequence of four digits"));
        };
        rest.0 = behind;
        let mut place = |mark, name| {
            let is_there = rest.skip(mark) || rest.skip(mark.to_ascii_lowercase());
            let digits =
                is_there.then(|| rest.run(0, PLACE_BYTES_MAX, |byte| byte.is_ascii_hexdigit()));
            match digits {
                Some(None) => Err(missing(name)),
                found => Ok(found.flatten().filter(|digits| !digits.is_empty())),
            }
        };
        let receiver = place(b'R', "receiver of up to six hexadecimal digits")?;
        let prefix = place(b'L', "prefix of up to six hexadecimal digits")?;
        let account = match rest.skip(b'#') {
            true => rest.run(0, ACCOUNT_BYTES_MAX, |byte| byte.is_ascii_alphanumeric()),
            false => Some(""),
        }
        .ok_or(missing("account of up to 16 letters and digits"))?;
        if !rest.skip(b'[') {
            return Err(missing("[ before the data"));
        }
        let header = Self {
            id,
            sealed,
            sequence,
            receiver,
            prefix,
            account,
        };
        Ok((header, rest.0))
    }

    /// The type of the message; `None`: not read here.
    pub fn kind(&self) -> Option<Id> {
        match self.id.to_ascii_uppercase().as_str() {
            "NULL" | "XNM" => Some(Id::Null),
            "SIA-DCS" => Some(Id::SiaDcs),
            "ADM-CID" => Some(Id::AdmCid),
            _ => None,
        }
    }
}

/// The clear text behind the first `[`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    /// Data of the type in the ID.
    pub data: Cow<'a, str>,
    /// Letter and text of each block, in their order.
    pub xdata: Vec<(char, Cow<'a, str>)>,
    /// Time of transmission, UTC.
    pub time: Option<DateTime>,
    /// Invalid text at the position of that time.
    pub unread_time: Option<Cow<'a, str>>,
    /// Text behind the data that is neither a block nor a time.
    pub behind: Cow<'a, str>,
}

/// Whether the text has the punctuation of a time and digits between, whatever their values.
fn is_stamp(text: &str) -> bool {
    let pattern = b"00:00:00,00-00-0000";
    let is_like = |(byte, mark): (u8, &u8)| match mark {
        b'0' => byte.is_ascii_digit(),
        mark => byte == *mark,
    };
    text.len() == pattern.len() && text.bytes().zip(pattern).all(is_like)
}

/// Reads `HH:MM:SS,MM-DD-YYYY`, else a time in another spelling.
pub fn time(text: &str) -> Option<DateTime> {
    let text = text.trim();
    if is_stamp(text) {
        return stamped(text);
    }
    let ms = crate::time::read(text, &TimeZone::UTC)?;
    let time = Timestamp::from_millisecond(ms).ok()?;
    Some(time.to_zoned(TimeZone::UTC).datetime())
}

fn stamped(text: &str) -> Option<DateTime> {
    let part = |from: usize, to: usize| -> Option<i16> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let byte = |from| part(from, from + 2).and_then(|part| i8::try_from(part).ok());
    DateTime::new(
        part(15, 19)?,
        byte(9)?,
        byte(12)?,
        byte(0)?,
        byte(3)?,
        byte(6)?,
        0,
    )
    .ok()
}

impl<'a> Content<'a> {
    /// Reads the clear text.
    pub fn read(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let end = memchr::memchr(b']', bytes).ok_or(MessageError::NoEnd)?;
        let mut content = Self {
            data: text::lossy(&bytes[..end]),
            xdata: Vec::new(),
            time: None,
            unread_time: None,
            behind: Cow::default(),
        };
        let mut rest = &bytes[end + 1..];
        while let Some(inner) = rest.strip_prefix(b"[") {
            let Some(end) = memchr::memchr(b']', inner) else {
                break;
            };
            if let Some((letter, value)) = inner[..end].split_first()
                && content.xdata.len() < XDATA_MAX
            {
                let block = (char::from(*letter), text::lossy(value));
                content.xdata.push(block);
            }
            rest = &inner[end + 1..];
        }
        // The time is last, whatever precedes it.
        let stamp = memchr::memrchr(b'_', rest);
        content.behind = text::lossy(rest[..stamp.unwrap_or(rest.len())].trim_ascii());
        if let Some(stamp) = stamp {
            let text = text::lossy(&rest[stamp + 1..]);
            content.time = time(&text);
            if content.time.is_none() && !text.trim().is_empty() {
                content.unread_time = Some(text);
            }
        }
        Ok(content)
    }

    /// Whether it ends with a time, or with digits at the position of one.
    fn is_stamped(&self) -> bool {
        let is_unread = self.unread_time.as_deref().is_some_and(is_stamp);
        self.time.is_some() || is_unread
    }

    /// The text of the first block of this letter.
    pub fn block(&self, letter: char) -> Option<&str> {
        let found = self.xdata.iter().find(|(known, _)| *known == letter);
        found.map(|(_, text)| text.as_ref())
    }
}

/// Opens the sealed part; returns the text behind the pad.
pub fn open(header: &Header<'_>, sealed: &[u8], key: &Key) -> Result<Vec<u8>, MessageError> {
    let wrong = || MessageError::Sealed(header.account.to_owned());
    let mut clear = key.open(sealed).ok_or_else(wrong)?;
    let end = memchr::memchr(b']', &clear).ok_or_else(wrong)?;
    // A link test has no data: its pad extends to their end, with or without a mark.
    let pad = memchr::memchr(b'|', &clear[..end]).map_or(end, |mark| mark + 1);
    clear.drain(..pad);
    // With the wrong key a ] occurs somewhere now and then, but never a time at the end.
    match Content::read(&clear) {
        Ok(content) if content.is_stamped() => Ok(clear),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

fn stamp(now: DateTime) -> String {
    now.strftime("_%H:%M:%S,%m-%d-%Y").to_string()
}

/// An answer to a panel with its sequence and places.
fn back(header: &Header<'_>, id: &str) -> String {
    let receiver = header.receiver.map(|digits| format!("R{digits}"));
    format!(
        "\"{id}\"{}{}L{}#{}[",
        header.sequence,
        receiver.unwrap_or_default(),
        header.prefix.unwrap_or("0"),
        header.account
    )
}

/// The ACK of a durable message, sealed with the same key as the message.
pub fn ack(
    header: &Header<'_>,
    key: Option<&Key>,
    now: DateTime,
    random: &[u8; PAD_BYTES_MAX],
) -> Vec<u8> {
    let body = match key {
        Some(key) => {
            let clear = format!("]{}", stamp(now));
            back(header, "*ACK") + &key.seal(clear.as_bytes(), random)
        }
        None => back(header, "ACK") + "]",
    };
    frame::encode(body.as_bytes())
}

/// The NAK of a refused message, with the agent's time.
pub fn nak(now: DateTime) -> Vec<u8> {
    frame::encode(format!("\"NAK\"0000R0L0A0[]{}", stamp(now)).as_bytes())
}

/// The DUH of a message that was not understood.
pub fn duh(header: &Header<'_>) -> Vec<u8> {
    frame::encode((back(header, "DUH") + "]").as_bytes())
}

/// The allowed distance between a panel's time and the agent's, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How far it may be behind.
    pub behind_s: i64,
    /// How far it may be ahead.
    pub ahead_s: i64,
}

impl Window {
    /// Whether a time is within the window. Both are UTC.
    pub fn holds(self, time: DateTime, now: DateTime) -> bool {
        let ahead_s = time.duration_since(now).as_secs();
        (-self.behind_s..=self.ahead_s).contains(&ahead_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: DateTime = DateTime::constant(2026, 10, 22, 7, 15, 0, 0);
    const RANDOM: [u8; PAD_BYTES_MAX] = [7; PAD_BYTES_MAX];

    fn key() -> Key {
        Key::from_digits(&"a5".repeat(16)).expect("a key")
    }

    #[test]
    fn a_header_gives_its_parts() {
        let body = b"\"*SIA-DCS\"9876R579BDFL789ABC#123456A[0011";
        let (header, rest) = Header::read(body).expect("a header");
        assert_eq!(
            header,
            Header {
                id: "SIA-DCS",
                sealed: true,
                sequence: "9876",
                receiver: Some("579BDF"),
                prefix: Some("789ABC"),
                account: "123456A",
            }
        );
        assert_eq!(header.kind(), Some(Id::SiaDcs));
        assert_eq!(rest, b"0011");
        // A mark without digits counts as missing.
        for bare in [
            "\"NULL\"0001L#7303658550[]",
            "\"NULL\"0001RL#7303658550[]",
            "\"NULL\"0001R#7303658550[]",
        ] {
            let (header, _) = Header::read(bare.as_bytes()).expect(bare);
            assert_eq!(
                (header.receiver, header.prefix, header.account),
                (None, None, "7303658550"),
                "{bare}"
            );
            assert_eq!(
                ack(&header, None, NOW, &RANDOM)[9..],
                *b"\"ACK\"0001L0#7303658550[]\r"
            );
        }
        let (header, _) = Header::read(b"\"adm-cid\"0001L0#[]").expect("a header");
        assert_eq!((header.kind(), header.account), (Some(Id::AdmCid), ""));
        // Without receiver, prefix, account: seen with diallers.
        let (header, _) = Header::read(b"\"NULL\"0001[]").expect("a header");
        assert_eq!(
            (header.receiver, header.prefix, header.account),
            (None, None, "")
        );
        for bad in [
            "",
            "NULL",
            "\"NULL",
            "\"NULL\"001L0#1[]",
            "\"NULL\"00a1L0#1[]",
            "\"NULL\"0001L1234567#1[]",
            "\"NULL\"0001L0#12345678901234567[]",
            "\"NULL\"0001L0#1-2[]",
            "\"NULL\"0001L0#1",
            "\"\"0001L0#1[]",
        ] {
            assert!(Header::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_gives_data_blocks_and_time() {
        let content =
            Content::read("#1234|NFA1][M1234567890AB][L3楼][X]_23:59:58,12-31-2026".as_bytes())
                .expect("content");
        assert_eq!(content.data, "#1234|NFA1");
        assert_eq!(content.block('M'), Some("1234567890AB"));
        assert_eq!(content.block('L'), Some("3楼"));
        assert_eq!(content.block('X'), Some(""));
        assert_eq!(content.block('Y'), None);
        assert_eq!(
            content.time,
            Some(DateTime::constant(2026, 12, 31, 23, 59, 58, 0))
        );
        assert_eq!(Content::read(b"]").expect("content").time, None);
        for bad in ["", "abc"] {
            assert!(Content::read(bad.as_bytes()).is_err(), "{bad}");
        }
        for (text, time, unread, behind) in [
            ("a]x", false, "", "x"),
            ("a][x", false, "", "[x"),
            ("a]_", false, "", ""),
            ("a]_25:00:00,01-01-2026", false, "25:00:00,01-01-2026", ""),
            ("a]_00:00:00,00-00-0000", false, "00:00:00,00-00-0000", ""),
            ("a]garbage_10:00:00,01-01-2026", true, "", "garbage"),
            // The rest of an old buffer.
            ("a]345678[] 2345678[] ", false, "", "345678[] 2345678[]"),
            ("a]_10:00:00,01-01-2026 ", true, "", ""),
            ("a]_2026-01-01T10:00:00Z", true, "", ""),
        ] {
            let content = Content::read(text.as_bytes()).expect("content");
            assert_eq!(content.data, "a");
            assert_eq!(content.time.is_some(), time, "{text}");
            assert_eq!(
                content.unread_time.as_deref().unwrap_or_default(),
                unread,
                "{text}"
            );
            assert_eq!(content.behind, behind, "{text}");
        }
        let many = format!("]{}", "[La]".repeat(100));
        assert_eq!(
            Content::read(many.as_bytes()).expect("content").xdata.len(),
            XDATA_MAX
        );
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_no_other() {
        let header = Header::read(b"\"*SIA-DCS\"0001L0#1234[")
            .expect("a header")
            .0;
        let sealed = key().seal(b"|#1234|NFA1]_07:15:00,10-22-2026", &RANDOM);
        let clear = open(&header, sealed.as_bytes(), &key()).expect("the key");
        assert_eq!(clear, b"#1234|NFA1]_07:15:00,10-22-2026");
        let null = key().seal(b"]_07:15:00,10-22-2026", &RANDOM);
        assert_eq!(
            open(&header, null.as_bytes(), &key()).expect("the key"),
            b"]_07:15:00,10-22-2026"
        );
        // The time of a clock that was never set counts all the same.
        let unset = key().seal(b"|#1234|NFA1]_00:00:00,00-00-0000", &RANDOM);
        assert!(open(&header, unset.as_bytes(), &key()).is_ok());
        let without_time = key().seal(b"|#1234|NFA1]", &RANDOM);
        assert!(open(&header, without_time.as_bytes(), &key()).is_err());
        for number in 0..=255_u8 {
            let other = Key::from_digits(&format!("{number:02x}").repeat(24)).expect("a key");
            assert!(open(&header, sealed.as_bytes(), &other).is_err());
        }
        for bad in ["", "0", "zz", "00112233"] {
            assert!(open(&header, bad.as_bytes(), &key()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_carry_the_fields_of_what_they_answer() {
        let (header, _) = Header::read(b"\"SIA-DCS\"0007R75L1#001465[").expect("a header");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ASCII");
        assert_eq!(
            text(ack(&header, None, NOW, &RANDOM))[9..],
            *"\"ACK\"0007R75L1#001465[]\r"
        );
        assert_eq!(text(duh(&header))[9..], *"\"DUH\"0007R75L1#001465[]\r");
        assert_eq!(
            text(nak(DateTime::constant(2024, 7, 30, 10, 10, 18, 0))),
            "\nE5630025\"NAK\"0000R0L0A0[]_10:10:18,07-30-2024\r"
        );
        let sealed = text(ack(&header, Some(&key()), NOW, &RANDOM));
        let body = &sealed.as_bytes()[9..sealed.len() - 1];
        let (back, rest) = Header::read(body).expect("a header");
        assert_eq!((back.id, back.sealed, back.sequence), ("ACK", true, "0007"));
        assert_eq!(
            open(&back, rest, &key()).expect("the key"),
            b"]_07:15:00,10-22-2026"
        );
        let (bare, _) = Header::read(b"\"NULL\"0001#12[").expect("a header");
        assert_eq!(
            text(ack(&bare, None, NOW, &RANDOM))[9..],
            *"\"ACK\"0001L0#12[]\r"
        );
    }

    #[test]
    fn a_time_is_near_within_the_window() {
        let window = Window {
            behind_s: 40,
            ahead_s: 20,
        };
        let at = |second: i8| DateTime::constant(2026, 10, 22, 7, 15, second, 0);
        assert!(window.holds(at(20), NOW));
        assert!(!window.holds(at(21), NOW));
        assert!(window.holds(DateTime::constant(2026, 10, 22, 7, 14, 20, 0), NOW));
        assert!(!window.holds(DateTime::constant(2026, 10, 22, 7, 14, 19, 0), NOW));
        assert!(!window.holds(DateTime::constant(1970, 1, 1, 0, 0, 0, 0), NOW));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((header, rest)) = Header::read(&body) {
                let _ = Content::read(rest);
                let _ = open(&header, rest, &key());
            }
            let _ = Content::read(&body);
        }

        #[test]
        fn no_content_makes_it_panic(text in "[\\[\\]_|#A-Z0-9:,-]{0,80}") {
            let _ = Content::read(text.as_bytes());
            let _ = time(&text);
        }

        #[test]
        fn a_time_comes_back(year in 1970_i16..2200, month in 1_i8..=12, day in 1_i8..=28, hour in 0_i8..24,
            minute in 0_i8..60, second in 0_i8..60)
        {
            let at = DateTime::constant(year, month, day, hour, minute, second, 0);
            prop_assert_eq!(time(&stamp(at)[1..]), Some(at));
        }
    }
}
