use super::*;
use crate::Store;
use linli_shared::protocol::event::Severity;

/// A notice of a warning.
fn fire(warning: i64) -> Notice {
    Notice {
        warning,
        severity: Severity::Life,
        ..Notice::test(1_767_225_600_000)
    }
}

async fn store(directory: &tempfile::TempDir) -> (Store, Connection) {
    let store = Store::open(&crate::Place::of_test(directory.path()), true)
        .await
        .expect("a store");
    let writer = store.connect().await.expect("a connection");
    (store, writer)
}

async fn put(writer: &mut Connection, id: i64, notice: &Notice, channel: &str) -> bool {
    let decision = format!("warning/{}/{}", notice.warning, notice.what.as_str());
    enqueue(writer, id, channel, &decision, notice, 1_000 + id)
        .await
        .expect("written")
}

async fn settled(writer: &mut Connection, id: i64, outcome: Delivery) -> bool {
    settle(writer, &Settlement { id, outcome }, 9_000)
        .await
        .expect("written")
        .is_some()
}

fn ids(waiting: &[Waiting]) -> Vec<i64> {
    waiting.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_decision_is_there_once_for_each_channel_whatever_became_of_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    assert!(put(&mut writer, 1, &fire(7), "a").await);
    assert!(put(&mut writer, 2, &fire(7), "b").await);
    assert!(!put(&mut writer, 3, &fire(7), "a").await);
    assert!(settled(&mut writer, 1, Delivery::Sent).await);
    assert!(!put(&mut writer, 3, &fire(7), "a").await);
    assert!(
        settled(
            &mut writer,
            2,
            Delivery::Dead {
                error: "no".to_owned()
            }
        )
        .await
    );
    assert!(!put(&mut writer, 3, &fire(7), "b").await);
    assert_eq!(last_id(&mut writer).await.expect("a number"), 2);
    let all = list(
        store.readers(),
        &NotificationFilter {
            limit: 10,
            ..Default::default()
        },
    )
    .await
    .expect("a list");
    let states: Vec<(i64, &str)> = all
        .iter()
        .map(|view| (view.id, view.state.as_str()))
        .collect();
    assert_eq!(states, [(2, "dead"), (1, "sent")]);
}

#[tokio::test]
async fn the_gravest_is_due_first_and_what_failed_is_due_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    let lesser = |warning| Notice {
        severity: Severity::Alarm,
        ..fire(warning)
    };
    put(&mut writer, 1, &lesser(1), "a").await;
    put(&mut writer, 2, &lesser(2), "a").await;
    put(&mut writer, 3, &fire(3), "a").await;
    put(&mut writer, 4, &fire(3), "b").await;
    let pool = store.readers();
    assert_eq!(
        ids(&due(pool, "a", 5_000, 10).await.expect("rows")),
        [3, 1, 2]
    );
    assert_eq!(ids(&due(pool, "a", 5_000, 2).await.expect("rows")), [3, 1]);
    let later = Delivery::Retry {
        due_ms: 60_000,
        error: "down".to_owned(),
    };
    assert!(settled(&mut writer, 3, later).await);
    assert_eq!(ids(&due(pool, "a", 5_000, 10).await.expect("rows")), [1, 2]);
    let again = due(pool, "a", 60_000, 10).await.expect("rows");
    assert_eq!((again[0].id, again[0].attempts), (3, 1));
    let standing = standing(pool, "a").await.expect("figures");
    assert_eq!(
        (
            standing.waiting,
            standing.oldest_ms,
            standing.due_ms,
            standing.dead
        ),
        (3, Some(1_001), Some(1_001), 0)
    );
    assert_eq!(channels_waiting(pool).await.expect("names").len(), 2);
}

#[tokio::test]
async fn what_is_dropped_is_not_due_and_what_had_left_before_counts_as_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    put(&mut writer, 1, &fire(1), "a").await;
    put(&mut writer, 2, &fire(1), "b").await;
    put(&mut writer, 3, &fire(2), "a").await;
    settled(&mut writer, 2, Delivery::Sent).await;
    assert_eq!(
        drop_waiting(&mut writer, 1, "误报", 3_000)
            .await
            .expect("dropped")
            .len(),
        1
    );
    let pool = store.readers();
    assert_eq!(ids(&due(pool, "a", 5_000, 10).await.expect("rows")), [3]);
    assert_eq!(told(pool, "b", 1).await.expect("rows"), [fire(1)]);
    let later = Delivery::Retry {
        due_ms: 1,
        error: String::new(),
    };
    assert!(!settled(&mut writer, 1, later).await, "it stays dropped");
    let view = get(pool, 1).await.expect("a row").expect("there");
    assert_eq!(
        (view.state.as_str(), view.error.as_deref()),
        ("dropped", Some("误报"))
    );
    assert!(settled(&mut writer, 1, Delivery::Sent).await);
}

#[tokio::test]
async fn only_a_dead_one_is_sent_again_and_has_all_its_tries() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, mut writer) = store(&directory).await;
    for id in 1..=3 {
        put(&mut writer, id, &fire(id), "a").await;
    }
    let pool = store.readers();
    assert!(!settled(&mut writer, 1, Delivery::Again).await);
    for id in 1..=3 {
        settled(
            &mut writer,
            id,
            Delivery::Dead {
                error: "x".repeat(9_000),
            },
        )
        .await;
    }
    let dead = get(pool, 1).await.expect("a row").expect("there");
    assert_eq!(dead.error.map(|error| error.len()), Some(ERROR_CHARS_MAX));
    assert!(settled(&mut writer, 1, Delivery::Again).await);
    assert_eq!(
        again(&mut writer, Some(1), 9_000)
            .await
            .expect("done")
            .len(),
        0
    );
    assert_eq!(
        again(&mut writer, None, 9_000).await.expect("done").len(),
        2
    );
    let rows = due(pool, "a", 9_000, 10).await.expect("rows");
    assert_eq!(ids(&rows), [1, 2, 3]);
    assert!(rows.iter().all(|row| row.attempts == 0));
}
