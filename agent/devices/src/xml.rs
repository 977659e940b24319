//! XML as devices write it. Pure; no declaration is expanded, so the output is never larger than the input.
//!
//! [`read`] walks a message and passes its elements to an [`Elements`]. Well-formed XML is read as by every parser.
//! Malformed XML is read like this:
//!
//! * a bare `&`, an unknown entity, a `<` that begins no tag: letters of the text;
//! * an invalid character reference: U+FFFD;
//! * an element without its end: over when the next one begins, if it has text, or when an enclosing one ends;
//! * an end without a beginning: that of the previous element if this has text, else skipped;
//! * a message that is cut: the intact part before the cut; several roots: each of them.
//!
//! Only a document type is refused: no device needs one. Elements deeper than [`DEPTH_MAX`] are skipped. The devices
//! here write no element that has both text and elements.
mod scan;

use std::borrow::Cow;

pub use scan::Attributes;
use scan::{Scanner, Token};

use super::device_event::Reject;
use super::text;

/// Largest number of levels of elements.
pub const DEPTH_MAX: usize = 32;

/// Receives the elements of a message. Names are without their prefixes; `parents` are the enclosing elements, the
/// root first.
pub trait Elements<'a> {
    /// Begins an element at a byte of the message.
    fn open(&mut self, name: &'a str, parents: &[&'a str], attributes: Attributes<'a>, at: usize) {
        let _ = (name, parents, attributes, at);
    }

    /// Takes an element without children.
    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: Cow<'a, str>);

    /// Ends an element, before a byte of the message.
    fn close(&mut self, name: &'a str, parents: &[&'a str], end: usize) {
        let _ = (name, parents, end);
    }
}

/// An open element.
struct Open<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    has_elements: bool,
}

impl Open<'_> {
    /// Whether an end tag ends this element. One with another name does: one of the names was damaged. Text with a
    /// `>` in it is the rest of a damaged tag.
    fn is_ended_by(&self, name: &str) -> bool {
        let is_leaf = !self.has_elements && !self.text.contains('>');
        nearly(self.name, name) || (is_leaf && !self.text.trim().is_empty())
    }
}

/// Walks a message. True: an element has no end, because the message is cut or damaged.
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
    /// Number of open elements beyond the deepest level.
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
            // Its end was lost. Perhaps this is it, with another letter in place of its slash.
            let is_its_end = is_back_of(name, open.name);
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
        // Nearly always it is the last one.
        let level = match self.names.iter().rposition(|open| *open == name) {
            Some(level) => level,
            None => match &mut self.open[..] {
                [_, .., last] if last.is_ended_by(name) => self.open.len() - 1,
                // The text before it belongs to an element whose beginning was lost.
                [.., last] => {
                    last.text = Cow::default();
                    last.has_elements = true;
                    return;
                }
                [] => return,
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
            self.elements
                .leaf(name, &self.names, text::trimmed(open.text));
        }
        self.elements.close(name, &self.names, at);
    }
}

/// Whether a tag's name has all letters of another, or all but its first.
fn is_back_of(name: &str, other: &str) -> bool {
    let letters = name.chars().rev().zip(other.chars().rev());
    let same = letters.take_while(|(one, two)| one == two).count();
    same > 0 && same + 1 >= other.chars().count()
}

/// Whether one letter of a name differs, or it is longer or shorter because one was damaged; not for names of one
/// letter.
fn nearly(name: &str, other: &str) -> bool {
    const LETTERS_MIN: usize = 2;
    let is_front = name.starts_with(other) || other.starts_with(name);
    let letters = (name.chars().count(), other.chars().count());
    let pairs = name.chars().zip(other.chars());
    let is_like = letters.0 == letters.1 && pairs.filter(|(one, two)| one != two).count() <= 1;
    letters.0.min(letters.1) >= LETTERS_MIN && (is_front || is_like)
}

/// The error of a document type.
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

#[cfg(test)]
mod tests;
