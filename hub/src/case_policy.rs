//! The policy of cases beside their own log: terms, working calendars, organisations, handlers of cases for named
//! handlers only, and the keys of sealed fields. The writer owns one value of it.
//!
//! Without a directory there is one organisation, the centre, which works day and night: a hub can open
//! cases before the district is described.
use linli_shared::protocol::event::{Event, Severity};
use linli_shared::service::config::{ConfigError, load};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linli_domain::calendar::{ALWAYS, Calendar, Calendars, file};
use linli_domain::cases::case::Case;
use linli_domain::cases::clock::Rules;
use linli_domain::cases::decide::Context;
use linli_domain::cases::dispatch::{self, Dispatch};
use linli_domain::cases::intake::{self, Taxonomy};
use linli_domain::cases::terms::Terms;
use linli_domain::orgs::{CENTRE, Directory, Org, OrgKind};
use linli_domain::rights::Actor;
use linli_store::sealed::Sealer;

/// Maximum number of calendars.
const CALENDARS_MAX: usize = 1_000;

/// `[cases]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CasesConfig {
    /// The file of terms; relative to the config. None: the defaults.
    pub terms: Option<PathBuf>,
    /// Directory of calendars; relative to the config. None: only `always`.
    pub calendars_dir: Option<PathBuf>,
    /// The file of kinds of disputes; relative to the config. None: the defaults.
    pub taxonomy: Option<PathBuf>,
    /// The file of dispatch rules; relative to the config. None: the taxonomy's leads, and the office of the place.
    pub dispatch: Option<PathBuf>,
    /// Logins of the handlers of cases for named handlers only.
    pub named_handlers: Vec<String>,
}

/// The attribute of an incident with the kind of the dispute.
pub const NATURE: &str = "nature";

/// Which cases are for named handlers only, and their handlers.
#[derive(Debug, Clone)]
pub struct NamedOnly {
    handlers: BTreeSet<String>,
    taxonomy: Taxonomy,
}

impl NamedOnly {
    /// Of a config. Without a handler nobody sees such a case, and the log says so.
    pub fn new(files: &CaseFiles) -> Self {
        let named = Self {
            handlers: files.named_handlers.iter().cloned().collect(),
            taxonomy: files.taxonomy.clone(),
        };
        if named.handlers.is_empty() {
            tracing::warn!(
                "[cases] named_handlers is empty: nobody can see cases for named handlers only, domestic violence among them"
            );
        }
        named
    }

    /// For an actor who is no named handler: hides all such cases.
    pub fn nobody(files: &CaseFiles) -> Self {
        Self {
            handlers: BTreeSet::new(),
            taxonomy: files.taxonomy.clone(),
        }
    }

    /// True if an incident is hidden from a login: its case is for named handlers only.
    pub fn hides_incident(&self, event: &Event, login: &str) -> bool {
        event
            .attributes
            .get(NATURE)
            .is_some_and(|nature| self.hides(&self.taxonomy.of_word(nature).code, login))
    }

    /// True if cases of this kind, and warnings that open one, are hidden from a login.
    pub fn hides(&self, kind: &str, login: &str) -> bool {
        self.taxonomy.is_named_only(kind) && !self.handlers.contains(login)
    }
}

/// The policy.
pub struct CasePolicy {
    /// Keys of sealed fields.
    pub sealer: Arc<Sealer>,
    /// Terms: deadlines and grades of risk.
    pub terms: Terms,
    /// Kinds of disputes.
    pub taxonomy: Taxonomy,
    /// Rules that propose a lead.
    pub dispatch: Arc<Dispatch>,
    /// Logins of the handlers of cases for named handlers only.
    pub named_handlers: Vec<String>,
    /// Organisations and places.
    pub directory: Directory,
    /// The calendar of each organisation.
    pub calendars: Calendars,
    read: Vec<Calendar>,
}

/// The parts that are read from files.
#[derive(Debug, Clone)]
pub struct CaseFiles {
    /// Terms: deadlines and grades of risk.
    pub terms: Terms,
    /// Kinds of disputes.
    pub taxonomy: Taxonomy,
    /// Rules that propose a lead.
    pub dispatch: Arc<Dispatch>,
    /// All calendars of the directory.
    pub calendars: Vec<Calendar>,
    /// Logins of the handlers of cases for named handlers only.
    pub named_handlers: Vec<String>,
}

impl Default for CaseFiles {
    fn default() -> Self {
        let taxonomy = Taxonomy::default();
        Self {
            terms: Terms::default(),
            dispatch: Arc::new(Dispatch::new(Vec::new(), &taxonomy)),
            taxonomy,
            calendars: Vec::new(),
            named_handlers: Vec::new(),
        }
    }
}

impl CaseFiles {
    /// Reads the files that the config names; `directory` is that of the config.
    pub fn load(config: &CasesConfig, directory: &Path) -> Result<Self, ConfigError> {
        let mut files = Self {
            named_handlers: config.named_handlers.clone(),
            ..Self::default()
        };
        if let Some(path) = &config.terms {
            let path = directory.join(path);
            let terms: Terms = load(&path)?;
            terms
                .check()
                .map_err(|(key, message)| ConfigError::Value { path, key, message })?;
            files.terms = terms;
        }
        if let Some(path) = &config.taxonomy {
            files.taxonomy = intake::read(&directory.join(path))?;
        }
        let dispatch = match &config.dispatch {
            Some(path) => dispatch::read(&directory.join(path), &files.taxonomy, &files.terms)?,
            None => Dispatch::new(Vec::new(), &files.taxonomy),
        };
        files.dispatch = Arc::new(dispatch);
        if let Some(path) = &config.calendars_dir {
            files.calendars = calendars(&directory.join(path))?;
        }
        Ok(files)
    }
}

fn calendars(directory: &Path) -> Result<Vec<Calendar>, ConfigError> {
    let unread = |path: &Path, source: io::Error| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(directory).map_err(|source| unread(directory, source))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    let mut calendars: Vec<Calendar> = Vec::new();
    for path in paths.into_iter().take(CALENDARS_MAX) {
        let text = std::fs::read_to_string(&path).map_err(|source| unread(&path, source))?;
        let calendar = file::parse(&path, &text)?;
        if calendars
            .iter()
            .any(|other| other.name() == calendar.name())
        {
            return Err(ConfigError::Value {
                path,
                key: "name".to_owned(),
                message: format!("{:?} is that of another calendar already", calendar.name()),
            });
        }
        calendars.push(calendar);
    }
    Ok(calendars)
}

#[cfg(test)]
impl CasePolicy {
    /// With the defaults, and a key of its own.
    pub fn of_test() -> Self {
        Self::new(CaseFiles::default(), Arc::new(Sealer::of_test()))
    }
}

impl CasePolicy {
    /// Of these files, without a directory yet.
    pub fn new(files: CaseFiles, sealer: Arc<Sealer>) -> Self {
        let mut casework = Self {
            sealer,
            terms: files.terms,
            taxonomy: files.taxonomy,
            dispatch: files.dispatch,
            named_handlers: files.named_handlers,
            directory: Directory::default(),
            calendars: Calendars::empty(),
            read: files.calendars,
        };
        casework.set_directory(Directory::default());
        casework
    }

    /// Replaces organisations and places. An organisation without its calendar works day and night, and the log says so.
    pub fn set_directory(&mut self, mut directory: Directory) {
        if directory.centre().is_none() {
            let centre = Org {
                id: CENTRE.to_owned(),
                name: "综治中心".to_owned(),
                kind: OrgKind::Centre,
                parent: String::new(),
                calendar: String::new(),
                agent: String::new(),
            };
            directory.orgs.insert(CENTRE.to_owned(), centre);
        }
        let mut missing = BTreeSet::new();
        let of_organisation: BTreeMap<String, String> = directory
            .orgs
            .keys()
            .map(|org| {
                let name = directory.calendar(org);
                let is_there = self.read.iter().any(|calendar| calendar.name() == name);
                if !is_there && !name.is_empty() && name != ALWAYS {
                    missing.insert(name.to_owned());
                }
                let name = if is_there { name } else { ALWAYS };
                (org.clone(), name.to_owned())
            })
            .collect();
        for calendar in missing {
            tracing::error!(
                calendar,
                "organisations work by a calendar that is not in [cases] calendars_dir: their clocks run day and night"
            );
        }
        self.calendars = Calendars::new(self.read.clone(), of_organisation)
            .expect("each organisation's calendar was looked for, and no two are alike");
        for name in self.dispatch.unknown(&directory) {
            tracing::warn!(
                name,
                "a dispatch rule, or a kind of the taxonomy, names an organisation or place that is not there"
            );
        }
        self.directory = directory;
    }

    /// The centre.
    pub fn centre(&self) -> &str {
        self.directory.centre().map_or(CENTRE, |centre| &centre.id)
    }

    /// The organisation of an actor; the centre if the actor has none.
    pub fn org_of<'a>(&'a self, actor: &'a Actor) -> &'a str {
        match actor.org.as_str() {
            "" => self.centre(),
            own => own,
        }
    }

    /// The context of decisions.
    pub fn context(&self, now_ms: i64) -> Context<'_> {
        Context {
            now_ms,
            rules: Rules {
                terms: &self.terms,
                calendars: &self.calendars,
            },
        }
    }

    /// The grade of risk of a severity: the gravest for life, the least for information.
    pub fn risk(&self, severity: Severity) -> String {
        let grades = &self.terms.grade;
        let at = match severity {
            Severity::Life => 0,
            Severity::Alarm => 1,
            Severity::Warning => 2,
            Severity::Notice | Severity::Info => grades.len() - 1,
        };
        grades[at.min(grades.len() - 1)].name.clone()
    }

    /// True if one grade is graver than another.
    pub fn is_graver(&self, one: &str, other: &str) -> bool {
        let place = |name: &str| self.terms.grade.iter().position(|grade| grade.name == name);
        place(one) < place(other)
    }

    /// The organisations that a case is with: those answering for its place, its lead and joint ones, and their parents;
    /// not the centre, which has all.
    pub fn orgs(&self, case: &Case, place: &str) -> BTreeSet<String> {
        let answering = self.directory.answering(place);
        let mut orgs = BTreeSet::new();
        let own = [
            answering.office,
            answering.station,
            answering.grid,
            &case.lead,
        ];
        for org in own.into_iter().chain(case.joint.keys().map(String::as_str)) {
            let mut at = self.directory.orgs.get(org);
            while let Some(org) = at.filter(|org| org.kind != OrgKind::Centre) {
                if !orgs.insert(org.id.clone()) {
                    break;
                }
                at = self.directory.orgs.get(&org.parent);
            }
        }
        orgs
    }

    /// A fingerprint of everything that deadlines and organisations of cases depend on: a new value means that they must
    /// be recomputed.
    pub fn fingerprint(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}{:?}", self.terms, self.calendars).as_bytes());
        hash.update(format!("{:?}", self.directory).as_bytes());
        let bytes = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        i64::from_be_bytes(first)
    }
}
