//! The effect of a resident's request on another case, within a transaction: the action, the case,
//! its narrative and log, and an audit record.
use linli_domain::audit::AuditRecord;
use linli_domain::cases::case::Case;
use linli_domain::cases::decide::By;
use linli_domain::cases::subject;
use linli_domain::rights::{Actor, CaseAct};
use linli_store::cases as stored;
use linli_store::{StoreError, attachments, audit};
use std::sync::Arc;

use super::casework::CaseRefusal;
use super::unit_of_work::UnitOfWork;

/// A change under a request.
#[derive(Debug, Clone)]
pub struct SubjectChange {
    /// Code of the request.
    pub request: String,
    /// Code of the case to change.
    pub code: String,
    /// The version that the actor has seen.
    pub version: i64,
    /// The new narrative as JSON; `None`: everything about people is deleted.
    pub narrative: Option<String>,
}

/// Answering requests needs the right to supervise, on the request and on the case.
pub const ANSWER: CaseAct = CaseAct::Supervise;

impl UnitOfWork<'_> {
    /// Corrects a case, or deletes what it says of people; returns its version.
    pub async fn subject(
        &mut self,
        actor: &Actor,
        wanted: SubjectChange,
    ) -> Result<Result<i64, CaseRefusal>, StoreError> {
        let word = if wanted.narrative.is_some() {
            "subject.corrected"
        } else {
            "subject.deleted"
        };
        let request = match self.case_for(&wanted.request, actor, ANSWER, word).await? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let record = match self.case_for(&wanted.code, actor, ANSWER, word).await? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let by = By {
            seen_version: Some(wanted.version),
            ..self.by(actor)
        };
        let decide = match wanted.narrative {
            Some(_) => subject::correct,
            None => subject::delete,
        };
        let action = match decide(&record.case, &by, &request.case, self.now_ms) {
            Ok(action) => action,
            Err(refused) => return Ok(Err(CaseRefusal::Refused(refused))),
        };
        let sealer = Arc::clone(&self.casework.sealer);
        let mut before = record.clone();
        if wanted.narrative.is_none() {
            let log = stored::log(self.connection, &sealer, record.id).await?;
            let log: Vec<_> = log.into_iter().map(subject::redacted).collect();
            before.case = Case::replay(&log).map_err(|error| StoreError::Unreadable {
                what: "the log of a case",
                source: Box::new(error),
            })?;
            stored::rewrite(self.connection, &sealer, record.id, &log).await?;
            for number in record.case.attachments.keys() {
                attachments::remove(self.connection, record.id, *number).await?;
            }
        }
        let narrative = wanted.narrative.as_deref().unwrap_or_default();
        stored::set_narrative(self.connection, &sealer, record.id, narrative).await?;
        let case = self.write_action(&before, &action).await?;
        let deed = AuditRecord {
            at_ms: self.now_ms,
            actor: actor.login.clone(),
            action: word.to_owned(),
            object: format!("case/{}", wanted.code),
            reason: wanted.request,
            detail: String::new(),
        };
        audit::append(self.connection, deed).await?;
        Ok(Ok(case.version))
    }
}
