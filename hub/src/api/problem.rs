//! What the API answers for each error of a service.
use axum::http::StatusCode;
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry;

use crate::attachments::NotTaken;
use crate::services::ServiceError;
use linli_domain::cases::refused::Refused;

/// After this time a request that met a busy writer may be sent again, seconds.
const RETRY_AFTER_S: u32 = 5;

/// The HTTP status of an error.
pub fn status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Invalid { .. } => StatusCode::BAD_REQUEST,
        ServiceError::Missing { .. } => StatusCode::NOT_FOUND,
        ServiceError::Forbidden => StatusCode::FORBIDDEN,
        ServiceError::Conflict { .. } => StatusCode::CONFLICT,
        ServiceError::Refused(refused) => of_refused(refused),
        ServiceError::WrongPassword => StatusCode::UNAUTHORIZED,
        ServiceError::TooManyTries { .. } => StatusCode::TOO_MANY_REQUESTS,
        ServiceError::File { reason, .. } => match reason {
            NotTaken::Name => StatusCode::BAD_REQUEST,
            NotTaken::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            NotTaken::Size => StatusCode::PAYLOAD_TOO_LARGE,
            NotTaken::Room => StatusCode::CONFLICT,
            NotTaken::Cut => StatusCode::REQUEST_TIMEOUT,
            NotTaken::Busy | NotTaken::Disk => StatusCode::SERVICE_UNAVAILABLE,
        },
        ServiceError::Unreadable { .. } | ServiceError::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        ServiceError::Busy | ServiceError::NotRunning | ServiceError::Store(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn of_refused(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Forbidden { .. }
        | Refused::Stale { .. }
        | Refused::Already { .. }
        | Refused::SamePerson { .. }
        | Refused::SameOrganisation { .. }
        | Refused::TooLate { .. }
        | Refused::JointOpen { .. }
        | Refused::LeadWanted
        | Refused::LeadNamed
        | Refused::LastHandler
        | Refused::NotNext { .. }
        | Refused::TooMany { .. }
        | Refused::TooLarge { .. }
        | Refused::NoRequest { .. }
        | Refused::StillNeeded { .. } => StatusCode::CONFLICT,
        Refused::NotForYou { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let status = status(&error);
        let detail = error.to_string();
        let problem = |kind: &str| Self::new(status, kind, detail);
        match error {
            ServiceError::Invalid { .. } => problem("query"),
            ServiceError::Missing { kind, .. }
            | ServiceError::Conflict { kind, .. }
            | ServiceError::Unreadable { kind, .. } => problem(kind),
            ServiceError::Forbidden => problem("forbidden"),
            ServiceError::Fault => problem("fault"),
            ServiceError::Refused(refused) => problem(refused.code()),
            ServiceError::WrongPassword => problem("password"),
            ServiceError::TooManyTries { wait_ms } => {
                problem("tries").retry_after((wait_ms / 1000 + 1) as u32)
            }
            ServiceError::File { reason, kind, .. } => match reason {
                NotTaken::Busy | NotTaken::Disk => problem(kind).retry_after(RETRY_AFTER_S),
                _ => problem(kind),
            },
            ServiceError::Busy | ServiceError::NotRunning => {
                problem("store").retry_after(RETRY_AFTER_S)
            }
            ServiceError::Store(error) => {
                tracing::error!(error = %telemetry::chain(&error), "a request to the API failed");
                Self::new(status, "store", "the store does not answer at the moment")
                    .retry_after(RETRY_AFTER_S)
            }
        }
    }
}
