//! The decoded form of a message, in terms that all sources share.
//!
//! Every message becomes exactly one [`DecodedMessage`] or [`Reject`], so each is accounted for. A [`DeviceEvent`]
//! borrows from its message where it can; the agent builds the event from it.
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Retention;
use serde::Deserialize;
use std::borrow::Cow;

/// The decoded form of one message of a device.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodedMessage<'a> {
    /// Events or states.
    Events(Vec<DeviceEvent<'a>>),
    /// Only a sign of life.
    Heartbeat {
        /// The device; empty: the source itself.
        device: Cow<'a, str>,
        /// Time of the device's clock at transmission, if the message has it.
        time: DeviceTime<'a>,
    },
    /// Understood, and of no interest here.
    LeftOut {
        /// The device; empty: the source itself.
        device: Cow<'a, str>,
        /// The content, in the protocol's own words.
        what: Cow<'a, str>,
    },
}

/// A message that is unreadable, or breaks a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// The fault, and where it can be corrected.
    pub reason: String,
}

impl Reject {
    /// A reject with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Names the device, for sources with many.
    pub fn of(self, device: &str) -> Self {
        Self::new(format!("{device}: {}", self.reason))
    }
}

/// One thing that happened at a device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceEvent<'a> {
    /// Dotted kind, see `KNOWN_KINDS` of the event.
    pub kind: Cow<'a, str>,
    /// Severity of the event by itself.
    pub severity: Severity,
    /// The device, by the id in `[[device]]` of the config; a device behind a panel is `<panel>/<part>`.
    pub device: Cow<'a, str>,
    /// The sender of the message, if it is not `device`: signs of life are counted for it.
    pub by: Option<Cow<'a, str>>,
    /// The device's own serial or id of this event, unique within the source for ever; empty if there is none. A
    /// repeated event with the same id is stored once.
    pub id: Cow<'a, str>,
    /// When it happened by the device's clock: a claim.
    pub time: DeviceTime<'a>,
    /// The protocol marks the event as reported late: from the device's memory, or in answer to a search.
    pub replayed: bool,
    /// The lasting state that the event reports, if any.
    pub state: Option<State<'a>>,
    /// The state began again: an event even if the state is known to be so. For devices that report each new alarm
    /// and never the end of the previous one; `id` drops repeats.
    pub anew: bool,
    /// How long the event is kept.
    pub retention: Retention,
    /// Other values worth keeping, never personal data: those belong into `persons`.
    pub attributes: Vec<(&'static str, Cow<'a, str>)>,
    /// The persons present, by the device: each becomes a keyed pseudonym, or is dropped.
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
    /// An event of a kind, at a device.
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

    /// Adds an attribute, unless it is empty.
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
    /// The thing that is on or off: unique within the device.
    pub point: Cow<'a, str>,
    /// The state is on: an alarm, a fault, a door that is held.
    pub active: bool,
    /// Reported because the agent asked or has just connected, not because it changed: raises nothing unless the
    /// known state differs.
    pub initial: bool,
}

/// A device's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceTime<'a> {
    /// No time.
    #[default]
    None,
    /// Milliseconds since 1970 UTC.
    Ms(i64),
    /// Time as written: ISO 8601 with or without a zone; without one it is in the source's `zone`.
    Text(&'a str),
    /// A time without a zone: in the source's `zone`.
    Civil(jiff::civil::DateTime),
    /// Bytes that are no time.
    Unreadable([u8; 6]),
}

/// A personal identifier in a message.
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
    /// The attribute that carries the pseudonym.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Card => "card_pseudonym",
            Self::Employee => "employee_pseudonym",
            Self::Name => "name_pseudonym",
        }
    }
}
