//! Ingest by itself: decoding, correlation with the shipped rules, and one synced transaction for what
//! has gathered. `cargo bench -p linli-hub --bench ingest`; `memory` is /dev/shm, `disk` is /var/tmp.
use divan::Bencher;
use divan::counter::ItemsCount;
use linli_domain::correlate;
use linli_hub::health::Health;
use linli_hub::ingest::Reply;
use linli_hub::ingest::metrics::IngestMetrics;
use linli_hub::{case_policy, clock_watch, ingest};
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::{Draft, PlaceDraft};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use linli_shared::service::metrics::Registrar;
use linli_store::positions::LaneKey;
use linli_store::{self as store, sealed};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Events of one measurement.
const EVENTS: usize = 100_000;
/// Chunks of one arrival, as an agent's batch of 64 KiB has.
const ARRIVAL_CHUNKS: usize = 10;
/// Arrivals that are with the writer at once.
const WAITING: usize = 16;
const PLACES: [(&str, &str); 2] = [("memory", "/dev/shm"), ("disk", "/var/tmp")];

/// Events that a start finds in the store.
const STORED: usize = 1_000_000;

/// What cases are worked by, with a key of its own.
fn work() -> case_policy::CasePolicy {
    let directory = tempfile::tempdir().expect("a directory");
    sealed::init(directory.path()).expect("a key");
    let sealer = sealed::Sealer::load(directory.path()).expect("the key");
    case_policy::CasePolicy::new(Default::default(), Arc::new(sealer))
}

fn main() {
    start();
    divan::main();
}

/// How long a start takes with a million events of the last days, which a rule wants to see again.
fn start() {
    let mut bench = Bench::new("/var/tmp");
    for _ in 0..STORED / EVENTS {
        let chunks = bench.chunks();
        bench.runtime.block_on(bench.bring(chunks));
    }
    let path = bench.directory.path().join("hub.db");
    let started = std::time::Instant::now();
    bench.runtime.block_on(async {
        let store = store::Store::open(&store::Place::Sqlite(path.clone()), false)
            .await
            .expect("a store");
        let (_ingest, inbox) = ingest::Ingest::channel();
        let metrics = IngestMetrics::register(&Registrar::default()).expect("figures");
        let writer = ingest::Writer::open(
            &store,
            rules(),
            Default::default(),
            work(),
            inbox,
            metrics.clone(),
            (&Default::default(), clock_watch::ClockWatch::channel().0),
        )
        .await;
        drop(writer.expect("a writer"));
    });
    println!(
        "start: {STORED} stored events seen again in {:.2} s",
        started.elapsed().as_secs_f64()
    );
}

fn rules() -> Vec<Arc<correlate::rule::Rule>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/rules");
    let routes = ["duty-centre", "property", "office", "mediation", "police"];
    let vocabulary = correlate::rule::Vocabulary {
        routes: routes.map(str::to_owned).into(),
        ..Default::default()
    };
    let rules = correlate::rule::load_directory(&directory, &vocabulary).expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

struct Bench {
    runtime: Runtime,
    ingest: ingest::Ingest,
    next: u64,
    /// Its events begin then, milliseconds since 1970 UTC.
    begin_ms: i64,
    directory: TempDir,
}

impl Bench {
    fn new(place: &str) -> Self {
        let directory = TempDir::new_in(place).expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (ingest, inbox) = ingest::Ingest::channel();
        runtime.block_on(async {
            let path = directory.path().join("hub.db");
            let store = store::Store::open(&store::Place::Sqlite(path.clone()), true)
                .await
                .expect("a store");
            let metrics = IngestMetrics::register(&Registrar::default()).expect("figures");
            let writer = ingest::Writer::open(
                &store,
                rules(),
                Default::default(),
                work(),
                inbox,
                metrics,
                (&Default::default(), clock_watch::ClockWatch::channel().0),
            )
            .await
            .expect("a writer");
            tokio::spawn(writer.run(Health::default().part("writer")));
        });
        Self {
            runtime,
            ingest,
            next: 0,
            begin_ms: linli_shared::service::clock::wall_ms() - 3 * 86_400_000,
            directory,
        }
    }

    /// The chunks of the next events, as an agent makes them.
    fn chunks(&mut self) -> Vec<Chunk> {
        let mut packed = Packed::default();
        for offset in 0..EVENTS as u64 {
            let number = self.next + offset;
            let id = format!("{number:010}");
            let device = format!("door-{:04}", number % 200);
            let credential = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let event = Draft {
                kind: if (number / 200).is_multiple_of(2) {
                    "door.opened"
                } else {
                    "door.closed"
                },
                occurred_at_ms: self.begin_ms + number as i64 * 50,
                received_at_ms: self.begin_ms + 100 + number as i64 * 50,
                source: "doors",
                source_id: &id,
                device: &device,
                place: PlaceDraft {
                    building: "B012",
                    unit: "U1",
                    address: "",
                },
                attributes: vec![
                    ("credential", credential.as_str()),
                    ("direction", "in"),
                    ("verify", "card"),
                ],
                ..Draft::default()
            };
            packed.push(&event).expect("an event within the limits");
        }
        let run = Run {
            lane: Lane::Routine,
            retention: Retention::Access,
            epoch: Epoch(1),
            first: Sequence(self.next),
            boot: BootId(1),
        };
        let mut chunks = Vec::new();
        ChunkBuilder::new()
            .and_then(|mut builder| builder.build(run, &packed, &mut chunks))
            .expect("events within the limits");
        self.next += EVENTS as u64;
        chunks
    }

    /// Brings chunks as a session does, and waits until the last is durable.
    async fn bring(&self, chunks: Vec<Chunk>) {
        let key = LaneKey {
            agent: "gw-1".parse().expect("a name"),
            lane: Lane::Routine,
            epoch: Epoch(1),
        };
        let site: linli_shared::protocol::ids::SiteId = "yuyuan".parse().expect("a name");
        let offsets = Arc::new(ingest::ClockOffsets::default());
        let mut answers: VecDeque<oneshot::Receiver<_>> = VecDeque::new();
        for batch in chunks.chunks(ARRIVAL_CHUNKS) {
            let place = self
                .ingest
                .place(&key.agent, Lane::Routine)
                .await
                .expect("the writer");
            let decoded = batch.iter().map(|chunk| ingest::Decoded {
                events: Ok(chunk.events().expect("whole")),
                chunk: chunk.clone(),
            });
            let (reply, answer) = Reply::channel();
            place.send(ingest::Request::Arrive {
                key: key.clone(),
                site: site.clone(),
                offsets: offsets.clone(),
                arrival: ingest::Arrival::Batch(decoded.collect()),
                reply,
            });
            answers.push_back(answer);
            if answers.len() == WAITING
                && let Some(answer) = answers.pop_front()
            {
                answer.await.expect("an answer").expect("stored");
            }
        }
        for answer in answers {
            answer.await.expect("an answer").expect("stored");
        }
    }
}

#[divan::bench(args = PLACES.map(|(name, _)| name), sample_count = 20)]
fn bring(bencher: Bencher<'_, '_>, name: &str) {
    let place = PLACES.iter().find(|place| place.0 == name);
    let bench = std::cell::RefCell::new(Bench::new(place.expect("one of the places").1));
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| bench.borrow_mut().chunks())
        .bench_local_values(|chunks| {
            let bench = bench.borrow();
            bench.runtime.block_on(bench.bring(chunks));
        });
}
