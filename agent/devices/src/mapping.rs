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
//! zone = "Asia/Shanghai"             # for times that carry none; other spellings are read too, see `time`
//!
//! [replayed]                         # items whose value is one of these report the past; `replayed = true`: all of them do
//! pointer = "/history"
//! values = ["true"]
//!
//! [[only]]                           # items whose value is none of these are left out
//! pointer = "/status"
//! values = ["1"]
//!
//! [state]                            # the event is a state: repeats of one that is known are no events
//! point = "smoke"                    # unique within the device
//! active = ["smoke.alarm"]           # the kinds that are on; all others are off
//! # in place of `active`, where one value says of many kinds whether they begin or end:
//! # by = "/status"                   # where it says so
//! # on = ["1", "3"]                  # begins or goes on; under another id it has begun anew
//! # off = ["2"]                      # is over: of the kind that `over` has, `info`, its id that of its beginning and "/over"
//! # over = { "smoke.alarm" = "smoke.restored" }   # a kind that is not here is no state: each is an event, its end left out
//! # pointer = "/eventType"           # the value here is part of the point
//!
//! [attributes.nature]
//! pointer = "/nature"
//! purpose = "type of dispute for dispatch"
//!
//! [attributes.card]
//! pointer = "/cardNo"
//! purpose = "the same card at several doors"
//! pseudonym = "card"                 # "card", "employee" or "name": a keyed pseudonym, or nothing where they are off
//! ```
//!
//! A field with `missing = "skip"` leaves out an item that has no such value; with `"reject"` that is an error. `kind` is
//! `"reject"` unless it says otherwise.
//!
//! The way of a message: [`capture`] reads in one pass what the mapping points at, [`Mapping::map`] makes
//! a [`Draft`] of it that borrows from the message, and `intake` packs that at once. So an event has no
//! tree and no strings of its own at the edge. `file` reads and checks the TOML, `time` the times.
pub mod capture;
mod file;
mod state;
mod time;

use linli_shared::protocol::event::{Draft, PlaceDraft, Severity};
use linli_shared::protocol::ids::{Lane, Retention};
use linli_shared::protocol::limits::RAW_BYTES_MAX;
use std::borrow::Cow;
use std::collections::BTreeMap;

use capture::{Capture, Plan, Slot};
pub use file::MappingFile;
use state::{StateRule, Turn};
use time::Times;

use crate::time::Claim;

use super::bounded;
use super::device_event::{self, Person, State};

/// What the id of an end has behind that of its beginning.
const END: &str = "/over";

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
    /// The event breaks a limit of the event model.
    #[error("{0}")]
    Event(String),
    /// A state that is known: not an error.
    #[error("the state is as it was")]
    Repeated,
}

impl From<device_event::Reject> for Reject {
    fn from(reject: device_event::Reject) -> Self {
        Self::Event(reject.reason)
    }
}

impl Reject {
    /// The item is as it should be, and no event comes of it.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::Filtered { .. } | Self::Repeated)
    }
}

/// An item as the mapping sees it, with the way that it goes.
#[derive(Debug)]
pub struct Mapped<'a> {
    /// The event; its times are the caller's to decide.
    pub draft: Draft<'a>,
    /// When it happened, by the message.
    pub claim: Claim<'a>,
    /// The mapping says that it reports the past.
    pub replayed: bool,
    /// Of an end that has an id: the id of its event, in place of that of its beginning, which the draft has.
    pub end_id: Option<String>,
    /// Its lane.
    pub lane: Lane,
    /// Its retention class.
    pub retention: Retention,
    /// Who was there: to become pseudonyms, or to be dropped.
    pub persons: Vec<(Person, &'a str)>,
    /// The state that it is.
    pub state: Option<State<'a>>,
    /// It is an event also where the state is known: its id says which occurrence begins or ends, and one point can have
    /// several at once. What is only said again the spool knows by the id.
    pub anew: bool,
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
    /// Slot and pointer.
    place: Option<(Slot, String)>,
    value: Option<String>,
    table: BTreeMap<String, String>,
    otherwise: Otherwise,
    required: bool,
    skip_missing: bool,
}

/// Which items report the past.
#[derive(Debug, Clone)]
enum Replayed {
    All(bool),
    Where(Slot, Vec<String>),
}

struct Attribute {
    name: String,
    slot: Slot,
    table: BTreeMap<String, String>,
}

/// A mapping that has been checked and is ready to use.
pub struct Mapping {
    source: String,
    plan: Plan,
    items: Option<String>,
    id: Option<Field>,
    kind: Field,
    severity: Option<Field>,
    device: Option<Field>,
    building: Option<Field>,
    unit: Option<Field>,
    address: Option<Field>,
    occurred_at: Option<Times>,
    replayed: Replayed,
    lane: Option<Lane>,
    retention: Retention,
    keep_raw: bool,
    /// By name.
    attributes: Vec<Attribute>,
    persons: Vec<(Person, Slot)>,
    only: Vec<(Slot, Vec<String>)>,
    state: Option<StateRule>,
}

/// The front of a text that an error shows.
fn shortened(text: &str) -> &str {
    const SHOWN_CHARS: usize = 60;
    let end = text.char_indices().nth(SHOWN_CHARS);
    &text[..end.map_or(text.len(), |(end, _)| end)]
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

    fn take<'a>(&'a self, item: &'a Capture<'_>) -> Result<Option<&'a str>, Reject> {
        let found = self
            .place
            .as_ref()
            .and_then(|(slot, _)| item.get(*slot))
            .or(self.value.as_deref());
        let Some(found) = found else {
            if self.skip_missing {
                return Err(Reject::Filtered { field: self.name });
            }
            if self.required {
                return Err(Reject::Missing {
                    field: self.name,
                    pointer: self
                        .place
                        .as_ref()
                        .map(|(_, pointer)| pointer.clone())
                        .unwrap_or_default(),
                });
            }
            return Ok(None);
        };
        if self.table.is_empty() {
            return Ok(Some(found));
        }
        if let Some(mapped) = self.table.get(found) {
            return Ok(Some(mapped));
        }
        match &self.otherwise {
            Otherwise::Keep => Ok(Some(found)),
            Otherwise::Skip => Err(Reject::Filtered { field: self.name }),
            Otherwise::Value(value) => Ok(Some(value)),
            Otherwise::Reject => Err(Reject::Unknown {
                field: self.name,
                value: shortened(found).to_owned(),
            }),
        }
    }
}

fn take<'a>(field: &'a Option<Field>, item: &'a Capture<'_>) -> Result<&'a str, Reject> {
    let found = field.as_ref().map(|field| field.take(item)).transpose()?;
    Ok(found.flatten().unwrap_or_default())
}

/// Why a body gives no items at all.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The array of items is not there.
    #[error("no array at {0}: the mapping's items points at it")]
    NoItems(String),
}

impl Mapping {
    /// Reads a message and calls `each` with every item of it. An error can come after items: they are whole, and what
    /// follows them is not.
    pub fn items<'m>(
        &self,
        message: &'m str,
        each: &mut dyn FnMut(&Capture<'m>),
    ) -> Result<(), MessageError> {
        let pointer = match &self.items {
            Some(pointer) => pointer.as_str(),
            None if message.trim_start().starts_with('[') => "",
            None => {
                each(&self.item(message)?);
                return Ok(());
            }
        };
        if self.plan.items(message, pointer, self.keep_raw, each)? {
            Ok(())
        } else {
            Err(MessageError::NoItems(pointer.to_owned()))
        }
    }

    /// Reads a text that is one item.
    pub fn item<'m>(&self, text: &'m str) -> Result<Capture<'m>, serde_json::Error> {
        let mut item = self.plan.capture();
        self.plan.item(text, &mut item)?;
        Ok(item)
    }

    /// An item to be filled by the columns of a row.
    pub fn row<'m>(&self) -> Capture<'m> {
        self.plan.capture()
    }

    /// Where a column goes; `None` for one that the mapping does not point at.
    pub fn column(&self, name: &str) -> Option<Slot> {
        self.plan.column(name)
    }

    /// Columns of CSV that it points at, by their names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.plan.columns()
    }

    /// Its events are states.
    pub fn has_states(&self) -> bool {
        self.state.is_some()
    }

    /// Its events have ids where the messages give them.
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// The message is kept beside its event.
    pub fn keeps_raw(&self) -> bool {
        self.keep_raw
    }

    /// The event of one item; whether it keeps to the limits of the event model is seen when it is packed.
    pub fn map<'a>(&'a self, item: &'a Capture<'_>) -> Result<Mapped<'a>, Reject> {
        for (slot, values) in &self.only {
            let value = item.get(*slot);
            if !value.is_some_and(|value| values.iter().any(|wanted| wanted == value)) {
                return Err(Reject::Filtered { field: "only" });
            }
        }
        let kind = self.kind.take(item)?.unwrap_or_default();
        let severity = match &self.severity {
            None => Severity::Info,
            Some(field) => {
                let name = field.take(item)?.unwrap_or("info");
                Severity::from_name(name).ok_or_else(|| Reject::Unknown {
                    field: "severity",
                    value: shortened(name).to_owned(),
                })?
            }
        };
        let turn = match &self.state {
            Some(rule) => rule.turn(item, kind)?,
            None => Turn::None,
        };
        let (state, ended, by_value) = match turn {
            Turn::None => (None, None, false),
            Turn::Kind(state) => (Some(state), None, false),
            Turn::Begun(state) => (Some(state), None, true),
            Turn::Over(state, end) => (Some(state), Some(end), true),
        };
        let (kind, severity) = match ended {
            Some(end) => (end, Severity::Info),
            None => (kind, severity),
        };
        let source_id = take(&self.id, item)?;
        // It comes under the id of its beginning, and would be taken for a repetition of it.
        let is_named_end = ended.is_some() && !source_id.is_empty();
        let end_id = is_named_end.then(|| {
            let id = Cow::Owned(format!("{source_id}{END}"));
            bounded::bounded(id).into_owned()
        });
        // One more for the time of a device that cannot be.
        let mut attributes = Vec::with_capacity(self.attributes.len() + 1);
        for attribute in &self.attributes {
            if let Some(value) = item.get(attribute.slot) {
                let value = attribute.table.get(value).map_or(value, String::as_str);
                attributes.push((attribute.name.as_str(), bounded::attribute(value)));
            }
        }
        let mut draft = Draft {
            kind,
            severity,
            source: &self.source,
            source_id,
            device: take(&self.device, item)?,
            place: PlaceDraft {
                building: take(&self.building, item)?,
                unit: take(&self.unit, item)?,
                address: take(&self.address, item)?,
            },
            attributes,
            ..Draft::default()
        };
        let claim = match &self.occurred_at {
            Some(times) => times.read(item),
            None => Claim::None,
        };
        let replayed = match &self.replayed {
            Replayed::All(replayed) => *replayed,
            Replayed::Where(slot, values) => item
                .get(*slot)
                .is_some_and(|value| values.iter().any(|wanted| wanted == value)),
        };
        if self.keep_raw {
            let raw = item.raw.as_deref().map(str::as_bytes);
            draft.raw = raw.filter(|raw| raw.len() <= RAW_BYTES_MAX);
        }
        let persons = self.persons.iter();
        Ok(Mapped {
            draft,
            claim,
            replayed,
            end_id,
            lane: self.lane.unwrap_or_else(|| lane_of(severity)),
            retention: self.retention,
            persons: persons
                .filter_map(|(person, slot)| Some((*person, item.get(*slot)?)))
                .collect(),
            anew: by_value && !source_id.is_empty(),
            state,
        })
    }
}

/// Routes by severity where nothing else is said.
pub fn lane_of(severity: Severity) -> Lane {
    if severity >= Severity::Alarm {
        Lane::Urgent
    } else {
        Lane::Routine
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod presets;
