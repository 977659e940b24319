use super::super::message::decode;
use super::*;
use crate::multipart::{Piece, Scanner};

fn kinds(text: &str) -> Vec<String> {
    let message = decode(text).expect(text);
    match map("cam", false, &message).expect("no damage") {
        DecodedMessage::Events(device_events) => device_events
            .iter()
            .map(|device_event| device_event.kind.to_string())
            .collect(),
        DecodedMessage::Heartbeat { .. } => vec!["heartbeat".to_owned()],
        DecodedMessage::LeftOut { what, .. } => vec![format!("left out: {what}")],
    }
}

#[test]
fn codes_come_to_kinds() {
    for (text, wanted) in [
        ("Heartbeat", "heartbeat"),
        ("Code=VideoMotion;action=Start;index=0", "camera.motion"),
        (
            "Code=VideoMotion;action=Stop;index=0",
            "left out: VideoMotion ended",
        ),
        ("Code=VideoBlind;action=Start;index=0", "camera.blind"),
        ("Code=VideoLoss;action=Stop;index=0", "camera.restored"),
        ("Code=AlarmLocal;action=Start;index=1", "input.active"),
        ("Code=AlarmLocal;action=Stop;index=1", "input.inactive"),
        (
            "Code=CrossRegionDetection;action=Start;index=0",
            "camera.intrusion",
        ),
        ("Code=StorageFailure;action=Start;index=0", "device.fault"),
        ("Code=StorageFailure;action=Stop;index=0", "device.restored"),
        (
            "Code=DoorStatus;action=Pulse;index=0;data={\"Status\": \"Open\"}",
            "door.opened",
        ),
        ("Code=DoorStatus;action=Close;index=0", "door.closed"),
        ("Code=BreakIn;action=Pulse;index=0", "door.forced"),
        ("Code=DoorNotClosed;action=Start;index=0", "door.held"),
        (
            "Code=AccessControl;action=Pulse;index=0;data={\"Status\": 1}",
            "door.granted",
        ),
        (
            "Code=AccessControl;action=Pulse;index=0;data={\"Status\": 0}",
            "door.denied",
        ),
        (
            "Code=NTPAdjustTime;action=Pulse;index=0",
            "left out: unknown code NTPAdjustTime",
        ),
    ] {
        assert_eq!(kinds(text), [wanted], "{text}");
    }
}

#[test]
fn a_channel_may_be_a_device_of_its_own() {
    let message = decode("Code=VideoBlind;action=Start;index=3").expect("a message");
    let Ok(DecodedMessage::Events(device_events)) = map("nvr", true, &message) else {
        panic!("no event");
    };
    let device_event = &device_events[0];
    assert_eq!(
        (device_event.device.as_ref(), device_event.by.as_deref()),
        ("nvr/4", Some("nvr"))
    );
    assert_eq!(
        device_event
            .state
            .as_ref()
            .map(|state| (state.point.as_ref(), state.active)),
        Some(("VideoBlind/4", true))
    );
}

#[test]
fn a_door_has_its_record_as_its_id_and_persons_apart() {
    let text = "Code=AccessControl;action=Pulse;index=0;data={\"CardNo\": \"0BADCAFE\", \"CardName\": \"王小明\", \"UserID\": \"0\",\
        \"Door\": 0, \"Method\": 1, \"RecNo\": 12, \"RealUTC\": 1782878400, \"UTC\": 1782907200, \"Status\": 1}";
    let message = decode(text).expect("a message");
    let Ok(DecodedMessage::Events(device_events)) = map("gate", false, &message) else {
        panic!("no event");
    };
    let device_event = &device_events[0];
    assert_eq!(device_event.id, "gate/12/1782878400");
    assert_eq!(device_event.time, DeviceTime::Ms(1_782_878_400_000));
    assert_eq!(device_event.retention, Retention::Access);
    let persons: Vec<_> = device_event
        .persons
        .iter()
        .map(|(person, value)| (*person, value.as_ref()))
        .collect();
    assert_eq!(
        persons,
        [(Person::Card, "0BADCAFE"), (Person::Name, "王小明")]
    );
    let shown = format!("{:?}", device_event.attributes);
    assert!(
        shown.contains("card") && !shown.contains("0BADCAFE") && !shown.contains("王小明"),
        "{shown}"
    );
}

#[test]
fn a_stream_as_devices_write_it_is_accounted_for() {
    let stream = "--myboundary\r\nContent-Type: text/plain\r\nContent-Length:39\r\n\r\nCode=VideoMotion;action=Start;index=0\r\n\r\n\r\n\
        --myboundary\r\nContent-Type: text/plain\r\nContent-Length:9\r\n\r\nHeartbeat\r\n\r\n\
        --myboundary\r\nContent-Type: text/plain\r\n\r\nCode=DoorStatus;action=Pulse;index=0;data={ \"Status\" : \"Open\" }\r\n\
        Code=AccessControl;action=Pulse;index=0;data={\"Method\":4,\n\"Status\":1}\r\n\r\n\
        --myboundary\r\nContent-Type:image/jpeg\r\nContent-Length:6\r\n\r\n\u{1}\u{2}\u{3}\u{4}\r\n\r\n\
        --myboundary\r\nContent-Type: text/plain\r\nContent-Length:9\r\n\r\nHeartbeat\r\n\r\n";
    for slice in 1..stream.len() {
        let mut scanner = Scanner::new("multipart/x-mixed-replace; boundary=myboundary");
        let mut pieces = Vec::new();
        for bytes in stream.as_bytes().chunks(slice) {
            scanner.scan(bytes, &mut pieces);
        }
        let found: Vec<String> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Part(body) => kinds(std::str::from_utf8(body).expect("UTF-8")),
                Piece::Picture { .. } => vec!["picture".to_owned()],
                Piece::Rejected { damage, .. } => vec![damage.to_string()],
            })
            .collect();
        let wanted = [
            "camera.motion",
            "heartbeat",
            "door.opened",
            "door.granted",
            "picture",
            "heartbeat",
        ];
        assert_eq!(found, wanted, "slices of {slice}");
    }
}
