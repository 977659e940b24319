//! The form of a rule file. What its values must be stands in `check`.
use linli_shared::service::config::Span;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    pub schema: Spanned<u32>,
    #[serde(default)]
    pub kinds: Vec<Spanned<String>>,
    #[serde(default)]
    pub rule: Vec<Spanned<RuleEntry>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindEntry {
    Match,
    Count,
    Distinct,
    AllOf,
    Sequence,
    Absent,
    Silent,
    Repeat,
    Surge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelEntry {
    #[default]
    Place,
    Device,
    Type,
    Person,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeEntry {
    #[default]
    Live,
    Shadow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateEntry {
    #[default]
    Revise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameEntry {
    Agent,
    Site,
    Key,
}

/// Field → value or values.
pub type StepEntry = Spanned<BTreeMap<String, Spanned<toml::Value>>>;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    pub id: Spanned<String>,
    pub name: String,
    pub kind: Spanned<KindEntry>,
    #[serde(default)]
    pub level: LevelEntry,
    #[serde(default)]
    pub key: Vec<Spanned<String>>,
    pub within: Option<Spanned<Span>>,
    pub times: Option<Spanned<u32>>,
    pub distinct: Option<Spanned<String>>,
    #[serde(default)]
    pub on: Vec<StepEntry>,
    #[serde(default)]
    pub until: Vec<StepEntry>,
    #[serde(default)]
    pub unless: Vec<StepEntry>,
    pub roster: Option<Spanned<toml::Value>>,
    pub ratio: Option<Spanned<f64>>,
    pub p: Option<Spanned<f64>>,
    pub hours: Option<Spanned<String>>,
    pub severity: Spanned<String>,
    #[serde(default = "default_fresh")]
    pub fresh: Span,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "there is one way so far; the key keeps it from being taken for granted"
    )]
    pub late: LateEntry,
    #[serde(default = "default_fold")]
    pub fold: Span,
    pub max_keys: Option<Spanned<u64>>,
    pub max_events: Option<Spanned<u64>>,
    #[serde(default)]
    pub mode: ModeEntry,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub inhibits: Option<Spanned<InhibitsEntry>>,
    pub then: Option<Spanned<ThenEntry>>,
    pub consent: Option<String>,
    #[serde(default)]
    pub approvals: Vec<String>,
    pub expires: Option<Spanned<String>>,
    #[serde(default)]
    pub test: Vec<Spanned<TrialEntry>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InhibitsEntry {
    #[serde(default)]
    pub kinds: Vec<KindEntry>,
    #[serde(default)]
    pub rules: Vec<Spanned<String>>,
    pub same: SameEntry,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThenEntry {
    pub case: Option<String>,
    pub route: Option<Spanned<String>>,
    pub ack: Option<Spanned<Span>>,
}

/// A test of a rule; `trial` runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialEntry {
    /// What it shows.
    pub name: String,
    /// Time of day of "0m"; midnight unless said otherwise.
    pub start: Option<String>,
    /// `"5m door.forced building=B1"`, each with the time that it happens.
    pub events: Vec<String>,
    /// How they are brought: in-order, shuffled, reversed, duplicated, restarted, delayed:48h.
    #[serde(default)]
    pub deliver: Vec<String>,
    /// Up to when the agents are heard; the end of the last window if it is not given.
    pub heard: Option<Span>,
    /// The warnings in the end, and no others.
    #[serde(default)]
    pub expect: Vec<ExpectEntry>,
}

/// A warning that a test expects.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectEntry {
    /// When.
    pub at: Span,
    /// Values of the key with `|` between; its `site` may be left out where that is `site`.
    pub key: String,
    /// Hits, if they matter.
    pub hits: Option<i64>,
    /// Ways of delivery in which it is 补报.
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
