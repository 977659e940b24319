//! From firings to warnings and cases, within the transaction of the events that caused them.
use linli_shared::protocol::event::Severity;
use std::collections::HashMap;

use super::work::Work;
use crate::cases::{self, Opening};
use crate::correlate::Firing;
use crate::store::StoreError;
use crate::store::cases as stored_cases;
use crate::store::warnings::{self, Foldable};

/// Repetitions of one warning in one transaction.
struct Fold {
    warning: Foldable,
    count: i64,
}

impl Work<'_> {
    /// Folds or raises what has fired.
    pub async fn raise_all(&mut self) -> Result<(), StoreError> {
        // A storm of one kind is one statement, not one for each event.
        let mut folds: HashMap<(String, String), Fold> = HashMap::new();
        for firing in std::mem::take(&mut self.firings) {
            let place = (firing.rule.clone(), firing.key.clone());
            let near = folds
                .get_mut(&place)
                .filter(|fold| fold.warning.takes(&firing));
            if let Some(fold) = near {
                fold.count += 1;
                continue;
            }
            let fold = match warnings::find_fold(self.connection, &firing).await? {
                Some(warning) => Fold { warning, count: 1 },
                None => Fold {
                    warning: self.raise(&firing).await?,
                    count: 0,
                },
            };
            if let Some(before) = folds.insert(place, fold) {
                warnings::fold(self.connection, before.warning.id, before.count).await?;
            }
        }
        for fold in folds.values() {
            warnings::fold(self.connection, fold.warning.id, fold.count).await?;
        }
        Ok(())
    }

    /// Raises a warning, and opens or joins its case.
    async fn raise(&mut self, firing: &Firing) -> Result<Foldable, StoreError> {
        self.memory.last_warning += 1;
        let warning = self.memory.last_warning;
        warnings::insert(self.connection, warning, firing, self.now_ms).await?;
        self.tally
            .warned(&firing.rule, self.now_ms.saturating_sub(firing.at_ms));
        tracing::info!(
            warning,
            rule = firing.rule,
            key = firing.key,
            late = firing.late,
            "a warning is raised"
        );
        if let Some(opening) = cases::opening(firing, self.memory.last_case + 1, self.now_ms) {
            self.open_or_join(firing, warning, &opening).await?;
        }
        self.announce(firing, warning).await?;
        Ok(Foldable {
            id: warning,
            at_ms: firing.at_ms,
            late: firing.late,
        })
    }

    async fn open_or_join(
        &mut self,
        firing: &Firing,
        warning: i64,
        opening: &Opening,
    ) -> Result<(), StoreError> {
        let actor = format!("rule:{}", firing.rule);
        let note = format!("{} (warning {warning})", firing.name);
        let Some((case, severity)) = stored_cases::find_open(self.connection, opening).await?
        else {
            self.memory.last_case += 1;
            let case = self.memory.last_case;
            stored_cases::insert(self.connection, case, opening).await?;
            stored_cases::link(self.connection, case, warning).await?;
            self.tally.case_opened();
            let action = "registered";
            return stored_cases::act(self.connection, case, self.now_ms, &actor, action, &note)
                .await;
        };
        stored_cases::link(self.connection, case, warning).await?;
        let action = "warning_added";
        stored_cases::act(self.connection, case, self.now_ms, &actor, action, &note).await?;
        if Severity::from_name(&severity) < Some(firing.severity) {
            let graver = firing.severity.as_str();
            stored_cases::set_severity(self.connection, case, graver).await?;
            let note = format!("{severity} → {graver} (warning {warning})");
            let action = "severity_raised";
            stored_cases::act(self.connection, case, self.now_ms, &actor, action, &note).await?;
        }
        Ok(())
    }
}
