//! Warnings: listed, shown, acknowledged.
use super::{Page, ServiceError, Services, bad_cursor};
use crate::ingest::acknowledge::Acknowledged;
use linli_domain::rights::{Act, Actor};
use linli_domain::warnings::TEXT_CHARS_MAX;
use linli_store::warnings::{self, ACTIVE, WITHDRAWN, WarningFilter, WarningView};

impl Services {
    /// Warnings that the actor sees, newest first. `cursor` is `next` of the page before; `filter.limit` is of one page.
    pub async fn warnings(
        &self,
        actor: &Actor,
        filter: WarningFilter,
        cursor: Option<&str>,
    ) -> Result<Page<WarningView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/warnings")
            .await?;
        if let Some(state) = &filter.state
            && ![ACTIVE, WITHDRAWN].contains(&state.as_str())
        {
            let message = format!("{state:?} is none of {ACTIVE}, {WITHDRAWN}");
            return Err(ServiceError::invalid("state", message));
        }
        let limit = filter.limit;
        let before = cursor.map(str::parse).transpose();
        let filter = WarningFilter {
            watched: self.watched(actor).await?,
            hidden: self.hidden_rules(actor),
            login: Some(actor.login.clone()),
            before: before.map_err(|_| bad_cursor())?,
            limit: limit + 1,
            ..filter
        };
        let found = warnings::list(self.store.readers(), &filter).await?;
        Ok(Page::first(found, limit, |warning| warning.id.to_string()))
    }

    /// A warning with its reasons and cases.
    pub async fn warning(&self, actor: &Actor, id: i64) -> Result<WarningView, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/warnings")
            .await?;
        self.visible_warning(actor, id).await
    }

    async fn visible_warning(&self, actor: &Actor, id: i64) -> Result<WarningView, ServiceError> {
        let found = warnings::get(self.store.readers(), id).await?;
        let warning = found.ok_or_else(|| unknown(id))?;
        if self.hides_warning(actor, &warning).await? {
            return Err(unknown(id));
        }
        Ok(warning)
    }

    /// Acknowledges a warning in the name of `by`.
    pub async fn acknowledge(
        &self,
        actor: &Actor,
        id: i64,
        by: &str,
        note: &str,
    ) -> Result<WarningView, ServiceError> {
        self.permit(actor, Act::Attend, "POST", "/api/v1/warnings")
            .await?;
        let by = by.trim();
        if by.is_empty() || by.chars().count() > TEXT_CHARS_MAX {
            return Err(ServiceError::invalid("by", "say who acknowledges it"));
        }
        if note.chars().count() > TEXT_CHARS_MAX {
            let message = format!("at most {TEXT_CHARS_MAX} characters");
            return Err(ServiceError::invalid("note", message));
        }
        self.visible_warning(actor, id).await?;
        let acknowledged = self.writes.acknowledge(id, by.to_owned(), note.to_owned());
        match acknowledged.await? {
            Acknowledged::Now => self.visible_warning(actor, id).await,
            Acknowledged::Before => Err(ServiceError::Conflict {
                kind: "acknowledged",
                detail: format!("warning {id} is acknowledged already"),
            }),
            Acknowledged::Unknown => Err(unknown(id)),
        }
    }
}

fn unknown(id: i64) -> ServiceError {
    ServiceError::missing(format!("there is no warning {id}"))
}
