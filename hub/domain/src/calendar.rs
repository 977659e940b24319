//! Working calendars (工作日历): when an organisation works, and how much working time lies between two times.
//! Pure: reads no clock and no file; `file` parses the text of one.
//!
//! A calendar covers the days from its first to its last, in the centre's local time (UTC+8, `local_time`).
//! Working time beyond these days is an error, never a guess.
//!
//! * Working time is counted in milliseconds and never rounded, so that adding and counting are exact
//!   inverses: `open_ms_between(t, add_open_ms(t, n)) == n`. Configs and people use minutes.
//! * An addition ends at the earliest time at which the working time has passed: 210 minutes from 08:30 end
//!   at 12:00, not at the beginning of the afternoon.
//! * A new calendar computes all its spans, each with the open time before it. Every query is a binary
//!   search, so its cost does not depend on the length of a term. A day has at most `SPANS_MAX` spans, a
//!   calendar at most `DAYS_MAX` days.

pub mod file;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use std::collections::BTreeMap;

use crate::local_time;

/// Name of the calendar that is always open, for urgent terms.
pub const ALWAYS: &str = "always";
/// Maximum number of days of a calendar: ten years.
pub const DAYS_MAX: usize = 3660;
/// Maximum number of spans of a day.
pub const SPANS_MAX: usize = 8;
/// Maximum length of a name, characters.
pub const NAME_CHARS_MAX: usize = 64;

const MINUTE_MS: i64 = 60_000;

/// A working calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    name: String,
    hours: Hours,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hours {
    /// Always open.
    Always,
    Days {
        from: Date,
        to: Date,
        /// Start of the first day.
        from_ms: i64,
        /// End of the last day.
        to_ms: i64,
        /// Ordered by time, free of overlaps, none empty.
        spans: Vec<Open>,
    },
}

/// A span of open time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    from_ms: i64,
    to_ms: i64,
    /// Open time of the calendar before this span.
    before_ms: i64,
}

/// The calendar ends before the time in question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "日历 {calendar} 只含 {from} 至 {to}，请换上更长的日历 / calendar {calendar} knows {from} to {to} only: put a longer one"
)]
pub struct Beyond {
    /// Name of the calendar.
    pub calendar: String,
    /// Its first day.
    pub from: Date,
    /// Its last day.
    pub to: Date,
}

/// Open minutes of a day, `from_minute` before `to_minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaySpan {
    /// First minute of the day.
    pub from_minute: u16,
    /// End, minute of the day, at most 1440.
    pub to_minute: u16,
}

impl Calendar {
    /// The calendar that is always open.
    pub fn always() -> Self {
        Self {
            name: ALWAYS.to_owned(),
            hours: Hours::Always,
        }
    }

    /// Computes the spans of the days from `from` to `to`. `file` guarantees that the spans of a day are
    /// ordered and free of overlaps, and that the clock can represent the days.
    fn of_days(name: &str, from: Date, to: Date, spans_of: impl Fn(Date) -> Vec<DaySpan>) -> Self {
        let mut spans = Vec::new();
        let mut before_ms = 0;
        let midnight = |day: Date| local_time::midnight_ms(day).unwrap_or_default();
        for day in from.series(jiff::Span::new().days(1)).take(DAYS_MAX) {
            if day > to {
                break;
            }
            for span in spans_of(day) {
                let midnight_ms = midnight(day);
                let from_ms = midnight_ms + i64::from(span.from_minute) * MINUTE_MS;
                let to_ms = midnight_ms + i64::from(span.to_minute) * MINUTE_MS;
                spans.push(Open {
                    from_ms,
                    to_ms,
                    before_ms,
                });
                before_ms += to_ms - from_ms;
            }
        }
        Self {
            name: name.to_owned(),
            hours: Hours::Days {
                from,
                to,
                from_ms: midnight(from),
                to_ms: midnight(to) + 24 * 60 * MINUTE_MS,
                spans,
            },
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if it is open at a time; false beyond its days.
    pub fn is_open(&self, at_ms: i64) -> bool {
        match &self.hours {
            Hours::Always => true,
            Hours::Days { spans, .. } => {
                let begun = spans.partition_point(|span| span.from_ms <= at_ms);
                begun > 0 && at_ms < spans[begun - 1].to_ms
            }
        }
    }

    /// The time at which `open_ms` of working time have passed since `from_ms`. Errors: [`Beyond`].
    pub fn add_open_ms(&self, from_ms: i64, open_ms: i64) -> Result<i64, Beyond> {
        if open_ms <= 0 {
            return Ok(from_ms);
        }
        let Hours::Days { spans, .. } = &self.hours else {
            return Ok(from_ms.saturating_add(open_ms));
        };
        let wanted_ms = self.open_before(from_ms)?.saturating_add(open_ms);
        // The last span that begins with less open time before it than wanted contains the time, or no span
        // does.
        let begun = spans.partition_point(|span| span.before_ms < wanted_ms);
        let at_ms = begun.checked_sub(1).map(|last| {
            let span = spans[last];
            (span.from_ms + (wanted_ms - span.before_ms), span.to_ms)
        });
        match at_ms {
            Some((at_ms, to_ms)) if at_ms <= to_ms => Ok(at_ms),
            _ => Err(self.beyond()),
        }
    }

    /// The time at which this many working minutes have passed since `from_ms`. Errors: [`Beyond`].
    pub fn add_minutes(&self, from_ms: i64, minutes: u32) -> Result<i64, Beyond> {
        self.add_open_ms(from_ms, i64::from(minutes) * MINUTE_MS)
    }

    /// Working time between two times, milliseconds; negative if the second is earlier. Errors: [`Beyond`].
    pub fn open_ms_between(&self, from_ms: i64, to_ms: i64) -> Result<i64, Beyond> {
        let before_ms = self.open_before(from_ms)?;
        Ok(self.open_before(to_ms)?.saturating_sub(before_ms))
    }

    /// Whole working minutes between two times. Errors: [`Beyond`].
    pub fn minutes_between(&self, from_ms: i64, to_ms: i64) -> Result<i64, Beyond> {
        Ok(self.open_ms_between(from_ms, to_ms)? / MINUTE_MS)
    }

    /// Working time between two times within the days of the calendar, milliseconds.
    pub fn known_open_ms_between(&self, from_ms: i64, to_ms: i64) -> i64 {
        let within = |ms: i64| match self.hours {
            Hours::Always => ms,
            Hours::Days {
                from_ms: first_ms,
                to_ms: last_ms,
                ..
            } => ms.clamp(first_ms, last_ms),
        };
        self.open_ms_between(within(from_ms), within(to_ms))
            .unwrap_or_default()
    }

    /// Open time before a time, counted from the first day, milliseconds.
    fn open_before(&self, at_ms: i64) -> Result<i64, Beyond> {
        let Hours::Days {
            from_ms,
            to_ms,
            spans,
            ..
        } = &self.hours
        else {
            return Ok(at_ms);
        };
        if !(*from_ms..=*to_ms).contains(&at_ms) {
            return Err(self.beyond());
        }
        let begun = spans.partition_point(|span| span.from_ms <= at_ms);
        Ok(begun.checked_sub(1).map_or(0, |last| {
            let span = spans[last];
            span.before_ms + at_ms.min(span.to_ms) - span.from_ms
        }))
    }

    fn beyond(&self) -> Beyond {
        let (from, to) = match self.hours {
            Hours::Always => (Date::MIN, Date::MAX),
            Hours::Days { from, to, .. } => (from, to),
        };
        Beyond {
            calendar: self.name.clone(),
            from,
            to,
        }
    }
}

/// The calendars of a centre, and the calendar of each organisation. An organisation without a calendar does
/// not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendars {
    by_name: BTreeMap<String, Calendar>,
    of_organisation: BTreeMap<String, String>,
}

impl Calendars {
    /// No calendars and no organisations.
    pub fn empty() -> Self {
        Self {
            by_name: BTreeMap::new(),
            of_organisation: BTreeMap::new(),
        }
    }

    /// `of_organisation` maps organisations to names of calendars; `always` exists implicitly. Errors: the
    /// duplicate or missing name.
    pub fn new(
        calendars: Vec<Calendar>,
        of_organisation: BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut by_name = BTreeMap::from([(ALWAYS.to_owned(), Calendar::always())]);
        for calendar in calendars {
            if let Some(other) = by_name.insert(calendar.name.clone(), calendar) {
                return Err(format!(
                    "there are two calendars of the name {:?}",
                    other.name
                ));
            }
        }
        for (organisation, name) in &of_organisation {
            if !by_name.contains_key(name) {
                let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
                return Err(format!(
                    "organisation {organisation:?}: calendar {name:?} is none of {}",
                    names.join(", ")
                ));
            }
        }
        Ok(Self {
            by_name,
            of_organisation,
        })
    }

    /// The calendar of an organisation; `None` if the organisation does not exist.
    pub fn of(&self, organisation: &str) -> Option<&Calendar> {
        self.named(self.of_organisation.get(organisation)?)
    }

    /// The calendar with this name.
    pub fn named(&self, name: &str) -> Option<&Calendar> {
        self.by_name.get(name)
    }
}
