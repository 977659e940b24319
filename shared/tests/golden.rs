//! Golden bytes of protocol version 1: every frame kind, the plain chunk and the compressed chunk.
//!
//! These bytes are frozen. Agents and hubs in the field exchange them, spools and stores contain them: a
//! change of any byte here is a new protocol version (or a new chunk magic), never a correction of this file.
//! The hexadecimal text is split at the boundaries of the fields, so that it can be read beside the tables in
//! the module docs.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]
use bytes::{Bytes, BytesMut};
use linli_shared::protocol::chunk::{self, Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::{ClockQuality, Delivery, Event, Place, Severity};
use linli_shared::protocol::frame::{
    self, Ack, CaseStatus, ClockAnchor, Command, Frame, Heartbeat, Hello, Join, Joined, LaneOpen,
    LanePosition, Lost, Refuse, SpoolFigures, Welcome, case_kind,
};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use linli_shared::protocol::{ALPN, ALPN_JOIN, VERSION};

const BOOT: BootId = BootId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

/// Parses hexadecimal text; spaces and line ends are ignored.
fn bytes_of(hexadecimal: &str) -> Bytes {
    let digits: String = hexadecimal.split_whitespace().collect();
    hex::decode(digits).unwrap().into()
}

/// Checks that the frame encodes to exactly these bytes, and that these bytes decode to the frame alone.
fn frozen(frame: &Frame, hexadecimal: &str) {
    let golden = bytes_of(hexadecimal);
    let encoded = frame.encode().unwrap();
    assert_eq!(
        hex::encode(&encoded),
        hex::encode(&golden),
        "{} is written differently",
        frame.name()
    );
    let mut buffer = BytesMut::from(&golden[..]);
    assert_eq!(frame::take(&mut buffer).unwrap().as_ref(), Some(frame));
    assert!(buffer.is_empty(), "bytes are left over");
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        version: 1,
        version_min: 1,
        agent: "gw-07".parse().unwrap(),
        site: "xinyuan".parse().unwrap(),
        boot: BOOT,
        software: "0.1.0".to_owned(),
        monotonic_ms: 86_400_000,
        wall_ms: 1_767_225_600_000,
        wall_set: true,
        anchors: vec![ClockAnchor {
            boot: BootId(1),
            offset_ms: -5,
        }],
        lanes: vec![LanePosition {
            lane: 1,
            epoch: Epoch(0xfedc_ba98_7654_3210),
            first: Sequence(256),
            next: Sequence(65_536),
        }],
        case_status_stored: None,
    })
}

/// An event with every field set, so that the chunk below freezes the number of each.
fn full_event() -> Event {
    Event {
        kind: "door.forced".to_owned(),
        occurred_at_ms: 1_767_225_600_000,
        received_at_ms: 1_767_225_600_250,
        clock: ClockQuality::Unset,
        severity: Severity::Alarm,
        source: "door".to_owned(),
        source_id: "42".to_owned(),
        device: "d1".to_owned(),
        place: Place {
            building: "B1".to_owned(),
            unit: "U2".to_owned(),
            address: "A3".to_owned(),
        },
        monotonic_ms: Some(7),
        attributes: [("k".to_owned(), "门".to_owned())].into(),
        raw: Some(serde_bytes::ByteBuf::from(vec![0xde, 0xad])),
        media: Some("m".to_owned()),
        ..Event::default()
    }
}

/// The numbers of the fields of an event that were added after the first release.
#[test]
fn later_fields_of_an_event_are_frozen() {
    let event = Event {
        kind: "a.b".to_owned(),
        occurred_at_ms: 2,
        received_at_ms: 2,
        clock: ClockQuality::Receipt,
        device_time_ms: Some(1),
        delivery: Delivery::Replayed,
        ..Event::default()
    };
    let bytes = linli_shared::protocol::codec::encode("event", &event).unwrap();
    let golden = bytes_of("a7 00 63612e62 01 02 02 02 03 05 04 00 0d 01 0e 01");
    assert_eq!(hex::encode(&bytes), hex::encode(&golden));
}

/// An event with only its required fields.
fn bare_event() -> Event {
    Event {
        kind: "a.b".to_owned(),
        occurred_at_ms: -1,
        received_at_ms: 2,
        clock: ClockQuality::Device,
        severity: Severity::Info,
        ..Event::default()
    }
}

fn run() -> Run {
    Run {
        lane: Lane::Urgent,
        retention: Retention::Incident,
        epoch: Epoch(0x0102_0304_0506_0708),
        first: Sequence(0x1122_3344_5566),
        boot: BOOT,
    }
}

fn built(run: Run, events: &[Event]) -> Chunk {
    let mut packed = Packed::default();
    for event in events {
        packed.push(&event.draft()).unwrap();
    }
    let mut chunks = Vec::new();
    let mut builder = ChunkBuilder::new().unwrap();
    builder.build(run, &packed, &mut chunks).unwrap();
    assert_eq!(chunks.len(), 1);
    chunks.remove(0)
}

/// The events of the compressed chunk.
fn alike_events() -> Vec<Event> {
    (0..8)
        .map(|minute| Event {
            kind: "door.opened".to_owned(),
            occurred_at_ms: 1_767_225_600_000 + minute * 60_000,
            received_at_ms: 1_767_225_600_000 + minute * 60_000,
            source: "doors-of-the-south-gate".to_owned(),
            ..Event::default()
        })
        .collect()
}

fn welcome() -> Frame {
    Frame::Welcome(Welcome {
        version: 1,
        software: "0.1.0".to_owned(),
        hub_ms: 1_767_225_600_001,
        heartbeat_ms: 10_000,
        lanes: vec![LanePosition {
            lane: 0,
            epoch: Epoch(9),
            first: Sequence(0),
            next: Sequence(24),
        }],
        clock_doubtful: false,
    })
}

fn refuse() -> Frame {
    Frame::Refuse(Refuse {
        code: "busy".to_owned(),
        message: "wait".to_owned(),
        retry_ms: 30_000,
    })
}

fn heartbeat() -> Frame {
    Frame::Heartbeat(Heartbeat {
        wall_ms: 1_767_225_600_000,
        watermark_ms: 1_767_225_599_000,
        spool: vec![SpoolFigures {
            lane: 2,
            events: 3,
            bytes: 4096,
            oldest_ms: 1_767_225_599_500,
        }],
        case_status_stored: None,
    })
}

fn lane_open() -> Frame {
    Frame::LaneOpen(LaneOpen { lane: 1 })
}

fn batch() -> Frame {
    Frame::Batch(vec![
        built(run(), &[bare_event()]),
        built(
            Run {
                first: run().first.plus(1),
                ..run()
            },
            &[bare_event()],
        ),
    ])
}

fn ack() -> Frame {
    Frame::Ack(Ack {
        next: Sequence(u64::MAX),
    })
}

fn lost() -> Frame {
    Frame::Lost(Lost {
        first: Sequence(1000),
        end: Sequence(2000),
        reason: "quota".to_owned(),
    })
}

fn case_status() -> Frame {
    Frame::CaseStatus(CaseStatus {
        id: 5,
        case: "AJ-1".to_owned(),
        source: "110".to_owned(),
        source_id: "J9".to_owned(),
        state: "closed".to_owned(),
        at_ms: 1_767_225_600_000,
        text: "好".to_owned(),
        kind: String::new(),
    })
}

fn command() -> Frame {
    Frame::Command(Command {
        id: 6,
        name: "clip".to_owned(),
        arguments: "{}".to_owned(),
    })
}

fn join() -> Frame {
    Frame::Join(Join {
        token_id: "t1".to_owned(),
        token_secret: "s".to_owned(),
        agent: "gw-07".parse().unwrap(),
        csr_pem: "CSR".to_owned(),
        wall_ms: 1,
    })
}

fn joined() -> Frame {
    Frame::Joined(Joined {
        certificate_pem: "CRT".to_owned(),
        root_pem: "ROOT".to_owned(),
        site: "xinyuan".parse().unwrap(),
        hubs: vec!["hub:7443".to_owned()],
    })
}

/// The plain chunk: [`full_event`], one field per line, then [`bare_event`].
const PLAIN_CHUNK: &str = "
    4c4c6331 00 02 00 00 0002 0061 00000061
    0102030405060708 0000112233445566
    00112233445566778899aabbccddeeff 41863201
    ad
    00 6b646f6f722e666f72636564
    01 1b0000019b76daa800
    02 1b0000019b76daa8fa
    03 02
    04 03
    05 64646f6f72
    06 623432
    07 626431
    08 a3006242310162553202624133
    09 07
    0a a1616b63e997a8
    0b 42dead
    0c 616d
    a5 00 63612e62 01 20 02 02 03 00 04 00
";

/// The compressed chunk of [`alike_events`]; the payload begins with the magic of zstd (RFC 8878).
const ZSTD_CHUNK: &str = "
    4c4c6331 01 01 01 00 0008 0091 000001f8
    0102030405060708 0000112233445566
    00112233445566778899aabbccddeeff 72369716
    28b52ffd60f8003d04000406a6006b646f6f722e6f70656e
    6564011b0000019b76daa80002030004000577646f6f7273
    2d6f662d7468652d736f7574682d67617465db9260db9260
    dc7cc0dc7cc0dd6720dd6720de5180de5180df3be0df3be0
    e02640e02640e110a0e110a01000e00ee08e411c201b8338
    40360671806c0ce200d918c401b2318803b29110beab4519
    03
";

/// The handshake must be readable by every later and every earlier version, whatever else changes: the
/// positions of the kind, the three zero bytes, the length, the map and the two version numbers are fixed.
#[test]
fn the_first_bytes_of_a_hello_are_frozen() {
    let encoded = hello().encode().unwrap();
    assert_eq!(hex::encode(&encoded[..13]), "0100000000000092ab00010101");
    assert_eq!(
        (encoded[0], &encoded[1..4]),
        (frame::kind::HELLO, &[0; 3][..])
    );
    let announced = u32::from_be_bytes(encoded[4..8].try_into().unwrap());
    assert_eq!(announced as usize, encoded.len() - frame::HEADER_BYTES);
    assert_eq!(encoded[8], 0xa0 + 11, "a map of eleven fields");
    assert_eq!(encoded[9..11], [0x00, 0x01], "field 0: the newest version");
    assert_eq!(encoded[11..13], [0x01, 0x01], "field 1: the oldest version");
}

#[test]
fn the_names_of_the_protocol_are_frozen() {
    assert_eq!(
        (ALPN, ALPN_JOIN, VERSION),
        (&b"linli/1"[..], &b"linli-join/1"[..], 1)
    );
    assert_eq!((chunk::MAGIC, chunk::HEADER_BYTES), (*b"LLc1", 52));
    assert_eq!(frame::HEADER_BYTES, 8);
}

#[test]
fn the_plain_chunk_is_frozen() {
    let events = [full_event(), bare_event()];
    let golden = bytes_of(PLAIN_CHUNK);
    let chunk = built(run(), &events);
    assert_eq!(hex::encode(chunk.bytes()), hex::encode(&golden));

    let parsed = Chunk::parse(&golden).unwrap();
    let header = parsed.header();
    assert_eq!(
        (header.lane, header.retention, header.epoch, header.first),
        (Lane::Urgent, Retention::Incident, run().epoch, run().first)
    );
    assert_eq!((header.boot, header.count), (BOOT, 2));
    assert_eq!(parsed.events().unwrap(), events);
}

/// For a compressed chunk, only the reading of these bytes is frozen. How small a compressor makes the same
/// events is its own choice, so that a newer zstd needs no new protocol version: the header of a newly built
/// chunk is compared, except for the size of the payload and the checksum.
#[test]
fn the_compressed_chunk_is_frozen() {
    let golden = bytes_of(ZSTD_CHUNK);
    let parsed = Chunk::parse(&golden).unwrap();
    assert_eq!(parsed.events().unwrap(), alike_events());

    let built = built(
        Run {
            lane: Lane::Routine,
            retention: Retention::Access,
            ..run()
        },
        &alike_events(),
    );
    assert_eq!(built.bytes()[..10], golden[..10]);
    assert_eq!(built.bytes()[12..48], golden[12..48]);
    assert_eq!(built.bytes()[52..56], [0x28, 0xb5, 0x2f, 0xfd]);
    assert_eq!(built.events().unwrap(), alike_events());
}

#[test]
fn frame_1_hello_is_frozen() {
    frozen(
        &hello(),
        "
            01 000000 00000092
            ab
            00 01
            01 01
            02 6567772d3037
            03 6778696e7975616e
            04 78203030313132323333343435353636373738383939616162626363646465656666
            05 65302e312e30
            06 1a05265c00
            07 1b0000019b76daa800
            08 f5
            09 81a200782030303030303030303030303030303030303030303030303030303030303030310124
            0a 81a40001011bfedcba987654321002190100031a00010000
        ",
    );
}

#[test]
fn frame_2_welcome_is_frozen() {
    frozen(
        &welcome(),
        "
            02 000000 00000024
            a5
            00 01
            01 65302e312e30
            02 1b0000019b76daa801
            03 192710
            04 81a4000001090200031818
        ",
    );
}

#[test]
fn frame_3_refuse_is_frozen() {
    frozen(
        &refuse(),
        "
            03 000000 00000011
            a3
            00 6462757379
            01 6477616974
            02 197530
        ",
    );
}

#[test]
fn frame_4_heartbeat_is_frozen() {
    frozen(
        &heartbeat(),
        "
            04 000000 0000002a
            a3
            00 1b0000019b76daa800
            01 1b0000019b76daa418
            02 81a40002010302191000031b0000019b76daa60c
        ",
    );
}

#[test]
fn frame_5_lane_open_is_frozen() {
    frozen(
        &lane_open(),
        "
            05 000000 00000003
            a1
            00 01
        ",
    );
}

#[test]
fn frame_6_batch_is_frozen() {
    frozen(
        &batch(),
        "
            06 000000 00000084
            4c4c6331 00 02 00 00 0001 000e 0000000e
            0102030405060708 0000112233445566
            00112233445566778899aabbccddeeff 6843288c
            a5 00 63612e62 01 20 02 02 03 00 04 00
            4c4c6331 00 02 00 00 0001 000e 0000000e
            0102030405060708 0000112233445567
            00112233445566778899aabbccddeeff 10e44801
            a5 00 63612e62 01 20 02 02 03 00 04 00
        ",
    );
}

#[test]
fn frame_7_ack_is_frozen() {
    frozen(
        &ack(),
        "
            07 000000 0000000b
            a1
            00 1bffffffffffffffff
        ",
    );
}

#[test]
fn frame_8_lost_is_frozen() {
    frozen(
        &lost(),
        "
            08 000000 00000010
            a3
            00 1903e8
            01 1907d0
            02 6571756f7461
        ",
    );
}

#[test]
fn frame_9_case_status_is_frozen() {
    frozen(
        &case_status(),
        "
            09 000000 00000029
            a7
            00 05
            01 64414a2d31
            02 63313130
            03 624a39
            04 66636c6f736564
            05 1b0000019b76daa800
            06 63e5a5bd
        ",
    );
}

/// The same frames from and to an agent that serves a station: appended fields do not change the bytes before
/// them.
#[test]
fn what_stations_have_appended_to_frames_1_4_and_9_is_frozen() {
    let Frame::Hello(before) = hello() else {
        unreachable!("hello gives a hello")
    };
    frozen(
        &Frame::Hello(Hello {
            case_status_stored: Some(7),
            ..before
        }),
        "
            01 000000 00000094
            ac
            00 01
            01 01
            02 6567772d3037
            03 6778696e7975616e
            04 78203030313132323333343435353636373738383939616162626363646465656666
            05 65302e312e30
            06 1a05265c00
            07 1b0000019b76daa800
            08 f5
            09 81a200782030303030303030303030303030303030303030303030303030303030303030310124
            0a 81a40001011bfedcba987654321002190100031a00010000
            0b 07
        ",
    );
    let Frame::Heartbeat(before) = heartbeat() else {
        unreachable!("heartbeat gives a heartbeat")
    };
    frozen(
        &Frame::Heartbeat(Heartbeat {
            case_status_stored: Some(300),
            ..before
        }),
        "
            04 000000 0000002e
            a4
            00 1b0000019b76daa800
            01 1b0000019b76daa418
            02 81a40002010302191000031b0000019b76daa60c
            03 19012c
        ",
    );
    let Frame::CaseStatus(before) = case_status() else {
        unreachable!("case_status gives a case status")
    };
    frozen(
        &Frame::CaseStatus(CaseStatus {
            kind: case_kind::RECEIPT.to_owned(),
            ..before
        }),
        "
            09 000000 00000032
            a8
            00 05
            01 64414a2d31
            02 63313130
            03 624a39
            04 66636c6f736564
            05 1b0000019b76daa800
            06 63e5a5bd
            07 6772656365697074
        ",
    );
}

#[test]
fn frame_10_command_is_frozen() {
    frozen(
        &command(),
        "
            0a 000000 0000000d
            a3
            00 06
            01 64636c6970
            02 627b7d
        ",
    );
}

#[test]
fn frame_11_join_is_frozen() {
    frozen(
        &join(),
        "
            0b 000000 00000016
            a5
            00 627431
            01 6173
            02 6567772d3037
            03 63435352
            04 01
        ",
    );
}

#[test]
fn frame_12_joined_is_frozen() {
    frozen(
        &joined(),
        "
            0c 000000 00000020
            a4
            00 63435254
            01 64524f4f54
            02 6778696e7975616e
            03 81686875623a37343433
        ",
    );
}
