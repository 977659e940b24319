//! JSON as devices write it: values of another type than intended ([`LenientText`]), and documents that strict
//! parsers refuse ([`parse`], [`repair`]). Pure; for all inputs the time is linear and nothing panics.
//!
//! ```text
//! a few values of a message  ─ pick ▶ Picked              decoders of Dahua, OCPP
//! all values, in order       ─ parse::document ▶ Sink     decoder of Hikvision
//! a document                 ─ repair ▶ Repaired          mappings, MQTT, frames of OCPP; after a strict parser refused it
//! ```
pub mod parse;
pub mod repair;
mod word;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;
use std::borrow::Cow;

use crate::text;
use parse::{Damage, Scalar, Sink};

/// A text of JSON that may also be a number, a flag, or null. Lists and objects read as empty. A number keeps its
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LenientText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for LenientText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(scalar_text(raw.get()).unwrap_or_default()))
    }
}

/// The text of one JSON value, its digits as written; `None` for null, a list or an object.
pub fn scalar_text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = match raw.as_bytes().first()? {
        b'"' => raw.get(1..raw.len().saturating_sub(1))?,
        b'{' | b'[' | b'n' => return None,
        _ => return Some(Cow::Borrowed(raw)),
    };
    let text = match inner.bytes().any(|byte| byte == b'\\') {
        true => Cow::Owned(word::unescape(inner)),
        false => Cow::Borrowed(inner),
    };
    Some(text::trimmed(text))
}

/// Values picked from a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked<'m, const N: usize> {
    /// In the order of the requested places; empty if missing. The last non-empty value of a repeated key counts.
    pub values: [Cow<'m, str>; N],
    /// The first damage.
    pub damage: Option<Damage>,
    /// Position in the message where the document ends.
    pub end: usize,
}

/// Picks values from the first document of a message by their places, `Object/ObjectType`. The case of keys is
/// ignored, and the items of a list count as if they stood in place of the list.
pub fn pick<'m, const N: usize>(message: &'m str, places: [&str; N]) -> Option<Picked<'m, N>> {
    let mut picker = Picker {
        places,
        values: [const { Cow::Borrowed("") }; N],
        damage: None,
        path: String::new(),
        levels: Vec::new(),
    };
    let document = parse::document(message, 0, &mut picker)?;
    Some(Picked {
        values: picker.values,
        damage: picker.damage,
        end: document.end,
    })
}

struct Picker<'p, 'm, const N: usize> {
    places: [&'p str; N],
    values: [Cow<'m, str>; N],
    damage: Option<Damage>,
    /// Path of the open level, with a `/` behind each key.
    path: String,
    /// The length of `path` before each level began.
    levels: Vec<usize>,
}

impl<'m, const N: usize> Sink<'m> for Picker<'_, 'm, N> {
    fn open(&mut self, key: Option<&str>, _is_list: bool) {
        self.levels.push(self.path.len());
        if let Some(key) = key {
            self.path.push_str(key);
            self.path.push('/');
        }
    }

    fn close(&mut self) {
        self.path.truncate(self.levels.pop().unwrap_or_default());
    }

    fn value(&mut self, key: Option<&str>, value: Scalar<'m>) {
        let key = key.unwrap_or_default();
        let path = self.path.as_str();
        // Nearly always the length decides.
        let is_it = |place: &&str| {
            place.len() == path.len() + key.len()
                && place
                    .split_at_checked(path.len())
                    .is_some_and(|(front, name)| {
                        name.eq_ignore_ascii_case(key) && front.eq_ignore_ascii_case(path)
                    })
        };
        let Some(at) = self.places.iter().position(is_it) else {
            return;
        };
        if let Some(text) = value.text().map(text::trimmed)
            && !text.is_empty()
        {
            self.values[at] = text;
        }
    }

    fn damage(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }
}

#[cfg(test)]
mod tests;
