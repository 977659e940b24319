//! Organisations and places, with their retirement.
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use std::collections::BTreeMap;

use super::{Connection, StoreError, failed};
use super::{audit, versions};
use linli_domain::audit::AuditRecord;
use linli_domain::orgs::{Change, Directory};

/// All entries that are not retired. Errors: [`StoreError`].
pub async fn read(connection: &mut Connection) -> Result<Directory, StoreError> {
    Ok(Directory {
        orgs: entries(
            connection,
            "SELECT id, detail FROM orgs WHERE retired_ms IS NULL",
        )
        .await?,
        places: entries(
            connection,
            "SELECT id, detail FROM places WHERE retired_ms IS NULL",
        )
        .await?,
    })
}

async fn entries<T: DeserializeOwned>(
    connection: &mut Connection,
    statement: &'static str,
) -> Result<BTreeMap<String, T>, StoreError> {
    let rows = sqlx::query(statement)
        .fetch_all(connection)
        .await
        .map_err(failed("reading the directory"))?;
    rows.iter()
        .map(|row| {
            let entry = serde_json::from_str(row.get("detail")).map_err(|error| {
                let source = sqlx::Error::Decode(Box::new(error));
                failed("reading an entry of the directory")(source)
            })?;
            Ok((row.get("id"), entry))
        })
        .collect()
}

/// Writes changes, each with an entry in the audit log. Errors: [`StoreError`].
pub async fn write(
    connection: &mut Connection,
    changes: &[Change],
    actor: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    for change in changes {
        let (noun, kind, before, after) = match change {
            Change::Org { before, after } => {
                let kind = after
                    .as_ref()
                    .or(before.as_ref())
                    .map(|org| org.kind.as_str());
                ("org", kind, json(before.as_ref()), json(after.as_ref()))
            }
            Change::Place { before, after } => {
                let kind = after
                    .as_ref()
                    .or(before.as_ref())
                    .map(|place| place.kind.as_str());
                ("place", kind, json(before.as_ref()), json(after.as_ref()))
            }
        };
        let statement = match (noun, &after) {
            ("org", Some(_)) => {
                "INSERT INTO orgs (id, kind, detail) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE \
                 SET kind = excluded.kind, detail = excluded.detail, retired_ms = NULL"
            }
            (_, Some(_)) => {
                "INSERT INTO places (id, kind, detail) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE \
                 SET kind = excluded.kind, detail = excluded.detail, retired_ms = NULL"
            }
            ("org", None) => "UPDATE orgs SET retired_ms = $2 WHERE id = $1",
            (_, None) => "UPDATE places SET retired_ms = $2 WHERE id = $1",
        };
        let query = sqlx::query(statement).bind(change.id());
        let query = match &after {
            Some(after) => query.bind(kind.unwrap_or_default()).bind(after.as_str()),
            None => query.bind(now_ms),
        };
        query
            .execute(&mut *connection)
            .await
            .map_err(failed("changing the directory"))?;
        let deed = AuditRecord {
            at_ms: now_ms,
            actor: actor.to_owned(),
            action: format!("{noun}.{}", change.action()),
            object: format!("{noun}/{}", change.id()),
            reason: String::new(),
            detail: format!(
                "{{\"before\":{},\"after\":{}}}",
                before.as_deref().unwrap_or("null"),
                after.as_deref().unwrap_or("null")
            ),
        };
        audit::append(connection, deed).await?;
    }
    if changes.is_empty() {
        return Ok(());
    }
    let version = versions::get(connection, versions::DIRECTORY).await?;
    versions::set(connection, versions::DIRECTORY, version + 1).await?;
    Ok(())
}

fn json<T: Serialize>(entry: Option<&T>) -> Option<String> {
    entry.map(|entry| serde_json::to_string(entry).unwrap_or_default())
}
