//! Shared by all lists: limits, times, and queries with clear errors.
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use linli_shared::service::problem::Problem;

use super::BODY_BYTES_MAX;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// A bad query, with its parameter.
pub fn bad(parameter: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "query",
        format!("{parameter}: {detail}"),
    )
}

/// The query. Error: what is wrong.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| bad("query", rejection.body_text()))
}

/// The path's parameters. Error: what is wrong.
pub fn path<T>(name: &str, path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(value)| value)
        .map_err(|rejection| bad(name, rejection.body_text()))
}

/// The body. Error: what is wrong.
pub fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body)
        .map_err(|rejection| bad("body", rejection.body_text()))
}

fn has_nul() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "nul",
        "a NUL character stands in the request: take it out",
    )
}

/// Refuses a NUL in the address: no database accepts one in a text.
pub async fn without_nul_in_address(request: Request, next: Next) -> Result<Response, Problem> {
    if request.uri().to_string().contains("%00") {
        return Err(has_nul());
    }
    Ok(next.run(request).await)
}

fn too_long() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body",
        format!("a body has at most {BODY_BYTES_MAX} bytes"),
    )
}

/// Replaces the plain refusal of an announced length by a problem.
pub async fn too_long_is_a_problem(response: Response) -> Response {
    let is_bare = response.status() == StatusCode::PAYLOAD_TOO_LARGE
        && response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_none_or(|kind| kind != "application/problem+json");
    if is_bare {
        return too_long().into_response();
    }
    response
}

/// Refuses a NUL in the body, and a body that is too long.
pub async fn without_nul(request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| too_long())?;
    // As JSON writes it: only an even number of backslashes before it would make it something else, which
    // nobody means.
    if memchr::memchr(0, &body).is_some() || memchr::memmem::find(&body, b"\\u0000").is_some() {
        return Err(has_nul());
    }
    Ok(next.run(Request::from_parts(parts, body.into())).await)
}

/// A limit within bounds.
pub fn limit(limit: Option<u32>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(bad("limit", format!("must be between 1 and {LIMIT_MAX}")))
}

/// An RFC 3339 time in milliseconds.
pub fn time_ms(parameter: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    text.map(|text| {
        text.parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|_| {
                bad(
                    parameter,
                    format!("{text:?} is not an RFC 3339 time, like 2026-03-01T08:00:00+08:00"),
                )
            })
    })
    .transpose()
}
