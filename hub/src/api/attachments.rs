//! `/api/v1/cases/{code}/attachments`: files of cases, in and out.
//!
//! A body is the file itself, of whatever length `[attachments]` allows: it is sealed as it comes, and refused as soon as
//! it is too large. What comes out is for saving: whoever opens it in a browser gets no page, no script and no frame.
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{StreamExt as _, stream};
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

use super::cases::{Moved, refusal, visible};
use super::list::{Page, body, path, query, why};
use super::{Api, busy, readings, store_problem};
use crate::attachments::NotTaken;
use crate::attachments::files::{Received, blocking};
use crate::attachments::media::{self, Media};
use crate::attachments::name;
use crate::ingest::attach::{self, ADD, Attaching};
use crate::ingest::casework::CaseRefusal;
use linli_domain::cases::action::Attachment;
use linli_domain::cases::decide;
use linli_domain::rights::{Actor, CaseAct};
use linli_store::sealed::file::{FileError, Opened};

/// Parts of a body that wait for the disk; then who sends waits.
const PARTS_MAX: usize = 8;
/// A body that says nothing for so long is cut off.
const PART_DEADLINE: Duration = Duration::from_secs(30);
/// All of a body.
const BODY_DEADLINE: Duration = Duration::from_secs(1800);
/// Read at once for who downloads.
const READ_BYTES: usize = 256 * 1024;

/// What a file is called.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttachmentName {
    /// Its name, with the ending of its type: 1 to 120 characters, no part of a path.
    name: String,
}

/// Why somebody wants to have a file.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DownloadReason {
    /// Why; it is kept.
    reason: String,
}

/// A file of a case.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AttachmentView {
    /// The number of the action that added it; never that of another.
    number: i64,
    /// Its name, masked: its own comes with its content.
    name: String,
    /// What it is.
    media: String,
    /// Bytes of its content.
    bytes: u64,
    /// Who added it.
    by: String,
    /// When, milliseconds since 1970 UTC.
    at_ms: i64,
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
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(&api, &mut snapshot, &actor, &code, CaseAct::See).await?;
    let view = |(number, file): (i64, Attachment)| AttachmentView {
        number,
        name: name::masked(&file.name),
        media: file.media,
        bytes: file.bytes,
        by: file.by,
        at_ms: file.at_ms,
    };
    // There are few: all of them are a page.
    let items = record.case.attachments.into_iter().map(view).collect();
    Ok(Json(Page { items, next: None }))
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
    let taken = take(&api, &actor, code, parameters, &headers, content).await;
    taken.map_err(|refused| {
        if let Some(reason) = refused.reason {
            api.attachment_metrics.refused(reason);
        }
        refused.problem
    })
}

/// Why a file was not taken.
struct Refused {
    /// For the figures; none where it is about the case, not the file.
    reason: Option<NotTaken>,
    problem: Problem,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            reason: None,
            problem,
        }
    }
}

fn refused(reason: NotTaken, status: StatusCode, kind: &str, detail: impl Into<String>) -> Refused {
    Refused {
        reason: Some(reason),
        problem: Problem::new(status, kind, detail),
    }
}

async fn take(
    api: &Arc<Api>,
    actor: &Actor,
    code: Result<Path<String>, PathRejection>,
    parameters: Result<Query<AttachmentName>, QueryRejection>,
    headers: &HeaderMap,
    content: Body,
) -> Result<(StatusCode, Json<Attached>), Refused> {
    let code = path("code", code)?;
    let AttachmentName { name } = query(parameters)?;
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(api, &mut snapshot, actor, &code, ADD).await?;
    drop(snapshot);
    // What can be said without the body is said before it comes.
    let media = declared(api, &name, headers)?;
    let limits = &api.attachments;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.file_max.0) {
        return Err(too_large(api));
    }
    let room = decide::attachable(&record.case, length.unwrap_or(0), limits.case_max.0);
    room.map_err(|why| of_case(CaseRefusal::Refused(why)))?;
    let Ok(_turn) = Arc::clone(&api.arrivals).try_acquire_owned() else {
        let detail =
            "太多文件正在上传，请稍后再试 / too many files are coming at the moment: send it again";
        return Err(not_now(NotTaken::Busy, "busy", detail));
    };
    let received = tokio::time::timeout(BODY_DEADLINE, receive(api, content))
        .await
        .unwrap_or_else(|_| Err(too_slow()))?;
    let received = look(api, received, media).await?;
    let file = Attachment {
        name,
        media: media.as_str().to_owned(),
        bytes: received.bytes(),
        digest: received.digest().to_owned(),
        by: String::new(),
        at_ms: 0,
    };
    let files = api.files.clone();
    blocking(move || files.keep(received))
        .await
        .map_err(|error| disk(&error))?;
    let attaching = Attaching {
        code,
        file,
        case_bytes_max: limits.case_max.0,
    };
    let attached = api.ingest.attach(actor.clone(), attaching).await;
    let attach::Attached { number, version } = attached.map_err(busy)?.map_err(of_case)?;
    Ok((StatusCode::CREATED, Json(Attached { number, version })))
}

fn of_case(why: CaseRefusal) -> Refused {
    use linli_domain::cases::refused::Refused as Why;
    let reason = match &why {
        CaseRefusal::Refused(Why::TooLarge { .. } | Why::TooMany { .. }) => Some(NotTaken::Room),
        _ => None,
    };
    Refused {
        reason,
        problem: refusal(why),
    }
}

/// What it is said to be: by its type and by its name.
fn declared(api: &Api, name: &str, headers: &HeaderMap) -> Result<Media, Refused> {
    let ending = name::check(name).map_err(|why| {
        refused(
            NotTaken::Name,
            StatusCode::BAD_REQUEST,
            "attachment-name",
            format!("name: {why}"),
        )
    })?;
    let words = headers.get(header::CONTENT_TYPE);
    let words = words
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let taken = || Media::words(&api.attachments.types);
    let declared = Media::declared(words);
    let Some(media) = declared.filter(|media| api.attachments.types.contains(media)) else {
        let words: String = words.chars().take(100).collect();
        return Err(of_type(format!(
            "不接受类型 {words:?}，可以是 {} / content-type {words:?} is not taken: it may be that of {}",
            taken(),
            taken()
        )));
    };
    if Media::ending(&ending) != Some(media) {
        return Err(of_type(format!(
            "类型是 {media}，扩展名却是 {ending:?} / the content-type says {media}, the ending of its name {ending:?}",
            media = media.as_str()
        )));
    }
    Ok(media)
}

fn of_type(detail: String) -> Refused {
    refused(
        NotTaken::Type,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "attachment-type",
        detail,
    )
}

fn too_large(api: &Api) -> Refused {
    let bytes_max = api.attachments.file_max.0;
    refused(
        NotTaken::Size,
        StatusCode::PAYLOAD_TOO_LARGE,
        "attachment-size",
        format!("文件最多 {bytes_max} 字节 / a file has at most {bytes_max} bytes"),
    )
}

fn too_slow() -> Refused {
    refused(
        NotTaken::Cut,
        StatusCode::REQUEST_TIMEOUT,
        "attachment-cut",
        "文件未在时限内传完 / the file did not come to its end in time: send it again",
    )
}

/// The disk does not take it.
fn disk(error: &io::Error) -> Refused {
    tracing::error!(%error, "a file of a case cannot be written");
    let detail = "the file cannot be kept at the moment: send it again";
    not_now(NotTaken::Disk, "store", detail)
}

/// It may be taken when it is sent again.
fn not_now(why: NotTaken, kind: &str, detail: &str) -> Refused {
    let mut refused = refused(why, StatusCode::SERVICE_UNAVAILABLE, kind, detail);
    refused.problem = refused.problem.retry_after(5);
    refused
}

/// Takes a body onto the disk.
async fn receive(api: &Arc<Api>, content: Body) -> Result<Received, Refused> {
    let (parts, mut inbox) = mpsc::channel::<Bytes>(PARTS_MAX);
    let files = api.files.clone();
    // It ends without a file where the sender goes before it has said that all is there.
    let written = tokio::task::spawn_blocking(move || {
        let mut incoming = files.begin()?;
        while let Some(part) = inbox.blocking_recv() {
            if part.is_empty() {
                return Ok(Some(incoming.finish()?));
            }
            incoming.push(&part)?;
        }
        io::Result::Ok(None)
    });
    let mut content = content.into_data_stream();
    let mut bytes = 0;
    loop {
        let part = tokio::time::timeout(PART_DEADLINE, content.next()).await;
        let part = match part.map_err(|_| too_slow())? {
            Some(Ok(part)) if part.is_empty() => continue,
            Some(Ok(part)) => part,
            Some(Err(error)) => {
                return Err(refused(
                    NotTaken::Cut,
                    StatusCode::BAD_REQUEST,
                    "attachment-cut",
                    format!("the body did not come to its end: {error}"),
                ));
            }
            None => Bytes::new(),
        };
        let is_end = part.is_empty();
        bytes += part.len() as u64;
        if bytes > api.attachments.file_max.0 {
            return Err(too_large(api));
        }
        // Who writes has failed where nobody takes it; it says how.
        if parts.send(part).await.is_err() || is_end {
            break;
        }
    }
    drop(parts);
    let written = written
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    match written.map_err(|error| disk(&error))? {
        Some(received) => Ok(received),
        None => Err(too_slow()),
    }
}

/// The bytes are what they were said to be.
async fn look(api: &Arc<Api>, received: Received, said: Media) -> Result<Received, Refused> {
    let files = api.files.clone();
    let looked = blocking(move || {
        let mut opened = files.look(&received).map_err(io::Error::other)?;
        Ok((media::look(&mut opened)?, received))
    });
    let (found, received) = looked.await.map_err(|error| disk(&error))?;
    let found = match found {
        Ok(media) if media == said => return Ok(received),
        Ok(media) => media.as_str().to_owned(),
        Err(words) => words,
    };
    Err(of_type(format!(
        "声明为 {said}，内容却是 {found} / it is said to be {said}, and its bytes are {found}",
        said = said.as_str()
    )))
}

/// Gives a file out, for saving. Who asked, when and why goes into the audit log first.
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
    let reason = why(&reason)?;
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(&api, &mut snapshot, &actor, &code, CaseAct::Unmask).await?;
    drop(snapshot);
    let Some(file) = record.case.attachments.get(&number).cloned() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("案件没有附件 {number} / the case has no file {number}"),
        ));
    };
    let which = format!("#{number}");
    readings::write(&api, &actor, "case.attachment", &code, reason, which).await?;
    let (files, digest, bytes) = (api.files.clone(), file.digest.clone(), file.bytes);
    // Read to its end once before any of it is shown: what is damaged is an error, not half a file.
    let opened = tokio::task::spawn_blocking(move || {
        files.verify(&digest, bytes)?;
        files.open(&digest)
    });
    let opened = opened
        .await
        .unwrap_or_else(|error| Err(FileError::Read(io::Error::other(error))))
        .map_err(|error| {
            api.attachment_metrics.unreadable.inc();
            tracing::error!(
                case = code, number, digest = file.digest, error = telemetry::chain(&error),
                "a file of a case cannot be read: `linli-hub db check` shows which there are"
            );
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "attachment-unreadable",
                format!(
                    "附件 {number} 在中枢磁盘上缺失或损坏，请管理员从备份恢复 / file {number}: {error}; it has to be restored from a backup"
                ),
            )
        })?;
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
    let reason = reason.trim().to_owned();
    let detached = api.ingest.detach(code, actor, number, reason).await;
    let version = detached.map_err(busy)?.map_err(refusal)?;
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
