//! `/api/v1/notifications`
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;

use super::list::{Page, bad, bad_cursor, limit, page, path, query};
use super::{Api, store_problem, watched};
use linli_domain::rights::Actor;
use linli_store::outbox::{
    self, NotificationFilter, NotificationView, Outcome, STATES, Settlement,
};

/// Which notifications.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NotificationQuery {
    /// Only in this state: waiting, sent, dead, dropped.
    state: Option<String>,
    /// Only of this channel.
    channel: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// What people were told, are to be told, and could not be told, newest first. For the centre only. A
/// page can be short while there is a next one.
#[utoipa::path(get, path = "/api/v1/notifications", params(NotificationQuery), responses(
    (status = 200, body = Page<NotificationView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<NotificationQuery>, QueryRejection>,
) -> Result<Json<Page<NotificationView>>, Problem> {
    watched::all(&api, &actor, "GET", "/api/v1/notifications").await?;
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    if let Some(state) = &parameters.state
        && !STATES.contains(&state.as_str())
    {
        let states = STATES.join(", ");
        return Err(bad("state", format!("{state:?} is none of {states}")));
    }
    let before = parameters.cursor.as_deref().map(str::parse).transpose();
    let filter = NotificationFilter {
        state: parameters.state,
        channel: parameters.channel,
        before: before.map_err(|_| bad_cursor())?,
        limit: limit + 1,
    };
    let found = outbox::list(api.store.readers(), &filter)
        .await
        .map_err(store_problem)?;
    let mut page = page(found, limit, |view| view.id.to_string());
    without_hidden(&api, &actor, &mut page.items).await?;
    Ok(Json(page))
}

/// Sends a dead notification again. For the centre only.
#[utoipa::path(post, path = "/api/v1/notifications/{id}/resend", params(("id" = i64, Path, description = "Number")), responses(
    (status = 202, description = "it waits to be sent", body = NotificationView),
    super::auth::Refusals,
    (status = 404, description = "no such notification", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "it is not dead", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn resend(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<(StatusCode, Json<NotificationView>), Problem> {
    let id = path("id", id)?;
    watched::all(&api, &actor, "POST", "/api/v1/notifications").await?;
    let known = outbox::get(api.store.readers(), id)
        .await
        .map_err(store_problem)?;
    let mut seen: Vec<NotificationView> = known.into_iter().collect();
    without_hidden(&api, &actor, &mut seen).await?;
    if seen.is_empty() {
        return Err(unknown(id));
    }
    let again = Settlement {
        id,
        outcome: Outcome::Again,
    };
    let Ok(settled) = api.ingest.settle(vec![again]).await else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store",
            "the store takes no writes at the moment",
        )
        .retry_after(5));
    };
    let found = outbox::get(api.store.readers(), id)
        .await
        .map_err(store_problem)?;
    match found {
        None => Err(unknown(id)),
        Some(view) if settled == 0 => Err(Problem::new(
            StatusCode::CONFLICT,
            "state",
            format!(
                "notification {id} is {}: only a dead one is sent again",
                view.state
            ),
        )),
        Some(view) => Ok((StatusCode::ACCEPTED, Json(view))),
    }
}

fn unknown(id: i64) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        format!("there is no notification {id}"),
    )
}

/// Takes away what was told of what is for named handlers only, where who asks is none.
async fn without_hidden(
    api: &Api,
    actor: &Actor,
    views: &mut Vec<NotificationView>,
) -> Result<(), Problem> {
    let rules = watched::hidden_rules(api, actor);
    let word = |view: &NotificationView, key: &str| {
        let value = view.notice.get(key).and_then(serde_json::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let codes: Vec<String> = views.iter().map(|view| word(view, "case")).collect();
    let cases = watched::hidden_cases(api, actor, &codes).await?;
    views.retain(|view| {
        !rules.contains(&word(view, "rule")) && !cases.contains(&word(view, "case"))
    });
    Ok(())
}
