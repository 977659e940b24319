//! What a decoder has understood of a message, in the words that all sources share.
//!
//! Every message comes to exactly one [`DecodedMessage`] or [`Reject`]: so each is accounted for. A [`DeviceEvent`] borrows
//! from its message where it can; the agent makes the event of it.
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Retention;
use serde::Deserialize;
use std::borrow::Cow;

/// What one message of a device came to.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodedMessage<'a> {
    /// Things that happened, or states.
    Events(Vec<DeviceEvent<'a>>),
    /// A sign of life and no more.
    Heartbeat {
        /// Of this device; empty: of the source itself.
        device: Cow<'a, str>,
        /// The device's clock when it was sent, where it says so.
        time: DeviceTime<'a>,
    },
    /// Understood, and of no interest here.
    LeftOut {
        /// Of this device; empty: of the source itself.
        device: Cow<'a, str>,
        /// What it is, in the protocol's own words.
        what: Cow<'a, str>,
    },
}

/// A message that could not be read, or breaks a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// Names what is wrong, and where it can be put right.
    pub reason: String,
}

impl Reject {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Of this device, where many have one source.
    pub fn of(self, device: &str) -> Self {
        Self::new(format!("{device}: {}", self.reason))
    }
}

/// One thing that happened at a device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceEvent<'a> {
    /// Dotted, see `KNOWN_KINDS` of the event.
    pub kind: Cow<'a, str>,
    /// How bad it is by itself.
    pub severity: Severity,
    /// The device, by the id that `[[device]]` of the config knows; what lies behind a panel is
    /// `<panel>/<part>`.
    pub device: Cow<'a, str>,
    /// Whose message it was, where that is another than `device`: signs of life are counted for it.
    pub by: Option<Cow<'a, str>>,
    /// The device's own serial or id of this event, which no other event of the source ever has; empty where
    /// it gives none. What comes again under it is stored once.
    pub id: Cow<'a, str>,
    /// When it happened by the device's clock: a claim.
    pub time: DeviceTime<'a>,
    /// The protocol says that it is reported afterwards: from the device's memory, or in answer to a search.
    pub replayed: bool,
    /// It is a state that goes on, not something that is over.
    pub state: Option<State<'a>>,
    /// The state began another time: an event also where it is known to be so already. For devices that tell of a new
    /// alarm and never of the end of the one before; `id` drops what they only say again.
    pub anew: bool,
    /// How long it is kept.
    pub retention: Retention,
    /// What else is worth keeping. Never anything that tells of a person: that is what `persons` is for.
    pub attributes: Vec<(&'static str, Cow<'a, str>)>,
    /// Who was there, by the device: becomes a keyed pseudonym, or is dropped.
    pub persons: Vec<(Person, Cow<'a, str>)>,
}

impl<'a> DecodedMessage<'a> {
    /// A sign of life without a time.
    pub fn heartbeat(device: impl Into<Cow<'a, str>>) -> Self {
        Self::Heartbeat {
            device: device.into(),
            time: DeviceTime::None,
        }
    }
}

impl<'a> DeviceEvent<'a> {
    /// Of a kind, at a device.
    pub fn new(
        kind: impl Into<Cow<'a, str>>,
        severity: Severity,
        device: impl Into<Cow<'a, str>>,
    ) -> Self {
        Self {
            kind: kind.into(),
            severity,
            device: device.into(),
            ..Self::default()
        }
    }

    /// With one more attribute, unless it is empty.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.attributes.push((name, value));
        }
        self
    }
}

/// A state of a point of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State<'a> {
    /// What is on or off: unique within the device.
    pub point: Cow<'a, str>,
    /// It is on: an alarm, a fault, a door that is held.
    pub active: bool,
    /// Told because the agent asked or has just connected, not because it changed: raises nothing unless the
    /// agent knew it otherwise.
    pub initial: bool,
}

/// A device's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceTime<'a> {
    /// It gives none.
    #[default]
    None,
    /// Milliseconds since 1970 UTC.
    Ms(i64),
    /// As it is written: ISO 8601 with or without a zone; without one it is of the source's `zone`.
    Text(&'a str),
    /// Without a zone: of the source's `zone`.
    Civil(jiff::civil::DateTime),
    /// Bytes that are no time.
    Unreadable([u8; 6]),
}

/// What of a message tells who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Person {
    /// Number of a card, a code or a key.
    Card,
    /// Number under which a person is enrolled in the device.
    Employee,
    /// Name.
    Name,
}

impl Person {
    /// The attribute that has the pseudonym.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Card => "card_pseudonym",
            Self::Employee => "employee_pseudonym",
            Self::Name => "name_pseudonym",
        }
    }
}
