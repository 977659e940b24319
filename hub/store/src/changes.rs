//! Numbered changes: written with what they tell of, read after a number.
//!
//! Writers take turns ([`crate::begin`]), so the number after the highest is free until the transaction commits, and
//! numbers rise in the order of commits. Retention never deletes the newest row: a number is given once.
use sqlx::Row as _;

use super::statement::Statement;
use super::{Connection, Row, StoreError, failed, text};
use linli_domain::changes::{ChangeDetail, ChangeKind, ChangeSet, NumberedChange};

/// Rows of one statement.
const ROWS_MAX: usize = 500;

/// Which numbers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// The oldest; 0: there was never a change.
    pub first: i64,
    /// The newest.
    pub last: i64,
}

impl Kept {
    /// Everything after a number is still there.
    pub fn reaches_back_to(self, number: i64) -> bool {
        number <= self.last && number >= self.first.saturating_sub(1)
    }
}

/// Writes the changes of a transaction, in that transaction; the number of the last, `None`: there are none.
pub async fn write(
    connection: &mut Connection,
    changes: &ChangeSet,
    at_ms: i64,
) -> Result<Option<i64>, StoreError> {
    if changes.is_empty() {
        return Ok(None);
    }
    let mut number = last(connection).await?;
    let all: Vec<_> = changes.iter().collect();
    for rows in all.chunks(ROWS_MAX) {
        let mut query = Statement::new(
            "INSERT INTO changes (number, kind, object, site, agent, orgs, version, at_ms) VALUES ",
        );
        for (index, (kind, object, detail)) in rows.iter().enumerate() {
            number += 1;
            query.push(if index > 0 { ", (" } else { "(" });
            query.bind(number).push(", ").bind(kind.as_str());
            query.push(", ").bind(text(object).into_owned());
            query.push(", ").bind(detail.site.as_str());
            query.push(", ").bind(detail.agent.as_str());
            query.push(", ").bind(joined(&detail.orgs));
            query.push(", ").bind(detail.version);
            query.push(", ").bind(at_ms).push(")");
        }
        query
            .build()
            .execute(&mut *connection)
            .await
            .map_err(failed("writing changes"))?;
    }
    Ok(Some(number))
}

/// With a comma before and after each.
fn joined(orgs: &[String]) -> String {
    if orgs.is_empty() {
        return String::new();
    }
    format!(",{},", orgs.join(","))
}

/// The newest number; 0: there was never a change.
pub async fn last(connection: &mut Connection) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(number), 0) FROM changes")
        .fetch_one(connection)
        .await
        .map_err(failed("reading the last number of changes"))?;
    Ok(row.get(0))
}

/// Which numbers there are.
pub async fn kept(connection: &mut Connection) -> Result<Kept, StoreError> {
    // Each by its own look at the index: both in one would read all rows.
    let row = sqlx::query(
        "SELECT COALESCE((SELECT MIN(number) FROM changes), 0), COALESCE((SELECT MAX(number) FROM changes), 0)",
    )
    .fetch_one(connection)
    .await
    .map_err(failed("reading the numbers of changes"))?;
    Ok(Kept {
        first: row.get(0),
        last: row.get(1),
    })
}

/// Changes after a number, oldest first.
pub async fn after(
    connection: &mut Connection,
    number: i64,
    limit: i64,
) -> Result<Vec<NumberedChange>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, kind, object, site, agent, orgs, version, at_ms FROM changes \
         WHERE number > $1 ORDER BY number LIMIT $2",
    )
    .bind(number)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("reading changes"))?;
    // A later version of the hub may have written a kind that this one does not know.
    Ok(rows.iter().filter_map(change).collect())
}

fn change(row: &Row) -> Option<NumberedChange> {
    let orgs: String = row.get("orgs");
    let orgs = orgs.split(',').filter(|org| !org.is_empty());
    Some(NumberedChange {
        number: row.get("number"),
        kind: ChangeKind::from_name(&row.get::<String, _>("kind"))?,
        object: row.get("object"),
        detail: ChangeDetail {
            site: row.get("site"),
            agent: row.get("agent"),
            orgs: orgs.map(str::to_owned).collect(),
            version: row.get("version"),
        },
        at_ms: row.get("at_ms"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, Store, begin};

    #[tokio::test]
    async fn numbers_rise_in_the_order_of_commits_and_what_is_rolled_back_has_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::of_test(directory.path());
        let store = Store::open(&place, true).await.expect("a store");
        let mut connection = store.connect().await.expect("a connection");
        assert_eq!(
            kept(&mut connection).await.expect("numbers"),
            Kept::default()
        );
        let mut write_one = async |object: i64, commit: bool| {
            let mut transaction = begin(&mut connection).await.expect("a transaction");
            let mut set = ChangeSet::default();
            set.warning(object);
            set.case("c", object, vec!["a".to_owned(), "b".to_owned()]);
            let last = write(&mut transaction, &set, 5).await.expect("written");
            if commit {
                transaction.commit().await.expect("committed");
            } else {
                transaction.rollback().await.expect("rolled back");
            }
            last
        };
        assert_eq!(write_one(1, true).await, Some(2));
        assert_eq!(write_one(2, false).await, Some(4));
        assert_eq!(write_one(3, true).await, Some(4));
        let mut reader = store.reader().await.expect("a reader");
        let found = after(&mut reader, 1, 10).await.expect("changes");
        let shown: Vec<(i64, &str, &str)> = found
            .iter()
            .map(|change| (change.number, change.kind.as_str(), change.object.as_str()))
            .collect();
        assert_eq!(
            shown,
            [(2, "case", "c"), (3, "warning", "3"), (4, "case", "c")]
        );
        assert_eq!(found[0].detail.orgs, ["a", "b"]);
        let kept = kept(&mut reader).await.expect("numbers");
        assert_eq!(kept, Kept { first: 1, last: 4 });
        for (number, reaches) in [(0, true), (4, true), (5, false)] {
            assert_eq!(kept.reaches_back_to(number), reaches, "{number}");
        }
        let later = Kept { first: 3, last: 4 };
        for (number, reaches) in [(1, false), (2, true)] {
            assert_eq!(later.reaches_back_to(number), reaches, "{number}");
        }
    }
}
