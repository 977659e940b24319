//! Rule files: strict TOML, checked against the hub's vocabulary. `file` defines the form, `check` the
//! constraints. An error names file, line, rule and key, and the permitted values.
//!
//! ```toml
//! schema = 1
//! kinds = ["pump.dry"]               # kinds of events beside the documented ones
//! [[rule]]
//! id = "fire-then-forced"
//! name = "火警后强行开门"
//! kind = "all_of"                    # match count distinct all_of sequence absent silent repeat surge
//! level = "place"                    # place | device | type | person
//! key = ["site", "building"]         # fields, see below
//! within = "10m"                     # all but match
//! times = 3                          # count, distinct, repeat; surge: at least so many events
//! distinct = "device"                # distinct: the field whose values are counted
//! on = [{ type = "fire.alarm" }, { type = "door.forced", building = ["B1", "B2"] }]
//! until = [{ type = "door.closed" }] # absent: the expected event
//! unless = [{ type = "pile.cutoff" }] # sequence: what must not occur in between
//! roster = "agents"                  # silent: what to wait for; or [{ agent = "gw-1", device = "d-1" }]
//! ratio = 2.0                        # surge: times the average of the four windows before
//! p = 0.01                           # surge: maximum probability by chance
//! hours = "22:00-06:00"              # only events of these hours, local time of the centre
//! severity = "life"                  # info | notice | warning | alarm | life
//! fresh = "15m"                      # older receipts are 补报: recorded only; for `life` people are notified
//! late = "revise"                    # late events correct earlier findings
//! fold = "30m"                       # hits this close are one warning
//! max_keys = 200000                  # maximum of keys, and of events per key
//! max_events = 4096
//! mode = "live"                      # live | shadow: warnings that open no case and notify nobody
//! enabled = true
//! inhibits = { kinds = ["absent", "silent"], same = "agent" }  # or rules = ["id"]; same: agent | site | key
//! then = { case = "public-safety", route = "duty-centre", ack = "5m" }
//! consent = "…"                      # level = "person": consent, two approvals, expiry within a year
//! approvals = ["…", "…"]
//! expires = "2027-03-01"
//! [[rule.test]]                      # see `trial`
//! ```
//!
//! Fields: `site agent building unit address device type source severity office`, and `attributes.NAME` for
//! the attributes that a mapping declares. A field whose name refers to a person is always refused.
mod check;
mod file;

#[cfg_attr(
    not(test),
    allow(unused_imports, reason = "tests and benches read rules from texts")
)]
pub use check::load_text;
pub(crate) use check::minute_of_day;
pub use check::{Vocabulary, load_directory};
pub use file::TrialEntry;

use linli_shared::protocol::event::{Event, Severity};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use crate::local_time;

/// A field of a rule: where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Site of the agent.
    Site,
    /// Id of the agent.
    Agent,
    /// The office of the site in the hub's config, or else the site.
    Office,
    /// A field of the event, by its name in [`Event::field`].
    Event(&'static str),
    /// An attribute of the event, by name.
    Attribute(String),
}

/// Fields by their names in rules, without attributes.
pub const FIELDS: &[(&str, Field)] = &[
    ("site", Field::Site),
    ("agent", Field::Agent),
    ("office", Field::Office),
    ("building", Field::Event("building")),
    ("unit", Field::Event("unit")),
    ("address", Field::Event("address")),
    ("device", Field::Event("device")),
    ("type", Field::Event("type")),
    ("source", Field::Event("source")),
    ("severity", Field::Event("severity")),
];

/// The event that fields are read from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The event.
    pub event: &'a Event,
    /// Site of the agent.
    pub site: &'a str,
    /// Id of the agent.
    pub agent: &'a str,
    /// Office of the site, or else the site.
    pub office: &'a str,
}

impl Field {
    /// The field with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(attribute) = name.strip_prefix("attributes.") {
            return (!attribute.is_empty()).then(|| Self::Attribute(attribute.to_owned()));
        }
        FIELDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| field.clone())
    }

    /// Its name in rules.
    pub fn name(&self) -> String {
        match self {
            Self::Site => "site".to_owned(),
            Self::Agent => "agent".to_owned(),
            Self::Office => "office".to_owned(),
            Self::Event(name) => (*name).to_owned(),
            Self::Attribute(name) => format!("attributes.{name}"),
        }
    }

    /// Its value; `None` if it is empty or missing.
    pub fn of<'a>(&self, subject: Subject<'a>) -> Option<&'a str> {
        let value = match self {
            Self::Site => subject.site,
            Self::Agent => subject.agent,
            Self::Office => subject.office,
            Self::Event(name) => return subject.event.field(name),
            Self::Attribute(name) => subject.event.attributes.get(name)?.as_str(),
        };
        (!value.is_empty()).then_some(value)
    }
}

/// The condition of one step of a rule on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Kind of the event, exact.
    pub kind: String,
    /// Other fields, each with its permitted values.
    pub fields: Vec<(Field, Vec<String>)>,
}

impl Step {
    /// True if the event fits the step. The caller has compared the kind.
    pub fn fits(&self, subject: Subject<'_>) -> bool {
        self.fields.iter().all(|(field, values)| {
            field
                .of(subject)
                .is_some_and(|found| values.iter().any(|value| value == found))
        })
    }
}

/// The kind of a rule. Windows are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// One event.
    Match,
    /// `times` events in the window.
    Count {
        /// Minimum number.
        times: usize,
        /// Length of the window, milliseconds.
        within_ms: i64,
    },
    /// `times` different values in the window.
    Distinct {
        /// Minimum number.
        times: usize,
        /// Length of the window, milliseconds.
        within_ms: i64,
    },
    /// One event of each step, in any order.
    AllOf {
        /// Length of the window, milliseconds.
        within_ms: i64,
    },
    /// One event of each step, in order.
    Sequence {
        /// Length of the window, milliseconds.
        within_ms: i64,
    },
    /// No event of `until` after one of `on`.
    Absent {
        /// How long the event may take, milliseconds.
        within_ms: i64,
    },
    /// No event of a thing on the roster.
    Silent {
        /// How long a silence may last, milliseconds.
        within_ms: i64,
    },
    /// `times` events over a long window.
    Repeat {
        /// Minimum number.
        times: usize,
        /// Length of the window, milliseconds.
        within_ms: i64,
    },
    /// Many more events than before.
    Surge {
        /// Minimum number of events.
        times: usize,
        /// Length of the window, milliseconds.
        within_ms: i64,
        /// Minimum ratio to the average of the windows before.
        ratio: f64,
        /// Maximum probability by chance.
        p: f64,
    },
}

/// Number of earlier windows that `surge` compares with.
pub const SURGE_WINDOWS: i64 = 4;

impl Kind {
    /// Its name in rule files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Count { .. } => "count",
            Self::Distinct { .. } => "distinct",
            Self::AllOf { .. } => "all_of",
            Self::Sequence { .. } => "sequence",
            Self::Absent { .. } => "absent",
            Self::Silent { .. } => "silent",
            Self::Repeat { .. } => "repeat",
            Self::Surge { .. } => "surge",
        }
    }

    /// Length of its window, milliseconds; 0 for `match`.
    pub fn within_ms(&self) -> i64 {
        match self {
            Self::Match => 0,
            Self::Count { within_ms, .. }
            | Self::Distinct { within_ms, .. }
            | Self::AllOf { within_ms }
            | Self::Sequence { within_ms }
            | Self::Absent { within_ms }
            | Self::Silent { within_ms }
            | Self::Repeat { within_ms, .. }
            | Self::Surge { within_ms, .. } => *within_ms,
        }
    }

    /// Minimum number of events of a hit.
    pub fn times(&self) -> usize {
        match self {
            Self::Count { times, .. }
            | Self::Distinct { times, .. }
            | Self::Repeat { times, .. }
            | Self::Surge { times, .. } => *times,
            _ => 1,
        }
    }

    /// Time from an event to the last one whose hit it can create or prevent, milliseconds.
    pub fn reach_ms(&self) -> i64 {
        match self {
            Self::Surge { within_ms, .. } => within_ms.saturating_mul(SURGE_WINDOWS + 1),
            kind => kind.within_ms(),
        }
    }

    /// True if its events are kept in the store and read from there.
    pub fn reads_store(&self) -> bool {
        matches!(self, Self::Repeat { .. } | Self::Surge { .. })
    }

    /// True if it waits for an event that does not occur.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Silent { .. })
    }
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A place.
    Place,
    /// A device.
    Device,
    /// A type of event.
    Type,
    /// A person; requires consent, approvals and an expiry.
    Person,
}

/// Hours of the day, minutes since midnight; `from > to` goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Start, included.
    pub from: u16,
    /// End, excluded.
    pub to: u16,
}

impl Hours {
    /// True if a minute of the day lies within.
    pub fn hold(&self, minute: u16) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// The things that a `silent` rule waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roster {
    /// The rule is not `silent`.
    #[default]
    None,
    /// All agents that have joined.
    Agents,
    /// These keys, each with its agent.
    Keys(BTreeMap<String, String>),
}

/// The warnings that are inhibited while a warning of this rule is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibits {
    /// Kinds of the inhibited rules.
    pub kinds: Vec<String>,
    /// Ids of the inhibited rules.
    pub rules: Vec<String>,
    /// What both warnings must have in common.
    pub same: Same,
}

/// What an inhibiting and an inhibited warning have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// The agent.
    Agent,
    /// The site.
    Site,
    /// The key.
    Key,
}

/// A checked rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Hash of its content without tests and comments.
    pub hash: String,
    /// Kind and window.
    pub kind: Kind,
    /// What it is about.
    pub level: Level,
    /// Fields of the key.
    pub key: Vec<Field>,
    /// The steps: `on`, then `until` or `unless`.
    pub steps: Vec<Step>,
    /// Number of `on` steps.
    pub on: usize,
    /// The field whose values `distinct` counts.
    pub distinct: Option<Field>,
    /// The things that `silent` waits for.
    pub roster: Roster,
    /// Hours of the day of its events; `None`: all.
    pub hours: Option<Hours>,
    /// Severity of its warnings.
    pub severity: Severity,
    /// Maximum age of a fresh finding, milliseconds.
    pub fresh_ms: i64,
    /// Maximum distance of hits of one finding, milliseconds.
    pub fold_ms: i64,
    /// Maximum number of keys.
    pub max_keys: usize,
    /// Maximum number of events per key.
    pub max_events: usize,
    /// Its warnings open no case and notify nobody.
    pub shadow: bool,
    /// The rule is evaluated.
    pub enabled: bool,
    /// The warnings that its warnings inhibit.
    pub inhibits: Option<Inhibits>,
    /// Kind of the case that its warnings open.
    pub case: Option<String>,
    /// Route of its notices.
    pub route: String,
    /// Time allowed for an acknowledgement of a warning, milliseconds.
    pub ack_ms: Option<i64>,
    /// Expiry, milliseconds since 1970 UTC.
    pub expires_ms: Option<i64>,
    /// Path of its file.
    pub file: String,
    /// Its tests.
    pub trials: Vec<TrialEntry>,
}

impl Rule {
    /// The bits of its `on` steps.
    pub fn on_mask(&self) -> u16 {
        ((1u32 << self.on) - 1) as u16
    }

    /// The bits of its `until` or `unless` steps.
    pub fn off_mask(&self) -> u16 {
        (((1u32 << self.steps.len()) - 1) as u16) & !self.on_mask()
    }

    /// True if it is evaluated at this time.
    pub fn runs(&self, now_ms: i64) -> bool {
        self.enabled && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }

    /// True if it is graver than the severity with this name.
    pub fn is_graver_than(&self, severity: &str) -> bool {
        Severity::from_name(severity).is_some_and(|severity| self.severity > severity)
    }

    /// True if a time lies within its hours, local time of the centre.
    pub fn in_hours(&self, at_ms: i64) -> bool {
        self.hours
            .is_none_or(|hours| hours.hold(local_time::minute_of_day(at_ms)))
    }

    /// Writes the key: the values of its fields, separated by `|`. Returns false if a value is missing.
    pub fn write_key(&self, subject: Subject<'_>, key: &mut String) -> bool {
        key.clear();
        for (index, field) in self.key.iter().enumerate() {
            let Some(value) = field.of(subject) else {
                return false;
            };
            if index > 0 {
                key.push('|');
            }
            push_escaped(key, value);
        }
        true
    }
}

/// Maximum number of fields of a key.
pub const KEY_FIELDS_MAX: usize = 6;
/// A longer value is replaced by its beginning and its hash, because an index of the store limits the length
/// of keys.
const KEY_VALUE_BYTES_MAX: usize = 200;

/// Appends a value to a key, with `|` and `\` escaped so that keys stay unambiguous. Replaces NUL, which
/// databases refuse in texts.
pub fn push_escaped(key: &mut String, value: &str) {
    if value.len() > KEY_VALUE_BYTES_MAX {
        let hash = hex::encode(&Sha256::digest(value)[..8]);
        let begin = value.floor_char_boundary(KEY_VALUE_BYTES_MAX - hash.len() - '…'.len_utf8());
        return push_escaped(key, &format!("{}…{hash}", &value[..begin]));
    }
    if !value.contains(['|', '\\', '\0']) {
        key.push_str(value);
        return;
    }
    for letter in value.chars() {
        if matches!(letter, '|' | '\\') {
            key.push('\\');
        }
        key.push(if letter == '\0' { '\u{fffd}' } else { letter });
    }
}

/// Splits a key into its values.
pub fn split_key(key: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut escaped = false;
    for letter in key.chars() {
        if !escaped && letter == '\\' {
            escaped = true;
            continue;
        }
        if !escaped && letter == '|' {
            values.push(String::new());
        } else if let Some(value) = values.last_mut() {
            value.push(letter);
        }
        escaped = false;
    }
    values
}
