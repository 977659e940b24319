//! Cases and their append-only actions.
use serde::Serialize;
use sqlx::Row as _;
use std::collections::HashMap;

use super::statement::Statement;
use super::{Connection, IDS_OF_QUERY_MAX, Pool, Row, StoreError, failed, snapshot};
use crate::cases::{Opening, State};

/// An action on a case.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ActionView {
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Who: a person, or a rule.
    pub actor: String,
    /// What.
    pub action: String,
    /// Why, in words.
    pub note: String,
}

/// A case as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct CaseView {
    /// Code: the one name of the case, from here to the archive.
    pub code: String,
    /// Kind.
    pub kind: String,
    /// Title.
    pub title: String,
    /// State.
    pub state: String,
    /// Severity of its gravest warning.
    pub severity: String,
    /// Site.
    pub site: String,
    /// Key of the place or thing that it is about.
    pub key: String,
    /// Where the rule sends it.
    pub route: String,
    /// When it was opened, milliseconds since 1970 UTC.
    pub opened_ms: i64,
    /// Rises with every change.
    pub version: i64,
    /// Numbers of its warnings.
    pub warnings: Vec<i64>,
    /// What was done, oldest first.
    pub actions: Vec<ActionView>,
}

/// Which cases are wanted.
#[derive(Debug, Clone, Default)]
pub struct CaseFilter {
    /// Only of this site.
    pub site: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this state.
    pub state: Option<String>,
    /// Only below this number, in the order of opening.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// The open case of a kind about a key on a route, and its severity. A case of another route is with
/// other people, who must not get what was not sent to them.
pub async fn find_open(
    connection: &mut Connection,
    opening: &Opening,
) -> Result<Option<(i64, String)>, StoreError> {
    let row = sqlx::query(
        "SELECT id, severity FROM cases WHERE kind = $1 AND case_key = $2 AND route = $3 AND state <> $4 \
         ORDER BY id LIMIT 1",
    )
    .bind(opening.kind.as_str())
    .bind(opening.key.as_str())
    .bind(opening.route.as_str())
    .bind(State::Archived.as_str())
    .fetch_optional(connection)
    .await
    .map_err(failed("looking for an open case"))?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Raises the severity of a case.
pub async fn set_severity(
    connection: &mut Connection,
    id: i64,
    severity: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE cases SET severity = $2 WHERE id = $1")
        .bind(id)
        .bind(severity)
        .execute(connection)
        .await
        .map_err(failed("raising the severity of a case"))?;
    Ok(())
}

/// Inserts a case.
pub async fn insert(
    connection: &mut Connection,
    id: i64,
    opening: &Opening,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO cases (id, code, kind, title, state, severity, site, case_key, route, opened_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)",
    )
    .bind(id)
    .bind(opening.code.as_str())
    .bind(opening.kind.as_str())
    .bind(opening.title.as_str())
    .bind(opening.state.as_str())
    .bind(opening.severity.as_str())
    .bind(opening.site.as_str())
    .bind(opening.key.as_str())
    .bind(opening.route.as_str())
    .bind(opening.opened_ms)
    .execute(connection)
    .await
    .map_err(failed("opening a case"))?;
    Ok(())
}

/// Appends an action and raises the version.
pub async fn act(
    connection: &mut Connection,
    id: i64,
    at_ms: i64,
    actor: &str,
    action: &str,
    note: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO case_actions (case_id, number, at_ms, actor, action, note) \
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5 FROM case_actions WHERE case_id = $1",
    )
    .bind(id)
    .bind(at_ms)
    .bind(actor)
    .bind(action)
    .bind(note)
    .execute(&mut *connection)
    .await
    .map_err(failed("noting an action on a case"))?;
    sqlx::query("UPDATE cases SET version = version + 1 WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .map_err(failed("raising the version of a case"))?;
    Ok(())
}

/// The cases of a warning.
pub async fn of_warning(connection: &mut Connection, warning: i64) -> Result<Vec<i64>, StoreError> {
    let rows =
        sqlx::query("SELECT case_id FROM case_warnings WHERE warning_id = $1 ORDER BY case_id")
            .bind(warning)
            .fetch_all(connection)
            .await
            .map_err(failed("looking for the cases of a warning"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Links a case and a warning, both ways.
pub async fn link(connection: &mut Connection, case: i64, warning: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO case_warnings (case_id, warning_id) VALUES ($1, $2) \
         ON CONFLICT (case_id, warning_id) DO NOTHING",
    )
    .bind(case)
    .bind(warning)
    .execute(connection)
    .await
    .map_err(failed("linking a case and a warning"))?;
    Ok(())
}

/// The highest number in use.
pub async fn last_id(connection: &mut Connection) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM cases")
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last case"))?;
    Ok(row.get(0))
}

/// Cases, newest first.
pub async fn list(pool: &Pool, filter: &CaseFilter) -> Result<Vec<CaseView>, StoreError> {
    let mut query = Statement::new("SELECT * FROM cases WHERE 1 = 1");
    for (column, value) in [
        (" AND site = ", &filter.site),
        (" AND kind = ", &filter.kind),
        (" AND state = ", &filter.state),
    ] {
        if let Some(value) = value {
            query.push(column).bind(value);
        }
    }
    if let Some(before) = filter.before {
        query.push(" AND id < ").bind(before);
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .bind(filter.limit as i64);
    let mut snapshot = snapshot(pool).await?;
    let rows = query
        .build()
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed("listing cases"))?;
    views(&mut snapshot, &rows).await
}

/// The number of a case.
pub async fn id_of(pool: &Pool, code: &str) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query("SELECT id FROM cases WHERE code = $1")
        .bind(code)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking up the code of a case"))?;
    Ok(row.map(|row| row.get(0)))
}

/// One case.
pub async fn get(pool: &Pool, code: &str) -> Result<Option<CaseView>, StoreError> {
    let mut snapshot = snapshot(pool).await?;
    let row = sqlx::query("SELECT * FROM cases WHERE code = $1")
        .bind(code)
        .fetch_optional(&mut *snapshot)
        .await
        .map_err(failed("reading a case"))?;
    Ok(views(&mut snapshot, row.as_slice()).await?.pop())
}

/// Rows of another table that belong to these cases.
async fn belonging(
    connection: &mut Connection,
    statement: &'static str,
    order: &'static str,
    cases: &[Row],
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    for cases in cases.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new(statement);
        query.push(" WHERE case_id IN (");
        query
            .bind_all(cases.iter().map(|case| case.get::<i64, _>("id")))
            .push(") ORDER BY ")
            .push(order);
        let rows = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("reading what belongs to cases"))?;
        found.extend(rows);
    }
    Ok(found)
}

/// Cases with their warnings and actions, in three statements whatever their number.
async fn views(connection: &mut Connection, rows: &[Row]) -> Result<Vec<CaseView>, StoreError> {
    let mut warnings: HashMap<i64, Vec<i64>> = HashMap::new();
    let linked = "SELECT case_id, warning_id FROM case_warnings";
    for row in belonging(connection, linked, "warning_id", rows).await? {
        warnings.entry(row.get(0)).or_default().push(row.get(1));
    }
    let mut actions: HashMap<i64, Vec<ActionView>> = HashMap::new();
    for row in belonging(connection, "SELECT * FROM case_actions", "number", rows).await? {
        actions
            .entry(row.get("case_id"))
            .or_default()
            .push(ActionView {
                at_ms: row.get("at_ms"),
                actor: row.get("actor"),
                action: row.get("action"),
                note: row.get("note"),
            });
    }
    Ok(rows
        .iter()
        .map(|row| {
            let id: i64 = row.get("id");
            CaseView {
                code: row.get("code"),
                kind: row.get("kind"),
                title: row.get("title"),
                state: row.get("state"),
                severity: row.get("severity"),
                site: row.get("site"),
                key: row.get("case_key"),
                route: row.get("route"),
                opened_ms: row.get("opened_ms"),
                version: row.get("version"),
                warnings: warnings.remove(&id).unwrap_or_default(),
                actions: actions.remove(&id).unwrap_or_default(),
            }
        })
        .collect())
}
