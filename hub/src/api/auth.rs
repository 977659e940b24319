//! Who asks: tokens of programs, `llt.<id>.<secret>`, and of sessions, `lls.<id>.<secret>`.
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use linli_shared::service::problem::Problem;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::Modify;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{Api, busy, store_problem};
use crate::ingest::people::People;
use linli_domain::rights::{Act, Actor, may};
use linli_store::{tokens, users};

/// Of a token of a program.
const PROGRAM: &str = "llt";
/// Of a session.
const SESSION: &str = "lls";

/// A token of the API: of a program, or of a session.
pub struct Token {
    kind: &'static str,
    /// Which.
    pub id: String,
    /// Proof of having been given it.
    pub secret: String,
}

impl Token {
    /// A new one for a program.
    pub fn program() -> Self {
        Self::new(PROGRAM)
    }

    /// A new one for a session.
    pub fn session() -> Self {
        Self::new(SESSION)
    }

    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            id: hex::encode(linli_shared::service::random::secret::<6>()),
            secret: hex::encode(linli_shared::service::random::secret::<24>()),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind, self.id, self.secret)
    }
}

impl FromStr for Token {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (Some(kind), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let kind = [PROGRAM, SESSION].into_iter().find(|known| *known == kind);
        Ok(Self {
            kind: kind.ok_or(())?,
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

/// What a request was let through by.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A program's token.
    Program,
    /// A session, by its id.
    Session(String),
}

/// Lets through who shows a good token; handlers are told who that is.
pub async fn require(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|value| value.trim().parse::<Token>().ok());
    if let Some(token) = token {
        let (pool, now_ms) = (api.store.readers(), api.clock.expiry_ms());
        let (actor, credential) = if token.kind == SESSION {
            let actor = users::of_session(pool, &token.id, &token.secret, now_ms).await;
            (actor, Credential::Session(token.id))
        } else {
            let actor = tokens::check_api(pool, &token.id, &token.secret, now_ms).await;
            (actor, Credential::Program)
        };
        if let Some(actor) = actor.map_err(store_problem)? {
            request.extensions_mut().insert(actor);
            request.extensions_mut().insert(credential);
            return Ok(next.run(request).await);
        }
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send a token of `linli-hub api-token create`, or of a session, as \"Authorization: Bearer …\"; this one is missing, wrong or expired",
    ))
}

/// Lets through who may do this at all; who may not is noted.
pub async fn require_act(
    State((api, act)): State<(Arc<Api>, Act)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(actor) = request.extensions().get::<Actor>() else {
        return Err(forbidden());
    };
    if may(actor, act) {
        return Ok(next.run(request).await);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    refuse(&api, &actor.login.clone(), method.as_str(), &path).await
}

/// Notes that a right was missing, and says so.
pub async fn refuse<T>(api: &Api, login: &str, method: &str, path: &str) -> Result<T, Problem> {
    let note = People::Note {
        action: "refused".to_owned(),
        object: path.chars().take(200).collect(),
        reason: String::new(),
        detail: method.to_owned(),
    };
    api.ingest.people(note, login).await.map_err(busy)?;
    Err(forbidden())
}

/// The right is missing.
pub fn forbidden() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "您的角色或单位无此权限 / your role, or your organisation, does not have the right for this",
    )
}

/// Counts answers by status.
pub async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics
        .requests
        .with_label_values(&[response.status().as_str()])
        .inc();
    response
}

/// Adds the bearer scheme to the OpenAPI document.
pub struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = &mut document.components {
            components.add_security_scheme(
                "bearer",
                SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
            );
        }
    }
}

/// The schema of problem+json (RFC 9457).
#[derive(utoipa::ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "it stands for the shared type in the document")]
pub struct ProblemSchema {
    /// What kind of problem.
    r#type: String,
    /// The status in words.
    title: String,
    /// HTTP status.
    status: u16,
    /// What is wrong, and the fix.
    detail: String,
}

/// What every request can be answered instead of what it asks for.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it stands for the problems in the document")]
pub enum Refusals {
    /// A parameter is wrong: which, and how it is meant.
    #[response(status = 400, content_type = "application/problem+json")]
    Parameter(ProblemSchema),
    /// No good token.
    #[response(status = 401, content_type = "application/problem+json")]
    Token(ProblemSchema),
    /// The right for it is missing.
    #[response(status = 403, content_type = "application/problem+json")]
    Right(ProblemSchema),
    /// The store does not answer; Retry-After says when to come again.
    #[response(status = 503, content_type = "application/problem+json")]
    Store(ProblemSchema),
}
