//! Authentication and the rights of routes, before a handler reads a body.
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use linli_shared::service::problem::Problem;
use std::sync::Arc;
use utoipa::Modify;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::Api;
use crate::services::ServiceError;
use crate::token::Token;
use linli_domain::rights::{Act, Actor};

/// Authenticates a request; handlers get the actor.
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
    if let Some(token) = token
        && let Some((actor, credential)) = api.services.authenticate(token.clone()).await?
    {
        request.extensions_mut().insert(token);
        request.extensions_mut().insert(actor);
        request.extensions_mut().insert(credential);
        return Ok(next.run(request).await);
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send a token of `linli-hub api-token create`, or of a session, as \"Authorization: Bearer …\"; this one is missing, wrong or expired",
    ))
}

/// Lets through actors with the right; a refusal is in the audit log.
pub async fn require_act(
    State((api, act)): State<(Arc<Api>, Act)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(actor) = request.extensions().get::<Actor>().cloned() else {
        return Err(ServiceError::Forbidden.into());
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    api.services
        .permit(&actor, act, method.as_str(), &path)
        .await?;
    Ok(next.run(request).await)
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
    /// The type of the problem.
    r#type: String,
    /// The status in words.
    title: String,
    /// HTTP status.
    status: u16,
    /// The error, and the fix.
    detail: String,
}

/// The problems that every request can be answered with.
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
    /// The store does not answer; Retry-After says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Store(ProblemSchema),
}
