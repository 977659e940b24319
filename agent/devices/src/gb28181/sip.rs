//! The part of SIP (RFC 3261) that GB/T 28181 registers and messages with. Pure: bytes in, messages out, and messages
//! written.
//!
//! Read: a request or a status line, headers in full or compact form (§ 7.3.3), folded ones (§ 7.3.1), ends of lines
//! as CR LF or LF, `Content-Length` with blanks around it; a datagram without it ends where the datagram ends (§
//! 18.3). A stream is cut by `Content-Length`; bytes that are no message are returned as rejected, and reading
//! resumes at the next start line.
//!
//! An answer has the Via headers, From, To, Call-ID and CSeq of its request (§ 8.2.6); `received` and `rport` stand
//! in the first Via as RFC 3581 requires.
mod framer;

use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;

pub use framer::{Framer, Piece};

/// Largest start line and headers, bytes.
pub const HEAD_BYTES_MAX: usize = 8192;
/// Largest body, bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Largest body of a stream whose Content-Length is invalid, or 0 before XML, bytes.
const UNMEASURED_BYTES_MAX: usize = 16 << 10;
/// Largest number of headers of a message.
const HEADERS_MAX: usize = 64;
/// Methods of a start line that a search in a stream recognises.
const METHODS: [&str; 11] = [
    "REGISTER",
    "MESSAGE",
    "NOTIFY",
    "SUBSCRIBE",
    "OPTIONS",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "UPDATE",
];

/// Whether it is a known method of SIP.
pub fn is_known(method: &str) -> bool {
    METHODS.contains(&method) || matches!(method, "PRACK" | "REFER" | "PUBLISH")
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SipError {
    /// A bad start line.
    #[error("{0:?} is no start line of SIP/2.0: does the device speak GB/T 28181 here?")]
    StartLine(String),
    /// A bad header.
    #[error("{0:?} is no header of SIP")]
    Header(String),
    /// Too many headers.
    #[error("more than {HEADERS_MAX} headers")]
    Headers,
    /// The headers have no end.
    #[error("the headers do not end within {HEAD_BYTES_MAX} bytes, or are cut off")]
    Endless,
    /// A bad Content-Length.
    #[error("Content-Length {0:?} is no number")]
    Length(String),
    /// The body is too long.
    #[error("a body of {0} bytes is longer than {BODY_BYTES_MAX}")]
    TooLong(u64),
}

/// The start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// `MESSAGE sip:… SIP/2.0`
    Request {
        /// Method, in capitals as received.
        method: &'a str,
        /// URI.
        uri: &'a str,
    },
    /// `SIP/2.0 200 OK`
    Response {
        /// Status code.
        code: u16,
    },
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Start line.
    pub start: Start<'a>,
    /// Name in full form, and value, in order.
    headers: Vec<(&'a str, Cow<'a, str>)>,
    /// Body.
    pub body: &'a [u8],
}

/// The full name of a header in compact form (§ 20, and RFC 6665 for events).
fn full(name: &str) -> &str {
    match name {
        "v" | "V" => "Via",
        "f" | "F" => "From",
        "t" | "T" => "To",
        "i" | "I" => "Call-ID",
        "m" | "M" => "Contact",
        "l" | "L" => "Content-Length",
        "c" | "C" => "Content-Type",
        "e" | "E" => "Content-Encoding",
        "s" | "S" => "Subject",
        "k" | "K" => "Supported",
        "o" | "O" => "Event",
        _ => name,
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}

fn start_line(line: &[u8]) -> Option<Start<'_>> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    if let Some(rest) = line.strip_prefix("SIP/2.0 ") {
        let code = rest.split(' ').next()?.parse().ok()?;
        return (100..700)
            .contains(&code)
            .then_some(Start::Response { code });
    }
    let rest = line.strip_suffix(" SIP/2.0")?;
    let (method, uri) = rest.split_once(' ')?;
    let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_uri = !uri.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic());
    (is_token && is_uri && method.len() <= 32).then_some(Start::Request { method, uri })
}

/// The end of the headers and the beginning of the body.
fn head_end(bytes: &[u8]) -> Option<(usize, usize)> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| {
        let rest = &bytes[at + 1..];
        match rest {
            [b'\n', ..] => Some((at + 1, at + 2)),
            [b'\r', b'\n', ..] => Some((at + 1, at + 3)),
            _ => None,
        }
    })
}

/// Reads a head: everything before the empty line.
fn head(bytes: &[u8]) -> Result<Message<'_>, SipError> {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let start = start_line(first).ok_or_else(|| SipError::StartLine(shown(first)))?;
    let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        // A display name may be in GBK; it is not used.
        let text = String::from_utf8_lossy(line);
        if is_folded && let Some((_, value)) = headers.last_mut() {
            let value = value.to_mut();
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(text.trim());
            continue;
        }
        let colon = memchr::memchr(b':', line);
        let name = colon.and_then(|colon| std::str::from_utf8(&line[..colon]).ok());
        let Some(name) = name.map(str::trim_end).filter(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&byte))
        }) else {
            return Err(SipError::Header(shown(line)));
        };
        if headers.len() >= HEADERS_MAX {
            return Err(SipError::Headers);
        }
        let value = String::from_utf8_lossy(&line[colon.unwrap_or(0) + 1..]);
        let value = match value {
            Cow::Borrowed(value) => Cow::Borrowed(value.trim()),
            Cow::Owned(value) => Cow::Owned(value.trim().to_owned()),
        };
        headers.push((full(name), value));
    }
    Ok(Message {
        start,
        headers,
        body: &[],
    })
}

impl<'a> Message<'a> {
    /// Reads a datagram: all of it is one message. Text behind a complete body is skipped; a Content-Length that ends
    /// within XML, or is 0 before it, is ignored.
    pub fn datagram(bytes: &'a [u8]) -> Result<Self, (SipError, Option<Self>)> {
        let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let (end, body) = head_end(window).ok_or((SipError::Endless, None))?;
        let mut message = head(&bytes[..end]).map_err(|error| (error, None))?;
        let rest = &bytes[body..];
        // The datagram has its own length. Some devices count letters and not bytes, or nothing at all; the decoder
        // of a truncated body finds its intact part.
        let said = message.length().ok().flatten().unwrap_or(rest.len());
        let said = &rest[..said.min(rest.len())];
        let is_whole = said.trim_ascii_end().ends_with(b">") || !rest.contains(&b'<');
        message.body = if is_whole { said } else { rest };
        Ok(message)
    }

    /// The first header with a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers with a name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }

    fn length(&self) -> Result<Option<usize>, SipError> {
        let Some(text) = self.header("Content-Length") else {
            return Ok(None);
        };
        let wrong = || SipError::Length(shown(text.as_bytes()));
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let length: u64 = text.parse().map_err(|_| wrong())?;
        if length > BODY_BYTES_MAX as u64 {
            return Err(SipError::TooLong(length));
        }
        Ok(Some(length as usize))
    }

    /// The sender: the user of From, a device's id.
    pub fn from_user(&self) -> Option<&str> {
        user(self.header("From")?)
    }

    /// Identifies its transaction: the same in a retransmission (§ 17.2.3).
    pub fn transaction(&self) -> String {
        let via = self.header("Via").unwrap_or_default();
        let of = |name| self.header(name).unwrap_or_default();
        format!("{via}\n{}\n{}", of("Call-ID"), of("CSeq"))
    }

    /// The transport of the first Via.
    pub fn transport(&self) -> &'static str {
        let via = self.header("Via").unwrap_or_default();
        match via.to_ascii_uppercase().starts_with("SIP/2.0/TCP") {
            true => "TCP",
            false => "UDP",
        }
    }

    /// Whether it has the headers that an answer needs.
    pub fn is_answerable(&self) -> bool {
        matches!(self.start, Start::Request { .. })
            && ["Via", "From", "To", "Call-ID", "CSeq"]
                .iter()
                .all(|name| self.header(name).is_some())
    }

    /// Builds an answer. `more` are headers, each with its end of line.
    pub fn answer(&self, code: u16, peer: SocketAddr, tag: &str, more: &str) -> Vec<u8> {
        let mut out = String::with_capacity(512);
        // Writing to a String does not fail.
        let _ = write!(out, "SIP/2.0 {code} {}\r\n", reason(code));
        for (index, via) in self.all("Via").enumerate() {
            let via: Cow<'_, str> = match index {
                0 => seen_from(via, peer).into(),
                _ => via.into(),
            };
            let _ = write!(out, "Via: {via}\r\n");
        }
        for name in ["From", "To", "Call-ID", "CSeq"] {
            let value = self.header(name).unwrap_or_default();
            let _ = write!(out, "{name}: {value}");
            if name == "To" && code > 100 && parameter(after_uri(value), "tag").is_none() {
                let _ = write!(out, ";tag={tag}");
            }
            out.push_str("\r\n");
        }
        out.push_str(more);
        out.push_str("User-Agent: Linli\r\nContent-Length: 0\r\n\r\n");
        out.into_bytes()
    }
}

/// The first Via with the sender's address (RFC 3581, § 4).
fn seen_from(via: &str, peer: SocketAddr) -> String {
    let (first, others) = match via.split_once(',') {
        Some((first, others)) => (first, Some(others)),
        None => (via, None),
    };
    let mut out = String::with_capacity(via.len() + 48);
    let mut asks_port = false;
    for (index, part) in first.split(';').enumerate() {
        let name = part.split('=').next().unwrap_or_default().trim();
        let is_ours = index > 0
            && (name.eq_ignore_ascii_case("rport") || name.eq_ignore_ascii_case("received"));
        asks_port |= is_ours && name.eq_ignore_ascii_case("rport");
        if is_ours {
            continue;
        }
        if index > 0 {
            out.push(';');
        }
        out.push_str(part.trim());
    }
    if asks_port {
        let _ = write!(out, ";rport={}", peer.port());
    }
    let _ = write!(out, ";received={}", peer.ip());
    if let Some(others) = others {
        let _ = write!(out, ",{others}");
    }
    out
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        415 => "Unsupported Media Type",
        501 => "Not Implemented",
        513 => "Message Too Large",
        _ => "Error",
    }
}

/// The header's parameters behind the URI of From, To or Contact.
fn after_uri(value: &str) -> &str {
    match value.rsplit_once('>') {
        Some((_, rest)) => rest,
        None => value.split_once(';').map_or("", |(_, rest)| rest),
    }
}

/// The user of a URI, bare or in `<…>`.
pub fn user(value: &str) -> Option<&str> {
    let at = value.find("sip:").map(|at| at + 4).or_else(|| {
        let at = value.find("SIP:")?;
        Some(at + 4)
    })?;
    let rest = &value[at..];
    let end = rest.find(['@', '>', ';', ':', ' ', '?'])?;
    let user = &rest[..end];
    (rest.as_bytes()[end] == b'@' && !user.is_empty()).then_some(user)
}

/// A parameter of `;name=value;name`.
pub fn parameter<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    text.split(';').find_map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        name.trim()
            .eq_ignore_ascii_case(wanted)
            .then(|| value.trim().trim_matches('"'))
    })
}

/// Requested duration of a registration, seconds (§ 10.2.1.1): of its Contact, else of Expires.
pub fn expires(message: &Message<'_>) -> Option<u64> {
    let contact = message.header("Contact").unwrap_or_default();
    parameter(after_uri(contact), "expires")
        .or_else(|| message.header("Expires"))?
        .parse()
        .ok()
}

/// The agent's own request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// Destination.
    pub peer: SocketAddr,
    /// Address of the agent, as the peer sees it.
    pub own: SocketAddr,
    /// The device's id.
    pub device: &'a str,
    /// The agent's id.
    pub id: &'a str,
    /// Realm of both ids.
    pub realm: &'a str,
    /// Unique value of this request.
    pub token: &'a str,
    /// Body, XML.
    pub body: &'a str,
}

impl Request<'_> {
    /// Builds a MESSAGE (RFC 3428).
    pub fn message(&self) -> Vec<u8> {
        let Self {
            transport,
            peer,
            own,
            device,
            id,
            realm,
            token,
            body,
        } = self;
        format!(
            "MESSAGE sip:{device}@{peer} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {own};rport;branch=z9hG4bK{token}\r\n\
             From: <sip:{id}@{realm}>;tag={token}\r\n\
             To: <sip:{device}@{realm}>\r\n\
             Call-ID: {token}@{own}\r\n\
             CSeq: 1 MESSAGE\r\n\
             Max-Forwards: 70\r\n\
             User-Agent: Linli\r\n\
             Content-Type: Application/MANSCDP+xml\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests;
