//! Times as devices write them. The agent decides about a claim by the receipt; this module only turns a text into a
//! claim, or marks it as unreadable.
//!
//! [`read`] accepts, with a zone of its own or in the source's zone: ISO 8601 in its usual spellings (`T` or a space,
//! a comma or a point before the fraction, an offset with or without a colon, seconds left out), `/` or `.` in a
//! date, the compact `YYYYMMDDhhmmss`, Chinese `2026年11月30日 18:26:22`, twelve hours with AM, PM, 上午 or 下午, mail
//! headers (RFC 2822), and numbers since 1970: seconds, milliseconds, microseconds or nanoseconds by their size, also
//! with a fraction or an exponent. A number is read by its digits, because a float would round it. An offset whose `+`
//! was lost, as decoding of forms loses it, is still an offset.
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use std::borrow::Cow;

use crate::device_event::DeviceTime;

/// Longest text that is read, bytes.
const TEXT_BYTES_MAX: usize = 64;
/// 2000-01-01T00:00:00Z. Every device of today is newer; an earlier time means that it has no clock.
const FLOOR_MS: i64 = 946_684_800_000;
/// 2100-01-01T00:00:00Z.
const CEILING_MS: i64 = 4_102_444_800_000;

/// The time that a message claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Claim<'a> {
    /// No time.
    #[default]
    None,
    /// Milliseconds since 1970 UTC.
    Ms(i64),
    /// An unreadable time, as written.
    Unreadable(Cow<'a, str>),
}

/// Whether a clock that was ever set can show this time.
pub fn can_be(ms: i64) -> bool {
    (FLOOR_MS..CEILING_MS).contains(&ms)
}

/// The time without a zone, in this zone. A time that a change of the clocks skips or repeats gets its earlier
/// reading.
pub fn in_zone(civil: DateTime, zone: &TimeZone) -> Option<i64> {
    let time = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    Some(time.as_millisecond())
}

/// Reads a time, with a zone of its own or in this one.
pub fn read(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim().trim_matches('"').trim();
    // A damaged digit would make another hour of it.
    let is_damaged = text.contains(char::REPLACEMENT_CHARACTER);
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || is_damaged {
        return None;
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    if let Ok(civil) = text.parse::<DateTime>() {
        return in_zone(civil, zone);
    }
    if let Some(ms) = number_ms(text) {
        return Some(ms);
    }
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text) {
        return Some(zoned.timestamp().as_millisecond());
    }
    civil_parts(text, zone)
}

/// Half of the day, of a time with twelve hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Morning,
    Afternoon,
}

impl Half {
    /// The half of the day that a text names.
    fn named(text: &str) -> Option<Self> {
        let has = |names: [&str; 3]| names.iter().any(|name| text.contains(name));
        if has(["PM", "pm", "下午"]) {
            Some(Self::Afternoon)
        } else if has(["AM", "am", "上午"]) {
            Some(Self::Morning)
        } else {
            None
        }
    }

    /// The hour of 24 of an hour of 12.
    fn hour(self, hour: i8) -> i8 {
        match (self, hour) {
            (Self::Morning, 12) => 0,
            (Self::Afternoon, 1..=11) => hour + 12,
            _ => hour,
        }
    }
}

/// A number since 1970 by its size: from 10 digits on seconds, from 13 milliseconds, from 16 microseconds, from 19
/// nanoseconds. Smaller numbers are no times.
fn number_ms(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || exponent.abs() > 30 {
        return None;
    }
    // The digits, and the position of the point among them.
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    let digits = digits.as_str();
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let (digits, point) = (&digits[zeros..], point - zeros as i32);
    // Compact civil times have 14 or 17 digits, and no current number has as many.
    let scale = match point {
        10 => 3,
        13 => 0,
        16 => -3,
        19 => -6,
        _ => return None,
    };
    let wanted = usize::try_from(point + scale).ok()?;
    let mut ms: i64 = 0;
    for place in 0..wanted {
        let digit = digits.as_bytes().get(place).map_or(0, |byte| byte - b'0');
        ms = ms.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    Some(ms)
}

/// A date and a time whose parts are separated by non-digits, or not at all.
fn civil_parts(text: &str, zone: &TimeZone) -> Option<i64> {
    let (body, offset) = split_offset(text)?;
    let half = Half::named(body);
    let mut parts: Vec<&str> = body
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect();
    // 20261130182622, 20261130182622123, 20261130 182622
    if let [first, ..] = parts[..]
        && first.len() >= 8
    {
        let digits = parts.concat();
        if !matches!(digits.len(), 8 | 12 | 14 | 17) {
            return None;
        }
        let lengths = [4, 2, 2, 2, 2, 2, 3];
        let mut at = 0;
        let mut cut = Vec::new();
        for length in lengths {
            if at >= digits.len() {
                break;
            }
            cut.push(digits[at..at + length].to_owned());
            at += length;
        }
        return civil_ms(
            &cut.iter().map(String::as_str).collect::<Vec<_>>(),
            half,
            zone,
            offset,
        );
    }
    parts.truncate(7);
    civil_ms(&parts, half, zone, offset)
}

/// Year first, then the other parts as far as present; at least a date.
fn civil_ms(
    parts: &[&str],
    half: Option<Half>,
    zone: &TimeZone,
    offset: Option<Offset>,
) -> Option<i64> {
    if parts.len() < 3 || parts[0].len() != 4 {
        return None;
    }
    let small = |at: usize| match parts.get(at) {
        None => Some(0),
        Some(part) if part.len() <= 2 => part.parse::<i8>().ok(),
        Some(_) => None,
    };
    let nanosecond = match parts.get(6) {
        None => 0,
        Some(part) => format!("{part:0<9.9}").parse().ok()?,
    };
    let civil = DateTime::new(
        parts[0].parse().ok()?,
        small(1)?,
        small(2)?,
        half.map_or(small(3)?, |half| half.hour(small(3).unwrap_or_default())),
        small(4)?,
        small(5)?,
        nanosecond,
    )
    .ok()?;
    match offset {
        Some(offset) => Some(offset.to_timestamp(civil).ok()?.as_millisecond()),
        None => in_zone(civil, zone),
    }
}

/// Splits off an offset `08:00` whose sign was lost: behind a time with seconds, with or without a space between them.
fn split_lost_plus(text: &str) -> Option<(&str, &str)> {
    let at = text.len().checked_sub("08:00".len())?;
    let (body, offset) = text.split_at_checked(at)?;
    let is_time = |text: &str, colons: usize| {
        text.ends_with(|last: char| last.is_ascii_digit())
            && text.bytes().filter(|byte| *byte == b':').count() == colons
    };
    let is_offset = is_time(offset, 1) && offset.as_bytes().get(2) == Some(&b':');
    (is_offset && is_time(body.trim_end(), 2)).then_some((body, offset))
}

/// The text before an offset, and the offset: `Z`, `+08:00`, `+0800`, `+08`, `+8`, ` UTC`, ` GMT`, ` GMT+8`.
fn split_offset(text: &str) -> Option<(&str, Option<Offset>)> {
    for name in ["Z", "z", "UTC", "GMT"] {
        if let Some(body) = text.strip_suffix(name) {
            return Some((body, Some(Offset::UTC)));
        }
    }
    // The '-' of an offset stands behind a time of day; that of a date does not.
    let Some(time_at) = text.find(':') else {
        return Some((text, None));
    };
    let signed = text[time_at..].rfind(['+', '-']).map(|at| time_at + at);
    let (body, sign, digits) = match signed {
        Some(at) if text[at..].starts_with('-') => (&text[..at], -1, &text[at + 1..]),
        Some(at) => (&text[..at], 1, &text[at + 1..]),
        None => match split_lost_plus(text) {
            Some((body, digits)) => (body, 1, digits),
            None => return Some((text, None)),
        },
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let is_number =
        |part: &str| matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(hours) || !is_number(minutes) {
        // `18:26:22-2026`: no offset.
        return Some((text, None));
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some((body.trim_end(), Some(offset)))
}

impl<'a> DeviceTime<'a> {
    /// The claim of this time, read in the zone of the source if it has none of its own.
    pub fn claim(self, zone: &TimeZone) -> Claim<'a> {
        match self {
            Self::None => Claim::None,
            Self::Ms(ms) => Claim::Ms(ms),
            Self::Text(text) if text.trim().is_empty() => Claim::None,
            Self::Text(text) => match read(text, zone) {
                Some(ms) => Claim::Ms(ms),
                None => Claim::Unreadable(Cow::Borrowed(text)),
            },
            Self::Civil(civil) => match in_zone(civil, zone) {
                Some(ms) => Claim::Ms(ms),
                None => Claim::Unreadable(Cow::Owned(civil.to_string())),
            },
            Self::Unreadable(bytes) => {
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                Claim::Unreadable(Cow::Owned(digits.collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_782_878_400_000;

    fn zone() -> TimeZone {
        TimeZone::get("Asia/Shanghai").expect("a zone")
    }

    #[test]
    fn a_time_is_read_however_it_is_spelt() {
        for text in [
            "2026-07-01T12:00:00+08:00",
            "2026-07-01T04:00:00Z",
            "2026-07-01T04:00:00.000Z",
            "2026-07-01T12:00:00",
            " 2026-07-01 12:00:00 ",
            "2026-07-01 12:00:00,000",
            "2026-07-01 12:00",
            "2026/07/01 12:00:00",
            "2026/7/1 12:00:00",
            "2026.07.01 12:00:00",
            "2026-07-01T12:00:00+0800",
            "2026-07-01 12:00:00 +08:00",
            "2026-07-01T12:00:00+08",
            "2026-07-01 04:00:00 UTC",
            "2026年07月01日 12:00:00",
            "2026年7月1日12时0分0秒",
            "20260701120000",
            "20260701 120000",
            "20260701120000000",
            "202607011200",
            "1782878400",
            "1782878400.0",
            "1782878400000",
            "1782878400000000",
            "1782878400000000000",
            "1.7828784e12",
            "1.7828784E+12",
            "1.7828784e9",
            "\"2026-07-01 12:00:00\"",
            "2026-07-01T12:00:00 08:00",
            "2026-07-01T12:00:0008:00",
            "2026-07-01 12:00:00.000 08:00",
            "2026-07-01 12:00:00 GMT+8",
            "2026-07-01T12:00:00 GMT+08:00",
            "2026-07-01T13:00:00+9:00",
            "2026-07-01 12:00:00 CST",
            "2026/7/1 12:00:00 PM",
            "2026年7月1日 下午 12:00:00",
            "Wed, 01 Jul 2026 12:00:00 +0800",
        ] {
            assert_eq!(read(text, &zone()), Some(NOON_MS), "{text}");
        }
        for (text, hours) in [
            ("2026-07-01 01:00:00 PM", 1),
            ("2026-07-01 下午1:00", 1),
            ("2026-07-01 11:00:00 AM", -1),
            ("2026-07-01 上午 12:00:00", -12),
            ("2026-07-01 13:00:00 下午", 1),
        ] {
            assert_eq!(
                read(text, &zone()),
                Some(NOON_MS + hours * 3_600_000),
                "{text}"
            );
        }
        assert_eq!(
            read("1.79606318225079e+12", &zone()),
            Some(1_796_063_182_250)
        );
        assert_eq!(
            read("2026-07-01T12:00:00.250", &zone()),
            Some(NOON_MS + 250)
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "2026-11-30T1\u{fffd}:26:22+08:00",
            "",
            "noon",
            "2026-13-01T12:00:00",
            "1970",
            "0",
            "-",
            "0000-00-00",
            "0000-00-00 00:00:00",
            "2026-02-30 01:00:00",
            "12:00:00",
            "17",
            "1e400",
            "99999999999999999999999",
            "2026-07-01 25:00:00",
            "2026-07-01 14:00:00 GMT+99",
            "0x6a44",
            "null",
            "NaN",
        ] {
            assert_eq!(read(text, &zone()), None, "{text}");
        }
        assert_eq!(
            DeviceTime::Text("noon").claim(&zone()),
            Claim::Unreadable("noon".into())
        );
        assert_eq!(DeviceTime::Text(" ").claim(&zone()), Claim::None);
        assert_eq!(
            DeviceTime::Unreadable([0x7a, 0, 0, 1, 0, 0xff]).claim(&zone()),
            Claim::Unreadable("7a00000100ff".into())
        );
    }

    #[test]
    fn a_clock_that_was_never_set_is_known_by_its_year() {
        assert!(can_be(NOON_MS));
        assert!(!can_be(0));
        assert!(!can_be(i64::MAX));
    }
}
