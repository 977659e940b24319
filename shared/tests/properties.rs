//! Properties of the protocol over random input: input survives a round trip, damaged input is refused and
//! never misread, and every limit is enforced before memory is spent.
use bytes::{BufMut, Bytes, BytesMut};
use linli_shared::protocol::chunk::{
    self, BuildError, Chunk, ChunkBuilder, ChunkError, HEADER_BYTES, Packed, Run,
};
use linli_shared::protocol::codec;
use linli_shared::protocol::event::{ClockQuality, Delivery, Event, EventError, Place, Severity};
use linli_shared::protocol::frame::{
    self, Ack, CaseStatus, ClockAnchor, Command, Frame, FrameError, Heartbeat, Hello, Join, Joined,
    LaneOpen, LanePosition, Lost, Refuse, SpoolFigures, Welcome, kind,
};
use linli_shared::protocol::ids::{AgentId, BootId, Epoch, Lane, Retention, Sequence, SiteId};
use linli_shared::protocol::limits::{
    ANCHORS_MAX, ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, BATCH_BYTES_MAX, CHUNK_BYTES_MAX,
    CHUNK_EVENTS_MAX, CHUNK_RAW_BYTES_MAX, CONTROL_BYTES_MAX, EVENT_BYTES_MAX, NAME_BYTES_MAX,
    RAW_BYTES_MAX,
};
use linli_shared::protocol::token::JoinToken;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Shrinking is bounded: inputs here are large, and a failure must be reported within minutes.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    }
}

/// Incompressible bytes (xorshift64*), cheap to generate and to shrink.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        })
        .collect()
}

/// Text of at most `bytes` bytes that hardly compresses, with characters of one to three bytes.
fn noise_text(seed: u64, bytes: usize) -> String {
    let mut text = String::new();
    for pair in noise(seed, bytes * 2).chunks_exact(2) {
        let letter = match u32::from(pair[0]) % 3 {
            0 => char::from(b'!' + pair[1] % 90),
            1 => char::from_u32(0xc0 + u32::from(pair[1])).unwrap_or('é'),
            _ => char::from_u32(0x4e00 + u32::from(pair[1]) * 64).unwrap_or('门'),
        };
        if text.len() + letter.len_utf8() > bytes {
            break;
        }
        text.push(letter);
    }
    text
}

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    (any::<u64>(), 0..=bytes_max).prop_map(|(seed, bytes)| noise_text(seed, bytes))
}

fn kinds() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("door.opened".to_owned()),
        "[a-z][a-z0-9_]{0,14}(\\.[a-z][a-z0-9_]{0,14}){1,3}",
    ]
}

fn clocks() -> impl Strategy<Value = ClockQuality> {
    (0..=8_u8).prop_map(ClockQuality::from)
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    (0..=2_u8).prop_map(Delivery::from)
}

fn severities() -> impl Strategy<Value = Severity> {
    (0..=4_u8).prop_map(Severity::from)
}

fn places() -> impl Strategy<Value = Place> {
    let part = || {
        prop_oneof![
            2 => Just(String::new()),
            1 => text(NAME_BYTES_MAX),
        ]
    };
    (part(), part(), part()).prop_map(|(building, unit, address)| Place {
        building,
        unit,
        address,
    })
}

/// Typical events of sources: short and similar.
fn usual_event() -> impl Strategy<Value = Event> {
    (kinds(), any::<u32>(), severities(), places()).prop_map(|(kind, ms, severity, place)| Event {
        kind,
        occurred_at_ms: 1_767_225_600_000 + i64::from(ms),
        received_at_ms: 1_767_225_600_000 + i64::from(ms),
        severity,
        source: "doors".to_owned(),
        device: "south-gate".to_owned(),
        place,
        ..Event::default()
    })
}

/// Everything that the event model permits, up to each limit and beyond the size of a chunk.
fn any_event() -> impl Strategy<Value = Event> {
    let names = (
        text(NAME_BYTES_MAX),
        text(NAME_BYTES_MAX),
        text(NAME_BYTES_MAX),
    );
    let attributes = btree_map(
        text(24),
        prop_oneof![text(60), text(ATTRIBUTE_BYTES_MAX)],
        0..=10,
    );
    let raw = proptest::option::of(
        (any::<u64>(), 0..=RAW_BYTES_MAX).prop_map(|(seed, bytes)| noise(seed, bytes)),
    );
    (
        (kinds(), any::<i64>(), any::<i64>(), clocks(), severities()),
        names,
        places(),
        proptest::option::of(any::<u64>()),
        attributes,
        raw,
        proptest::option::of(text(NAME_BYTES_MAX)),
        (proptest::option::of(any::<i64>()), deliveries()),
    )
        .prop_map(
            |(
                (kind, occurred_at_ms, received_at_ms, clock, severity),
                (source, source_id, device),
                place,
                monotonic_ms,
                attributes,
                raw,
                media,
                (device_time_ms, delivery),
            )| Event {
                kind,
                occurred_at_ms,
                received_at_ms,
                clock,
                severity,
                source,
                source_id,
                device,
                place,
                monotonic_ms,
                attributes,
                raw: raw.map(Into::into),
                media,
                device_time_ms,
                delivery,
            },
        )
}

/// One submission: similar events, mixed ones, or all noise.
fn submission() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        2 => vec(usual_event(), 1..40),
        1 => (usual_event(), 200..900_usize).prop_map(|(event, times)| vec![event; times]),
        2 => vec(any_event(), 1..12),
        2 => vec(prop_oneof![6 => usual_event(), 1 => any_event()], 1..60),
    ]
}

fn runs() -> impl Strategy<Value = Run> {
    (
        0..Lane::ALL.len(),
        0..Retention::ALL.len(),
        any::<u64>(),
        0..u64::MAX / 2,
        any::<u128>(),
    )
        .prop_map(|(lane, retention, epoch, first, boot)| Run {
            lane: Lane::ALL[lane],
            retention: Retention::ALL[retention],
            epoch: Epoch(epoch),
            first: Sequence(first),
            boot: BootId(boot),
        })
}

/// Pushes the events that fit; returns them.
fn pushed(events: Vec<Event>, packed: &mut Packed) -> Vec<Event> {
    let mut kept = Vec::new();
    for event in events {
        let before = packed.len();
        match packed.push(&event.draft()) {
            Ok(()) => kept.push(event),
            Err(BuildError::TooLarge { bytes }) => {
                assert!(bytes > EVENT_BYTES_MAX, "{bytes} bytes would have fitted");
                assert_eq!(packed.len(), before);
            }
            Err(other) => panic!("the event model allows it, yet: {other}"),
        }
    }
    kept
}

fn built(run: Run, events: &[Event]) -> Vec<Chunk> {
    let mut packed = Packed::default();
    for event in events {
        packed.push(&event.draft()).expect("the event is small");
    }
    let mut chunks = Vec::new();
    ChunkBuilder::new()
        .expect("zstd gives a context")
        .build(run, &packed, &mut chunks)
        .expect("packed events always fit");
    chunks
}

fn plain_run() -> Run {
    Run {
        lane: Lane::Routine,
        retention: Retention::Access,
        epoch: Epoch(3),
        first: Sequence(100),
        boot: BootId(5),
    }
}

fn door_event(minute: i64) -> Event {
    Event {
        kind: "door.opened".to_owned(),
        occurred_at_ms: 1_767_225_600_000 + minute * 60_000,
        received_at_ms: 1_767_225_600_000 + minute * 60_000,
        source: "doors".to_owned(),
        ..Event::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// One builder packs several submissions, so that the ratio learnt from one misleads it at the next.
    #[test]
    fn events_come_out_of_chunks_as_they_went_in(
        run in runs(),
        submissions in vec(submission(), 1..4),
    ) {
        let mut builder = ChunkBuilder::new().expect("zstd gives a context");
        for events in submissions {
            let mut packed = Packed::default();
            let kept = pushed(events, &mut packed);
            prop_assert_eq!(packed.len(), kept.len());
            let mut chunks = Vec::new();
            builder.build(run, &packed, &mut chunks).expect("packed events always fit");

            let mut next = run.first;
            let mut found = Vec::new();
            for chunk in &chunks {
                prop_assert!(chunk.bytes().len() <= CHUNK_BYTES_MAX);
                // Bytes behind a chunk in a buffer are ignored.
                let mut stored = chunk.bytes().to_vec();
                stored.extend_from_slice(b"LLc1 and more");
                let parsed = Chunk::parse(&stored.into()).expect("a built chunk is a chunk");
                prop_assert_eq!(&parsed, chunk);
                let header = parsed.header();
                prop_assert_eq!(header.first, next);
                prop_assert_eq!(
                    (header.lane, header.retention, header.epoch, header.boot),
                    (run.lane, run.retention, run.epoch, run.boot)
                );
                prop_assert!((1..=CHUNK_EVENTS_MAX).contains(&usize::from(header.count)));
                let events = parsed.events().expect("a built chunk holds its events");
                prop_assert_eq!(events.len(), usize::from(header.count));
                next = header.end();
                found.extend(events);
            }
            prop_assert_eq!(next, run.first.plus(kept.len() as u64));
            prop_assert_eq!(found, kept);
        }
    }

    #[test]
    fn packed_events_can_be_joined_and_picked(
        left in vec(usual_event(), 0..20),
        right in vec(usual_event(), 0..20),
        wanted in vec(any::<bool>(), 0..30),
    ) {
        let (mut one, mut other) = (Packed::default(), Packed::default());
        pushed(left.clone(), &mut one);
        pushed(right.clone(), &mut other);
        let mut picked = Packed::default();
        picked.append_where(&other, &wanted);
        one.append(&other);
        one.append(&picked);

        let mut expected = left;
        expected.extend(right.iter().cloned());
        expected.extend(
            right.into_iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(event, _)| event),
        );
        prop_assert_eq!(one.len(), expected.len());
        prop_assert_eq!(one.is_empty(), expected.is_empty());
        let mut chunks = Vec::new();
        ChunkBuilder::new()
            .expect("zstd gives a context")
            .build(plain_run(), &one, &mut chunks)
            .expect("packed events always fit");
        let found: Vec<Event> = chunks
            .iter()
            .flat_map(|chunk| chunk.events().expect("a built chunk holds its events"))
            .collect();
        prop_assert_eq!(found, expected);
        one.clear();
        prop_assert!(one.is_empty());
    }

    #[test]
    fn a_cut_chunk_is_refused(events in vec(usual_event(), 1..20), cut in any::<prop::sample::Index>()) {
        for chunk in built(plain_run(), &events) {
            let at = cut.index(chunk.bytes().len());
            prop_assert!(
                matches!(
                    Chunk::parse(&chunk.bytes().slice(..at)),
                    Err(ChunkError::Cut { have, want }) if have == at && want > at
                ),
                "cut at {}", at
            );
        }
    }

    #[test]
    fn a_chunk_with_overwritten_bytes_is_refused(
        events in vec(any_event(), 1..4),
        at in any::<prop::sample::Index>(),
        noise in vec(any::<u8>(), 1..32),
    ) {
        let mut packed = Packed::default();
        pushed(events, &mut packed);
        let mut chunks = Vec::new();
        ChunkBuilder::new()
            .expect("zstd gives a context")
            .build(plain_run(), &packed, &mut chunks)
            .expect("packed events always fit");
        for chunk in chunks {
            let mut damaged = chunk.bytes().to_vec();
            let at = at.index(damaged.len());
            for (byte, noise) in damaged[at..].iter_mut().zip(&noise) {
                *byte = *noise;
            }
            if damaged != chunk.bytes()[..] {
                prop_assert!(Chunk::parse(&damaged.into()).is_err());
            }
        }
    }

    /// A sender with a correct checksum and a nonsensical payload.
    #[test]
    fn nonsense_under_a_good_checksum_is_refused_without_a_panic(
        payload in vec(any::<u8>(), 1..400),
        compressed in any::<bool>(),
        events in 1..=CHUNK_EVENTS_MAX as u16,
        raw_bytes in 0..=CHUNK_RAW_BYTES_MAX as u32,
    ) {
        let raw_bytes = if compressed { raw_bytes } else { payload.len() as u32 };
        let chunk = Chunk::parse(&crafted(compressed, events, raw_bytes, &payload))
            .expect("header and checksum are good");
        if let Ok(events) = chunk.events() {
            prop_assert!(events.iter().all(|event| event.check().is_ok()));
        }
    }

    /// Flips bits of valid CBOR under a correct checksum: every event that is read satisfies the event model.
    #[test]
    fn damaged_events_under_a_good_checksum_keep_the_model(
        event in any_event(),
        flips in vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
    ) {
        let mut payload = codec::encode("event", &event).expect("plain values are CBOR");
        prop_assume!(payload.len() <= EVENT_BYTES_MAX);
        for (at, bit) in flips {
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
        }
        let bytes = crafted(false, 1, payload.len() as u32, &payload);
        let chunk = Chunk::parse(&bytes).expect("header and checksum are good");
        if let Ok(events) = chunk.events() {
            prop_assert_eq!(events.len(), 1);
            prop_assert_eq!(events[0].check(), Ok(()));
        }
    }

    #[test]
    fn garbage_is_no_chunk(bytes in vec(any::<u8>(), 0..300), with_magic in any::<bool>()) {
        let mut bytes = bytes;
        if with_magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&chunk::MAGIC);
        }
        prop_assert!(Chunk::parse(&bytes.into()).is_err());
    }
}

/// A chunk with a valid header and a correct checksum around any payload.
fn crafted(compressed: bool, events: u16, raw_bytes: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_slice(&chunk::MAGIC);
    bytes.put_slice(&[1, 0, u8::from(compressed), 0]);
    bytes.put_u16(events);
    bytes.put_u16(payload.len() as u16);
    bytes.put_u32(raw_bytes);
    bytes.put_u64(7);
    bytes.put_u64(8);
    bytes.put_u128(9);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.put_u32(checksum);
    bytes.put_slice(payload);
    bytes.into()
}

#[test]
fn every_flipped_bit_of_a_chunk_is_found() {
    let small = built(plain_run(), &[door_event(0)]);
    let compressed = built(plain_run(), &(0..50).map(door_event).collect::<Vec<_>>());
    let noisy = built(
        plain_run(),
        &[Event {
            raw: Some(noise(1, RAW_BYTES_MAX).into()),
            ..door_event(0)
        }],
    );
    assert_eq!(
        (
            small[0].bytes()[6],
            compressed[0].bytes()[6],
            noisy[0].bytes()[6]
        ),
        (0, 1, 0),
        "plain, compressed, plain"
    );
    for chunk in small.iter().chain(&compressed).chain(&noisy) {
        let mut bytes = chunk.bytes().to_vec();
        // Bytes behind the chunk, so that a longer length in a damaged header finds data.
        bytes.extend_from_slice(&noise(2, 70_000));
        for bit in 0..chunk.bytes().len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = chunk::verify(&bytes);
            assert!(found.is_err(), "bit {bit} is flipped: {found:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(chunk::verify(&bytes).is_ok());
    }
}

#[test]
fn a_header_out_of_its_limits_is_refused_even_with_a_good_checksum() {
    let payload = codec::encode("event", &door_event(0)).expect("plain values are CBOR");
    let raw_bytes = payload.len() as u32;
    let good = crafted(false, 1, raw_bytes, &payload);
    assert!(Chunk::parse(&good).is_ok());
    let refused = |field: &str, at: usize, value: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..48]), &bytes[HEADER_BYTES..]);
        bytes[48..52].copy_from_slice(&checksum.to_be_bytes());
        match Chunk::parse(&bytes.into()) {
            Err(ChunkError::Header { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field} must be refused, not {other:?}"),
        }
    };
    refused("lane", 4, &[3]);
    refused("retention class", 5, &[3]);
    refused("codec", 6, &[2]);
    refused("events", 8, &[0, 0]);
    refused("events", 8, &257_u16.to_be_bytes());
    refused("payload bytes", 10, &[0, 0]);
    let payload_bytes_max = (CHUNK_BYTES_MAX - HEADER_BYTES) as u16;
    refused("payload bytes", 10, &(payload_bytes_max + 1).to_be_bytes());
    refused("raw bytes", 12, &(raw_bytes + 1).to_be_bytes());
    refused("raw bytes", 12, &u32::MAX.to_be_bytes());
    refused("first sequence", 24, &u64::MAX.to_be_bytes());
}

#[test]
fn a_payload_that_grows_beyond_its_header_is_refused() {
    let huge = vec![0_u8; 64 << 20];
    let bomb = zstd::bulk::compress(&huge, 19).expect("zstd compresses");
    assert!(
        bomb.len() < CHUNK_BYTES_MAX - HEADER_BYTES,
        "the bomb fits a chunk"
    );
    for raw_bytes in [0, 1, 1000, CHUNK_RAW_BYTES_MAX as u32] {
        let chunk = Chunk::parse(&crafted(true, 1, raw_bytes, &bomb)).expect("the header is good");
        assert!(
            matches!(chunk.events(), Err(ChunkError::Decompress(_))),
            "{raw_bytes}"
        );
    }
    let honest = crafted(true, 1, huge.len() as u32, &bomb);
    assert!(matches!(
        Chunk::parse(&honest),
        Err(ChunkError::Header {
            field: "raw bytes",
            ..
        })
    ));
}

#[test]
fn a_payload_of_another_size_than_its_header_is_refused() {
    let mut raw = Vec::new();
    for minute in 0..10 {
        raw.extend(codec::encode("event", &door_event(minute)).expect("plain values are CBOR"));
    }
    let compressed = zstd::bulk::compress(&raw, 1).expect("zstd compresses");
    let events = |events, raw_bytes| {
        Chunk::parse(&crafted(true, events, raw_bytes, &compressed))
            .expect("header and checksum are good")
            .events()
    };
    let raw_bytes = raw.len() as u32;
    assert_eq!(events(10, raw_bytes).expect("all is right").len(), 10);
    for wrong in [0, raw_bytes - 1, raw_bytes + 1] {
        assert!(
            matches!(events(10, wrong), Err(ChunkError::Decompress(_))),
            "{wrong}"
        );
    }
    for wrong in [1, 9, 11, 256] {
        assert!(
            matches!(events(wrong, raw_bytes), Err(ChunkError::Count { promised, .. }) if promised == usize::from(wrong)),
            "{wrong}"
        );
    }
}

#[test]
fn an_event_that_breaks_the_model_is_not_taken_from_a_chunk() {
    let bad = Event {
        kind: "Not A Kind".to_owned(),
        ..door_event(0)
    };
    let mut payload = codec::encode("event", &door_event(0)).expect("plain values are CBOR");
    payload.extend(codec::encode("event", &bad).expect("plain values are CBOR"));
    let chunk = Chunk::parse(&crafted(false, 2, payload.len() as u32, &payload))
        .expect("header and checksum are good");
    assert!(matches!(
        chunk.events(),
        Err(ChunkError::Event {
            sequence: Sequence(9),
            source: EventError::Kind(_)
        })
    ));
}

#[test]
fn an_event_at_the_limit_fits_and_a_larger_one_leaves_no_trace() {
    let with_padding = |bytes: usize| {
        let mut event = Event {
            raw: Some(noise(9, RAW_BYTES_MAX).into()),
            ..door_event(0)
        };
        // Three attributes share the padding, so that each stays within its own limit.
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let share = (bytes / 3) + usize::from(index < bytes % 3);
            event.attributes.insert(name.to_owned(), "x".repeat(share));
        }
        event
    };
    let encoded = |event: &Event| {
        codec::encode("event", event)
            .expect("plain values are CBOR")
            .len()
    };
    // All three shares are long enough for the same size of length prefix here.
    let padding = 2_700 + EVENT_BYTES_MAX - encoded(&with_padding(2_700));
    let (largest, too_large) = (with_padding(padding), with_padding(padding + 1));
    assert_eq!(encoded(&largest), EVENT_BYTES_MAX);
    assert_eq!((largest.check(), too_large.check()), (Ok(()), Ok(())));

    let mut packed = Packed::default();
    packed.push(&door_event(1).draft()).expect("a small event");
    assert!(matches!(
        packed.push(&too_large.draft()),
        Err(BuildError::TooLarge { bytes }) if bytes == EVENT_BYTES_MAX + 1
    ));
    let wrong = Event {
        kind: "Wrong".to_owned(),
        ..door_event(0)
    };
    assert!(matches!(
        packed.push(&wrong.draft()),
        Err(BuildError::Event(_))
    ));
    packed
        .push(&largest.draft())
        .expect("an event at the limit");
    packed.push(&door_event(2).draft()).expect("a small event");
    assert_eq!(packed.len(), 3);

    let mut chunks = Vec::new();
    ChunkBuilder::new()
        .expect("zstd gives a context")
        .build(plain_run(), &packed, &mut chunks)
        .expect("packed events always fit");
    let found: Vec<Event> = chunks
        .iter()
        .flat_map(|chunk| chunk.events().expect("a built chunk holds its events"))
        .collect();
    assert_eq!(found, [door_event(1), largest, door_event(2)]);
}

#[test]
fn each_limit_of_the_event_model_is_held_at_its_edge() {
    type Set = fn(&mut Event, String);
    let fields: [(&str, Set); 7] = [
        ("source", |event, value| event.source = value),
        ("source_id", |event, value| event.source_id = value),
        ("device", |event, value| event.device = value),
        ("building", |event, value| event.place.building = value),
        ("unit", |event, value| event.place.unit = value),
        ("address", |event, value| event.place.address = value),
        ("media", |event, value| event.media = Some(value)),
    ];
    for (name, set) in fields {
        let mut event = door_event(0);
        set(&mut event, "x".repeat(NAME_BYTES_MAX));
        assert_eq!(event.check(), Ok(()), "{name}");
        set(&mut event, "x".repeat(NAME_BYTES_MAX + 1));
        assert!(
            matches!(event.check(), Err(EventError::TooLong { field, .. }) if field == name),
            "{name}"
        );
    }
    let with_attribute = |key: usize, value: usize| Event {
        attributes: [("k".repeat(key), "v".repeat(value))].into(),
        ..door_event(0)
    };
    assert_eq!(
        with_attribute(NAME_BYTES_MAX, ATTRIBUTE_BYTES_MAX).check(),
        Ok(())
    );
    assert!(with_attribute(NAME_BYTES_MAX + 1, 1).check().is_err());
    assert!(with_attribute(1, ATTRIBUTE_BYTES_MAX + 1).check().is_err());
    let with_attributes = |count: usize| Event {
        attributes: (0..count)
            .map(|key| (key.to_string(), String::new()))
            .collect(),
        ..door_event(0)
    };
    assert_eq!(with_attributes(ATTRIBUTES_MAX).check(), Ok(()));
    assert_eq!(
        with_attributes(ATTRIBUTES_MAX + 1).check(),
        Err(EventError::Attributes(ATTRIBUTES_MAX + 1))
    );
    let with_raw = |bytes: usize| Event {
        raw: Some(vec![0; bytes].into()),
        ..door_event(0)
    };
    assert_eq!(with_raw(RAW_BYTES_MAX).check(), Ok(()));
    assert!(with_raw(RAW_BYTES_MAX + 1).check().is_err());
}

fn agents() -> impl Strategy<Value = AgentId> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}".prop_map(|name| name.parse().expect("the pattern is a name"))
}

fn sites() -> impl Strategy<Value = SiteId> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}".prop_map(|name| name.parse().expect("the pattern is a name"))
}

fn positions() -> impl Strategy<Value = Vec<LanePosition>> {
    let position = (any::<u8>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(lane, epoch, first, next)| LanePosition {
            lane,
            epoch: Epoch(epoch),
            first: Sequence(first),
            next: Sequence(next),
        },
    );
    vec(position, 0..5)
}

fn hellos() -> impl Strategy<Value = Frame> {
    let anchor = (any::<u128>(), any::<i64>()).prop_map(|(boot, offset_ms)| ClockAnchor {
        boot: BootId(boot),
        offset_ms,
    });
    (
        (any::<u16>(), any::<u16>(), agents(), sites(), any::<u128>()),
        (text(64), any::<u64>(), any::<i64>(), any::<bool>()),
        vec(anchor, 0..=ANCHORS_MAX),
        positions(),
    )
        .prop_map(
            |(
                (version, version_min, agent, site, boot),
                (software, monotonic_ms, wall_ms, wall_set),
                anchors,
                lanes,
            )| {
                Frame::Hello(Hello {
                    version,
                    version_min,
                    agent,
                    site,
                    boot: BootId(boot),
                    software,
                    monotonic_ms,
                    wall_ms,
                    wall_set,
                    anchors,
                    lanes,
                    case_status_stored: monotonic_ms.is_multiple_of(2).then_some(monotonic_ms),
                })
            },
        )
}

fn heartbeats() -> impl Strategy<Value = Frame> {
    let figures = (any::<u8>(), any::<u64>(), any::<u64>(), any::<i64>()).prop_map(
        |(lane, events, bytes, oldest_ms)| SpoolFigures {
            lane,
            events,
            bytes,
            oldest_ms,
        },
    );
    let stored = proptest::option::of(any::<u64>());
    (any::<i64>(), any::<i64>(), vec(figures, 0..4), stored).prop_map(
        |(wall_ms, watermark_ms, spool, case_status_stored)| {
            Frame::Heartbeat(Heartbeat {
                wall_ms,
                watermark_ms,
                spool,
                case_status_stored,
            })
        },
    )
}

fn batches() -> impl Strategy<Value = Frame> {
    (runs(), vec(submission(), 0..2)).prop_map(|(run, submissions)| {
        let mut packed = Packed::default();
        for events in submissions {
            pushed(events, &mut packed);
        }
        let mut chunks = Vec::new();
        ChunkBuilder::new()
            .expect("zstd gives a context")
            .build(run, &packed, &mut chunks)
            .expect("packed events always fit");
        chunks.truncate(BATCH_BYTES_MAX / CHUNK_BYTES_MAX);
        Frame::Batch(chunks)
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    let statuses = (
        (any::<u64>(), text(40), text(40), text(40), text(40)),
        any::<i64>(),
        text(2048),
        text(16),
    )
        .prop_map(
            |((id, case, source, source_id, state), at_ms, text, kind)| {
                Frame::CaseStatus(CaseStatus {
                    id,
                    case,
                    source,
                    source_id,
                    state,
                    at_ms,
                    text,
                    kind,
                })
            },
        );
    let joins = (text(64), text(128), agents(), text(4096), any::<i64>()).prop_map(
        |(token_id, token_secret, agent, csr_pem, wall_ms)| {
            Frame::Join(Join {
                token_id,
                token_secret,
                agent,
                csr_pem,
                wall_ms,
            })
        },
    );
    let joineds = (text(4096), text(4096), sites(), vec(text(60), 0..4)).prop_map(
        |(certificate_pem, root_pem, site, hubs)| {
            Frame::Joined(Joined {
                certificate_pem,
                root_pem,
                site,
                hubs,
            })
        },
    );
    prop_oneof![
        hellos(),
        (
            any::<u16>(),
            text(64),
            any::<i64>(),
            any::<u64>(),
            positions(),
            any::<bool>(),
        )
            .prop_map(
                |(version, software, hub_ms, heartbeat_ms, lanes, clock_doubtful)| Frame::Welcome(
                    Welcome {
                        version,
                        software,
                        hub_ms,
                        heartbeat_ms,
                        lanes,
                        clock_doubtful,
                    }
                )
            ),
        (text(20), text(2048), any::<u64>()).prop_map(|(code, message, retry_ms)| {
            Frame::Refuse(Refuse {
                code,
                message,
                retry_ms,
            })
        }),
        heartbeats(),
        any::<u8>().prop_map(|lane| Frame::LaneOpen(LaneOpen { lane })),
        batches(),
        any::<u64>().prop_map(|next| Frame::Ack(Ack {
            next: Sequence(next)
        })),
        (any::<u64>(), any::<u64>(), text(20)).prop_map(|(first, end, reason)| {
            Frame::Lost(Lost {
                first: Sequence(first),
                end: Sequence(end),
                reason,
            })
        }),
        statuses,
        (any::<u64>(), text(64), text(2048)).prop_map(|(id, name, arguments)| {
            Frame::Command(Command {
                id,
                name,
                arguments,
            })
        }),
        joins,
        joineds,
        (13..=255_u8).prop_map(Frame::Unknown),
    ]
}

/// Takes all complete frames.
fn take_all(buffer: &mut BytesMut, out: &mut Vec<Frame>) {
    while let Some(frame) = frame::take(buffer).expect("the frames are good") {
        out.push(frame);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn frames_come_off_a_stream_as_they_were_put_on(
        frames in vec(frames(), 1..8),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend_from_slice(&frame.encode().expect("plain values are CBOR"));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());

        let (mut buffer, mut found, mut from) = (BytesMut::new(), Vec::new(), 0);
        for cut in cuts {
            buffer.extend_from_slice(&stream[from..cut]);
            from = cut;
            take_all(&mut buffer, &mut found);
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_taken_at_its_last_byte(frame in frames()) {
        let bytes = frame.encode().expect("plain values are CBOR");
        let mut buffer = BytesMut::new();
        for (index, byte) in bytes.iter().enumerate() {
            buffer.put_u8(*byte);
            let taken = frame::take(&mut buffer).expect("a cut frame is no error");
            if index + 1 < bytes.len() {
                prop_assert_eq!(taken, None);
                prop_assert_eq!(buffer.len(), index + 1, "nothing is taken too early");
            } else {
                prop_assert_eq!(taken.as_ref(), Some(&frame));
                prop_assert!(buffer.is_empty());
            }
        }
    }

    /// Frames have no checksum of their own, because the connection has one. Damage must never make the
    /// receiver panic, and damage inside a batch must never read as other events.
    #[test]
    fn a_damaged_frame_never_panics_and_never_gives_another_batch(
        frame in frames(),
        flips in vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
    ) {
        let mut bytes = frame.encode().expect("plain values are CBOR").to_vec();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(taken)) = frame::take(&mut buffer) {
            if let (Frame::Batch(sent), Frame::Batch(found)) = (&frame, &taken) {
                prop_assert!(found.iter().all(|chunk| sent.contains(chunk)));
            }
        }
    }

    #[test]
    fn garbage_on_a_stream_never_panics(bytes in vec(any::<u8>(), 0..400), number in 0..14_u8) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = frame::take(&mut buffer) {}
        // Also with a valid header before it.
        let mut buffer = BytesMut::new();
        buffer.put_slice(&[number, 0, 0, 0]);
        buffer.put_u32(bytes.len() as u32);
        buffer.put_slice(&bytes);
        let _ = frame::take(&mut buffer);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn tokens_read_back_and_garbage_is_none(
        root in any::<[u8; 32]>(),
        id in "[A-Za-z0-9_-]{1,64}",
        secret in "[A-Za-z0-9_-]{1,128}",
        garbage in "\\PC{0,200}",
    ) {
        let token = JoinToken { root, id, secret };
        let text = token.to_string();
        prop_assert_eq!(text.parse(), Ok(token.clone()));
        // Logs show a token without its secret.
        prop_assert_eq!(format!("{:?}", token), format!("JoinToken({})", token.id));
        if let Ok(token) = garbage.parse::<JoinToken>() {
            prop_assert_eq!(token.to_string(), garbage.trim());
        }
        for end in 0..text.len() - token.secret.len() {
            prop_assert!(text[..end].parse::<JoinToken>().is_err());
        }
    }
}

#[test]
fn a_frame_that_is_too_large_is_refused_before_its_payload_comes() {
    for number in 0..=255_u8 {
        let bytes_max = if number == kind::BATCH {
            BATCH_BYTES_MAX
        } else {
            CONTROL_BYTES_MAX
        };
        let header = |bytes: u32| {
            let mut buffer = BytesMut::new();
            buffer.put_slice(&[number, 0, 0, 0]);
            buffer.put_u32(bytes);
            buffer
        };
        let mut buffer = header(bytes_max as u32);
        assert!(matches!(frame::take(&mut buffer), Ok(None)), "{number}");
        assert!(buffer.capacity() <= 2 * bytes_max, "{number}");
        for bytes in [bytes_max as u32 + 1, u32::MAX] {
            let mut buffer = header(bytes);
            let capacity = buffer.capacity();
            assert!(
                matches!(
                    frame::take(&mut buffer),
                    Err(FrameError::TooLarge { kind, bytes_max: named, .. })
                        if kind == number && named == bytes_max
                ),
                "{number}"
            );
            assert_eq!(buffer.capacity(), capacity, "no memory is taken for it");
        }
    }
}

#[test]
fn a_hello_with_more_anchors_than_allowed_is_refused() {
    let hello = |anchors: usize| {
        let anchor = ClockAnchor {
            boot: BootId(1),
            offset_ms: 2,
        };
        Frame::Hello(Hello {
            version: 1,
            version_min: 1,
            agent: "a".parse().expect("a name"),
            site: "s".parse().expect("a name"),
            boot: BootId(1),
            software: String::new(),
            monotonic_ms: 0,
            wall_ms: 0,
            wall_set: false,
            anchors: vec![anchor; anchors],
            lanes: Vec::new(),
            case_status_stored: None,
        })
    };
    let taken = |frame: &Frame| {
        let bytes = frame.encode().expect("plain values are CBOR");
        frame::take(&mut BytesMut::from(&bytes[..]))
    };
    let most = hello(ANCHORS_MAX);
    assert_eq!(taken(&most).expect("it is within the limit"), Some(most));
    assert!(matches!(
        taken(&hello(ANCHORS_MAX + 1)),
        Err(FrameError::TooMany {
            kind: kind::HELLO,
            ..
        })
    ));
}

#[test]
fn a_batch_says_which_of_its_chunks_is_damaged() {
    let chunks = built(plain_run(), &vec![door_event(0); 600]);
    assert!(chunks.len() >= 3);
    let second_at = frame::HEADER_BYTES + chunks[0].bytes().len();
    let bytes = Frame::Batch(chunks).encode().expect("chunks are bytes");
    let mut damaged = BytesMut::from(&bytes[..]);
    damaged[second_at + HEADER_BYTES] ^= 1;
    assert!(matches!(
        frame::take(&mut damaged),
        Err(FrameError::Batch {
            index: 1,
            source: ChunkError::Checksum { .. }
        })
    ));
}

#[test]
fn cbor_that_nests_too_deep_is_refused() {
    // A map whose first field contains nested arrays; the parser must not recurse to the end of the stack.
    for nested in [&[0xa1, 0x18, 0x63][..], &[][..]] {
        let mut payload = nested.to_vec();
        payload.extend(std::iter::repeat_n(0x81, CONTROL_BYTES_MAX - 16));
        let mut buffer = BytesMut::new();
        buffer.put_slice(&[kind::HELLO, 0, 0, 0]);
        buffer.put_u32(payload.len() as u32);
        buffer.put_slice(&payload);
        assert!(matches!(
            frame::take(&mut buffer),
            Err(FrameError::Control {
                kind: kind::HELLO,
                ..
            })
        ));
    }
}

#[test]
fn names_are_held_to_their_letters_and_length() {
    for good in ["a", "Z9", "gw-07.east_1", &"x".repeat(NAME_BYTES_MAX)] {
        assert!(good.parse::<AgentId>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "-a",
        ".a",
        "_a",
        "a b",
        "门",
        "a/b",
        "a\n",
        &"x".repeat(NAME_BYTES_MAX + 1),
    ] {
        let refused = bad.parse::<SiteId>().map(|_| ());
        assert!(refused.is_err(), "{bad:?}");
    }
}
