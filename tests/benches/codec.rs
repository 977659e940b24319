//! The codec on the way of an event: 256 events at a time, as the spool commits them.
use divan::Bencher;
use divan::counter::ItemsCount;
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::{Event, Place};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};

const EVENTS: usize = 256;

fn main() {
    divan::main();
}

fn events() -> Vec<Event> {
    (0..EVENTS as u64)
        .map(|number| Event {
            kind: "door.opened".to_owned(),
            occurred_at_ms: 1_800_000_000_000 + number as i64 * 50,
            received_at_ms: 1_800_000_000_100 + number as i64 * 50,
            source: "doors".to_owned(),
            source_id: format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            device: format!("door-{:04}", number % 200),
            place: Place {
                building: format!("B{:03}", number % 40),
                unit: "U1".to_owned(),
                ..Place::default()
            },
            attributes: [("verify", "card"), ("direction", "in")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Event::default()
        })
        .collect()
}

fn packed() -> Packed {
    let mut packed = Packed::default();
    for event in events() {
        packed
            .push(&event.draft())
            .expect("an event within the limits");
    }
    packed
}

fn build(builder: &mut ChunkBuilder, packed: &Packed) -> Vec<Chunk> {
    let run = Run {
        lane: Lane::Routine,
        retention: Retention::Access,
        epoch: Epoch(1),
        first: Sequence(0),
        boot: BootId(1),
    };
    let mut chunks = Vec::new();
    builder
        .build(run, packed, &mut chunks)
        .expect("events within the limits");
    chunks
}

#[divan::bench]
fn pack(bencher: Bencher<'_, '_>) {
    let events = events();
    let mut packed = Packed::default();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        packed.clear();
        for event in &events {
            packed
                .push(&event.draft())
                .expect("an event within the limits");
        }
        packed.len()
    });
}

#[divan::bench]
fn build_chunks(bencher: Bencher<'_, '_>) {
    let packed = packed();
    let mut builder = ChunkBuilder::new().expect("a compressor");
    bencher
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| build(&mut builder, &packed));
}

#[divan::bench]
fn verify_and_decode(bencher: Bencher<'_, '_>) {
    let mut builder = ChunkBuilder::new().expect("a compressor");
    let chunks = build(&mut builder, &packed());
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        chunks
            .iter()
            .map(|chunk| {
                Chunk::parse(chunk.bytes())
                    .and_then(|chunk| chunk.events())
                    .expect("a good chunk")
                    .len()
            })
            .sum::<usize>()
    });
}
