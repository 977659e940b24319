//! Words of JSON: the value of one without quotes, and texts without their escapes.
use std::borrow::Cow;

use super::parse::Scalar;

/// The value of a word without quotes. Punctuation behind a flag or a number is a damaged comma.
pub(super) fn scalar(word: &str) -> Scalar<'_> {
    let is_damage = |letter: char| !letter.is_alphanumeric() && !matches!(letter, '%' | '°');
    match (exact(word), exact(word.trim_end_matches(is_damage))) {
        (Scalar::Text(_), value @ (Scalar::Flag(_) | Scalar::Number(_))) => value,
        (value, _) => value,
    }
}

fn exact(word: &str) -> Scalar<'_> {
    const NULLS: [&str; 10] = [
        "null",
        "none",
        "nil",
        "undefined",
        "nan",
        "infinity",
        "inf",
        "1.#inf",
        "1.#qnan",
        "1.#ind",
    ];
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    if is("true") || is("false") {
        return Scalar::Flag(is("true"));
    }
    let unsigned = word.trim_start_matches(['+', '-']);
    if NULLS.iter().any(|null| unsigned.eq_ignore_ascii_case(null)) {
        return Scalar::Null;
    }
    if is_number(word) {
        return Scalar::Number(word);
    }
    Scalar::Text(Cow::Borrowed(word))
}

/// A number by the grammar of JSON, of a size that every parser takes; a larger one is a text of digits.
fn is_number(word: &str) -> bool {
    const BYTES_MAX: usize = 64;
    const EXPONENT_DIGITS_MAX: usize = 2;
    if word.len() > BYTES_MAX {
        return false;
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| {
            let text = text.strip_prefix(['+', '-']).unwrap_or(text);
            digits(text) && text.len() <= EXPONENT_DIGITS_MAX
        })
}

/// Resolves the escapes of a JSON text. An invalid escape stays as written.
pub fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(letter) = rest.chars().next() else {
            text.push('\\');
            break;
        };
        let (read, length) = match letter {
            'n' => (Some('\n'), 1),
            't' => (Some('\t'), 1),
            'r' => (Some('\r'), 1),
            'b' => (Some('\u{8}'), 1),
            'f' => (Some('\u{c}'), 1),
            '"' | '\'' | '\\' | '/' => (Some(letter), 1),
            'u' => code_unit(rest),
            'x' => (hexadecimal(rest, 1, 2).and_then(char::from_u32), 3),
            _ => (None, 0),
        };
        match read {
            Some(read) => {
                text.push(read);
                rest = &rest[length..];
            }
            None => text.push('\\'),
        }
    }
    text.push_str(rest);
    text
}

fn hexadecimal(text: &str, from: usize, count: usize) -> Option<u32> {
    let digits = text.get(from..from + count)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// `u` and four digits; the two halves of a pair are one letter, a lone half is none.
fn code_unit(text: &str) -> (Option<char>, usize) {
    let Some(unit) = hexadecimal(text, 1, 4) else {
        return (None, 0);
    };
    if (0xd800..0xdc00).contains(&unit)
        && text.get(5..7) == Some("\\u")
        && let Some(low) = hexadecimal(text, 7, 4).filter(|low| (0xdc00..0xe000).contains(low))
    {
        let letter = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(letter), 11);
    }
    let letter = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
    (Some(letter), 5)
}
