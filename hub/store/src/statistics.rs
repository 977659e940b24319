//! Counts of cases.
use sqlx::Row as _;

use super::statement::Statement;
use super::{Connection, StoreError, failed};

/// The cases to count.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// Earliest opening, included, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Latest opening, excluded, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Only cases with this organisation; `None`: all.
    pub org: Option<String>,
}

/// The property by which cases are grouped.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Kind.
    Kind,
    /// Id of the place.
    Place,
    /// Source.
    Source,
    /// Grade of the risk.
    Risk,
    /// Level of supervision.
    Supervision,
    /// "yes" or "no": whether the case was returned.
    Returned,
    /// "yes" or "no": whether another case has its key.
    Repeated,
}

impl Column {
    fn sql(self) -> &'static str {
        match self {
            Self::Kind => "SELECT kind AS name, COUNT(*) AS cases",
            Self::Place => "SELECT place AS name, COUNT(*) AS cases",
            Self::Source => "SELECT source AS name, COUNT(*) AS cases",
            Self::Risk => "SELECT risk AS name, COUNT(*) AS cases",
            Self::Supervision => "SELECT supervision AS name, COUNT(*) AS cases",
            Self::Returned => {
                "SELECT CASE WHEN EXISTS (SELECT 1 FROM case_actions WHERE case_id = cases.id AND action = 'return') \
                 THEN 'yes' ELSE 'no' END AS name, COUNT(*) AS cases"
            }
            Self::Repeated => {
                "SELECT CASE WHEN case_key <> '' AND EXISTS (SELECT 1 FROM cases AS other \
                 WHERE other.case_key = cases.case_key AND other.id <> cases.id) \
                 THEN 'yes' ELSE 'no' END AS name, COUNT(*) AS cases"
            }
        }
    }
}

/// Number of cases for each value. Errors: [`StoreError`].
pub async fn count(
    connection: &mut Connection,
    column: Column,
    period: &Period,
) -> Result<Vec<(String, i64)>, StoreError> {
    let mut query = Statement::new(column.sql());
    query
        .push(" FROM cases WHERE opened_ms >= ")
        .bind(period.from_ms)
        .push(" AND opened_ms < ")
        .bind(period.to_ms);
    if let Some(org) = &period.org {
        query
            .push(" AND id IN (SELECT case_id FROM case_orgs WHERE org = ")
            .bind(org.as_str())
            .push(")");
    }
    query.push(" GROUP BY 1");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("counting cases"))?;
    Ok(rows
        .iter()
        .map(|row| (row.get("name"), row.get("cases")))
        .collect())
}
