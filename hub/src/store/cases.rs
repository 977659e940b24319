//! Cases and their append-only actions.
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{StoreError, failed};
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
    /// Severity of the warning that opened it.
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
    /// Only below this code, in the order of opening.
    pub before: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// The open case of a kind about a key.
pub async fn find_open(
    connection: &mut SqliteConnection,
    kind: &str,
    key: &str,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "SELECT id FROM cases WHERE kind = $1 AND case_key = $2 AND state <> $3 ORDER BY id LIMIT 1",
    )
    .bind(kind)
    .bind(key)
    .bind(State::Archived.as_str())
    .fetch_optional(connection)
    .await
    .map_err(failed("looking for an open case"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Inserts a case.
pub async fn insert(
    connection: &mut SqliteConnection,
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
    connection: &mut SqliteConnection,
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

/// Links a case and a warning, both ways.
pub async fn link(
    connection: &mut SqliteConnection,
    case: i64,
    warning: i64,
) -> Result<(), StoreError> {
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
pub async fn last_id(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM cases")
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last case"))?;
    Ok(row.get(0))
}

/// Cases, newest first.
pub async fn list(pool: &SqlitePool, filter: &CaseFilter) -> Result<Vec<CaseView>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM cases WHERE 1 = 1");
    for (column, value) in [
        (" AND site = ", &filter.site),
        (" AND kind = ", &filter.kind),
        (" AND state = ", &filter.state),
    ] {
        if let Some(value) = value {
            query.push(column).push_bind(value);
        }
    }
    if let Some(before) = &filter.before {
        query
            .push(" AND id < (SELECT id FROM cases WHERE code = ")
            .push_bind(before)
            .push(")");
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .push_bind(filter.limit as i64);
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(failed("listing cases"))?;
    let mut views = Vec::with_capacity(rows.len());
    for row in &rows {
        views.push(view(pool, row).await?);
    }
    Ok(views)
}

/// One case.
pub async fn get(pool: &SqlitePool, code: &str) -> Result<Option<CaseView>, StoreError> {
    let row = sqlx::query("SELECT * FROM cases WHERE code = $1")
        .bind(code)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a case"))?;
    match row {
        Some(row) => view(pool, &row).await.map(Some),
        None => Ok(None),
    }
}

async fn view(pool: &SqlitePool, row: &SqliteRow) -> Result<CaseView, StoreError> {
    let id: i64 = row.get("id");
    let warnings =
        sqlx::query("SELECT warning_id FROM case_warnings WHERE case_id = $1 ORDER BY warning_id")
            .bind(id)
            .fetch_all(pool)
            .await
            .map_err(failed("reading the warnings of a case"))?;
    let actions = sqlx::query("SELECT * FROM case_actions WHERE case_id = $1 ORDER BY number")
        .bind(id)
        .fetch_all(pool)
        .await
        .map_err(failed("reading the actions of a case"))?;
    Ok(CaseView {
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
        warnings: warnings.iter().map(|row| row.get(0)).collect(),
        actions: actions
            .iter()
            .map(|row| ActionView {
                at_ms: row.get("at_ms"),
                actor: row.get("actor"),
                action: row.get("action"),
                note: row.get("note"),
            })
            .collect(),
    })
}
