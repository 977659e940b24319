//! `/api/v1/sessions/oidc`: signing in at the OpenID provider of the config. The flow is `crate::oidc`'s.
//!
//! A browser that has come back is shown its token on a page, a program gets the session as JSON, as after a password.
//! What was begun stands in a cookie for this host alone (`__Host-`), out of reach of scripts, sent along when the provider
//! sends the browser back (`SameSite=Lax`), and gone when it has served.
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::{Json, http::HeaderName};
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Api;
use super::list::query;
use super::sessions::Session;
use crate::oidc::{BEGUN_MS, Identity, Oidc, Return, SignInError};

/// The problem of a full queue.
const BUSY: &str = "oidc-busy";
const COOKIE: &str = "__Host-linli-oidc";
/// After a failure of the provider, seconds.
const RETRY_AFTER_S: u32 = 10;
/// The outcomes of a sign-in in the metrics.
pub const OUTCOMES: [&str; 7] = [
    "signed_in",
    "state",
    "refused",
    "token",
    "user",
    "provider",
    "busy",
];

/// No parameters: the request does not decide where the browser goes afterwards.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// The parameters of the provider.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CallbackQuery {
    /// The state of the sign-in.
    state: Option<String>,
    /// To be exchanged for the ID token.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// The provider (RFC 9207).
    iss: Option<String>,
}

/// Begins a sign-in at the OpenID provider: sends the browser there.
#[utoipa::path(get, path = "/api/v1/sessions/oidc", security(()), responses(
    (status = 303, description = "to the provider", headers(("location" = String), ("set-cookie" = String))),
    super::auth::Refusals,
    (status = 404, description = "this hub has no provider", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn start(
    State(api): State<Arc<Api>>,
    parameters: Result<Query<NoQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    query(parameters)?;
    let oidc = configured(&api)?;
    let start = oidc.begin(api.clock.expiry_ms()).await.map_err(|error| {
        api.metrics.oidc_sign_in(outcome(&error));
        problem(&error)
    })?;
    let headers = [
        (header::LOCATION, start.url),
        (header::SET_COOKIE, cookie(&start.cookie, BEGUN_MS / 1000)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// Completes a sign-in: the provider sends the browser here. The user gets a session, as after a password.
#[utoipa::path(get, path = "/api/v1/sessions/oidc/callback", params(CallbackQuery), security(()), responses(
    (status = 201, description = "a session", content((Session = "application/json"), (String = "text/html"))),
    super::auth::Refusals,
    (status = 404, description = "this hub has no provider", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn callback(
    State(api): State<Arc<Api>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    parameters: Result<Query<CallbackQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let parameters = query(parameters)?;
    let oidc = configured(&api)?;
    let now_ms = api.clock.expiry_ms();
    let returned = Return {
        cookie: kept(&headers),
        state: parameters.state.as_deref(),
        code: parameters.code.as_deref(),
        error: parameters.error.as_deref(),
        iss: parameters.iss.as_deref(),
    };
    let session = match oidc.finish(&returned, now_ms).await {
        Ok(identity) => enter(&api, oidc, &identity, from, now_ms).await,
        Err(error) => {
            api.metrics.oidc_sign_in(outcome(&error));
            // A sign-in that was begun elsewhere is no attack, and a provider that is down is nobody's fault.
            if matches!(error, SignInError::Refused(_) | SignInError::Token(_)) {
                let said = format!("oidc: {error}");
                api.services
                    .note_refused_sign_in(None, from.ip(), &said)
                    .await?;
            }
            Err(problem(&error))
        }
    };
    // What has served, or failed at the provider, is over; what another page brings along leaves it as it is, and so does
    // a turn that did not come.
    let goes_on = |problem: &Problem| problem.status == 400 || problem.kind.ends_with(BUSY);
    let is_over = !matches!(&session, Err(problem) if goes_on(problem));
    let wants_page = accepts_html(&headers);
    let mut response = match session {
        Ok(session) if wants_page => (StatusCode::CREATED, Html(page(&session))).into_response(),
        Ok(session) => (StatusCode::CREATED, Json(session)).into_response(),
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in SILENT {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_over && let Ok(gone) = HeaderValue::from_str(&cookie("", 0)) {
        headers.insert(header::SET_COOKIE, gone);
    }
    Ok(response)
}

/// The page has a token: it is not kept, not framed, runs nothing, and its address goes nowhere.
const SILENT: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    ),
];

/// A session for the user of the account.
async fn enter(
    api: &Api,
    oidc: &Oidc,
    identity: &Identity,
    from: SocketAddr,
    now_ms: i64,
) -> Result<Session, Problem> {
    let groups = &oidc.config.groups;
    let entered = api
        .services
        .sign_in_by_account(identity, groups, from.ip(), now_ms);
    if let Ok(session) = entered.await? {
        api.metrics.oidc_sign_in("signed_in");
        return Ok(session.into());
    }
    api.metrics.oidc_sign_in("user");
    // The audit log has the reason.
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "oidc-user",
        "此账号未获准使用本系统，请联系系统管理员 / this account may not use this hub: an administrator lets a user sign in by OpenID Connect (`linli-hub user oidc`)",
    ))
}

fn configured(api: &Api) -> Result<&Oidc, Problem> {
    api.oidc.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "oidc",
            "本系统未启用统一身份登录 / this hub has no OpenID provider: [oidc] in its config",
        )
    })
}

/// The outcome, for the metrics.
fn outcome(error: &SignInError) -> &'static str {
    match error {
        SignInError::State(_) => "state",
        SignInError::Refused(_) => "refused",
        SignInError::Token(_) => "token",
        SignInError::Provider(_) => "provider",
        SignInError::Busy => "busy",
    }
}

fn problem(error: &SignInError) -> Problem {
    match error {
        SignInError::State(_) => Problem::new(
            StatusCode::BAD_REQUEST,
            "oidc-state",
            "登录已过期或不是在此浏览器发起，请重新登录 / this sign-in was not begun by this browser, or too long ago: begin again at /api/v1/sessions/oidc",
        ),
        SignInError::Refused(_) => Problem::new(
            StatusCode::UNAUTHORIZED,
            "oidc-refused",
            "身份提供方拒绝了登录，请重新登录 / the OpenID provider refused this sign-in: begin again at /api/v1/sessions/oidc",
        ),
        SignInError::Token(said) => {
            tracing::warn!(%said, "an ID token is not good");
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "oidc-token",
                "身份提供方的登录凭据无效 / the OpenID provider's ID token is not good: the hub's log says why",
            )
        }
        SignInError::Provider(said) => {
            tracing::warn!(%said, "the OpenID provider cannot be used");
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "oidc-provider",
                "身份提供方暂不可用，可用密码登录 / the OpenID provider cannot be used at the moment: who has a password can sign in with it",
            )
            .retry_after(RETRY_AFTER_S)
        }
        SignInError::Busy => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            BUSY,
            "登录人数过多，请稍后再试 / too many sign in at once: try again",
        )
        .retry_after(1),
    }
}

fn cookie(value: &str, age_s: i64) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={age_s}; Secure; HttpOnly; SameSite=Lax")
}

/// The cookie of the browser.
fn kept(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"))
}

/// A token is letters, digits and dots: nothing in it is HTML.
fn page(session: &Session) -> String {
    let until = clock::rfc3339(session.expires_ms);
    format!(
        "<!doctype html>\n<html lang=\"zh\"><meta charset=\"utf-8\"><title>已登录 signed in</title>\n\
         <h1>已登录 signed in</h1>\n\
         <p>接口令牌（只显示一次，有效至 {until}）<br>Token of the API, shown once, good until {until}:</p>\n\
         <pre id=\"token\">{}</pre>\n</html>\n",
        session.token
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, wanted) in [
            (vec!["__Host-linli-oidc=a.b/+="], Some("a.b/+=")),
            (vec!["x=1; __Host-linli-oidc=a; y=2"], Some("a")),
            (vec!["x=1", "__Host-linli-oidc=a"], Some("a")),
            (vec!["__Host-linli-oidcx=a"], None),
            (vec!["x=__Host-linli-oidc=a"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &cookies {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            assert_eq!(kept(&headers), wanted, "{cookies:?}");
        }
    }
}
