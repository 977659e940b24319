//! Times of a mapping: the declared formats, and the zone of those that carry none.
//!
//! Declared formats are tried first, in their order; other texts are read by [`crate::time::read`]. An unreadable
//! time loses the time and never the event.
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::borrow::Cow;

use super::capture::{Capture, Plan, Slot};
use super::file::{MappingError, check_pointer, wrong};
use super::shortened;
use crate::time::{Claim, in_zone, read};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeFile {
    pointer: String,
    #[serde(default = "default_formats")]
    formats: Vec<String>,
    #[serde(default = "default_zone")]
    zone: String,
}

fn default_formats() -> Vec<String> {
    vec!["rfc3339".to_owned(), "%Y-%m-%d %H:%M:%S".to_owned()]
}

fn default_zone() -> String {
    "Asia/Shanghai".to_owned()
}

/// The position of the time, and its formats.
pub struct Times {
    slot: Slot,
    formats: Vec<Format>,
    zone: TimeZone,
}

enum Format {
    Rfc3339,
    EpochSeconds,
    EpochMillis,
    Strptime(String),
}

impl Times {
    pub fn new(file: TimeFile, plan: &mut Plan) -> Result<Self, MappingError> {
        check_pointer("occurred_at.pointer", &file.pointer)?;
        let zone = TimeZone::get(&file.zone).map_err(|_| {
            wrong(
                "occurred_at.zone",
                format!(
                    "{:?} is no time zone of the IANA database, like \"Asia/Shanghai\"",
                    file.zone
                ),
            )
        })?;
        let formats = file
            .formats
            .into_iter()
            .map(|format| match format.as_str() {
                "rfc3339" => Ok(Format::Rfc3339),
                "epoch_s" => Ok(Format::EpochSeconds),
                "epoch_ms" => Ok(Format::EpochMillis),
                pattern if pattern.contains('%') => Ok(Format::Strptime(format)),
                _ => Err(wrong(
                    "occurred_at.formats",
                    format!(
                        "{format:?} is no format: use \"rfc3339\", \"epoch_s\", \"epoch_ms\" or a pattern like \"%Y-%m-%d %H:%M:%S\""
                    ),
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if formats.is_empty() {
            return Err(wrong("occurred_at.formats", "needs at least one format"));
        }
        Ok(Self {
            slot: plan.slot(&file.pointer),
            formats,
            zone,
        })
    }

    /// The time that an item claims.
    pub fn read<'a>(&self, item: &'a Capture<'_>) -> Claim<'a> {
        let Some(text) = item.get(self.slot) else {
            return Claim::None;
        };
        let declared = self
            .formats
            .iter()
            .find_map(|format| format.parse(text, &self.zone));
        match declared.or_else(|| read(text, &self.zone)) {
            Some(ms) => Claim::Ms(ms),
            None => Claim::Unreadable(Cow::Borrowed(shortened(text))),
        }
    }
}

impl Format {
    fn parse(&self, text: &str, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Rfc3339 => text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(|time| time.as_millisecond()),
            // Zero means a clock or a field that was never set; longer numbers have a finer unit, which `read` knows.
            Self::EpochSeconds => match text.parse::<i64>() {
                Ok(seconds) if (9..=11).contains(&text.len()) => seconds.checked_mul(1000),
                _ => None,
            },
            Self::EpochMillis => text.parse().ok().filter(|_| text.len() == 13),
            Self::Strptime(pattern) => {
                let broken = jiff::fmt::strtime::parse(pattern, text).ok()?;
                if let Ok(time) = broken.to_timestamp() {
                    return Some(time.as_millisecond());
                }
                let civil = broken.to_datetime().ok()?;
                in_zone(civil, zone)
            }
        }
    }
}
