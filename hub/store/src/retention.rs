//! Expired rows: how they are found and deleted, and how their deletion is proved.
//!
//! ```text
//! find (a reader) ─▶ keys of a batch ─▶ perform (writer): still due? delete, and dependent rows ─▶ proof
//! ```
//!
//! The condition is defined once ([`due`]) and evaluated twice: by the reader that finds the rows, and in the
//! transaction that deletes them. So a row that becomes needed in between is kept. A proof (a row of
//! `deletions`) begins with the first batch of a class and is extended with each batch, in the same
//! transaction; at the end of the run it gets an entry in the audit log. The next run ends the proofs of a
//! run that was interrupted.
pub mod class;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use std::collections::{BTreeMap, HashMap};

use linli_shared::protocol::ids::Lane;

use self::class::Class;
use super::engine::schema::ColumnKind;
use super::rows::Value;
use super::statement::Statement;
use super::{Connection, Row, StoreError, audit, failed, sequences, versions};
use linli_domain::audit::AuditRecord;
use linli_domain::cases::State;
use linli_domain::correlate::life;

/// The name under which `versions` stores the time of the last run.
const LAST_RUN: &str = "retention";
/// SQL condition for an open warning of a kind that waits: active, not ended, and its rule exists.
const GOES_ON: &str = "(warnings.state = 'active' AND warnings.ended_ms IS NULL AND warnings.kind IN ('absent', 'silent') \
                       AND EXISTS (SELECT 1 FROM rules WHERE rules.id = warnings.rule))";

/// The times before which rows are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// By the config, milliseconds since 1970 UTC.
    pub before_ms: i64,
    /// Lower bound of what correlation may still need, regardless of the config, milliseconds since 1970 UTC.
    pub floor_ms: i64,
}

/// A row that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: Vec<Value>,
    /// The position to continue from.
    order: Vec<Value>,
}

/// Rows to delete in one transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Class of the rows.
    pub class: Class,
    /// The times before which they are due.
    pub cut: Cut,
    /// Keys of the rows.
    pub keys: Vec<Vec<Value>>,
    /// The retention rule, in words.
    pub rule: String,
    /// The actor of the run.
    pub actor: String,
    /// Number of the proof to extend; `None`: begin a proof.
    pub proof: Option<i64>,
}

/// Files to delete.
#[derive(Debug, Clone)]
pub struct Files {
    /// Digest of each file, and when it was last added, milliseconds since 1970 UTC.
    pub gone: BTreeMap<String, i64>,
    /// The retention rule, in words.
    pub rule: String,
    /// The actor of the run.
    pub actor: String,
    /// Number of the proof to extend; `None`: begin a proof.
    pub proof: Option<i64>,
}

/// The class of files in the table of proofs.
const FILES: &str = "attachments";

/// A bounded step of a run.
#[derive(Debug, Clone)]
pub enum Step {
    /// Ends the proofs of an interrupted run.
    Begin,
    /// Deletes rows.
    Delete(Batch),
    /// Proves the deletion of files that no case refers to.
    Files(Files),
    /// Ends these proofs, and with them the run.
    End(Vec<i64>),
}

impl Step {
    /// The class that it deletes rows of.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Delete(batch) => Some(batch.class),
            Self::Begin | Self::Files(_) | Self::End(_) => None,
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Number of deleted rows or files.
    pub deleted: u64,
    /// Number of the proof.
    pub proof: Option<i64>,
}

/// A proof as the command line shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Proof {
    /// Number of the proof.
    pub number: i64,
    /// Class of data.
    pub class: String,
    /// The retention rule, in words.
    pub rule: String,
    /// The actor of the run.
    pub actor: String,
    /// Earliest time of the deleted rows, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Latest time of the deleted rows, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Number of deleted rows or files.
    pub deleted: i64,
    /// Chained SHA-256 of their ids, hexadecimal.
    pub ids_sha256: String,
    /// When the proof began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// When it ended, milliseconds since 1970 UTC; `None` while the run continues.
    pub ended_ms: Option<i64>,
}

/// The columns of a class's key, with their kinds.
fn key(class: Class) -> Vec<(&'static str, ColumnKind)> {
    let names = class.key();
    let kind = |name: &'static str| {
        let text = matches!(name, "agent" | "rule" | "rule_key")
            || matches!(
                class,
                Class::Sessions | Class::JoinTokens | Class::ApiTokens
            );
        if text {
            ColumnKind::Text
        } else {
            ColumnKind::Integer
        }
    };
    names.iter().map(|name| (*name, kind(name))).collect()
}

/// The column with the time of a row, for the proof.
fn time(class: Class) -> &'static str {
    match class {
        Class::EventsStandard | Class::EventsAccess | Class::EventsIncident => "occurred_max_ms",
        Class::Occurrences => "at_ms",
        Class::Cases => "changed_ms",
        Class::Warnings | Class::Mutes => "until_ms",
        Class::Notifications => "done_ms",
        Class::LostRanges | Class::Quarantine => "noted_ms",
        Class::Sessions | Class::JoinTokens | Class::ApiTokens => "expires_ms",
        Class::Positions => "asked_ms",
        Class::Changes => "at_ms",
    }
}

/// Adds the condition under which a row of a class is due.
fn due(class: Class, cut: Cut, query: &mut Statement) {
    let Cut {
        before_ms,
        floor_ms,
    } = cut;
    match class {
        Class::EventsStandard | Class::EventsAccess | Class::EventsIncident => {
            let retention = class
                .retention()
                .map_or(-1, |class| i64::from(class.number()));
            query.push("retention = ").bind(retention);
            query.push(" AND stored_ms < ").bind(floor_ms);
            // An event cannot be newer than its arrival, whatever its device's clock said.
            query.push(" AND (occurred_max_ms < ").bind(before_ms);
            query.push(" OR stored_ms < ").bind(before_ms).push(")");
        }
        Class::Occurrences => {
            query.push("at_ms < ").bind(before_ms.min(floor_ms));
        }
        Class::Cases => {
            query.push("state IN (");
            query.bind_all(State::closed());
            query
                .push(") AND changed_ms < ")
                .bind(before_ms.min(floor_ms));
        }
        Class::Warnings => {
            let before_ms = before_ms.min(floor_ms);
            query.push("until_ms < ").bind(before_ms);
            query.push(" AND raised_ms < ").bind(before_ms);
            query
                .push(" AND (ended_ms IS NULL OR ended_ms < ")
                .bind(before_ms);
            query.push(") AND ack_due_ms IS NULL AND NOT ").push(GOES_ON).push(
                " AND NOT EXISTS (SELECT 1 FROM case_warnings WHERE warning_id = warnings.id) \
                 AND NOT EXISTS (SELECT 1 FROM outbox WHERE warning_id = warnings.id AND outbox.state = 'waiting')",
            );
        }
        Class::Notifications => {
            query
                .push("state IN ('sent', 'dead', 'dropped') AND done_ms < ")
                .bind(before_ms);
            // Recipients of a warning must also get its withdrawal.
            query.push(
                " AND NOT EXISTS (SELECT 1 FROM warnings WHERE warnings.id = outbox.warning_id \
                 AND (warnings.ack_due_ms IS NOT NULL OR warnings.until_ms >= ",
            );
            query.bind(floor_ms).push(" OR ").push(GOES_ON).push("))");
        }
        Class::Mutes => {
            query.push("(until_ms < ").bind(before_ms);
            query.push(" OR ended_ms < ").bind(before_ms).push(")");
        }
        Class::LostRanges | Class::Quarantine => {
            query.push("noted_ms < ").bind(before_ms);
        }
        Class::Sessions => {
            query.push("(expires_ms < ").bind(before_ms);
            query.push(" OR ended_ms < ").bind(before_ms).push(")");
        }
        Class::JoinTokens => {
            query.push("(expires_ms < ").bind(before_ms);
            query.push(" OR used_ms < ").bind(before_ms).push(")");
        }
        Class::ApiTokens => {
            query.push("(expires_ms < ").bind(before_ms);
            query.push(" OR revoked_ms < ").bind(before_ms).push(")");
        }
        Class::Changes => {
            // The newest stays: numbers are given once.
            query.push("at_ms < ").bind(before_ms);
            query.push(" AND number < (SELECT MAX(number) FROM changes)");
        }
        Class::Positions => {
            // A position of an epoch that no lane used since, if the agent has used another epoch or is
            // revoked, and no chunk of the epoch is stored: otherwise a repeated chunk would appear new.
            query.push("asked_ms > 0 AND asked_ms < ").bind(before_ms);
            query.push(
                " AND NOT EXISTS (SELECT 1 FROM positions same WHERE same.agent = positions.agent \
                 AND same.epoch = positions.epoch AND same.asked_ms >= ",
            );
            query.bind(before_ms).push(
                ") AND (EXISTS (SELECT 1 FROM positions other WHERE other.agent = positions.agent \
                 AND other.epoch <> positions.epoch AND other.asked_ms > positions.asked_ms) \
                 OR EXISTS (SELECT 1 FROM agents WHERE agents.agent = positions.agent AND revoked_ms IS NOT NULL)) \
                 AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.agent = positions.agent \
                 AND chunks.lane = positions.lane AND chunks.epoch = positions.epoch)",
            );
        }
    }
}

fn push_names(query: &mut Statement, names: &[&'static str]) {
    for (index, name) in names.iter().enumerate() {
        query.push(if index > 0 { ", " } else { "" }).push(name);
    }
}

fn bind(query: &mut Statement, value: &Value) {
    match value {
        Value::Integer(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.as_str()),
        // Keys are numbers and text only.
        Value::Null | Value::Bytes(_) => query.bind(None::<i64>),
    };
}

fn bind_row(query: &mut Statement, row: &[Value]) {
    query.push("(");
    for (index, value) in row.iter().enumerate() {
        query.push(if index > 0 { ", " } else { "" });
        bind(query, value);
    }
    query.push(")");
}

fn read_key(row: &Row, columns: &[(&'static str, ColumnKind)]) -> Vec<Value> {
    let value = |(name, kind): &(&'static str, ColumnKind)| match kind {
        ColumnKind::Text => Value::Text(row.get(*name)),
        _ => Value::Integer(row.get(*name)),
    };
    columns.iter().map(value).collect()
}

/// Due rows of a class after one, in the order of their index or key. Errors: [`StoreError`].
pub async fn find(
    connection: &mut Connection,
    class: Class,
    cut: Cut,
    after: Option<&Found>,
    limit: i64,
) -> Result<Vec<Found>, StoreError> {
    let columns = key(class);
    let mut order = columns.clone();
    if class.retention().is_some() {
        // The order of the index of due chunks.
        order.insert(0, ("stored_ms", ColumnKind::Integer));
    }
    let names: Vec<&'static str> = order.iter().map(|(name, _)| *name).collect();
    let mut query = Statement::new("SELECT ");
    push_names(&mut query, &names);
    query.push(" FROM ").push(class.table()).push(" WHERE ");
    due(class, cut, &mut query);
    if let Some(after) = after {
        query.push(" AND (");
        push_names(&mut query, &names);
        query.push(") > ");
        bind_row(&mut query, &after.order);
    }
    query.push(" ORDER BY ");
    push_names(&mut query, &names);
    query.push(" LIMIT ").bind(limit);
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("looking for what is due to be deleted"))?;
    let found = |row: &Row| Found {
        key: read_key(row, &columns),
        order: read_key(row, &order),
    };
    Ok(rows.iter().map(found).collect())
}

/// Performs a step in a write transaction. Errors: [`StoreError`].
pub async fn perform(
    connection: &mut Connection,
    step: &Step,
    now_ms: i64,
) -> Result<Stepped, StoreError> {
    match step {
        Step::Begin => {
            let rows =
                sqlx::query("SELECT number FROM deletions WHERE ended_ms IS NULL ORDER BY number")
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(failed("looking for deletions that were cut off"))?;
            for row in rows {
                end(connection, row.get(0), now_ms).await?;
            }
            Ok(Stepped::default())
        }
        Step::Delete(batch) => delete(connection, batch, now_ms).await,
        Step::Files(files) => {
            let proving = Proving {
                class: FILES,
                rule: &files.rule,
                actor: &files.actor,
                proof: files.proof,
            };
            let gone = files.gone.iter();
            let gone = gone.map(|(digest, of_ms)| (format!("{FILES}/{digest}"), *of_ms));
            let proof = prove(connection, proving, &gone.collect(), now_ms).await?;
            Ok(Stepped {
                deleted: files.gone.len() as u64,
                proof: Some(proof),
            })
        }
        Step::End(proofs) => {
            for number in proofs {
                end(connection, *number, now_ms).await?;
            }
            versions::set(connection, LAST_RUN, now_ms).await?;
            Ok(Stepped::default())
        }
    }
}

/// When the last run ended, milliseconds since 1970 UTC; 0 if there was none. Errors: [`StoreError`].
pub async fn last_run_ms(connection: &mut Connection) -> Result<i64, StoreError> {
    versions::get(connection, LAST_RUN).await
}

async fn delete(
    connection: &mut Connection,
    batch: &Batch,
    now_ms: i64,
) -> Result<Stepped, StoreError> {
    let class = batch.class;
    if batch.keys.is_empty() {
        return Ok(Stepped {
            deleted: 0,
            proof: batch.proof,
        });
    }
    let columns = key(class);
    // Ids that the hub assigns are never reused, even if the row with the highest one is deleted.
    if columns == [("id", ColumnKind::Integer)] {
        sequences::keep(connection, class.table()).await?;
    }
    let names: Vec<&'static str> = columns.iter().map(|(name, _)| *name).collect();
    let mut query = Statement::new("DELETE FROM ");
    query.push(class.table()).push(" WHERE ");
    due(class, batch.cut, &mut query);
    query.push(" AND (");
    push_names(&mut query, &names);
    query.push(if names.len() > 1 {
        ") IN (VALUES "
    } else {
        ") IN ("
    });
    for (index, row) in batch.keys.iter().enumerate() {
        query.push(if index > 0 { ", " } else { "" });
        bind_row(&mut query, row);
    }
    query.push(") RETURNING ");
    push_names(&mut query, &names);
    query.push(", ").push(time(class)).push(" AS of_ms");
    let rows = query
        .build()
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("deleting what is due"))?;
    if rows.is_empty() {
        return Ok(Stepped {
            deleted: 0,
            proof: batch.proof,
        });
    }
    // The engines return rows in different orders; the proof must be the same on both.
    let mut gone: BTreeMap<String, i64> = BTreeMap::new();
    let mut numbers = Vec::new();
    for row in &rows {
        let key = read_key(row, &columns);
        if let [Value::Integer(number)] = key[..] {
            numbers.push(number);
        }
        gone.insert(id(class, &key), row.get("of_ms"));
    }
    for (table, column) in class.belongings() {
        let mut query = Statement::new("DELETE FROM ");
        query.push(table).push(" WHERE ").push(column).push(" IN (");
        query.bind_all(numbers.iter().copied()).push(")");
        query
            .build()
            .execute(&mut *connection)
            .await
            .map_err(failed("deleting what belongs to what is due"))?;
    }
    let proving = Proving {
        class: class.as_str(),
        rule: &batch.rule,
        actor: &batch.actor,
        proof: batch.proof,
    };
    let proof = prove(connection, proving, &gone, now_ms).await?;
    Ok(Stepped {
        deleted: gone.len() as u64,
        proof: Some(proof),
    })
}

/// The id of a row in a proof.
fn id(class: Class, key: &[Value]) -> String {
    let mut id = class.table().to_owned();
    for value in key {
        id.push('/');
        match value {
            Value::Integer(value) => id.push_str(&value.to_string()),
            Value::Text(value) => id.push_str(value),
            Value::Null | Value::Bytes(_) => {}
        }
    }
    id
}

/// The chained hash of a proof after more ids.
fn chained<'a>(before: &'a str, ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(before).chain(ids) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The metadata of a proof.
struct Proving<'a> {
    class: &'static str,
    rule: &'a str,
    actor: &'a str,
    /// Number of the proof to extend.
    proof: Option<i64>,
}

/// Begins or extends a proof; returns its number.
async fn prove(
    connection: &mut Connection,
    of: Proving<'_>,
    gone: &BTreeMap<String, i64>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let before = match of.proof {
        Some(number) => get(connection, number).await?,
        None => None,
    };
    let ids = gone.keys().map(String::as_str);
    let hash = chained(before.as_ref().map_or("", |proof| &proof.ids_sha256), ids);
    let from_ms = gone.values().copied().min().unwrap_or(now_ms);
    let to_ms = gone.values().copied().max().unwrap_or(now_ms);
    let deleted = gone.len() as i64;
    let proving = "proving what was deleted";
    if let Some(before) = before {
        sqlx::query(
            "UPDATE deletions SET from_ms = $2, to_ms = $3, deleted = $4, ids_sha256 = $5 WHERE number = $1",
        )
        .bind(before.number)
        .bind(before.from_ms.min(from_ms))
        .bind(before.to_ms.max(to_ms))
        .bind(before.deleted + deleted)
        .bind(hash)
        .execute(connection)
        .await
        .map_err(failed(proving))?;
        return Ok(before.number);
    }
    let row = sqlx::query("SELECT COALESCE(MAX(number), 0) + 1 FROM deletions")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(proving))?;
    let number: i64 = row.get(0);
    sqlx::query(
        "INSERT INTO deletions (number, class, rule, actor, from_ms, to_ms, deleted, ids_sha256, began_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(number)
    .bind(of.class)
    .bind(of.rule)
    .bind(of.actor)
    .bind(from_ms)
    .bind(to_ms)
    .bind(deleted)
    .bind(hash)
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed(proving))?;
    Ok(number)
}

/// Ends a proof and writes its entry in the audit log.
async fn end(connection: &mut Connection, number: i64, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE deletions SET ended_ms = $2 WHERE number = $1")
        .bind(number)
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed("ending a proof of deletions"))?;
    let Some(proof) = get(connection, number).await? else {
        return Ok(());
    };
    let detail = json!({
        "class": proof.class, "rule": proof.rule, "deleted": proof.deleted, "from_ms": proof.from_ms,
        "to_ms": proof.to_ms, "ids_sha256": proof.ids_sha256,
    });
    let deed = AuditRecord {
        at_ms: now_ms,
        actor: proof.actor,
        action: "retention.deleted".to_owned(),
        object: format!("deletions/{number}"),
        reason: String::new(),
        detail: detail.to_string(),
    };
    audit::append(connection, deed).await
}

fn proof(row: &Row) -> Proof {
    Proof {
        number: row.get("number"),
        class: row.get("class"),
        rule: row.get("rule"),
        actor: row.get("actor"),
        from_ms: row.get("from_ms"),
        to_ms: row.get("to_ms"),
        deleted: row.get("deleted"),
        ids_sha256: row.get("ids_sha256"),
        began_ms: row.get("began_ms"),
        ended_ms: row.get("ended_ms"),
    }
}

async fn get(connection: &mut Connection, number: i64) -> Result<Option<Proof>, StoreError> {
    let row = sqlx::query("SELECT * FROM deletions WHERE number = $1")
        .bind(number)
        .fetch_optional(connection)
        .await
        .map_err(failed("reading a proof of deletions"))?;
    Ok(row.as_ref().map(proof))
}

/// Proofs, newest first. Errors: [`StoreError`].
pub async fn list(connection: &mut Connection, limit: i64) -> Result<Vec<Proof>, StoreError> {
    let rows = sqlx::query("SELECT * FROM deletions ORDER BY number DESC LIMIT $1")
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(failed("listing proofs of deletions"))?;
    Ok(rows.iter().map(proof).collect())
}

/// The time of the oldest row of a class, milliseconds since 1970 UTC; `None` if there is none. Errors:
/// [`StoreError`].
pub async fn oldest_ms(
    connection: &mut Connection,
    class: Class,
) -> Result<Option<i64>, StoreError> {
    let retention = class.retention();
    let mut query = Statement::new("SELECT MIN(");
    // For chunks the index has the arrival.
    query.push(if retention.is_some() {
        "stored_ms"
    } else {
        time(class)
    });
    query.push(") FROM ").push(class.table());
    if let Some(retention) = retention {
        query
            .push(" WHERE retention = ")
            .bind(i64::from(retention.number()));
    }
    let row = query
        .build()
        .fetch_one(connection)
        .await
        .map_err(failed("reading the age of the oldest row"))?;
    Ok(row.get(0))
}

/// The events that open cases refer to, directly or by their warnings: sequences by `agent/lane/epoch`.
/// Errors: [`StoreError`].
pub async fn held_events(
    connection: &mut Connection,
) -> Result<HashMap<String, Vec<u64>>, StoreError> {
    let reading = "reading what open cases refer to";
    let mut held: HashMap<String, Vec<u64>> = HashMap::new();
    let mut hold = |identity: &str| {
        let Some((life, sequence)) = identity.rsplit_once('/') else {
            return;
        };
        if let Ok(sequence) = sequence.parse() {
            held.entry(life.to_owned()).or_default().push(sequence);
        }
    };
    let mut query = Statement::new("SELECT event FROM cases WHERE event <> '' AND state NOT IN (");
    query.bind_all(State::closed()).push(")");
    let rows = query
        .build()
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(reading))?;
    rows.iter().for_each(|row| hold(row.get(0)));
    let mut query = Statement::new(
        "SELECT reasons FROM warnings WHERE id IN (SELECT warning_id FROM case_warnings \
         JOIN cases ON cases.id = case_id WHERE state NOT IN (",
    );
    query.bind_all(State::closed()).push("))");
    let rows = query
        .build()
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(reading))?;
    for row in &rows {
        let reasons: Vec<linli_domain::correlate::Reason> =
            serde_json::from_str(row.get(0)).unwrap_or_default();
        reasons.iter().for_each(|reason| hold(&reason.event));
    }
    Ok(held)
}

/// The keys of those chunks that contain none of the held events. Errors: [`StoreError`].
pub async fn without_held(
    connection: &mut Connection,
    found: &[Found],
    held: &HashMap<String, Vec<u64>>,
) -> Result<Vec<Vec<Value>>, StoreError> {
    if held.is_empty() || found.is_empty() {
        return Ok(found.iter().map(|found| found.key.clone()).collect());
    }
    let mut query = Statement::new(
        "SELECT id, agent, lane, epoch, first_seq, end_seq FROM chunks WHERE id IN (",
    );
    for (index, found) in found.iter().enumerate() {
        query.push(if index > 0 { ", " } else { "" });
        found.key.iter().for_each(|value| bind(&mut query, value));
    }
    query.push(")");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("reading what chunks hold"))?;
    let is_free = |row: &&Row| {
        let agent: String = row.get("agent");
        let epoch = row.get::<i64, _>("epoch").cast_unsigned();
        let lane = Lane::from_number(row.get::<i64, _>("lane") as u8);
        let life = lane
            .map(|lane| life(&agent, lane, epoch))
            .unwrap_or_default();
        let range = row.get::<i64, _>("first_seq").cast_unsigned()
            ..row.get::<i64, _>("end_seq").cast_unsigned();
        !held
            .get(&life)
            .is_some_and(|sequences| sequences.iter().any(|sequence| range.contains(sequence)))
    };
    Ok(rows
        .iter()
        .filter(is_free)
        .map(|row| vec![Value::Integer(row.get("id"))])
        .collect())
}

#[cfg(test)]
mod tests;
