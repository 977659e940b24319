//! Killed starts of a lane that was damaged before: intact chunks survive.
use super::bad_disk::{END_AT, Random};
use super::*;
use linli_shared::protocol::chunk::{MAGIC, verify};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The directory whose lane the child process opens.
const DIRECTORY: &str = "LINLI_SPOOL_TEST_DIRECTORY";
const SECTOR_BYTES: usize = 512;

fn small_generations(directory: &Path) -> Settings {
    Settings {
        directory: directory.join("routine"),
        lane: Lane::Routine,
        generation_bytes: 100 << 10,
        quota_bytes: 1 << 30,
        free_bytes_min: 0,
        seen_max: 10_000,
        when_full: WhenFull::Refuse,
        progress: Progress::default(),
    }
}

/// Not a test by itself: the start in a child process that the tests below kill.
#[test]
fn a_start_in_a_process_of_its_own() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let (_spool, thread) = Spool::open(small_generations(Path::new(&directory))).expect("open");
    thread.close();
}

fn start(directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "tests::kills::a_start_in_a_process_of_its_own"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a directory");
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

fn databases(lane: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(lane)
        .expect("the lane")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("g-"))
        .map(|entry| entry.path().join("db"))
        .collect();
    found.sort();
    found
}

/// Zeroes up to `count` sectors at random positions, leaving one intact copy of each chunk.
fn zero_sectors(file: &Path, count: usize, random: &mut Random) {
    let mut bytes = std::fs::read(file).expect("the file");
    let mut copies = std::collections::HashMap::new();
    let mut places = Vec::new();
    for at in memchr::memmem::find_iter(&bytes, &MAGIC) {
        if let Ok(header) = verify(&bytes[at..]) {
            places.push((at, at + header.chunk_bytes(), header.first));
            *copies.entry(header.first).or_insert(0) += 1;
        }
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let mut zeroed = 0;
    for _ in 0..10_000 {
        let sector = random.below((end / SECTOR_BYTES) as u64 + 1) as usize * SECTOR_BYTES;
        let range = sector..(sector + SECTOR_BYTES).min(bytes.len());
        let hit: Vec<_> = places
            .iter()
            .filter(|(start, stop, _)| *start < range.end && range.start < *stop)
            .collect();
        if hit.iter().any(|(_, _, first)| copies[first] < 2) {
            continue;
        }
        for (_, _, first) in &hit {
            *copies.get_mut(first).expect("counted") -= 1;
        }
        let hit: Vec<_> = hit.into_iter().copied().collect();
        places.retain(|place| !hit.contains(place));
        bytes[range].fill(0);
        zeroed += 1;
        if zeroed == count {
            break;
        }
    }
    assert!(zeroed > 0, "no sector can go");
    std::fs::write(file, bytes).expect("write");
}

/// Fills a lane with several generations; returns its chunks.
async fn lane(directory: &Path, rounds: u64) -> Vec<Chunk> {
    let (spool, thread) = Spool::open(small_generations(directory)).expect("open");
    for round in 0..rounds {
        let appended = append(&spool, &format!("r{round}"), 300).await;
        assert_eq!(appended.expect("stored").stored, 300);
    }
    let (chunks, lost) = read_all(&spool).await;
    assert!(lost.is_empty());
    close(thread);
    chunks
}

async fn assert_holds(directory: &Path, expected: &[Chunk], what: &str) {
    let (spool, thread) = Spool::open(small_generations(directory)).expect("open");
    let (chunks, lost) = read_all(&spool).await;
    assert_eq!(lost, [], "{what}");
    assert!(chunks == expected, "{what}: other chunks");
    close(thread);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_of_a_damaged_lane_that_is_killed_at_any_moment_loses_nothing_that_is_whole() {
    let work = tempdir().expect("temporary directory");
    let origin = work.path().join("origin");
    let written = lane(&origin, 12).await;
    let mut random = Random::new(1);
    let files = databases(&origin.join("routine"));
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        zero_sectors(file, 1 + random.below(3) as usize, &mut random);
    }
    let damaged = work.path().join("damaged");
    for round in 0..30 {
        copy(&origin.join("routine"), &damaged);
        // Up to three starts are killed in sequence.
        for _ in 0..=random.below(3) {
            let mut process = start(&damaged).spawn().expect("a process");
            std::thread::sleep(Duration::from_micros(2000 + random.below(40_000)));
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
        assert_holds(&damaged, &written, &format!("round {round}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_ends_at_any_of_its_operations_loses_nothing_that_is_whole() {
    for damages_chunks in [false, true] {
        let work = tempdir().expect("temporary directory");
        let origin = work.path().join("origin");
        let written = lane(&origin, 3).await;
        let mut random = Random::new(2);
        let files = databases(&origin.join("routine"));
        for file in &files {
            zero_sectors(file, 1 + random.below(3) as usize, &mut random);
        }
        let mut gone = Vec::new();
        if damages_chunks {
            // One chunk of each generation; the same chunks are lost wherever a start is killed.
            for (index, file) in files.iter().enumerate() {
                let in_file = verify_all(file);
                let victim = in_file[(index * 7 + 3) % in_file.len()];
                damage(file, victim);
                gone.push(victim);
            }
        }
        let expected: Vec<Chunk> = written
            .into_iter()
            .filter(|chunk| !gone.contains(&chunk.header().first))
            .collect();
        let damaged = work.path().join("damaged");
        let mut end_at = 0;
        loop {
            copy(&origin.join("routine"), &damaged);
            let ended = start(&damaged).env(END_AT, end_at.to_string()).status();
            let is_whole = ended.expect("a process").success();
            // The next start is killed too, at a different operation.
            let at = random.below(end_at + 1).to_string();
            let again = start(&damaged).env(END_AT, at).status();
            again.expect("a process");
            let (spool, thread) = Spool::open(small_generations(&damaged)).expect("open");
            let (chunks, lost) = read_all(&spool).await;
            assert!(chunks == expected, "ended at {end_at}: other chunks");
            let firsts: Vec<Sequence> = lost.iter().map(|range| range.first).collect();
            assert_eq!(firsts, gone, "ended at {end_at}");
            close(thread);
            if is_whole {
                break;
            }
            end_at += 1;
        }
        println!("{end_at} operations of a start");
        assert!(end_at > 10, "{end_at} operations");
    }
}

/// First sequences of the chunks in a file.
fn verify_all(file: &Path) -> Vec<Sequence> {
    let bytes = std::fs::read(file).expect("the file");
    let mut found: Vec<Sequence> = memchr::memmem::find_iter(&bytes, &MAGIC)
        .filter_map(|at| Some(verify(&bytes[at..]).ok()?.first))
        .collect();
    found.sort();
    found.dedup();
    found
}
