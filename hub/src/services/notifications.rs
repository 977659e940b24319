//! Notifications: what was sent, waits, or was given up. For the centre only.
use super::{Page, ServiceError, Services, bad_cursor};
use linli_domain::rights::{Act, Actor};
use linli_store::outbox::{self, NotificationFilter, NotificationView, STATES};

const OBJECT: &str = "/api/v1/notifications";

impl Services {
    /// Notifications, newest first, without those of cases for named handlers only. A page can be short while there is a
    /// next one.
    pub async fn notifications(
        &self,
        actor: &Actor,
        filter: NotificationFilter,
        cursor: Option<&str>,
    ) -> Result<Page<NotificationView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        self.permit_all_sites(actor, "GET", OBJECT).await?;
        if let Some(state) = &filter.state
            && !STATES.contains(&state.as_str())
        {
            let message = format!("{state:?} is none of {}", STATES.join(", "));
            return Err(ServiceError::invalid("state", message));
        }
        let limit = filter.limit;
        let before = cursor.map(str::parse).transpose();
        let filter = NotificationFilter {
            before: before.map_err(|_| bad_cursor())?,
            limit: limit + 1,
            ..filter
        };
        let found = outbox::list(self.store.readers(), &filter).await?;
        let mut page = Page::first(found, limit, |view| view.id.to_string());
        self.remove_hidden_notifications(actor, &mut page.items)
            .await?;
        Ok(page)
    }

    /// Sends a dead notification again.
    pub async fn resend(&self, actor: &Actor, id: i64) -> Result<NotificationView, ServiceError> {
        self.permit(actor, Act::Attend, "POST", OBJECT).await?;
        self.permit_all_sites(actor, "POST", OBJECT).await?;
        let found = outbox::get(self.store.readers(), id).await?;
        let mut visible: Vec<NotificationView> = found.into_iter().collect();
        self.remove_hidden_notifications(actor, &mut visible)
            .await?;
        if visible.is_empty() {
            return Err(unknown(id));
        }
        let was_dead = self.writes.resend(id).await?;
        match outbox::get(self.store.readers(), id).await? {
            None => Err(unknown(id)),
            Some(view) if !was_dead => Err(ServiceError::Conflict {
                kind: "state",
                detail: format!(
                    "notification {id} is {}: only a dead one is sent again",
                    view.state
                ),
            }),
            Some(view) => Ok(view),
        }
    }

    /// Removes notifications of rules and cases for named handlers only, unless the actor is named.
    async fn remove_hidden_notifications(
        &self,
        actor: &Actor,
        views: &mut Vec<NotificationView>,
    ) -> Result<(), ServiceError> {
        let rules = self.hidden_rules(actor);
        let word = |view: &NotificationView, key: &str| {
            let value = view.notice.get(key).and_then(serde_json::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let codes: Vec<String> = views.iter().map(|view| word(view, "case")).collect();
        let cases = self.hidden_cases(actor, &codes).await?;
        views.retain(|view| {
            !rules.contains(&word(view, "rule")) && !cases.contains(&word(view, "case"))
        });
        Ok(())
    }
}

fn unknown(id: i64) -> ServiceError {
    ServiceError::missing(format!("there is no notification {id}"))
}
