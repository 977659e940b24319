//! `/api/v1/imports/cases`: many cases at once, as JSON Lines or CSV.
//!
//! Each row is taken or refused by itself, and the answer says so row by row. A row has the number that its sender
//! has for it, so that an import that was interrupted can be sent again: what is there already is not opened twice.
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Api;
use super::list::bad;
use crate::services::ServiceError;
use crate::services::cases::NewCase;
use linli_domain::cases::narrative::Narrative;
use linli_domain::rights::Actor;

/// Rows of one request at most.
const ROWS_MAX: usize = 1000;

/// A row of CSV: a case without parties.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kind: String,
    title: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    key: String,
    external: String,
    #[serde(default)]
    risk: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    text: String,
}

impl From<Row> for NewCase {
    fn from(row: Row) -> Self {
        Self {
            kind: row.kind,
            title: row.title,
            place: row.place,
            key: row.key,
            external: row.external,
            risk: row.risk,
            narrative: Narrative {
                parties: Vec::new(),
                address: row.address,
                text: row.text,
            },
        }
    }
}

/// The result of a row.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Imported {
    /// Its number, from 1, without the header.
    row: usize,
    /// Code of its case.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The result of all rows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Import {
    /// Rows that have a case.
    taken: usize,
    /// Rows that were refused.
    refused: usize,
    /// Row by row.
    rows: Vec<Imported>,
}

/// Registers many cases, each with `external`. `application/jsonl`: a line each, as for one case; `text/csv`:
/// columns kind, title, place, key, external, risk, address, text.
#[utoipa::path(post, path = "/api/v1/imports/cases", request_body(content((String = "application/jsonl"), (String = "text/csv"))), responses(
    (status = 200, body = Import),
    super::auth::Refusals,
))]
pub async fn cases(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Import>, Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let rows: Vec<Result<NewCase, String>> = match kind.split(';').next().unwrap_or_default().trim()
    {
        "application/jsonl" => body
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
            .collect(),
        "text/csv" => csv::Reader::from_reader(body.trim_start_matches('\u{feff}').as_bytes())
            .into_deserialize::<Row>()
            .map(|row| row.map(NewCase::from).map_err(|error| error.to_string()))
            .collect(),
        other => {
            let message = format!("{other:?} is neither application/jsonl nor text/csv");
            return Err(bad("content-type", message));
        }
    };
    if rows.is_empty() || rows.len() > ROWS_MAX {
        return Err(bad(
            "body",
            format!("1 to {ROWS_MAX} rows, and there are {}", rows.len()),
        ));
    }
    let mut import = Import {
        taken: 0,
        refused: 0,
        rows: Vec::with_capacity(rows.len()),
    };
    for (at, new) in rows.into_iter().enumerate() {
        let outcome = match new {
            Ok(new) if new.external.trim().is_empty() => {
                Err("external: the row needs a number of its own".to_owned())
            }
            Ok(new) => match api.services.register_case(&actor, new).await {
                Ok(code) => Ok(code),
                Err(error) if is_of_the_row(&error) => Err(error.to_string()),
                // The store or the right: that is so for all rows.
                Err(error) => return Err(error.into()),
            },
            Err(error) => Err(error),
        };
        import.taken += usize::from(outcome.is_ok());
        import.refused += usize::from(outcome.is_err());
        let (code, error) = match outcome {
            Ok(code) => (Some(code), None),
            Err(error) => (None, Some(error)),
        };
        import.rows.push(Imported {
            row: at + 1,
            code,
            error,
        });
    }
    Ok(Json(import))
}

/// True if the error concerns the row only.
fn is_of_the_row(error: &ServiceError) -> bool {
    super::problem::status(error) == StatusCode::BAD_REQUEST
}
