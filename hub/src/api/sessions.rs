//! `/api/v1/sessions`: signing in and out.
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

use super::auth::{Credential, Token};
use super::list::{bad, body};
use super::{Api, busy, password_work, store_problem};
use crate::ingest::people::People;
use crate::users::{SESSION_MS, check_login, is_password};
use linli_domain::rights::Actor;
use linli_store::users;

/// Who signs in.
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
    // What is no login is nobody's, and is not kept.
    if check_login(&login).is_err() {
        return Err(wrong());
    }
    let now_ms = api.clock.expiry_ms();
    let wait_ms = api.tries.lock().await.wait_ms(&login, now_ms);
    if wait_ms > 0 {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "tries",
            "密码错误次数过多，请稍后再试 / too many wrong passwords: try again later",
        )
        .retry_after((wait_ms / 1000 + 1) as u32));
    }
    let hash = users::password(api.store.readers(), &login)
        .await
        .map_err(store_problem)?;
    let is_right = password_work(&api, move || is_password(&password, hash.as_deref())).await?;
    if !is_right {
        api.tries.lock().await.wrong(&login, now_ms);
        let noted = api.refusals.note(Some(&login), from.ip(), "").await;
        noted.map_err(busy)?;
        return Err(wrong());
    }
    api.tries.lock().await.right(&login);
    let session = start(&api, &login, "", now_ms).await?;
    Ok((StatusCode::CREATED, Json(session)))
}

/// Begins a session of somebody who has proven who they are; `by` says how where it was not by a password.
pub async fn start(
    api: &Api,
    login: &str,
    by: &'static str,
    now_ms: i64,
) -> Result<Session, Problem> {
    let token = Token::session();
    let begun = People::BeginSession {
        id: token.id.clone(),
        secret: token.secret.clone(),
        login: login.to_owned(),
        by,
    };
    api.ingest.people(begun, login).await.map_err(busy)?;
    Ok(Session {
        token: token.to_string(),
        expires_ms: now_ms.saturating_add(SESSION_MS),
    })
}

fn wrong() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "password",
        "用户名或密码不正确 / login or password is wrong",
    )
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
    let ended = People::EndSession {
        id,
        login: actor.login.clone(),
    };
    api.ingest.people(ended, &actor.login).await.map_err(busy)?;
    Ok(StatusCode::NO_CONTENT)
}
