//! Mapping tables: how a source's messages become events.
//!
//! A mapping is a TOML file. Its JSON pointers (RFC 6901) locate values; a row of CSV is an object of its columns.
//! Only declared values are taken, and each attribute declares the purpose that it is kept for; everything else of a
//! message is dropped.
//!
//! ```toml
//! schema = 1
//! items = "/data"                    # position of the array; left out: the message is one item
//! id = "/incidentNo"                 # the source's own id: makes a push idempotent
//! device = { value = "110-desk" }
//! address = "/place"
//! retention = "incident"
//! keep_raw = false
//!
//! [kind]
//! pointer = "/nature"
//! table = { "FIGHT" = "dispute.reported" }
//! otherwise = "skip"                 # "skip", "reject", or a value, for values that are not in the table
//!
//! [occurred_at]
//! pointer = "/time"
//! formats = ["%Y-%m-%d %H:%M:%S"]    # also "rfc3339", "epoch_s", "epoch_ms"
//! zone = "Asia/Shanghai"             # for times that carry none; other spellings are read too, see `time`
//!
//! [replayed]                         # items with one of these values report the past; `replayed = true`: all of them do
//! pointer = "/history"
//! values = ["true"]
//!
//! [[only]]                           # items with none of these values are left out
//! pointer = "/status"
//! values = ["1"]
//!
//! [state]                            # the event is a state: repeats of a known one are no events
//! point = "smoke"                    # unique within the device
//! active = ["smoke.alarm"]           # the kinds that are on; all others are off
//! # instead of `active`, if one value decides for many kinds whether they begin or end:
//! # by = "/status"                   # position of that value
//! # on = ["1", "3"]                  # begins or goes on; under another id it has begun anew
//! # off = ["2"]                      # is over: of the kind in `over`, `info`, its id that of its beginning and "/over"
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
//! pseudonym = "card"                 # "card", "employee" or "name": a keyed pseudonym, or nothing if they are off
//! ```
//!
//! A field with `missing = "skip"` leaves out an item without the value; with `"reject"` that is an error. The
//! default for `kind` is `"reject"`. A pointer may be several, `["/payload/state", "/payload"]`: the first that finds
//! a value counts.
//!
//! An item is lost only because of its kind, or because a rule requires it (`only`, `skip`, `required`). A value that is
//! one flipped bit away from one of the mapping's is rejected and not left out ([`misspelling`](super::misspelling)). Any other
//! broken field affects only itself: a value that is not in its table stays as it is, an unknown severity becomes the
//! loudest of its table, a name that is too long becomes its front and a hash. Values are recognised in other
//! spellings too, see `words`; numbers keep their digits. Nearly valid JSON, and several documents in one body, are
//! read item by item ([`lenient_json`](super::lenient_json)); a damaged item is an event if its kind is intact, and
//! else rejected.
//!
//! The way of a message: [`capture`] reads the pointed values in one pass, [`Mapping::map`] builds a [`Draft`] from
//! them that borrows from the message, and `intake` packs that at once. So an event has no tree and no strings of its
//! own at the edge. `file` reads and checks the TOML, `time` the times.
pub mod capture;
mod field;
mod file;
mod items;
mod state;
mod time;
mod words;

use linli_shared::protocol::event::{Draft, PlaceDraft, Severity};
use linli_shared::protocol::ids::{Lane, Retention};
use linli_shared::protocol::limits::RAW_BYTES_MAX;
use std::borrow::Cow;

use capture::{Capture, Plan, Slot};
use field::Field;
pub use file::MappingFile;
pub use items::MessageError;
use state::{StateRule, Turn};
use time::Times;

use crate::time::Claim;

use super::bounded;
use super::device_event::{self, Person, State};
use words::{Table, Words};

/// Suffix of the id of an end, behind that of its beginning.
const END: &str = "/over";

/// The rule of a mapping that leaves an item out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// `otherwise = "skip"` of a table.
    #[error("table for {0}")]
    Table(&'static str),
    /// `missing = "skip"` of a field.
    #[error("missing = \"skip\" of {0}")]
    Missing(&'static str),
    /// `[[only]]`
    #[error("[[only]]")]
    Only,
    /// `[state]`: the end of a kind that is no state.
    #[error("[state]")]
    State,
}

/// Why a message did not become an event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Reject {
    /// The mapping leaves the message out: not an error.
    #[error("left out by the mapping's {0}")]
    Filtered(Rule),
    /// A required field is missing.
    #[error("no {field} at {pointer}: the message has no such value")]
    Missing {
        /// The field.
        field: &'static str,
        /// Its pointer.
        pointer: String,
    },
    /// The mapping's table does not have the value.
    #[error("{field} {value:?} is not in the mapping's table: add it, or set otherwise = \"skip\"")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The value, shortened.
        value: String,
    },
    /// The value is the damaged spelling of one of the mapping's.
    #[error("{field} {value:?} is damaged: {why}")]
    Misspelt {
        /// The field.
        field: &'static str,
        /// The value, shortened.
        value: String,
        /// How it shows.
        why: String,
    },
    /// The event breaks a limit of the event model.
    #[error("{0}")]
    Event(String),
    /// The item is damaged, and the rest of it is no event.
    #[error("{why}: {reject}")]
    Damaged {
        /// The damage.
        why: String,
        /// Why the rest is no event.
        reject: Box<Self>,
    },
    /// A known state: not an error.
    #[error("the state is as it was")]
    Repeated,
}

impl From<device_event::Reject> for Reject {
    fn from(reject: device_event::Reject) -> Self {
        Self::Event(reject.reason)
    }
}

impl Reject {
    fn misspelt(field: &'static str, value: &str, why: String) -> Self {
        Self::Misspelt {
            field,
            value: shortened(value).to_owned(),
            why,
        }
    }

    fn misspelt_key(field: &'static str, key: &str) -> Self {
        Self::misspelt(field, key, "it is nearly the key of the value".to_owned())
    }

    /// The item is valid, and creates no event.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::Filtered(_) | Self::Repeated)
    }
}

/// A mapped item, with its lane.
#[derive(Debug)]
pub struct Mapped<'a> {
    /// The event; its times are the caller's to decide.
    pub draft: Draft<'a>,
    /// Time of the event, by the message.
    pub claim: Claim<'a>,
    /// The mapping marks it as reporting the past.
    pub replayed: bool,
    /// For an end with an id: the id of its event; the draft has that of its beginning.
    pub end_id: Option<String>,
    /// Lane of the event.
    pub lane: Lane,
    /// Retention class of the event.
    pub retention: Retention,
    /// Persons present: each becomes a pseudonym, or is dropped.
    pub persons: Vec<(Person, &'a str)>,
    /// The state that the event reports.
    pub state: Option<State<'a>>,
    /// It is an event even if the state is known: its own id identifies the occurrence. One point can have several at
    /// once, and they may arrive in any order. The spool recognises a repeat by the id.
    pub anew: bool,
}

/// The items that report the past.
#[derive(Debug, Clone)]
enum Replayed {
    All(bool),
    Where(Slot, Words),
}

/// A value that an item needs, or it is left out.
struct Only {
    slot: Slot,
    values: Words,
    /// Takes a damaged key of the value.
    near: Option<Slot>,
}

struct Attribute {
    name: String,
    slot: Slot,
    table: Table,
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
    /// Attributes by name.
    attributes: Vec<Attribute>,
    persons: Vec<(Person, Slot)>,
    only: Vec<Only>,
    state: Option<StateRule>,
}

/// The front of a text, for an error.
fn shortened(text: &str) -> &str {
    const SHOWN_CHARS: usize = 60;
    let end = text.char_indices().nth(SHOWN_CHARS);
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

impl Only {
    fn check(&self, item: &Capture<'_>) -> Result<(), Reject> {
        let Some(found) = item.get(self.slot) else {
            return Err(match self.near.and_then(|slot| item.get(slot)) {
                Some(key) => Reject::misspelt_key("only", key),
                None => Reject::Filtered(Rule::Only),
            });
        };
        if self.values.has(found) {
            return Ok(());
        }
        Err(match self.values.damage(found) {
            Some(why) => Reject::misspelt("only", found, why),
            None => Reject::Filtered(Rule::Only),
        })
    }
}

fn take<'a>(field: &'a Option<Field>, item: &'a Capture<'_>) -> Result<&'a str, Reject> {
    let found = field.as_ref().map(|field| field.take(item)).transpose()?;
    Ok(found.flatten().unwrap_or_default())
}

impl Mapping {
    /// An item to be filled by the columns of a row.
    pub fn row<'m>(&self) -> Capture<'m> {
        self.plan.capture()
    }

    /// The slot of a column; `None` if the mapping does not use it.
    pub fn column(&self, name: &str) -> Option<Slot> {
        self.plan.column(name)
    }

    /// The names of the CSV columns that the mapping uses.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.plan.columns()
    }

    /// Whether its events are states.
    pub fn has_states(&self) -> bool {
        self.state.is_some()
    }

    /// Whether its events have ids if the messages do.
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Whether the message is kept beside its event.
    pub fn keeps_raw(&self) -> bool {
        self.keep_raw
    }

    /// Maps one item to its event; packing checks the limits of the event model. A damaged item is an event if its
    /// rest is sufficient, and else rejected, never left out.
    pub fn map<'a>(&'a self, item: &'a Capture<'_>) -> Result<Mapped<'a>, Reject> {
        let mapped = self.mapped(item);
        match &item.damage {
            None => mapped,
            Some(why) => mapped.map_err(|reject| Reject::Damaged {
                why: why.clone(),
                reject: Box::new(reject),
            }),
        }
    }

    fn mapped<'a>(&'a self, item: &'a Capture<'_>) -> Result<Mapped<'a>, Reject> {
        for only in &self.only {
            only.check(item)?;
        }
        let kind = self.kind.take(item)?.unwrap_or_default();
        let severity = match &self.severity {
            None => Severity::Info,
            Some(field) => field.severity(item)?,
        };
        let turn = match &self.state {
            Some(rule) => rule.turn(item, kind)?,
            None => Turn::None,
        };
        let (state, ended) = match turn {
            Turn::None => (None, None),
            Turn::On(state) => (Some(state), None),
            Turn::Over(state, end) => (Some(state), Some(end)),
        };
        let (kind, severity) = match ended {
            Some(end) => (end, Severity::Info),
            None => (kind, severity),
        };
        let source_id = take(&self.id, item)?;
        // An end has the id of its beginning, and would be taken for a repeat of it.
        let is_named_end = ended.is_some() && !source_id.is_empty();
        let end_id = is_named_end.then(|| {
            let id = Cow::Owned(format!("{source_id}{END}"));
            bounded::bounded(id).into_owned()
        });
        // One more for an implausible time of the device.
        let mut attributes = Vec::with_capacity(self.attributes.len() + 1);
        for attribute in &self.attributes {
            if let Some(value) = item.get(attribute.slot) {
                let value = attribute.table.get(value).unwrap_or(value);
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
            Replayed::Where(slot, values) => item.get(*slot).is_some_and(|value| values.has(value)),
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
            anew: state.is_some() && !source_id.is_empty(),
            state,
        })
    }
}

/// Default lane by severity.
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
