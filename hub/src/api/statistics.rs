//! `/api/v1/statistics/cases` and `/api/v1/exports/cases`: tables and rows, as JSON, JSON Lines or CSV.
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::Api;
use super::list::{bad, query, time_ms};
use crate::services::Page;
use linli_domain::cases::statistics::{By, Table};
use linli_domain::rights::Actor;
use linli_store::cases::{CaseFilter, CaseView};

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON, or JSON Lines where there are rows.
    #[default]
    Json,
    /// CSV (RFC 4180), UTF-8 with a mark at its beginning, so that spreadsheets read it.
    Csv,
}

/// Which table.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatisticsQuery {
    /// The dimension of the count.
    #[param(inline)]
    by: By,
    /// Opened then or later (RFC 3339): the beginning of a Monday or of a month by the clock of the centre, UTC+8.
    from: String,
    /// Opened before (RFC 3339): the like.
    to: String,
    /// `json` or `csv`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// Figures of cases. Cells of fewer than five cases are not shown.
#[utoipa::path(get, path = "/api/v1/statistics/cases", params(StatisticsQuery), responses(
    (status = 200, description = "a table, or the same as CSV", content((Table = "application/json"), (String = "text/csv"))),
    super::auth::Refusals,
))]
pub async fn statistics(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<StatisticsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let parameters = query(parameters)?;
    let period = (
        time_ms("from", Some(&parameters.from))?.unwrap_or(i64::MIN),
        time_ms("to", Some(&parameters.to))?.unwrap_or(i64::MAX),
    );
    let table = api
        .services
        .case_statistics(&actor, parameters.by, period)
        .await?;
    if parameters.format == Format::Json {
        return Ok(Json(table).into_response());
    }
    let rows = table.cells.iter().map(|cell| {
        let cases = cell.cases.map(|cases| cases.to_string());
        [cell.name.clone(), cases.unwrap_or_else(|| "<5".to_owned())]
    });
    csv(&["name", "cases"], rows)
}

/// Which cases are exported.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Only of this kind.
    kind: Option<String>,
    /// Only of this site.
    site: Option<String>,
    /// `x-next-cursor` of the export before.
    cursor: Option<String>,
    /// `json` for JSON Lines, or `csv`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// A case as a row.
#[derive(Debug, Serialize)]
struct ExportRow {
    code: String,
    kind: String,
    title: String,
    state: String,
    risk: String,
    place: String,
    source: String,
    lead: String,
    supervision: String,
    opened: String,
    changed: String,
}

impl From<CaseView> for ExportRow {
    fn from(case: CaseView) -> Self {
        let time = linli_shared::service::clock::rfc3339;
        Self {
            opened: time(case.opened_ms),
            changed: time(case.changed_ms),
            code: case.code,
            kind: case.kind,
            title: case.title,
            state: case.state,
            risk: case.risk,
            place: case.place,
            source: case.source,
            lead: case.lead,
            supervision: case.supervision,
        }
    }
}

/// Cases as rows, newest first, without what they say of people.
#[utoipa::path(get, path = "/api/v1/exports/cases", params(ExportQuery), responses(
    (status = 200, description = "rows; x-next-cursor says where to go on", content((String = "application/jsonl"), (String = "text/csv"))),
    super::auth::Refusals,
))]
pub async fn export(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let parameters = query(parameters)?;
    let filter = CaseFilter {
        kind: parameters.kind,
        site: parameters.site,
        ..CaseFilter::default()
    };
    let cursor = parameters.cursor.as_deref();
    let Page { items, next } = api.services.export_cases(&actor, filter, cursor).await?;
    let rows = items.into_iter().map(ExportRow::from);
    let mut answer = match parameters.format {
        Format::Json => {
            let lines: String = rows
                .filter_map(|row| serde_json::to_string(&row).ok())
                .map(|line| line + "\n")
                .collect();
            ([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response()
        }
        Format::Csv => {
            let header = [
                "code",
                "kind",
                "title",
                "state",
                "risk",
                "place",
                "source",
                "lead",
                "supervision",
                "opened",
                "changed",
            ];
            let rows = rows.map(|row| {
                [
                    row.code,
                    row.kind,
                    row.title,
                    row.state,
                    row.risk,
                    row.place,
                    row.source,
                    row.lead,
                    row.supervision,
                    row.opened,
                    row.changed,
                ]
            });
            csv(&header, rows)?
        }
    };
    if let Some(next) = next.and_then(|next| next.parse().ok()) {
        answer.headers_mut().insert("x-next-cursor", next);
    }
    Ok(answer)
}

/// A CSV answer. Fields that a spreadsheet would take for formulas are made text.
fn csv<const N: usize>(
    names: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<Response, Problem> {
    let unwritten = |error: &dyn std::fmt::Display| {
        bad("format", format!("the table cannot be written: {error}"))
    };
    let mut writer = csv::Writer::from_writer("\u{feff}".as_bytes().to_vec());
    writer
        .write_record(names)
        .map_err(|error| unwritten(&error))?;
    for row in rows {
        let row = row.map(|field| {
            if field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
                format!("'{field}")
            } else {
                field
            }
        });
        writer
            .write_record(&row)
            .map_err(|error| unwritten(&error))?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| unwritten(&error.error()))?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], bytes).into_response())
}
