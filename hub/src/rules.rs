//! The running rules: read from their directory, replaced, listed.
//!
//! A reload (SIGHUP, or `POST /api/v1/rules/reload`) reads and checks all files first. If one is wrong,
//! nothing changes, and the answer says why. If all are good, they are replaced between two
//! transactions: unchanged rules keep their timelines, the others are filled from the store.
//! The reload waits for that, and so do events: as long as a warm-up of those rules takes. Then
//! the tests beside the rules run (`tried`); the log has the failing ones.
use linli_shared::service::clock;
use linli_shared::service::config::ConfigError;
use linli_shared::service::metrics::Registrar;
use linli_shared::service::telemetry;
use prometheus::IntCounter;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::centre::Centre;
use crate::centre::addressees::Addressees;
use crate::ingest::Ingest;
use linli_domain::correlate::rule::{Rule, Vocabulary, load_directory};

mod tried;

/// Reads the rules of a directory.
#[derive(Debug, Clone)]
pub struct RuleLoader {
    directory: PathBuf,
    vocabulary: Vocabulary,
    addressees: Addressees,
}

/// A route without a channel: warnings of its rules notify nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Untold {
    /// The route.
    pub route: String,
    /// Running rules that use it, not on trial.
    pub rules: Vec<String>,
}

impl RuleLoader {
    /// Of a directory, for this centre.
    pub fn new(directory: PathBuf, centre: &Centre) -> Self {
        Self {
            directory,
            vocabulary: centre.vocabulary(),
            addressees: centre.addressees.clone(),
        }
    }

    /// The same for another directory.
    pub fn of_directory(self, directory: PathBuf) -> Self {
        Self { directory, ..self }
    }

    /// All rules, checked.
    pub fn load(&self) -> Result<Vec<Arc<Rule>>, ConfigError> {
        let rules = load_directory(&self.directory, &self.vocabulary)?;
        Ok(rules.into_iter().map(Arc::new).collect())
    }

    /// The routes without a channel, by name.
    pub fn untold(&self, rules: &[Arc<Rule>], now_ms: i64) -> Vec<Untold> {
        let mut untold: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let tells = |rule: &&Arc<Rule>| !rule.route.is_empty() && !rule.shadow && rule.runs(now_ms);
        for rule in rules.iter().filter(tells) {
            if !self.addressees.has_any(&rule.route) {
                untold.entry(&rule.route).or_default().push(rule.id.clone());
            }
        }
        untold
            .into_iter()
            .map(|(route, rules)| Untold {
                route: route.to_owned(),
                rules,
            })
            .collect()
    }

    /// Warns in the log about routes without a channel.
    pub fn warn_of_untold(&self, rules: &[Arc<Rule>]) {
        for untold in self.untold(rules, clock::wall_ms()) {
            tracing::warn!(
                route = untold.route,
                rules = untold.rules.join(", "),
                "this route has no channel: nobody is told of the warnings of these rules"
            );
        }
    }
}

/// Why the rules were not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A file is wrong. The rules from before go on.
    #[error(transparent)]
    Rules(#[from] ConfigError),
    /// The store fails; the rules are replaced when it accepts writes again.
    #[error("the store failed")]
    Store,
}

/// Handle of the rules that run.
#[derive(Clone)]
pub struct Rules {
    loader: RuleLoader,
    ingest: Ingest,
    reload_failures: IntCounter,
    running: watch::Sender<Vec<Arc<Rule>>>,
    /// One reload at a time: the last read rules are the running ones.
    turn: Arc<Mutex<()>>,
}

impl Rules {
    /// `running` are the rules that the writer started with.
    pub fn new(
        loader: RuleLoader,
        running: Vec<Arc<Rule>>,
        ingest: Ingest,
        registrar: &Registrar,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            loader,
            ingest,
            reload_failures: registrar.counter(
                "linli_hub_rule_reload_failures_total",
                "Reloads that were not taken: the rules from before go on.",
            )?,
            running: watch::Sender::new(running),
            turn: Arc::default(),
        })
    }

    /// The rules that run.
    pub fn running(&self) -> Vec<Arc<Rule>> {
        self.running.borrow().clone()
    }

    /// The rules that run, as they change.
    pub fn watch(&self) -> watch::Receiver<Vec<Arc<Rule>>> {
        self.running.subscribe()
    }

    /// Reads the files again and replaces the rules; returns how many.
    pub async fn reload(&self) -> Result<usize, ReloadError> {
        let outcome = self.try_reload().await;
        if let Err(error) = &outcome {
            self.reload_failures.inc();
            tracing::error!(
                error = telemetry::chain(error),
                "the rules are not taken; those from before go on"
            );
        }
        outcome
    }

    async fn try_reload(&self) -> Result<usize, ReloadError> {
        let _turn = self.turn.lock().await;
        let rules = self.loader.load()?;
        let count = rules.len();
        let outcome = self.ingest.reload(rules.clone()).await;
        // After a failure of the store the writer starts anew, with these.
        self.running.send_replace(rules.clone());
        outcome.map_err(|_| ReloadError::Store)?;
        self.loader.warn_of_untold(&rules);
        tried::report(rules).await;
        Ok(count)
    }

    /// Handles SIGHUP from now on; the returned future reloads at each, until `stop`.
    pub fn on_hangup(
        self,
        stop: CancellationToken,
    ) -> io::Result<impl Future<Output = io::Result<()>>> {
        let mut hangups = signal(SignalKind::hangup())?;
        Ok(async move {
            loop {
                // Both arms are cancel-safe: a received signal is kept.
                tokio::select! {
                    _ = hangups.recv() => {
                        // The log has the error; the hub goes on.
                        let _ = self.reload().await;
                    }
                    () = stop.cancelled() => return Ok(()),
                }
            }
        })
    }
}
