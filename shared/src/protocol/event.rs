//! The event: one occurrence at one place, in the form that all later stages use.
//!
//! Packed CBOR, keys in the order of declaration of [`Draft`], which is that of [`Event`]: drafts are
//! written, events are read. The identity of an event is (agent, epoch, lane, sequence). The agent comes from
//! the certificate, the rest from the chunk that contains the event, so none of it is repeated here. The site
//! is the agent's.
//!
//! There is no field for a person. Sources put personal data into attributes that their mapping declares,
//! each with its purpose, or omit them.
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

use super::limits::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, KIND_BYTES_MAX, NAME_BYTES_MAX, RAW_BYTES_MAX,
};

/// Kinds shared by sources and rules. The list is open: any dotted lower-case name is accepted, so that a
/// newer agent can send kinds for which an older hub has no rule. Rules and mappings that name a kind outside
/// this list get a hint, not an error.
pub const KNOWN_KINDS: &[&str] = &[
    "agent.silent",
    AGENT_STARTED,
    "camera.blind",
    "camera.intrusion",
    "camera.line_crossed",
    "camera.motion",
    "camera.offline",
    "camera.restored",
    "camera.tamper",
    "charger.fault",
    "charger.restored",
    "charger.status",
    "danger.notice",
    "device.battery_low",
    "device.battery_restored",
    DEVICE_CLOCK,
    "device.clock_restored",
    "device.fault",
    DEVICE_OFFLINE,
    "device.online",
    "device.power_lost",
    "device.power_restored",
    "device.restored",
    "device.tamper",
    "device.tamper_restored",
    "dispute.reported",
    "door.closed",
    "door.denied",
    "door.forced",
    "door.granted",
    "door.held",
    "door.opened",
    "fire.alarm",
    "fire.fault",
    "fire.fault_restored",
    "fire.restored",
    "fire.shielded",
    "fire.supervised",
    "fire.supervised_restored",
    "fire.unshielded",
    "gas.alarm",
    "gas.restored",
    "incident.reported",
    "input.active",
    "input.inactive",
    "intrusion.alarm",
    "intrusion.restored",
    "lift.ebike",
    "medical.alarm",
    "object.fallen",
    "panel.armed",
    "panel.disarmed",
    "panel.test",
    "panic.alarm",
    "panic.restored",
    "pile.cutoff",
    "pile.overcurrent",
    "pile.overheat",
    "pile.restored",
    "smoke.alarm",
    "smoke.restored",
    "water.alarm",
    "water.restored",
];

/// The kind of the event with which an agent reports that it accepts events: once at each start, with
/// [`AGENT_ITSELF`] as source and device. It could not receive events since [`DOWN_SINCE`].
pub const AGENT_STARTED: &str = "agent.started";
/// The kind of the event with which an agent reports that the clock of a device is off by more than it
/// accepts.
pub const DEVICE_CLOCK: &str = "device.clock";
/// The kind of the event that reports a device as offline.
pub const DEVICE_OFFLINE: &str = "device.offline";
/// Source and device of the agent's events about itself.
pub const AGENT_ITSELF: &str = "agent";
/// Attribute of [`AGENT_STARTED`]: when the previous process was last known to accept events, milliseconds
/// since 1970 UTC by the agent's clock, decimal. Missing if unknown: at the first start, and if the clock has
/// never been set.
pub const DOWN_SINCE: &str = "down_since_ms";

/// Severity of an event. Rules set the grades of warnings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(from = "u8", into = "u8")]
pub enum Severity {
    /// Routine: a door opened.
    #[default]
    Info,
    /// Worth noting: a device went offline.
    Notice,
    /// Somebody should look: a door held open.
    Warning,
    /// Somebody must act: a forced door, a dispute that may turn violent.
    Alarm,
    /// Lives are at stake: fire.
    Life,
}

impl Severity {
    /// All severities, lowest first.
    pub const ALL: [Severity; 5] = [
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Alarm,
        Self::Life,
    ];

    /// The name in configs, rules and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Alarm => "alarm",
            Self::Life => "life",
        }
    }

    /// The severity with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.as_str() == name)
    }
}

impl From<u8> for Severity {
    /// A number from a newer version reads as the highest known: too loud beats silent.
    fn from(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Life)
    }
}

impl From<Severity> for u8 {
    fn from(severity: Severity) -> u8 {
        severity as u8
    }
}

/// The rule that determined `occurred_at_ms`, and thereby how far it can be trusted.
///
/// The receipt is a fact, a device's time is a claim. [`Event::claim_ms`] returns the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum ClockQuality {
    /// The claimed time: the device's clock agrees with the agent's.
    #[default]
    Device,
    /// The receipt: the device sent no time.
    Agent,
    /// The agent's clock is not synchronised: `monotonic_ms` and the chunk's boot id give the time once that
    /// boot's offset is known.
    Unset,
    /// Was `Unset`; the hub has corrected `occurred_at_ms` by the boot's offset.
    Corrected,
    /// The receipt: a replayed message claims an implausible time (in the future or long past) and the
    /// device's offset is unknown.
    Implausible,
    /// The receipt: the message is live, but the device's clock is off by more than the agent accepts.
    Receipt,
    /// The claimed time, corrected by the last known offset of the device's clock: the message is replayed.
    Shifted,
    /// The receipt: the device's time is unreadable; the attribute `device_time` contains its text.
    Unknown,
    /// A quality from a newer version.
    Other,
}

impl ClockQuality {
    const ALL: [ClockQuality; 8] = [
        Self::Device,
        Self::Agent,
        Self::Unset,
        Self::Corrected,
        Self::Implausible,
        Self::Receipt,
        Self::Shifted,
        Self::Unknown,
    ];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Agent => "agent",
            Self::Unset => "unset",
            Self::Corrected => "corrected",
            Self::Implausible => "implausible",
            Self::Receipt => "receipt",
            Self::Shifted => "shifted",
            Self::Unknown => "unknown",
            Self::Other => "other",
        }
    }

    /// True if `occurred_at_ms` was computed from the agent's clock, and so contains its error.
    pub fn is_agents(self) -> bool {
        matches!(
            self,
            Self::Agent | Self::Implausible | Self::Receipt | Self::Shifted | Self::Unknown
        )
    }
}

impl From<u8> for ClockQuality {
    fn from(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Other)
    }
}

impl From<ClockQuality> for u8 {
    fn from(quality: ClockQuality) -> u8 {
        match quality {
            ClockQuality::Other => u8::MAX,
            known => known as u8,
        }
    }
}

/// Whether an event was reported live. The protocol or the mapping of a source determines it; the event's age
/// does not.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(from = "u8", into = "u8")]
pub enum Delivery {
    /// Reported when it occurred. Its freshness counts from its receipt.
    #[default]
    Live,
    /// Reported afterwards: from a device's memory, a catch-up, a retained message. It raises warnings, but
    /// notifies nobody.
    Replayed,
    /// Imported history: stored for rules that look back and for statistics. It raises no warning and opens
    /// no case.
    History,
}

impl Delivery {
    const ALL: [Delivery; 3] = [Self::Live, Self::Replayed, Self::History];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replayed => "replayed",
            Self::History => "history",
        }
    }

    /// True if the event was reported when it occurred.
    pub fn is_live(&self) -> bool {
        *self == Self::Live
    }
}

impl From<u8> for Delivery {
    /// A number from a newer version reads as live: too loud beats silent.
    fn from(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Live)
    }
}

impl From<Delivery> for u8 {
    fn from(delivery: Delivery) -> u8 {
        delivery as u8
    }
}

/// Place in the site. Every part may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
pub struct Place {
    /// Building, shed or zone.
    #[serde(default)]
    pub building: String,
    /// Unit of the place: stair, lift, door, floor.
    #[serde(default)]
    pub unit: String,
    /// Key of an address outside the site, as used in the source's system (a dispute's address).
    #[serde(default)]
    pub address: String,
}

/// One event, as decoded. Fields are appended only: their order is the wire format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Event {
    /// Dotted kind, see [`KNOWN_KINDS`].
    pub kind: String,
    /// Time of the occurrence, milliseconds since 1970 UTC.
    pub occurred_at_ms: i64,
    /// Time of receipt, milliseconds since 1970 UTC by the agent's clock.
    pub received_at_ms: i64,
    /// The rule that determined `occurred_at_ms`.
    #[serde(default)]
    pub clock: ClockQuality,
    /// Severity.
    #[serde(default)]
    pub severity: Severity,
    /// The name of the source in the agent's config.
    #[serde(default)]
    pub source: String,
    /// The source's own id or serial number of this event; makes a push idempotent.
    #[serde(default)]
    pub source_id: String,
    /// The device.
    #[serde(default)]
    pub device: String,
    /// Place in the site.
    #[serde(default)]
    pub place: Place,
    /// Milliseconds since boot at receipt; set only if `clock` is `Unset`.
    #[serde(default)]
    pub monotonic_ms: Option<u64>,
    /// Further values declared by the mapping.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The message as received, if the mapping keeps it.
    #[serde(default)]
    pub raw: Option<serde_bytes::ByteBuf>,
    /// Location of the picture or clip.
    #[serde(default)]
    pub media: Option<String>,
    /// The device's own time if `occurred_at_ms` differs, milliseconds since 1970 UTC. See
    /// [`Event::claim_ms`].
    #[serde(default)]
    pub device_time_ms: Option<i64>,
    /// Whether it was reported live.
    #[serde(default)]
    pub delivery: Delivery,
}

/// A borrowed [`Place`].
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PlaceDraft<'a> {
    /// See [`Place`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub building: &'a str,
    /// See [`Place`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'a str,
    /// See [`Place`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub address: &'a str,
}

impl PlaceDraft<'_> {
    /// True if the place is unknown.
    pub fn is_empty(&self) -> bool {
        self.building.is_empty() && self.unit.is_empty() && self.address.is_empty()
    }
}

/// One event to encode: borrowed from its message, so that it reaches its chunk without being copied. The
/// fields are documented at [`Event`].
#[derive(Debug, Clone, Default, Serialize)]
#[expect(missing_docs, reason = "the same fields are documented at Event")]
pub struct Draft<'a> {
    pub kind: &'a str,
    pub occurred_at_ms: i64,
    pub received_at_ms: i64,
    pub clock: ClockQuality,
    pub severity: Severity,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub source_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub device: &'a str,
    #[serde(skip_serializing_if = "PlaceDraft::is_empty")]
    pub place: PlaceDraft<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monotonic_ms: Option<u64>,
    /// By name, each name once.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub attributes: Vec<(&'a str, &'a str)>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "serde_bytes::serialize"
    )]
    pub raw: Option<&'a [u8]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_time_ms: Option<i64>,
    #[serde(skip_serializing_if = "Delivery::is_live")]
    pub delivery: Delivery,
}

fn as_map<S: Serializer>(pairs: &[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

/// Why an event is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventError {
    /// The kind is not a dotted name.
    #[error(
        "kind {0:?} is not dotted lower case like \"door.opened\" (at most {KIND_BYTES_MAX} bytes)"
    )]
    Kind(String),
    /// A field is too long.
    #[error("{field} has {bytes} bytes, at most {bytes_max} are accepted")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Too many attributes.
    #[error("{0} attributes, at most {ATTRIBUTES_MAX} are accepted")]
    Attributes(usize),
}

/// True if `value` is a dotted lower-case name of at least two parts.
pub fn is_kind(value: &str) -> bool {
    // One pass over the bytes, because this is checked for every event.
    let mut parts = 1;
    let mut before = b'.';
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' => {}
            b'0'..=b'9' | b'_' if before != b'.' => {}
            b'.' if before != b'.' => parts += 1,
            _ => return false,
        }
        before = byte;
    }
    value.len() <= KIND_BYTES_MAX && parts >= 2 && before != b'.'
}

/// The time from which the hub may miss events before it has this event.
fn unknown_from<'a>(
    kind: &str,
    received_ms: i64,
    attribute: impl FnOnce() -> Option<&'a str>,
) -> i64 {
    if kind != AGENT_STARTED {
        return received_ms;
    }
    let down_since_ms = attribute().and_then(|text| text.parse().ok());
    down_since_ms.map_or(received_ms, |down_since_ms| received_ms.min(down_since_ms))
}

impl Draft<'_> {
    /// The time from which the hub may miss events before it has this event: its receipt, or for a start the
    /// beginning of the agent's downtime. While the event waits, no watermark passes this time.
    pub fn unknown_from_ms(&self) -> i64 {
        unknown_from(self.kind, self.received_at_ms, || {
            let found = self.attributes.iter().find(|(name, _)| *name == DOWN_SINCE);
            found.map(|(_, value)| *value)
        })
    }

    /// See [`Event::claim_ms`].
    pub fn claim_ms(&self) -> Option<i64> {
        self.device_time_ms
            .or_else(|| (self.clock == ClockQuality::Device).then_some(self.occurred_at_ms))
    }

    /// Checks every limit of the event model. Errors: [`EventError`].
    pub fn check(&self) -> Result<(), EventError> {
        self.check_with(self.attributes.iter().copied())
    }

    /// Checks the draft with these attributes instead of its own.
    fn check_with<'b>(
        &self,
        attributes: impl ExactSizeIterator<Item = (&'b str, &'b str)>,
    ) -> Result<(), EventError> {
        if !is_kind(self.kind) {
            return Err(EventError::Kind(self.kind.chars().take(80).collect()));
        }
        for (field, bytes, bytes_max) in [
            ("source", self.source.len(), NAME_BYTES_MAX),
            ("source_id", self.source_id.len(), NAME_BYTES_MAX),
            ("device", self.device.len(), NAME_BYTES_MAX),
            ("building", self.place.building.len(), NAME_BYTES_MAX),
            ("unit", self.place.unit.len(), NAME_BYTES_MAX),
            ("address", self.place.address.len(), NAME_BYTES_MAX),
            ("raw", self.raw.map_or(0, <[u8]>::len), RAW_BYTES_MAX),
            ("media", self.media.map_or(0, str::len), NAME_BYTES_MAX),
        ] {
            if bytes > bytes_max {
                return Err(EventError::TooLong {
                    field,
                    bytes,
                    bytes_max,
                });
            }
        }
        if attributes.len() > ATTRIBUTES_MAX {
            return Err(EventError::Attributes(attributes.len()));
        }
        for (name, value) in attributes {
            if name.len() > NAME_BYTES_MAX || value.len() > ATTRIBUTE_BYTES_MAX {
                return Err(EventError::TooLong {
                    field: "attribute",
                    bytes: name.len().max(value.len()),
                    bytes_max: ATTRIBUTE_BYTES_MAX,
                });
            }
        }
        Ok(())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.draft().serialize(serializer)
    }
}

impl Event {
    /// The event as a draft.
    pub fn draft(&self) -> Draft<'_> {
        Draft {
            attributes: self.pairs().collect(),
            ..self.bare()
        }
    }

    fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let pairs = self.attributes.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The draft without its attributes.
    fn bare(&self) -> Draft<'_> {
        Draft {
            kind: &self.kind,
            occurred_at_ms: self.occurred_at_ms,
            received_at_ms: self.received_at_ms,
            clock: self.clock,
            severity: self.severity,
            source: &self.source,
            source_id: &self.source_id,
            device: &self.device,
            place: PlaceDraft {
                building: &self.place.building,
                unit: &self.place.unit,
                address: &self.place.address,
            },
            monotonic_ms: self.monotonic_ms,
            attributes: Vec::new(),
            raw: self.raw.as_ref().map(|raw| raw.as_slice()),
            media: self.media.as_deref(),
            device_time_ms: self.device_time_ms,
            delivery: self.delivery,
        }
    }

    /// The device's own time, milliseconds since 1970 UTC; `None` if it sent no readable one.
    pub fn claim_ms(&self) -> Option<i64> {
        self.bare().claim_ms()
    }

    /// See [`Draft::unknown_from_ms`].
    pub fn unknown_from_ms(&self) -> i64 {
        unknown_from(&self.kind, self.received_at_ms, || {
            self.attributes.get(DOWN_SINCE).map(String::as_str)
        })
    }

    /// Checks every limit of the event model. Errors: [`EventError`].
    pub fn check(&self) -> Result<(), EventError> {
        self.bare().check_with(self.pairs())
    }

    /// The value of a field, by the name used in rules and the API; attributes by their own name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let value = match name {
            "type" => &self.kind,
            "source" => &self.source,
            "source_id" => &self.source_id,
            "device" => &self.device,
            "building" => &self.place.building,
            "unit" => &self.place.unit,
            "address" => &self.place.address,
            "severity" => self.severity.as_str(),
            attribute => return self.attributes.get(attribute).map(String::as_str),
        };
        (!value.is_empty()).then_some(value)
    }
}
