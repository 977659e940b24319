//! Every state of the disk that recovery can find. The table in the crate's documentation lists these tests.
use super::bad_disk::BadDisk;
use super::*;
use crate::position::{HighMark, Position};
use linli_shared::protocol::ids::Epoch;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A closed lane, and its contents.
struct Closed {
    directory: TempDir,
    written: Vec<Chunk>,
}

impl Closed {
    /// Appends `rounds` times 100 events; each append fills a generation.
    async fn new(rounds: u64) -> Self {
        let directory = tempdir().expect("temporary directory");
        let closed = Self {
            directory,
            written: Vec::new(),
        };
        let (spool, thread) = closed.open();
        for round in 0..rounds {
            let appended = append(&spool, &format!("r{round}"), 100).await;
            assert_eq!(appended.expect("stored").stored, 100);
        }
        let (written, lost) = read_all(&spool).await;
        assert_eq!(lost, []);
        close(thread);
        Self { written, ..closed }
    }

    fn settings(&self) -> Settings {
        let mut settings = settings(&self.directory, 1 << 30, WhenFull::Refuse);
        settings.generation_bytes = 100 << 10;
        settings
    }

    fn open(&self) -> (Spool, SpoolThread) {
        Spool::open(self.settings()).expect("the lane opens")
    }

    fn lane(&self) -> PathBuf {
        self.directory.path().join("routine")
    }

    fn generations(&self) -> Vec<PathBuf> {
        named(&self.lane(), "g-")
    }

    fn position(&self) -> Position {
        let path = self.lane().join("position");
        let position = Position::load(&path).expect("read");
        position.expect("a position")
    }

    fn change_position(&self, change: impl FnOnce(&mut Position)) {
        let mut position = self.position();
        change(&mut position);
        position
            .store(&self.lane().join("position"))
            .expect("stored");
    }

    fn set_high(&self, next: u64) {
        let high = HighMark::open(&self.lane().join("high")).expect("open");
        high.store(Sequence(next)).expect("stored");
    }

    /// Checks that the lane opens with all its contents, that nothing is lost, and that it still works.
    async fn assert_whole(&self) {
        let (spool, thread) = self.open();
        let (chunks, lost) = read_all(&spool).await;
        assert_eq!(lost, []);
        assert!(chunks == self.written, "other chunks");
        let next = spool.status().borrow().next;
        assert_eq!(append(&spool, "more", 10).await.expect("stored").stored, 10);
        let items = spool.read(next, 1 << 20).await;
        assert!(matches!(&items[0], Item::Chunk(chunk) if chunk.header().first == next));
        assert_eq!(spool.status().borrow().lost_events, 0);
        close(thread);
    }

    /// Opens the lane; returns the lost ranges. Checks that everything else exists, also after another start.
    async fn lost(&self) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for _ in 0..2 {
            let (spool, thread) = self.open();
            let (chunks, lost) = read_all(&spool).await;
            let is_lost = |chunk: &&Chunk| {
                let first = chunk.header().first;
                lost.iter()
                    .any(|range| range.first <= first && first < range.end)
            };
            let expected: Vec<&Chunk> = self
                .written
                .iter()
                .filter(|chunk| !is_lost(chunk))
                .collect();
            assert!(
                chunks.iter().collect::<Vec<_>>() == expected,
                "other chunks"
            );
            let ranges = lost.iter().map(|range| (range.first.0, range.end.0));
            found.push(ranges.collect::<Vec<_>>());
            close(thread);
        }
        assert_eq!(found[0], found[1]);
        found.swap_remove(0)
    }
}

fn named(lane: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lane).expect("the lane").flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-aT").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

/// The same directory under another prefix.
fn renamed(path: &Path, prefix: &str) -> PathBuf {
    let name = path.file_name().expect("a name").to_string_lossy();
    path.with_file_name(name.replacen("g-", prefix, 1))
}

/// Truncates the file of a database to a part of its data.
fn cut(generation: &Path, part: f64) {
    let file = generation.join("db");
    let mut bytes = std::fs::read(&file).expect("the file");
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    bytes.truncate((end as f64 * part) as usize);
    std::fs::write(&file, bytes).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_half_made_is_removed() {
    let closed = Closed::new(4).await;
    let half = closed.lane().join("tmp-00000000000000000400");
    copy(&closed.generations()[0], &half);
    cut(&half, 0.5);
    closed.assert_whole().await;
    assert!(!half.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_beside_the_damaged_original_takes_its_place() {
    for index in [0, 1] {
        let closed = Closed::new(4).await;
        let original = &closed.generations()[index];
        copy(original, &renamed(original, "salv-"));
        cut(original, 0.3);
        closed.assert_whole().await;
        assert!(named(&closed.lane(), "salv-").is_empty());
        assert_eq!(named(&closed.lane(), "bad-").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_without_its_original_takes_its_place() {
    let closed = Closed::new(4).await;
    let original = &closed.generations()[1];
    std::fs::rename(original, renamed(original, "salv-")).expect("renamed");
    // The original was put aside for removal.
    copy(&closed.generations()[0], &renamed(original, "tmp-"));
    closed.assert_whole().await;
    assert!(named(&closed.lane(), "salv-").is_empty());
    assert!(named(&closed.lane(), "tmp-").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_that_has_less_than_its_original_is_removed() {
    let closed = Closed::new(4).await;
    let original = &closed.generations()[1];
    let salvage = renamed(original, "salv-");
    copy(original, &salvage);
    cut(&salvage, 0.3);
    closed.assert_whole().await;
    assert!(named(&closed.lane(), "salv-").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_generation_is_kept_beside_earlier_ones_the_two_newest() {
    let closed = Closed::new(4).await;
    let original = &closed.generations()[0];
    for number in 0..3 {
        let bad = renamed(original, "bad-");
        let name = format!(
            "{}-{number}",
            bad.file_name().expect("a name").to_string_lossy()
        );
        copy(original, &bad.with_file_name(name));
    }
    let victim = closed.written[3].header();
    damage(&original.join("db"), victim.first);
    assert_eq!(closed.lost().await, [(victim.first.0, victim.end().0)]);
    assert_eq!(named(&closed.lane(), "bad-").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_position_epoch_and_numbers_are_those_of_the_chunks() {
    for is_damaged in [false, true] {
        let closed = Closed::new(4).await;
        let epoch = closed.position().epoch;
        let path = closed.lane().join("position");
        if is_damaged {
            let mut bytes = std::fs::read(&path).expect("the position");
            bytes[3] ^= 4;
            std::fs::write(&path, bytes).expect("written");
        } else {
            std::fs::remove_file(&path).expect("removed");
        }
        closed.assert_whole().await;
        assert_eq!(closed.position().epoch, epoch);
        assert_eq!(closed.position().next, Sequence(410));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_position_gives_what_was_acknowledged_since_as_lost_and_the_rest_again() {
    let closed = Closed::new(8).await;
    let older = std::fs::read(closed.lane().join("position")).expect("the position");
    let (spool, thread) = closed.open();
    spool.ack(Sequence(500)).await;
    close(thread);
    let first = closed.generations()[0].clone();
    let name = first
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let kept_from: u64 = name["g-".len()..].parse().expect("a number");
    assert!((1..=500).contains(&kept_from));
    std::fs::write(closed.lane().join("position"), older).expect("written");
    // They were deleted after the hub had acknowledged them; that information is lost.
    assert_eq!(closed.lost().await, [(0, kept_from)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_or_a_high_mark_beyond_the_chunks_means_that_events_are_lost() {
    let closed = Closed::new(4).await;
    closed.change_position(|position| position.next = Sequence(450));
    assert_eq!(closed.lost().await, [(400, 450)]);
    let closed = Closed::new(4).await;
    closed.set_high(420);
    assert_eq!(closed.lost().await, [(400, 420)]);
    let (spool, _thread) = closed.open();
    assert_eq!(append(&spool, "more", 5).await.expect("stored").stored, 5);
    assert_eq!(spool.status().borrow().next, Sequence(425));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_high_mark_that_is_behind_damaged_or_missing_all_chunks_that_follow_are_kept() {
    for state in 0..3 {
        let closed = Closed::new(4).await;
        closed.change_position(|position| position.next = Sequence(100));
        let path = closed.lane().join("high");
        match state {
            0 => closed.set_high(100),
            1 => std::fs::write(&path, [1; 12]).expect("written"),
            _ => std::fs::remove_file(&path).expect("removed"),
        }
        closed.assert_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_behind_a_torn_write_that_nobody_was_answered_for_are_not_taken() {
    let mut closed = Closed::new(2).await;
    // The second append is unknown; its first chunk is torn.
    closed.change_position(|position| position.next = Sequence(0));
    closed.set_high(100);
    let torn = closed.written.iter().map(|chunk| chunk.header().first);
    let torn = torn.filter(|first| first.0 >= 100).min().expect("a chunk");
    assert_eq!(torn, Sequence(100));
    damage(&closed.generations()[1].join("db"), torn);
    closed.written.retain(|chunk| chunk.header().first < torn);
    closed.assert_whole().await;
    // Their sequences were assigned to other events; nothing of the old ones may appear.
    let (spool, _thread) = closed.open();
    let (chunks, lost) = read_all(&spool).await;
    assert_eq!(lost, []);
    assert_eq!(
        chunks.last().expect("a chunk").header().end(),
        Sequence(110)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_that_is_cut_damaged_or_missing_costs_no_event() {
    for state in 0..4 {
        let closed = Closed::new(8).await;
        let (spool, thread) = closed.open();
        spool.ack(Sequence(800)).await;
        close(thread);
        let path = closed.lane().join("seen");
        let mut bytes = std::fs::read(&path).expect("keys");
        assert!(bytes.len() > 100);
        match state {
            0 => bytes.truncate(bytes.len() - 7),
            1 => bytes[..64].fill(0xa5),
            2 => bytes[40..90].fill(0),
            _ => bytes.clear(),
        }
        std::fs::write(&path, bytes).expect("written");
        let (spool, thread) = closed.open();
        assert_eq!(
            append(&spool, "new", 100).await.expect("stored").stored,
            100
        );
        let again = append(&spool, "r7", 100).await.expect("stored");
        assert_eq!(again.stored + again.doubled, 100);
        close(thread);
        let (spool, _thread) = closed.open();
        assert_eq!(
            append(&spool, "new", 100).await.expect("stored").doubled,
            100
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_generation_is_made_anew_whatever_is_in_its_file() {
    for state in 0..3 {
        let closed = Closed::new(4).await;
        let (spool, thread) = closed.open();
        spool.ack(Sequence(400)).await;
        close(thread);
        let (spool, thread) = closed.open();
        assert_eq!(spool.status().borrow().next, Sequence(400));
        close(thread);
        let empty = closed.generations();
        assert_eq!(empty.len(), 1, "{empty:?}");
        let file = empty[0].join("db");
        match state {
            0 => std::fs::write(&file, [0xa5; 5000]).expect("written"),
            1 => std::fs::remove_file(&file).expect("removed"),
            _ => std::fs::remove_dir_all(&empty[0]).expect("removed"),
        }
        let (spool, _thread) = closed.open();
        assert_eq!(append(&spool, "more", 10).await.expect("stored").stored, 10);
        let items = spool.read(Sequence(400), 1 << 20).await;
        assert!(matches!(&items[0], Item::Chunk(chunk) if chunk.header().end() == Sequence(410)));
        assert_eq!(spool.status().borrow().lost_events, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_generations_all_that_waited_is_reported_as_lost() {
    let mut closed = Closed::new(4).await;
    for generation in closed.generations() {
        std::fs::remove_dir_all(generation).expect("removed");
    }
    closed.written.clear();
    assert_eq!(closed.lost().await, [(0, 400)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_half_removed_is_removed() {
    let closed = Closed::new(8).await;
    let first = closed.generations()[0].clone();
    let second = closed.generations()[1].clone();
    let name = second
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let acked: u64 = name["g-".len()..].parse().expect("a number");
    closed.change_position(|position| position.acked = Sequence(acked));
    std::fs::remove_file(first.join("db")).expect("removed");
    let (spool, _thread) = closed.open();
    assert!(!first.exists());
    let status = spool.status().borrow().clone();
    assert_eq!((status.lost_events, status.damaged), (0, 0));
    let items = spool.read(Sequence(acked), 1024).await;
    assert!(matches!(&items[0], Item::Chunk(chunk) if chunk.header().first.0 == acked));
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_that_overlap_give_each_event_once() {
    let closed = Closed::new(8).await;
    let generations = closed.generations();
    assert!(generations.len() >= 3);
    // The file of the first generation contains the chunks of the second too.
    let mut bytes = std::fs::read(generations[0].join("db")).expect("the file");
    bytes.extend(std::fs::read(generations[1].join("db")).expect("the file"));
    std::fs::write(generations[0].join("db"), bytes).expect("written");
    closed.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_another_spelling_of_a_number_is_left_alone() {
    let closed = Closed::new(4).await;
    let second = closed.lane().join("g-0");
    copy(&closed.generations()[0], &second);
    cut(&second, 0.5);
    closed.assert_whole().await;
    assert!(second.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_blobs_are_counted_and_change_nothing() {
    let closed = Closed::new(1).await;
    let blobs = closed.generations()[0].join("blobs");
    std::fs::create_dir_all(&blobs).expect("made");
    std::fs::write(blobs.join("7"), b"blob").expect("written");
    closed.assert_whole().await;
    let (spool, _thread) = closed.open();
    let last = closed.generations().pop().expect("a generation");
    std::fs::write(last.join("blobs/7"), b"blob").expect("written");
    spool.tick().await;
    spool.read(Sequence(0), 1).await;
    assert_eq!(spool.status().borrow().blob_files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_in_use_is_refused_and_is_not_touched() {
    let closed = Closed::new(1).await;
    let (spool, _thread) = closed.open();
    let second = Spool::open(closed.settings());
    assert!(matches!(second.err(), Some(OpenError::InUse(_))));
    assert_eq!(append(&spool, "more", 10).await.expect("stored").stored, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_reserve_is_made() {
    let closed = Closed::new(1).await;
    let reserve = closed.lane().join("reserve");
    std::fs::remove_file(&reserve).expect("removed");
    closed.assert_whole().await;
    let made = std::fs::metadata(&reserve).expect("a reserve");
    assert_eq!(made.len(), disk::RESERVE_BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_epoch_than_all_chunks_is_not_believed() {
    let closed = Closed::new(4).await;
    let epoch = closed.position().epoch;
    closed.change_position(|position| {
        position.epoch = Epoch(epoch.0 ^ 1);
        position.acked = Sequence(77);
    });
    closed.assert_whole().await;
    assert_eq!(closed.position().epoch, epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_another_epoch_beside_those_of_the_position_are_not_taken() {
    let closed = Closed::new(8).await;
    let other = Closed::new(8).await;
    let (first, stranger) = (&closed.generations()[0], &other.generations()[0]);
    std::fs::remove_dir_all(first).expect("removed");
    copy(stranger, first);
    let second = closed.generations()[1].clone();
    let name = second
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let end: u64 = name["g-".len()..].parse().expect("a number");
    assert_eq!(closed.lost().await, [(0, end)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_destroyed_between_its_chunks_loses_none_and_is_no_damage() {
    let closed = Closed::new(8).await;
    for generation in closed.generations() {
        let file = generation.join("db");
        let mut bytes = std::fs::read(&file).expect("the file");
        bytes[..16].fill(0xa5);
        std::fs::write(&file, bytes).expect("written");
        std::fs::write(generation.join("conf"), b"no config").expect("written");
    }
    closed.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_changes_nothing_in_the_generations_that_it_keeps() {
    let closed = Closed::new(8).await;
    let content = |path: &PathBuf| std::fs::read(path.join("db")).expect("the file");
    let kept = closed.generations();
    let kept = &kept[..kept.len() - 1];
    let before: Vec<Vec<u8>> = kept.iter().map(content).collect();
    closed.assert_whole().await;
    let after: Vec<Vec<u8>> = kept.iter().map(content).collect();
    assert!(before == after);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_again_and_again_make_no_more_generations_than_one() {
    let closed = Closed::new(1).await;
    let mut settings = closed.settings();
    settings.generation_bytes = 1 << 20;
    for round in 0..5 {
        let (spool, thread) = Spool::open(settings.clone()).expect("open");
        let stored = append(&spool, &format!("start{round}"), 1).await;
        assert_eq!(stored.expect("stored").stored, 1);
        close(thread);
        assert_eq!(closed.generations().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_refused_at_any_operation_opens_then_or_the_next_time_with_everything() {
    for error in [Errno::NOSPC, Errno::IO] {
        let closed = Closed::new(3).await;
        let victim = *closed.written[2].header();
        damage(&closed.generations()[0].join("db"), victim.first);
        let origin = closed.directory.path().join("origin");
        copy(&closed.lane(), &origin);
        let mut refused = 0;
        for others in 0.. {
            std::fs::remove_dir_all(closed.lane()).expect("removed");
            copy(&origin, &closed.lane());
            let disk = BadDisk::new(&closed.lane());
            disk.refuse_after(others, error);
            let opened = Spool::open(closed.settings());
            let is_over = disk.is_refusing();
            disk.remove();
            if let Ok((spool, thread)) = opened {
                let (chunks, lost) = read_all(&spool).await;
                assert_eq!(chunks.len(), closed.written.len() - 1, "{error}, {others}");
                assert_eq!(lost[0].first, victim.first);
                close(thread);
            } else {
                refused += 1;
            }
            assert_eq!(closed.lost().await, [(victim.first.0, victim.end().0)]);
            if is_over {
                println!("{error}: {refused} of {others} refused starts failed");
                break;
            }
        }
    }
}
