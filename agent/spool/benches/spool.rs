//! Benchmark of the spool alone: one lane, 256 events per commit, each commit synced.
//!
//! `cargo bench -p linli-spool`. `memory` is /dev/shm, where a sync costs nothing, so it measures the spool's
//! own work; `disk` is the disk of /var/tmp. After the times it prints figures that a time does not show.
use divan::Bencher;
use divan::counter::ItemsCount;
use linli_shared::protocol::chunk::Packed;
use linli_shared::protocol::event::{Draft, PlaceDraft};
use linli_shared::protocol::ids::{BootId, Lane, Retention, Sequence};
use linli_spool::{EventKey, Item, Progress, Settings, Spool, SpoolThread, WhenFull};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Events per commit.
const COMMIT: u64 = 256;
/// Number of events for the figures.
const MANY: u64 = 1_000_000;
const PLACES: [(&str, &str); 2] = [("memory", "/dev/shm"), ("disk", "/var/tmp")];

fn main() {
    divan::main();
    println!();
    for (name, place) in PLACES {
        figures(name, place);
    }
}

fn settings(directory: &Path) -> Settings {
    Settings {
        directory: directory.join("routine"),
        lane: Lane::Routine,
        generation_bytes: 4 << 20,
        quota_bytes: 4 << 30,
        free_bytes_min: 0,
        seen_max: 100_000,
        when_full: WhenFull::Refuse,
        progress: Progress::default(),
    }
}

/// An event of about 400 bytes before it is packed.
fn event<'a>(number: u64, id: &'a str, device: &'a str, credential: &'a str) -> Draft<'a> {
    Draft {
        kind: "door.opened",
        occurred_at_ms: 1_800_000_000_000 + number as i64 * 50,
        received_at_ms: 1_800_000_000_100 + number as i64 * 50,
        source: "doors",
        source_id: id,
        device,
        place: PlaceDraft {
            building: "B012",
            unit: "U1",
            address: "",
        },
        attributes: vec![
            ("credential", credential),
            ("direction", "in"),
            ("firmware", "V3.2.1 build 230714"),
            (
                "text",
                "access point 112 reports a regular passage, lock 3 released",
            ),
            ("verify", "card"),
        ],
        ..Draft::default()
    }
}

struct Bench {
    runtime: Runtime,
    spool: Spool,
    thread: SpoolThread,
    directory: TempDir,
    numbers: u64,
}

impl Bench {
    fn new(place: &str) -> Self {
        let directory = TempDir::new_in(place).expect("a directory");
        let (spool, thread) = Spool::open(settings(directory.path())).expect("open");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        Self {
            runtime,
            spool,
            thread,
            directory,
            numbers: 0,
        }
    }

    /// The events of one commit.
    fn events(&mut self) -> (Packed, Vec<EventKey>) {
        let mut packed = Packed::default();
        let mut keys = Vec::new();
        for _ in 0..COMMIT {
            let number = self.numbers;
            self.numbers += 1;
            let id = format!("{number:010}");
            let device = format!("door-{:04}", number % 200);
            let credential = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let event = event(number, &id, &device, &credential);
            packed.push(&event).expect("an event within the limits");
            keys.push(EventKey::of(&event));
        }
        (packed, keys)
    }

    fn append(&self, (packed, keys): (Packed, Vec<EventKey>)) {
        let appended = self
            .runtime
            .block_on(
                self.spool
                    .append(Retention::Access, BootId(1), 1, packed, keys),
            )
            .expect("stored");
        assert_eq!(appended.stored as u64, COMMIT);
    }

    fn ack(&self, next: u64) {
        self.runtime.block_on(self.spool.ack(Sequence(next)));
    }
}

#[divan::bench(args = PLACES.map(|(name, _)| name))]
fn append(bencher: Bencher<'_, '_>, name: &str) {
    let place = PLACES.iter().find(|place| place.0 == name);
    let bench = std::cell::RefCell::new(Bench::new(place.expect("one of the places").1));
    bencher
        .counter(ItemsCount::new(COMMIT))
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            // Older events are acknowledged after a few generations, as on a link that keeps up.
            if bench.numbers > MANY {
                bench.ack(bench.numbers - MANY);
            }
            bench.events()
        })
        .bench_local_values(|events| bench.borrow().append(events));
}

/// The key of an event.
#[divan::bench]
fn key(bencher: Bencher<'_, '_>) {
    let event = event(7, "0000000007", "door-0007", "9e3779b97f4a7c15");
    bencher
        .counter(ItemsCount::new(1_u64))
        .bench_local(|| EventKey::of(divan::black_box(&event)));
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let mut bench = Bench::new(PLACES[0].1);
    for _ in 0..400 {
        let events = bench.events();
        bench.append(events);
    }
    let end = bench.numbers;
    bencher.counter(ItemsCount::new(end)).bench_local(|| {
        let mut from = Sequence(0);
        while from.0 < end {
            for item in bench.runtime.block_on(bench.spool.read(from, 64 * 1024)) {
                let Item::Chunk(chunk) = item else {
                    panic!("nothing is lost")
                };
                from = chunk.header().end();
            }
        }
    });
}

/// CPU time of this process and all its threads.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn bytes_below(directory: &Path) -> u64 {
    std::fs::read_dir(directory)
        .expect("a directory")
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A million events: rate, CPU time, disk space and the time to open them again.
fn figures(name: &str, place: &str) {
    let mut bench = Bench::new(place);
    let mut payload_bytes = 0;
    let (mut busy, mut used) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..MANY / COMMIT {
        let events = bench.events();
        payload_bytes += events.0.clone().into_bytes().len() as u64;
        let (started, before) = (Instant::now(), cpu());
        bench.append(events);
        busy += started.elapsed();
        used += cpu() - before;
    }
    let held_bytes = bytes_below(&bench.directory.path().join("routine"));
    let syncs = bench.spool.status().borrow().syncs;
    let Bench {
        runtime,
        spool,
        thread,
        directory,
        numbers,
    } = bench;
    drop(spool);
    thread.close();
    let started = Instant::now();
    let (spool, thread) = Spool::open(settings(directory.path())).expect("open again");
    let opened = started.elapsed();
    assert_eq!(spool.status().borrow().next, Sequence(numbers));
    runtime.block_on(spool.ack(Sequence(numbers)));
    thread.close();
    let left = std::fs::read_dir(directory.path().join("routine"))
        .expect("the lane")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("g-"))
        .count();
    println!(
        "{name}: {:.0} events/s, {:.2} µs of CPU an event, {:.2} syncs a commit, {:.2} bytes of disk a \
         packed byte held, {numbers} events opened again in {:.2} s, {left} generations left after all \
         is acknowledged",
        numbers as f64 / busy.as_secs_f64(),
        used.as_secs_f64() * 1e6 / numbers as f64,
        syncs as f64 / (numbers / COMMIT) as f64,
        held_bytes as f64 / payload_bytes as f64,
        opened.as_secs_f64(),
    );
}
