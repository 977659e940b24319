//! Times of devices: which formats a mapping accepts, and the zone of those that carry none.
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::capture::{Capture, Plan, Slot};
use super::file::{MappingError, check_pointer, wrong};
use super::{Reject, shortened};
use crate::time::in_zone;

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

/// Where the time is, and how to read it.
pub struct Times {
    slot: Slot,
    pointer: String,
    formats: Vec<Format>,
    zone: TimeZone,
    shown: String,
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
        let shown = file.formats.join(", ");
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
            pointer: file.pointer,
            formats,
            zone,
            shown,
        })
    }

    /// The time's text, and the time in milliseconds since 1970 UTC.
    pub fn read<'a>(&self, item: &'a Capture<'_>) -> Result<(&'a str, i64), Reject> {
        let text = item.get(self.slot).ok_or_else(|| Reject::Missing {
            field: "occurred_at",
            pointer: self.pointer.clone(),
        })?;
        self.formats
            .iter()
            .find_map(|format| format.parse(text, &self.zone))
            .map(|device_ms| (text, device_ms))
            .ok_or_else(|| Reject::Time {
                value: shortened(text).to_owned(),
                formats: self.shown.clone(),
            })
    }
}

impl Format {
    fn parse(&self, text: &str, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Rfc3339 => text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(|time| time.as_millisecond()),
            Self::EpochSeconds => match text.parse::<i64>() {
                Ok(seconds) => seconds.checked_mul(1000),
                // With a fraction; what is beyond the range saturates and is not believed then.
                Err(_) => text
                    .parse::<f64>()
                    .ok()
                    .filter(|seconds| seconds.is_finite())
                    .map(|seconds| (seconds * 1000.0) as i64),
            },
            Self::EpochMillis => text.parse().ok(),
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
