//! Rule files: strict TOML, checked against what the hub knows. `file` is their form, `check` what must
//! hold; an error names file, line, rule and key, and what is allowed.
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
//! times = 3                          # count, distinct, repeat; surge: at least so many
//! distinct = "device"                # distinct: the field whose values are counted
//! on = [{ type = "fire.alarm" }, { type = "door.forced", building = ["B1", "B2"] }]
//! until = [{ type = "door.closed" }] # absent: what was to follow
//! unless = [{ type = "pile.cutoff" }] # sequence: what must not come between
//! roster = "agents"                  # silent: who is to be heard; or [{ agent = "gw-1", device = "d-1" }]
//! ratio = 2.0                        # surge: times the average of the four windows before
//! p = 0.01                           # surge: at most so likely by chance
//! hours = "22:00-06:00"              # only events of these hours, by the clock of the centre
//! severity = "life"                  # info | notice | warning | alarm | life
//! fresh = "15m"                      # what was received longer ago is 补报: recorded; about life people are told
//! late = "revise"                    # late events put right what was found without them
//! fold = "30m"                       # hits this near are one warning
//! max_keys = 200000                  # keys, and events of one key, that it may hold
//! max_events = 4096
//! mode = "live"                      # live | shadow: warnings that open nothing and page nobody
//! enabled = true
//! inhibits = { kinds = ["absent", "silent"], same = "agent" }   # or rules = ["id"]; same: agent | site | key
//! then = { case = "public-safety", route = "duty-centre", ack = "5m" }
//! consent = "…"                      # level = "person": consent, two approvals, an end of at most a year
//! approvals = ["…", "…"]
//! expires = "2027-03-01"
//! [[rule.test]]                      # see `trial`
//! ```
//!
//! Fields: `site agent building unit address device type source severity office`, and `attributes.NAME` for
//! what a mapping declares. A field whose name says that it is about a person is refused everywhere.
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

/// Where the value of a rule's field is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Site of the agent.
    Site,
    /// The agent.
    Agent,
    /// The office that the site belongs to, as the hub's config says, or else the site.
    Office,
    /// What an event itself has, by its name in [`Event::field`].
    Event(&'static str),
    /// An attribute.
    Attribute(String),
}

/// Fields by their names in rules; attributes are beside them.
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

/// What a field is read from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The event.
    pub event: &'a Event,
    /// Site of its agent.
    pub site: &'a str,
    /// Its agent.
    pub agent: &'a str,
    /// Office of the site, or the site.
    pub office: &'a str,
}

impl Field {
    /// The field of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(attribute) = name.strip_prefix("attributes.") {
            return (!attribute.is_empty()).then(|| Self::Attribute(attribute.to_owned()));
        }
        FIELDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| field.clone())
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Site => "site".to_owned(),
            Self::Agent => "agent".to_owned(),
            Self::Office => "office".to_owned(),
            Self::Event(name) => (*name).to_owned(),
            Self::Attribute(name) => format!("attributes.{name}"),
        }
    }

    /// Its value; `None` if there is none.
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

/// What one step of a rule wants of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Kind, exact.
    pub kind: String,
    /// Other fields, each one of these values.
    pub fields: Vec<(Field, Vec<String>)>,
}

impl Step {
    /// The event is of this step. The kind has been compared.
    pub fn fits(&self, subject: Subject<'_>) -> bool {
        self.fields.iter().all(|(field, values)| {
            field
                .of(subject)
                .is_some_and(|found| values.iter().any(|value| value == found))
        })
    }
}

/// What a rule looks for. Windows are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// One event.
    Match,
    /// So many events.
    Count { times: usize, within_ms: i64 },
    /// So many different values.
    Distinct { times: usize, within_ms: i64 },
    /// One event of each step.
    AllOf { within_ms: i64 },
    /// One event of each step, in their order.
    Sequence { within_ms: i64 },
    /// Nothing that should have followed.
    Absent { within_ms: i64 },
    /// Nothing of a thing on the roster.
    Silent { within_ms: i64 },
    /// So many events over a long time.
    Repeat { times: usize, within_ms: i64 },
    /// Many more events than before.
    Surge {
        times: usize,
        within_ms: i64,
        ratio: f64,
        p: f64,
    },
}

/// Windows before the present one that `surge` compares with.
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

    /// How long its window is, milliseconds.
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

    /// How many events it takes at least.
    pub fn times(&self) -> usize {
        match self {
            Self::Count { times, .. }
            | Self::Distinct { times, .. }
            | Self::Repeat { times, .. }
            | Self::Surge { times, .. } => *times,
            _ => 1,
        }
    }

    /// From an event to the last one that it can make a hit of, or keep from being one, milliseconds.
    pub fn reach_ms(&self) -> i64 {
        match self {
            Self::Surge { within_ms, .. } => within_ms.saturating_mul(SURGE_WINDOWS + 1),
            kind => kind.within_ms(),
        }
    }

    /// Its events are kept in the store and read from there.
    pub fn reads_store(&self) -> bool {
        matches!(self, Self::Repeat { .. } | Self::Surge { .. })
    }

    /// It waits for what does not come.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Silent { .. })
    }
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Place,
    Device,
    Type,
    /// With consent, approvals and an end.
    Person,
}

/// Hours of the day, minutes since midnight; `from > to` goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    pub from: u16,
    pub to: u16,
}

impl Hours {
    /// A minute of the day is within.
    pub fn hold(&self, minute: u16) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Who is to be heard by a `silent` rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roster {
    /// Not a `silent` rule.
    #[default]
    None,
    /// All agents that have joined.
    Agents,
    /// These keys, each with the agent that hears it.
    Keys(BTreeMap<String, String>),
}

/// Which warnings are not sent on while one of this rule goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibits {
    /// Kinds of rules.
    pub kinds: Vec<String>,
    /// Rules.
    pub rules: Vec<String>,
    /// What both warnings have alike.
    pub same: Same,
}

/// What an inhibiting and an inhibited warning have alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    Agent,
    Site,
    Key,
}

/// A rule that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: String,
    pub name: String,
    /// Of its content, tests and comments left out.
    pub hash: String,
    pub kind: Kind,
    pub level: Level,
    pub key: Vec<Field>,
    /// `on`, then `until` or `unless`.
    pub steps: Vec<Step>,
    /// How many of them are `on`.
    pub on: usize,
    pub distinct: Option<Field>,
    pub roster: Roster,
    pub hours: Option<Hours>,
    pub severity: Severity,
    pub fresh_ms: i64,
    pub fold_ms: i64,
    pub max_keys: usize,
    pub max_events: usize,
    pub shadow: bool,
    pub enabled: bool,
    pub inhibits: Option<Inhibits>,
    pub case: Option<String>,
    pub route: String,
    /// An acknowledgement is due so long after the warning, milliseconds.
    pub ack_ms: Option<i64>,
    /// It stops then, milliseconds since 1970 UTC.
    pub expires_ms: Option<i64>,
    /// The file that it stands in.
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

    /// It is looked at, at this time.
    pub fn runs(&self, now_ms: i64) -> bool {
        self.enabled && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }

    /// It is graver than a severity of this name.
    pub fn is_graver_than(&self, severity: &str) -> bool {
        Severity::from_name(severity).is_some_and(|severity| self.severity > severity)
    }

    /// A time is of the hours that it wants, by the clock of the centre.
    pub fn in_hours(&self, at_ms: i64) -> bool {
        self.hours
            .is_none_or(|hours| hours.hold(local_time::minute_of_day(at_ms)))
    }

    /// Writes the values of the key's fields, with `|` between them; false if one is missing.
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

/// Fields of a key at most.
pub const KEY_FIELDS_MAX: usize = 6;
/// A longer value stands in a key by its beginning and its hash: an index of the store takes no key of any length.
const KEY_VALUE_BYTES_MAX: usize = 200;

/// `|` and `\` in a value are escaped, so that no two keys look alike. A NUL is no text for a database.
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

/// The values of a key.
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
