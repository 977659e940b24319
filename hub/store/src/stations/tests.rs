use super::*;
use crate::{Place, Store};
use linli_shared::protocol::frame::case_kind;

async fn store(directory: &tempfile::TempDir) -> (Store, Connection) {
    let store = Store::open(&Place::of_test(directory.path()), true)
        .await
        .expect("a store");
    let writer = store.connect().await.expect("a connection");
    (store, writer)
}

fn message(state: &str) -> Message {
    Message {
        case: "AJ-1".to_owned(),
        source: "police".to_owned(),
        source_id: "J9".to_owned(),
        kind: case_kind::STATUS,
        state: state.to_owned(),
        at_ms: 7,
        text: "已受理".to_owned(),
    }
}

fn agent(name: &str) -> AgentId {
    name.parse().expect("a name")
}

async fn put(writer: &mut Connection, to: &str, state: &str) -> i64 {
    enqueue(writer, to, &message(state), 100)
        .await
        .expect("written")
}

/// Numbers and states of the waiting messages of an agent above a number.
async fn waiting(store: &Store, of: &str, after: u64) -> Vec<(u64, String)> {
    let found = unacked(store.readers(), &agent(of), after, 100).await;
    found
        .expect("read")
        .into_iter()
        .map(|status| (status.id, status.state))
        .collect()
}

fn pairs(wanted: &[(u64, &str)]) -> Vec<(u64, String)> {
    wanted
        .iter()
        .map(|(number, state)| (*number, (*state).to_owned()))
        .collect()
}

#[tokio::test]
async fn numbers_of_each_agent_begin_at_one_and_have_no_gaps_also_where_rows_were_pruned() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    for (to, number) in [("gw-1", 1), ("gw-1", 2), ("gw-2", 1), ("gw-1", 3)] {
        assert_eq!(put(&mut writer, to, "s").await, number);
    }
    let acked = acknowledge(&mut writer, &agent("gw-1"), 3, 200).await;
    assert_eq!(acked.expect("written"), 3);
    assert_eq!(prune(&mut writer, 200).await.expect("written"), 0);
    assert_eq!(prune(&mut writer, 201).await.expect("written"), 3);
    assert_eq!(put(&mut writer, "gw-1", "t").await, 4);
    assert_eq!(waiting(&store, "gw-1", 0).await, pairs(&[(4, "t")]));
    assert_eq!(waiting(&store, "gw-2", 0).await, pairs(&[(1, "s")]));
}

#[tokio::test]
async fn what_is_not_acknowledged_is_read_in_order_from_where_it_is_wanted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    for state in ["a", "b", "c", "d"] {
        put(&mut writer, "gw-1", state).await;
    }
    let standing_now = standing(store.readers()).await.expect("read");
    assert_eq!(
        standing_now,
        StationBacklog {
            waiting: 4,
            oldest_ms: Some(100)
        }
    );
    let all = pairs(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    assert_eq!(waiting(&store, "gw-1", 0).await, all);
    assert_eq!(waiting(&store, "gw-1", 2).await, all[2..]);
    let some = unacked(store.readers(), &agent("gw-1"), 1, 2)
        .await
        .expect("read");
    let numbers: Vec<u64> = some.iter().map(|status| status.id).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(
        some[0],
        CaseStatus {
            id: 2,
            case: "AJ-1".to_owned(),
            source: "police".to_owned(),
            source_id: "J9".to_owned(),
            state: "b".to_owned(),
            at_ms: 7,
            text: "已受理".to_owned(),
            kind: "status".to_owned(),
        }
    );
    for news in [3, 0] {
        let acked = acknowledge(&mut writer, &agent("gw-1"), 3, 200).await;
        assert_eq!(acked.expect("written"), news);
    }
    assert_eq!(waiting(&store, "gw-1", 0).await, all[3..]);
    assert_eq!(waiting(&store, "gw-1", u64::MAX).await, []);
    acknowledge(&mut writer, &agent("gw-1"), u64::MAX, 201)
        .await
        .expect("written");
    let none = standing(store.readers()).await.expect("read");
    assert_eq!(none, StationBacklog::default());
}

#[tokio::test]
async fn an_agent_that_has_lost_messages_gets_them_again_under_the_same_numbers() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    for state in ["a", "b", "c"] {
        put(&mut writer, "gw-1", state).await;
    }
    acknowledge(&mut writer, &agent("gw-1"), 3, 200)
        .await
        .expect("written");
    begin(&mut writer, &agent("gw-1"), 1, 300)
        .await
        .expect("written");
    let again = pairs(&[(2, "b"), (3, "c")]);
    assert_eq!(waiting(&store, "gw-1", 0).await, again);
    // The usual beginning: an acknowledgement was lost with the connection.
    begin(&mut writer, &agent("gw-1"), 2, 301)
        .await
        .expect("written");
    assert_eq!(waiting(&store, "gw-1", 0).await, again[1..]);
}

#[tokio::test]
async fn after_a_database_was_put_back_what_waits_gets_numbers_that_the_agent_has_not_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    for state in ["a", "b", "c"] {
        put(&mut writer, "gw-1", state).await;
    }
    acknowledge(&mut writer, &agent("gw-1"), 1, 200)
        .await
        .expect("written");
    begin(&mut writer, &agent("gw-1"), 50, 300)
        .await
        .expect("written");
    assert_eq!(
        waiting(&store, "gw-1", 50).await,
        pairs(&[(52, "b"), (53, "c")])
    );
    assert_eq!(put(&mut writer, "gw-1", "d").await, 54);
    // An agent unknown to this hub, which comes from another hub.
    begin(&mut writer, &agent("gw-2"), 7, 300)
        .await
        .expect("written");
    assert_eq!(put(&mut writer, "gw-2", "a").await, 8);
    // An impossible number changes nothing.
    begin(&mut writer, &agent("gw-1"), u64::MAX, 300)
        .await
        .expect("written");
    assert_eq!(put(&mut writer, "gw-1", "e").await, 55);
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_what_no_engine_takes_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    let long = Message {
        source_id: "号".repeat(100),
        text: format!("\0{}", "警".repeat(2000)),
        ..message("s")
    };
    enqueue(&mut writer, "gw-1", &long, 1)
        .await
        .expect("written");
    let found = unacked(store.readers(), &agent("gw-1"), 0, 1)
        .await
        .expect("read");
    assert_eq!(found[0].source_id, "号".repeat(42));
    assert!(found[0].text.starts_with("\u{fffd}警") && found[0].text.len() <= 2048);
}
