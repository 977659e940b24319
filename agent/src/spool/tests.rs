use super::position::LostReason;
use super::*;
use linli_shared::protocol::event::Event;
use tempfile::{TempDir, tempdir};

fn settings(directory: &TempDir, quota_bytes: u64, when_full: WhenFull) -> Settings {
    Settings {
        directory: directory.path().join("routine"),
        lane: Lane::Routine,
        generation_bytes: 1 << 20,
        quota_bytes,
        free_bytes_min: 0,
        seen_max: 10_000,
        when_full,
    }
}

/// One append of `count` events that do not compress.
async fn append(spool: &Spool, name: &str, count: u64) -> Result<Appended, AppendError> {
    let mut events = Packed::default();
    let mut keys = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for number in 0..count {
        let mut text = String::new();
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            text.push_str(&format!("{random:016x}"));
        }
        let event = Event {
            kind: "door.opened".to_owned(),
            source: name.to_owned(),
            source_id: number.to_string(),
            attributes: [("text".to_owned(), text)].into(),
            ..Event::default()
        };
        events
            .push(&event.draft())
            .expect("an event within the limits");
        keys.push(EventKey::new(name, &number.to_string()));
    }
    spool
        .append(Retention::Standard, BootId(1), 1, events, keys)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_rotate_are_read_in_order_and_go_when_acknowledged() {
    let directory = tempdir().expect("temporary directory");
    let (spool, thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open");
    for round in 0..12 {
        let appended = append(&spool, &format!("r{round}"), 1000).await;
        assert_eq!(appended.expect("stored").stored, 1000);
    }
    let mut from = Sequence(0);
    while from < Sequence(12_000) {
        let items = spool.read(from, 64 * 1024).await;
        assert!(!items.is_empty());
        for item in items {
            let Item::Chunk(chunk) = item else {
                panic!("a lost range where nothing was lost")
            };
            assert_eq!(chunk.header().first, from);
            from = chunk.header().end();
        }
    }
    spool.ack(Sequence(12_000)).await;
    assert!(spool.read(Sequence(12_000), 1024).await.is_empty());
    let left = std::fs::read_dir(directory.path().join("routine"))
        .expect("the lane")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("g-"))
        .count();
    assert!(left <= 2, "{left} generations are left");
    assert_eq!(spool.status().borrow().blob_files, 0);
    drop(spool);
    thread.join();
    let (spool, _thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open again");
    assert_eq!(spool.status().borrow().next, Sequence(12_000));
    // Their generations are gone, their ids are not (those of the last 10,000 events).
    let again = append(&spool, "r5", 1000).await.expect("answered");
    assert_eq!((again.stored, again.doubled), (0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_quota_a_lane_refuses_or_drops_its_oldest_and_says_which() {
    let quota_bytes = 3 << 20;
    let directory = tempdir().expect("temporary directory");
    let (spool, _thread) =
        Spool::open(settings(&directory, quota_bytes, WhenFull::Refuse)).expect("open");
    let mut refused = None;
    for round in 0..40 {
        if let Err(error) = append(&spool, &format!("r{round}"), 1000).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(AppendError::Quota { .. })));
    assert!(matches!(
        spool.read(Sequence(0), 1024).await[0],
        Item::Chunk(_)
    ));

    let directory = tempdir().expect("temporary directory");
    let (spool, _thread) =
        Spool::open(settings(&directory, quota_bytes, WhenFull::DropOldest)).expect("open");
    for round in 0..40 {
        let appended = append(&spool, &format!("r{round}"), 1000).await;
        assert_eq!(appended.expect("stored").stored, 1000);
    }
    let items = spool.read(Sequence(0), 1024).await;
    let Item::Lost(range) = &items[0] else {
        panic!("what was dropped must be reported")
    };
    assert_eq!(
        (range.first, range.reason),
        (Sequence(0), LostReason::Quota)
    );
    assert!(spool.status().borrow().lost_events >= range.end.0);
    let Item::Chunk(next) = &spool.read(range.end, 1024).await[0] else {
        panic!("what follows the dropped range is there")
    };
    assert_eq!(next.header().first, range.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_put_back_numbers_on_from_the_hub_and_keeps_what_waits() {
    let directory = tempdir().expect("temporary directory");
    let (spool, _thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open");
    append(&spool, "before", 10).await.expect("stored");
    spool.skip_to(Sequence(500)).await;
    // Appends that wait together with it may be numbered before it.
    let mut status = spool.status();
    let skipped = status.wait_for(|status| status.next == Sequence(500));
    tokio::time::timeout(std::time::Duration::from_secs(20), skipped)
        .await
        .expect("in time")
        .expect("the lane lives");
    append(&spool, "after", 10).await.expect("stored");
    let items = spool.read(Sequence(0), 1 << 20).await;
    assert!(matches!(&items[0], Item::Chunk(chunk) if chunk.header().first == Sequence(0)));
    let gap = items.iter().find_map(|item| match item {
        Item::Lost(range) => Some((range.first, range.end)),
        Item::Chunk(_) => None,
    });
    assert_eq!(gap, Some((Sequence(10), Sequence(500))));
    assert!(
        matches!(items.last(), Some(Item::Chunk(chunk)) if chunk.header().end() == Sequence(510))
    );
}
