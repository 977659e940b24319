//! The form of a rule file. `check` defines the constraints on its values.
use linli_shared::service::config::Span;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// A rule file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Version of the form; 1.
    pub schema: Spanned<u32>,
    /// Kinds of events, beside the documented ones.
    #[serde(default)]
    pub kinds: Vec<Spanned<String>>,
    /// `[[rule]]` entries.
    #[serde(default)]
    pub rule: Vec<Spanned<RuleEntry>>,
}

/// Kind of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindEntry {
    /// Each event.
    Match,
    /// Several events in a window.
    Count,
    /// Several different values in a window.
    Distinct,
    /// One event of each step in a window.
    AllOf,
    /// One event of each step in order in a window.
    Sequence,
    /// An expected event that does not follow.
    Absent,
    /// A thing on a roster without events.
    Silent,
    /// Several events in a long window.
    Repeat,
    /// Many more events than before.
    Surge,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelEntry {
    /// A place.
    #[default]
    Place,
    /// A device.
    Device,
    /// A type of event.
    Type,
    /// A person.
    Person,
}

/// Effect of the warnings of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeEntry {
    /// Warnings open cases and notify people.
    #[default]
    Live,
    /// Warnings are recorded only.
    Shadow,
}

/// Effect of late events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateEntry {
    /// Late events correct earlier findings.
    #[default]
    Revise,
}

/// What an inhibiting and an inhibited warning have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameEntry {
    /// The agent.
    Agent,
    /// The site.
    Site,
    /// The key.
    Key,
}

/// A step: field → value or values.
pub type StepEntry = Spanned<BTreeMap<String, Spanned<toml::Value>>>;

/// `[[rule]]`: see the docs of `rule` for each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// Id.
    pub id: Spanned<String>,
    /// Name for people.
    pub name: String,
    /// Kind.
    pub kind: Spanned<KindEntry>,
    /// What the rule is about.
    #[serde(default)]
    pub level: LevelEntry,
    /// Fields of the key.
    #[serde(default)]
    pub key: Vec<Spanned<String>>,
    /// Length of the window.
    pub within: Option<Spanned<Span>>,
    /// Minimum number of events or values.
    pub times: Option<Spanned<u32>>,
    /// The field whose values are counted.
    pub distinct: Option<Spanned<String>>,
    /// Steps of the condition.
    #[serde(default)]
    pub on: Vec<StepEntry>,
    /// `absent`: the expected events.
    #[serde(default)]
    pub until: Vec<StepEntry>,
    /// `sequence`: events that must not occur in between.
    #[serde(default)]
    pub unless: Vec<StepEntry>,
    /// `silent`: the things to wait for.
    pub roster: Option<Spanned<toml::Value>>,
    /// `surge`: minimum ratio to the average of the windows before.
    pub ratio: Option<Spanned<f64>>,
    /// `surge`: maximum probability by chance.
    pub p: Option<Spanned<f64>>,
    /// Hours of the day of its events, like "22:00-06:00".
    pub hours: Option<Spanned<String>>,
    /// Severity of its warnings.
    pub severity: Spanned<String>,
    /// Maximum age of a fresh finding.
    #[serde(default = "default_fresh")]
    pub fresh: Span,
    /// Effect of late events.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "there is one way so far; the key keeps it from being taken for granted"
    )]
    pub late: LateEntry,
    /// Maximum distance of hits of one warning.
    #[serde(default = "default_fold")]
    pub fold: Span,
    /// Maximum number of keys.
    pub max_keys: Option<Spanned<u64>>,
    /// Maximum number of events per key.
    pub max_events: Option<Spanned<u64>>,
    /// Effect of its warnings.
    #[serde(default)]
    pub mode: ModeEntry,
    /// The rule is evaluated.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Warnings that its warnings inhibit.
    pub inhibits: Option<Spanned<InhibitsEntry>>,
    /// Case and notices of its warnings.
    pub then: Option<Spanned<ThenEntry>>,
    /// Number of the person's consent.
    pub consent: Option<String>,
    /// The two approvals.
    #[serde(default)]
    pub approvals: Vec<String>,
    /// The day it expires.
    pub expires: Option<Spanned<String>>,
    /// `[[rule.test]]` entries.
    #[serde(default)]
    pub test: Vec<Spanned<TrialEntry>>,
}

/// `inhibits`: at least one kind or rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InhibitsEntry {
    /// Kinds of the inhibited rules.
    #[serde(default)]
    pub kinds: Vec<KindEntry>,
    /// Ids of the inhibited rules.
    #[serde(default)]
    pub rules: Vec<Spanned<String>>,
    /// What both warnings must have in common.
    pub same: SameEntry,
}

/// `then`: the effects of a warning.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThenEntry {
    /// Kind of the case to open.
    pub case: Option<String>,
    /// Route of the notices.
    pub route: Option<Spanned<String>>,
    /// Time allowed for an acknowledgement.
    pub ack: Option<Spanned<Span>>,
}

/// A test of a rule; `trial` runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialEntry {
    /// What it shows, as its name.
    pub name: String,
    /// Time of day of "0m"; default: midnight.
    pub start: Option<String>,
    /// Events like `"5m door.forced building=B1"`, each with its time.
    pub events: Vec<String>,
    /// Deliveries: in-order, shuffled, reversed, duplicated, restarted, delayed:48h.
    #[serde(default)]
    pub deliver: Vec<String>,
    /// Watermark of the agents at the end; default: the end of the last window.
    pub heard: Option<Span>,
    /// All open warnings at the end.
    #[serde(default)]
    pub expect: Vec<ExpectEntry>,
}

/// A warning that a test expects.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectEntry {
    /// Time of the warning.
    pub at: Span,
    /// Values of the key, separated by `|`; the value of `site` may be left out if it is `site`.
    pub key: String,
    /// Number of hits; left out: any.
    pub hits: Option<i64>,
    /// Deliveries in which the warning is 补报.
    #[serde(default)]
    pub late_in: Vec<String>,
}

fn default_fresh() -> Span {
    Span::from_secs(3600)
}

fn default_fold() -> Span {
    Span::from_secs(1800)
}

fn yes() -> bool {
    true
}
