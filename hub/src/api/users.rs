//! `/api/v1/users`, `/api/v1/me` and `/api/v1/audit`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Api;
use super::list::{body, limit, path, query};
use crate::services::Page;
use crate::services::users::UserToAdd as NewUser;
use linli_domain::audit::AuditEntry;
use linli_domain::rights::{Actor, Role};
use linli_store::audit::AuditFilter;
use linli_store::users::UserView;

/// A new user.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserToAdd {
    /// Login: lower-case letters, digits, hyphens, dots and underscores.
    login: String,
    /// The person's name.
    name: String,
    /// Role.
    role: Role,
    /// Id of the organisation.
    org: String,
    /// The first password; not needed with OpenID Connect.
    password: Option<String>,
    /// They sign in by OpenID Connect: the provider's account that names this login at its first sign-in is theirs.
    #[serde(default)]
    oidc: bool,
}

/// The actor of a token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Me {
    /// Login, or `token:name`.
    login: String,
    /// Role.
    role: Role,
    /// Id of the organisation.
    org: String,
}

/// The actor of the request's token.
#[utoipa::path(get, path = "/api/v1/me", responses((status = 200, body = Me), super::auth::Refusals))]
pub async fn me(Extension(actor): Extension<Actor>) -> Json<Me> {
    Json(Me {
        login: actor.login,
        role: actor.role,
        org: actor.org,
    })
}

/// All users, by login; there is one page.
#[utoipa::path(get, path = "/api/v1/users", responses(
    (status = 200, body = Page<UserView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Page<UserView>>, Problem> {
    Ok(Json(Page::whole(api.services.users(&actor).await?)))
}

/// Adds a user.
#[utoipa::path(post, path = "/api/v1/users", request_body = UserToAdd, responses(
    (status = 201),
    super::auth::Refusals,
    (status = 409, description = "the login is taken, by a user or as the name of an API token", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn add(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    user: Result<Json<UserToAdd>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let user = body(user)?;
    let user = NewUser {
        login: user.login,
        name: user.name,
        role: user.role,
        org: user.org,
        password: user.password,
        oidc: user.oidc,
    };
    api.services.add_user(&actor, user).await?;
    Ok(StatusCode::CREATED)
}

/// Whether a user signs in by OpenID Connect.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ByOidc {
    /// True: the provider's account that names this login at its next sign-in is theirs. False: no more, the account is
    /// forgotten and all sessions end.
    oidc: bool,
}

/// Lets a user sign in by OpenID Connect, or no more.
#[utoipa::path(put, path = "/api/v1/users/{login}/oidc", request_body = ByOidc, params(("login" = String, Path, description = "Login")), responses(
    (status = 204),
    super::auth::Refusals,
    (status = 404, description = "there is no such user", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn mark_oidc(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    login: Result<Path<String>, PathRejection>,
    by: Result<Json<ByOidc>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let login = path("login", login)?;
    let ByOidc { oidc } = body(by)?;
    api.services.mark_oidc(&actor, login, oidc).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a user may sign in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// True: no more. All sessions end.
    disabled: bool,
}

/// Lets a user sign in no more, or again.
#[utoipa::path(put, path = "/api/v1/users/{login}/disabled", request_body = Disabled, params(("login" = String, Path, description = "Login")), responses(
    (status = 204),
    super::auth::Refusals,
    (status = 404, description = "there is no such user", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn disable(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    login: Result<Path<String>, PathRejection>,
    disabled: Result<Json<Disabled>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let login = path("login", login)?;
    let Disabled { disabled } = body(disabled)?;
    api.services.disable_user(&actor, login, disabled).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which entries of the audit log.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only of this, like `user/wang`.
    object: Option<String>,
    /// Only by this one.
    actor: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit", params(AuditQuery), responses(
    (status = 200, body = Page<AuditEntry>),
    super::auth::Refusals,
))]
pub async fn audit_log(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let parameters = query(parameters)?;
    let filter = AuditFilter {
        object: parameters.object,
        actor: parameters.actor,
        before: None,
        limit: limit(parameters.limit)?,
    };
    let cursor = parameters.cursor.as_deref();
    Ok(Json(api.services.audit_log(&actor, filter, cursor).await?))
}
