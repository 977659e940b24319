//! Files of cases within a transaction: the action, the case, and the row that refers to the file. The
//! file itself is on the disk before.
use linli_domain::cases::action::Attachment;
use linli_domain::cases::decide::{self, By};
use linli_domain::rights::{Actor, CaseAct};
use linli_store::{StoreError, attachments};

use super::casework::CaseRefusal;
use super::unit_of_work::UnitOfWork;

/// A file that is on the disk.
#[derive(Debug, Clone)]
pub struct NewAttachment {
    /// The code of the case.
    pub code: String,
    /// The file.
    pub file: Attachment,
    /// Maximum bytes of all files of a case.
    pub case_bytes_max: u64,
}

/// A file that a case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The number of the action that added it.
    pub number: i64,
    /// The version of the case.
    pub version: i64,
}

/// Adding a file needs the right to note.
pub const ADD: CaseAct = CaseAct::Note;
/// Removing a file needs the right to pass the case on.
const REMOVE: CaseAct = CaseAct::PassOn;

impl UnitOfWork<'_> {
    /// Adds a file to a case. The same file under the same name is added once.
    pub async fn attach(
        &mut self,
        actor: &Actor,
        attaching: NewAttachment,
    ) -> Result<Result<Attached, CaseRefusal>, StoreError> {
        let NewAttachment {
            code,
            file,
            case_bytes_max,
        } = attaching;
        let record = match self.case_for(&code, actor, ADD, "attach").await? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let is_same = |known: &Attachment| known.digest == file.digest && known.name == file.name;
        let mut files = record.case.attachments.iter();
        if let Some((number, _)) = files.find(|(_, known)| is_same(known)) {
            return Ok(Ok(Attached {
                number: *number,
                version: record.case.version,
            }));
        }
        let by = self.by(actor);
        let (digest, bytes) = (file.digest.clone(), file.bytes);
        let action = match decide::attach(&record.case, &by, file, case_bytes_max, self.now_ms) {
            Ok(action) => action,
            Err(refused) => return Ok(Err(CaseRefusal::Refused(refused))),
        };
        let case = self.write_action(&record, &action).await?;
        let number = action.number;
        attachments::add(self.connection, record.id, number, &digest, bytes).await?;
        Ok(Ok(Attached {
            number,
            version: case.version,
        }))
    }

    /// Removes a file from a case; returns its version. The next run of retention deletes the file.
    pub async fn detach(
        &mut self,
        code: &str,
        actor: &Actor,
        number: i64,
        reason: &str,
    ) -> Result<Result<i64, CaseRefusal>, StoreError> {
        let record = match self.case_for(code, actor, REMOVE, "detach").await? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let by = self.by(actor);
        let action = match decide::detach(&record.case, &by, number, reason, self.now_ms) {
            Ok(action) => action,
            Err(refused) => return Ok(Err(CaseRefusal::Refused(refused))),
        };
        let case = self.write_action(&record, &action).await?;
        attachments::remove(self.connection, record.id, number).await?;
        Ok(Ok(case.version))
    }

    pub(super) fn by(&self, actor: &Actor) -> By {
        By {
            person: actor.login.clone(),
            organisation: self.casework.org_of(actor).to_owned(),
            seen_version: None,
        }
    }
}
