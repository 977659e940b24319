//! Local time of the centre: UTC+8 the whole year, as everywhere in China.
use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::{TimeZone, offset};

/// Offset from UTC, hours.
const AHEAD_HOURS: i8 = 8;
const DAY_MS: i64 = 86_400_000;

fn zone() -> TimeZone {
    TimeZone::fixed(offset(AHEAD_HOURS))
}

/// The local time at `ms`, milliseconds since 1970 UTC.
pub fn at(ms: i64) -> Zoned {
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or_default()
        .to_zoned(zone())
}

/// The local time in a `strftime` format.
pub fn text(ms: i64, format: &str) -> String {
    at(ms).strftime(format).to_string()
}

/// The minute of the day, without calendar arithmetic, because it is needed for each event.
pub fn minute_of_day(ms: i64) -> u16 {
    let local_ms = ms.saturating_add(i64::from(AHEAD_HOURS) * 3_600_000);
    (local_ms.rem_euclid(DAY_MS) / 60_000) as u16
}

/// Parses a minute of the day: "08:30", up to "24:00".
pub fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| {
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<u16>().ok())
            .flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 24 * 60).then_some(minute)
}

/// Start of a day, milliseconds since 1970 UTC; `None` beyond the supported range.
pub fn midnight_ms(day: Date) -> Option<i64> {
    let midnight = day.to_zoned(zone()).ok()?;
    Some(midnight.timestamp().as_millisecond())
}

/// A duration in words, Chinese and English: its two largest units, or less than a minute.
pub fn age(span_ms: i64) -> (String, String) {
    const UNITS: [(i64, &str, &str); 4] = [
        (365 * 86_400_000, "年", "y"),
        (86_400_000, "天", "d"),
        (3_600_000, "小时", "h"),
        (60_000, "分", "min"),
    ];
    let (mut chinese, mut english) = (Vec::new(), Vec::new());
    let mut left_ms = span_ms;
    for (unit_ms, words, letters) in UNITS {
        let count = left_ms / unit_ms;
        if count > 0 && chinese.len() < 2 {
            chinese.push(format!("{count} {words}"));
            english.push(format!("{count} {letters}"));
        } else if !chinese.is_empty() {
            break;
        }
        left_ms %= unit_ms;
    }
    if chinese.is_empty() {
        return ("不到 1 分".to_owned(), "less than 1 min".to_owned());
    }
    (chinese.join(" "), english.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_eight_hours_before_that_of_utc() {
        let day: Date = "2026-03-01".parse().expect("a day");
        let midnight_ms = midnight_ms(day).expect("a time");
        assert_eq!(text(midnight_ms, "%F %H:%M"), "2026-03-01 00:00");
        assert_eq!(minute_of_day(midnight_ms), 0);
        assert_eq!(minute_of_day(midnight_ms - 1), 1439);
        assert_eq!(minute_of_day(-1), 7 * 60 + 59);
        assert_eq!(minute_of_day(0), 8 * 60);
    }

    #[test]
    fn an_age_is_said_by_its_two_largest_units() {
        for (span_ms, chinese, english) in [
            (0, "不到 1 分", "less than 1 min"),
            (-5, "不到 1 分", "less than 1 min"),
            (59_999, "不到 1 分", "less than 1 min"),
            (65 * 60_000, "1 小时 5 分", "1 h 5 min"),
            (2 * 86_400_000 + 60_000, "2 天", "2 d"),
            (400 * 86_400_000, "1 年 35 天", "1 y 35 d"),
        ] {
            let wanted = (chinese.to_owned(), english.to_owned());
            assert_eq!(age(span_ms), wanted, "{span_ms}");
        }
    }
}
