//! Rule files: strict TOML.
//!
//! ```toml
//! schema = 1
//! [[rule]]
//! id = "fire-then-forced"
//! name = "火警后强行开门"
//! kind = "all_of"                    # match | count | all_of
//! key = ["site", "building"]         # site, building, unit, address, device, type, source, or an attribute
//! within = "10m"                     # count and all_of
//! times = 3                          # count
//! on = [{ type = "fire.alarm" }, { type = "door.forced" }]
//! severity = "life"                  # info | notice | warning | alarm | life
//! fresh = "15m"                      # older firings are marked 补报
//! fold = "30m"                       # firings this near are one warning
//! then = { case = "public-safety", route = "duty-centre" }
//! ```
use linli_shared::protocol::event::{Event, Severity, is_kind};
use linli_shared::service::config::{ConfigError, Span, load};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::HORIZON_MS;

/// Fields that must not be a key: they name a person, and rules are not about persons.
const PERSONAL_KEYS: &[&str] = &[
    "card",
    "person",
    "name",
    "phone",
    "caller",
    "id_number",
    "face",
];
const RULES_MAX: usize = 1000;
const STEPS_MAX: usize = 8;
const TIMES_MAX: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    schema: u32,
    #[serde(default)]
    rule: Vec<RuleEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindEntry {
    Match,
    Count,
    AllOf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    id: String,
    name: String,
    kind: KindEntry,
    #[serde(default)]
    key: Vec<String>,
    within: Option<Span>,
    times: Option<u32>,
    on: Vec<BTreeMap<String, String>>,
    severity: String,
    #[serde(default = "default_fresh")]
    fresh: Span,
    #[serde(default = "default_fold")]
    fold: Span,
    then: Option<ThenEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThenEntry {
    case: Option<String>,
    #[serde(default)]
    route: String,
}

fn default_fresh() -> Span {
    Span::from_secs(3600)
}

fn default_fold() -> Span {
    Span::from_secs(1800)
}

/// What one step of a rule wants of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Kind, exact.
    pub kind: String,
    /// Other fields, exact.
    pub fields: Vec<(String, String)>,
}

impl Step {
    /// The event is of this step. The kind has been compared. The site is the agent's, not the event's.
    pub fn fits(&self, event: &Event, site: &str) -> bool {
        self.fields.iter().all(|(name, value)| {
            let found = if name == "site" {
                Some(site)
            } else {
                event.field(name)
            };
            found == Some(value)
        })
    }
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One event.
    Match,
    /// So many events of any step within a window.
    Count {
        /// How many.
        times: usize,
        /// The window, milliseconds.
        within_ms: i64,
    },
    /// One event of each step within a window, in any order.
    AllOf {
        /// The window, milliseconds.
        within_ms: i64,
    },
}

/// A rule that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    pub name: String,
    pub hash: String,
    pub kind: Kind,
    pub key: Vec<String>,
    pub steps: Vec<Step>,
    pub severity: Severity,
    pub fresh_ms: i64,
    pub fold_ms: i64,
    pub case: Option<String>,
    pub route: String,
}

impl Rule {
    /// How long its windows are, milliseconds.
    pub fn within_ms(&self) -> i64 {
        match self.kind {
            Kind::Match => 0,
            Kind::Count { within_ms, .. } | Kind::AllOf { within_ms } => within_ms,
        }
    }
}

/// Reads all rules of a directory (`*.toml`, in the order of their names). A directory that is
/// not there is an error: a hub without rules would raise nothing, and nobody would see why.
pub fn load_directory(directory: &Path) -> Result<Vec<Rule>, ConfigError> {
    let entries = std::fs::read_dir(directory).map_err(|source| ConfigError::Read {
        path: directory.to_owned(),
        source,
    })?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    let mut rules: Vec<Rule> = Vec::new();
    for file in files {
        let wrong = |key: String, message: String| ConfigError::Value {
            path: file.clone(),
            key,
            message,
        };
        let content: RuleFile = load(&file)?;
        if content.schema != 1 {
            return Err(wrong(
                "schema".to_owned(),
                format!(
                    "{} is not known here: this version reads schema 1",
                    content.schema
                ),
            ));
        }
        for entry in content.rule {
            let id = entry.id.clone();
            if rules.iter().any(|rule| rule.id == id) {
                return Err(wrong(
                    format!("rule {id:?}"),
                    "there is another rule with this id: give each its own".to_owned(),
                ));
            }
            let rule = check(entry)
                .map_err(|(key, message)| wrong(format!("rule {id:?} {key}"), message))?;
            rules.push(rule);
        }
        if rules.len() > RULES_MAX {
            return Err(wrong(
                "rule".to_owned(),
                format!("more than {RULES_MAX} rules"),
            ));
        }
    }
    Ok(rules)
}

fn check(entry: RuleEntry) -> Result<Rule, (&'static str, String)> {
    let hash = hex::encode(&Sha256::digest(format!("{entry:?}").as_bytes())[..8]);
    let severity = Severity::from_name(&entry.severity).ok_or_else(|| {
        let names = Severity::ALL.map(Severity::as_str).join(", ");
        (
            "severity",
            format!("{:?} is none of {names}", entry.severity),
        )
    })?;
    for field in &entry.key {
        if PERSONAL_KEYS.contains(&field.as_str()) {
            return Err((
                "key",
                format!("{field:?} names a person: keys are places, devices and types"),
            ));
        }
    }
    if entry.on.is_empty() || entry.on.len() > STEPS_MAX {
        return Err(("on", format!("needs 1 to {STEPS_MAX} steps")));
    }
    let mut steps = Vec::with_capacity(entry.on.len());
    for mut fields in entry.on {
        let kind = fields.remove("type").ok_or_else(|| {
            (
                "on",
                "each step needs a type, like \"door.forced\"".to_owned(),
            )
        })?;
        if !is_kind(&kind) {
            return Err((
                "on",
                format!("type {kind:?} is not a dotted kind like \"door.forced\""),
            ));
        }
        steps.push(Step {
            kind,
            fields: fields.into_iter().collect(),
        });
    }
    let within_ms = || {
        let span = entry.within.ok_or_else(|| {
            (
                "within",
                "is missing: this kind needs a window, like \"10m\"".to_owned(),
            )
        })?;
        let ms = span.as_millis();
        if ms == 0 || ms > HORIZON_MS {
            return Err((
                "within",
                "must be more than nothing and at most the horizon of 7d".to_owned(),
            ));
        }
        Ok(ms)
    };
    let kind = match entry.kind {
        KindEntry::Match => {
            if entry.within.is_some() {
                return Err(("within", "has no meaning for match: remove it".to_owned()));
            }
            Kind::Match
        }
        KindEntry::Count => {
            let times = entry.times.filter(|times| (2..=TIMES_MAX).contains(times));
            let times = times.ok_or_else(|| {
                (
                    "times",
                    format!("count needs times between 2 and {TIMES_MAX}"),
                )
            })?;
            Kind::Count {
                times: times as usize,
                within_ms: within_ms()?,
            }
        }
        KindEntry::AllOf => {
            if steps.len() < 2 {
                return Err(("on", "all_of needs at least two steps".to_owned()));
            }
            Kind::AllOf {
                within_ms: within_ms()?,
            }
        }
    };
    if entry.times.is_some() && entry.kind != KindEntry::Count {
        return Err((
            "times",
            "has a meaning for count only: remove it".to_owned(),
        ));
    }
    let then = entry.then.unwrap_or_default();
    Ok(Rule {
        id: entry.id,
        name: entry.name,
        hash,
        kind,
        key: entry.key,
        steps,
        severity,
        fresh_ms: entry.fresh.as_millis(),
        fold_ms: entry.fold.as_millis(),
        case: then.case,
        route: then.route,
    })
}
