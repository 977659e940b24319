//! `/api/v1/statistics/cases` and `/api/v1/exports/cases`: tables and rows, as JSON, JSON Lines or CSV.
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::civil::Weekday;
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cases::{keep_own, scope};
use super::list::{bad, query, time_ms};
use super::{Api, store_problem};
use linli_domain::cases::statistics::{By, Table, table};
use linli_domain::local_time;
use linli_domain::orgs::Directory;
use linli_domain::rights::Actor;
use linli_store::cases::{self, CaseFilter, CaseView};
use linli_store::statistics::{Column, Period, count};

/// Cases of one export at most; the header `x-next-cursor` says where to go on.
const EXPORT_MAX: usize = 10_000;

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
    /// What cases are counted by.
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
    let directory = api.directory.get().await.map_err(store_problem)?;
    let period = Period {
        from_ms: time_ms("from", Some(&parameters.from))?.unwrap_or(i64::MIN),
        to_ms: time_ms("to", Some(&parameters.to))?.unwrap_or(i64::MAX),
        org: scope(&actor, &directory),
    };
    if period.from_ms >= period.to_ms {
        return Err(bad("to", "must be later than from"));
    }
    if !is_whole(period.from_ms, period.to_ms) {
        return Err(bad(
            "from",
            "from and to must be the beginnings of two Mondays, or of the first of two months, by the clock of the centre, \
             like 2026-03-01T00:00:00+08:00",
        ));
    }
    let column = match parameters.by {
        By::Type => Column::Kind,
        By::Area => Column::Place,
        By::Source => Column::Source,
        By::Risk => Column::Risk,
        By::Lateness => Column::Supervision,
        By::Returns => Column::Returned,
        By::Repeats => Column::Repeated,
    };
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let mut counts = count(&mut snapshot, column, &period)
        .await
        .map_err(store_problem)?;
    if parameters.by == By::Area {
        counts = by_area(counts, &directory);
    }
    let table = table(counts);
    if parameters.format == Format::Json {
        return Ok(Json(table).into_response());
    }
    let rows = table.cells.iter().map(|cell| {
        let cases = cell.cases.map(|cases| cases.to_string());
        [cell.name.clone(), cases.unwrap_or_else(|| "<5".to_owned())]
    });
    csv(&["name", "cases"], rows)
}

/// Weeks and months are what figures are made of: where any period could be asked for, two that differ by little would
/// show what a small cell hides.
fn is_whole(from_ms: i64, to_ms: i64) -> bool {
    let ends = [from_ms, to_ms].map(|ms| (ms, local_time::at(ms)));
    let are_midnights = ends
        .iter()
        .all(|(ms, at)| local_time::midnight_ms(at.date()) == Some(*ms));
    let are_mondays = ends.iter().all(|(_, at)| at.weekday() == Weekday::Monday);
    are_midnights && (are_mondays || ends.iter().all(|(_, at)| at.day() == 1))
}

fn by_area(counts: Vec<(String, i64)>, directory: &Directory) -> Vec<(String, i64)> {
    let mut areas: BTreeMap<String, i64> = BTreeMap::new();
    for (place, cases) in counts {
        let office = directory.answering(&place).office.to_owned();
        *areas.entry(office).or_default() += cases;
    }
    areas.into_iter().collect()
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
    /// What `x-next-cursor` of the export before said.
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
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let directory = api
        .directory
        .of(&mut snapshot)
        .await
        .map_err(store_problem)?;
    let before = match &parameters.cursor {
        Some(code) => {
            let id = cases::id_of(&mut snapshot, code).await;
            Some(
                id.map_err(store_problem)?
                    .ok_or_else(super::list::bad_cursor)?,
            )
        }
        None => None,
    };
    let filter = CaseFilter {
        kind: parameters.kind,
        site: parameters.site,
        org: scope(&actor, &directory),
        login: Some(actor.login.clone()),
        before,
        limit: EXPORT_MAX + 1,
        ..CaseFilter::default()
    };
    let mut found = cases::list(&mut snapshot, &filter)
        .await
        .map_err(store_problem)?;
    let more = found.len() > EXPORT_MAX;
    found.truncate(EXPORT_MAX);
    let next = found.last().filter(|_| more).map(|case| case.code.clone());
    keep_own(&mut found, &actor, &directory);
    let rows = found.into_iter().map(ExportRow::from);
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

/// A CSV answer. What a spreadsheet would take for a formula is made text.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_whole_weeks_and_months() {
        for (from, to, whole) in [
            (
                "2026-03-01T00:00:00+08:00",
                "2026-04-01T00:00:00+08:00",
                true,
            ),
            ("2026-02-28T16:00:00Z", "2026-12-01T00:00:00+08:00", true),
            (
                "2026-03-02T00:00:00+08:00",
                "2026-03-09T00:00:00+08:00",
                true,
            ),
            // Two days, between a Monday and the first of a month.
            (
                "2026-06-29T00:00:00+08:00",
                "2026-07-01T00:00:00+08:00",
                false,
            ),
            (
                "2026-03-03T00:00:00+08:00",
                "2026-03-10T00:00:00+08:00",
                false,
            ),
            ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", false),
            (
                "2026-03-01T00:00:00.001+08:00",
                "2026-04-01T00:00:00+08:00",
                false,
            ),
        ] {
            let ms = |text| time_ms("from", Some(text)).ok().flatten().expect("a time");
            assert_eq!(is_whole(ms(from), ms(to)), whole, "{from} {to}");
        }
    }
}
