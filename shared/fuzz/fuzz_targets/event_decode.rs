//! The CBOR of an event, alone and in a sequence: no panic, and every decoded event passes through a chunk
//! unchanged.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_shared::protocol::chunk::{BuildError, ChunkBuilder, Packed, Run};
use linli_shared::protocol::codec;
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use std::cell::RefCell;

thread_local! {
    static BUILDER: RefCell<ChunkBuilder> =
        RefCell::new(ChunkBuilder::new().expect("zstd gives a context"));
}

const RUN: Run = Run {
    lane: Lane::Routine,
    retention: Retention::Standard,
    epoch: Epoch(1),
    first: Sequence(2),
    boot: BootId(3),
};

fuzz_target!(|data: &[u8]| {
    let Ok(events) = codec::decode_sequence::<Event>("event", data, 256) else {
        return;
    };
    let mut packed = Packed::default();
    let mut kept = Vec::new();
    for event in events {
        let written = codec::encode("event", &event).expect("what was read can be written");
        let read: Event = codec::decode("event", &written).expect("our own event");
        assert_eq!(read, event);
        match packed.push(&event.draft()) {
            Ok(()) => kept.push(event),
            Err(BuildError::Event(_) | BuildError::TooLarge { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let mut chunks = Vec::new();
    BUILDER.with_borrow_mut(|builder| {
        builder
            .build(RUN, &packed, &mut chunks)
            .expect("packed events always fit");
    });
    let found: Vec<Event> = chunks
        .iter()
        .flat_map(|chunk| chunk.events().expect("a built chunk holds its events"))
        .collect();
    assert_eq!(found, kept);
});
