//! The part of SIP (RFC 3261) that GB/T 28181 registers and messages with. Pure: bytes in, messages out, and messages
//! written.
//!
//! Read: a request or a status line, headers in full or compact form (§ 7.3.3), folded ones (§ 7.3.1), ends of lines as
//! CR LF or LF, `Content-Length` with blanks around it; a datagram without it ends where the datagram ends (§ 18.3). A
//! stream is cut by `Content-Length`; what is no message is given out as rejected, and reading goes on at the next start line.
//!
//! An answer has the Via headers, From, To, Call-ID and CSeq of its request (§ 8.2.6); `received` and `rport` stand
//! in the first Via as RFC 3581 wants.
use memchr::memmem;
use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;

/// Start line and headers.
pub const HEAD_BYTES_MAX: usize = 8192;
/// Body.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Headers of a message.
const HEADERS_MAX: usize = 64;
/// Methods that a start line may begin with when a stream is searched for one.
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

/// Whether it is a method of SIP that is known by name.
pub fn is_known(method: &str) -> bool {
    METHODS.contains(&method) || matches!(method, "PRACK" | "REFER" | "PUBLISH")
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SipError {
    /// The start line.
    #[error("{0:?} is no start line of SIP/2.0: does the device speak GB/T 28181 here?")]
    StartLine(String),
    /// A header.
    #[error("{0:?} is no header of SIP")]
    Header(String),
    /// Too many headers.
    #[error("more than {HEADERS_MAX} headers")]
    Headers,
    /// The headers have no end.
    #[error("the headers do not end within {HEAD_BYTES_MAX} bytes, or are cut off")]
    Endless,
    /// Content-Length.
    #[error("Content-Length {0:?} is no number")]
    Length(String),
    /// Too long.
    #[error("a body of {0} bytes is longer than {BODY_BYTES_MAX}")]
    TooLong(u64),
    /// Shorter than it says.
    #[error("the body has {found} bytes and not {said}: it is cut off")]
    Short {
        /// By Content-Length.
        said: usize,
        /// There are.
        found: usize,
    },
}

/// The start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// `MESSAGE sip:… SIP/2.0`
    Request {
        /// Method, in capitals as it came.
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

/// Where the headers end and where the body begins.
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
        // A name for people may be in GBK; nothing of it is used.
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
    /// A datagram: all of it is one message. What stands behind the body is passed over.
    pub fn datagram(bytes: &'a [u8]) -> Result<Self, (SipError, Option<Self>)> {
        let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let (end, body) = head_end(window).ok_or((SipError::Endless, None))?;
        let mut message = head(&bytes[..end]).map_err(|error| (error, None))?;
        let rest = &bytes[body..];
        let said = match message.length() {
            Ok(said) => said.unwrap_or(rest.len()),
            Err(error) => return Err((error, Some(message))),
        };
        if said > rest.len() {
            let found = rest.len();
            return Err((SipError::Short { said, found }, Some(message)));
        }
        message.body = &rest[..said];
        Ok(message)
    }

    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers of a name, in order.
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

    /// Who sends it: the user of From, a device's id.
    pub fn from_user(&self) -> Option<&str> {
        user(self.header("From")?)
    }

    /// What tells its transaction apart: the same in what is sent again (§ 17.2.3).
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

    /// Whether it has what an answer needs.
    pub fn is_answerable(&self) -> bool {
        matches!(self.start, Start::Request { .. })
            && ["Via", "From", "To", "Call-ID", "CSeq"]
                .iter()
                .all(|name| self.header(name).is_some())
    }

    /// An answer to it. `more` are headers, each with its end of line.
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

/// The first Via with where its request came from (RFC 3581, § 4).
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

/// What stands behind the URI of From, To or Contact: the header's parameters.
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

/// How long a registration is to last, seconds (§ 10.2.1.1): of its Contact, else of Expires.
pub fn expires(message: &Message<'_>) -> Option<u64> {
    let contact = message.header("Contact").unwrap_or_default();
    parameter(after_uri(contact), "expires")
        .or_else(|| message.header("Expires"))?
        .parse()
        .ok()
}

/// A request of the agent's own.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// Whom it goes to.
    pub peer: SocketAddr,
    /// Where the agent is, as the peer sees it.
    pub own: SocketAddr,
    /// The device's id.
    pub device: &'a str,
    /// The agent's id.
    pub id: &'a str,
    /// Realm of both.
    pub realm: &'a str,
    /// Tells this request apart from all others.
    pub token: &'a str,
    /// Body, XML.
    pub body: &'a str,
}

impl Request<'_> {
    /// A MESSAGE (RFC 3428).
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

/// A message, or bytes that are none.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'f> {
    /// A message and its bytes.
    Message(Message<'f>, &'f [u8]),
    /// Bytes that are no message, why, and the head where it could be read.
    Rejected(SipError, &'f [u8], Option<Box<Message<'f>>>),
    /// Empty lines, which keep a connection open.
    Alive(&'f [u8]),
}

/// Cuts a stream into messages. It holds what is not complete: at most a head and a body.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    start: usize,
}

impl Framer {
    /// Takes bytes in.
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

    /// Bytes that were not given out.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.start = self.bytes.len();
    }

    fn empty_lines(&self) -> usize {
        self.bytes[self.start..]
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count()
    }

    /// The next piece of a stream; `None`: more has to come.
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
        match message.length() {
            Err(error) => {
                self.start += body;
                let head = Some(Box::new(message));
                Some(Piece::Rejected(error, &bytes[..body], head))
            }
            Ok(length) => {
                // § 18.3 wants it on a stream; without it there is no body.
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

    /// Nothing more comes: all that is held is one message, or none.
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

/// Where another message may begin behind the first byte; the end where none does.
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
    // ` SIP/2.0 ` within a request line is no status line; what is cut there is rejected next and costs nothing more.
    first.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "10.1.0.7:5061";
    const HEAD: &str = "MESSAGE sip:34020000002000000001@3402000000 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bK1\r\n\
        From: <sip:34020000001320000001@3402000000>;tag=1\r\n\
        To: <sip:34020000002000000001@3402000000>\r\n\
        Call-ID: 7@192.168.1.64\r\nCSeq: 20 MESSAGE\r\n";

    fn with(more: &str, body: &str) -> Vec<u8> {
        format!("{HEAD}{more}\r\n{body}").into_bytes()
    }

    fn peer() -> SocketAddr {
        PEER.parse().expect("an address")
    }

    #[test]
    fn a_datagram_with_padded_missing_short_and_long_content_length() {
        for more in [
            "Content-Length:   2\r\n",
            "l : 2\r\n",
            "",
            "CONTENT-LENGTH:\r\n 2\r\n",
        ] {
            let bytes = with(more, "ab");
            let message = Message::datagram(&bytes).expect("a message");
            assert_eq!(message.body, b"ab", "{more}");
            assert_eq!(message.from_user(), Some("34020000001320000001"));
            assert!(message.is_answerable());
        }
        let bytes = with("Content-Length: 1\r\n", "ab");
        assert_eq!(Message::datagram(&bytes).expect("a message").body, b"a");
        for (more, wrong) in [
            (
                "Content-Length: 3\r\n",
                SipError::Short { said: 3, found: 2 },
            ),
            ("Content-Length: 4294967296\r\n", SipError::TooLong(1 << 32)),
            ("Content-Length: -1\r\n", SipError::Length("-1".to_owned())),
            (
                "Content-Length: 1 2\r\n",
                SipError::Length("1 2".to_owned()),
            ),
            (
                "Content-Length: 99999999999999999999\r\n",
                SipError::Length("99999999999999999999".to_owned()),
            ),
        ] {
            let bytes = with(more, "ab");
            let (error, head) = Message::datagram(&bytes).expect_err("no message");
            assert_eq!(error, wrong);
            assert!(head.expect("a head").is_answerable());
        }
    }

    #[test]
    fn compact_folded_and_bare_newlines_are_read() {
        let bytes = b"REGISTER sip:a@b SIP/2.0\nv: SIP/2.0/TCP h;branch=z9hG4bK2\nf: \"\xc1\xda\" <sip:1@b>;tag=9\nt: <sip:1@b>\ni: x\n y\nCSeq: 1 REGISTER\nm: <sip:1@10.0.0.1:5060;transport=udp>;expires=60\nExpires: 3600\n\n";
        let message = Message::datagram(bytes).expect("a message");
        assert_eq!(message.header("call-id"), Some("x y"));
        assert_eq!(message.from_user(), Some("1"));
        assert_eq!(message.transport(), "TCP");
        assert_eq!(expires(&message), Some(60));
    }

    #[test]
    fn an_answer_says_where_its_request_came_from_and_keeps_all_vias() {
        let text = String::from_utf8(with("Via: SIP/2.0/UDP proxy;branch=z9hG4bK0\r\n", ""))
            .expect("text");
        let message = Message::datagram(text.as_bytes()).expect("a message");
        let answer =
            String::from_utf8(message.answer(200, peer(), "t1", "Date: x\r\n")).expect("text");
        let expected = "SIP/2.0 200 OK\r\n\
            Via: SIP/2.0/UDP 192.168.1.64:5060;branch=z9hG4bK1;rport=5061;received=10.1.0.7\r\n\
            Via: SIP/2.0/UDP proxy;branch=z9hG4bK0\r\n\
            From: <sip:34020000001320000001@3402000000>;tag=1\r\n\
            To: <sip:34020000002000000001@3402000000>;tag=t1\r\n\
            Call-ID: 7@192.168.1.64\r\nCSeq: 20 MESSAGE\r\nDate: x\r\nUser-Agent: Linli\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer, expected);
        assert_eq!(
            Message::datagram(answer.as_bytes())
                .expect("a message")
                .start,
            Start::Response { code: 200 }
        );
        assert_eq!(
            seen_from("SIP/2.0/UDP a;branch=b, SIP/2.0/UDP c", peer()),
            "SIP/2.0/UDP a;branch=b;received=10.1.0.7, SIP/2.0/UDP c"
        );
    }

    #[test]
    fn what_is_no_message_is_rejected() {
        for bytes in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "message sip:a@b SIP/2.0\r\n\r\n",
            "SIP/2.0 99 x\r\n\r\n",
            "SIP/2.0 abc\r\n\r\n",
            "MESSAGE  SIP/2.0\r\n\r\n",
            "MESSAGE sip:a@b SIP/2.0\r\nno header\r\n\r\n",
            "MESSAGE sip:a@b SIP/2.0\r\n: x\r\n\r\n",
            "MESSAGE sip:a@b SIP/2.0\r\nFrom: x\r\n",
        ] {
            assert!(Message::datagram(bytes.as_bytes()).is_err(), "{bytes}");
        }
        let many = format!(
            "OPTIONS sip:a@b SIP/2.0\r\n{}\r\n",
            "X: y\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(
            Message::datagram(many.as_bytes()).expect_err("no").0,
            SipError::Headers
        );
        let endless = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nX: {}\r\n\r\n",
            "y".repeat(HEAD_BYTES_MAX)
        );
        assert_eq!(
            Message::datagram(endless.as_bytes()).expect_err("no").0,
            SipError::Endless
        );
    }

    #[test]
    fn users_and_parameters() {
        assert_eq!(user("<sip:123@10.0.0.1:5060>;tag=1"), Some("123"));
        assert_eq!(user("\"x\" <SIP:123@a>"), Some("123"));
        assert_eq!(user("sip:10.0.0.1:5060"), None);
        assert_eq!(user("sip:123"), None);
        assert_eq!(user("tel:1"), None);
        assert_eq!(parameter(";Tag=\"x\";lr", "tag"), Some("x"));
        assert_eq!(parameter(";Tag=x;lr", "lr"), Some(""));
        assert_eq!(parameter("", "lr"), None);
    }

    /// All pieces of a stream that comes in pieces of this size; `!` before what was rejected.
    fn pieces(stream: &[u8], size: usize) -> Vec<String> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        let mut given = 0;
        for part in stream.chunks(size) {
            framer.feed(part);
            loop {
                match framer.take() {
                    None => break,
                    Some(Piece::Alive(bytes)) => given += bytes.len(),
                    Some(Piece::Message(message, bytes)) => {
                        given += bytes.len();
                        found.push(String::from_utf8_lossy(message.body).into_owned());
                    }
                    Some(Piece::Rejected(_, bytes, _)) => {
                        given += bytes.len();
                        found.push("!".to_owned());
                    }
                }
            }
            assert!(framer.held() < HEAD_BYTES_MAX + BODY_BYTES_MAX);
        }
        given += framer.held();
        assert_eq!(given, stream.len());
        found
    }

    #[test]
    fn a_stream_is_cut_wherever_its_pieces_end() {
        let mut stream = b"\r\n\r\n".to_vec();
        stream.extend(with("Content-Length: 3\r\n", "one"));
        stream.extend(with("", ""));
        stream.extend(with("Content-Length: 5\r\n", "three"));
        for size in 1..stream.len() {
            assert_eq!(pieces(&stream, size), ["one", "", "three"], "{size}");
        }
    }

    #[test]
    fn garbage_costs_itself_only() {
        let good = with("Content-Length: 2\r\n", "ok");
        for garbage in [
            b"\x00\xff garbage".to_vec(),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            // A body that nobody announced.
            with("", "<Notify></Notify>"),
            with("Content-Length: 4294967296\r\n", ""),
            vec![b'x'; 3 * HEAD_BYTES_MAX],
        ] {
            let stream = [garbage, good.clone()].concat();
            for size in [1, 7, 4096] {
                let found = pieces(&stream, size);
                assert_eq!(found.last().map(String::as_str), Some("ok"), "{found:?}");
                assert!(found.contains(&"!".to_owned()), "{found:?}");
            }
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut framer = Framer::default();
        framer.feed(&with("Content-Length: 9\r\n", "<Not"));
        assert!(framer.take().is_none());
        assert!(matches!(
            framer.give_up(),
            Some(Piece::Rejected(SipError::Short { .. }, _, Some(_)))
        ));
        assert_eq!(framer.held(), 0);
        assert!(framer.give_up().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_without_a_loss(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..60),
                    "(MESSAGE sip:a@b SIP/2.0\r\n|SIP/2.0 200 OK\r\n|l: [0-9]{1,3}\r\n|\r\n|[a-z:]{0,9}\r?\n)".prop_map(String::into_bytes),
                ],
                0..30,
            ),
            size in 1_usize..200,
        ) {
            let _ = pieces(&parts.concat(), size);
        }

        #[test]
        fn a_request_of_the_agent_is_read_back(body in "[ -~]{0,200}", device in "[0-9]{20}", v6: bool) {
            let own: SocketAddr = if v6 { "[::1]:5060" } else { "10.0.0.1:5060" }.parse().expect("an address");
            let request = Request {
                transport: "TCP", peer: peer(), own, device: &device, id: "34020000002000000001", realm: "3402000000",
                token: "abc", body: &body,
            };
            let bytes = request.message();
            let message = Message::datagram(&bytes).expect("a message");
            prop_assert_eq!(message.body, body.as_bytes());
            prop_assert_eq!(user(message.header("To").expect("To")), Some(device.as_str()));
            prop_assert_eq!(pieces(&bytes, 7), [body]);
        }
    }
}
