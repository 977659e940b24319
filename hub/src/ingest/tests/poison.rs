//! What makes a transaction fail each time is passed over, and everything beside it is committed.
use super::*;

async fn quarantined(hub: &Hub) -> Vec<String> {
    let rows = sqlx::query("SELECT reason FROM quarantine ORDER BY id")
        .fetch_all(hub.store.readers())
        .await
        .expect("the quarantine");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn stored(hub: &Hub, kind: &str) -> usize {
    let filter = EventFilter {
        kind: Some(kind.to_owned()),
        limit: 10_000,
        ..EventFilter::default()
    };
    let found = chunks::events(hub.store.readers(), &filter).await;
    found.expect("events").0.len()
}

fn fires() -> Vec<Arc<Rule>> {
    let severity = Severity::Life;
    vec![
        rule("fire", "\"match\"", "fire.alarm", severity, "r"),
        rule("gas", "\"match\"", "gas.alarm", severity, "r"),
        rule("gas-too", "\"match\"", "gas.alarm", severity, "r"),
    ]
}

#[tokio::test]
async fn an_event_that_makes_the_hub_panic_goes_to_quarantine_and_all_others_are_stored_and_judged()
{
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(fires()).await;
    let mut poisoned = vec![("door.opened", now_ms); 100];
    poisoned[56] = ("test.panic", now_ms);
    poisoned[57] = ("fire.alarm", now_ms);
    // The writer does not run before all of it waits: it is one transaction.
    let mut answers = Vec::new();
    answers.push(
        hub.hand(Lane::Routine, &[("door.opened", now_ms); 100])
            .await,
    );
    answers.push(hub.hand(Lane::Routine, &poisoned).await);
    answers.push(
        hub.hand(Lane::Routine, &[("door.opened", now_ms); 100])
            .await,
    );
    for (answer, position) in answers.into_iter().zip([100, 200, 300]) {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer, Ok(Sequence(position)));
    }
    assert_eq!(stored(&hub, "door.opened").await, 298);
    let reasons = quarantined(&hub).await;
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(
        reasons[0].contains("makes the hub fail: panic"),
        "{reasons:?}"
    );
    assert_eq!(
        hub.warnings().await.len(),
        1,
        "the fire beside it is a warning"
    );
    assert_eq!(hub.metrics.passed_over.get(), 1);
    hub.bring_of("B9", Lane::Urgent, &[("fire.alarm", now_ms)])
        .await;
    assert_eq!(hub.warnings().await.len(), 2, "the hub goes on");
}

#[tokio::test]
async fn an_event_whose_warning_the_database_refuses_goes_to_quarantine_alone() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(fires()).await;
    // Two rules raise a warning of the same key for gas: the second violates this.
    sqlx::query("CREATE UNIQUE INDEX poison ON warnings (rule_key)")
        .execute(hub.store.readers())
        .await
        .expect("an index");
    let mut answers = Vec::new();
    for (number, kind) in ["fire.alarm", "gas.alarm", "fire.alarm"].iter().enumerate() {
        let building = format!("B{number}");
        answers.push(
            hub.hand_of(&building, Lane::Urgent, &[(*kind, now_ms)])
                .await,
        );
    }
    for (answer, position) in answers.into_iter().zip([1, 2, 3]) {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer, Ok(Sequence(position)));
    }
    assert_eq!(stored(&hub, "fire.alarm").await, 2);
    assert_eq!(stored(&hub, "gas.alarm").await, 0);
    assert_eq!(hub.warnings().await.len(), 2);
    let reasons = quarantined(&hub).await;
    assert!(
        matches!(reasons.as_slice(), [one] if one.contains("makes the hub fail")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_request_that_makes_the_hub_panic_is_refused_and_those_beside_it_are_answered() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(fires()).await;
    let alarm = hub.hand(Lane::Urgent, &[("fire.alarm", now_ms)]).await;
    let (reply, refused) = Reply::channel();
    let place = hub
        .ingest
        .place(&"gw-1".parse().expect("a name"), Lane::Urgent)
        .await
        .expect("a writer");
    place.send(Request::Panic { reply });
    let later = hub.hand(Lane::Urgent, &[("fire.alarm", now_ms)]).await;
    assert_eq!(alarm.await.expect("an answer"), Ok(Sequence(1)));
    assert_eq!(refused.await.expect("an answer"), Err(Rejection::Poison));
    assert_eq!(later.await.expect("an answer"), Ok(Sequence(2)));
    assert_eq!(stored(&hub, "fire.alarm").await, 2);
    assert_eq!(hub.warnings().await.len(), 1);
    assert!(quarantined(&hub).await.is_empty());
}

#[tokio::test]
async fn deadlines_are_divided_until_each_is_alone() {
    let mut due = crate::ingest::unit_of_work::Due {
        waking: vec![1, 2, 3],
        recompute: vec![4],
        prune: true,
        ..Default::default()
    };
    let all = due.names();
    assert_eq!(all, ["case/1", "case/2", "case/3", "deadlines/4", "prune"]);
    let mut waiting = vec![std::mem::take(&mut due)];
    let mut alone = Vec::new();
    while let Some(due) = waiting.pop() {
        match crate::ingest::unit_of_work::divided(due) {
            Ok((first, second)) => waiting.extend([first, second]),
            Err(one) => alone.extend(one.names()),
        }
    }
    alone.sort();
    assert_eq!(alone, all);
}
