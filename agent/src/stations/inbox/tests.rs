use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    messages_max: 100_000,
    bytes_max: 64 << 20,
};

fn status(number: u64) -> CaseStatus {
    CaseStatus {
        id: number,
        case: "AJ-1".to_owned(),
        source: "police".to_owned(),
        source_id: format!("J{number}"),
        state: "accepted".to_owned(),
        at_ms: 5,
        text: "已受理".to_owned(),
        kind: "status".to_owned(),
    }
}

fn open(directory: &TempDir) -> Inbox {
    Inbox::open(directory.path(), LIMITS).expect("an inbox")
}

fn store(inbox: &mut Inbox, numbers: impl IntoIterator<Item = u64>) -> Option<String> {
    let mut coming = numbers.into_iter().map(status).collect();
    inbox.store(&mut coming, 9).expect("a disk")
}

fn numbers(inbox: &Inbox, after: u64, limit: usize) -> Vec<u64> {
    let read = inbox.read(after, limit).expect("read");
    read.into_iter().map(|held| held.status.id).collect()
}

fn place(directory: &TempDir) -> PathBuf {
    let mut places: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(places.len(), 1, "{places:?}");
    places.remove(0)
}

#[test]
fn messages_are_there_once_in_order_until_they_are_removed_also_after_a_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    assert_eq!(store(&mut inbox, [1, 2, 3]), None);
    assert_eq!(store(&mut inbox, [2, 3, 4]), None);
    assert_eq!(numbers(&inbox, 0, 10), [1, 2, 3, 4]);
    assert_eq!(numbers(&inbox, 1, 2), [2, 3]);
    assert_eq!(inbox.remove(2).expect("removed"), 2);
    assert_eq!(inbox.remove(1).expect("removed"), 0);
    assert_eq!(numbers(&inbox, 0, 10), [3, 4]);
    drop(inbox);
    let mut inbox = open(&directory);
    assert_eq!(numbers(&inbox, 0, 10), [3, 4]);
    assert_eq!((inbox.stored(), inbox.removed()), (4, 2));
    assert_eq!(inbox.read(2, 1).expect("read")[0].status, status(3));
    // A removed message does not return, and is not accepted again.
    assert_eq!(store(&mut inbox, [1, 2]), None);
    assert_eq!(inbox.remove(u64::MAX).expect("removed"), 2);
    drop(inbox);
    let inbox = open(&directory);
    assert_eq!((inbox.waiting(), inbox.bytes()), (0, 0));
    assert_eq!((inbox.stored(), inbox.removed()), (4, 4));
    assert_eq!(inbox.oldest_ms(), None);
}

#[test]
fn numbers_may_have_gaps_that_the_hub_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    store(&mut inbox, [7, 8, 50]);
    inbox.remove(8).expect("removed");
    drop(inbox);
    let mut inbox = open(&directory);
    assert_eq!(numbers(&inbox, 0, 10), [50]);
    store(&mut inbox, [51, 90]);
    drop(inbox);
    assert_eq!(numbers(&open(&directory), 0, 10), [50, 51, 90]);
}

#[test]
fn a_full_inbox_stores_what_fits_says_so_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        messages_max: 3,
        ..LIMITS
    };
    let mut inbox = Inbox::open(directory.path(), limits).expect("an inbox");
    let mut coming: VecDeque<_> = (1..=5).map(status).collect();
    let full = inbox.store(&mut coming, 9).expect("a disk");
    assert!(
        full.as_ref()
            .is_some_and(|reason| reason.contains("3 messages")),
        "{full:?}"
    );
    assert_eq!((inbox.stored(), coming.len()), (3, 2));
    inbox.remove(1).expect("removed");
    assert!(inbox.store(&mut coming, 9).expect("a disk").is_some());
    assert_eq!((inbox.stored(), coming.len()), (4, 1));
    inbox.remove(4).expect("removed");
    assert_eq!(inbox.store(&mut coming, 9).expect("a disk"), None);
    assert_eq!((inbox.stored(), coming.len()), (5, 0));

    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        bytes_max: 200,
        ..LIMITS
    };
    let mut inbox = Inbox::open(directory.path(), limits).expect("an inbox");
    assert!(store(&mut inbox, 1..=10).is_some());
    assert!(inbox.bytes() <= 200 && inbox.waiting() >= 2);
}

#[test]
fn a_long_life_keeps_the_files_small_and_no_record_outside_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    let mut next = 1;
    for _ in 0..60 {
        store(&mut inbox, next..next + 40);
        next += 40;
        inbox.remove(next - 10).expect("removed");
    }
    assert_eq!(
        numbers(&inbox, 0, 100),
        (next - 9..next).collect::<Vec<_>>()
    );
    let bytes = disk::used_bytes(directory.path());
    assert!(bytes < 2 << 20, "{bytes}");
    let long = CaseStatus {
        text: "长".repeat(5000),
        case: "x".repeat(5000),
        ..status(next)
    };
    inbox.store(&mut [long].into(), 9).expect("a disk");
    let blobs = std::fs::read_dir(place(&directory).join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
}

#[test]
fn what_is_damaged_is_asked_for_again_and_nothing_after_it_is_taken_for_stored() {
    // Damage at each of these positions of the file.
    for at in (0..40_000).step_by(1777) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut inbox = open(&directory);
        for number in 1..=60 {
            store(&mut inbox, [number]);
        }
        inbox.remove(5).expect("removed");
        inbox.close().expect("closed");
        let path = place(&directory).join("db");
        let mut bytes = std::fs::read(&path).expect("read");
        for byte in bytes.iter_mut().skip(at).take(300) {
            *byte ^= 0x55;
        }
        std::fs::write(&path, bytes).expect("written");
        let mut inbox = open(&directory);
        let stored = inbox.stored();
        assert!((5..=60).contains(&stored));
        assert_eq!(numbers(&inbox, 0, 100), (6..=stored).collect::<Vec<_>>());
        // As the hub does after the hello.
        assert_eq!(store(&mut inbox, stored + 1..=60), None);
        assert_eq!(numbers(&inbox, 0, 100), (6..=60).collect::<Vec<_>>());
    }
}

#[test]
fn a_start_that_is_killed_before_it_has_saved_what_it_read_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    // More bytes than sled gets between two syncs.
    let long = |number| CaseStatus {
        text: "长".repeat(1000),
        ..status(number)
    };
    let mut coming = (1..=200).map(long).collect();
    inbox.store(&mut coming, 9).expect("a disk");
    inbox.close().expect("closed");
    let path = place(&directory).join("db");
    let mut bytes = std::fs::read(&path).expect("read");
    for byte in bytes.iter_mut().skip(70_000).take(512) {
        *byte = 0;
    }
    std::fs::write(&path, &bytes).expect("written");
    // The first step of a start. Then the power fails.
    let (read, places) = read_all(directory.path()).expect("read");
    assert_eq!(places.len(), 1);
    assert_eq!(std::fs::read(&path).expect("read"), bytes);
    let (again, _) = read_all(directory.path()).expect("read");
    assert_eq!(again, read);
    // A start that was killed while writing leaves a directory behind.
    std::fs::create_dir(directory.path().join(TEMPORARY)).expect("a directory");
    std::fs::write(directory.path().join(TEMPORARY).join("db"), b"cut").expect("written");
    let inbox = open(&directory);
    assert_eq!(inbox.waiting() as u64, inbox.stored());
}

#[test]
fn without_marks_what_is_there_is_delivered_once_more_and_nothing_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    store(&mut inbox, 1..=4);
    inbox.remove(2).expect("removed");
    drop(inbox);
    std::fs::write(directory.path().join(MARKS), b"nonsense").expect("written");
    let inbox = open(&directory);
    assert_eq!(inbox.stored(), 4);
    assert_eq!(numbers(&inbox, 2, 10), [3, 4]);
}

#[derive(Debug, Clone)]
enum Step {
    Store(u64),
    Again(u64),
    Remove(u64),
    Read(u64, usize),
    Open,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..40_u64).prop_map(Step::Store),
        1 => (1..10_u64).prop_map(Step::Again),
        4 => (0..40_u64).prop_map(Step::Remove),
        2 => (0..200_u64, 0..50_usize).prop_map(|(after, limit)| Step::Read(after, limit)),
        1 => Just(Step::Open),
    ];
    proptest::collection::vec(step, 1..40)
}

fn runs(steps: &[Step]) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inbox = open(&directory);
    let (mut stored, mut removed) = (0, 0);
    for step in steps {
        match step {
            Step::Store(count) => {
                prop_assert_eq!(store(&mut inbox, stored + 1..=stored + count), None);
                stored += count;
            }
            Step::Again(count) => {
                let from = (stored + 1).saturating_sub(*count).max(1);
                prop_assert_eq!(store(&mut inbox, from..=stored), None);
            }
            Step::Remove(count) => {
                let through = (removed + count).min(stored);
                let gone = inbox.remove(through).expect("removed");
                prop_assert_eq!(gone as u64, through - removed);
                removed = through;
            }
            Step::Read(after, limit) => {
                let wanted: Vec<u64> = (1..=stored)
                    .filter(|number| number > after && *number > removed)
                    .take(*limit)
                    .collect();
                prop_assert_eq!(numbers(&inbox, *after, *limit), wanted);
            }
            Step::Open => {
                // Without a close, as after a kill: sled's lock is released with the handle.
                drop(inbox);
                inbox = open(&directory);
            }
        }
        prop_assert_eq!((inbox.stored(), inbox.removed()), (stored, removed));
        prop_assert_eq!(inbox.waiting() as u64, stored - removed);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sequence_of_steps_is_that_of_a_queue(steps in steps()) {
        runs(&steps)?;
    }
}
