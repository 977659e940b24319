//! The frame of SIA DC-09 (clause 5.5.1): found in a stream or a datagram, checked, and built. Pure.
//!
//! ```text
//! LF crc length "ID"seq Rrcvr Lpref #acct[data][xdata]_HH:MM:SS,MM-DD-YYYY CR
//!    │   │      └─ from here to before CR: what length and crc count
//!    │   │      └─ length and CRC count from here to before CR
//!    └ four hexadecimal digits of a CRC-16/ARC
//! ```
//!
//! Known deviations of panels, which are accepted: the CR is counted in length and CRC, or in one of them; the CRC is
//! two bytes instead of four digits, in either order; NULs stand between frames.
//!
//! Limits: a body has at most [`BODY_BYTES_MAX`] bytes; a [`Framer`] holds at most one incomplete frame and the bytes
//! it was fed last.

/// Longest body: the length has three digits behind a 0.
pub const BODY_BYTES_MAX: usize = 0x0fff;
/// LF, CRC, length and CR around a body.
pub const FRAME_BYTES_MAX: usize = 1 + 4 + 4 + BODY_BYTES_MAX + 1;
/// Rejected bytes that are shown; the rest of a longer piece is only counted.
const SHOWN_BYTES_MAX: usize = 4096;

const LF: u8 = b'\n';
const CR: u8 = b'\r';
const DIGITS: usize = 4;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes between frames.
    #[error("no frame begins here: the line feed before it is missing")]
    NoStart,
    /// A bad head behind the line feed.
    #[error("the line feed is not followed by a CRC, a length and a quotation mark")]
    Head,
    /// The length exceeds that of any frame.
    #[error("a body of {0} bytes is told, the standard allows {BODY_BYTES_MAX}")]
    Length(usize),
    /// The frame does not end where the length says.
    #[error("{told} bytes are told, the frame ends after {found}")]
    NoEnd {
        /// Length in the frame.
        told: usize,
        /// Length found before the end.
        found: usize,
    },
    /// The frame was damaged on the way.
    #[error("the CRC is {told:04X}, the bytes come to {counted:04X}")]
    Crc {
        /// CRC in the frame.
        told: u16,
        /// CRC of the bytes.
        counted: u16,
    },
    /// The rest did not arrive.
    #[error("the frame was cut off")]
    CutOff,
}

/// The next piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The body of a good frame, from the quotation mark to before the CR, and the whole frame.
    Body(&'a [u8], &'a [u8]),
    /// Bytes that are no frame, at most `SHOWN_BYTES_MAX` of them.
    Rejected(FrameError, &'a [u8]),
}

/// CRC-16/ARC: reflected 8005, from 0.
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0xa001
            }
        })
    })
}

/// Builds a frame around a body, which the caller keeps within [`BODY_BYTES_MAX`].
pub fn encode(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("\n{:04X}{:04X}", crc(body), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes.push(CR);
    bytes
}

fn hexadecimal(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The head before a body.
struct Head {
    /// The CRCs that the head may mean: one, or both orders of two bytes.
    crcs: [u16; 2],
    length: usize,
    /// Position of the body.
    body: usize,
}

/// Reads a head. `Ok(None)`: more bytes are needed.
fn head(bytes: &[u8]) -> Result<Option<Head>, FrameError> {
    // The quotation mark distinguishes two bytes from four digits: behind the CRC of a good head it stands at one of
    // two positions.
    let binary = 1 + 2 + DIGITS;
    let digits = 1 + DIGITS + DIGITS;
    let head = match (bytes.get(binary), bytes.get(digits)) {
        (Some(b'"'), _) => {
            let [high, low] = [bytes[1], bytes[2]];
            Head {
                crcs: [
                    u16::from_be_bytes([high, low]),
                    u16::from_le_bytes([high, low]),
                ],
                length: usize::from(hexadecimal(&bytes[3..binary]).ok_or(FrameError::Head)?),
                body: binary,
            }
        }
        (Some(_), Some(b'"')) => {
            let crc = hexadecimal(&bytes[1..1 + DIGITS]).ok_or(FrameError::Head)?;
            Head {
                crcs: [crc, crc],
                length: usize::from(
                    hexadecimal(&bytes[1 + DIGITS..digits]).ok_or(FrameError::Head)?,
                ),
                body: digits,
            }
        }
        (Some(_), Some(_)) => return Err(FrameError::Head),
        // It can no longer become a head.
        _ if bytes
            .get(3..)
            .is_some_and(|rest| rest.contains(&LF) || rest.contains(&CR)) =>
        {
            return Err(FrameError::Head);
        }
        _ => return Ok(None),
    };
    if head.length > BODY_BYTES_MAX {
        return Err(FrameError::Length(head.length));
    }
    Ok(Some(head))
}

/// Classification of the beginning of bytes.
enum Look {
    /// A frame: the range of its body, and the total number of bytes.
    Frame(std::ops::Range<usize>, usize),
    /// No frame: why, and how many bytes surely belong to no frame.
    Bad(FrameError, usize),
    /// Filler that is neither a message nor an error.
    Nothing(usize),
    /// More bytes are needed.
    More,
}

fn next_start(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    memchr::memchr(LF, rest).map_or(bytes.len(), |at| from + at)
}

fn look(bytes: &[u8]) -> Look {
    let padding = bytes
        .iter()
        .take_while(|byte| matches!(**byte, 0 | CR))
        .count();
    if padding > 0 {
        return Look::Nothing(padding);
    }
    if bytes[0] != LF {
        return Look::Bad(FrameError::NoStart, next_start(bytes, 0));
    }
    let head = match head(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Look::More,
        Err(error) => return Look::Bad(error, next_start(bytes, 1)),
    };
    let rest = &bytes[head.body..];
    // A body contains neither: a line feed begins another frame, a CR ends this one.
    let end = memchr::memchr2(CR, LF, rest);
    let Some(found) = end else {
        return match rest.len() > head.length {
            true => Look::Bad(
                FrameError::NoEnd {
                    told: head.length,
                    found: rest.len(),
                },
                bytes.len(),
            ),
            false => Look::More,
        };
    };
    let frame = head.body + found + usize::from(rest[found] == CR);
    if rest[found] == LF {
        return Look::Bad(FrameError::CutOff, frame);
    }
    let counted_end = head.length == found + 1;
    if head.length != found && !counted_end {
        let told = head.length;
        return Look::Bad(FrameError::NoEnd { told, found }, frame);
    }
    let counted = crc(&rest[..found]);
    let with_end = crc(&rest[..=found]);
    if !head.crcs.contains(&counted) && !head.crcs.contains(&with_end) {
        let told = head.crcs[0];
        return Look::Bad(FrameError::Crc { told, counted }, frame);
    }
    Look::Frame(head.body..head.body + found, frame)
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
        self.next(false)
    }

    /// Gives up the incomplete frame, whose rest will not arrive, and reads on behind its beginning.
    pub fn give_up(&mut self) -> Option<Piece<'_>> {
        self.next(true)
    }

    /// Bytes of an incomplete frame.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn next(&mut self, give_up: bool) -> Option<Piece<'_>> {
        loop {
            let rest = &self.bytes[self.taken..];
            if rest.is_empty() {
                return None;
            }
            let (why, length) = match look(rest) {
                Look::Nothing(length) => {
                    self.taken += length;
                    continue;
                }
                Look::More if !give_up => return None,
                Look::More => (FrameError::CutOff, next_start(rest, 1)),
                Look::Bad(why, length) => (why, length),
                Look::Frame(body, length) => {
                    let from = self.taken;
                    self.taken += length;
                    let frame = &self.bytes[from..self.taken];
                    return Some(Piece::Body(&frame[body], frame));
                }
            };
            let from = self.taken;
            self.taken += length;
            let shown = length.min(SHOWN_BYTES_MAX);
            return Some(Piece::Rejected(why, &self.bytes[from..from + shown]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames in the standard's form, with CRC and length from other implementations.
    const PUBLIC: [&str; 3] = [
        "\n8C860043\"SIA-DCS\"9876R579BDFL789ABC#123456A[#123456A|NFA129][M1234567890AB]\r",
        "\n96ED0016\"SIA-DCS\"0001L0#1234[]\r",
        "\nE5630025\"NAK\"0000R0L0A0[]_10:10:18,07-30-2024\r",
    ];

    fn pieces(framer: &mut Framer) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut found = Vec::new();
        while let Some(piece) = framer.take() {
            found.push(match piece {
                Piece::Body(body, _) => Ok(body.to_vec()),
                Piece::Rejected(why, _) => Err(why),
            });
        }
        found
    }

    fn fed(chunks: &[&[u8]]) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for chunk in chunks {
            framer.feed(chunk);
            found.extend(pieces(&mut framer));
        }
        found
    }

    #[test]
    fn public_frames_are_read_and_built_to_the_byte() {
        for public in PUBLIC {
            let found = fed(&[public.as_bytes()]);
            let body = &public.as_bytes()[9..public.len() - 1];
            assert_eq!(found, [Ok(body.to_vec())], "{public}");
            assert_eq!(encode(body), public.as_bytes());
        }
        assert_eq!(crc(b"123456789"), 0xbb3d);
    }

    #[test]
    fn panels_that_stray_are_read() {
        let body = b"\"NULL\"0001L0#1234[]";
        let with_end = [body.as_slice(), b"\r"].concat();
        let (length, longer) = (body.len(), body.len() + 1);
        let digits = |crc: u16, length: usize| {
            let head = format!("\n{crc:04X}{length:04x}").into_bytes();
            [head, with_end.clone()].concat()
        };
        for frame in [
            digits(crc(body), length),
            digits(crc(&with_end), longer),
            digits(crc(body), longer),
            digits(crc(&with_end), length),
            [
                b"\n".as_slice(),
                &crc(body).to_be_bytes(),
                format!("{length:04X}").as_bytes(),
                &with_end,
            ]
            .concat(),
            [
                b"\n".as_slice(),
                &crc(body).to_le_bytes(),
                format!("{length:04X}").as_bytes(),
                &with_end,
            ]
            .concat(),
            [digits(crc(body), length), vec![0, 0, 0]].concat(),
            [b"\r\0".as_slice(), &digits(crc(body), length)].concat(),
        ] {
            assert_eq!(
                fed(&[&frame]),
                [Ok(body.to_vec())],
                "{}",
                frame.escape_ascii()
            );
        }
    }

    #[test]
    fn a_crc_of_two_bytes_may_be_line_feeds_and_carriage_returns() {
        for number in 0..u16::MAX {
            let body = format!("\"NULL\"{number:04}L0#1[]");
            let crc = crc(body.as_bytes()).to_be_bytes();
            if !crc.contains(&LF) && !crc.contains(&CR) {
                continue;
            }
            let head = format!("{:04X}", body.len());
            let frame = [
                b"\n".as_slice(),
                &crc,
                head.as_bytes(),
                body.as_bytes(),
                b"\r",
            ]
            .concat();
            assert_eq!(fed(&[&frame]), [Ok(body.into_bytes())]);
            return;
        }
        panic!("no such CRC");
    }

    #[test]
    fn frames_are_found_wherever_a_stream_is_split() {
        let stream = PUBLIC.concat();
        let whole = fed(&[stream.as_bytes()]);
        assert_eq!(whole.len(), 3);
        assert!(whole.iter().all(Result::is_ok));
        let stream = stream.as_bytes();
        for split in 0..=stream.len() {
            assert_eq!(fed(&[&stream[..split], &stream[split..]]), whole, "{split}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(fed(&bytes), whole);
    }

    #[test]
    fn a_damaged_frame_is_rejected_and_the_next_one_is_found() {
        let good = PUBLIC[0].as_bytes();
        for at in 0..good.len() - 1 {
            for flip in [1_u8, 0x08, 0x80] {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                let found = fed(&[&[&bad, good, good].concat()]);
                let read = found.iter().filter(|found| found.is_ok()).count();
                // The case of a digit is no damage.
                assert!(read == 2, "byte {at}: {found:?}");
            }
        }
        // A frame without its end loses no other frame.
        let found = fed(&[&[&good[..good.len() - 1], good].concat()]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Err(FrameError::CutOff));
        assert!(found[1].is_ok());
    }

    #[test]
    fn garbage_before_between_and_after_costs_itself_only() {
        let good = PUBLIC[1].as_bytes();
        let found = fed(&[&[
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            good,
            b"xx",
            good,
            b"\n\n",
        ]
        .concat()]);
        assert_eq!(
            found.iter().filter(|found| found.is_ok()).count(),
            2,
            "{found:?}"
        );
    }

    #[test]
    fn a_length_beyond_the_limit_is_rejected_at_once() {
        let found = fed(&[b"\n0000FFFF\"SIA-DCS\"0001L0#1234["]);
        assert_eq!(found, [Err(FrameError::Length(0xffff))]);
    }

    #[test]
    fn a_frame_without_an_end_is_given_up_at_its_length() {
        let found = fed(&[b"\n00000010\"SIA-DCS\"0001L0#1234[aaaaaaaaaaaaaaa"]);
        assert!(matches!(
            found[..],
            [Err(FrameError::NoEnd { told: 16, .. })]
        ));
        let mut framer = Framer::default();
        framer.feed(b"\n0000001");
        assert_eq!(framer.take(), None);
        assert!(matches!(
            framer.give_up(),
            Some(Piece::Rejected(FrameError::CutOff, _))
        ));
        assert_eq!(framer.held(), 0);
    }

    proptest! {
        #[test]
        fn any_body_comes_back(text in "[ -~]{0,200}") {
            let body = format!("\"{text}");
            let frame = encode(body.as_bytes());
            prop_assert_eq!(fed(&[&frame]), [Ok(body.into_bytes())]);
        }

        #[test]
        fn what_is_held_is_bounded_whatever_comes(
            chunks in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(LF), Just(CR), Just(b'"'), Just(b'0'), any::<u8>()], 0..400), 0..30))
        {
            let mut framer = Framer::default();
            for chunk in &chunks {
                framer.feed(chunk);
                let _ = pieces(&mut framer);
                prop_assert!(framer.held() < FRAME_BYTES_MAX);
            }
            while framer.give_up().is_some() {}
            prop_assert_eq!(framer.held(), 0);
        }
    }
}
