//! XML as devices write it. Pure; nothing that a document declares is expanded, so what is read is never larger than its bytes.
//!
//! [`read`] walks a message and gives its elements to an [`Elements`]. XML that is well formed is read as every parser reads it. Of
//! what is not:
//!
//! * a bare `&`, an entity that nobody knows, a `<` that begins no tag: letters of the text;
//! * a letter by a number that is none: U+FFFD;
//! * an element without its end: over when the next one begins, where it has text, or when one around it ends;
//! * an end without a beginning: passed over, unless one letter of its name is wrong;
//! * a message that is cut: what is whole before the cut; several roots: each of them.
//!
//! Only a document type is refused: no device needs one. Elements deeper than [`DEPTH_MAX`] are passed over. The devices here
//! write no element that has both text and elements.
mod scan;

use std::borrow::Cow;

pub use scan::Attributes;
use scan::{Scanner, Token};

use super::device_event::Reject;

/// Levels of elements.
pub const DEPTH_MAX: usize = 32;

/// Takes the elements of a message. Names are without their prefixes; `parents` are those around it, the root first.
pub trait Elements<'a> {
    /// An element begins at a byte of the message.
    fn open(&mut self, name: &'a str, parents: &[&'a str], attributes: Attributes<'a>, at: usize) {
        let _ = (name, parents, attributes, at);
    }

    /// An element without others in it.
    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: Cow<'a, str>);

    /// An element is over, before a byte of the message.
    fn close(&mut self, name: &'a str, parents: &[&'a str], end: usize) {
        let _ = (name, parents, end);
    }
}

/// An element that is open.
struct Open<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    has_elements: bool,
}

/// Walks a message. True: an element has no end, for the message is cut or damaged.
pub fn read<'a>(text: &'a str, elements: &mut dyn Elements<'a>) -> Result<bool, Reject> {
    let mut reader = Reader {
        names: Vec::new(),
        open: Vec::new(),
        beyond: 0,
        elements,
    };
    let mut scanner = Scanner::new(text);
    while let Some(token) = scanner.take() {
        match token {
            Token::DocumentType => return Err(doctype()),
            Token::Text(text) => reader.text(text),
            Token::Start {
                name,
                attributes,
                is_empty,
                at,
            } => {
                reader.start(name, attributes, at);
                if is_empty {
                    reader.end(name, scanner.at());
                }
            }
            Token::End(name) => reader.end(name, scanner.at()),
        }
    }
    Ok(!reader.open.is_empty())
}

struct Reader<'e, 'a> {
    names: Vec<&'a str>,
    open: Vec<Open<'a>>,
    /// Elements that are open beyond the deepest level.
    beyond: usize,
    elements: &'e mut dyn Elements<'a>,
}

impl<'a> Reader<'_, 'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        if let Some(open) = self.open.last_mut()
            && !open.has_elements
            && self.beyond == 0
        {
            add(&mut open.text, text);
        }
    }

    fn start(&mut self, name: &'a str, attributes: Attributes<'a>, at: usize) {
        if let [_, .., open] = &self.open[..]
            && !open.has_elements
            && !open.text.trim().is_empty()
        {
            // Its end was lost. Perhaps this is it, with another letter in the place of its slash.
            let is_its_end = name.len() == open.name.len() + 1 && name.ends_with(open.name);
            self.pop(at);
            if is_its_end {
                return;
            }
        }
        if self.open.len() >= DEPTH_MAX {
            self.beyond += 1;
            return;
        }
        if let Some(open) = self.open.last_mut() {
            open.has_elements = true;
        }
        self.elements.open(name, &self.names, attributes, at);
        self.names.push(name);
        self.open.push(Open {
            name,
            text: Cow::default(),
            has_elements: false,
        });
    }

    fn end(&mut self, name: &str, at: usize) {
        if self.beyond > 0 {
            self.beyond -= 1;
            return;
        }
        let level = match self.names.iter().rposition(|open| *open == name) {
            Some(level) => level,
            None => match self.names.last() {
                Some(last) if nearly(last, name) => self.names.len() - 1,
                _ => {
                    // The text before it is of an element whose beginning was lost.
                    if let Some(open) = self.open.last_mut() {
                        open.text = Cow::default();
                        open.has_elements = true;
                    }
                    return;
                }
            },
        };
        while self.open.len() > level {
            self.pop(at);
        }
    }

    fn pop(&mut self, at: usize) {
        let (Some(open), Some(name)) = (self.open.pop(), self.names.pop()) else {
            return;
        };
        if !open.has_elements {
            self.elements.leaf(name, &self.names, trimmed(open.text));
        }
        self.elements.close(name, &self.names, at);
    }
}

/// One byte of a name differs; in one of a single byte that would be all of it.
fn nearly(name: &str, other: &str) -> bool {
    const BYTES_MIN: usize = 2;
    let (name, other) = (name.as_bytes(), other.as_bytes());
    let differs = |(one, two): &(&u8, &u8)| one != two;
    name.len() == other.len()
        && name.len() >= BYTES_MIN
        && name.iter().zip(other).filter(differs).count() <= 1
}

/// What a document type is told.
pub fn doctype() -> Reject {
    Reject::new("XML has a document type, which no device needs and nothing here reads")
}

/// Adds a piece of text to a value, which borrows as long as it is the only one.
fn add<'a>(value: &mut Cow<'a, str>, text: Cow<'a, str>) {
    if value.is_empty() {
        *value = text;
    } else {
        value.to_mut().push_str(&text);
    }
}

/// A value without the white space around it.
pub fn trimmed(value: Cow<'_, str>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests;
