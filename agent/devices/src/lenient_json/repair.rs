//! Rewrites lenient JSON read by [`parse`] as strict JSON, for callers that need a document and not a few values:
//! mappings, and messages of OCPP. Only documents that a strict parser has refused are repaired.
//!
//! The result is at most six times as long as the message. The positions of damage are kept, so that an item that
//! lost a value can be distinguished from one that never had it.
use std::fmt::Write;
use std::ops::Range;

use super::parse::{self, Damage, Scalar, Sink};

/// Positions of damage that are kept apart; everything behind the last of them counts as damaged.
const PLACES_MAX: usize = 1024;

/// Documents that were read.
#[derive(Debug, Default)]
pub struct Repaired {
    /// All documents, one behind the other.
    pub text: String,
    /// The documents.
    pub documents: Vec<Document>,
    /// Positions of damage in `text`.
    places: Vec<(usize, Damage)>,
    /// There are stray bytes before, between or behind the documents.
    pub stray: bool,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its range in [`Repaired::text`].
    pub repaired: Range<usize>,
    /// Its range in the message.
    pub source: Range<usize>,
}

impl Repaired {
    /// The damage within these bytes of `text`.
    pub fn damage(&self, within: &Range<usize>) -> Option<Damage> {
        if let Some((last, damage)) = self.places.get(PLACES_MAX - 1)
            && within.end > *last
        {
            return Some(*damage);
        }
        let first = self.before(within.start);
        let found = self.places.get(first).filter(|(at, _)| *at < within.end);
        found.map(|(_, damage)| *damage)
    }

    /// The number of damaged positions within these bytes of `text`.
    pub fn places(&self, within: &Range<usize>) -> usize {
        self.before(within.end) - self.before(within.start)
    }

    /// The number of positions before this byte; they are in order.
    fn before(&self, byte: usize) -> usize {
        self.places.partition_point(|(at, _)| *at < byte)
    }

    /// The text of each document.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.documents
            .iter()
            .map(|document| &self.text[document.repaired.clone()])
    }
}

/// Reads all documents of a message; `None` if there is none.
pub fn repair(message: &str) -> Option<Repaired> {
    let mut writer = Writer::default();
    let mut documents = Vec::new();
    let mut stray = false;
    let mut from = 0;
    loop {
        let begin = writer.repaired.text.len();
        let Some(source) = parse::document(message, from, &mut writer) else {
            break;
        };
        // Text before the first one is a prefix: the name of a field, a callback.
        stray |= !documents.is_empty() && !parse::is_blank(&message[from..source.start]);
        from = source.end;
        documents.push(Document {
            repaired: begin..writer.repaired.text.len(),
            source,
        });
    }
    stray |= !documents.is_empty() && !parse::is_blank(&message[from..]);
    if documents.is_empty() {
        return None;
    }
    Some(Repaired {
        documents,
        stray,
        ..writer.repaired
    })
}

#[derive(Default)]
struct Writer {
    repaired: Repaired,
    /// For each open level, whether it is a list.
    levels: Vec<bool>,
    /// The level has an item already.
    comma: bool,
}

impl Writer {
    fn begin(&mut self, key: Option<&str>) {
        if self.comma {
            self.repaired.text.push(',');
        }
        // An object has no member without a key.
        if let Some(key) = key {
            self.text(key);
            self.repaired.text.push(':');
        }
    }

    fn text(&mut self, text: &str) {
        let out = &mut self.repaired.text;
        out.push('"');
        let mut rest = text;
        while let Some(at) = rest.find(|letter: char| matches!(letter, '"' | '\\' | '\0'..='\x1f'))
        {
            out.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                byte @ (b'"' | b'\\') => {
                    out.push('\\');
                    out.push(char::from(byte));
                }
                // Writing to a String does not fail.
                byte => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
            }
            rest = &rest[at + 1..];
        }
        out.push_str(rest);
        out.push('"');
    }
}

impl<'m> Sink<'m> for Writer {
    fn open(&mut self, key: Option<&str>, is_list: bool) {
        self.begin(key);
        self.repaired.text.push(if is_list { '[' } else { '{' });
        self.levels.push(is_list);
        self.comma = false;
    }

    fn close(&mut self) {
        let is_list = self.levels.pop().unwrap_or_default();
        self.repaired.text.push(if is_list { ']' } else { '}' });
        // Behind the last level another document begins.
        self.comma = !self.levels.is_empty();
    }

    fn value(&mut self, key: Option<&str>, value: Scalar<'m>) {
        self.begin(key);
        match value {
            Scalar::Text(text) => self.text(&text),
            Scalar::Number(digits) => self.repaired.text.push_str(digits),
            Scalar::Flag(flag) => self
                .repaired
                .text
                .push_str(if flag { "true" } else { "false" }),
            Scalar::Null => self.repaired.text.push_str("null"),
        }
        self.comma = true;
    }

    fn damage(&mut self, damage: Damage) {
        // The damage belongs to the open level: the bracket that closes it stands here, or behind this.
        let at = self.repaired.text.len();
        if self.repaired.places.len() < PLACES_MAX {
            self.repaired.places.push((at, damage));
        }
    }
}
