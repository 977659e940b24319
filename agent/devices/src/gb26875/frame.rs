//! The frame of GB/T 26875.3-2011 (clause 6): found in a stream or a datagram, checked, and built. Pure.
//!
//! ```text
//! 40 40 | serial u16 | version u8 u8 | time 6 B | source 6 B | destination 6 B | length u16 | command u8
//!       | data (length bytes) | checksum u8 | 23 23
//! ```
//!
//! Numbers are little-endian. The time is second, minute, hour, day, month, year of the century, each a binary byte,
//! without a zone. The checksum is the sum of all bytes between `40 40` and itself, mod 256. The data may contain `23
//! 23` and `40 40`: a frame ends where its length says.
//!
//! Limits: data have at most [`DATA_BYTES_MAX`]; a [`Framer`] holds at most one incomplete frame and the bytes it was
//! fed last.
use jiff::civil::DateTime;

/// Most bytes of data in a frame (the standard's own limit).
pub const DATA_BYTES_MAX: usize = 1024;
/// Length from `40 40` to the command.
pub const HEAD_BYTES: usize = 27;
/// Checksum and `23 23`.
const TAIL_BYTES: usize = 3;
/// A whole frame without data.
pub const FRAME_BYTES_MIN: usize = HEAD_BYTES + TAIL_BYTES;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = FRAME_BYTES_MIN + DATA_BYTES_MAX;
/// The main version of the protocol.
pub const VERSION_MAIN: u8 = 1;
/// Rejected bytes that are shown; the rest of a longer piece is only counted.
const SHOWN_BYTES_MAX: usize = 4096;

/// Possible beginnings that are examined behind an incomplete one.
const PASSED_OVER_MAX: usize = 16;

const START: [u8; 2] = [0x40, 0x40];
const END: [u8; 2] = [0x23, 0x23];

/// The purpose of a frame (table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// 1: the centre's order, like a new time.
    Control,
    /// 2: data of a device.
    Send,
    /// 3: the frame was accepted.
    Confirm,
    /// 4: a request.
    Request,
    /// 5: the answer to a request.
    Reply,
    /// 6: the frame was refused; it is sent again.
    Deny,
    /// 128 to 255: a vendor's own.
    Vendor(u8),
    /// 0 and 7 to 127.
    Reserved(u8),
}

impl Command {
    /// The command of a byte.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Control,
            2 => Self::Send,
            3 => Self::Confirm,
            4 => Self::Request,
            5 => Self::Reply,
            6 => Self::Deny,
            128.. => Self::Vendor(number),
            _ => Self::Reserved(number),
        }
    }

    /// The byte of the command.
    pub fn number(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Send => 2,
            Self::Confirm => 3,
            Self::Request => 4,
            Self::Reply => 5,
            Self::Deny => 6,
            Self::Vendor(number) | Self::Reserved(number) => number,
        }
    }
}

/// An address of a device or a centre: six bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 6]);

impl Address {
    /// The address as a number, as devices display it.
    pub fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The address of a number; `None` if it needs more than six bytes.
    pub fn from_number(number: u64) -> Option<Self> {
        match number.to_le_bytes() {
            [a, b, c, d, e, f, 0, 0] => Some(Self([a, b, c, d, e, f])),
            _ => None,
        }
    }
}

/// A time as on the wire, possibly invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireTime(pub [u8; 6]);

impl WireTime {
    /// The time; `None` if the bytes are invalid, as from a clock that was never set.
    pub fn civil(self) -> Option<DateTime> {
        let [second, minute, hour, day, month, year] = self.0.map(|byte| byte.cast_signed());
        if self.0[5] > 99 {
            return None;
        }
        DateTime::new(2000 + i16::from(year), month, day, hour, minute, second, 0).ok()
    }

    /// Encodes a time; years outside of 2000 to 2099 lose their century.
    pub fn new(time: DateTime) -> Self {
        let year = time.year().rem_euclid(100);
        Self(
            [
                time.second(),
                time.minute(),
                time.hour(),
                time.day(),
                time.month(),
                year as i8,
            ]
            .map(|part| part.cast_unsigned()),
        )
    }
}

/// The head before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Serial, counted by the side that begins; an answer repeats it.
    pub serial: u16,
    /// Main and user version.
    pub version: [u8; 2],
    /// Time of transmission.
    pub time: WireTime,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Command.
    pub command: Command,
}

/// A frame with a correct length and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The head.
    pub head: Head,
    /// The data unit; empty in answers and signs of life.
    pub data: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes between frames.
    #[error("no frame begins here: 40 40 is missing")]
    NoStart,
    /// A length that the standard does not allow.
    #[error("a data unit of {0} bytes is told, the standard allows {DATA_BYTES_MAX}")]
    Length(u16),
    /// The frame does not end where the length says.
    #[error("23 23 is not where the length says that the frame ends")]
    NoEnd,
    /// The frame was damaged on the way.
    #[error("the checksum is {told:02x}, the bytes come to {counted:02x}")]
    Checksum {
        /// Checksum in the frame.
        told: u8,
        /// Checksum of the bytes.
        counted: u8,
    },
    /// The rest did not arrive.
    #[error("the frame was cut off")]
    CutOff,
}

/// The next piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame, and its bytes.
    Frame(Frame<'a>, &'a [u8]),
    /// Bytes that are no frame. The head is present if the frame was complete and its checksum wrong: such a frame
    /// can be denied.
    Rejected {
        /// The reason.
        why: FrameError,
        /// The bytes, at most `SHOWN_BYTES_MAX` of them.
        bytes: &'a [u8],
        /// The apparent head.
        head: Option<Head>,
    },
}

/// Reads a head of at least [`HEAD_BYTES`], and the length of the data.
fn head(bytes: &[u8; HEAD_BYTES]) -> (Head, u16) {
    let six = |at: usize| -> [u8; 6] { std::array::from_fn(|index| bytes[at + index]) };
    let head = Head {
        serial: u16::from_le_bytes([bytes[2], bytes[3]]),
        version: [bytes[4], bytes[5]],
        time: WireTime(six(6)),
        source: Address(six(12)),
        destination: Address(six(18)),
        command: Command::from_number(bytes[26]),
    };
    (head, u16::from_le_bytes([bytes[24], bytes[25]]))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Classification of the beginning of bytes.
enum Look {
    /// A frame of this many bytes.
    Frame(usize),
    /// No frame; this many bytes surely belong to no frame, at least one.
    Bad(FrameError, usize, Option<Head>),
    /// More bytes are needed.
    More,
}

/// The position where the next frame could begin, from `from` on.
fn next_start(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    if let Some(at) = memchr::memmem::find(rest, &START) {
        return from + at;
    }
    // The last byte may be the first half of a start.
    match rest.last() {
        Some(0x40) => bytes.len() - 1,
        _ => bytes.len(),
    }
}

fn look(bytes: &[u8]) -> Look {
    let start = next_start(bytes, 0);
    if start > 0 {
        return Look::Bad(FrameError::NoStart, start, None);
    }
    let Some(first) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Look::More;
    };
    let (head, length) = head(first);
    let data_bytes = usize::from(length);
    if data_bytes > DATA_BYTES_MAX {
        return Look::Bad(FrameError::Length(length), next_start(bytes, 1), None);
    }
    let whole = FRAME_BYTES_MIN + data_bytes;
    let Some(frame) = bytes.get(..whole) else {
        return Look::More;
    };
    if frame[whole - END.len()..] != END {
        return Look::Bad(FrameError::NoEnd, next_start(bytes, 1), None);
    }
    let told = frame[whole - TAIL_BYTES];
    let counted = sum(&frame[START.len()..whole - TAIL_BYTES]);
    if told != counted {
        // The end is where the length says: the damage is inside, and the whole frame is dropped.
        return Look::Bad(FrameError::Checksum { told, counted }, whole, Some(head));
    }
    Look::Frame(whole)
}

/// Looks for a complete frame behind an incomplete beginning: then the bytes before it are no frame. So a stray `40`,
/// or a damaged length, does not delay it.
fn passed_over(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for _ in 0..PASSED_OVER_MAX {
        start = next_start(bytes, start + 1);
        if start >= bytes.len() {
            return None;
        }
        if matches!(look(&bytes[start..]), Look::Frame(_)) {
            return Some(start);
        }
    }
    None
}

/// Finds frames in a stream. Feed it, then take pieces until there is none.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Bytes at the beginning that were already returned.
    taken: usize,
}

impl Framer {
    /// Adds bytes. Take all pieces of earlier bytes before.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next piece; `None`: more bytes are needed.
    pub fn take(&mut self) -> Option<Piece<'_>> {
        let rest = &self.bytes[self.taken..];
        if rest.is_empty() {
            return None;
        }
        let found = match look(rest) {
            Look::More => Look::Bad(FrameError::CutOff, passed_over(rest)?, None),
            found => found,
        };
        Some(self.give(found))
    }

    /// Gives up the incomplete frame, whose rest will not arrive, and reads on behind its beginning.
    pub fn give_up(&mut self) -> Option<Piece<'_>> {
        let rest = &self.bytes[self.taken..];
        if rest.is_empty() {
            return None;
        }
        let found = match look(rest) {
            Look::More => Look::Bad(FrameError::CutOff, next_start(rest, 1), None),
            found => found,
        };
        Some(self.give(found))
    }

    /// Bytes of an incomplete frame.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn give(&mut self, look: Look) -> Piece<'_> {
        let from = self.taken;
        match look {
            Look::Frame(length) => {
                self.taken += length;
                let bytes = &self.bytes[from..self.taken];
                let (head, _) = head(bytes.first_chunk().expect("a frame has a head"));
                let data = &bytes[HEAD_BYTES..length - TAIL_BYTES];
                Piece::Frame(Frame { head, data }, bytes)
            }
            Look::Bad(why, length, head) => {
                self.taken += length;
                let shown = length.min(SHOWN_BYTES_MAX);
                Piece::Rejected {
                    why,
                    bytes: &self.bytes[from..from + shown],
                    head,
                }
            }
            Look::More => unreachable!("whoever calls has looked"),
        }
    }
}

impl Frame<'_> {
    /// The bytes of the frame. Data beyond [`DATA_BYTES_MAX`] cannot be sent and are cut off.
    pub fn encode(&self) -> Vec<u8> {
        let data = &self.data[..self.data.len().min(DATA_BYTES_MAX)];
        let head = &self.head;
        let mut bytes = Vec::with_capacity(FRAME_BYTES_MIN + data.len());
        bytes.extend_from_slice(&START);
        bytes.extend_from_slice(&head.serial.to_le_bytes());
        bytes.extend_from_slice(&head.version);
        bytes.extend_from_slice(&head.time.0);
        bytes.extend_from_slice(&head.source.0);
        bytes.extend_from_slice(&head.destination.0);
        bytes.extend_from_slice(&(data.len() as u16).to_le_bytes());
        bytes.push(head.command.number());
        bytes.extend_from_slice(data);
        bytes.push(sum(&bytes[START.len()..]));
        bytes.extend_from_slice(&END);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text.replace(char::is_whitespace, "")).expect("hexadecimal")
    }

    /// A public test frame of another implementation: a part on fire, "Ａ区１层呷哺走廊".
    fn public() -> Vec<u8> {
        bytes(
            "40 40 00 00 01 01 18 0d 11 16 0a 14 00 00 00 00 00 00 06 05 04 03 02 01 30 00 02
             02 01 01 03 00 d9 00 06 00 02 00 a3 c1 c7 f8 a3 b1 b2 e3 df c8 b2 b8 d7 df c0 c8
             00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 30 12 13 01 08 14 68 23 23",
        )
    }

    fn frame(data: &[u8]) -> Vec<u8> {
        let head = Head {
            serial: 7,
            version: [1, 1],
            time: WireTime([2, 58, 9, 26, 9, 12]),
            source: Address::from_number(889).expect("six bytes"),
            destination: Address::from_number(88_888).expect("six bytes"),
            command: Command::Send,
        };
        Frame { head, data }.encode()
    }

    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Found {
        Data(Vec<u8>),
        Rejected(FrameError, usize),
    }

    fn all(framer: &mut Framer, found: &mut Vec<Found>) {
        while let Some(piece) = framer.take() {
            found.push(match piece {
                Piece::Frame(frame, _) => Found::Data(frame.data.to_vec()),
                Piece::Rejected { why, bytes, .. } => Found::Rejected(why, bytes.len()),
            });
        }
    }

    fn fed(chunks: &[&[u8]]) -> Vec<Found> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for chunk in chunks {
            framer.feed(chunk);
            all(&mut framer, &mut found);
        }
        found
    }

    #[test]
    fn the_public_frame_is_read_and_built_to_the_byte() {
        let public = public();
        let mut framer = Framer::default();
        framer.feed(&public);
        let Some(Piece::Frame(frame, raw)) = framer.take() else {
            panic!("a frame");
        };
        assert_eq!(raw, public);
        assert_eq!(frame.head.serial, 0);
        assert_eq!(frame.head.destination.number(), 0x0102_0304_0506);
        assert_eq!(frame.head.command, Command::Send);
        assert_eq!(
            frame.head.time.civil().expect("a time").to_string(),
            "2020-10-22T17:13:24"
        );
        assert_eq!(frame.data.len(), 48);
        assert_eq!(frame.encode(), public);
        assert_eq!(public[public.len() - 3], 0x68);
    }

    #[test]
    fn public_examples_of_exchanges_keep_to_their_checksums() {
        for (text, command) in [
            (
                "40 40 01 00 01 01 20 3A 09 1A 09 0C 79 03 00 00 00 00 38 5B 01 00 00 00 09 00 02
                 15 01 08 02 3A 09 1A 09 0C 42 23 23",
                Command::Send,
            ),
            (
                "40 40 01 00 01 01 23 3A 09 1A 09 0C 38 5B 01 00 00 00 79 03 00 00 00 00 00 00 03 AB 23 23",
                Command::Confirm,
            ),
            (
                "40 40 01 00 01 01 23 3A 09 1A 09 0C 38 5B 01 00 00 00 79 03 00 00 00 00 00 00 06 AE 23 23",
                Command::Deny,
            ),
            (
                "40 40 01 00 01 01 20 3A 09 1A 09 0C 38 5B 01 00 00 00 79 03 00 00 00 00 08 00 01
                 5A 01 02 3A 09 1A 09 0C 7D 23 23",
                Command::Control,
            ),
            (
                "40 40 01 00 01 01 20 3A 09 1A 09 0C 79 03 00 00 00 00 38 5B 01 00 00 00 0A 00 02
                 18 01 20 01 02 3A 09 1A 09 0C 5F 23 23",
                Command::Send,
            ),
        ] {
            let bytes = bytes(text);
            let mut framer = Framer::default();
            framer.feed(&bytes);
            let Some(Piece::Frame(frame, _)) = framer.take() else {
                panic!("a frame: {text}");
            };
            assert_eq!(frame.head.command, command);
            assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn frames_are_found_wherever_a_stream_is_split() {
        let stream = [public(), frame(b""), frame(b"##@@##\x23\x23"), public()].concat();
        let whole = fed(&[&stream]);
        assert_eq!(whole.len(), 4);
        assert!(whole.iter().all(|found| matches!(found, Found::Data(_))));
        for split in 0..=stream.len() {
            assert_eq!(fed(&[&stream[..split], &stream[split..]]), whole, "{split}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(fed(&bytes), whole);
    }

    #[test]
    fn garbage_before_between_and_after_costs_itself_only() {
        let good = frame(b"abc");
        let stream = [
            b"GET / HTTP/1.1\r\n@".as_slice(),
            &good,
            b"@@@\x23",
            &good,
            b"xx",
        ]
        .concat();
        let found = fed(&[&stream]);
        let data: Vec<&Found> = found
            .iter()
            .filter(|found| matches!(found, Found::Data(_)))
            .collect();
        assert_eq!(data.len(), 2, "{found:?}");
        assert_eq!(
            found.first(),
            Some(&Found::Rejected(FrameError::NoStart, 16)),
            "{found:?}"
        );
        assert_eq!(found.last(), Some(&Found::Rejected(FrameError::NoStart, 2)));
    }

    #[test]
    fn a_damaged_frame_is_rejected_and_the_next_one_is_found() {
        let good = frame(b"abc");
        for at in 2..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // Enough bytes follow to satisfy a length that is too large.
            let stream = [bad, good.repeat(40)].concat();
            let found = fed(&[&stream]);
            let data = found
                .iter()
                .filter(|found| matches!(found, Found::Data(_)))
                .count();
            assert_eq!(data, 40, "byte {at}: {found:?}");
            assert!(matches!(found[0], Found::Rejected(..)), "byte {at}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_rejected_at_once() {
        let mut bad = frame(b"abc");
        bad[25] = 0xff;
        let found = fed(&[&bad[..HEAD_BYTES]]);
        assert_eq!(
            found,
            [Found::Rejected(FrameError::Length(0xff03), HEAD_BYTES)]
        );
    }

    #[test]
    fn a_frame_whose_rest_does_not_come_is_given_up_and_what_follows_is_found() {
        let good = frame(b"abc");
        let mut bad = good.clone();
        bad[25] = 3;
        let mut framer = Framer::default();
        framer.feed(&bad);
        assert_eq!(framer.take(), None);
        let Some(Piece::Rejected { why, bytes, .. }) = framer.give_up() else {
            panic!("given up");
        };
        assert_eq!((why, bytes.len()), (FrameError::CutOff, bad.len()));
        assert_eq!(framer.held(), 0);
        // If a complete frame follows, it is not delayed.
        framer.feed(&[bad.as_slice(), &good].concat());
        let Some(Piece::Rejected { why, bytes, .. }) = framer.take() else {
            panic!("passed over");
        };
        assert_eq!((why, bytes.len()), (FrameError::CutOff, bad.len()));
        assert!(matches!(framer.take(), Some(Piece::Frame(..))));
        assert_eq!(framer.take(), None);
        assert_eq!(framer.held(), 0);
    }

    #[test]
    fn a_time_that_is_none_is_none() {
        assert_eq!(WireTime([0; 6]).civil(), None);
        assert_eq!(WireTime([0x59, 0x59, 0x23, 0x31, 0x12, 0x26]).civil(), None);
        assert_eq!(WireTime([255; 6]).civil(), None);
        let time = WireTime([48, 18, 19, 1, 8, 20]);
        assert_eq!(WireTime::new(time.civil().expect("a time")), time);
    }

    proptest! {
        #[test]
        fn any_frame_comes_back(serial: u16, version: [u8; 2], time: [u8; 6], source: [u8; 6],
            destination: [u8; 6], command: u8, data in prop::collection::vec(any::<u8>(), 0..=DATA_BYTES_MAX))
        {
            let head = Head {
                serial,
                version,
                time: WireTime(time),
                source: Address(source),
                destination: Address(destination),
                command: Command::from_number(command),
            };
            let bytes = Frame { head, data: &data }.encode();
            prop_assert!(bytes.len() <= FRAME_BYTES_MAX);
            let mut framer = Framer::default();
            framer.feed(&bytes);
            prop_assert_eq!(framer.take(), Some(Piece::Frame(Frame { head, data: &data }, &bytes)));
            prop_assert_eq!(framer.take(), None);
        }

        #[test]
        fn any_bytes_are_accounted_for_and_what_is_held_is_bounded(
            chunks in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0x40_u8), Just(0x23_u8), any::<u8>()], 0..300), 0..20))
        {
            let mut framer = Framer::default();
            let mut given = 0;
            for chunk in &chunks {
                framer.feed(chunk);
                while let Some(piece) = framer.take() {
                    given += match piece {
                        Piece::Frame(_, bytes) | Piece::Rejected { bytes, .. } => bytes.len(),
                    };
                }
                prop_assert!(framer.held() < FRAME_BYTES_MAX);
            }
            while let Some(piece) = framer.give_up() {
                given += match piece {
                    Piece::Frame(_, bytes) | Piece::Rejected { bytes, .. } => bytes.len(),
                };
            }
            prop_assert_eq!(given, chunks.iter().map(Vec::len).sum::<usize>());
        }
    }
}
