//! `/api/v1/sessions`: signing in and out.
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

use super::Api;
use super::list::{bad, body};
use crate::services::sessions::{Credential, NewSession};
use linli_domain::rights::Actor;

/// The user who signs in.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Login.
    login: String,
    /// Password.
    password: String,
}

/// A session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Session {
    /// Send it as `Authorization: Bearer …`; it is shown once.
    pub token: String,
    /// Until when it is good, milliseconds since 1970 UTC.
    pub expires_ms: i64,
}

/// Signs in.
#[utoipa::path(post, path = "/api/v1/sessions", request_body = SignIn, security(()), responses(
    (status = 201, body = Session),
    super::auth::Refusals,
    (status = 429, description = "too many wrong passwords", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn begin(
    State(api): State<Arc<Api>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    sign_in: Result<Json<SignIn>, JsonRejection>,
) -> Result<(StatusCode, Json<Session>), Problem> {
    let SignIn { login, password } = body(sign_in)?;
    let session = api.services.sign_in(&login, password, from.ip()).await?;
    Ok((StatusCode::CREATED, Json(session.into())))
}

impl From<NewSession> for Session {
    fn from(new: NewSession) -> Self {
        Self {
            token: new.token.to_string(),
            expires_ms: new.expires_ms,
        }
    }
}

/// Signs out: ends the session of the token that is sent.
#[utoipa::path(delete, path = "/api/v1/sessions", responses(
    (status = 204),
    super::auth::Refusals,
))]
pub async fn end(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    Extension(credential): Extension<Credential>,
) -> Result<StatusCode, Problem> {
    let Credential::Session(id) = credential else {
        return Err(bad(
            "session",
            "this is the token of a program: `linli-hub api-token revoke`",
        ));
    };
    api.services.sign_out(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
