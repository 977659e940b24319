//! One field of an event: the position of its value, and its table.
use linli_shared::protocol::event::Severity;

use super::capture::{Capture, Slot};
use super::words::Table;
use super::{Reject, Rule, shortened};

/// Treatment of a value that is not in the table.
#[derive(Debug, Clone)]
pub(super) enum Otherwise {
    Keep,
    Skip,
    Reject,
    Value(String),
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Slots and pointers; the first with a value counts.
    pub(super) places: Vec<(Slot, String)>,
    /// Slots of damaged keys, if an item without a value is left out.
    pub(super) near: Vec<Slot>,
    pub(super) value: Option<String>,
    pub(super) table: Table,
    pub(super) otherwise: Otherwise,
    pub(super) required: bool,
    pub(super) skip_missing: bool,
}

impl Field {
    /// Every value that the mapping itself can give the field.
    pub(super) fn results(&self) -> impl Iterator<Item = &String> {
        let otherwise = match &self.otherwise {
            Otherwise::Value(value) => Some(value),
            Otherwise::Keep | Otherwise::Skip | Otherwise::Reject => None,
        };
        self.table.values().chain(&self.value).chain(otherwise)
    }

    /// Whether the event is lost without the field: its kind and its id.
    fn is_decisive(&self) -> bool {
        matches!(self.name, "kind" | "id")
    }

    fn found<'a>(&'a self, item: &'a Capture<'_>) -> Option<&'a str> {
        let mut places = self.places.iter();
        places
            .find_map(|(slot, _)| item.get(*slot))
            .or(self.value.as_deref())
    }

    pub(super) fn take<'a>(&'a self, item: &'a Capture<'_>) -> Result<Option<&'a str>, Reject> {
        let Some(found) = self.found(item) else {
            if let Some(key) = self.near.iter().find_map(|slot| item.get(*slot)) {
                return Err(Reject::misspelt_key(self.name, key));
            }
            if self.skip_missing {
                return Err(Reject::Filtered(Rule::Missing(self.name)));
            }
            if self.required {
                let pointers = self.places.iter().map(|(_, pointer)| pointer.as_str());
                return Err(Reject::Missing {
                    field: self.name,
                    pointer: pointers.collect::<Vec<_>>().join(" or "),
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
            Otherwise::Skip => Err(match self.table.damage(found) {
                Some(why) => Reject::misspelt(self.name, found, why),
                None => Reject::Filtered(Rule::Table(self.name)),
            }),
            Otherwise::Value(value) => Ok(Some(value)),
            Otherwise::Reject if self.is_decisive() => Err(Reject::Unknown {
                field: self.name,
                value: shortened(found).to_owned(),
            }),
            // A bad place or severity loses no event.
            Otherwise::Reject => Ok(Some(found)),
        }
    }

    /// The severity of an item. A missing or unknown one becomes the loudest of the mapping: a fire must not become a
    /// notice because its grade is broken.
    pub(super) fn severity(&self, item: &Capture<'_>) -> Result<Severity, Reject> {
        let found = self.take(item)?;
        let named = |name: &str| Severity::from_name(&name.to_ascii_lowercase());
        if let Some(severity) = found.and_then(named) {
            return Ok(severity);
        }
        if let Otherwise::Value(value) = &self.otherwise {
            return Ok(named(value).unwrap_or_default());
        }
        let loudest = self.table.values().filter_map(|name| named(name)).max();
        Ok(match (loudest, found) {
            (Some(loudest), _) => loudest,
            // Without a table there is no upper bound.
            (None, Some(_)) => Severity::Alarm,
            (None, None) => Severity::Info,
        })
    }
}
