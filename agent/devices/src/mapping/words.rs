//! Compares values of a message with those of a mapping. A platform that changes the case of its codes, or writes
//! `1.0` for `1` or `ON` for `true`, still means the same.
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::misspelling;

/// A table from the values of a message to those of the mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    exact: BTreeMap<String, String>,
    folded: BTreeMap<String, String>,
    /// Results for false and for true, if all keys are words for them.
    flags: [Option<String>; 2],
}

impl Table {
    /// A table that looks up the exact spelling first.
    pub(super) fn new(exact: BTreeMap<String, String>) -> Self {
        let mut table = Self::default();
        let is_of_flags = exact.keys().all(|key| flag(&fold(key)).is_some());
        for (key, value) in &exact {
            let key = fold(key).into_owned();
            if is_of_flags && let Some(flag) = flag(&key) {
                table.flags[usize::from(flag)].get_or_insert_with(|| value.clone());
            }
            table.folded.entry(key).or_insert_with(|| value.clone());
        }
        Self { exact, ..table }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }

    /// All results.
    pub(super) fn values(&self) -> impl Iterator<Item = &String> {
        self.exact.values()
    }

    /// Looks up a value.
    pub(super) fn get(&self, found: &str) -> Option<&str> {
        // Most fields have no table, and their texts can be long.
        if self.exact.is_empty() {
            return None;
        }
        if let Some(value) = self.exact.get(found) {
            return Some(value);
        }
        let folded = fold(found);
        if let Some(value) = self.folded.get(folded.as_ref()) {
            return Some(value);
        }
        let flag = flag(&folded)?;
        self.flags[usize::from(flag)].as_deref()
    }
}

impl Table {
    /// Why a value that is not among the keys is a damaged spelling of one; `None`: it is only another value.
    pub(super) fn damage(&self, found: &str) -> Option<String> {
        let is_broken = |letter: char| letter == char::REPLACEMENT_CHARACTER || letter.is_control();
        if found.contains(is_broken) {
            return Some("it has letters that are none".to_owned());
        }
        let mut keys = self.exact.keys();
        let near = keys.find(|key| misspelling::is_flipped(found, key))?;
        Some(format!("it is nearly {near:?}"))
    }
}

/// A set of values.
#[derive(Debug, Clone, Default)]
pub(super) struct Words(Table);

impl Words {
    pub(super) fn new(values: Vec<String>) -> Self {
        let pairs = values.into_iter().map(|value| (value, String::new()));
        Self(Table::new(pairs.collect()))
    }

    /// See [`Table::damage`].
    pub(super) fn damage(&self, found: &str) -> Option<String> {
        self.0.damage(found)
    }

    /// Whether one of them means the same.
    pub(super) fn has(&self, found: &str) -> bool {
        self.0.get(found).is_some()
    }
}

/// Normalises the variations of platforms: case, full-width letters, zeros around a number.
fn fold(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    let is_plain = text.bytes().all(plain);
    if is_plain && !text.starts_with(|letter: char| letter.is_ascii_digit()) {
        return Cow::Borrowed(text);
    }
    let text: Cow<'_, str> = if is_plain {
        Cow::Borrowed(text)
    } else {
        let half_width = |letter| match letter {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(letter as u32 - 0xfee0).unwrap_or(letter),
            '\u{3000}' => ' ',
            _ => letter,
        };
        let folded: String = text.chars().map(half_width).collect();
        Cow::Owned(folded.trim().to_lowercase())
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let is_number = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    if !is_number || !is_whole {
        return text;
    }
    let digits = whole.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if digits.len() == text.len() {
        return text;
    }
    Cow::Owned(digits.to_owned())
}

fn flag(folded: &str) -> Option<bool> {
    match folded {
        "true" | "on" | "yes" | "y" | "1" => Some(true),
        "false" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, &str)]) -> Table {
        let pairs = pairs.iter();
        Table::new(
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn a_value_is_known_however_it_is_spelt() {
        let kinds = table(&[("Fire", "a"), ("131588", "b"), ("明火", "c"), ("fire", "d")]);
        for (found, value) in [
            ("Fire", Some("a")),
            ("fire", Some("d")),
            ("FIRE", Some("a")),
            ("ＦＩＲＥ", Some("a")),
            ("131588.0", Some("b")),
            ("0131588", Some("b")),
            ("明火 ", Some("c")),
            ("131588.5", None),
            ("true", None),
            ("", None),
        ] {
            assert_eq!(kinds.get(found), value, "{found}");
        }
    }

    #[test]
    fn words_for_yes_and_no_stand_for_each_other_only_among_themselves() {
        let smoke = table(&[("true", "on"), ("false", "off")]);
        for found in ["true", "True", "ON", "1", "1.0", "yes"] {
            assert_eq!(smoke.get(found), Some("on"), "{found}");
        }
        for found in ["false", "OFF", "0", "No"] {
            assert_eq!(smoke.get(found), Some("off"), "{found}");
        }
        let status = table(&[("1", "begins"), ("2", "ends")]);
        assert_eq!((status.get("1"), status.get("on")), (Some("begins"), None));
        assert!(Words::new(vec!["true".to_owned()]).has("1"));
        assert!(!Words::new(vec!["true".to_owned()]).has("0"));
    }
}
