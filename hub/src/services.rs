//! One place where an actor reads or changes something, with rights, masks and audit applied.
//!
//! The HTTP API and the command line call the same functions; neither reads the store by itself. A function takes the
//! [`Actor`] first and does, in this order: checks the actor's right, checks the input, limits what is read to what the
//! actor may see, writes the audit entry of what is about to be shown, reads or commits, masks.
//!
//! Changes are committed by [`Writes`]: by the hub's writer while the hub runs, and by the command line in a transaction
//! of its own.
//!
//! Errors are [`ServiceError`]s: they say what is wrong and how to mend it, and know nothing of HTTP. An object that the
//! actor may not know of is [`ServiceError::Missing`], like one that does not exist. A refusal is in the audit log.
pub mod agents;
pub mod audit;
pub mod case_files;
pub mod cases;
pub mod changes;
pub mod current_directory;
pub mod directory;
pub mod events;
pub mod mutes;
pub mod notifications;
pub mod readings;
pub mod rules;
pub mod sessions;
pub mod statistics;
pub mod subject;
pub mod tokens;
pub mod users;
mod visibility;
pub mod warnings;
mod writes;

use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

use crate::attachments::files::Files;
use crate::attachments::metrics::AttachmentMetrics;
use crate::attachments::{AttachmentsConfig, NotTaken};
use crate::case_policy::NamedOnly;
use crate::clock_watch::ClockWatch;
use crate::ingest::Rejection;
use crate::ingest::casework::CaseRefusal;
use crate::ingest::people_changes::PeopleChange;
use crate::sign_in_audit::Refusals;
use crate::users::Tries;
use current_directory::CurrentDirectory;
use linli_domain::audit::REASON_CHARS_MAX;
use linli_domain::cases::dispatch::Dispatch;
use linli_domain::cases::refused::Refused;
use linli_domain::rights::{Act, Actor, may};
use linli_store::sealed::Sealer;
use linli_store::{Store, StoreError};
use readings::Readings;
use rules::RunningRules;

pub use writes::{Writes, resend_dead};

/// Passwords that are hashed at a time: 19 MiB and a core each.
const PASSWORDS_AT_ONCE: usize = 2;
/// Files that are received at a time.
const ARRIVALS_AT_ONCE: usize = 8;

/// Why a service did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A field of the request is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong with it, and how it is meant.
        message: String,
    },
    /// There is no such object, or the actor may not know of it.
    #[error("{detail}")]
    Missing {
        /// The code of the problem.
        kind: &'static str,
        /// What is missing.
        detail: String,
    },
    /// The actor does not have the right.
    #[error(
        "您的角色或单位无此权限 / your role, or your organisation, does not have the right for this"
    )]
    Forbidden,
    /// The object is in a state that does not take the change.
    #[error("{detail}")]
    Conflict {
        /// The code of the problem.
        kind: &'static str,
        /// What stands in the way.
        detail: String,
    },
    /// A case does not take the change.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The login or the password is wrong.
    #[error("用户名或密码不正确 / login or password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("密码错误次数过多，请稍后再试 / too many wrong passwords: try again later")]
    TooManyTries {
        /// How long the login waits, milliseconds.
        wait_ms: i64,
    },
    /// A file of a case is not taken.
    #[error("{detail}")]
    File {
        /// Why, for the metrics.
        reason: NotTaken,
        /// The code of the problem.
        kind: &'static str,
        /// Why, and what to do.
        detail: String,
    },
    /// Something that the hub keeps cannot be read.
    #[error("{detail}")]
    Unreadable {
        /// The code of the problem.
        kind: &'static str,
        /// What, and what to do.
        detail: String,
    },
    /// The writer takes no changes at the moment.
    #[error("the store takes no writes at the moment: send the request again")]
    Busy,
    /// The request makes the hub fail each time; the log says how.
    #[error(
        "此请求导致中枢内部错误，已记入日志 / this request makes the hub fail: its log says why; to send it again changes nothing"
    )]
    Fault,
    /// Only a running hub can do this.
    #[error("only a running hub can do this: use its API")]
    NotRunning,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// A field is wrong.
    pub fn invalid(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.to_string(),
        }
    }

    /// An object is missing.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::Missing {
            kind: "not-found",
            detail: detail.into(),
        }
    }
}

impl From<Rejection> for ServiceError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Poison => Self::Fault,
            Rejection::Gap { .. } | Rejection::Stray | Rejection::Store => Self::Busy,
        }
    }
}

impl From<CaseRefusal> for ServiceError {
    fn from(refusal: CaseRefusal) -> Self {
        match refusal {
            CaseRefusal::Unknown => cases::unknown(),
            CaseRefusal::Right => Self::Forbidden,
            CaseRefusal::Refused(refused) => Self::Refused(refused),
        }
    }
}

/// The services of a hub. What they hold is for them alone; other modules call their functions.
pub struct Services {
    store: Store,
    writes: Writes,
    rules: RunningRules,
    directory: CurrentDirectory,
    /// One change of the directory at a time: each is checked against the result of the one before.
    directory_turn: Mutex<()>,
    named_only: NamedOnly,
    dispatch: Arc<Dispatch>,
    /// Warnings of life safety may be muted.
    mute_life: bool,
    /// Sites of the config; those of agents come from the store.
    sites: BTreeSet<String>,
    cases: Option<CaseParts>,
    readings: Mutex<Readings>,
    tries: Mutex<Tries>,
    refusals: Option<Refusals>,
    password_turns: Arc<Semaphore>,
    clock: ClockWatch,
}

/// What services of cases need beside the store: the keys and the files.
pub struct CaseParts {
    /// Keys of sealed fields.
    pub sealer: Arc<Sealer>,
    /// Files of cases.
    pub files: Files,
    /// Limits of files.
    pub limits: AttachmentsConfig,
    /// Metrics of files.
    pub metrics: AttachmentMetrics,
    /// Turns to send a file.
    pub arrivals: Arc<Semaphore>,
}

impl CaseParts {
    /// With as many turns as a hub gives.
    pub fn new(
        sealer: Arc<Sealer>,
        files: Files,
        limits: AttachmentsConfig,
        metrics: AttachmentMetrics,
    ) -> Self {
        Self {
            sealer,
            files,
            limits,
            metrics,
            arrivals: Arc::new(Semaphore::new(ARRIVALS_AT_ONCE)),
        }
    }
}

/// What services are made of.
pub struct Parts {
    /// The store, for reading.
    pub store: Store,
    /// The way of changes.
    pub writes: Writes,
    /// The rules that run.
    pub rules: RunningRules,
    /// Kinds of cases for named handlers only, and who these are.
    pub named_only: NamedOnly,
    /// Proposes who leads a case.
    pub dispatch: Arc<Dispatch>,
    /// Warnings of life safety may be muted.
    pub mute_life: bool,
    /// Sites of the config.
    pub sites: BTreeSet<String>,
    /// Keys and files of cases; `None` on the command line, which shows no texts of cases.
    pub cases: Option<CaseParts>,
    /// Wrong sign-ins; `None` on the command line, where nobody signs in.
    pub refusals: Option<Refusals>,
    /// The hub's clock.
    pub clock: ClockWatch,
}

impl Services {
    /// Of these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            directory: CurrentDirectory::new(parts.store.clone()),
            store: parts.store,
            writes: parts.writes,
            rules: parts.rules,
            directory_turn: Mutex::default(),
            named_only: parts.named_only,
            dispatch: parts.dispatch,
            mute_life: parts.mute_life,
            sites: parts.sites,
            cases: parts.cases,
            readings: Mutex::default(),
            tries: Mutex::default(),
            refusals: parts.refusals,
            password_turns: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE)),
            clock: parts.clock,
        }
    }

    /// Lets through an actor that has the right; a refusal is in the audit log, as `object` and `method`.
    pub async fn permit(
        &self,
        actor: &Actor,
        act: Act,
        method: &str,
        object: &str,
    ) -> Result<(), ServiceError> {
        if may(actor, act) {
            return Ok(());
        }
        self.refuse(actor, method, object).await
    }

    /// Notes in the audit log that the actor lacks a right, and fails.
    pub(crate) async fn refuse<T>(
        &self,
        actor: &Actor,
        method: &str,
        object: &str,
    ) -> Result<T, ServiceError> {
        let note = PeopleChange::Note {
            action: "refused".to_owned(),
            object: object.chars().take(200).collect(),
            reason: String::new(),
            detail: method.to_owned(),
        };
        self.writes.people(note, &actor.login).await?;
        Err(ServiceError::Forbidden)
    }

    fn case_parts(&self) -> Result<&CaseParts, ServiceError> {
        self.cases.as_ref().ok_or(ServiceError::NotRunning)
    }
}

/// One page of a list.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The first `limit` of at most `limit + 1` items, with a cursor if there was one more.
    pub fn first(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// The reason of a request, which is kept in the audit log.
fn reason(text: &str) -> Result<String, ServiceError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_CHARS_MAX {
        let message = format!("1 to {REASON_CHARS_MAX} characters");
        return Err(ServiceError::invalid("reason", message));
    }
    Ok(text.to_owned())
}

/// A cursor that no page has given.
pub fn bad_cursor() -> ServiceError {
    ServiceError::invalid("cursor", "pass what the page before gave as next")
}
