//! Mapping tables: how a source's messages become events.
//!
//! A mapping is a TOML file. Its JSON pointers (RFC 6901) say where a value stands; a row of CSV is an
//! object of its columns. Only what a mapping declares is taken, and each attribute declares the
//! purpose that it is kept for; everything else of a message is dropped.
//!
//! ```toml
//! schema = 1
//! items = "/data"                    # where the array is; left out: the message is one item
//! id = "/incidentNo"                 # the source's own id: makes a push idempotent
//! device = { value = "110-desk" }
//! address = "/place"
//! retention = "incident"
//! keep_raw = false
//!
//! [kind]
//! pointer = "/nature"
//! table = { "FIGHT" = "dispute.reported" }
//! otherwise = "skip"                 # "skip", "reject", or a value for what is not in the table
//!
//! [occurred_at]
//! pointer = "/time"
//! formats = ["%Y-%m-%d %H:%M:%S"]    # also "rfc3339", "epoch_s", "epoch_ms"
//! zone = "Asia/Shanghai"             # for times that carry none
//!
//! [attributes.nature]
//! pointer = "/nature"
//! purpose = "type of dispute for dispatch"
//! ```
use jiff::tz::TimeZone;
use linli_shared::protocol::event::{ClockQuality, Event, Place, Severity, is_kind};
use linli_shared::protocol::ids::{Lane, Retention};
use linli_shared::protocol::limits::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, RAW_BYTES_MAX};
use linli_shared::service::clock;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::intake::Admitted;

/// A device time further ahead than this is not believed, milliseconds.
pub const FUTURE_MS_MAX: i64 = 5 * 60 * 1000;

/// Whether a message tells of now or of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// A push: a time before 2020 comes from a clock that was not set.
    Live,
    /// An import: any past time is good.
    Backlog,
}

/// Where one field comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum FieldFile {
    Pointer(String),
    Full(Full),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    pointer: Option<String>,
    value: Option<String>,
    #[serde(default)]
    table: BTreeMap<String, String>,
    otherwise: Option<String>,
    #[serde(default)]
    required: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeFile {
    pointer: String,
    #[serde(default = "default_formats")]
    formats: Vec<String>,
    #[serde(default = "default_zone")]
    zone: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeFile {
    pointer: String,
    purpose: String,
    #[serde(default)]
    table: BTreeMap<String, String>,
}

/// A mapping as its file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    schema: u32,
    items: Option<String>,
    id: Option<FieldFile>,
    kind: FieldFile,
    severity: Option<FieldFile>,
    device: Option<FieldFile>,
    building: Option<FieldFile>,
    unit: Option<FieldFile>,
    address: Option<FieldFile>,
    occurred_at: Option<TimeFile>,
    lane: Option<Lane>,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    keep_raw: bool,
    #[serde(default)]
    attributes: BTreeMap<String, AttributeFile>,
}

fn default_formats() -> Vec<String> {
    vec!["rfc3339".to_owned(), "%Y-%m-%d %H:%M:%S".to_owned()]
}

fn default_zone() -> String {
    "Asia/Shanghai".to_owned()
}

/// A mapping file is wrong: the key and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key}: {message}")]
pub struct MappingError {
    /// Dotted key.
    pub key: String,
    /// What is wrong and how to put it right.
    pub message: String,
}

/// Why a message did not become an event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Reject {
    /// The mapping leaves it out: not an error.
    #[error("left out by the mapping's table for {field}")]
    Filtered {
        /// The field.
        field: &'static str,
    },
    /// A field that must be there is not.
    #[error("no {field} at {pointer}: the message has no such value")]
    Missing {
        /// The field.
        field: &'static str,
        /// Where it was looked for.
        pointer: String,
    },
    /// A value that the mapping's table does not know.
    #[error("{field} {value:?} is not in the mapping's table: add it, or set otherwise = \"skip\"")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The value, shortened.
        value: String,
    },
    /// A time in no known form.
    #[error(
        "time {value:?} has none of the mapping's formats ({formats}): add its format to occurred_at.formats"
    )]
    Time {
        /// The value, shortened.
        value: String,
        /// The formats.
        formats: String,
    },
    /// The array of items is not there.
    #[error("no array at {pointer}: the mapping's items points at it")]
    Items {
        /// Where it was looked for.
        pointer: String,
    },
    /// The event breaks a limit of the event model.
    #[error("{0}")]
    Event(String),
}

#[derive(Debug, Clone)]
enum Otherwise {
    Keep,
    Skip,
    Reject,
    Value(String),
}

#[derive(Debug, Clone)]
struct Field {
    name: &'static str,
    pointer: Option<String>,
    value: Option<String>,
    table: BTreeMap<String, String>,
    otherwise: Otherwise,
    required: bool,
}

enum Format {
    Rfc3339,
    EpochSeconds,
    EpochMillis,
    Strptime(String),
}

/// A mapping that has been checked and is ready to use.
pub struct Mapping {
    source: String,
    items: Option<String>,
    id: Option<Field>,
    kind: Field,
    severity: Option<Field>,
    device: Option<Field>,
    building: Option<Field>,
    unit: Option<Field>,
    address: Option<Field>,
    occurred_at: Option<(String, Vec<Format>, TimeZone, String)>,
    lane: Option<Lane>,
    retention: Retention,
    keep_raw: bool,
    attributes: Vec<(String, AttributeFile)>,
}

fn wrong(key: impl Into<String>, message: impl Into<String>) -> MappingError {
    MappingError {
        key: key.into(),
        message: message.into(),
    }
}

fn check_pointer(key: &str, pointer: &str) -> Result<(), MappingError> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(wrong(
        key,
        format!("{pointer:?} is not a JSON pointer: it starts with '/', like \"/{pointer}\""),
    ))
}

fn field(name: &'static str, file: FieldFile) -> Result<Field, MappingError> {
    let full = match file {
        FieldFile::Pointer(pointer) => Full {
            pointer: Some(pointer),
            ..Full::default()
        },
        FieldFile::Full(full) => full,
    };
    if let Some(pointer) = &full.pointer {
        check_pointer(name, pointer)?;
    }
    if full.pointer.is_none() && full.value.is_none() {
        return Err(wrong(
            name,
            "needs a pointer into the message or a fixed value",
        ));
    }
    let otherwise = match full.otherwise.as_deref() {
        None if full.table.is_empty() => Otherwise::Keep,
        None | Some("reject") => Otherwise::Reject,
        Some("skip") => Otherwise::Skip,
        Some("keep") => Otherwise::Keep,
        Some(value) => Otherwise::Value(value.to_owned()),
    };
    Ok(Field {
        name,
        pointer: full.pointer,
        value: full.value,
        table: full.table,
        otherwise,
        required: full.required,
    })
}

fn optional(name: &'static str, file: Option<FieldFile>) -> Result<Option<Field>, MappingError> {
    file.map(|file| field(name, file)).transpose()
}

/// The text of a JSON value that a field can take.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.trim())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|text| !text.is_empty())
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

impl Field {
    /// Every value that the mapping itself can give the field.
    fn results(&self) -> impl Iterator<Item = &String> {
        let otherwise = match &self.otherwise {
            Otherwise::Value(value) => Some(value),
            Otherwise::Keep | Otherwise::Skip | Otherwise::Reject => None,
        };
        self.table.values().chain(&self.value).chain(otherwise)
    }

    fn take<'v>(&'v self, item: &'v Value) -> Result<Option<Cow<'v, str>>, Reject> {
        let found = self
            .pointer
            .as_ref()
            .and_then(|pointer| item.pointer(pointer))
            .and_then(scalar)
            .or(self.value.as_deref().map(Cow::Borrowed));
        let Some(found) = found else {
            if self.required {
                return Err(Reject::Missing {
                    field: self.name,
                    pointer: self.pointer.clone().unwrap_or_default(),
                });
            }
            return Ok(None);
        };
        if self.table.is_empty() {
            return Ok(Some(found));
        }
        if let Some(mapped) = self.table.get(found.as_ref()) {
            return Ok(Some(Cow::Borrowed(mapped)));
        }
        match &self.otherwise {
            Otherwise::Keep => Ok(Some(found)),
            Otherwise::Skip => Err(Reject::Filtered { field: self.name }),
            Otherwise::Value(value) => Ok(Some(Cow::Borrowed(value))),
            Otherwise::Reject => Err(Reject::Unknown {
                field: self.name,
                value: shortened(&found),
            }),
        }
    }
}

fn take(field: &Option<Field>, item: &Value) -> Result<String, Reject> {
    let Some(field) = field else {
        return Ok(String::new());
    };
    Ok(field.take(item)?.map(Cow::into_owned).unwrap_or_default())
}

impl Mapping {
    /// Checks a mapping and makes it ready. `source` becomes the source of its events.
    pub fn new(source: &str, file: MappingFile) -> Result<Self, MappingError> {
        if file.schema != 1 {
            return Err(wrong(
                "schema",
                format!(
                    "{} is not known here: this version reads schema 1",
                    file.schema
                ),
            ));
        }
        if let Some(items) = &file.items {
            check_pointer("items", items)?;
        }
        let mut kind = field("kind", file.kind)?;
        kind.required = true;
        for value in kind.results() {
            if !is_kind(value) {
                return Err(wrong(
                    "kind",
                    format!("{value:?} is not a dotted lower-case kind like \"door.opened\""),
                ));
            }
        }
        let severity = optional("severity", file.severity)?;
        for value in severity.iter().flat_map(Field::results) {
            if Severity::from_name(value).is_none() {
                let names = Severity::ALL.map(Severity::as_str).join(", ");
                return Err(wrong("severity", format!("{value:?} is none of {names}")));
            }
        }
        let occurred_at = file.occurred_at.map(time).transpose()?;
        // One is left for the device's own time.
        if file.attributes.len() >= ATTRIBUTES_MAX {
            return Err(wrong(
                "attributes",
                format!("at most {} are accepted", ATTRIBUTES_MAX - 1),
            ));
        }
        for (name, attribute) in &file.attributes {
            check_pointer(&format!("attributes.{name}"), &attribute.pointer)?;
            if attribute.purpose.trim().is_empty() {
                return Err(wrong(
                    format!("attributes.{name}.purpose"),
                    "say what the value is kept for; data without a purpose is not taken",
                ));
            }
        }
        Ok(Self {
            source: source.to_owned(),
            items: file.items,
            id: optional("id", file.id)?,
            kind,
            severity,
            device: optional("device", file.device)?,
            building: optional("building", file.building)?,
            unit: optional("unit", file.unit)?,
            address: optional("address", file.address)?,
            occurred_at,
            lane: file.lane,
            retention: file.retention,
            keep_raw: file.keep_raw,
            attributes: file.attributes.into_iter().collect(),
        })
    }

    /// The items of a message.
    pub fn items<'v>(&self, message: &'v Value) -> Result<Vec<&'v Value>, Reject> {
        let Some(pointer) = &self.items else {
            return Ok(match message {
                Value::Array(items) => items.iter().collect(),
                single => vec![single],
            });
        };
        match message.pointer(pointer) {
            Some(Value::Array(items)) => Ok(items.iter().collect()),
            _ => Err(Reject::Items {
                pointer: pointer.clone(),
            }),
        }
    }

    /// The event of one item. `now_ms` is the agent's clock.
    pub fn map(&self, item: &Value, tense: Tense, now_ms: i64) -> Result<Admitted, Reject> {
        let kind = self
            .kind
            .take(item)?
            .map(Cow::into_owned)
            .unwrap_or_default();
        let severity = match &self.severity {
            None => Severity::Info,
            Some(field) => {
                let name = field.take(item)?;
                let name = name.as_deref().unwrap_or("info");
                Severity::from_name(name).ok_or_else(|| Reject::Unknown {
                    field: "severity",
                    value: shortened(name),
                })?
            }
        };
        let mut event = Event {
            kind,
            severity,
            received_at_ms: now_ms,
            occurred_at_ms: now_ms,
            clock: ClockQuality::Agent,
            source: self.source.clone(),
            source_id: take(&self.id, item)?,
            device: take(&self.device, item)?,
            place: Place {
                building: take(&self.building, item)?,
                unit: take(&self.unit, item)?,
                address: take(&self.address, item)?,
            },
            ..Event::default()
        };
        for (name, attribute) in &self.attributes {
            let Some(value) = item.pointer(&attribute.pointer).and_then(scalar) else {
                continue;
            };
            let value = attribute
                .table
                .get(value.as_ref())
                .cloned()
                .unwrap_or_else(|| value.into_owned());
            event.attributes.insert(name.clone(), bounded(value));
        }
        self.time(item, tense, now_ms, &mut event)?;
        if self.keep_raw {
            let raw = item.to_string().into_bytes();
            if raw.len() <= RAW_BYTES_MAX {
                event.raw = Some(serde_bytes::ByteBuf::from(raw));
            }
        }
        event
            .check()
            .map_err(|error| Reject::Event(error.to_string()))?;
        Ok(Admitted {
            lane: self.lane.unwrap_or_else(|| Admitted::lane_of(severity)),
            retention: self.retention,
            event,
        })
    }

    fn time(
        &self,
        item: &Value,
        tense: Tense,
        now_ms: i64,
        event: &mut Event,
    ) -> Result<(), Reject> {
        let Some((pointer, formats, zone, shown)) = &self.occurred_at else {
            return Ok(());
        };
        let Some(text) = item.pointer(pointer).and_then(scalar) else {
            return Err(Reject::Missing {
                field: "occurred_at",
                pointer: pointer.clone(),
            });
        };
        let device_ms = formats
            .iter()
            .find_map(|format| format.parse(&text, zone))
            .ok_or_else(|| Reject::Time {
                value: shortened(&text),
                formats: shown.clone(),
            })?;
        let ahead = clock::is_set(now_ms) && device_ms > now_ms + FUTURE_MS_MAX;
        let unset = tense == Tense::Live && !clock::is_set(device_ms);
        if ahead || unset {
            event.clock = ClockQuality::Implausible;
            event
                .attributes
                .insert("device_time".to_owned(), shortened(&text));
        } else {
            event.clock = ClockQuality::Device;
            event.occurred_at_ms = device_ms;
        }
        Ok(())
    }
}

/// Cuts a value at the limit, at a character's end.
fn bounded(mut value: String) -> String {
    if value.len() > ATTRIBUTE_BYTES_MAX {
        let end = (0..=ATTRIBUTE_BYTES_MAX)
            .rev()
            .find(|end| value.is_char_boundary(*end))
            .unwrap_or(0);
        value.truncate(end);
    }
    value
}

type Time = (String, Vec<Format>, TimeZone, String);

fn time(file: TimeFile) -> Result<Time, MappingError> {
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
    Ok((file.pointer, formats, zone, shown))
}

impl Format {
    fn parse(&self, text: &str, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Rfc3339 => text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(|time| time.as_millisecond()),
            Self::EpochSeconds => text.parse::<i64>().ok()?.checked_mul(1000),
            Self::EpochMillis => text.parse().ok(),
            Self::Strptime(pattern) => {
                let broken = jiff::fmt::strtime::parse(pattern, text).ok()?;
                if let Ok(time) = broken.to_timestamp() {
                    return Some(time.as_millisecond());
                }
                let civil = broken.to_datetime().ok()?;
                let time = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
                Some(time.as_millisecond())
            }
        }
    }
}

#[cfg(test)]
mod tests;
