//! Events that are states: whether an item reports a point as on, as off, or not at all.
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::capture::{Capture, Slot};
use super::words::Words;
use super::{Reject, Rule};
use crate::device_event::State;

/// The event is a state of a point of its device.
pub(super) struct StateRule {
    pub(super) point: String,
    /// The value here is part of the point.
    pub(super) slot: Option<Slot>,
    pub(super) turns: Turns,
}

/// The rule that decides whether a state is on.
pub(super) enum Turns {
    /// These kinds are on.
    Kinds(Vec<String>),
    /// By a value of the item; with an unlisted value the event is no state.
    Value(Box<ByValue>),
}

/// A value that decides whether a state is on.
pub(super) struct ByValue {
    pub(super) slot: Slot,
    pub(super) on: Words,
    pub(super) off: Words,
    /// The kind of the end, by the kind of the beginning.
    pub(super) over: BTreeMap<String, String>,
}

/// The state of an item.
pub(super) enum Turn<'a> {
    /// The item is no state.
    None,
    /// The state begins, goes on, or has a kind that decides whether it does.
    On(State<'a>),
    /// The state is over, and its end has this kind.
    Over(State<'a>, &'a str),
}

impl StateRule {
    /// The state of an item of this kind.
    pub(super) fn turn<'a>(
        &'a self,
        item: &'a Capture<'_>,
        kind: &str,
    ) -> Result<Turn<'a>, Reject> {
        match &self.turns {
            Turns::Kinds(active) => {
                let active = active.iter().any(|active| active == kind);
                Ok(Turn::On(self.state(item, active)))
            }
            Turns::Value(by) => {
                let ByValue {
                    slot,
                    on,
                    off,
                    over,
                } = by.as_ref();
                let Some(value) = item.get(*slot) else {
                    return Ok(Turn::None);
                };
                // A state whose end would be left out must not stay on: each beginning is an event.
                match over.get(kind) {
                    Some(_) if on.has(value) => Ok(Turn::On(self.state(item, true))),
                    Some(end) if off.has(value) => Ok(Turn::Over(self.state(item, false), end)),
                    None if off.has(value) => Err(Reject::Filtered(Rule::State)),
                    _ => Ok(Turn::None),
                }
            }
        }
    }

    fn state<'a>(&'a self, item: &'a Capture<'_>, active: bool) -> State<'a> {
        let part = self.slot.and_then(|slot| item.get(slot));
        State {
            point: match part {
                Some(part) => Cow::Owned(format!("{}/{part}", self.point)),
                None => Cow::Borrowed(&self.point),
            },
            active,
            initial: false,
        }
    }
}
