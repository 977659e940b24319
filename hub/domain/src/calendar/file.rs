//! The file of a working calendar: strict TOML; errors name the file, the key and the correct form.
//!
//! ```toml
//! name = "china-2026"
//! from = "2026-01-01"
//! to = "2026-12-31"
//! [week]                               # all seven days, [] for a day without hours
//! mon = ["08:30-12:00", "14:00-17:30"]
//! …
//! [[holiday]]
//! name = "元旦"
//! days = ["2026-01-01..2026-01-03"]    # days or ranges, both ends included
//! [[workday]]                          # 调休: as = "fri", or hours = ["09:00-12:00"]
//! day = "2026-01-04"
//! as = "fri"
//! ```
use jiff::civil::{Date, Weekday};
use linli_shared::service::config::ConfigError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::{ALWAYS, Calendar, DAYS_MAX, DaySpan, NAME_CHARS_MAX, SPANS_MAX};
use crate::local_time;

/// Permitted years; others are typing errors.
const YEARS: std::ops::RangeInclusive<i16> = 2000..=2200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    from: String,
    to: String,
    week: Week,
    #[serde(default)]
    holiday: Vec<Holiday>,
    #[serde(default)]
    workday: Vec<Workday>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Week {
    mon: Vec<String>,
    tue: Vec<String>,
    wed: Vec<String>,
    thu: Vec<String>,
    fri: Vec<String>,
    sat: Vec<String>,
    sun: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holiday {
    name: String,
    days: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workday {
    day: String,
    #[serde(rename = "as")]
    like: Option<Like>,
    hours: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Like {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A problem: key and message.
type Wrong = (String, String);

/// Parses the text of a calendar's file; `path` is for the errors. Errors: [`ConfigError`].
pub fn parse(path: &Path, text: &str) -> Result<Calendar, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    calendar(&file).map_err(|(key, message)| ConfigError::Value {
        path: path.to_owned(),
        key,
        message,
    })
}

fn calendar(file: &File) -> Result<Calendar, Wrong> {
    if file.name.trim().is_empty()
        || file.name.chars().count() > NAME_CHARS_MAX
        || file.name == ALWAYS
    {
        return Err((
            "name".to_owned(),
            format!(
                "needs 1 to {NAME_CHARS_MAX} characters, like \"china-2026\", and {ALWAYS:?} is taken"
            ),
        ));
    }
    let (from, to) = (day("from", &file.from)?, day("to", &file.to)?);
    if to < from {
        let message = format!("{to} is before from ({from}): put the last day that is known");
        return Err(("to".to_owned(), message));
    }
    let days = (to - from).get_days() as usize + 1;
    if days > DAYS_MAX {
        let message = format!("is {days} days after from, at most {DAYS_MAX}: use files for less");
        return Err(("to".to_owned(), message));
    }
    let week = week(&file.week)?;
    if week.iter().all(Vec::is_empty) {
        let message = "no day has hours: give some, like mon = [\"08:30-12:00\"]";
        return Err(("week".to_owned(), message.to_owned()));
    }
    let special = special(file, from, to, &week)?;
    Ok(Calendar::of_days(&file.name, from, to, |day| {
        special.get(&day).map_or_else(
            || week[place(day.weekday())].clone(),
            |day| day.spans.clone(),
        )
    }))
}

/// A day that differs from its weekday.
struct Special {
    /// The key that lists it.
    key: String,
    /// Its description: "holiday 元旦", or "a working day".
    what: String,
    spans: Vec<DaySpan>,
}

fn special(
    file: &File,
    from: Date,
    to: Date,
    week: &[Vec<DaySpan>; 7],
) -> Result<BTreeMap<Date, Special>, Wrong> {
    let mut special: BTreeMap<Date, Special> = BTreeMap::new();
    let mut put = |day: Date, new: Special| {
        if day < from || day > to {
            let message =
                format!("{day} is not within {from} to {to}: put it right, or widen from and to");
            return Err((new.key, message));
        }
        match special.entry(day) {
            std::collections::btree_map::Entry::Occupied(taken) => Err((
                new.key,
                format!(
                    "{day} is listed already as {} ({}): a day is one of both, once",
                    taken.get().what,
                    taken.get().key
                ),
            )),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(new);
                Ok(())
            }
        }
    };
    for (at, holiday) in file.holiday.iter().enumerate() {
        if holiday.name.trim().is_empty() || holiday.name.chars().count() > NAME_CHARS_MAX {
            let message = format!("needs 1 to {NAME_CHARS_MAX} characters, like \"元旦\"");
            return Err((format!("holiday[{at}].name"), message));
        }
        if holiday.days.is_empty() {
            let message = "lists no day: write some, like [\"2026-01-01..2026-01-03\"]";
            return Err((format!("holiday[{at}].days"), message.to_owned()));
        }
        for (which, text) in holiday.days.iter().enumerate() {
            let key = format!("holiday[{at}].days[{which}]");
            let (first, last) = range(&key, text)?;
            // The file determines the length of a range, so it is cut at the maximum length of a calendar.
            for day in first.series(jiff::Span::new().days(1)).take(DAYS_MAX + 1) {
                if day > last {
                    break;
                }
                put(
                    day,
                    Special {
                        key: key.clone(),
                        what: format!("holiday {}", holiday.name),
                        spans: Vec::new(),
                    },
                )?;
            }
        }
    }
    for (at, workday) in file.workday.iter().enumerate() {
        let key = format!("workday[{at}]");
        let worked = day(&format!("{key}.day"), &workday.day)?;
        let spans = match (workday.like, &workday.hours) {
            (Some(like), None) => week[like as usize].clone(),
            (None, Some(hours)) => spans(&format!("{key}.hours"), hours)?,
            _ => {
                let message = "needs as = \"fri\" (the weekday whose hours it follows) or hours = [\"09:00-12:00\"], one of both";
                return Err((key, message.to_owned()));
            }
        };
        if spans.is_empty() {
            let message = "has no hours: name a weekday that has some, or give hours";
            return Err((key, message.to_owned()));
        }
        put(
            worked,
            Special {
                key: format!("{key}.day"),
                what: "a working day".to_owned(),
                spans,
            },
        )?;
    }
    Ok(special)
}

/// The spans of the week, from Monday on.
fn week(week: &Week) -> Result<[Vec<DaySpan>; 7], Wrong> {
    Ok([
        spans("week.mon", &week.mon)?,
        spans("week.tue", &week.tue)?,
        spans("week.wed", &week.wed)?,
        spans("week.thu", &week.thu)?,
        spans("week.fri", &week.fri)?,
        spans("week.sat", &week.sat)?,
        spans("week.sun", &week.sun)?,
    ])
}

fn place(weekday: Weekday) -> usize {
    usize::from(weekday.to_monday_zero_offset().unsigned_abs())
}

fn spans(key: &str, texts: &[String]) -> Result<Vec<DaySpan>, Wrong> {
    if texts.len() > SPANS_MAX {
        let message = format!("has {} spans, at most {SPANS_MAX}", texts.len());
        return Err((key.to_owned(), message));
    }
    let mut spans: Vec<DaySpan> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let span = span(text).ok_or_else(|| {
            let message = format!(
                "{text:?} is no span of a day: write it like \"08:30-12:00\", its end later than its beginning and at most 24:00; one over midnight is two"
            );
            (format!("{key}[{at}]"), message)
        })?;
        if let Some(other) = spans.iter().position(|other| {
            other.from_minute < span.to_minute && span.from_minute < other.to_minute
        }) {
            let message = format!(
                "{text:?} overlaps {:?}: write spans that do not, like \"08:30-12:00\", \"14:00-17:30\"",
                texts[other]
            );
            return Err((format!("{key}[{at}]"), message));
        }
        spans.push(span);
    }
    spans.sort_unstable();
    Ok(spans)
}

fn span(text: &str) -> Option<DaySpan> {
    let (from, to) = text.split_once('-')?;
    let (from_minute, to_minute) = (
        local_time::minute(from.trim())?,
        local_time::minute(to.trim())?,
    );
    (from_minute < to_minute).then_some(DaySpan {
        from_minute,
        to_minute,
    })
}

fn range(key: &str, text: &str) -> Result<(Date, Date), Wrong> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (day(key, first)?, day(key, last)?);
    if last < first {
        let message = format!(
            "{text:?} ends before it begins: write the earlier day first, like \"2026-01-01..2026-01-03\""
        );
        return Err((key.to_owned(), message));
    }
    Ok((first, last))
}

fn day(key: &str, text: &str) -> Result<Date, Wrong> {
    let plain = text.len() == 10
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit());
    text.parse::<Date>()
        .ok()
        .filter(|day| {
            plain && YEARS.contains(&day.year()) && local_time::midnight_ms(*day).is_some()
        })
        .ok_or_else(|| {
            let message = format!(
                "{text:?} is no day of the calendar: write it like \"2026-01-01\"; a range like \"2026-01-01..2026-01-03\" stands in days of a holiday"
            );
            (key.to_owned(), message)
        })
}
