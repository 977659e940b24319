//! Scanner of an endless multipart stream (RFC 2046 5.1, as `multipart/mixed` and `multipart/x-mixed-replace`),
//! tolerant of the many faults of devices. Pure: bytes in, pieces out.
//!
//! ```text
//! --boundary CR LF  Name: value CR LF …  CR LF  body  CR LF  --boundary …
//! ```
//!
//! * A part of text is returned as soon as it is complete, not when the next one begins, which may be a heartbeat
//!   later: by its Content-Length if that is plausible, by the end of its XML root or JSON value, by an empty line in
//!   other text, and in any case at the next delimiter.
//! * The content overrides the length: a delimiter before its end ends the part, and XML, JSON and lines of text that
//!   extend behind it are read to their own end or to the delimiter.
//! * Documents that follow each other without a delimiter are parts too: several in one part, or a stream without any
//!   delimiters. A head whose delimiter was damaged begins a part.
//! * Accepted: LF for CR LF, doubled and tripled delimiter lines, a delimiter right after a body, `Content-Length:9`,
//!   no head at all, no blank line after the head, a declared boundary with quotes or with its dashes.
//! * The first delimiter line determines the boundary if the head of the response has none or another one.
//! * Pictures (by content type, or the first bytes of a JPEG) are counted and dropped: they belong to the event
//!   before them, and only events are read here.
//! * Everything else is [`Piece::Rejected`] with a reason and a sample, and scanning resumes at the next delimiter.
//!
//! It holds at most [`PART_BYTES_MAX`] and one slice of [`SLICE_BYTES`], however the stream is cut. Each byte is
//! examined a fixed number of times.
mod line;
mod part;
mod piece;
mod shape;

use memchr::memmem;

use line::{HEAD, dashed, declared, header, is_token};
use part::{Body, Head};
pub use piece::{Damage, Piece};
use piece::{Lost, Skipped, skipped};

/// Largest body of a part of text.
pub const PART_BYTES_MAX: usize = 256 << 10;
/// Largest head of a part.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Longest boundary, without its dashes; RFC 2046 allows 70.
pub const BOUNDARY_BYTES_MAX: usize = 100;
/// Size of the sample of a rejected piece.
pub const SAMPLE_BYTES_MAX: usize = 512;
/// Number of bytes between two parts after which they are returned as a rejected piece, so that endless garbage is
/// counted too.
pub const GARBAGE_BYTES_MAX: usize = 64 << 10;
/// Number of bytes that are added before they are processed.
const SLICE_BYTES: usize = 64 << 10;

/// The position of the next byte in the stream.
#[derive(Debug)]
enum State {
    /// Outside of a part.
    Between { garbage: Lost },
    /// In the head of a part.
    Head(Head),
    /// In the body of a part of text.
    Body(Body),
    /// In bytes that are dropped until the next delimiter.
    Skipping { lost: Lost, as_what: Skipped },
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    /// Boundary without its leading dashes; empty: unknown yet.
    boundary: Vec<u8>,
    /// No part was found yet, so the stream may still determine the boundary.
    fresh: bool,
    /// Only blanks since the last part, or since the stream began.
    may_follow: bool,
    held: Vec<u8>,
    state: State,
}

/// A delimiter line in the held bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    /// Start, and end behind its line's end.
    At(usize, usize),
    /// An incomplete line that may become one.
    Perhaps(usize),
    None,
}

impl Scanner {
    /// A scanner for a response with this `Content-Type`.
    pub fn new(content_type: &str) -> Self {
        Self {
            boundary: declared(content_type),
            fresh: true,
            may_follow: true,
            held: Vec::new(),
            state: State::Between {
                garbage: Lost::default(),
            },
        }
    }

    /// Adds bytes, and appends the pieces found.
    pub fn scan(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        for slice in bytes.chunks(SLICE_BYTES) {
            self.held.extend_from_slice(slice);
            while self.step(pieces) {}
        }
    }

    /// Ends the stream.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let rest = std::mem::take(&mut self.held);
        let state = std::mem::replace(&mut self.state, State::Head(Head::default()));
        let piece = match state {
            State::Between { mut garbage } => {
                if self.line_delimiter(&rest, 0, true) == Delimiter::None {
                    garbage.add(&rest);
                }
                garbage.piece(self.garbage())
            }
            State::Head(head) => {
                let mut lost = Lost::default();
                lost.add(&rest);
                lost.bytes += head.bytes as u64;
                lost.piece(Damage::CutOff)
            }
            State::Skipping { mut lost, as_what } => {
                lost.add(self.before_delimiter(&rest));
                skipped(lost, as_what)
            }
            // Its decoder judges whether it is complete: a sender of a single body may omit the last delimiter.
            State::Body(_) => {
                let body = self.before_delimiter(&rest).trim_ascii();
                (!body.is_empty()).then(|| Piece::Part(body.to_vec()))
            }
        };
        pieces.extend(piece);
    }

    /// Why no piece was returned yet; `None` if all is well.
    pub fn trouble(&self) -> Option<Damage> {
        match &self.state {
            State::Between { garbage } if garbage.bytes == 0 && self.held.is_empty() => None,
            State::Between { .. } => Some(self.garbage()),
            State::Head(_) | State::Body(_) => Some(Damage::Unfinished),
            State::Skipping { .. } => None,
        }
    }

    /// The damage of bytes outside of a part.
    fn garbage(&self) -> Damage {
        match self.fresh {
            true => Damage::NoDelimiter,
            false => Damage::Garbage,
        }
    }

    /// Number of held bytes.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes one step; false: more bytes are needed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match std::mem::replace(
            &mut self.state,
            State::Between {
                garbage: Lost::default(),
            },
        ) {
            State::Between { garbage } => self.between(garbage, pieces),
            State::Head(head) => self.head(head, pieces),
            State::Body(body) => self.body(body, pieces),
            State::Skipping { lost, as_what } => self.skipping(lost, as_what, pieces),
        }
    }

    fn between(&mut self, mut garbage: Lost, pieces: &mut Vec<Piece>) -> bool {
        let blank = self
            .held
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .unwrap_or(self.held.len());
        if garbage.bytes == 0 {
            self.held.drain(..blank);
        }
        if self.held.is_empty() {
            self.state = State::Between { garbage };
            return false;
        }
        if garbage.bytes == 0 && self.may_follow {
            match begins_document(&self.held) {
                Some(true) => {
                    self.state = State::Body(Body::new(None));
                    return true;
                }
                Some(false) => self.may_follow = false,
                None => {
                    self.state = State::Between { garbage };
                    return false;
                }
            }
        }
        let (used, found, more) = match self.delimiter(0, true) {
            Delimiter::At(from, to) => match self.lost_head(from, garbage.bytes == 0) {
                Some(head) => return self.begin_head(head, garbage, pieces),
                None => (from, Some(to - from), true),
            },
            _ if self.fresh && self.learn() => {
                self.state = State::Between { garbage };
                return true;
            }
            Delimiter::Perhaps(from) => (from.min(self.undecided()), None, false),
            Delimiter::None => (self.undecided(), None, false),
        };
        let start = garbage.bytes == 0;
        if let Some(head) = self.lost_head(used, start) {
            return self.begin_head(head, garbage, pieces);
        }
        let used = match self.may_be_head(start) {
            Some(line) if found.is_none() => used.min(line),
            _ => used,
        };
        garbage.add(&self.held[..used]);
        self.held.drain(..used);
        let told = found.is_some() || garbage.bytes > GARBAGE_BYTES_MAX as u64;
        if told {
            let damage = self.garbage();
            pieces.extend(std::mem::take(&mut garbage).piece(damage));
        }
        if let Some(line) = found {
            let last = self.is_last(line);
            self.held.drain(..line);
            self.fresh = false;
            if !last {
                self.state = State::Head(Head::default());
                return true;
            }
        }
        self.state = State::Between { garbage };
        more
    }

    /// The position within these bytes between two parts where the head of a part begins whose delimiter was damaged.
    /// `start`: these bytes are the start of a line.
    fn lost_head(&self, within: usize, start: bool) -> Option<usize> {
        let is_head = |line: &usize| {
            let begin = self.held[*line..].get(..HEAD.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(HEAD))
        };
        let lines = memchr::memchr_iter(b'\n', &self.held[..within]);
        let first = start.then_some(0);
        first
            .into_iter()
            .chain(lines.map(|end| end + 1))
            .find(is_head)
    }

    /// The position of a line, including the line's end before it, that may become the head of a part.
    fn may_be_head(&self, start: bool) -> Option<usize> {
        let begins =
            |line: &[u8]| line.len() < HEAD.len() && HEAD[..line.len()].eq_ignore_ascii_case(line);
        match memchr::memrchr(b'\n', &self.held) {
            Some(end) => begins(&self.held[end + 1..]).then_some(end),
            None => (start && begins(&self.held)).then_some(0),
        }
    }

    fn begin_head(&mut self, at: usize, mut garbage: Lost, pieces: &mut Vec<Piece>) -> bool {
        garbage.add(&self.held[..at]);
        self.held.drain(..at);
        pieces.extend(garbage.piece(Damage::Garbage));
        self.fresh = false;
        self.state = State::Head(Head::default());
        true
    }

    /// Whether the delimiter line in these first bytes ends all parts.
    fn is_last(&self, line: usize) -> bool {
        self.held[..line].trim_ascii().ends_with(b"--")
    }

    fn head(&mut self, mut head: Head, pieces: &mut Vec<Piece>) -> bool {
        let Some(end) = memchr::memchr(b'\n', &self.held) else {
            // A body without a head is recognised by its beginning.
            if let Some(first) = self.held.first()
                && !is_token(*first)
                && !first.is_ascii_whitespace()
                && *first != b'-'
            {
                return self.begin_body(head);
            }
            if head.bytes + self.held.len() > HEAD_BYTES_MAX {
                return self.skip(Skipped::Damaged(Damage::EndlessHead));
            }
            self.state = State::Head(head);
            return false;
        };
        match self.line_delimiter(&self.held, 0, true) {
            // A doubled delimiter: the part begins after the second.
            Delimiter::At(_, to) => {
                if self.is_last(to) {
                    self.held.drain(..to);
                    return true;
                }
                self.held.drain(..to);
                let lost = head.bytes > 0;
                if lost {
                    pieces.push(Piece::Rejected {
                        damage: Damage::CutOff,
                        bytes: head.bytes as u64,
                        sample: Vec::new(),
                    });
                }
                self.state = State::Head(Head::default());
                return true;
            }
            Delimiter::Perhaps(_) | Delimiter::None => {}
        }
        let line = self.held[..end].trim_ascii();
        if line.is_empty() {
            self.held.drain(..=end);
            return self.begin_body(head);
        }
        let Some((name, value)) = header(line) else {
            return self.begin_body(head);
        };
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok();
            head.length = digits
                .and_then(|digits| digits.parse().ok())
                .filter(|length| (1..=PART_BYTES_MAX).contains(length));
        } else if name.eq_ignore_ascii_case(b"content-type") {
            let value = value.to_ascii_lowercase();
            head.picture = [&b"image/"[..], b"video/", b"audio/"]
                .iter()
                .any(|kind| value.starts_with(kind));
        }
        head.bytes += end + 1;
        self.held.drain(..=end);
        if head.bytes > HEAD_BYTES_MAX {
            return self.skip(Skipped::Damaged(Damage::EndlessHead));
        }
        self.state = State::Head(head);
        true
    }

    fn begin_body(&mut self, head: Head) -> bool {
        if head.picture {
            return self.skip(Skipped::Picture);
        }
        self.state = State::Body(Body::new(head.length));
        true
    }

    fn skip(&mut self, as_what: Skipped) -> bool {
        self.state = State::Skipping {
            lost: Lost::default(),
            as_what,
        };
        true
    }

    fn body(&mut self, mut body: Body, pieces: &mut Vec<Piece>) -> bool {
        if self.held.starts_with(b"\xff\xd8") {
            return self.skip(Skipped::Picture);
        }
        let stop = match self.delimiter(body.searched, body.searched == 0) {
            Delimiter::At(from, _) => Some(from),
            Delimiter::Perhaps(from) => {
                body.searched = from.saturating_sub(1);
                None
            }
            // The last line's end may belong to a delimiter.
            Delimiter::None => {
                let lines = self.held.len() - self.last_line_bytes();
                body.searched = lines.saturating_sub(1);
                None
            }
        };
        let seen = &self.held[..stop.unwrap_or(self.held.len())];
        if let Some(end) = body.end(seen).or(stop) {
            let part = self.held[..end].trim_ascii();
            if !part.is_empty() {
                pieces.push(Piece::Part(part.to_vec()));
            }
            self.held.drain(..end);
            self.may_follow = true;
            return true;
        }
        if self.held.len() > PART_BYTES_MAX {
            return self.skip(Skipped::Damaged(Damage::TooLarge));
        }
        self.state = State::Body(body);
        false
    }

    fn skipping(&mut self, mut lost: Lost, as_what: Skipped, pieces: &mut Vec<Piece>) -> bool {
        let start = lost.bytes == 0;
        let (used, ended) = match self.delimiter(0, start) {
            Delimiter::At(from, _) => (from, true),
            Delimiter::Perhaps(from) => (from, false),
            Delimiter::None => (self.held.len() - self.last_line_bytes(), false),
        };
        // The line's end before a delimiter belongs to the delimiter; it is read again, as the start of a line.
        let keep = usize::from(!ended && used > 0 && self.held[used - 1] == b'\n');
        lost.add(&self.held[..used - keep]);
        self.held.drain(..used - keep);
        if ended {
            pieces.extend(skipped(lost, as_what));
            return true;
        }
        self.state = State::Skipping { lost, as_what };
        false
    }

    /// The first delimiter from here on. `start`: this is the start of a line.
    fn delimiter(&self, from: usize, start: bool) -> Delimiter {
        if start
            && let found @ (Delimiter::At(..) | Delimiter::Perhaps(_)) =
                self.line_delimiter(&self.held, from, false)
        {
            return found;
        }
        let mut at = from;
        while let Some(found) = memmem::find(&self.held[at..], b"\n--") {
            let line = at + found + 1;
            match self.line_delimiter(&self.held, line, false) {
                Delimiter::None => at = line,
                found => return found,
            }
        }
        // An incomplete line.
        let tail = self.last_line_bytes();
        if tail <= 2 && tail < self.held.len() - from.min(self.held.len()) {
            let line = self.held.len() - tail;
            if b"--".starts_with(&self.held[line..]) && self.held[..line].ends_with(b"\n") {
                return Delimiter::Perhaps(line);
            }
        }
        Delimiter::None
    }

    /// Bytes of the last line, which may become a delimiter; 0 if it cannot.
    fn last_line_bytes(&self) -> usize {
        let longest = BOUNDARY_BYTES_MAX + 8;
        let tail = &self.held[self.held.len().saturating_sub(longest)..];
        match memchr::memrchr(b'\n', tail) {
            Some(end) if b"--".starts_with(&tail[end + 1..][..2.min(tail.len() - end - 1)]) => {
                tail.len() - end - 1
            }
            None if tail.len() == self.held.len() && tail.starts_with(b"-") => tail.len(),
            _ => 0,
        }
    }

    /// Whether the line at `from` is a delimiter. `whole`: its end is known, or no more bytes follow.
    fn line_delimiter(&self, held: &[u8], from: usize, whole: bool) -> Delimiter {
        let line = &held[from..];
        let dashes = line
            .iter()
            .take(16)
            .take_while(|byte| **byte == b'-')
            .count();
        if self.boundary.is_empty() {
            return Delimiter::None;
        }
        let rest = &line[dashes..];
        let length = rest.len().min(self.boundary.len());
        if rest[..length] != self.boundary[..length] || (dashes < 2 && !rest.is_empty()) {
            return Delimiter::None;
        }
        let after = &rest[length..];
        let end = memchr::memchr(b'\n', &after[..after.len().min(8)]);
        if length == self.boundary.len()
            && let Some(end) = end
        {
            let tail = after[..end].trim_ascii();
            if tail.is_empty() || tail == b"--" {
                return Delimiter::At(from, from + dashes + length + end + 1);
            }
            return Delimiter::None;
        }
        let tail = after.trim_ascii();
        let may_end = tail.is_empty() || b"--".starts_with(tail);
        if !may_end || after.len() >= 8 {
            return Delimiter::None;
        }
        if whole && length == self.boundary.len() {
            return Delimiter::At(from, held.len());
        }
        Delimiter::Perhaps(from)
    }

    /// Takes the boundary from the first line with dashes that is followed by the head of a part.
    fn learn(&mut self) -> bool {
        let mut from = 0;
        while let Some((line, name, next)) = dashed(&self.held, from) {
            if next.len() >= HEAD.len() && next[..HEAD.len()].eq_ignore_ascii_case(HEAD) {
                self.boundary = self.held[name].to_vec();
                self.fresh = false;
                return true;
            }
            from = line + 1;
        }
        false
    }

    /// The end of the held bytes that are certainly garbage, whatever follows.
    fn undecided(&self) -> usize {
        let mut at = self.held.len() - self.last_line_bytes();
        // A line with dashes may be the first delimiter, if its head follows.
        let longest = BOUNDARY_BYTES_MAX + 32;
        if self.fresh {
            let mut from = self.held.len().saturating_sub(longest);
            while let Some((line, _, next)) = dashed(&self.held, from) {
                if next.len() < HEAD.len() {
                    at = at.min(line);
                    break;
                }
                from = line + 1;
            }
        }
        at
    }

    /// The bytes without a delimiter at their end that has no line's end.
    fn before_delimiter<'b>(&self, rest: &'b [u8]) -> &'b [u8] {
        let Some(end) = memchr::memrchr(b'\n', rest) else {
            return rest;
        };
        match self.line_delimiter(rest, end + 1, true) {
            Delimiter::At(..) => &rest[..end],
            Delimiter::Perhaps(_) | Delimiter::None => rest,
        }
    }
}

/// Whether a document begins here, and not a line of text; `None`: more bytes are needed.
fn begins_document(held: &[u8]) -> Option<bool> {
    const LINE: &[u8] = b"Code=";
    match held {
        [b'{' | b'[', ..] => Some(true),
        [b'<'] => None,
        [b'<', next, ..] => Some(next.is_ascii_alphabetic() || matches!(next, b'?' | b'!')),
        _ if held.len() < LINE.len() && LINE.starts_with(held) => None,
        _ => Some(held.starts_with(LINE)),
    }
}

#[cfg(test)]
mod tests;
