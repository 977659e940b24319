//! Warnings: what rules found, with their reasons.
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};
use std::collections::HashMap;

use super::{IDS_OF_QUERY_MAX, StoreError, failed};
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

/// A warning that firings can fold into.
#[derive(Debug, Clone, Copy)]
pub struct Foldable {
    /// Number.
    pub id: i64,
    /// When.
    pub at_ms: i64,
    /// 补报.
    pub late: bool,
}

impl Foldable {
    /// A firing is a repetition of this warning. A late one may repeat a live one; the other way round
    /// something that goes on now would hide in what pages nobody.
    pub fn takes(&self, firing: &Firing) -> bool {
        self.at_ms.abs_diff(firing.at_ms) <= firing.fold_ms.unsigned_abs()
            && (firing.late || !self.late)
    }
}

/// The nearest warning of a rule and key to fold into, if there is one.
pub async fn find_fold(
    connection: &mut SqliteConnection,
    firing: &Firing,
) -> Result<Option<Foldable>, StoreError> {
    // Before and after apart, so that the index gives each: no row but the nearest is looked at.
    let before = "at_ms >= $3 AND at_ms <= $4 ORDER BY at_ms DESC";
    let after = "at_ms > $3 AND at_ms <= $4 ORDER BY at_ms";
    let mut nearest: Option<Foldable> = None;
    for (side, from_ms, to_ms) in [
        (
            before,
            firing.at_ms.saturating_sub(firing.fold_ms),
            firing.at_ms,
        ),
        (
            after,
            firing.at_ms,
            firing.at_ms.saturating_add(firing.fold_ms),
        ),
    ] {
        let live = if firing.late { "" } else { "late = FALSE AND " };
        let statement = format!(
            "SELECT id, at_ms, late FROM warnings WHERE rule = $1 AND rule_key = $2 AND {live}{side} LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(firing.rule.as_str())
            .bind(firing.key.as_str())
            .bind(from_ms)
            .bind(to_ms)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("looking for a warning to fold into"))?;
        let found = row.map(|row| Foldable {
            id: row.get("id"),
            at_ms: row.get("at_ms"),
            late: row.get("late"),
        });
        nearest = nearest
            .into_iter()
            .chain(found)
            .min_by_key(|warning| warning.at_ms.abs_diff(firing.at_ms));
    }
    Ok(nearest)
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
    views(pool, &rows).await
}

/// One warning.
pub async fn get(pool: &SqlitePool, id: i64) -> Result<Option<WarningView>, StoreError> {
    let row = sqlx::query("SELECT * FROM warnings WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a warning"))?;
    Ok(views(pool, row.as_slice()).await?.pop())
}

/// Warnings with the codes of their cases, in two statements whatever their number.
async fn views(pool: &SqlitePool, rows: &[SqliteRow]) -> Result<Vec<WarningView>, StoreError> {
    let mut cases: HashMap<i64, Vec<String>> = HashMap::new();
    for rows in rows.chunks(IDS_OF_QUERY_MAX) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT warning_id, code FROM cases JOIN case_warnings ON case_id = id WHERE warning_id IN (",
        );
        let mut ids = query.separated(", ");
        for row in rows {
            ids.push_bind(row.get::<i64, _>("id"));
        }
        query.push(") ORDER BY id");
        let linked = query
            .build()
            .fetch_all(pool)
            .await
            .map_err(failed("reading the cases of warnings"))?;
        for row in linked {
            cases.entry(row.get(0)).or_default().push(row.get(1));
        }
    }
    Ok(rows
        .iter()
        .map(|row| WarningView {
            id: row.get("id"),
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
            cases: cases.remove(&row.get("id")).unwrap_or_default(),
        })
        .collect())
}
