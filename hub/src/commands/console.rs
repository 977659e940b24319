//! The command line as an actor: the services with the rights of [`Role::CommandLine`], in the name of the operating
//! system's user, `os:name`.
//!
//! A command that reads what the API shows under rights, or that changes something, has an entry in the audit log before
//! it does: `console.read` or `console.change`, with the command as object. Changes that have an entry of their own
//! (users, organisations, tokens, the clock, the database) have that one only.
use linli_shared::service::exit::{self, Failure, config_code, failure};
use linli_shared::service::os_user;
use std::sync::Arc;

use crate::case_policy::NamedOnly;
use crate::clock_watch::ClockWatch;
use crate::config::Config;
use crate::ingest::people_changes::PeopleChange;
use crate::rules::RuleLoader;
use crate::services::rules::RunningRules;
use crate::services::{Parts, ServiceError, Services, Writes};
use linli_domain::correlate::rule::Rule;
use linli_domain::rights::{Actor, Role};
use linli_store::Store;

/// The services for a command, and who runs it.
pub struct Console {
    /// The services.
    pub services: Services,
    /// The operating system's user.
    pub actor: Actor,
    writes: Writes,
}

/// Who runs the command line.
pub fn actor() -> Actor {
    Actor {
        login: format!("os:{}", os_user::name()),
        role: Role::CommandLine,
        org: String::new(),
    }
}

impl Console {
    /// For commands that need no rules.
    pub fn new(config: &Config, store: &Store) -> Self {
        Self::with_rules(config, store, Vec::new())
    }

    /// For commands that show warnings: which are hidden goes by the rules.
    pub fn load(config: &Config, store: &Store) -> Result<Self, Failure> {
        let rules = RuleLoader::new(config.rules_dir.clone(), &config.centre()).load();
        let rules = rules.map_err(|error| failure(config_code(&error))(&error))?;
        Ok(Self::with_rules(config, store, rules))
    }

    /// With these rules.
    pub fn with_rules(config: &Config, store: &Store, rules: Vec<Arc<Rule>>) -> Self {
        let writes = Writes::Own(store.clone());
        let (_, clock) = ClockWatch::channel();
        let services = Services::new(Parts {
            store: store.clone(),
            writes: writes.clone(),
            rules: RunningRules::Loaded(rules),
            named_only: NamedOnly::nobody(&config.case_files),
            dispatch: Arc::clone(&config.case_files.dispatch),
            mute_life: config.warnings.mute_life,
            sites: config.site.iter().map(|site| site.name.clone()).collect(),
            cases: None,
            refusals: None,
            clock,
        });
        Self {
            services,
            actor: actor(),
            writes,
        }
    }

    /// Notes in the audit log that the command is about to show something.
    pub async fn reads(&self, command: &str, detail: String) -> Result<(), Failure> {
        self.note("console.read", command, detail).await
    }

    /// Notes in the audit log that the command is about to change something.
    pub async fn changes(&self, command: &str, detail: String) -> Result<(), Failure> {
        self.note("console.change", command, detail).await
    }

    async fn note(&self, action: &str, object: &str, detail: String) -> Result<(), Failure> {
        let note = PeopleChange::Note {
            action: action.to_owned(),
            object: object.to_owned(),
            reason: String::new(),
            detail,
        };
        let noted = self.writes.people(note, &self.actor.login).await;
        noted.map(|_| ()).map_err(failed)
    }
}

/// What an error of a service means for the command line. A field of the request is an option there.
pub fn failed(error: ServiceError) -> Failure {
    match error {
        ServiceError::Store(error) => failure(exit::IO)(&error),
        ServiceError::Busy => failure(exit::IO)(&error),
        ServiceError::Invalid { field, message } => Failure {
            text: format!("--{field}: {message}"),
            code: exit::DATA,
        },
        error => Failure {
            text: error.to_string(),
            code: exit::DATA,
        },
    }
}
