//! Files of cases: listed, received, given out under a reason, removed.
//!
//! A file is sealed while it arrives, and refused as soon as it is too large. Its type is checked by its content type, the
//! ending of its name and its bytes.
use axum::body::Bytes;
use futures_util::{Stream, StreamExt as _};
use linli_shared::service::telemetry;
use serde::Serialize;
use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

use super::{CaseParts, ServiceError, Services, reason};
use crate::attachments::NotTaken;
use crate::attachments::files::{Received, blocking};
use crate::attachments::media::{self, Media};
use crate::attachments::name;
use crate::ingest::attach::{ADD, Attached, NewAttachment};
use linli_domain::cases::action::Attachment;
use linli_domain::cases::decide;
use linli_domain::cases::refused::Refused;
use linli_domain::rights::{Act, Actor, CaseAct};
use linli_store::sealed::file::{FileError, Opened};

const OBJECT: &str = "/api/v1/cases";
/// Parts of a body that wait for the disk; then the sender waits.
const PARTS_MAX: usize = 8;
/// A body that is silent for so long is cut off.
const PART_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of a whole body.
const BODY_DEADLINE: Duration = Duration::from_secs(1800);

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

/// What a sender says of a file before its content.
pub struct Announced<'a> {
    /// Its name.
    pub name: String,
    /// Its type, as `content-type` says.
    pub content_type: Option<&'a str>,
    /// Its length, bytes, if it is announced.
    pub length: Option<u64>,
}

impl Services {
    /// Files of a case, oldest first, with masked names.
    pub async fn case_files(
        &self,
        actor: &Actor,
        code: &str,
    ) -> Result<Vec<AttachmentView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        let mut snapshot = self.store.snapshot().await?;
        let record = self
            .visible_case(&mut snapshot, actor, code, CaseAct::See)
            .await?;
        let view = |(number, file): (i64, Attachment)| AttachmentView {
            number,
            name: name::masked(&file.name),
            media: file.media,
            bytes: file.bytes,
            by: file.by,
            at_ms: file.at_ms,
        };
        Ok(record.case.attachments.into_iter().map(view).collect())
    }

    /// Receives a file and adds it to a case. Sent again, it is the same file.
    pub async fn add_case_file<E: Display>(
        &self,
        actor: &Actor,
        code: String,
        announced: Announced<'_>,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Attached, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let added = self.receive_and_add(actor, code, announced, content).await;
        if let (Err(error), Some(parts)) = (&added, &self.cases) {
            let counted = match error {
                ServiceError::File { reason, .. } => Some(*reason),
                ServiceError::Refused(Refused::TooLarge { .. } | Refused::TooMany { .. }) => {
                    Some(NotTaken::Room)
                }
                _ => None,
            };
            if let Some(reason) = counted {
                parts.metrics.refused(reason);
            }
        }
        added
    }

    async fn receive_and_add<E: Display>(
        &self,
        actor: &Actor,
        code: String,
        announced: Announced<'_>,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Attached, ServiceError> {
        let parts = self.case_parts()?;
        let mut snapshot = self.store.snapshot().await?;
        let record = self.visible_case(&mut snapshot, actor, &code, ADD).await?;
        drop(snapshot);
        // Whatever can be refused without the content is refused before it arrives.
        let media = declared(parts, &announced)?;
        let limits = &parts.limits;
        let length = announced.length;
        if length.is_some_and(|length| length > limits.file_max.0) {
            return Err(too_large(parts));
        }
        decide::attachable(&record.case, length.unwrap_or(0), limits.case_max.0)?;
        let Ok(_turn) = Arc::clone(&parts.arrivals).try_acquire_owned() else {
            let detail = "太多文件正在上传，请稍后再试 / too many files are coming at the moment: send it again";
            return Err(file(NotTaken::Busy, "busy", detail));
        };
        let received = tokio::time::timeout(BODY_DEADLINE, receive(parts, content))
            .await
            .unwrap_or_else(|_| Err(too_slow()))?;
        let received = verify(parts, received, media).await?;
        let file = Attachment {
            name: announced.name,
            media: media.as_str().to_owned(),
            bytes: received.bytes(),
            digest: received.digest().to_owned(),
            by: String::new(),
            at_ms: 0,
        };
        let files = parts.files.clone();
        blocking(move || files.keep(received))
            .await
            .map_err(|error| disk(&error))?;
        let attaching = NewAttachment {
            code,
            file,
            case_bytes_max: limits.case_max.0,
        };
        let writer = self.writes.writer()?;
        Ok(writer.attach(actor.clone(), attaching).await??)
    }

    /// Opens a file of a case for reading. Who asked, when and why is in the audit log first.
    pub async fn open_case_file(
        &self,
        actor: &Actor,
        code: &str,
        number: i64,
        why: &str,
    ) -> Result<(Attachment, Opened), ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        let why = reason(why)?;
        let parts = self.case_parts()?;
        let mut snapshot = self.store.snapshot().await?;
        let record = self
            .visible_case(&mut snapshot, actor, code, CaseAct::Unmask)
            .await?;
        drop(snapshot);
        let Some(file) = record.case.attachments.get(&number).cloned() else {
            return Err(ServiceError::missing(format!(
                "案件没有附件 {number} / the case has no file {number}"
            )));
        };
        let which = format!("#{number}");
        self.note_of_case(actor, "case.attachment", code, why, which)
            .await?;
        let (files, digest, bytes) = (parts.files.clone(), file.digest.clone(), file.bytes);
        // The whole file is verified before any of it is shown: a damaged file is an error, not half a file.
        let opened = tokio::task::spawn_blocking(move || {
            files.verify(&digest, bytes)?;
            files.open(&digest)
        });
        let opened = opened
            .await
            .unwrap_or_else(|error| Err(FileError::Read(io::Error::other(error))))
            .map_err(|error| {
                parts.metrics.unreadable.inc();
                tracing::error!(
                    case = code, number, digest = file.digest, error = telemetry::chain(&error),
                    "a file of a case cannot be read: `linli-hub db check` shows which there are"
                );
                ServiceError::Unreadable {
                    kind: "attachment-unreadable",
                    detail: format!(
                        "附件 {number} 在中枢磁盘上缺失或损坏，请管理员从备份恢复 / file {number}: {error}; it has to be restored from a backup"
                    ),
                }
            })?;
        Ok((file, opened))
    }

    /// Removes a file from a case. The next run of retention deletes it from the disk, unless another case has it. Returns
    /// the version of the case.
    pub async fn remove_case_file(
        &self,
        actor: &Actor,
        code: String,
        number: i64,
        why: &str,
    ) -> Result<i64, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let why = why.trim().to_owned();
        let writer = self.writes.writer()?;
        Ok(writer.detach(code, actor.clone(), number, why).await??)
    }
}

fn file(reason: NotTaken, kind: &'static str, detail: impl Into<String>) -> ServiceError {
    ServiceError::File {
        reason,
        kind,
        detail: detail.into(),
    }
}

/// The type of a file by its content type and the ending of its name.
fn declared(parts: &CaseParts, announced: &Announced<'_>) -> Result<Media, ServiceError> {
    let ending = name::check(&announced.name)
        .map_err(|why| file(NotTaken::Name, "attachment-name", format!("name: {why}")))?;
    let words = announced.content_type.unwrap_or_default();
    let taken = || Media::words(&parts.limits.types);
    let declared = Media::declared(words);
    let Some(media) = declared.filter(|media| parts.limits.types.contains(media)) else {
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

fn of_type(detail: String) -> ServiceError {
    file(NotTaken::Type, "attachment-type", detail)
}

fn too_large(parts: &CaseParts) -> ServiceError {
    let bytes_max = parts.limits.file_max.0;
    file(
        NotTaken::Size,
        "attachment-size",
        format!("文件最多 {bytes_max} 字节 / a file has at most {bytes_max} bytes"),
    )
}

fn too_slow() -> ServiceError {
    file(
        NotTaken::Cut,
        "attachment-cut",
        "文件未在时限内传完 / the file did not come to its end in time: send it again",
    )
}

/// The disk does not take it.
fn disk(error: &io::Error) -> ServiceError {
    tracing::error!(%error, "a file of a case cannot be written");
    let detail = "the file cannot be kept at the moment: send it again";
    file(NotTaken::Disk, "store", detail)
}

/// Takes a body onto the disk.
async fn receive<E: Display>(
    parts: &CaseParts,
    content: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Received, ServiceError> {
    let (pieces, mut inbox) = mpsc::channel::<Bytes>(PARTS_MAX);
    let files = parts.files.clone();
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
    let mut content = pin!(content);
    let mut bytes = 0;
    loop {
        let part = tokio::time::timeout(PART_DEADLINE, content.next()).await;
        let part = match part.map_err(|_| too_slow())? {
            Some(Ok(part)) if part.is_empty() => continue,
            Some(Ok(part)) => part,
            Some(Err(error)) => {
                let detail = format!("the body did not come to its end: {error}");
                return Err(file(NotTaken::Cut, "attachment-cut", detail));
            }
            None => Bytes::new(),
        };
        let is_end = part.is_empty();
        bytes += part.len() as u64;
        if bytes > parts.limits.file_max.0 {
            return Err(too_large(parts));
        }
        // Who writes has failed where nobody takes it; it says how.
        if pieces.send(part).await.is_err() || is_end {
            break;
        }
    }
    drop(pieces);
    let written = written
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    match written.map_err(|error| disk(&error))? {
        Some(received) => Ok(received),
        None => Err(too_slow()),
    }
}

/// Checks that the bytes are of the declared type.
async fn verify(
    parts: &CaseParts,
    received: Received,
    said: Media,
) -> Result<Received, ServiceError> {
    let files = parts.files.clone();
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
