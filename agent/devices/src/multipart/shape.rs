//! Finds the end of a part's body by its own grammar, while it arrives.
use memchr::memmem;

/// Largest prolog before the root of XML.
const PROLOG_BYTES_MAX: usize = 4 << 10;

/// The grammar by which a body ends. Each byte is examined once.
#[derive(Debug, Default)]
pub enum Shape {
    /// Only blanks so far.
    #[default]
    Unknown,
    /// XML: ends at the closing tag of its root.
    Xml { closing: Vec<u8>, searched: usize },
    /// JSON: ends at its last bracket, by counting.
    Json {
        depth: usize,
        quoted: bool,
        escaped: bool,
        searched: usize,
    },
    /// Other text: ends at an empty line.
    Text { searched: usize },
}

impl Shape {
    /// The end of the body, once it is there.
    pub fn end(&mut self, body: &[u8]) -> Option<usize> {
        if let Self::Unknown = self {
            let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
            *self = match body.iter().find(|byte| !byte.is_ascii_whitespace())? {
                b'<' => Self::Xml {
                    closing: Vec::new(),
                    searched: 0,
                },
                b'{' | b'[' => Self::Json {
                    depth: 0,
                    quoted: false,
                    escaped: false,
                    searched: 0,
                },
                _ => Self::Text { searched: 0 },
            };
        }
        match self {
            Self::Unknown => None,
            Self::Text { searched } => {
                let start = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
                let mut from = start.max(*searched).min(body.len());
                while let Some(found) = memchr::memchr(b'\n', &body[from..]) {
                    let line = from + found + 1;
                    *searched = line - 1;
                    match &body[line..] {
                        [b'\n', ..] | [b'\r', b'\n', ..] => return Some(line),
                        [] | [b'\r'] => return None,
                        _ => from = line,
                    }
                }
                *searched = body.len();
                None
            }
            Self::Xml { closing, searched } => {
                if closing.is_empty() {
                    match root(&body[..body.len().min(PROLOG_BYTES_MAX)]) {
                        Some(tag) => *closing = tag,
                        None => {
                            if body.len() >= PROLOG_BYTES_MAX {
                                *self = Self::Text { searched: 0 };
                            }
                            return None;
                        }
                    }
                }
                // An incomplete delimiter may have been examined too.
                let mut from = body.len().min(*searched);
                while let Some(found) = memmem::find(&body[from..], closing) {
                    from += found;
                    let after = from + closing.len();
                    let tail = &body[after..];
                    match tail.iter().position(|byte| !byte.is_ascii_whitespace()) {
                        Some(at) if tail[at] == b'>' => return Some(after + at + 1),
                        // A tag with a longer name.
                        Some(_) => from = after,
                        None => {
                            *searched = from;
                            return None;
                        }
                    }
                }
                *searched = from.max(body.len().saturating_sub(closing.len()));
                None
            }
            Self::Json {
                depth,
                quoted,
                escaped,
                searched,
            } => {
                for (at, byte) in body.iter().enumerate().skip(*searched) {
                    if *quoted {
                        match byte {
                            _ if *escaped => *escaped = false,
                            b'\\' => *escaped = true,
                            b'"' => *quoted = false,
                            _ => {}
                        }
                        continue;
                    }
                    match byte {
                        b'"' => *quoted = true,
                        b'{' | b'[' => *depth += 1,
                        b'}' | b']' => {
                            *depth = depth.saturating_sub(1);
                            if *depth == 0 {
                                *searched = at;
                                return Some(at + 1);
                            }
                        }
                        _ => {}
                    }
                }
                *searched = body.len();
                None
            }
        }
    }
}

/// The closing tag of the root, `</name`, once the root's name has arrived.
fn root(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = body;
    loop {
        let open = memchr::memchr(b'<', rest)?;
        let name = &rest[open + 1..];
        match name.first()? {
            // Declarations, comments and processing instructions precede the root.
            b'?' | b'!' => rest = &name[memchr::memchr(b'>', name)? + 1..],
            _ => {
                let end = name
                    .iter()
                    .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))?;
                return Some([b"</", &name[..end]].concat());
            }
        }
    }
}
