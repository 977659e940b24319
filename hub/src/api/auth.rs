//! Tokens of the API: `llt.<id>.<secret>`.
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::Modify;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{Api, store_problem};
use crate::store::tokens;

const PREFIX: &str = "llt";

/// A token of the API.
pub struct ApiToken {
    /// Which.
    pub id: String,
    /// Proof of having been given it.
    pub secret: String,
}

impl ApiToken {
    /// A new one.
    pub fn new() -> Self {
        Self {
            id: hex::encode(crate::ca::random::<6>()),
            secret: hex::encode(crate::ca::random::<24>()),
        }
    }
}

impl fmt::Display for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}", self.id, self.secret)
    }
}

impl FromStr for ApiToken {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(PREFIX), Some(id), Some(secret), None) => Ok(Self {
                id: id.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err(()),
        }
    }
}

/// Lets through who shows a good token.
pub async fn require(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|value| value.trim().parse::<ApiToken>().ok());
    let good = match token {
        Some(token) => tokens::check_api(
            api.store.readers(),
            &token.id,
            &token.secret,
            clock::wall_ms(),
        )
        .await
        .map_err(store_problem)?,
        None => false,
    };
    if good {
        return Ok(next.run(request).await);
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send a token of `linli-hub api-token create` as \"Authorization: Bearer …\"; this one is missing, wrong or expired",
    ))
}

/// Counts answers by status.
pub async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics
        .api_requests
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
    /// The store does not answer; Retry-After says when to come again.
    #[response(status = 503, content_type = "application/problem+json")]
    Store(ProblemSchema),
}
