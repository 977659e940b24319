use super::position::LostReason;
use super::*;
use linli_shared::protocol::event::{AGENT_STARTED, DOWN_SINCE, Event};
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

fn close(thread: SpoolThread) {
    tokio::task::block_in_place(|| thread.close());
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
    close(thread);
    let (spool, _thread) =
        Spool::open(settings(&directory, 1 << 30, WhenFull::Refuse)).expect("open again");
    assert_eq!(spool.status().borrow().next, Sequence(12_000));
    // Their generations are gone, their ids are not (those of the last 10,000 events).
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
    let keys = vec![EventKey::new("", "")];
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

/// The only database file of a lane with one generation.
fn database(directory: &TempDir) -> std::path::PathBuf {
    std::fs::read_dir(directory.path().join("routine"))
        .expect("the lane")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("g-"))
        .expect("a generation")
        .path()
        .join("db")
}

/// Flips one byte within each copy of the chunk that begins with `first`; sled keeps some twice.
fn damage(file: &std::path::Path, first: Sequence) {
    use linli_shared::protocol::chunk::{HEADER_BYTES, MAGIC, verify};
    let mut bytes = std::fs::read(file).expect("the file");
    let copies: Vec<usize> = memchr::memmem::find_iter(&bytes, &MAGIC)
        .filter(|at| verify(&bytes[*at..]).is_ok_and(|header| header.first == first))
        .collect();
    assert!(!copies.is_empty(), "the chunk is in the file");
    for at in copies {
        bytes[at + HEADER_BYTES + 40] ^= 0x10;
    }
    std::fs::write(file, bytes).expect("write");
}

/// Everything from 0 on: chunks by first sequence, and lost ranges.
async fn read_all(spool: &Spool) -> (Vec<Chunk>, Vec<LostRange>) {
    let end = spool.status().borrow().next;
    let (mut chunks, mut lost) = (Vec::new(), Vec::new());
    let mut from = Sequence(0);
    while from < end {
        let items = spool.read(from, 64 * 1024).await;
        assert!(!items.is_empty(), "the lane does not get past {from}");
        for item in items {
            match item {
                Item::Chunk(chunk) => {
                    assert_eq!(chunk.header().first, from);
                    from = chunk.header().end();
                    chunks.push(chunk);
                }
                Item::Lost(range) => {
                    assert_eq!(range.first, from);
                    from = range.end;
                    lost.push(range);
                }
            }
        }
    }
    (chunks, lost)
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
        // The same after one more start: what was saved is whole.
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

/// What a lane must be like, whatever was done to it.
#[derive(Default)]
struct Model {
    /// Ids by sequence; `None` where numbering was moved on.
    events: Vec<Option<String>>,
    acked: u64,
}

impl Model {
    async fn check(&self, spool: &Spool) {
        let status = spool.status().borrow().clone();
        assert_eq!(status.next.0, self.events.len() as u64);
        let mut from = Sequence(self.acked);
        while from < status.next {
            let items = spool.read(from, 16 * 1024).await;
            assert!(!items.is_empty());
            for item in items {
                let (first, end, ids) = match item {
                    Item::Lost(range) => (range.first, range.end, Vec::new()),
                    Item::Chunk(chunk) => {
                        let events = chunk.events().expect("whole");
                        let ids = events
                            .into_iter()
                            .map(|event| format!("{}/{}", event.source, event.source_id))
                            .collect();
                        (chunk.header().first, chunk.header().end(), ids)
                    }
                };
                assert!(first <= from && from < end);
                for sequence in from.0..end.0 {
                    let found = ids.get((sequence - first.0) as usize);
                    assert_eq!(found, self.events[sequence as usize].as_ref());
                }
                from = end;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_lane_it_holds_what_a_model_of_it_holds() {
    for seed in 1..=6_u64 {
        let directory = tempdir().expect("temporary directory");
        let mut settings = settings(&directory, 1 << 30, WhenFull::Refuse);
        settings.generation_bytes = 128 << 10;
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut model = Model::default();
        let (mut spool, mut thread) = Spool::open(settings.clone()).expect("open");
        for step in 0..60 {
            match draw(10) {
                0..5 => {
                    let count = draw(120) + 1;
                    let name = format!("s{step}");
                    append(&spool, &name, count).await.expect("stored");
                    let ids = (0..count).map(|number| Some(format!("{name}/{number}")));
                    model.events.extend(ids);
                }
                5..7 => {
                    let waits = model.events.len() as u64 - model.acked;
                    model.acked += draw(waits + 1);
                    spool.ack(Sequence(model.acked)).await;
                }
                7 => {
                    let next = model.events.len() + draw(50) as usize;
                    model.events.resize(next, None);
                    spool.skip_to(Sequence(next as u64)).await;
                    // Numbered after it although nobody waited for it.
                    append(&spool, &format!("s{step}"), 1)
                        .await
                        .expect("stored");
                    model.events.push(Some(format!("s{step}/0")));
                }
                8 => {
                    close(thread);
                    (spool, thread) = Spool::open(settings.clone()).expect("open again");
                }
                _ => {
                    // An acknowledgement has no answer: after one more round no file moves under the copy.
                    spool.read(Sequence(model.acked), 1).await;
                    // As after kill -9: another process finds the files as they are now.
                    let copy = tempdir().expect("temporary directory");
                    let copied = std::process::Command::new("cp")
                        .arg("-a")
                        .arg(&settings.directory)
                        .arg(copy.path())
                        .status();
                    assert!(copied.expect("cp").success());
                    let mut copied = settings.clone();
                    copied.directory = copy.path().join("routine");
                    let (found, found_thread) = Spool::open(copied).expect("a copy opens");
                    model.check(&found).await;
                    assert_eq!(found.status().borrow().damaged, 0, "seed {seed}");
                    close(found_thread);
                }
            }
            model.check(&spool).await;
        }
        close(thread);
    }
}
