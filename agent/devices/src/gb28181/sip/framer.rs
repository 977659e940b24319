//! Cuts a stream into messages, and resynchronises behind bytes that are no message.
use memchr::memmem;

use super::{HEAD_BYTES_MAX, METHODS, Message, SipError, UNMEASURED_BYTES_MAX, head, head_end};

/// A message, or bytes that are no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'f> {
    /// A message and its bytes.
    Message(Message<'f>, &'f [u8]),
    /// Bytes that are no message, the reason, and the head if it was readable.
    Rejected(SipError, &'f [u8], Option<Box<Message<'f>>>),
    /// Empty lines, which keep a connection open.
    Alive(&'f [u8]),
}

/// Cuts a stream into messages. It holds an incomplete message: at most a head and a body.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    start: usize,
}

impl Framer {
    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(HEAD_BYTES_MAX);
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that were not returned yet.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Drops the held bytes.
    pub fn clear(&mut self) {
        self.start = self.bytes.len();
    }

    fn empty_lines(&self) -> usize {
        self.bytes[self.start..]
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count()
    }

    /// The next piece of a stream; `None`: more bytes are needed.
    pub fn take(&mut self) -> Option<Piece<'_>> {
        let empty = self.empty_lines();
        let at = self.start;
        if empty > 0 {
            self.start += empty;
            return Some(Piece::Alive(&self.bytes[at..at + empty]));
        }
        let bytes = &self.bytes[at..];
        if bytes.is_empty() {
            return None;
        }
        let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let Some((end, body)) = head_end(window) else {
            if bytes.len() < HEAD_BYTES_MAX {
                return None;
            }
            let cut = next_start(window);
            self.start += cut;
            return Some(Piece::Rejected(SipError::Endless, &bytes[..cut], None));
        };
        let mut message = match head(&bytes[..end]) {
            Ok(message) => message,
            Err(error) => {
                let cut = next_start(&bytes[..body]);
                self.start += cut;
                return Some(Piece::Rejected(error, &bytes[..cut], None));
            }
        };
        let rest = &bytes[body..];
        let length = match message.length() {
            // § 18.3 requires it on a stream; without it there is no body, unless XML follows at once.
            Ok(None | Some(0)) | Err(_) if is_xml(rest) => Ok(Some(xml_end(rest)?)),
            // The XML that the head announces may be in the next segment.
            Ok(None | Some(0)) | Err(_)
                if rest.trim_ascii().is_empty() && announces_xml(&message) =>
            {
                return None;
            }
            length => length,
        };
        match length {
            Err(error) => {
                self.start += body;
                let head = Some(Box::new(message));
                Some(Piece::Rejected(error, &bytes[..body], head))
            }
            Ok(length) => {
                let whole = body + length.unwrap_or(0);
                if bytes.len() < whole {
                    return None;
                }
                message.body = &bytes[body..whole];
                self.start += whole;
                Some(Piece::Message(message, &bytes[..whole]))
            }
        }
    }

    /// Ends the stream: all held bytes are one message, or none.
    pub fn give_up(&mut self) -> Option<Piece<'_>> {
        let at = self.start + self.empty_lines();
        if at == self.bytes.len() && at > self.start {
            let empty = self.start;
            self.start = at;
            return Some(Piece::Alive(&self.bytes[empty..]));
        }
        self.start = self.bytes.len();
        let bytes = &self.bytes[at..];
        if bytes.is_empty() {
            return None;
        }
        Some(match Message::datagram(bytes) {
            Ok(message) => Piece::Message(message, bytes),
            Err((error, head)) => Piece::Rejected(error, bytes, head.map(Box::new)),
        })
    }
}

fn announces_xml(message: &Message<'_>) -> bool {
    let content_type = message.header("Content-Type").unwrap_or_default();
    content_type.to_ascii_lowercase().contains("xml")
}

/// Whether XML begins here, and no other message.
fn is_xml(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"<")
}

/// The end of the XML root; `None`: more bytes are needed.
fn xml_end(bytes: &[u8]) -> Option<usize> {
    let within = &bytes[..bytes.len().min(UNMEASURED_BYTES_MAX)];
    let ends = ["</Notify>", "</Response>", "</Query>", "</Control>"];
    let ends = ends.iter().filter_map(|end| {
        let at = memmem::find(within, end.as_bytes())?;
        Some(at + end.len())
    });
    let next = next_start(bytes);
    let is_next = next < bytes.len() || bytes.len() >= UNMEASURED_BYTES_MAX;
    ends.min().or(is_next.then_some(next.min(within.len())))
}

/// The position behind the first byte where another message may begin; else the end.
fn next_start(bytes: &[u8]) -> usize {
    let mut first = bytes.len();
    let mut look = |needle: &[u8]| {
        if let Some(at) = memmem::find(&bytes[1..first], needle) {
            first = at + 1;
        }
    };
    for method in METHODS {
        look(format!("{method} sip:").as_bytes());
    }
    look(b"SIP/2.0 ");
    // ` SIP/2.0 ` within a request line is no status line; a piece cut there is rejected next and costs no more.
    first.max(1)
}
