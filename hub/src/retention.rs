//! Retention: how long each class of data stays, and its deletion.
//!
//! ```text
//! [retention] ─▶ days by class ─┐
//! rules ─▶ floors ──────────────┴▶ run: class by class, batch by batch ─▶ store/retention (find, delete, prove)
//! job: at a set hour of the centre's clock, through the hub's writer · `retention run`: by itself
//! ```
//!
//! * Nothing stays for ever but the audit log, the proofs of deletions, and data that is not about people (the catalogue of
//!   the tables says which, and why).
//! * A chunk goes when its newest event is old enough: it holds events of one class.
//! * Everything that an open case refers to stays: its warnings, their events, the event that reported it, the cases that
//!   were merged into it. So does unfinished business: an unacknowledged warning, an absence that goes on, a
//!   waiting notice.
//! * **Correlation is not disturbed.** Data that a rule can still read ([`Floors`]) stays, whatever the config says; a hub
//!   with a shorter config does not start, and rules of a reload only prolong.
//! * Deletion runs in small transactions; between them the hub takes events. Alarms do not wait: a batch is a request of
//!   the routine queue.
//! * A file of cases is deleted after the last case that refers to it (`retention/sweep`).
//! * Ids are never reused (`store/sequences`).
//!
//! Limits: [`BATCH_ROWS`] rows a transaction.
pub mod config;
pub mod job;
pub mod metrics;
pub mod sweep;

use linli_shared::service::telemetry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::attachments::files::Files;
use crate::ingest::{Ingest, Rejection};
use config::RetentionConfig;
use linli_domain::cases::State;
use linli_domain::correlate::HORIZON_MS;
use linli_domain::correlate::engine::reach_ms;
use linli_domain::correlate::rule::Rule;
use linli_store::retention::class::Class;
use linli_store::retention::{self as stored, Batch, Cut, Found, Step, Stepped};
use linli_store::rows::Value;
use linli_store::sealed::Sealer;
use linli_store::{self as store, Connection, Store, StoreError, cases, failed};

/// A day.
pub const DAY_MS: i64 = 86_400_000;
/// Rows of one transaction; with their dependent rows it takes some milliseconds.
pub const BATCH_ROWS: i64 = 200;
/// Pause between two of them, so that a long run is no load.
const PAUSE: Duration = Duration::from_millis(20);

/// How long data stays because rules may still read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floors {
    events_ms: i64,
    warnings_ms: i64,
    occurrences_ms: i64,
    /// The rule with the longest window in memory.
    longest: String,
    /// The rule whose warnings are read the longest.
    longest_of_warnings: String,
}

impl Floors {
    /// Of these rules.
    pub fn of(rules: &[Arc<Rule>]) -> Self {
        let id = |rule: Option<&Arc<Rule>>| rule.map_or_else(String::new, |rule| rule.id.clone());
        let in_memory = rules.iter().filter(|rule| !rule.kind.reads_store());
        let longest = in_memory.max_by_key(|rule| rule.kind.within_ms());
        // A late event changes hits within a window around it, and these a finding of folding hits.
        let reaches_ms = |rule: &Rule| rule.kind.reach_ms().saturating_add(rule.fold_ms);
        let of_warnings = rules.iter().max_by_key(|rule| reaches_ms(rule));
        let reach_of_store_ms = rules
            .iter()
            .filter(|rule| rule.kind.reads_store())
            .map(|rule| reaches_ms(rule))
            .max();
        Self {
            events_ms: reach_ms(rules).unwrap_or(HORIZON_MS),
            warnings_ms: HORIZON_MS
                .saturating_add(of_warnings.map_or(0, |rule| reaches_ms(rule)))
                .saturating_add(DAY_MS),
            occurrences_ms: HORIZON_MS
                .saturating_add(reach_of_store_ms.unwrap_or(0))
                .saturating_add(DAY_MS),
            longest: id(longest),
            longest_of_warnings: id(of_warnings),
        }
    }

    /// The minimum stay of a class.
    fn of_class(&self, class: Class) -> i64 {
        match class {
            Class::EventsStandard | Class::EventsAccess | Class::EventsIncident => self.events_ms,
            Class::Warnings | Class::Notifications => self.warnings_ms,
            Class::Occurrences => self.occurrences_ms,
            // An incident that is reported again within the horizon must find its case.
            Class::Cases => HORIZON_MS,
            _ => 0,
        }
    }

    /// Checks that the config keeps what rules need; the error names key, rule and minimum.
    pub fn check(&self, config: &RetentionConfig) -> Result<(), String> {
        for class in Class::ALL {
            // Notices stay with their warnings anyway.
            let Some(days) = config.days(class).filter(|_| class != Class::Notifications) else {
                continue;
            };
            let floor_ms = self.of_class(class);
            if i64::from(days) * DAY_MS >= floor_ms {
                continue;
            }
            let needed = floor_ms.div_euclid(DAY_MS) + i64::from(floor_ms.rem_euclid(DAY_MS) > 0);
            let rule = match class {
                Class::Warnings => &self.longest_of_warnings,
                _ => &self.longest,
            };
            let why = if class == Class::Cases || rule.is_empty() {
                "late events are looked at for 7 days".to_owned()
            } else {
                format!(
                    "late events are looked at for 7 days, and rule {rule:?} looks back from there"
                )
            };
            return Err(format!(
                "[retention] {} = {days} is too short: {why}; it must be at least {needed}",
                class.as_str()
            ));
        }
        Ok(())
    }

    fn cut(&self, class: Class, config: &RetentionConfig, now_ms: i64) -> Cut {
        let floor_ms = now_ms.saturating_sub(self.of_class(class));
        Cut {
            before_ms: config.days(class).map_or(floor_ms, |days| {
                now_ms.saturating_sub(i64::from(days) * DAY_MS)
            }),
            floor_ms,
        }
    }
}

/// Why a run did not finish. Its deletions so far are proved.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub's writer.
    #[error("the writer did not delete what is due")]
    Writer(#[from] Rejection),
    /// The disk.
    #[error("files of cases cannot be deleted in {path:?}")]
    Files {
        /// Path.
        path: PathBuf,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
}

/// Who deletes.
pub enum RetentionWriter<'a> {
    /// The hub's writer.
    Hub(&'a Ingest),
    /// The command line, on a connection of its own.
    Own(&'a mut Connection),
    /// Nobody: a dry run.
    Nobody,
}

impl RetentionWriter<'_> {
    pub async fn step(&mut self, step: Step, now_ms: i64) -> Result<Stepped, RetentionError> {
        match self {
            Self::Hub(ingest) => Ok(ingest.retention(step).await?),
            Self::Own(connection) => {
                let mut transaction = store::begin(connection).await?;
                let stepped = stored::perform(&mut transaction, &step, now_ms).await?;
                let committing = failed("committing deletions");
                transaction.commit().await.map_err(committing)?;
                Ok(stepped)
            }
            Self::Nobody => Ok(Stepped {
                deleted: match step {
                    Step::Delete(batch) => batch.keys.len() as u64,
                    _ => 0,
                },
                proof: None,
            }),
        }
    }
}

/// The deletions of a run.
#[derive(Debug)]
pub struct Deleted {
    /// Rows by class, of all classes.
    pub rows: Vec<(Class, u64)>,
    /// Files of cases.
    pub files: u64,
}

/// One run.
pub struct Run<'a> {
    pub store: &'a Store,
    pub sealer: &'a Sealer,
    pub files: &'a Files,
    pub config: &'a RetentionConfig,
    pub rules: &'a [Arc<Rule>],
    pub actor: &'a str,
    pub now_ms: i64,
}

impl Run<'_> {
    /// Deletes expired data: rows by class, then files that no case refers to.
    pub async fn carry_out(
        &self,
        mut hand: RetentionWriter<'_>,
    ) -> Result<Deleted, RetentionError> {
        let floors = Floors::of(self.rules);
        hand.step(Step::Begin, self.now_ms).await?;
        let mut deleted = Vec::new();
        let mut proofs = Vec::new();
        for class in Class::ALL {
            let cut = floors.cut(class, self.config, self.now_ms);
            let (rows, proof) = self.class(&mut hand, class, cut).await?;
            deleted.push((class, rows));
            proofs.extend(proof);
        }
        let (files, proof) = sweep::sweep(self, &mut hand).await?;
        proofs.extend(proof);
        hand.step(Step::End(proofs), self.now_ms).await?;
        Ok(Deleted {
            rows: deleted,
            files,
        })
    }

    async fn class(
        &self,
        hand: &mut RetentionWriter<'_>,
        class: Class,
        cut: Cut,
    ) -> Result<(u64, Option<i64>), RetentionError> {
        let mut deleted = 0;
        let mut proof = None;
        let mut after: Option<Found> = None;
        loop {
            let mut reader = self.store.reader().await?;
            let found = stored::find(&mut reader, class, cut, after.as_ref(), BATCH_ROWS).await?;
            let Some(last) = found.last().cloned() else {
                return Ok((deleted, proof));
            };
            let keys = self.free(&mut reader, class, &found).await?;
            // Others get the reader meanwhile.
            drop(reader);
            after = Some(last);
            let batch = Batch {
                class,
                cut,
                keys,
                rule: self.config.words(class),
                actor: self.actor.to_owned(),
                proof,
            };
            let stepped = hand.step(Step::Delete(batch), self.now_ms).await?;
            deleted += stepped.deleted;
            proof = stepped.proof;
            if !matches!(hand, RetentionWriter::Nobody) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Removes the keys that an open case refers to.
    async fn free(
        &self,
        reader: &mut Connection,
        class: Class,
        found: &[Found],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        if class.retention().is_some() {
            let held = stored::held_events(reader).await?;
            return stored::without_held(reader, found, &held).await;
        }
        let mut keys = Vec::with_capacity(found.len());
        for found in found {
            let is_held = match found.key[..] {
                [Value::Integer(id)] if class == Class::Cases => self.is_held(reader, id).await?,
                _ => false,
            };
            if !is_held {
                keys.push(found.key.clone());
            }
        }
        Ok(keys)
    }

    /// True if a case was merged into an open one.
    async fn is_held(&self, reader: &mut Connection, id: i64) -> Result<bool, StoreError> {
        let record = match cases::load(reader, self.sealer, id).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::error!(
                    case = id,
                    error = telemetry::chain(&error),
                    "a case cannot be read, and is not deleted"
                );
                return Ok(true);
            }
        };
        let Some(merging) = record.case.merging else {
            return Ok(false);
        };
        let Some(into) = cases::id_of(reader, &merging.into).await? else {
            return Ok(false);
        };
        let survivor = cases::get(reader, into).await?;
        let state = survivor.and_then(|case| State::from_name(&case.state));
        Ok(state.is_some_and(|state| !state.is_closed()))
    }
}

#[cfg(test)]
mod tests;
