//! Reads JSON as devices write it, and passes its values to a [`Sink`] in order. Valid JSON is read as by every
//! parser.
//!
//! | written | read as |
//! | --- | --- |
//! | `NaN`, `Infinity`, `None`, `undefined`, nothing behind a colon | null |
//! | `True`, `FALSE` | a flag |
//! | `'text'`, `u'text'`, `text` without quotes, `007`, `+1`, `0x1f` | a text, as it is written |
//! | raw control characters, `\x41`, a lone surrogate, a quote within a text | a letter of the text, or U+FFFD |
//! | superfluous or missing commas, comments, `=` for a colon | skipped |
//! | several documents: concatenated, a line each, behind a prefix, with NULs | each of them |
//! | a document that is cut | the intact part before the cut, then [`Damage::Cut`] |
//! | a text without its end | [`Damage::Text`]; reading resumes at the comma, bracket or line's end within it |
//! | `{` where a key is expected | the object before was cut: the next item begins |
//! | a key where an item of a list is expected | an object without its bracket |
//!
//! One pass, no recursion. Texts without an end are read again for at most as many bytes as the message has, so the
//! time is linear. Levels beyond [`DEPTH_MAX`] read as null.
use std::borrow::Cow;

use super::word::{scalar, unescape};

/// Largest number of levels of lists and objects.
pub const DEPTH_MAX: usize = 64;

/// One value that is neither a list nor an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar<'m> {
    /// A text.
    Text(Cow<'m, str>),
    /// A number of JSON, its digits as written.
    Number(&'m str),
    /// True or false.
    Flag(bool),
    /// Null.
    Null,
}

impl<'m> Scalar<'m> {
    /// The value as a text; `None` for null.
    pub fn text(self) -> Option<Cow<'m, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(digits) => Some(Cow::Borrowed(digits)),
            Self::Flag(true) => Some(Cow::Borrowed("true")),
            Self::Flag(false) => Some(Cow::Borrowed("false")),
            Self::Null => None,
        }
    }
}

/// The type of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The document ends before its last bracket.
    #[error("the JSON is cut off")]
    Cut,
    /// A text has no end.
    #[error("a text of the JSON has no closing quote")]
    Text,
    /// A token that belongs nowhere.
    #[error("the JSON has something that is neither a key nor a value")]
    Stray,
    /// Too many levels.
    #[error("the JSON has more than {DEPTH_MAX} levels")]
    Deep,
}

/// Receives the content of a document.
pub trait Sink<'m> {
    /// Begins a list or an object; `key` is that of an object's member.
    fn open(&mut self, key: Option<&str>, is_list: bool);
    /// Ends the innermost list or object.
    fn close(&mut self);
    /// Takes a value.
    fn value(&mut self, key: Option<&str>, value: Scalar<'m>);
    /// Reports damage at this position.
    fn damage(&mut self, damage: Damage);
}

/// Reads the first document from `from` on; returns its beginning and its end. `None`: there is none.
pub fn document<'m>(
    text: &'m str,
    from: usize,
    sink: &mut dyn Sink<'m>,
) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let begin = from + memchr::memchr2(b'{', b'[', bytes.get(from..)?)?;
    let mut parser = Parser {
        text,
        bytes,
        at: begin,
        stack: Vec::new(),
        looked_again_max: bytes.len(),
    };
    parser.run(sink);
    Some(begin..parser.at)
}

/// Whether bytes between two documents are meaningless: blanks, and punctuation without a letter or a digit.
pub fn is_blank(between: &str) -> bool {
    !between.contains(|letter: char| letter.is_alphanumeric())
}

struct Parser<'m> {
    text: &'m str,
    bytes: &'m [u8],
    at: usize,
    /// The open levels.
    stack: Vec<Level>,
    looked_again_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    List,
    Object,
    /// An object that lost its bracket.
    Implied,
}

/// The end of a text between quotes.
enum Quoted<'m> {
    Whole(Cow<'m, str>),
    /// It has no end; reading resumes within it.
    Broken,
    /// The message ends within it.
    Cut,
}

impl<'m> Parser<'m> {
    fn run(&mut self, sink: &mut dyn Sink<'m>) {
        self.open(None, sink);
        while let Some(level) = self.stack.last() {
            let is_list = *level == Level::List;
            self.blanks(true);
            let Some(&byte) = self.bytes.get(self.at) else {
                sink.damage(Damage::Cut);
                self.close_down_to(0, sink);
                return;
            };
            match byte {
                b'}' | b']' => self.closing(byte == b']', sink),
                // The previous item was cut, and this is the next one.
                b'{' if !is_list => {
                    sink.damage(Damage::Cut);
                    let mut levels = self.stack.iter();
                    let outer = levels.rposition(|level| *level == Level::List);
                    self.close_down_to(outer.map_or(0, |list| list + 1), sink);
                }
                _ if is_list => self.value(None, sink),
                _ => self.member(sink),
            }
        }
    }

    /// A list or an object begins here.
    fn open(&mut self, key: Option<&str>, sink: &mut dyn Sink<'m>) {
        let level = match self.bytes[self.at] {
            b'[' => Level::List,
            _ => Level::Object,
        };
        self.at += 1;
        self.begin(level, key, sink);
    }

    fn begin(&mut self, level: Level, key: Option<&str>, sink: &mut dyn Sink<'m>) {
        match self.stack.len() {
            DEPTH_MAX => {
                sink.damage(Damage::Deep);
                sink.value(key, Scalar::Null);
            }
            ..DEPTH_MAX => sink.open(key, level == Level::List),
            _ => {}
        }
        self.stack.push(level);
    }

    fn close_down_to(&mut self, levels: usize, sink: &mut dyn Sink<'m>) {
        while self.stack.len() > levels {
            self.stack.pop();
            if self.stack.len() < DEPTH_MAX {
                sink.close();
            }
        }
    }

    /// Takes a closing bracket: it ends the innermost level of its kind with all levels inside; none, if a list goes
    /// on.
    fn closing(&mut self, of_list: bool, sink: &mut dyn Sink<'m>) {
        self.at += 1;
        let is_of_kind = |level: &Level| (*level == Level::List) == of_list;
        let mut level = self.stack.iter().rposition(is_of_kind);
        let is_list = |level: usize| self.stack.get(level) == Some(&Level::List);
        let around = level.and_then(|level| level.checked_sub(1));
        let last = self.stack.len() - 1;
        let is_item = last.checked_sub(1).is_some_and(is_list);
        if !of_list && is_list(last) && !around.is_some_and(is_list) && self.is_before_item() {
            // The end of an item that lost its beginning, not of the level around the list.
            level = is_item.then_some(last);
        } else if of_list && !is_list(last) && is_item && self.is_before_item() {
            // An item whose closing bracket became that of a list.
            level = Some(last);
        }
        match level {
            Some(level) => {
                if level + 1 < self.stack.len() {
                    sink.damage(Damage::Cut);
                }
                // Its bracket was taken for that of a list.
                let is_double = self.stack[level] == Level::Implied
                    && level >= 2
                    && is_list(level - 1)
                    && is_list(level - 2);
                self.close_down_to(level - usize::from(is_double), sink);
            }
            None => sink.damage(Damage::Stray),
        }
    }

    /// Whether the list goes on here: the bracket ended an item that lost its beginning.
    fn is_before_item(&self) -> bool {
        let rest = self.bytes[self.at..].trim_ascii_start();
        match rest.first() {
            Some(b']') => true,
            Some(b',') => matches!(rest[1..].trim_ascii_start().first(), Some(b'{' | b'[')),
            _ => false,
        }
    }

    /// Skips blanks, NULs, byte order marks and comments; commas too if they only separate.
    fn blanks(&mut self, commas: bool) {
        loop {
            match self.bytes.get(self.at) {
                Some(b',') if commas => self.at += 1,
                Some(byte) if byte.is_ascii_whitespace() || byte.is_ascii_control() => self.at += 1,
                Some(0xef) if self.bytes[self.at..].starts_with("\u{feff}".as_bytes()) => {
                    self.at += '\u{feff}'.len_utf8();
                }
                Some(b'/') => {
                    let rest = &self.bytes[self.at..];
                    let end = match rest.get(1) {
                        Some(b'/') => memchr::memchr(b'\n', rest),
                        Some(b'*') => memchr::memmem::find(rest, b"*/").map(|end| end + 2),
                        _ => return,
                    };
                    // A comment without an end would hide the rest of the message.
                    let Some(end) = end else { return };
                    self.at += end;
                }
                _ => return,
            }
        }
    }

    fn member(&mut self, sink: &mut dyn Sink<'m>) {
        let key = match self.quote() {
            Some(quote) => match self.quoted(quote, true) {
                Quoted::Whole(key) => key,
                Quoted::Broken => return sink.damage(Damage::Text),
                Quoted::Cut => return,
            },
            None => {
                let begin = self.at;
                let word = self.word(b":=,{}[]\"'\r\n");
                if word.is_empty() {
                    // Blanks of another alphabet count as blanks.
                    return self.skip_from(begin, sink);
                }
                self.lone_quote(b":", sink);
                Cow::Borrowed(word)
            }
        };
        self.blanks(false);
        match self.bytes.get(self.at) {
            Some(b':') => self.at += 1,
            Some(b'=') => self.at += 1 + usize::from(self.bytes.get(self.at + 1) == Some(&b'>')),
            Some(_) => return sink.damage(Damage::Stray),
            None => return,
        }
        self.blanks(false);
        self.value(Some(&key), sink);
    }

    fn value(&mut self, key: Option<&str>, sink: &mut dyn Sink<'m>) {
        let Some(&byte) = self.bytes.get(self.at) else {
            return;
        };
        if matches!(byte, b'{' | b'[') {
            return self.open(key, sink);
        }
        if let Some(quote) = self.quote() {
            return match self.quoted(quote, false) {
                Quoted::Whole(text) if key.is_none() && self.is_key() => {
                    sink.damage(Damage::Stray);
                    self.begin(Level::Implied, None, sink);
                    self.value(Some(&text), sink);
                }
                Quoted::Whole(text) => self.put(key, Scalar::Text(text), sink),
                Quoted::Broken => sink.damage(Damage::Text),
                Quoted::Cut => {}
            };
        }
        let begin = self.at;
        let word = self.word(b",{}[]\"\r\n");
        if word.is_empty() {
            if matches!(byte, b',' | b'}' | b']') {
                return self.put(key, Scalar::Null, sink);
            }
            let is_blank = self.at > begin;
            if is_blank && key.is_some() {
                return self.value(key, sink);
            }
            return self.skip_from(begin, sink);
        }
        self.lone_quote(b",}]", sink);
        let value = scalar(word);
        // More of the document may have been cut off.
        let is_cut =
            self.at == self.bytes.len() && !matches!(value, Scalar::Flag(_) | Scalar::Null);
        if !is_cut {
            self.put(key, value, sink);
        }
    }

    /// Whether a colon follows, so that an item of a list is the first key of an object; the colon is skipped.
    fn is_key(&mut self) -> bool {
        self.blanks(false);
        let is_key = self.bytes.get(self.at) == Some(&b':');
        if is_key {
            self.at += 1;
            self.blanks(false);
        }
        is_key
    }

    fn put(&self, key: Option<&str>, value: Scalar<'m>, sink: &mut dyn Sink<'m>) {
        if self.stack.len() <= DEPTH_MAX {
            sink.value(key, value);
        }
    }

    /// The quote that begins a text here; a letter before it, as Python writes it, is skipped.
    fn quote(&mut self) -> Option<u8> {
        let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'');
        match self.bytes[self.at] {
            byte if is_quote(&byte) => Some(byte),
            b'u' | b'U' | b'b' | b'B' | b'r' => {
                let quote = self.bytes.get(self.at + 1).copied().filter(is_quote)?;
                self.at += 1;
                Some(quote)
            }
            _ => None,
        }
    }

    /// The bytes up to one of these, without trailing blanks.
    fn word(&mut self, ends: &[u8]) -> &'m str {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| ends.contains(byte));
        let mut end = self.at + end.unwrap_or(rest.len());
        let mut word = &self.text[self.at..end];
        if let Some(comment) = word.find(" //").or_else(|| word.find(" /*")) {
            end = self.at + comment;
            word = &word[..comment];
        }
        self.at = end;
        word.trim_matches(|letter: char| letter.is_whitespace() || letter.is_control())
    }

    /// Skips a quote that ends a word whose opening quote was damaged; otherwise it would begin a text.
    fn lone_quote(&mut self, before: &[u8], sink: &mut dyn Sink<'m>) {
        if self.bytes.get(self.at) != Some(&b'"') {
            return;
        }
        let behind = self.bytes[self.at + 1..].trim_ascii_start();
        if behind.first().is_none_or(|byte| before.contains(byte)) {
            self.at += 1;
            sink.damage(Damage::Text);
        }
    }

    /// Resumes behind meaningless bytes; it reports stray bytes unless they are blank.
    fn skip_from(&mut self, begin: usize, sink: &mut dyn Sink<'m>) {
        if self.at > begin {
            return;
        }
        let letter = self.text[begin..].chars().next();
        self.at += letter.map_or(0, char::len_utf8);
        sink.damage(Damage::Stray);
    }

    /// Reads a text between quotes. A quote ends it if a valid token follows; any other is a letter of the text.
    fn quoted(&mut self, quote: u8, is_key: bool) -> Quoted<'m> {
        let start = self.at + 1;
        let mut from = start;
        let mut is_escaped = false;
        // The first and the last quote that did not end it.
        let mut within: Option<(usize, usize)> = None;
        loop {
            let Some(found) = memchr::memchr2(quote, b'\\', &self.bytes[from..]) else {
                if self.look_again(start, self.bytes.len(), self.bytes.len()) {
                    return Quoted::Broken;
                }
                self.at = self.bytes.len();
                return Quoted::Cut;
            };
            let end = from + found;
            if self.bytes[end] == b'\\' {
                is_escaped = true;
                // An escaped letter may be longer than a byte; its later bytes are neither.
                from = (end + 2).min(self.bytes.len());
                continue;
            }
            let behind = &self.bytes[end + 1..];
            let gap = behind
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0)
                .count();
            let is_end = match behind.get(gap) {
                None | Some(b',' | b'}' | b']') => true,
                Some(b':' | b'=') if is_key => true,
                // A colon behind a value: this is the quote behind the next key.
                Some(b':') => {
                    let first = within.map_or(end, |(first, _)| first);
                    if self.look_again(start, first, end) {
                        return Quoted::Broken;
                    }
                    match within {
                        Some((first, _)) if self.afford(end - first) => {
                            return self.whole(start, first, is_escaped);
                        }
                        _ => true,
                    }
                }
                // A comma or colon is missing, or a comment follows.
                Some(b'"' | b'\'') => gap > 0,
                Some(b'/') => matches!(behind.get(gap + 1), Some(b'/' | b'*')),
                Some(_) => false,
            };
            if is_end {
                // A key has no quote in it: the one that ended it is damaged, or it began behind the last one.
                if let Some((_, last)) = within.filter(|_| is_key) {
                    if !self.look_again(start, last, end) {
                        self.at = last;
                    }
                    return Quoted::Broken;
                }
                return self.whole(start, end, is_escaped);
            }
            within = Some((within.map_or(end, |(first, _)| first), end));
            from = end + 1;
        }
    }

    /// Returns a complete text; reading resumes behind its quote.
    fn whole(&mut self, start: usize, end: usize, is_escaped: bool) -> Quoted<'m> {
        self.at = end + 1;
        let raw = &self.text[start..end];
        Quoted::Whole(match is_escaped {
            true => Cow::Owned(unescape(raw)),
            false => Cow::Borrowed(raw),
        })
    }

    /// Returns to the first mark within a text that has no end of its own, before `first`. False: there is none.
    fn look_again(&mut self, start: usize, first: usize, end: usize) -> bool {
        let marks = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'\n');
        let Some(mark) = self.bytes[start..first].iter().position(marks) else {
            return false;
        };
        let mark = start + mark;
        let may = self.afford(end - mark);
        if may {
            self.at = mark;
        }
        may
    }

    /// Whether this many bytes may be read once more.
    fn afford(&mut self, bytes: usize) -> bool {
        let left = self.looked_again_max.checked_sub(bytes);
        self.looked_again_max = left.unwrap_or(self.looked_again_max);
        left.is_some()
    }
}
