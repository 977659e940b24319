//! The behaviour of a single lane.
use super::*;
use linli_shared::protocol::event::{AGENT_STARTED, DOWN_SINCE};

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
    close(thread);
    let (spool, _thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open again");
    assert_eq!(spool.status().borrow().next, Sequence(12_000));
    // Their generations are gone, but their ids are kept (those of the last 10,000 events).
    let again = append(&spool, "r5", 1000).await.expect("answered");
    assert_eq!((again.stored, again.doubled), (0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_counts_from_when_the_agent_went_down_also_after_another_start() {
    let directory = tempdir().expect("temporary directory");
    let (spool, thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open");
    let event = Event {
        kind: AGENT_STARTED.to_owned(),
        received_at_ms: 9_000,
        attributes: [(DOWN_SINCE.to_owned(), "4000".to_owned())].into(),
        ..Event::default()
    };
    let mut events = Packed::default();
    events.push(&event.draft()).expect("an event");
    let keys = vec![EventKey::of(&event.draft())];
    let from_ms = event.unknown_from_ms();
    let appended = spool.append(Retention::Standard, BootId(1), from_ms, events, keys);
    appended.await.expect("stored");
    assert_eq!(spool.status().borrow().oldest_ms, Some(4_000));
    close(thread);
    let (spool, _thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open again");
    assert_eq!(spool.status().borrow().oldest_ms, Some(4_000));
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
    // Concurrent appends may be numbered before this one.
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

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_chunk_costs_its_events_and_no_others() {
    for position in [0, 1, 7, 14] {
        let directory = tempdir().expect("temporary directory");
        let settings = || settings(&directory, 1 << 30, WhenFull::Refuse);
        let (spool, thread) = Spool::open(settings()).expect("open");
        for round in 0..4 {
            append(&spool, &format!("r{round}"), 100)
                .await
                .expect("stored");
        }
        let (written, lost) = read_all(&spool).await;
        assert!(written.len() > 15 && lost.is_empty());
        close(thread);
        let victim = *written[position].header();
        damage(&database(&directory), victim.first);
        let (spool, thread) = Spool::open(settings()).expect("a damaged lane opens");
        let (left, lost) = read_all(&spool).await;
        let expected: Vec<&Chunk> = written
            .iter()
            .filter(|chunk| chunk.header().first != victim.first)
            .collect();
        assert_eq!(
            left.iter().collect::<Vec<_>>(),
            expected,
            "chunk {position}"
        );
        assert_eq!(
            lost,
            [LostRange {
                first: victim.first,
                end: victim.end(),
                reason: LostReason::Damage,
            }]
        );
        let status = spool.status().borrow().clone();
        assert_eq!(
            (status.damaged, status.lost_events),
            (1, u64::from(victim.count))
        );
        // The same after another start: the saved file is intact.
        close(thread);
        let (spool, _thread) = Spool::open(settings()).expect("open again");
        assert!(read_all(&spool).await == (left, lost));
        assert_eq!(spool.status().borrow().damaged, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_was_refused_for_its_quota_takes_events_when_all_is_acknowledged() {
    let directory = tempdir().expect("temporary directory");
    let mut settings = settings(&directory, 600 << 10, WhenFull::Refuse);
    // The quota is reached before the generation is full.
    settings.generation_bytes = 64 << 20;
    let (spool, _thread) = Spool::open(settings).expect("open");
    let mut round = 0;
    while append(&spool, &format!("r{round}"), 200).await.is_ok() {
        round += 1;
    }
    spool.tick().await;
    let mut status = spool.status();
    let refusing = status.wait_for(|status| status.refusing.is_some());
    let next = refusing.await.expect("the lane lives").next;
    spool.ack(next).await;
    spool.tick().await;
    let freed = status.wait_for(|status| status.refusing.is_none());
    tokio::time::timeout(std::time::Duration::from_secs(20), freed)
        .await
        .expect("a tick is enough to know it")
        .expect("the lane lives");
    append(&spool, "after", 10).await.expect("stored");
    let items = spool.read(next, 1 << 20).await;
    assert!(matches!(&items[0], Item::Chunk(chunk) if chunk.header().first == next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_lane_answers_what_came_before_and_refuses_what_comes_later() {
    let directory = tempdir().expect("temporary directory");
    let (spool, thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open");
    append(&spool, "before", 10).await.expect("stored");
    close(thread);
    assert!(matches!(
        append(&spool, "after", 10).await,
        Err(AppendError::Closed)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_releases_the_reserve_and_the_next_append_makes_it_again() {
    use super::bad_disk::BadDisk;
    let directory = tempdir().expect("temporary directory");
    let settings = settings(&directory, 1 << 30, WhenFull::Refuse);
    std::fs::create_dir(&settings.directory).expect("the lane");
    let disk = BadDisk::new(&settings.directory);
    let reserve = settings.directory.join("reserve");
    let (spool, _thread) = Spool::open(settings).expect("open");
    append(&spool, "before", 10).await.expect("stored");
    assert!(reserve.exists());
    disk.refuse_after(0, rustix::io::Errno::NOSPC);
    let refused = append(&spool, "during", 10).await;
    assert!(
        matches!(refused, Err(AppendError::Disk { .. })),
        "{refused:?}"
    );
    assert!(!reserve.exists());
    let mut tries = 0;
    while let Err(error) = append(&spool, "after", 10).await {
        assert!(matches!(error, AppendError::Disk { .. }), "{error}");
        tries += 1;
        assert!(tries < 100_000, "the lane does not recover");
    }
    assert!(reserve.exists());
    let (chunks, lost) = read_all(&spool).await;
    assert_eq!(lost, []);
    assert_eq!(chunks.last().expect("a chunk").header().end(), Sequence(20));
    disk.remove();
}
