//! What all lists share: limits, times, pages, and queries that say what is wrong with them.
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use linli_shared::service::problem::Problem;
use serde::Serialize;

use linli_domain::audit::REASON_CHARS_MAX;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Why somebody wants something, which is kept.
pub fn why(reason: &str) -> Result<String, Problem> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(bad("reason", format!("1 to {REASON_CHARS_MAX} characters")));
    }
    Ok(reason.to_owned())
}

/// A bad query, with its parameter.
pub fn bad(parameter: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "query",
        format!("{parameter}: {detail}"),
    )
}

/// A cursor that no page has given.
pub fn bad_cursor() -> Problem {
    bad("cursor", "pass what the page before gave as next")
}

/// The query, or what is wrong with it.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| bad("query", rejection.body_text()))
}

/// What stands in the path, or what is wrong with it.
pub fn path<T>(name: &str, path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(value)| value)
        .map_err(|rejection| bad(name, rejection.body_text()))
}

/// The body, or what is wrong with it.
pub fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body)
        .map_err(|rejection| bad("body", rejection.body_text()))
}

/// Bytes of a JSON body at most.
const BODY_BYTES_MAX: usize = 256 * 1024;

fn has_nul() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "nul",
        "a NUL character stands in the request: take it out",
    )
}

/// Refuses what has a NUL in its address: no database takes one for a text.
pub async fn without_nul_in_address(request: Request, next: Next) -> Result<Response, Problem> {
    if request.uri().to_string().contains("%00") {
        return Err(has_nul());
    }
    Ok(next.run(request).await)
}

/// Refuses what has a NUL in its body, and a body that is too long.
pub async fn without_nul(request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body",
                format!("a body has at most {BODY_BYTES_MAX} bytes"),
            )
        })?;
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

/// The first `limit` of at most `limit + 1` items, and the cursor if there was one more.
pub fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}
