//! From a decision to the outbox, within the transaction of the decision.
//!
//! [`Work::enqueue`] takes any notice and gives it to the channels of its route; [`Work::announce`] makes
//! the notice of a new warning. The notifier is woken after the commit (`writer`).
use linli_shared::protocol::event::Severity;

use super::work::Work;
use crate::correlate::Firing;
use crate::notify::notice::{Notice, What, place};
use crate::store::{StoreError, outbox};

impl Work<'_> {
    /// Tells the channels of the firing's route of a new warning; 补报 pages nobody. Its case is there already.
    pub async fn announce(&mut self, firing: &Firing, warning: i64) -> Result<(), StoreError> {
        if firing.late || !self.addressees.has_any(&firing.route) {
            return Ok(());
        }
        let rule = self.rules.iter().find(|rule| rule.id == firing.rule);
        let fields = rule.map_or(&[][..], |rule| &rule.key);
        let (grade, grade_words) = grade(firing.severity);
        let notice = Notice {
            warning,
            what: What::Raised,
            grade: grade.to_owned(),
            grade_words: grade_words.to_owned(),
            severity: firing.severity,
            rule: firing.rule.clone(),
            rule_name: firing.name.clone(),
            site: firing.site.clone(),
            place: place(fields, &firing.key, &firing.site),
            at_ms: firing.at_ms,
            late: firing.late,
            case: outbox::case_of(self.connection, warning).await?,
            reason: String::new(),
            route: firing.route.clone(),
        };
        self.enqueue(&format!("warning/{warning}/raised"), &notice)
            .await
    }

    /// Puts a notice into the outbox for every channel of its route that takes it. A decision that is
    /// there already is passed over.
    pub async fn enqueue(&mut self, decision: &str, notice: &Notice) -> Result<(), StoreError> {
        let addressees = self.addressees;
        for channel in addressees.of(notice) {
            let id = self.memory.last_outbox + 1;
            let is_new =
                outbox::enqueue(self.connection, id, channel, decision, notice, self.now_ms)
                    .await?;
            if is_new {
                self.memory.last_outbox = id;
                self.tally.outbox_moved();
            }
        }
        Ok(())
    }

    /// Writes what became of notices: how many of them it was news for.
    pub async fn settle(
        &mut self,
        settlements: &[outbox::Settlement],
    ) -> Result<usize, StoreError> {
        let mut settled = 0;
        for settlement in settlements {
            if outbox::settle(self.connection, settlement, self.now_ms).await? {
                settled += 1;
                if settlement.outcome == outbox::Outcome::Again {
                    self.tally.outbox_moved();
                }
            }
        }
        Ok(settled)
    }
}

/// The grade of a severity, as long as rules give none of their own.
fn grade(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Life => ("red", "红色"),
        Severity::Alarm => ("orange", "橙色"),
        Severity::Warning => ("yellow", "黄色"),
        Severity::Notice | Severity::Info => ("blue", "蓝色"),
    }
}
