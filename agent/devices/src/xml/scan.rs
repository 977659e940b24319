//! Tokens of XML: tags and text, in order.
use std::borrow::Cow;

/// A token of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Text, its entities resolved.
    Text(Cow<'a, str>),
    /// `<name …>` or `<name …/>`, without a prefix.
    Start {
        name: &'a str,
        attributes: Attributes<'a>,
        is_empty: bool,
        at: usize,
    },
    /// `</name>`
    End(&'a str),
    /// `<!DOCTYPE`
    DocumentType,
}

/// The attributes behind the name in a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes<'a>(&'a str);

impl<'a> Attributes<'a> {
    /// The value of an attribute, by its name without a prefix.
    pub fn get(self, wanted: &str) -> Option<Cow<'a, str>> {
        let mut pairs = self.pairs();
        let found = pairs.find(|(name, _)| local(name) == wanted);
        found.map(|(_, value)| resolved(value))
    }

    /// Each name with its prefix, and its value as written.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let equals = rest.find('=')?;
            let name = rest[..equals].trim_end();
            let name = name.rsplit(|letter: char| !is_name(letter)).next();
            let behind = rest[equals + 1..].trim_start();
            let (value, next) = match behind.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = &behind[1..];
                    let end = inner.find(quote).unwrap_or(inner.len());
                    (&inner[..end], inner.get(end + 1..).unwrap_or_default())
                }
                _ => {
                    let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                    behind.split_at(end)
                }
            };
            rest = next;
            Some((name.unwrap_or_default(), value))
        })
    }
}

/// Splits a message into tokens.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// No comment, or no instruction, ends behind here; so a search is made only once.
    endless: [bool; 2],
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            endless: [false; 2],
        }
    }

    /// The position of the next token.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn take(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = &self.text[self.at..];
            if rest.is_empty() {
                return None;
            }
            if !rest.starts_with('<') {
                return Some(Token::Text(self.text_to(rest, 0)));
            }
            if let Some(length) = self.aside(rest) {
                self.at += length;
                continue;
            }
            if let Some(inner) = rest.strip_prefix("<![CDATA[") {
                let end = inner.find("]]>");
                let length = end.unwrap_or(inner.len());
                self.at += "<![CDATA[".len() + length + end.map_or(0, |_| "]]>".len());
                return Some(Token::Text(Cow::Borrowed(&inner[..length])));
            }
            let kind = rest.get(..9).unwrap_or_default();
            if kind.eq_ignore_ascii_case("<!doctype") {
                return Some(Token::DocumentType);
            }
            match self.tag(rest) {
                Tag::Whole(token) => return Some(token),
                Tag::Cut => {
                    self.at = self.text.len();
                    return None;
                }
                // It begins no tag: a letter of the text.
                Tag::None => return Some(Token::Text(self.text_to(rest, 1))),
            }
        }
    }

    /// The length of a comment or an instruction; `None`: it is none, or has no end.
    fn aside(&mut self, rest: &str) -> Option<usize> {
        let kinds = [("<!--", "-->"), ("<?", "?>")];
        for ((begin, end), endless) in kinds.into_iter().zip(&mut self.endless) {
            if *endless {
                continue;
            }
            if let Some(inner) = rest.strip_prefix(begin) {
                let found = memchr::memmem::find(inner.as_bytes(), end.as_bytes());
                *endless = found.is_none();
                return Some(begin.len() + found? + end.len());
            }
        }
        None
    }

    /// The text up to the next `<` behind this many bytes.
    fn text_to(&mut self, rest: &'a str, from: usize) -> Cow<'a, str> {
        let end = memchr::memchr(b'<', &rest.as_bytes()[from..]);
        let end = end.map_or(rest.len(), |end| from + end);
        self.at += end;
        resolved(&rest[..end])
    }

    fn tag(&mut self, rest: &'a str) -> Tag<'a> {
        let is_end = rest[1..].starts_with('/');
        let inner = &rest[1 + usize::from(is_end)..];
        let name = &inner[..name_bytes(inner)];
        let behind = &inner[name.len()..];
        let begins = |letter: char| letter.is_alphabetic() || letter == '_';
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '>' | '/');
        if behind.is_empty() {
            return Tag::Cut;
        }
        if is_end {
            return self.end_tag(rest, inner);
        }
        if !name.starts_with(begins) || !behind.starts_with(ends) {
            return Tag::None;
        }
        let begin = self.at;
        let Some(end) = tag_end(behind) else {
            if !behind.contains('<') {
                return Tag::Cut;
            }
            return Tag::None;
        };
        self.at += rest.len() - behind.len() + end + 1;
        let attributes = &behind[..end];
        let open = attributes.strip_suffix('/');
        Tag::Whole(Token::Start {
            name: local(name),
            attributes: Attributes(open.unwrap_or(attributes)),
            is_empty: open.is_some(),
            at: begin,
        })
    }
}

impl<'a> Scanner<'a> {
    /// Reads `</name>` with everything in it: a letter of its name may be damaged. One without its bracket counts
    /// too.
    fn end_tag(&mut self, rest: &str, inner: &'a str) -> Tag<'a> {
        let Some(end) = memchr::memchr2(b'>', b'<', inner.as_bytes()) else {
            return Tag::Cut;
        };
        let is_closed = inner.as_bytes()[end] == b'>';
        self.at += rest.len() - inner.len() + end + usize::from(is_closed);
        let name = inner[..end].trim();
        let name = match is_closed {
            true => name,
            false => &name[..name_bytes(name)],
        };
        Tag::Whole(Token::End(local(name)))
    }
}

enum Tag<'a> {
    Whole(Token<'a>),
    Cut,
    None,
}

/// The position of the bracket that ends a tag: outside of quotes, and before another tag begins.
fn tag_end(behind: &str) -> Option<usize> {
    if behind.starts_with('>') {
        return Some(0);
    }
    let mut quote = None;
    let mut first = None;
    for (at, byte) in behind.bytes().enumerate() {
        match (byte, quote) {
            (b'<', _) => return first,
            (b'>', None) => return Some(at),
            (b'>', Some(_)) => first = first.or(Some(at)),
            (b'"' | b'\'', None) => quote = Some(byte),
            (_, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
    first
}

/// The length of the name that begins here.
fn name_bytes(text: &str) -> usize {
    let is_plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    let plain = text.bytes().take_while(is_plain).count();
    match text.as_bytes().get(plain) {
        Some(b'>' | b' ' | b'/') | None => plain,
        Some(_) => text.find(|letter| !is_name(letter)).unwrap_or(text.len()),
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':')
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    if memchr::memchr(b':', name.as_bytes()).is_none() {
        return name;
    }
    let name = name.trim_end_matches(':');
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// Text with its entities resolved.
fn resolved(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'&', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match entity(rest) {
            Some((letter, length)) => {
                out.push(letter);
                rest = &rest[length..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The letter of an entity at the start, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    const NAME_BYTES_MAX: usize = 12;
    let window = &text.as_bytes()[..text.len().min(NAME_BYTES_MAX)];
    let end = memchr::memchr(b';', window)?;
    let name = &text[1..end];
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let (digits, radix) = match number.strip_prefix(['x', 'X']) {
                Some(digits) => (digits, 16),
                None => (number, 10),
            };
            if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
                return None;
            }
            let code = u32::from_str_radix(digits, radix).ok();
            let letter = code
                .and_then(char::from_u32)
                .filter(|letter| *letter != '\0');
            letter.unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    };
    Some((letter, end + 1))
}
