//! `/api/v1/cases/{code}/attachments`: files of cases, in and out.
//!
//! A body is the file itself, of whatever length `[attachments]` allows: it is sealed as it comes, and refused as soon as
//! it is too large. What comes out is for saving: whoever opens it in a browser gets no page, no script and no frame.
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::sync::Arc;

use super::Api;
use super::cases::Moved;
use super::list::{body, path, query};
use crate::attachments::files::blocking;
use crate::attachments::media::Media;
use crate::services::Page;
use crate::services::case_files::{Announced, AttachmentView};
use linli_domain::cases::action::Attachment;
use linli_domain::rights::Actor;
use linli_store::sealed::file::Opened;

/// Bytes of one read of a download.
const READ_BYTES: usize = 256 * 1024;

/// The name of a file.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttachmentName {
    /// Its name, with the ending of its type: 1 to 120 characters, no part of a path.
    name: String,
}

/// The reason of a download.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DownloadReason {
    /// Why; it is kept.
    reason: String,
}

/// Files of a case, oldest first.
#[utoipa::path(get, path = "/api/v1/cases/{code}/attachments", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Page<AttachmentView>),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<Page<AttachmentView>>, Problem> {
    let code = path("code", code)?;
    let files = api.services.case_files(&actor, &code).await?;
    // There are few: all of them are a page.
    Ok(Json(Page::whole(files)))
}

/// A file that a case has.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Attached {
    /// Its number.
    number: i64,
    /// The version of the case.
    version: i64,
}

/// Adds a file to a case. The body is the file, its type in `content-type`, its name in the query. Sent again, it is
/// the same file.
#[utoipa::path(post, path = "/api/v1/cases/{code}/attachments", params(("code" = String, Path, description = "Code"), AttachmentName),
    request_body(content(
        (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "application/pdf"),
        (Vec<u8> = "video/mp4"), (Vec<u8> = "audio/mp4"), (Vec<u8> = "audio/mpeg"), (Vec<u8> = "audio/wav"),
        (Vec<u8> = "audio/amr"), (Vec<u8> = "text/plain"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (Vec<u8> = "application/vnd.oasis.opendocument.text"),
    )),
    responses(
    (status = 201, body = Attached),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 408, description = "the body did not come to its end in time", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case does not take it: it is closed, or has as many files as it may have", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 413, description = "the file is too large", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 415, description = "the file is of no type that is taken, or of another than it is said to be", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn add(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    parameters: Result<Query<AttachmentName>, QueryRejection>,
    headers: HeaderMap,
    content: Body,
) -> Result<(StatusCode, Json<Attached>), Problem> {
    let code = path("code", code)?;
    let AttachmentName { name } = query(parameters)?;
    let text = |header| headers.get(header).and_then(|value| value.to_str().ok());
    let announced = Announced {
        name,
        content_type: text(header::CONTENT_TYPE),
        length: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    };
    let content = content.into_data_stream();
    let added = api
        .services
        .add_case_file(&actor, code, announced, content)
        .await?;
    let attached = Attached {
        number: added.number,
        version: added.version,
    };
    Ok((StatusCode::CREATED, Json(attached)))
}

/// Downloads a file. The caller, the time and the reason are in the audit log first.
#[utoipa::path(get, path = "/api/v1/cases/{code}/attachments/{number}",
    params(("code" = String, Path, description = "Code"), ("number" = i64, Path, description = "Number"), DownloadReason),
    responses(
    (status = 200, description = "the file", content(
        (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "application/pdf"),
        (Vec<u8> = "video/mp4"), (Vec<u8> = "audio/mp4"), (Vec<u8> = "audio/mpeg"), (Vec<u8> = "audio/wav"),
        (Vec<u8> = "audio/amr"), (Vec<u8> = "text/plain"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (Vec<u8> = "application/vnd.oasis.opendocument.text"),
    )),
    super::auth::Refusals,
    (status = 404, description = "no such case, or file of it", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 500, description = "the file is missing or damaged on the hub's disk", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn download(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    place: Result<Path<(String, i64)>, PathRejection>,
    parameters: Result<Query<DownloadReason>, QueryRejection>,
) -> Result<Response, Problem> {
    let (code, number) = path("number", place)?;
    let DownloadReason { reason } = query(parameters)?;
    let (file, opened) = api
        .services
        .open_case_file(&actor, &code, number, &reason)
        .await?;
    Ok(shown(&file, opened))
}

/// A file on its way out.
fn shown(file: &Attachment, opened: Opened) -> Response {
    let content_type = Media::ALL
        .into_iter()
        .find(|media| media.as_str() == file.media)
        .map_or("application/octet-stream", Media::content_type);
    let length = opened.content_bytes();
    let parts = stream::try_unfold(opened, |mut opened| async {
        let read = blocking(move || {
            let mut part = Vec::with_capacity(READ_BYTES);
            opened
                .by_ref()
                .take(READ_BYTES as u64)
                .read_to_end(&mut part)?;
            Ok((part, opened))
        });
        let (part, opened) = read.await?;
        io::Result::Ok((!part.is_empty()).then_some((part, opened)))
    });
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    for (header, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(header, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    let disposition = HeaderValue::from_str(&disposition(&file.name));
    let disposition = disposition.unwrap_or(HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    response
}

/// RFC 6266, with the name as RFC 8187 writes it.
fn disposition(name: &str) -> String {
    let mut text = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Why a file is taken away.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Why; it is kept.
    reason: String,
}

/// Takes a file from a case. It is deleted from the disk by the next run of retention, unless another case has it.
#[utoipa::path(post, path = "/api/v1/cases/{code}/attachments/{number}/remove", request_body = Removal,
    params(("code" = String, Path, description = "Code"), ("number" = i64, Path, description = "Number")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is closed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn remove(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    place: Result<Path<(String, i64)>, PathRejection>,
    removal: Result<Json<Removal>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let (code, number) = path("number", place)?;
    let Removal { reason } = body(removal)?;
    let removed = api.services.remove_case_file(&actor, code, number, &reason);
    let version = removed.await?;
    Ok(Json(Moved { version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_no_header_is_broken_by_it() {
        for (name, wanted) in [
            ("a-b_c.jpg", "a-b_c.jpg"),
            ("a b;c=\"'.jpg", "a%20b%3Bc%3D%22%27.jpg"),
            ("照片.png", "%E7%85%A7%E7%89%87.png"),
        ] {
            let text = disposition(name);
            assert_eq!(text, format!("attachment; filename*=UTF-8''{wanted}"));
            assert!(HeaderValue::from_str(&text).is_ok());
        }
    }
}
