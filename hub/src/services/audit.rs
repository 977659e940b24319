//! The audit log.
use super::{Page, ServiceError, Services, bad_cursor};
use linli_domain::audit::AuditEntry;
use linli_domain::rights::{Act, Actor};
use linli_store::audit::{self, AuditFilter};

impl Services {
    /// Entries of the audit log, newest first.
    pub async fn audit_log(
        &self,
        actor: &Actor,
        filter: AuditFilter,
        cursor: Option<&str>,
    ) -> Result<Page<AuditEntry>, ServiceError> {
        self.permit(actor, Act::Audit, "GET", "/api/v1/audit")
            .await?;
        let limit = filter.limit;
        let before = cursor.map(str::parse).transpose();
        let filter = AuditFilter {
            before: before.map_err(|_| bad_cursor())?,
            limit: limit + 1,
            ..filter
        };
        let found = audit::list(self.store.readers(), &filter).await?;
        Ok(Page::first(found, limit, |entry| entry.number.to_string()))
    }
}
