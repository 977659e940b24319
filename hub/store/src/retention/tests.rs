use super::*;
use crate::{Place, Store};
use std::collections::BTreeSet;

const DAY_MS: i64 = 86_400_000;
/// Now: the year 2027.
const NOW_MS: i64 = 1_800_000_000_000;

fn cut(days: i64, floor_days: i64) -> Cut {
    Cut {
        before_ms: NOW_MS - days * DAY_MS,
        floor_ms: NOW_MS - floor_days * DAY_MS,
    }
}

async fn store(directory: &tempfile::TempDir) -> (Store, Connection) {
    let store = Store::open(&Place::of_test(directory.path()), true)
        .await
        .expect("a store");
    let connection = store.connect().await.expect("a connection");
    (store, connection)
}

async fn execute(connection: &mut Connection, text: String) {
    sqlx::query(sqlx::AssertSqlSafe(text))
        .execute(connection)
        .await
        .expect("a row");
}

/// Deletes all due rows, in pages of two; returns their ids.
async fn sweep(connection: &mut Connection, class: Class, cut: Cut) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    let mut after = None;
    let mut proof = None;
    loop {
        let found = find(connection, class, cut, after.as_ref(), 2)
            .await
            .expect("found");
        let Some(last) = found.last().cloned() else {
            break;
        };
        after = Some(last);
        let batch = Batch {
            class,
            cut,
            keys: found.iter().map(|found| found.key.clone()).collect(),
            rule: "a test".to_owned(),
            actor: "test".to_owned(),
            proof,
        };
        let mut transaction = crate::begin(connection).await.expect("a transaction");
        let stepped = perform(&mut transaction, &Step::Delete(batch), NOW_MS)
            .await
            .expect("deleted");
        transaction.commit().await.expect("committed");
        proof = stepped.proof;
        gone.extend(found.iter().map(|found| id(class, &found.key)));
    }
    if let Some(number) = proof {
        let stepped = perform(connection, &Step::End(vec![number]), NOW_MS).await;
        stepped.expect("ended");
    }
    gone
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn chunk(
    connection: &mut Connection,
    id: i64,
    retention: i64,
    occurred_days: i64,
    stored_days: i64,
) {
    let (occurred_ms, stored_ms) = (
        NOW_MS - occurred_days * DAY_MS,
        NOW_MS - stored_days * DAY_MS,
    );
    execute(connection, format!(
        "INSERT INTO chunks (id, site, agent, lane, retention, epoch, first_seq, end_seq, occurred_min_ms, \
         occurred_max_ms, stored_ms, kinds, bytes) VALUES ({id}, 's', 'gw-1', 1, {retention}, 7, {id}, {id} + 1, \
         {occurred_ms}, {occurred_ms}, {stored_ms}, ',a,', '')"
    )).await;
}

#[tokio::test]
async fn a_chunk_goes_by_its_class_and_newest_event_and_never_before_the_floor() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, mut connection) = store(&directory).await;
    for (id, retention, occurred, stored) in [
        (1, 1, 31, 31),
        (2, 0, 31, 31),
        (3, 1, 29, 29),
        // Old, but it arrived yesterday: rules still need it.
        (4, 1, 400, 1),
        (5, 1, 400, 15),
        // A time in the next century does not extend the retention.
        (6, 1, -40_000, 31),
        (7, 1, -40_000, 29),
        (8, 1, 90, 90),
    ] {
        chunk(&mut connection, id, retention, occurred, stored).await;
    }
    let oldest_ms = oldest_ms(&mut connection, Class::EventsAccess)
        .await
        .expect("an age");
    assert_eq!(oldest_ms, Some(NOW_MS - 90 * DAY_MS));
    let gone = sweep(&mut connection, Class::EventsAccess, cut(30, 14)).await;
    assert_eq!(
        gone,
        names(&["chunks/1", "chunks/5", "chunks/6", "chunks/8"])
    );
    // Ids are not reused, even if the last row is deleted.
    let gone = sweep(&mut connection, Class::EventsStandard, cut(30, 14)).await;
    assert_eq!(gone, names(&["chunks/2"]));
    execute(&mut connection, "DELETE FROM chunks".to_owned()).await;
    assert_eq!(
        sequences::last(&mut connection, "chunks")
            .await
            .expect("a number"),
        8
    );
    let proofs = list(&mut connection, 10).await.expect("proofs");
    assert_eq!(
        (proofs.len(), proofs[1].deleted, proofs[1].class.as_str()),
        (2, 4, "events_access")
    );
    assert_eq!(proofs[1].from_ms, NOW_MS - 400 * DAY_MS);
    assert_eq!(proofs[1].ended_ms, Some(NOW_MS));
    // Two batches in the order of the index: by arrival.
    let first = chained("", ["chunks/1", "chunks/8"]);
    assert_eq!(
        proofs[1].ids_sha256,
        chained(&first, ["chunks/5", "chunks/6"])
    );
}

#[tokio::test]
async fn a_warning_stays_while_a_case_a_notice_or_its_going_on_needs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, mut connection) = store(&directory).await;
    execute(
        &mut connection,
        "INSERT INTO rules (id, hash, since_ms) VALUES ('r', 'h', 0)".to_owned(),
    )
    .await;
    let old_ms = NOW_MS - 100 * DAY_MS;
    for (id, rule, kind, until_ms, ended_ms, ack_due_ms) in [
        (
            1,
            "r",
            "match",
            old_ms,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        (
            2,
            "r",
            "match",
            NOW_MS,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        (
            3,
            "r",
            "match",
            old_ms,
            "NULL".to_owned(),
            old_ms.to_string(),
        ),
        (
            4,
            "r",
            "absent",
            old_ms,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        (
            5,
            "r",
            "absent",
            old_ms,
            old_ms.to_string(),
            "NULL".to_owned(),
        ),
        // It is open, but its rule no longer runs.
        (
            6,
            "gone",
            "absent",
            old_ms,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        (
            7,
            "r",
            "match",
            old_ms,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        (
            8,
            "r",
            "match",
            old_ms,
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
    ] {
        execute(&mut connection, format!(
            "INSERT INTO warnings (id, rule, rule_hash, name, kind, severity, site, agent, rule_key, at_ms, until_ms, \
             hits, raised_ms, late, shadow, state, ended_ms, watermark_ms, reading, reasons, route, ack_due_ms) VALUES \
             ({id}, '{rule}', 'h', 'n', '{kind}', 'alarm', 's', 'a', 'k', {old_ms}, {until_ms}, 1, {old_ms}, 0, 0, 'active', \
             {ended_ms}, 0, '', '[]', '', {ack_due_ms})"
        )).await;
        execute(&mut connection, format!(
            "INSERT INTO warning_changes (warning_id, number, at_ms, actor, action, note) VALUES ({id}, 1, 0, 'a', 'raised', '')"
        )).await;
    }
    execute(
        &mut connection,
        "INSERT INTO case_warnings (case_id, warning_id) VALUES (1, 7)".to_owned(),
    )
    .await;
    for (id, warning, state) in [(1, 8, "waiting"), (2, 1, "sent"), (3, 2, "sent")] {
        execute(&mut connection, format!(
            "INSERT INTO outbox (id, decision, channel, warning_id, severity, notice, created_ms, due_ms, state, done_ms) \
             VALUES ({id}, 'd{id}', 'c', {warning}, 1, '', {old_ms}, {old_ms}, '{state}', {old_ms})"
        )).await;
    }
    // Recipients of a valid warning would have to get its withdrawal.
    let gone = sweep(&mut connection, Class::Notifications, cut(30, 50)).await;
    assert_eq!(gone, names(&["outbox/2"]));
    let gone = sweep(&mut connection, Class::Warnings, cut(90, 50)).await;
    assert_eq!(gone, names(&["warnings/1", "warnings/5", "warnings/6"]));
    let row = sqlx::query("SELECT COUNT(*) FROM warning_changes")
        .fetch_one(&mut connection)
        .await;
    assert_eq!(row.expect("a count").get::<i64, _>(0), 5);
    let none = sweep(&mut connection, Class::Warnings, cut(30, 101)).await;
    assert_eq!(none, BTreeSet::new());
}

#[tokio::test]
async fn a_position_goes_with_a_life_that_is_no_more_and_has_nothing_stored() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, mut connection) = store(&directory).await;
    for (agent, lane, epoch, days) in [
        // An earlier epoch, and the current one with one quiet lane.
        ("gw-1", 0, 1, 100),
        ("gw-1", 1, 1, 100),
        ("gw-1", 0, 2, 90),
        ("gw-1", 1, 2, 1),
        // An epoch that was silent for long, of an agent without another one.
        ("gw-2", 1, 3, 100),
        // An epoch with stored events.
        ("gw-3", 1, 7, 100),
        ("gw-3", 1, 8, 1),
    ] {
        execute(&mut connection, format!(
            "INSERT INTO positions (agent, lane, epoch, next_seq, asked_ms) VALUES ('{agent}', {lane}, {epoch}, 5, {})",
            NOW_MS - days * DAY_MS
        )).await;
    }
    chunk(&mut connection, 1, 0, 100, 100).await;
    execute(
        &mut connection,
        "UPDATE chunks SET agent = 'gw-3'".to_owned(),
    )
    .await;
    let gone = sweep(&mut connection, Class::Positions, cut(30, 0)).await;
    assert_eq!(gone, names(&["positions/gw-1/0/1", "positions/gw-1/1/1"]));
}

#[tokio::test]
async fn what_is_in_use_again_when_it_is_to_be_deleted_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, mut connection) = store(&directory).await;
    for id in [1, 2] {
        chunk(&mut connection, id, 1, 100, 100).await;
    }
    let cut = cut(30, 14);
    let found = find(&mut connection, Class::EventsAccess, cut, None, 10)
        .await
        .expect("found");
    execute(
        &mut connection,
        format!("UPDATE chunks SET stored_ms = {NOW_MS} WHERE id = 2"),
    )
    .await;
    let batch = Batch {
        class: Class::EventsAccess,
        cut,
        keys: found.into_iter().map(|found| found.key).collect(),
        rule: String::new(),
        actor: String::new(),
        proof: None,
    };
    let stepped = perform(&mut connection, &Step::Delete(batch), NOW_MS)
        .await
        .expect("deleted");
    assert_eq!(stepped.deleted, 1);
    // An interrupted run gets its entry in the audit log from the next run.
    perform(&mut connection, &Step::Begin, NOW_MS + 1)
        .await
        .expect("begun");
    let proofs = list(&mut connection, 10).await.expect("proofs");
    assert_eq!(proofs[0].ended_ms, Some(NOW_MS + 1));
    let row = sqlx::query("SELECT object, action FROM audit")
        .fetch_one(&mut connection)
        .await
        .expect("an entry");
    assert_eq!(
        (row.get::<&str, _>(0), row.get::<&str, _>(1)),
        ("deletions/1", "retention.deleted")
    );
}

#[tokio::test]
async fn chunks_with_events_of_open_cases_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, mut connection) = store(&directory).await;
    for id in [1, 2, 3] {
        chunk(&mut connection, id, 1, 100, 100).await;
    }
    let found = find(&mut connection, Class::EventsAccess, cut(30, 14), None, 10)
        .await
        .expect("found");
    let held = HashMap::from([(
        format!(
            "gw-1/{}/{:016x}",
            Lane::from_number(1).expect("a lane").as_str(),
            7
        ),
        vec![2],
    )]);
    let free = without_held(&mut connection, &found, &held)
        .await
        .expect("free");
    let free: BTreeSet<String> = free
        .iter()
        .map(|key| id(Class::EventsAccess, key))
        .collect();
    assert_eq!(free, names(&["chunks/1", "chunks/3"]));
}
