use super::*;
use crate::hikvision::alert::decode;
use crate::multipart::{Piece, Scanner};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn camera(kind: &str, state: &str, channel: &str) -> String {
    format!(
        "<EventNotificationAlert><channelID>{channel}</channelID><dateTime>2026-07-01T12:00:00</dateTime>\
         <eventType>{kind}</eventType><eventState>{state}</eventState></EventNotificationAlert>"
    )
}

fn door(major: u32, minor: u32, serial: u32) -> String {
    serde_json::json!({
        "dateTime": "2026-07-01T12:00:00+08:00", "eventType": "AccessControllerEvent",
        "AccessControllerEvent": {
            "majorEventType": major, "subEventType": minor, "doorNo": 1, "serialNo": serial, "cardNo": "3271",
            "employeeNoString": "0", "name": "王小明", "currentVerifyMode": "card", "currentEvent": true,
        }
    })
    .to_string()
}

/// The kind of its one event, or its other result.
fn said(mapper: &mut Mapper, text: &str, now_ms: u64) -> String {
    let alert = decode(text).expect(text);
    match mapper.map(&alert, now_ms).expect(text) {
        DecodedMessage::Events(device_events) => {
            assert_eq!(device_events.len(), 1);
            assert_eq!(device_events[0].by.as_deref(), Some(mapper.device()));
            device_events[0].kind.to_string()
        }
        DecodedMessage::Heartbeat { .. } => "heartbeat".to_owned(),
        DecodedMessage::LeftOut { what, .. } => format!("left out: {what}"),
    }
}

#[test]
fn a_condition_is_one_event_however_often_it_is_told() {
    let mut mapper = Mapper::new("cam", false);
    let motion = camera("VMD", "active", "1");
    assert_eq!(said(&mut mapper, &motion, 0), "camera.motion");
    for second in 1..100 {
        assert_eq!(
            said(&mut mapper, &motion, second * 1000),
            "left out: VMD goes on"
        );
    }
    assert_eq!(
        said(&mut mapper, &camera("vmd", "active", "2"), 99_000),
        "camera.motion"
    );
    assert_eq!(
        said(&mut mapper, &camera("VMD", "inactive", "1"), 100_000),
        "left out: VMD ended"
    );
    assert_eq!(said(&mut mapper, &motion, 100_000), "camera.motion");
    // A condition without an end that was not repeated for a while has begun anew.
    assert_eq!(
        said(&mut mapper, &motion, 100_000 + QUIET_MS),
        "camera.motion"
    );
}

#[test]
fn a_state_ends_when_it_is_told_to_or_is_not_told_any_more() {
    let mut mapper = Mapper::new("nvr", true);
    let alert = camera("shelteralarm", "active", "3");
    let alert = decode(&alert).expect("an alert");
    let Ok(DecodedMessage::Events(device_events)) = mapper.map(&alert, 0) else {
        panic!("no event");
    };
    assert_eq!(device_events[0].device, "nvr/3");
    assert_eq!(device_events[0].by.as_deref(), Some("nvr"));
    let state = device_events[0].state.as_ref().expect("a state");
    assert!(state.active && state.point == "shelteralarm/3");
    // The first one may be the end of an earlier loss; without one it is no news.
    let alive = camera("videoloss", "inactive", "3");
    assert_eq!(said(&mut mapper, &alive, QUIET_MS - 1), "camera.restored");
    assert_eq!(said(&mut mapper, &alive, QUIET_MS - 1), "heartbeat");
    assert_eq!(mapper.quiet(QUIET_MS - 1), []);
    let ended = mapper.quiet(QUIET_MS);
    assert_eq!(
        (ended[0].kind.as_ref(), ended[0].device.as_ref()),
        ("camera.restored", "nvr/3")
    );
    assert!(!ended[0].state.as_ref().expect("a state").active);
    assert_eq!(mapper.quiet(QUIET_MS), []);

    let now_ms = QUIET_MS;
    assert_eq!(
        said(&mut mapper, &camera("shelteralarm", "active", "3"), now_ms),
        "camera.blind"
    );
    assert_eq!(
        said(
            &mut mapper,
            &camera("shelteralarm", "inactive", "3"),
            now_ms
        ),
        "camera.restored"
    );
    // A condition that somebody must repair is not over because it is not repeated.
    assert_eq!(
        said(&mut mapper, &camera("diskfull", "active", "3"), now_ms),
        "device.fault"
    );
    let mut later_ms = now_ms;
    for _ in 0..20 {
        later_ms += 10_000;
        assert_eq!(said(&mut mapper, &alive, later_ms), "heartbeat");
        assert_eq!(mapper.quiet(later_ms), []);
    }
    assert_eq!(
        said(&mut mapper, &camera("diskfull", "active", "3"), later_ms),
        "left out: diskfull goes on"
    );
    assert_eq!(
        said(&mut mapper, &camera("diskfull", "inactive", "3"), later_ms),
        "device.restored"
    );
}

#[test]
fn while_the_device_is_away_nothing_is_over_and_then_all_is_news() {
    let mut mapper = Mapper::new("cam", false);
    let blind = camera("shelteralarm", "active", "1");
    assert_eq!(said(&mut mapper, &blind, 0), "camera.blind");
    assert_eq!(
        said(&mut mapper, &camera("VMD", "active", "1"), 0),
        "camera.motion"
    );
    assert_eq!(mapper.quiet(10 * QUIET_MS), []);
    let back_ms = 10 * QUIET_MS;
    assert_eq!(
        said(&mut mapper, &camera("heartbeat", "active", ""), back_ms),
        "heartbeat"
    );
    // The condition still has its time to be repeated.
    assert_eq!(mapper.quiet(back_ms + 1), []);
    // The ingest knows whether that is news.
    assert_eq!(said(&mut mapper, &blind, back_ms + 1), "camera.blind");
    assert_eq!(
        said(&mut mapper, &blind, back_ms + 2),
        "left out: shelteralarm goes on"
    );
    assert_eq!(
        said(&mut mapper, &camera("VMD", "active", "1"), back_ms + 3),
        "camera.motion"
    );
}

#[test]
fn what_a_device_tells_again_after_a_catch_up_is_known() {
    let mut mapper = Mapper::new("gate", false);
    assert_eq!(said(&mut mapper, &door(5, 0x15, 7), 0), "door.opened");
    assert_eq!(
        mapper.last().map(|last| (last.serial, last.time.as_str())),
        Some((7, "2026-07-01T12:00:00+08:00"))
    );
    mapper.connected();
    assert_eq!(said(&mut mapper, &door(5, 0x01, 6), 0), "door.granted");
    assert_eq!(said(&mut mapper, &door(5, 0x16, 8), 0), "door.closed");
    mapper.caught_up();
    let earlier = door(5, 0x01, 7)
        .replace("12:00:00", "11:59:59")
        .replace("\"currentEvent\":true", "\"currentEvent\":false");
    assert_eq!(said(&mut mapper, &earlier, 0), "left out: 5/1 told before");
    // Within one second nothing counts as reported; a repeated event keeps its id.
    assert_eq!(said(&mut mapper, &door(5, 0x01, 7), 0), "door.granted");
    // The same holds for an unreadable time.
    let unread = door(5, 0x01, 1).replace("2026-07-01T12:00:00+08:00", "0000-00-00");
    assert_eq!(said(&mut mapper, &unread, 0), "door.granted");
    // Serials that begin anew come with a later time.
    let reset = door(5, 0x15, 1).replace("12:00:00", "12:00:01");
    assert_eq!(said(&mut mapper, &reset, 0), "door.opened");
    assert_eq!(mapper.last().map(|last| last.serial), Some(1));
}

#[test]
fn what_a_door_tells_of_the_past_is_a_replay() {
    let replayed = |mapper: &mut Mapper, text: &str| {
        let alert = decode(text).expect("an alert");
        match mapper.map(&alert, 0) {
            Ok(DecodedMessage::Events(device_events)) => device_events[0].replayed,
            other => panic!("{other:?}"),
        }
    };
    let mut mapper = Mapper::new("gate", false);
    let live = door(5, 0x1b, 1);
    assert!(!replayed(&mut mapper, &live));
    for past in ["false", "\"false\"", "0"] {
        let past = live.replace("\"currentEvent\":true", &format!("\"currentEvent\":{past}"));
        assert!(replayed(&mut mapper, &past), "{past}");
    }
    let missing = live.replace("\"currentEvent\":true,", "");
    assert!(!replayed(&mut mapper, &missing));
    let row = r#"{"major":5,"minor":27,"time":"2026-07-01T12:00:00+08:00","serialNo":9,"doorNo":1,"name":"王"#;
    let (event, time) = DoorEvent::row(row);
    match mapper.history(&event, &time) {
        Ok(DecodedMessage::Events(device_events)) => {
            assert_eq!(
                (device_events[0].kind.as_ref(), device_events[0].replayed),
                ("door.forced", true)
            );
            assert_eq!(device_events[0].id, "gate/9/1782878400");
        }
        other => panic!("{other:?}"),
    }
    let (event, time) = DoorEvent::row("{\"serialNo\":9}");
    assert!(mapper.history(&event, &time).is_err());
}

#[test]
fn a_catch_up_beside_the_stream_does_not_move_the_last_event_back() {
    let mut mapper = Mapper::new("gate", false);
    assert_eq!(said(&mut mapper, &door(5, 0x01, 9), 0), "door.granted");
    let row = r#"{"major":5,"minor":1,"time":"2026-07-01T11:00:00+08:00","serialNo":5}"#;
    let (event, time) = DoorEvent::row(row);
    assert!(mapper.history(&event, &time).is_ok());
    assert_eq!(mapper.last().map(|last| last.serial), Some(9));
}

/// Kind, region, target and whether it has begun anew, of each event.
fn events(mapper: &mut Mapper, text: &str, now_ms: u64) -> Vec<String> {
    let alert = decode(text).expect(text);
    match mapper.map(&alert, now_ms).expect(text) {
        DecodedMessage::Events(device_events) => device_events
            .iter()
            .map(|device_event| {
                let of = |wanted: &str| {
                    let found = device_event
                        .attributes
                        .iter()
                        .find(|(name, _)| *name == wanted);
                    found.map_or("", |(_, value)| value.as_ref())
                };
                let anew = if device_event.anew { " anew" } else { "" };
                format!(
                    "{} {}{}{anew}",
                    device_event.kind,
                    of("region"),
                    of("target")
                )
            })
            .collect(),
        other => vec![format!("{other:?}").chars().take(7).collect()],
    }
}

fn seen(kind: &str, region: &str, target: &str, time: &str) -> String {
    format!(
        "<EventNotificationAlert><channelID>1</channelID><dateTime>2026-07-01T{time}</dateTime><eventType>{kind}</eventType>\
         <eventState>active</eventState><DetectionRegionList><DetectionRegionEntry><regionID>{region}</regionID>\
         <detectionTarget>{target}</detectionTarget></DetectionRegionEntry></DetectionRegionList></EventNotificationAlert>"
    )
}

#[test]
fn a_person_in_one_region_and_a_vehicle_in_another_are_two() {
    let mut mapper = Mapper::new("cam", false);
    let human = seen("fielddetection", "3", "human", "12:00:00");
    let vehicle = seen("fielddetection", "2", "vehicle", "12:00:03");
    assert_eq!(events(&mut mapper, &human, 0), ["camera.intrusion 3human"]);
    assert_eq!(
        events(&mut mapper, &vehicle, 3000),
        ["camera.intrusion 2vehicle"]
    );
    assert_eq!(events(&mut mapper, &human, 4000), ["LeftOut"]);
    assert_eq!(
        events(
            &mut mapper,
            &seen("fielddetection", "3", "vehicle", "12:00:05"),
            5000
        ),
        ["camera.intrusion 3vehicle"]
    );
    // For a state, the second has begun anew; the state is over when both are.
    assert_eq!(
        events(
            &mut mapper,
            &seen("firedetection", "1", "", "12:00:06"),
            6000
        ),
        ["fire.alarm 1"]
    );
    assert_eq!(
        events(
            &mut mapper,
            &seen("firedetection", "2", "", "12:00:07"),
            7000
        ),
        ["fire.alarm 2 anew"]
    );
    let over =
        |region| seen("firedetection", region, "", "12:00:08").replace(">active<", ">inactive<");
    assert_eq!(events(&mut mapper, &over("1"), 8000), ["LeftOut"]);
    assert_eq!(events(&mut mapper, &over("2"), 8000), ["fire.restored 2"]);
    assert_eq!(
        events(
            &mut mapper,
            &seen("firedetection", "1", "", "12:00:09"),
            9000
        ),
        ["fire.alarm 1"]
    );
    // An end without a region ends all regions.
    assert_eq!(
        said(&mut mapper, &camera("firedetection", "inactive", "1"), 9000),
        "fire.restored"
    );
    assert!(
        mapper
            .quiet(30_000 - 8000)
            .iter()
            .all(|event| event.kind != "fire.restored")
    );
}

#[test]
fn what_lay_minutes_apart_is_not_merged_because_it_comes_at_once() {
    let mut mapper = Mapper::new("cam", false);
    for minute in 10..40 {
        let alert = seen("fielddetection", "1", "human", &format!("12:{minute}:00"));
        assert_eq!(
            events(&mut mapper, &alert, 0),
            ["camera.intrusion 1human"],
            "{minute}"
        );
        let again = seen("fielddetection", "1", "human", &format!("12:{minute}:09"));
        assert_eq!(events(&mut mapper, &again, 0), ["LeftOut"], "{minute}");
    }
    // Without a readable time, arrival alone counts.
    let unread = seen("linedetection", "1", "human", "");
    assert_eq!(
        events(&mut mapper, &unread, 0),
        ["camera.line_crossed 1human"]
    );
    assert_eq!(events(&mut mapper, &unread, QUIET_MS - 1), ["LeftOut"]);
}

#[test]
fn a_heartbeat_tells_the_time_of_the_device() {
    let mut mapper = Mapper::new("cam", false);
    let well = camera("videoloss", "inactive", "1");
    said(&mut mapper, &well, 0);
    let alert = decode(&well).expect("an alert");
    assert_eq!(
        mapper.map(&alert, 0),
        Ok(DecodedMessage::Heartbeat {
            device: "cam".into(),
            time: DeviceTime::Text("2026-07-01T12:00:00"),
        })
    );
}

#[test]
fn the_heartbeat_is_one_unless_a_picture_was_lost() {
    let mut mapper = Mapper::new("cam", false);
    let well = camera("videoloss", "inactive", "1");
    let other = camera("videoloss", "inactive", "2");
    // The first one of each channel may be the end of a loss from before the connection.
    assert_eq!(said(&mut mapper, &well, 0), "camera.restored");
    assert_eq!(said(&mut mapper, &other, 0), "camera.restored");
    assert_eq!(said(&mut mapper, &well, 0), "heartbeat");
    assert_eq!(
        said(&mut mapper, &camera("videoloss", "active", "1"), 0),
        "camera.blind"
    );
    assert_eq!(said(&mut mapper, &other, 0), "heartbeat");
    assert_eq!(said(&mut mapper, &well, 0), "camera.restored");
    assert_eq!(said(&mut mapper, &well, 0), "heartbeat");
    mapper.connected();
    assert_eq!(said(&mut mapper, &well, 0), "camera.restored");
    assert_eq!(said(&mut mapper, &well, 0), "heartbeat");
    assert_eq!(
        said(&mut mapper, &camera("heartBeat", "active", ""), 0),
        "heartbeat"
    );
}

#[test]
fn a_heartbeat_may_be_another_event_by_its_type() {
    let text = "<EventNotificationAlert><dateTime>2018-01-31T07:21:21-05:00</dateTime><eventType>other</eventType>\
        <eventDescription>Heartbeat</eventDescription><eventState>inactive</eventState></EventNotificationAlert>";
    let mut mapper = Mapper::new("bell", false);
    assert_eq!(said(&mut mapper, text, 0), "heartbeat");
    let other = text.replace("Heartbeat", "something");
    assert_eq!(said(&mut mapper, &other, 0), "left out: unknown type other");
}

#[test]
fn an_unknown_type_is_left_out_by_its_name() {
    let mut mapper = Mapper::new("cam", false);
    let long = "x".repeat(500);
    assert_eq!(
        said(&mut mapper, &camera("parkingDetection", "active", "1"), 0),
        "left out: unknown type parkingDetection"
    );
    assert_eq!(
        said(&mut mapper, &camera(&long, "active", "1"), 0),
        format!("left out: unknown type {}", &long[..40])
    );
}

#[test]
fn a_door_opens_once_and_closes_when_its_contact_does() {
    let mut mapper = Mapper::new("gate", false);
    let mut serial = 0;
    let mut tell = |minor| {
        serial += 1;
        said(&mut mapper, &door(5, minor, serial), 0)
    };
    let other = |minor: u32| format!("left out: 5/{minor} the other one of lock and contact");
    // No contact: the lock is the door.
    assert_eq!(
        [tell(0x15), tell(0x4b), tell(0x16)],
        ["door.opened", "door.granted", "door.closed"]
    );
    // With one: the lock falls shut long before the door does.
    assert_eq!(
        [tell(0x15), tell(0x19), tell(0x16), tell(0x1a)],
        [
            "door.opened".to_owned(),
            other(0x19),
            other(0x16),
            "door.closed".to_owned()
        ]
    );
    // Access granted, and nobody entered.
    assert_eq!([tell(0x15), tell(0x16)], ["door.opened", "door.closed"]);
    assert_eq!(
        [tell(0x1b), tell(0x1c), tell(0x1a)],
        ["door.forced", "door.held", "door.closed"]
    );
    assert_eq!(tell(0x09), "door.denied");
    assert_eq!(tell(0xfff), "left out: 5/4095 unknown");
}

#[test]
fn an_event_of_a_door_has_an_id_for_good_and_persons_apart() {
    let mut mapper = Mapper::new("gate", true);
    let text = door(5, 0x01, 18);
    let alert = decode(&text).expect("an alert");
    let Ok(DecodedMessage::Events(device_events)) = mapper.map(&alert, 0) else {
        panic!("no event");
    };
    let device_event = &device_events[0];
    assert_eq!(device_event.id, "gate/18/1782878400");
    assert_eq!(device_event.device, "gate/1");
    assert_eq!(device_event.retention, Retention::Access);
    assert_eq!(device_event.time, DeviceTime::Ms(1_782_878_400_000));
    let persons: Vec<_> = device_event
        .persons
        .iter()
        .map(|(person, value)| (*person, value.as_ref()))
        .collect();
    assert_eq!(persons, [(Person::Card, "3271"), (Person::Name, "王小明")]);
    let shown = format!("{:?}", device_event.attributes);
    assert!(
        !shown.contains("3271") && !shown.contains("王小明"),
        "{shown}"
    );
}

/// A recording of real devices, if it lies beside the clone.
fn recording(name: &str) -> Option<Vec<u8>> {
    let folder: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "..",
        "..",
        "shared",
        "captures",
        "isapi",
    ]
    .iter()
    .collect();
    let read = std::fs::read(folder.join(name));
    if read.is_err() {
        println!("skipped: the recording {name} is not there");
    }
    read.ok()
}

/// Counts the result of each message of a stream.
fn account(mapper: &mut Mapper, stream: &[u8], step_ms: u64) -> BTreeMap<String, usize> {
    let mut scanner = Scanner::new("multipart/mixed; boundary=MIME_boundary");
    let mut pieces = Vec::new();
    scanner.scan(stream, &mut pieces);
    scanner.finish(&mut pieces);
    let mut counts = BTreeMap::new();
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Part(body) = piece else {
            panic!("{piece:?}");
        };
        let text = std::str::from_utf8(body).expect("UTF-8");
        *counts
            .entry(said(mapper, text, index as u64 * step_ms))
            .or_default() += 1;
    }
    counts
}

/// The messages of a recording, one per line of JSON, as the device sent them.
fn stream(name: &str) -> Option<Vec<u8>> {
    let lines = recording(name)?;
    let mut stream = Vec::new();
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let body = line["content"].as_str().expect("content");
        let head = format!(
            "--MIME_boundary\r\nContent-Type: application/xml; charset=\"UTF-8\"\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.extend_from_slice(head.as_bytes());
        stream.extend_from_slice(body.as_bytes());
    }
    Some(stream)
}

fn counts<const N: usize>(wanted: [(&str, usize); N]) -> BTreeMap<String, usize> {
    wanted
        .into_iter()
        .map(|(what, count)| (what.to_owned(), count))
        .collect()
}

#[test]
fn every_message_of_a_recorded_camera_is_accounted_for() {
    if let Some(stream) = stream("hiksink-camera.txt") {
        let found = account(&mut Mapper::new("cam", false), &stream, 100);
        assert_eq!(found.values().sum::<usize>(), 770);
        assert_eq!((found["heartbeat"], found["camera.restored"]), (348, 1));
        assert_eq!(found["left out: VMD ended"], 30);
        assert_eq!(found["camera.motion"] + found["left out: VMD goes on"], 259);
        assert_eq!(
            found["camera.line_crossed"] + found["left out: linedetection goes on"],
            112
        );
        assert_eq!(found["left out: linedetection ended"], 20);
        assert!((30..60).contains(&found["camera.motion"]), "{found:?}");
    }
}

#[test]
fn every_message_of_a_recorded_dome_is_accounted_for() {
    if let Some(stream) = stream("hiksink-ptz.txt") {
        let found = account(&mut Mapper::new("dome", false), &stream, 100);
        assert_eq!(found.values().sum::<usize>(), 1516);
        assert_eq!((found["heartbeat"], found["camera.restored"]), (74, 1));
        assert_eq!(
            found["camera.motion"] + found["left out: VMD goes on"],
            1425
        );
        assert_eq!(
            found["camera.intrusion"] + found["left out: fielddetection goes on"],
            16
        );
    }
}

#[test]
fn every_message_of_a_recorded_door_terminal_is_accounted_for() {
    if let Some(stream) = recording("door-stream.txt") {
        let found = account(&mut Mapper::new("door", false), &stream, 0);
        let wanted = counts([
            ("door.opened", 3),
            ("door.closed", 2),
            ("door.granted", 1),
            ("device.fault", 1),
            ("left out: 2/1024 started", 1),
            ("left out: 3/112 operation", 1),
            ("left out: 5/23 exit button", 1),
        ]);
        assert_eq!(found, wanted);
    }
}
