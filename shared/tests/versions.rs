//! Older and newer versions interoperate: unknown frames and unknown fields are skipped, missing fields take
//! their defaults, numbers of a newer version read as documented.
//!
//! `Later…` structs stand for a version that has appended fields to ours, `Earlier…` structs for one without
//! our last fields. Both use the same codec, in both directions.
use bytes::{BufMut, Bytes, BytesMut};
use linli_shared::protocol::codec;
use linli_shared::protocol::event::{ClockQuality, Delivery, Event, Place, Severity};
use linli_shared::protocol::frame::{
    self, Ack, CaseStatus, Command, Frame, FrameError, Heartbeat, Hello, Join, Joined, LaneOpen,
    LanePosition, Lost, Refuse, Welcome, kind,
};
use linli_shared::protocol::ids::{BootId, Epoch, Sequence};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value as another version encodes it.
fn written<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode("a value of another version", value).expect("plain values are CBOR")
}

/// A value as another version decodes it.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    codec::decode("a value of another version", bytes).expect("the other version must read it")
}

/// A frame with any payload.
fn frame_of(number: u8, payload: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_slice(&[number, 0, 0, 0]);
    buffer.put_u32(payload.len() as u32);
    buffer.put_slice(payload);
    buffer
}

/// The frame that our version decodes from a payload of another version.
fn taken<T: Serialize>(number: u8, payload: &T) -> Frame {
    frame::take(&mut frame_of(number, &written(payload)))
        .expect("our version must read it")
        .expect("the frame is whole")
}

/// The payload of our version's frame, as another version receives it.
fn payload_of(frame: &Frame) -> Bytes {
    frame
        .encode()
        .expect("our own frames are CBOR")
        .slice(frame::HEADER_BYTES..)
}

/// Fields that a later version may append: values of every shape, including nested ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Appendix {
    list: Vec<Vec<u64>>,
    map: BTreeMap<String, Vec<String>>,
    variant: AppendixVariant,
    floating: f64,
    nothing: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum AppendixVariant {
    Unit,
    Tuple(u8, String),
}

impl Appendix {
    fn some() -> Self {
        Self {
            list: vec![vec![], vec![1, u64::MAX]],
            map: [("zone".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into(),
            variant: AppendixVariant::Tuple(3, "three".to_owned()),
            floating: 0.1,
            nothing: None,
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LaterHello {
    version: u16,
    version_min: u16,
    agent: String,
    site: String,
    boot: String,
    software: String,
    monotonic_ms: u64,
    wall_ms: i64,
    wall_set: bool,
    #[serde(default)]
    anchors: Vec<LaterAnchor>,
    #[serde(default)]
    lanes: Vec<LaterLanePosition>,
    #[serde(default)]
    case_status_stored: Option<u64>,
    #[serde(default)]
    appendix: Option<Appendix>,
    #[serde(default)]
    region: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LaterAnchor {
    boot: String,
    offset_ms: i64,
    #[serde(default)]
    drift_ppm: i32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LaterLanePosition {
    lane: u8,
    epoch: u64,
    first: u64,
    next: u64,
    #[serde(default)]
    label: String,
}

/// A version before anchors and positions.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct EarlierHello {
    version: u16,
    version_min: u16,
    agent: String,
    site: String,
    boot: String,
    software: String,
    monotonic_ms: u64,
    wall_ms: i64,
    wall_set: bool,
}

fn hello() -> Hello {
    Hello {
        version: 1,
        version_min: 1,
        agent: "gw-07".parse().expect("a name"),
        site: "xinyuan".parse().expect("a name"),
        boot: BootId(0xabc),
        software: "0.1.0".to_owned(),
        monotonic_ms: 5,
        wall_ms: 1_767_225_600_000,
        wall_set: true,
        anchors: vec![frame::ClockAnchor {
            boot: BootId(7),
            offset_ms: -9,
        }],
        lanes: vec![LanePosition {
            lane: 2,
            epoch: Epoch(11),
            first: Sequence(12),
            next: Sequence(13),
        }],
        case_status_stored: None,
    }
}

#[test]
fn a_hello_of_a_later_version_is_read_without_its_new_fields() {
    let later = LaterHello {
        version: 9,
        version_min: 1,
        agent: "gw-07".to_owned(),
        site: "xinyuan".to_owned(),
        boot: BootId(0xabc).to_string(),
        software: "9.0.0".to_owned(),
        monotonic_ms: 5,
        wall_ms: 1_767_225_600_000,
        wall_set: true,
        anchors: vec![LaterAnchor {
            boot: BootId(7).to_string(),
            offset_ms: -9,
            drift_ppm: 40,
        }],
        lanes: vec![LaterLanePosition {
            lane: 2,
            epoch: 11,
            first: 12,
            next: 13,
            label: "media".to_owned(),
        }],
        case_status_stored: Some(40),
        appendix: Some(Appendix::some()),
        region: "south".to_owned(),
    };
    assert_eq!(
        taken(kind::HELLO, &later),
        Frame::Hello(Hello {
            version: 9,
            software: "9.0.0".to_owned(),
            case_status_stored: Some(40),
            ..hello()
        })
    );
}

#[test]
fn a_hello_of_this_version_is_read_by_a_later_and_an_earlier_one() {
    let payload = payload_of(&Frame::Hello(hello()));

    let later: LaterHello = read(&payload);
    assert_eq!((later.version, later.agent.as_str()), (1, "gw-07"));
    assert_eq!(later.boot, BootId(0xabc).to_string());
    assert_eq!(later.anchors[0].drift_ppm, 0);
    assert_eq!(
        (later.lanes[0].next, later.lanes[0].label.as_str()),
        (13, "")
    );
    assert_eq!((later.appendix, later.region.as_str()), (None, ""));

    let earlier: EarlierHello = read(&payload);
    assert_eq!(
        (earlier.wall_ms, earlier.wall_set),
        (1_767_225_600_000, true)
    );
}

#[test]
fn a_hello_of_an_earlier_version_takes_defaults_for_what_it_lacks() {
    let earlier = EarlierHello {
        version: 1,
        version_min: 1,
        agent: "gw-07".to_owned(),
        site: "xinyuan".to_owned(),
        boot: BootId(0xabc).to_string(),
        software: "0.1.0".to_owned(),
        monotonic_ms: 5,
        wall_ms: 1_767_225_600_000,
        wall_set: true,
    };
    assert_eq!(
        taken(kind::HELLO, &earlier),
        Frame::Hello(Hello {
            anchors: Vec::new(),
            lanes: Vec::new(),
            ..hello()
        })
    );
}

/// An agent that serves a station with a hub without support for it, and the reverse. Unset fields are
/// omitted from the bytes, so that such frames equal those of the earlier version.
#[test]
fn stations_are_appended_so_that_versions_before_them_are_understood_and_understand() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct HelloBefore {
        version: u16,
        version_min: u16,
        agent: String,
        site: String,
        boot: String,
        software: String,
        monotonic_ms: u64,
        wall_ms: i64,
        wall_set: bool,
        #[serde(default)]
        anchors: Vec<LaterAnchor>,
        #[serde(default)]
        lanes: Vec<LaterLanePosition>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct HeartbeatBefore {
        wall_ms: i64,
        watermark_ms: i64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct CaseStatusBefore {
        id: u64,
        case: String,
        source: String,
        source_id: String,
        state: String,
        at_ms: i64,
        text: String,
    }
    let serving = Hello {
        case_status_stored: Some(u64::MAX),
        ..hello()
    };
    let seen: HelloBefore = read(&payload_of(&Frame::Hello(serving)));
    assert_eq!(seen.lanes[0].next, 13);
    let Frame::Hello(told) = taken(kind::HELLO, &seen) else {
        unreachable!("a hello is a hello")
    };
    assert_eq!(told.case_status_stored, None);

    let heartbeat = Heartbeat {
        wall_ms: 1,
        watermark_ms: 2,
        spool: Vec::new(),
        case_status_stored: Some(3),
    };
    let seen: HeartbeatBefore = read(&payload_of(&Frame::Heartbeat(heartbeat.clone())));
    assert_eq!((seen.wall_ms, seen.watermark_ms), (1, 2));
    let silent = Heartbeat {
        case_status_stored: None,
        ..heartbeat
    };
    assert_eq!(taken(kind::HEARTBEAT, &seen), Frame::Heartbeat(silent));

    let status = CaseStatus {
        id: 1,
        case: "c".to_owned(),
        source: "s".to_owned(),
        source_id: "i".to_owned(),
        state: "closed".to_owned(),
        at_ms: 2,
        text: "t".to_owned(),
        kind: "receipt".to_owned(),
    };
    let seen: CaseStatusBefore = read(&payload_of(&Frame::CaseStatus(status.clone())));
    assert_eq!((seen.id, seen.text.as_str()), (1, "t"));
    let silent = CaseStatus {
        kind: String::new(),
        ..status
    };
    assert_eq!(
        payload_of(&Frame::CaseStatus(silent.clone())),
        written(&seen)
    );
    assert_eq!(taken(kind::CASE_STATUS, &seen), Frame::CaseStatus(silent));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LaterEvent {
    kind: String,
    occurred_at_ms: i64,
    received_at_ms: i64,
    clock: u8,
    severity: u8,
    source: String,
    source_id: String,
    device: String,
    #[serde(default)]
    place: LaterPlace,
    monotonic_ms: Option<u64>,
    attributes: BTreeMap<String, String>,
    raw: Option<serde_bytes::ByteBuf>,
    media: Option<String>,
    device_time_ms: Option<i64>,
    #[serde(default)]
    delivery: u8,
    #[serde(default)]
    appendix: Option<Appendix>,
    #[serde(default)]
    confidence: u8,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct LaterPlace {
    #[serde(default)]
    building: String,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    floor: i16,
}

/// Only the fields without a default.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct EarlierEvent {
    kind: String,
    occurred_at_ms: i64,
    received_at_ms: i64,
}

fn later_event() -> LaterEvent {
    LaterEvent {
        kind: "robot.stuck".to_owned(),
        occurred_at_ms: -5,
        received_at_ms: 6,
        clock: 1,
        severity: 3,
        source: "robots".to_owned(),
        source_id: "r-1".to_owned(),
        device: "r".to_owned(),
        place: LaterPlace {
            building: "B1".to_owned(),
            unit: String::new(),
            address: "A1".to_owned(),
            floor: -2,
        },
        monotonic_ms: Some(4),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        raw: Some(serde_bytes::ByteBuf::from(vec![0, 255])),
        media: Some("m".to_owned()),
        device_time_ms: Some(-7),
        delivery: 2,
        appendix: Some(Appendix::some()),
        confidence: 99,
    }
}

fn our_event() -> Event {
    Event {
        kind: "robot.stuck".to_owned(),
        occurred_at_ms: -5,
        received_at_ms: 6,
        clock: ClockQuality::Agent,
        severity: Severity::Alarm,
        source: "robots".to_owned(),
        source_id: "r-1".to_owned(),
        device: "r".to_owned(),
        place: Place {
            building: "B1".to_owned(),
            unit: String::new(),
            address: "A1".to_owned(),
        },
        monotonic_ms: Some(4),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        raw: Some(serde_bytes::ByteBuf::from(vec![0, 255])),
        media: Some("m".to_owned()),
        device_time_ms: Some(-7),
        delivery: Delivery::History,
    }
}

#[test]
fn an_event_of_a_later_version_is_read_without_its_new_fields() {
    let event: Event = read(&written(&later_event()));
    assert_eq!(event, our_event());
    // A kind unknown to this version is an event like any other.
    assert_eq!(event.check(), Ok(()));
}

#[test]
fn an_event_of_this_version_is_read_by_a_later_and_an_earlier_one() {
    let bytes = written(&our_event());
    let mut expected = later_event();
    expected.appendix = None;
    expected.confidence = 0;
    expected.place.floor = 0;
    assert_eq!(read::<LaterEvent>(&bytes), expected);
    assert_eq!(
        read::<EarlierEvent>(&bytes),
        EarlierEvent {
            kind: "robot.stuck".to_owned(),
            occurred_at_ms: -5,
            received_at_ms: 6,
        }
    );
}

#[test]
fn an_event_of_an_earlier_version_takes_defaults_for_what_it_lacks() {
    let earlier = EarlierEvent {
        kind: "door.opened".to_owned(),
        occurred_at_ms: 1,
        received_at_ms: 2,
    };
    assert_eq!(
        read::<Event>(&written(&earlier)),
        Event {
            kind: "door.opened".to_owned(),
            occurred_at_ms: 1,
            received_at_ms: 2,
            clock: ClockQuality::Device,
            severity: Severity::Info,
            ..Event::default()
        }
    );
}

#[test]
fn events_of_several_versions_stand_in_one_sequence() {
    let mut bytes = written(&later_event());
    bytes.extend(written(&EarlierEvent {
        kind: "door.opened".to_owned(),
        occurred_at_ms: 1,
        received_at_ms: 2,
    }));
    bytes.extend(written(&our_event()));
    let events: Vec<Event> = codec::decode_sequence("event", &bytes, 3).expect("three events");
    assert_eq!(events.len(), 3);
    assert_eq!((&events[0], &events[2]), (&our_event(), &our_event()));
    assert_eq!(events[1].kind, "door.opened");
}

#[test]
fn what_has_no_default_must_be_there() {
    #[derive(Serialize)]
    struct KindOnly {
        kind: String,
    }
    let bytes = written(&KindOnly {
        kind: "door.opened".to_owned(),
    });
    assert!(codec::decode::<Event>("event", &bytes).is_err());

    #[derive(Serialize)]
    struct VersionOnly {
        version: u16,
    }
    let mut buffer = frame_of(kind::HELLO, &written(&VersionOnly { version: 1 }));
    assert!(matches!(
        frame::take(&mut buffer),
        Err(FrameError::Control {
            kind: kind::HELLO,
            ..
        })
    ));
}

/// Each control frame with an appended field. `with_appendix!` lists our struct's fields in order, so the
/// test does not compile if one is removed, and fails if their order changes.
macro_rules! with_appendix {
    ($name:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        #[derive(Serialize)]
        struct Later<$($field),*> { $($field: $field,)* appendix: Appendix, region: &'static str }
        let ours = $name { $($field: $value),* };
        let later = Later {
            $($field: ours.$field.clone(),)*
            appendix: Appendix::some(),
            region: "south",
        };
        (Frame::$name(ours), written(&later))
    }};
}

#[test]
#[expect(
    non_camel_case_types,
    reason = "the macro names type parameters after fields"
)]
fn every_control_frame_of_a_later_version_is_read_without_its_new_fields() {
    let name = |text: &str| text.parse().expect("a name");
    let text = |text: &str| text.to_owned();
    let position = LanePosition {
        lane: 1,
        epoch: Epoch(2),
        first: Sequence(3),
        next: Sequence(4),
    };
    let frames = [
        (
            kind::WELCOME,
            with_appendix!(Welcome {
                version: 1,
                software: text("1"),
                hub_ms: 2,
                heartbeat_ms: 3,
                lanes: vec![position.clone()],
                clock_doubtful: true,
            }),
        ),
        (
            kind::REFUSE,
            with_appendix!(Refuse {
                code: text("a code of a later version"),
                message: text("m"),
                retry_ms: 3,
            }),
        ),
        (
            kind::HEARTBEAT,
            with_appendix!(Heartbeat {
                wall_ms: 1,
                watermark_ms: 2,
                spool: vec![frame::SpoolFigures {
                    lane: 1,
                    events: 2,
                    bytes: 3,
                    oldest_ms: 4,
                }],
                case_status_stored: Some(5),
            }),
        ),
        (kind::LANE_OPEN, with_appendix!(LaneOpen { lane: 200 })),
        (kind::ACK, with_appendix!(Ack { next: Sequence(9) })),
        (
            kind::LOST,
            with_appendix!(Lost {
                first: Sequence(1),
                end: Sequence(2),
                reason: text("a reason of a later version"),
            }),
        ),
        (
            kind::CASE_STATUS,
            with_appendix!(CaseStatus {
                id: 1,
                case: text("c"),
                source: text("s"),
                source_id: text("i"),
                state: text("a state of a later version"),
                at_ms: 2,
                text: text("t"),
                kind: text("a kind of a later version"),
            }),
        ),
        (
            kind::COMMAND,
            with_appendix!(Command {
                id: 1,
                name: text("a command of a later version"),
                arguments: text("[]"),
            }),
        ),
        (
            kind::JOIN,
            with_appendix!(Join {
                token_id: text("t"),
                token_secret: text("s"),
                agent: name("gw"),
                csr_pem: text("c"),
                wall_ms: 5,
            }),
        ),
        (
            kind::JOINED,
            with_appendix!(Joined {
                certificate_pem: text("c"),
                root_pem: text("r"),
                site: "x".parse().expect("a name"),
                hubs: vec![text("h")],
            }),
        ),
    ];
    for (number, (ours, later)) in frames {
        let mut buffer = frame_of(number, &later);
        let taken = frame::take(&mut buffer).expect("our version must read it");
        assert_eq!(taken, Some(ours));
        assert!(buffer.is_empty());
    }
}

#[test]
fn frames_without_their_defaulted_fields_are_read() {
    #[derive(Serialize)]
    struct Fields<A, B, C, D, E, F> {
        a: A,
        b: B,
        #[serde(skip_serializing_if = "Option::is_none")]
        c: Option<C>,
        #[serde(skip_serializing_if = "Option::is_none")]
        d: Option<D>,
        #[serde(skip_serializing_if = "Option::is_none")]
        e: Option<E>,
        #[serde(skip_serializing_if = "Option::is_none")]
        f: Option<F>,
    }
    type Nothing = Option<u8>;
    const NOTHING: Nothing = None;

    let welcome = Fields {
        a: 1,
        b: "software",
        c: Some(2),
        d: Some(3),
        e: NOTHING,
        f: NOTHING,
    };
    assert!(matches!(
        taken(kind::WELCOME, &welcome),
        Frame::Welcome(welcome) if welcome.lanes.is_empty() && welcome.heartbeat_ms == 3
    ));
    let two = Fields {
        a: "busy",
        b: "wait",
        c: NOTHING,
        d: NOTHING,
        e: NOTHING,
        f: NOTHING,
    };
    assert!(matches!(
        taken(kind::REFUSE, &two),
        Frame::Refuse(refuse) if refuse.retry_ms == 0 && refuse.message == "wait"
    ));
    let heartbeat = Fields {
        a: 1,
        b: 2,
        c: NOTHING,
        d: NOTHING,
        e: NOTHING,
        f: NOTHING,
    };
    assert!(matches!(
        taken(kind::HEARTBEAT, &heartbeat),
        Frame::Heartbeat(heartbeat) if heartbeat.spool.is_empty() && heartbeat.watermark_ms == 2
    ));
    let command = Fields {
        a: 1,
        b: "clip",
        c: NOTHING,
        d: NOTHING,
        e: NOTHING,
        f: NOTHING,
    };
    assert!(matches!(
        taken(kind::COMMAND, &command),
        Frame::Command(command) if command.arguments.is_empty() && command.name == "clip"
    ));
    let joined = Fields {
        a: "certificate",
        b: "root",
        c: Some("site"),
        d: NOTHING,
        e: NOTHING,
        f: NOTHING,
    };
    assert!(matches!(
        taken(kind::JOINED, &joined),
        Frame::Joined(joined) if joined.hubs.is_empty() && joined.site.as_str() == "site"
    ));
    let status = Fields {
        a: 1,
        b: "case",
        c: Some("source"),
        d: Some("id"),
        e: Some("open"),
        f: Some(6),
    };
    assert!(matches!(
        taken(kind::CASE_STATUS, &status),
        Frame::CaseStatus(status) if status.text.is_empty() && status.at_ms == 6
    ));
}

#[test]
fn frames_of_unknown_kinds_are_skipped_with_their_payload() {
    for number in (13..=255).chain([0]) {
        // The payload is not even CBOR, so nothing may decode it.
        let mut buffer = frame_of(number, &[0xff; 77]);
        let after = Frame::Ack(Ack { next: Sequence(5) });
        buffer.extend_from_slice(&after.encode().expect("our own frame"));
        assert_eq!(
            frame::take(&mut buffer).expect("it is skipped"),
            Some(Frame::Unknown(number))
        );
        assert_eq!(
            frame::take(&mut buffer).expect("the next one is read"),
            Some(after)
        );
        assert!(buffer.is_empty());
    }
}

#[test]
fn an_unknown_frame_is_bounded_like_a_known_one() {
    let mut buffer = frame_of(200, &[]);
    buffer[4..8].copy_from_slice(&(64 * 1024 + 1_u32).to_be_bytes());
    assert!(matches!(
        frame::take(&mut buffer),
        Err(FrameError::TooLarge { kind: 200, .. })
    ));
}

#[test]
fn the_three_spare_bytes_of_a_header_are_ignored() {
    let ack = Frame::Ack(Ack { next: Sequence(5) });
    let mut buffer = BytesMut::from(&ack.encode().expect("our own frame")[..]);
    buffer[1..4].copy_from_slice(&[1, 2, 3]);
    assert_eq!(frame::take(&mut buffer).expect("it is read"), Some(ack));
}

#[test]
fn severities_and_clock_qualities_of_a_later_version_read_as_documented() {
    for number in 0..=255_u8 {
        let mut later = later_event();
        later.severity = number;
        later.clock = number;
        let event: Event = read(&written(&later));
        // Too loud beats silent.
        let severity = match number {
            0 => Severity::Info,
            1 => Severity::Notice,
            2 => Severity::Warning,
            3 => Severity::Alarm,
            _ => Severity::Life,
        };
        let clock = match number {
            0 => ClockQuality::Device,
            1 => ClockQuality::Agent,
            2 => ClockQuality::Unset,
            3 => ClockQuality::Corrected,
            4 => ClockQuality::Implausible,
            5 => ClockQuality::Receipt,
            6 => ClockQuality::Shifted,
            7 => ClockQuality::Unknown,
            _ => ClockQuality::Other,
        };
        assert_eq!((event.severity, event.clock), (severity, clock), "{number}");
    }
}

#[test]
fn severities_and_clock_qualities_keep_their_numbers() {
    for (number, severity) in (0..).zip(Severity::ALL) {
        assert_eq!(u8::from(severity), number);
        assert_eq!(Severity::from(number), severity);
    }
    for (number, quality) in (0..).zip([
        ClockQuality::Device,
        ClockQuality::Agent,
        ClockQuality::Unset,
        ClockQuality::Corrected,
        ClockQuality::Implausible,
        ClockQuality::Receipt,
        ClockQuality::Shifted,
        ClockQuality::Unknown,
    ]) {
        assert_eq!(u8::from(quality), number);
        assert_eq!(ClockQuality::from(number), quality);
    }
    assert_eq!(u8::from(ClockQuality::Other), u8::MAX);
    for (number, delivery) in (0..).zip([Delivery::Live, Delivery::Replayed, Delivery::History]) {
        assert_eq!(u8::from(delivery), number);
        assert_eq!(Delivery::from(number), delivery);
    }
    // Too loud beats silent.
    assert_eq!(Delivery::from(3), Delivery::Live);
}
