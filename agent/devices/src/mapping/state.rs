//! Events that are states: whether an item says that a point is on, off, or nothing of it.
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Reject;
use super::capture::{Capture, Slot};
use super::words::Words;
use crate::device_event::State;

/// The event is a state of a point of its device.
pub(super) struct StateRule {
    pub(super) point: String,
    /// The value here is part of the point.
    pub(super) slot: Option<Slot>,
    pub(super) turns: Turns,
}

/// What says whether a state is on.
pub(super) enum Turns {
    /// These kinds are on.
    Kinds(Vec<String>),
    /// A value of the item; with any other the event is no state.
    Value(Box<ByValue>),
}

/// A value that says whether a state is on.
pub(super) struct ByValue {
    pub(super) slot: Slot,
    pub(super) on: Words,
    pub(super) off: Words,
    /// By the kind of a beginning, that of its end.
    pub(super) over: BTreeMap<String, String>,
}

/// What an item says of its state.
pub(super) enum Turn<'a> {
    /// It is none.
    None,
    /// It begins, goes on, or is of a kind that says whether it does.
    On(State<'a>),
    /// It is over, and of this kind.
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
                // What nobody is told the end of must not stay on: each that begins is an event.
                match over.get(kind) {
                    Some(_) if on.has(value) => Ok(Turn::On(self.state(item, true))),
                    Some(end) if off.has(value) => Ok(Turn::Over(self.state(item, false), end)),
                    None if off.has(value) => Err(Reject::Filtered { field: "state" }),
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
