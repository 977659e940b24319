//! The constraints on rules, and the messages about violations.
use jiff::Timestamp;
use jiff::civil::Date;
use linli_shared::protocol::event::{KNOWN_KINDS, Severity, is_kind};
use linli_shared::service::config::ConfigError;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

use super::file::{
    InhibitsEntry, KindEntry, LevelEntry, ModeEntry, RuleEntry, RuleFile, SameEntry, StepEntry,
};
use super::{
    FIELDS, Field, Hours, Inhibits, KEY_FIELDS_MAX, Kind, Level, Roster, Rule, Same, Step,
    push_escaped,
};
use crate::correlate::timeline::STEPS_MAX;
use crate::correlate::{HORIZON_MS, KEY_EVENTS_MAX, KEYS_MAX};

/// Maximum length of a kind of case, characters: as for all names in a case (`cases::moves`).
const CASE_CHARS_MAX: usize = 64;
use crate::local_time;

/// Fields that name a person: rules are not about persons and must not use them.
const PERSONAL_FIELDS: &[&str] = &[
    "card",
    "card_no",
    "card_pseudonym",
    "employee_pseudonym",
    "name_pseudonym",
    "person",
    "name",
    "phone",
    "caller",
    "id_number",
    "id_card",
    "face",
    "employee",
    "resident",
    "victim",
    "suspect",
    "plate",
];
const RULES_MAX: usize = 1000;
const TIMES_MAX: u32 = 1000;
/// Maximum window read from the store, milliseconds: 400 days.
const STORE_MS: i64 = 400 * 86_400_000;
const MAX_KEYS: u64 = 2_000_000;
const MAX_EVENTS: u64 = 65_536;
/// Validity of a consent, days; afterwards it must be requested again.
const CONSENT_DAYS: i64 = 366;

/// The names that rules may refer to.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// Routes of the hub's config.
    pub routes: Vec<String>,
    /// Routes of a config that defines none.
    pub default_routes: &'static [&'static str],
    /// Sites of the hub's config with their buildings; empty: no sites are configured, and every name is
    /// accepted.
    pub sites: BTreeMap<String, BTreeSet<String>>,
}

/// A violation: bytes of the file, key, message.
type Wrong = (Range<usize>, &'static str, String);

/// Reads all rules of a directory (`*.toml`, ordered by name). A missing directory is an error: a hub without
/// rules would raise nothing, and nobody would see why. Errors: [`ConfigError`].
pub fn load_directory(directory: &Path, vocabulary: &Vocabulary) -> Result<Vec<Rule>, ConfigError> {
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
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        load_text(&path, &text, vocabulary, &mut rules)?;
    }
    inhibited_rules_exist(directory, &rules)?;
    Ok(rules)
}

/// Reads the rules of one file and appends them to `rules`. Errors: [`ConfigError`].
pub fn load_text(
    path: &Path,
    text: &str,
    vocabulary: &Vocabulary,
    rules: &mut Vec<Rule>,
) -> Result<(), ConfigError> {
    let content: RuleFile = toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let wrong = |at: Range<usize>, key: String, message: String| {
        let line = text[..at.start.min(text.len())].matches('\n').count() + 1;
        ConfigError::Value {
            path: path.to_owned(),
            key: format!("line {line}: {key}"),
            message,
        }
    };
    if *content.schema.get_ref() != 1 {
        return Err(wrong(
            content.schema.span(),
            "schema".to_owned(),
            format!(
                "{} is not known here: this version reads schema 1",
                content.schema.get_ref()
            ),
        ));
    }
    let mut kinds: BTreeSet<&str> = KNOWN_KINDS.iter().copied().collect();
    for kind in &content.kinds {
        if !is_kind(kind.get_ref()) {
            let message = format!(
                "{:?} is not a dotted kind like \"pump.dry\"",
                kind.get_ref()
            );
            return Err(wrong(kind.span(), "kinds".to_owned(), message));
        }
        kinds.insert(kind.get_ref());
    }
    for entry in &content.rule {
        let id = entry.get_ref().id.get_ref().clone();
        if let Some(other) = rules.iter().find(|rule| rule.id == id) {
            let message = format!(
                "there is another rule with this id in {}: give each its own",
                other.file
            );
            return Err(wrong(
                entry.get_ref().id.span(),
                format!("rule {id:?} id"),
                message,
            ));
        }
        if rules.len() >= RULES_MAX {
            return Err(wrong(
                entry.span(),
                format!("rule {id:?}"),
                format!("more than {RULES_MAX} rules"),
            ));
        }
        let mut rule = check(entry, vocabulary, &kinds)
            .map_err(|(at, key, message)| wrong(at, format!("rule {id:?} {key}"), message))?;
        rule.hash = hex::encode(&Sha256::digest(format!("{rule:?}").as_bytes())[..8]);
        rule.file = path.display().to_string();
        for trial in &entry.get_ref().test {
            crate::correlate::trial::parse(&rule, trial.get_ref())
                .map_err(|message| wrong(trial.span(), format!("rule {id:?} test"), message))?;
            rule.trials.push(trial.get_ref().clone());
        }
        rules.push(rule);
    }
    Ok(())
}

fn inhibited_rules_exist(directory: &Path, rules: &[Rule]) -> Result<(), ConfigError> {
    for rule in rules {
        let named = rule.inhibits.iter().flat_map(|inhibits| &inhibits.rules);
        if let Some(missing) = named
            .into_iter()
            .find(|id| !rules.iter().any(|rule| rule.id == **id))
        {
            return Err(ConfigError::Value {
                path: directory.to_owned(),
                key: format!("rule {:?} inhibits", rule.id),
                message: format!("there is no rule {missing:?}"),
            });
        }
    }
    Ok(())
}

fn missing(entry: &Spanned<RuleEntry>, key: &'static str, message: &str) -> Wrong {
    (
        entry.get_ref().kind.span(),
        key,
        format!("is missing: {message}"),
    )
}

fn check(
    spanned: &Spanned<RuleEntry>,
    vocabulary: &Vocabulary,
    kinds: &BTreeSet<&str>,
) -> Result<Rule, Wrong> {
    let entry = spanned.get_ref();
    if entry.id.get_ref().is_empty() || entry.id.get_ref().starts_with("rule.") {
        return Err((
            entry.id.span(),
            "id",
            "must not be empty or begin with \"rule.\"".to_owned(),
        ));
    }
    let severity = Severity::from_name(entry.severity.get_ref()).ok_or_else(|| {
        let names = Severity::ALL.map(Severity::as_str).join(", ");
        let message = format!("{:?} is none of {names}", entry.severity.get_ref());
        (entry.severity.span(), "severity", message)
    })?;
    if let Some(more) = entry.key.get(KEY_FIELDS_MAX) {
        let message = format!("a key has at most {KEY_FIELDS_MAX} fields");
        return Err((more.span(), "key", message));
    }
    let mut key = Vec::with_capacity(entry.key.len());
    for name in &entry.key {
        key.push(field(name.get_ref(), name.span(), "key")?);
    }
    let mut steps = Vec::new();
    for (name, listed) in [
        ("on", &entry.on),
        ("until", &entry.until),
        ("unless", &entry.unless),
    ] {
        for step in listed {
            steps.push(check_step(name, step, vocabulary, kinds)?);
        }
    }
    if steps.len() > STEPS_MAX {
        return Err((
            spanned.span(),
            "on",
            format!("a rule has at most {STEPS_MAX} steps"),
        ));
    }
    let kind = check_kind(spanned)?;
    allow_only_of_kind(entry)?;
    let max_events = limit(
        entry.max_events.as_ref(),
        "max_events",
        KEY_EVENTS_MAX,
        MAX_EVENTS,
    )?;
    if kind.times() > max_events {
        let at = entry
            .max_events
            .as_ref()
            .map_or(entry.kind.span(), Spanned::span);
        let times = kind.times();
        let message = format!(
            "{max_events} events of a key are kept, and times = {times}: it must be as many at least"
        );
        return Err((at, "max_events", message));
    }
    let roster = check_roster(spanned, vocabulary, &key)?;
    let agents = roster == Roster::Agents;
    if entry.on.is_empty() != agents {
        let message = if agents {
            "has no meaning for a roster of agents: remove it"
        } else {
            "is missing: what events does it look at, like [{ type = \"door.forced\" }]?"
        };
        return Err((entry.kind.span(), "on", message.to_owned()));
    }
    let many = matches!(kind, Kind::AllOf { .. } | Kind::Sequence { .. });
    if many && entry.on.len() < 2 {
        let message = format!("{} needs at least two steps", kind.as_str());
        return Err((entry.kind.span(), "on", message));
    }
    if matches!(kind, Kind::Absent { .. }) && entry.until.is_empty() {
        return Err(missing(
            spanned,
            "until",
            "what was to follow, like [{ type = \"door.closed\" }]?",
        ));
    }
    if let Some(inhibits) = &entry.inhibits
        && !kind.waits()
    {
        let message =
            "is of the kinds absent and silent only, which go on until they end: remove it";
        return Err((inhibits.span(), "inhibits", message.to_owned()));
    }
    let then = entry.then.as_ref().map(Spanned::get_ref);
    let route = then.and_then(|then| then.route.as_ref());
    if let Some(route) = route
        && !vocabulary.routes.contains(route.get_ref())
    {
        let message = format!(
            "route {:?} is not in the hub's config, which has {}; any [[route]] there replaces the default ones: {}",
            route.get_ref(),
            vocabulary.routes.join(", "),
            vocabulary.default_routes.join(", ")
        );
        return Err((route.span(), "then", message));
    }
    let ack = then.and_then(|then| then.ack.as_ref());
    if let Some(ack) = ack
        && route.is_none()
    {
        return Err((
            ack.span(),
            "then",
            "ack needs a route: who is to acknowledge?".to_owned(),
        ));
    }
    let case = then.and_then(|then| then.case.clone());
    let is_no_kind =
        |case: &String| case.trim().is_empty() || case.chars().count() > CASE_CHARS_MAX;
    if case.as_ref().is_some_and(is_no_kind) {
        let message = format!("case needs 1 to {CASE_CHARS_MAX} characters");
        return Err((spanned.span(), "then", message));
    }
    Ok(Rule {
        id: entry.id.get_ref().clone(),
        name: entry.name.clone(),
        hash: String::new(),
        kind,
        level: match entry.level {
            LevelEntry::Place => Level::Place,
            LevelEntry::Device => Level::Device,
            LevelEntry::Type => Level::Type,
            LevelEntry::Person => Level::Person,
        },
        key,
        on: entry.on.len(),
        steps,
        distinct: entry
            .distinct
            .as_ref()
            .map(|name| field(name.get_ref(), name.span(), "distinct"))
            .transpose()?,
        roster,
        hours: entry
            .hours
            .as_ref()
            .map(|hours| {
                parse_hours(hours.get_ref()).ok_or_else(|| {
                    let message = format!("{:?} is not like \"22:00-06:00\"", hours.get_ref());
                    (hours.span(), "hours", message)
                })
            })
            .transpose()?,
        severity,
        fresh_ms: entry.fresh.as_millis(),
        fold_ms: entry.fold.as_millis(),
        max_keys: limit(entry.max_keys.as_ref(), "max_keys", KEYS_MAX, MAX_KEYS)?,
        max_events,
        shadow: entry.mode == ModeEntry::Shadow,
        enabled: entry.enabled,
        inhibits: entry.inhibits.as_ref().map(check_inhibits).transpose()?,
        case,
        route: route
            .map(|route| route.get_ref().clone())
            .unwrap_or_default(),
        ack_ms: ack.map(|ack| ack.get_ref().as_millis()),
        expires_ms: check_person(spanned)?,
        file: String::new(),
        trials: Vec::new(),
    })
}

fn limit(
    given: Option<&Spanned<u64>>,
    key: &'static str,
    default: usize,
    max: u64,
) -> Result<usize, Wrong> {
    let Some(given) = given else {
        return Ok(default);
    };
    let value = *given.get_ref();
    if (1..=max).contains(&value) {
        return Ok(value as usize);
    }
    Err((given.span(), key, format!("must be between 1 and {max}")))
}

fn field(name: &str, at: Range<usize>, key: &'static str) -> Result<Field, Wrong> {
    let bare = name.strip_prefix("attributes.").unwrap_or(name);
    if PERSONAL_FIELDS.contains(&bare) {
        let message = format!("{name:?} names a person: rules are about places, devices and types");
        return Err((at, key, message));
    }
    Field::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "{name:?} is not a field: there are {}; an attribute of a mapping is written \"attributes.NAME\"",
            known.join(", ")
        );
        (at, key, message)
    })
}

fn check_step(
    key: &'static str,
    step: &StepEntry,
    vocabulary: &Vocabulary,
    kinds: &BTreeSet<&str>,
) -> Result<Step, Wrong> {
    let mut kind = None;
    let mut fields = Vec::new();
    let mut at_site: Vec<String> = Vec::new();
    for (name, value) in step.get_ref() {
        let values = texts(value.get_ref()).ok_or_else(|| {
            let message = format!("{name} must be a text, or a list of texts that are all allowed");
            (value.span(), key, message)
        })?;
        if name == "type" {
            let [text] = values.as_slice() else {
                return Err((
                    value.span(),
                    key,
                    "a step has one type: write a step for each".to_owned(),
                ));
            };
            if !kinds.contains(text.as_str()) {
                return Err((value.span(), key, unknown_kind(text, kinds)));
            }
            kind = Some(text.clone());
            continue;
        }
        let field = field(name, value.span(), key)?;
        if field == Field::Site {
            known_sites(&values, vocabulary).map_err(|message| (value.span(), key, message))?;
            at_site.clone_from(&values);
        }
        fields.push((field, values));
    }
    for (field, values) in &fields {
        if *field == Field::Event("building") {
            known_buildings(&at_site, values, vocabulary)
                .map_err(|message| (step.span(), key, message))?;
        }
    }
    let kind = kind.ok_or_else(|| {
        (
            step.span(),
            key,
            "each step needs a type, like \"door.forced\"".to_owned(),
        )
    })?;
    Ok(Step { kind, fields })
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

fn unknown_kind(text: &str, kinds: &BTreeSet<&str>) -> String {
    let listed: Vec<&str> = kinds.iter().copied().collect();
    format!(
        "type {text:?} is not a known kind; there are {}. Kinds of your own are declared at the top of the file: kinds = [\"pump.dry\"]",
        listed.join(", ")
    )
}

fn known_sites(values: &[String], vocabulary: &Vocabulary) -> Result<(), String> {
    let unknown = values
        .iter()
        .find(|site| !vocabulary.sites.is_empty() && !vocabulary.sites.contains_key(*site));
    match unknown {
        None => Ok(()),
        Some(site) => {
            let known: Vec<&str> = vocabulary.sites.keys().map(String::as_str).collect();
            Err(format!(
                "site {site:?} is not in the hub's config, which has {}",
                known.join(", ")
            ))
        }
    }
}

fn known_buildings(
    sites: &[String],
    values: &[String],
    vocabulary: &Vocabulary,
) -> Result<(), String> {
    let known: BTreeSet<&str> = vocabulary
        .sites
        .iter()
        .filter(|(site, _)| sites.is_empty() || sites.contains(site))
        .flat_map(|(_, buildings)| buildings.iter().map(String::as_str))
        .collect();
    match values
        .iter()
        .find(|building| !known.is_empty() && !known.contains(building.as_str()))
    {
        None => Ok(()),
        Some(building) => {
            let known: Vec<&str> = known.into_iter().collect();
            Err(format!(
                "building {building:?} is not in the hub's config, which has {}",
                known.join(", ")
            ))
        }
    }
}

fn check_kind(spanned: &Spanned<RuleEntry>) -> Result<Kind, Wrong> {
    let entry = spanned.get_ref();
    let kind = *entry.kind.get_ref();
    let max_ms = if matches!(kind, KindEntry::Repeat | KindEntry::Surge) {
        STORE_MS
    } else {
        HORIZON_MS
    };
    let within_ms = || {
        let Some(span) = &entry.within else {
            return Err(missing(
                spanned,
                "within",
                "this kind needs a window, like \"10m\"",
            ));
        };
        let ms = span.get_ref().as_millis();
        if ms == 0 || ms > max_ms {
            let message = format!(
                "must be more than nothing and at most {}d, the horizon of this kind{}",
                max_ms / 86_400_000,
                if max_ms == HORIZON_MS {
                    "; kind = \"repeat\" looks further back"
                } else {
                    ""
                }
            );
            return Err((span.span(), "within", message));
        }
        Ok(ms)
    };
    let times = |least: u32| {
        let Some(times) = &entry.times else {
            return Err(missing(spanned, "times", "how many, like 3?"));
        };
        if !(least..=TIMES_MAX).contains(times.get_ref()) {
            return Err((
                times.span(),
                "times",
                format!("must be between {least} and {TIMES_MAX}"),
            ));
        }
        Ok(*times.get_ref() as usize)
    };
    Ok(match kind {
        KindEntry::Match => Kind::Match,
        KindEntry::Count => Kind::Count {
            times: times(2)?,
            within_ms: within_ms()?,
        },
        KindEntry::Distinct => {
            if entry.distinct.is_none() {
                return Err(missing(
                    spanned,
                    "distinct",
                    "the field whose values are counted, like \"device\"",
                ));
            }
            Kind::Distinct {
                times: times(2)?,
                within_ms: within_ms()?,
            }
        }
        KindEntry::AllOf => Kind::AllOf {
            within_ms: within_ms()?,
        },
        KindEntry::Sequence => Kind::Sequence {
            within_ms: within_ms()?,
        },
        KindEntry::Absent => Kind::Absent {
            within_ms: within_ms()?,
        },
        KindEntry::Silent => Kind::Silent {
            within_ms: within_ms()?,
        },
        KindEntry::Repeat => Kind::Repeat {
            times: times(2)?,
            within_ms: within_ms()?,
        },
        KindEntry::Surge => {
            let ratio = entry.ratio.as_ref().map_or(2.0, |ratio| *ratio.get_ref());
            let p = entry.p.as_ref().map_or(0.01, |p| *p.get_ref());
            if !(1.0..=1000.0).contains(&ratio) {
                return Err((
                    spanned.span(),
                    "ratio",
                    "must be between 1.0 and 1000.0".to_owned(),
                ));
            }
            if !(p > 0.0 && p <= 0.5) {
                return Err((
                    spanned.span(),
                    "p",
                    "must be more than 0 and at most 0.5".to_owned(),
                ));
            }
            Kind::Surge {
                times: times(1)?,
                within_ms: within_ms()?,
                ratio,
                p,
            }
        }
    })
}

/// Refuses a key that the rule's kind ignores.
fn allow_only_of_kind(entry: &RuleEntry) -> Result<(), Wrong> {
    use KindEntry::{Absent, Count, Distinct, Match, Repeat, Sequence, Silent, Surge};
    let kind = *entry.kind.get_ref();
    let at = entry.kind.span();
    let given: [(&'static str, bool, &[KindEntry]); 8] = [
        (
            "times",
            entry.times.is_some(),
            &[Count, Distinct, Repeat, Surge],
        ),
        ("distinct", entry.distinct.is_some(), &[Distinct]),
        ("until", !entry.until.is_empty(), &[Absent]),
        ("unless", !entry.unless.is_empty(), &[Sequence]),
        ("roster", entry.roster.is_some(), &[Silent]),
        ("ratio", entry.ratio.is_some(), &[Surge]),
        ("p", entry.p.is_some(), &[Surge]),
        ("hours", entry.hours.is_some() && kind == Silent, &[]),
    ];
    for (key, is_given, kinds) in given {
        if is_given && !kinds.contains(&kind) {
            return Err((
                at,
                key,
                format!("has no meaning for kind {}: remove it", kind_name(kind)),
            ));
        }
    }
    if kind == Match && entry.within.is_some() {
        return Err((
            at,
            "within",
            "has no meaning for match: remove it".to_owned(),
        ));
    }
    Ok(())
}

fn check_roster(
    spanned: &Spanned<RuleEntry>,
    vocabulary: &Vocabulary,
    key: &[Field],
) -> Result<Roster, Wrong> {
    let entry = spanned.get_ref();
    if *entry.kind.get_ref() != KindEntry::Silent {
        return Ok(Roster::None);
    }
    let Some(roster) = &entry.roster else {
        return Err(missing(
            spanned,
            "roster",
            "who is to be heard: \"agents\", or a list like [{ agent = \"gw-1\", device = \"door-1\" }]",
        ));
    };
    let wrong = |message: String| (roster.span(), "roster", message);
    if roster.get_ref().as_str() == Some("agents") {
        if key != [Field::Agent] {
            return Err(wrong("\"agents\" needs key = [\"agent\"]".to_owned()));
        }
        return Ok(Roster::Agents);
    }
    let listed = roster
        .get_ref()
        .as_array()
        .filter(|listed| !listed.is_empty());
    let listed = listed.ok_or_else(|| {
        wrong(
            "must be \"agents\" or a list like [{ agent = \"gw-1\", device = \"door-1\" }]"
                .to_owned(),
        )
    })?;
    let mut keys = BTreeMap::new();
    for item in listed {
        let text = |name: &str| item.get(name).and_then(toml::Value::as_str);
        let Some(agent) = text("agent") else {
            return Err(wrong(
                "each entry needs the agent that hears it, like agent = \"gw-1\"".to_owned(),
            ));
        };
        if let Some(site) = text("site") {
            known_sites(&[site.to_owned()], vocabulary).map_err(wrong)?;
        }
        let mut value = String::new();
        for (index, field) in key.iter().enumerate() {
            let name = field.name();
            let part = text(&name)
                .ok_or_else(|| wrong(format!("an entry lacks {name:?}, a field of the key")))?;
            if index > 0 {
                value.push('|');
            }
            push_escaped(&mut value, part);
        }
        if let Some(other) = keys.insert(value.clone(), agent.to_owned()) {
            return Err(wrong(format!(
                "{value:?} is listed twice, with agents {other:?} and {agent:?}: a thing is heard by one agent"
            )));
        }
    }
    Ok(Roster::Keys(keys))
}

fn check_inhibits(spanned: &Spanned<InhibitsEntry>) -> Result<Inhibits, Wrong> {
    let entry = spanned.get_ref();
    if entry.kinds.is_empty() && entry.rules.is_empty() {
        return Err((
            spanned.span(),
            "inhibits",
            "needs kinds or rules".to_owned(),
        ));
    }
    Ok(Inhibits {
        kinds: entry
            .kinds
            .iter()
            .map(|kind| kind_name(*kind).to_owned())
            .collect(),
        rules: entry
            .rules
            .iter()
            .map(|rule| rule.get_ref().clone())
            .collect(),
        same: match entry.same {
            SameEntry::Agent => Same::Agent,
            SameEntry::Site => Same::Site,
            SameEntry::Key => Same::Key,
        },
    })
}

fn kind_name(kind: KindEntry) -> &'static str {
    match kind {
        KindEntry::Match => "match",
        KindEntry::Count => "count",
        KindEntry::Distinct => "distinct",
        KindEntry::AllOf => "all_of",
        KindEntry::Sequence => "sequence",
        KindEntry::Absent => "absent",
        KindEntry::Silent => "silent",
        KindEntry::Repeat => "repeat",
        KindEntry::Surge => "surge",
    }
}

/// The expiry of a rule about a person. Such a rule needs a consent and two approvals.
fn check_person(spanned: &Spanned<RuleEntry>) -> Result<Option<i64>, Wrong> {
    let entry = spanned.get_ref();
    let at = entry.id.span();
    if entry.level != LevelEntry::Person {
        if entry.consent.is_some() || !entry.approvals.is_empty() || entry.expires.is_some() {
            let message =
                "consent, approvals and expires are of level = \"person\" only: remove them";
            return Err((at, "level", message.to_owned()));
        }
        return Ok(None);
    }
    if entry
        .consent
        .as_ref()
        .is_none_or(|consent| consent.trim().is_empty())
    {
        let message = "is missing: a rule about a person needs the number of the person's consent";
        return Err((at, "consent", message.to_owned()));
    }
    let approvals: BTreeSet<&str> = entry
        .approvals
        .iter()
        .map(|approval| approval.trim())
        .filter(|approval| !approval.is_empty())
        .collect();
    if approvals.len() < 2 {
        let message = "a rule about a person needs the approvals of two different people";
        return Err((at, "approvals", message.to_owned()));
    }
    let Some(expires) = &entry.expires else {
        let message = "is missing: a rule about a person ends on a day, like \"2027-03-01\"";
        return Err((at, "expires", message.to_owned()));
    };
    let day: Date = expires.get_ref().parse().map_err(|_| {
        let message = format!("{:?} is not a day like \"2027-03-01\"", expires.get_ref());
        (expires.span(), "expires", message)
    })?;
    let end_ms = local_time::midnight_ms(day).unwrap_or(0);
    let limit_ms = Timestamp::now().as_millisecond() + CONSENT_DAYS * 86_400_000;
    if end_ms > limit_ms {
        let message = "is more than a year away: a consent is asked for again each year";
        return Err((expires.span(), "expires", message.to_owned()));
    }
    Ok(Some(end_ms))
}

/// Parses hours like `"22:00-06:00"`.
fn parse_hours(text: &str) -> Option<Hours> {
    let (from, to) = text.split_once('-')?;
    let hours = Hours {
        from: minute_of_day(from)?,
        to: minute_of_day(to)?,
    };
    (hours.from != hours.to).then_some(hours)
}

/// Parses a time like `"22:00"` as minutes since midnight.
pub(crate) fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour <= 23 && minute <= 59 || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
}
