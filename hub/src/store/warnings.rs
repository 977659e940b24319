//! Warnings: what rules found, with their reasons.
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{StoreError, failed};
use crate::correlate::Firing;

/// A warning as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct WarningView {
    /// Number.
    pub id: i64,
    /// Rule.
    pub rule: String,
    /// Hash of the rule's content when it fired.
    pub rule_hash: String,
    /// Name of the rule.
    pub name: String,
    /// Severity.
    pub severity: String,
    /// Site.
    pub site: String,
    /// Key of the rule: the values of its key fields.
    pub key: String,
    /// Time of the event that completed it, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// When the hub raised it, milliseconds since 1970 UTC.
    pub raised_ms: i64,
    /// 补报: it was already old when it was raised.
    pub late: bool,
    /// Repetitions that were folded into it.
    pub folded: i64,
    /// The events that it rests on, each with its identity and time.
    #[schema(value_type = Vec<Object>)]
    pub reasons: serde_json::Value,
    /// Codes of its cases.
    pub cases: Vec<String>,
}

/// Which warnings are wanted.
#[derive(Debug, Clone, Default)]
pub struct WarningFilter {
    /// Only of this site.
    pub site: Option<String>,
    /// Only of this rule.
    pub rule: Option<String>,
    /// Only below this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// Inserts a warning.
pub async fn insert(
    connection: &mut SqliteConnection,
    id: i64,
    firing: &Firing,
    raised_ms: i64,
) -> Result<(), StoreError> {
    let reasons = serde_json::to_string(&firing.reasons).unwrap_or_default();
    sqlx::query(
        "INSERT INTO warnings (id, rule, rule_hash, name, severity, site, rule_key, at_ms, raised_ms, late, reasons) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(id)
    .bind(firing.rule.as_str())
    .bind(firing.rule_hash.as_str())
    .bind(firing.name.as_str())
    .bind(firing.severity.as_str())
    .bind(firing.site.as_str())
    .bind(firing.key.as_str())
    .bind(firing.at_ms)
    .bind(raised_ms)
    .bind(firing.late)
    .bind(reasons)
    .execute(connection)
    .await
    .map_err(failed("writing a warning"))?;
    Ok(())
}

/// The warning of a rule and key nearest before or at a time span, if there is one to fold into.
pub async fn find_fold(
    connection: &mut SqliteConnection,
    firing: &Firing,
) -> Result<Option<(i64, i64)>, StoreError> {
    let row = sqlx::query(
        "SELECT id, at_ms FROM warnings WHERE rule = $1 AND rule_key = $2 AND at_ms >= $3 AND at_ms <= $4 \
         ORDER BY at_ms LIMIT 1",
    )
    .bind(firing.rule.as_str())
    .bind(firing.key.as_str())
    .bind(firing.at_ms - firing.fold_ms)
    .bind(firing.at_ms + firing.fold_ms)
    .fetch_optional(connection)
    .await
    .map_err(failed("looking for a warning to fold into"))?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Counts repetitions.
pub async fn fold(
    connection: &mut SqliteConnection,
    id: i64,
    count: i64,
) -> Result<(), StoreError> {
    if count == 0 {
        return Ok(());
    }
    sqlx::query("UPDATE warnings SET folded = folded + $2 WHERE id = $1")
        .bind(id)
        .bind(count)
        .execute(connection)
        .await
        .map_err(failed("folding a warning"))?;
    Ok(())
}

/// The highest number in use.
pub async fn last_id(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM warnings")
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last warning"))?;
    Ok(row.get(0))
}

/// Warnings, newest first.
pub async fn list(
    pool: &SqlitePool,
    filter: &WarningFilter,
) -> Result<Vec<WarningView>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM warnings WHERE 1 = 1");
    if let Some(site) = &filter.site {
        query.push(" AND site = ").push_bind(site);
    }
    if let Some(rule) = &filter.rule {
        query.push(" AND rule = ").push_bind(rule);
    }
    if let Some(before) = filter.before {
        query.push(" AND id < ").push_bind(before);
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .push_bind(filter.limit as i64);
    let rows = query
        .build()
        .fetch_all(pool)
        .await
        .map_err(failed("listing warnings"))?;
    let mut views = Vec::with_capacity(rows.len());
    for row in &rows {
        views.push(view(pool, row).await?);
    }
    Ok(views)
}

/// One warning.
pub async fn get(pool: &SqlitePool, id: i64) -> Result<Option<WarningView>, StoreError> {
    let row = sqlx::query("SELECT * FROM warnings WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a warning"))?;
    match row {
        Some(row) => view(pool, &row).await.map(Some),
        None => Ok(None),
    }
}

async fn view(pool: &SqlitePool, row: &SqliteRow) -> Result<WarningView, StoreError> {
    let id: i64 = row.get("id");
    let cases = sqlx::query(
        "SELECT code FROM cases JOIN case_warnings ON case_id = id WHERE warning_id = $1 ORDER BY id",
    )
    .bind(id)
    .fetch_all(pool)
    .await
    .map_err(failed("reading the cases of a warning"))?;
    Ok(WarningView {
        id,
        rule: row.get("rule"),
        rule_hash: row.get("rule_hash"),
        name: row.get("name"),
        severity: row.get("severity"),
        site: row.get("site"),
        key: row.get("rule_key"),
        at_ms: row.get("at_ms"),
        raised_ms: row.get("raised_ms"),
        late: row.get("late"),
        folded: row.get("folded"),
        reasons: serde_json::from_str(row.get("reasons")).unwrap_or_default(),
        cases: cases.iter().map(|row| row.get(0)).collect(),
    })
}
