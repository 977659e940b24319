//! The TOML of a mapping, and its checks.
use linli_shared::protocol::event::{Severity, is_kind};
use linli_shared::protocol::ids::{Lane, Retention};
use linli_shared::protocol::limits::ATTRIBUTES_MAX;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::capture::Plan;
use super::field::{Field, Otherwise};
use super::state::{ByValue, StateRule, Turns};
use super::time::{TimeFile, Times};
use super::words::{Table, Words};
use super::{Attribute, Mapping, Only, Replayed};
use crate::device_event::Person;

/// The source of one field.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum FieldFile {
    Pointer(Pointers),
    Full(Full),
}

/// One pointer, or several of which the first that finds a value counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Pointers {
    One(String),
    Several(Vec<String>),
}

impl Pointers {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(pointer) => vec![pointer],
            Self::Several(pointers) => pointers,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    pointer: Option<Pointers>,
    value: Option<String>,
    #[serde(default)]
    table: BTreeMap<String, String>,
    otherwise: Option<String>,
    #[serde(default)]
    required: bool,
    missing: Option<Missing>,
}

/// Treatment of an item without a required value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Missing {
    Reject,
    Skip,
}

/// The event is a state of a point of its device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    point: String,
    pointer: Option<String>,
    active: Option<Vec<String>>,
    by: Option<String>,
    #[serde(default)]
    on: Vec<String>,
    #[serde(default)]
    off: Vec<String>,
    #[serde(default)]
    over: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeFile {
    pointer: String,
    purpose: String,
    #[serde(default)]
    table: BTreeMap<String, String>,
    pseudonym: Option<Person>,
}

/// The items that report the past.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ReplayedFile {
    All(bool),
    Where {
        pointer: String,
        values: Vec<String>,
    },
}

/// Items with none of these values are left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyFile {
    pointer: String,
    values: Vec<String>,
}

/// A mapping as in its file.
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
    replayed: Option<ReplayedFile>,
    lane: Option<Lane>,
    state: Option<StateFile>,
    #[serde(default)]
    only: Vec<OnlyFile>,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    keep_raw: bool,
    #[serde(default)]
    attributes: BTreeMap<String, AttributeFile>,
}

/// An error in a mapping file: the key and the remedy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key}: {message}")]
pub struct MappingError {
    /// Dotted key.
    pub key: String,
    /// The fault and its remedy.
    pub message: String,
}

pub fn wrong(key: impl Into<String>, message: impl Into<String>) -> MappingError {
    MappingError {
        key: key.into(),
        message: message.into(),
    }
}

pub fn check_pointer(key: &str, pointer: &str) -> Result<(), MappingError> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(wrong(
        key,
        format!("{pointer:?} is not a JSON pointer: it starts with '/', like \"/{pointer}\""),
    ))
}

fn field(name: &'static str, file: FieldFile, plan: &mut Plan) -> Result<Field, MappingError> {
    let full = match file {
        FieldFile::Pointer(pointer) => Full {
            pointer: Some(pointer),
            ..Full::default()
        },
        FieldFile::Full(full) => full,
    };
    let pointers = full.pointer.map(Pointers::into_vec).unwrap_or_default();
    for pointer in &pointers {
        check_pointer(name, pointer)?;
    }
    if pointers.is_empty() && full.value.is_none() {
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
    let skip_missing = full.missing == Some(Missing::Skip);
    let near = match skip_missing {
        true => pointers
            .iter()
            .filter_map(|pointer| plan.near_slot(pointer))
            .collect(),
        false => Vec::new(),
    };
    Ok(Field {
        name,
        near,
        places: pointers
            .into_iter()
            .map(|pointer| {
                let slot = match name {
                    "kind" | "severity" => plan.slot(&pointer),
                    _ => plan.name_slot(&pointer),
                };
                (slot, pointer)
            })
            .collect(),
        value: full.value,
        table: Table::new(full.table),
        otherwise,
        required: full.required || full.missing.is_some(),
        skip_missing,
    })
}

/// Checks `[state]` of a mapping with these kinds.
fn state(file: StateFile, kind: &Field, plan: &mut Plan) -> Result<StateRule, MappingError> {
    let results: Vec<&String> = kind.results().collect();
    let given = |key: &str, kind: &String| {
        if results.is_empty() || results.contains(&kind) {
            return Ok(());
        }
        let message = format!("{kind:?} is no kind that this mapping gives");
        Err(wrong(key, message))
    };
    let by_value = !file.on.is_empty() || !file.off.is_empty() || !file.over.is_empty();
    let turns = match (file.active, file.by) {
        (Some(active), None) if !by_value => {
            for kind in &active {
                given("state.active", kind)?;
            }
            Turns::Kinds(active)
        }
        (None, Some(by)) => {
            check_pointer("state.by", &by)?;
            for (key, values) in [("state.on", &file.on), ("state.off", &file.off)] {
                if values.is_empty() {
                    return Err(wrong(key, "is missing: the values beside by that say so"));
                }
            }
            if let Some(both) = file.on.iter().find(|on| file.off.contains(on)) {
                return Err(wrong("state.off", format!("{both:?} stands in on too")));
            }
            for (begun, ended) in &file.over {
                given("state.over", begun)?;
                if !is_kind(ended) {
                    return Err(wrong(
                        "state.over",
                        format!("{ended:?} is not a dotted lower-case kind like \"door.opened\""),
                    ));
                }
            }
            if file.over.is_empty() {
                return Err(wrong(
                    "state.over",
                    "is missing: by the kind of a beginning, the kind of its end",
                ));
            }
            Turns::Value(Box::new(ByValue {
                slot: plan.slot(&by),
                on: Words::new(file.on),
                off: Words::new(file.off),
                over: file.over,
            }))
        }
        _ => {
            return Err(wrong(
                "state",
                "needs active, the kinds that are on, or by with on, off and over; one of the two",
            ));
        }
    };
    if let Some(pointer) = &file.pointer {
        check_pointer("state.pointer", pointer)?;
    }
    Ok(StateRule {
        point: file.point,
        slot: file.pointer.map(|pointer| plan.slot(&pointer)),
        turns,
    })
}

impl Mapping {
    /// Checks a mapping and prepares it. `source` becomes the source of its events.
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
        let mut plan = Plan::default();
        let mut kind = field("kind", file.kind, &mut plan)?;
        kind.required = true;
        for value in kind.results() {
            if !is_kind(value) {
                return Err(wrong(
                    "kind",
                    format!("{value:?} is not a dotted lower-case kind like \"door.opened\""),
                ));
            }
        }
        let mut optional = |name, file: Option<FieldFile>| {
            file.map(|file| field(name, file, &mut plan)).transpose()
        };
        let severity = optional("severity", file.severity)?;
        for value in severity.iter().flat_map(Field::results) {
            if Severity::from_name(value).is_none() {
                let names = Severity::ALL.map(Severity::as_str).join(", ");
                return Err(wrong("severity", format!("{value:?} is none of {names}")));
            }
        }
        let id = optional("id", file.id)?;
        let device = optional("device", file.device)?;
        let building = optional("building", file.building)?;
        let unit = optional("unit", file.unit)?;
        let address = optional("address", file.address)?;
        let occurred_at = file
            .occurred_at
            .map(|file| Times::new(file, &mut plan))
            .transpose()?;
        let replayed = match file.replayed {
            None => Replayed::All(false),
            Some(ReplayedFile::All(all)) => Replayed::All(all),
            Some(ReplayedFile::Where { pointer, values }) => {
                check_pointer("replayed.pointer", &pointer)?;
                Replayed::Where(plan.slot(&pointer), Words::new(values))
            }
        };
        // One is reserved for the device's own time.
        if file.attributes.len() >= ATTRIBUTES_MAX {
            return Err(wrong(
                "attributes",
                format!("at most {} are accepted", ATTRIBUTES_MAX - 1),
            ));
        }
        let mut attributes = Vec::with_capacity(file.attributes.len());
        let mut persons = Vec::new();
        for (name, attribute) in file.attributes {
            check_pointer(&format!("attributes.{name}"), &attribute.pointer)?;
            if attribute.purpose.trim().is_empty() {
                return Err(wrong(
                    format!("attributes.{name}.purpose"),
                    "say what the value is kept for; data without a purpose is not taken",
                ));
            }
            let slot = plan.slot(&attribute.pointer);
            match attribute.pseudonym {
                Some(person) => persons.push((person, slot)),
                None => attributes.push(Attribute {
                    slot,
                    name,
                    table: Table::new(attribute.table),
                }),
            }
        }
        let mut only = Vec::with_capacity(file.only.len());
        for rule in file.only {
            check_pointer("only.pointer", &rule.pointer)?;
            only.push(Only {
                slot: plan.slot(&rule.pointer),
                near: plan.near_slot(&rule.pointer),
                values: Words::new(rule.values),
            });
        }
        let state = file
            .state
            .map(|file| state(file, &kind, &mut plan))
            .transpose()?;
        Ok(Self {
            source: source.to_owned(),
            items: file.items,
            id,
            kind,
            severity,
            device,
            building,
            unit,
            address,
            occurred_at,
            replayed,
            lane: file.lane,
            retention: file.retention,
            keep_raw: file.keep_raw,
            attributes,
            persons,
            only,
            state,
            plan,
        })
    }
}
