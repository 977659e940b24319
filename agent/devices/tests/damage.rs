//! Good alarms of each protocol, with each bit of each byte flipped in turn, and cut after each byte. Every one is an event, a sign of
//! life, or a reject with a reason; it is left out only by a rule that the test names. If the part that says what it is is whole, it is
//! the alarm. `tests/tests/damage.rs` sends such messages through the sockets of a running agent.
use jiff::civil::date;
use linli_devices::dc09::contact_id::Report;
use linli_devices::dc09::frame as dc09;
use linli_devices::dc09::map::{From, utc_ms};
use linli_devices::dc09::message::{Content, Header, Id};
use linli_devices::dc09::sia_dcs::Block;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::gb26875::frame::{self as gb26875, Address, Command, Frame, Head, WireTime};
use linli_devices::gb26875::unit::Unit;
use linli_devices::gb28181::{manscdp, map as gb28181, sip};
use linli_devices::hikvision::{alert, map::Mapper};
use linli_devices::mapping::Mapping;
use linli_devices::mapping::capture::Capture;
use linli_devices::modbus;
use linli_devices::modbus::map::{Answer, RegisterMap};
use linli_devices::modbus::watchers::Watchers;
use linli_devices::multipart::{Piece, Scanner};
use linli_devices::{dahua, mqtt, ocpp, onvif, text};
use std::path::Path;

/// What a message came to.
#[derive(Debug)]
enum Outcome {
    Events(Vec<String>),
    Heartbeat,
    LeftOut(String),
    Rejected(String),
}

fn outcome(message: Result<DecodedMessage<'_>, Reject>) -> Outcome {
    match message {
        Ok(DecodedMessage::Events(events)) => Outcome::Events(
            events
                .iter()
                .filter(|event| event.state.as_ref().is_none_or(|state| state.active))
                .map(|event| event.kind.to_string())
                .collect(),
        ),
        Ok(DecodedMessage::Heartbeat { .. }) => Outcome::Heartbeat,
        Ok(DecodedMessage::LeftOut { what, .. }) => Outcome::LeftOut(what.into_owned()),
        Err(reject) => Outcome::Rejected(reject.reason),
    }
}

/// Where each of these stands in a message.
fn places(message: &[u8], heads: &[&str]) -> Vec<std::ops::Range<usize>> {
    let find = |head: &&str| {
        let mut windows = message.windows(head.len());
        let at = windows.position(|window| window == head.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{head} is not in the message"));
        at..at + head.len()
    };
    heads.iter().map(find).collect()
}

/// Damages a message in every way. `heads` are the parts that say what it is: without damage to them it is `kind`. A message is left
/// out only by a rule whose name begins with one of `rules`: the damage has made it one that the rule names.
fn damage(
    name: &str,
    message: &[u8],
    kind: &str,
    heads: &[&str],
    rules: &[&str],
    decode: impl Fn(&[u8]) -> Vec<Outcome>,
) {
    let heads = places(message, heads);
    let check = |bytes: &[u8], is_whole: bool, what: &str| {
        let outcomes = decode(bytes);
        assert!(!outcomes.is_empty(), "{name}, {what}: nothing");
        let mut is_alarm = false;
        for outcome in &outcomes {
            match outcome {
                Outcome::Events(kinds) => is_alarm |= kinds.iter().any(|found| found == kind),
                Outcome::Heartbeat => {}
                Outcome::LeftOut(rule) => assert!(
                    rules.iter().any(|known| rule.starts_with(known)),
                    "{name}, {what}: left out by {rule:?} of {}",
                    String::from_utf8_lossy(bytes)
                ),
                Outcome::Rejected(reason) => assert!(!reason.is_empty(), "{name}"),
            }
        }
        assert!(
            is_alarm || !is_whole,
            "{name}, {what}: {outcomes:?} of {}",
            String::from_utf8_lossy(bytes)
        );
    };
    check(message, true, "whole");
    for at in 0..message.len() {
        let is_whole = !heads.iter().any(|head| head.contains(&at));
        for bit in 0..8 {
            let mut bytes = message.to_vec();
            bytes[at] ^= 1 << bit;
            check(&bytes, is_whole, &format!("byte {at} bit {bit}"));
        }
    }
    for end in 1..message.len() {
        let is_whole = heads.iter().all(|head| head.end <= end);
        check(&message[..end], is_whole, &format!("cut at {end}"));
    }
}

fn mapping(name: &str) -> Mapping {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/mappings/{name}.toml"));
    let text = std::fs::read_to_string(path).expect("a mapping of the project");
    let file = toml::from_str(&text).expect("a mapping of the project");
    Mapping::new("damage", file).expect("a mapping of the project")
}

fn mapped_item(mapping: &Mapping, item: &Capture<'_>) -> Outcome {
    match mapping.map(item) {
        Ok(mapped) => Outcome::Events(vec![mapped.draft.kind.to_owned()]),
        Err(reject) if reject.is_left_out() => Outcome::LeftOut(reject.to_string()),
        Err(reject) => Outcome::Rejected(reject.to_string()),
    }
}

fn mapped(mapping: &Mapping, body: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let read = mapping.items(body, &mut |item| outcomes.push(mapped_item(mapping, item)));
    if let Err(error) = read {
        outcomes.push(Outcome::Rejected(error.to_string()));
    }
    outcomes
}

fn hikvision(body: &[u8]) -> Vec<Outcome> {
    let text = text::lossy(body);
    let mut mapper = Mapper::new("cam", true);
    let alerts = alert::decode_all(&text);
    let said = alerts.iter().map(|alert| match alert {
        Ok(alert) => outcome(mapper.map(alert, 0)),
        Err(reject) => Outcome::Rejected(reject.reason.clone()),
    });
    said.collect()
}

#[test]
fn a_hikvision_alert() {
    let message = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<EventNotificationAlert version=\"2.0\" xmlns=\"http://www.hikvision.com/ver20/XMLSchema\">\r\n\
        <ipAddress>10.0.0.7</ipAddress>\r\n<channelID>1</channelID>\r\n<dateTime>2026-07-01T12:00:00+08:00</dateTime>\r\n\
        <activePostCount>1</activePostCount>\r\n<eventType>firedetection</eventType>\r\n<eventState>active</eventState>\r\n\
        <eventDescription>明火</eventDescription>\r\n<DetectionRegionList><DetectionRegionEntry><regionID>3</regionID>\
        </DetectionRegionEntry></DetectionRegionList>\r\n</EventNotificationAlert>\r\n";
    let heads = [
        "<eventType>firedetection</eventType>",
        "<eventState>active</eventState>",
    ];
    damage(
        "alert",
        message.as_bytes(),
        "fire.alarm",
        &heads[..1],
        &[],
        |body| {
            // A state that is damaged is one that nobody knows: it goes on.
            hikvision(body)
        },
    );
}

#[test]
fn a_hikvision_door() {
    let message = r#"{"ipAddress":"10.0.0.8","dateTime":"2026-07-01T12:00:00+08:00","eventType":"AccessControllerEvent","eventState":"active","AccessControllerEvent":{"majorEventType":5,"subEventType":27,"doorNo":1,"serialNo":901,"name":"王小明","currentEvent":true}}"#;
    let heads = [
        r#"{"ipAddress"#,
        r#""eventType":"AccessControllerEvent","#,
        r#""AccessControllerEvent":{"majorEventType":5,"subEventType":27,"#,
    ];
    damage(
        "door",
        message.as_bytes(),
        "door.forced",
        &heads,
        &["1/", "3/", "4/", "5/"],
        hikvision,
    );
}

#[test]
fn a_hikvision_stream() {
    let part = |kind: &str| {
        let body = format!(
            "<EventNotificationAlert><channelID>1</channelID><eventType>{kind}</eventType><eventState>active</eventState></EventNotificationAlert>"
        );
        format!(
            "--MIME_boundary\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}\r\n",
            body.len()
        )
    };
    // The first part of a connection: damage to its delimiter, or to its head, costs it nothing.
    let first = part("firedetection") + &part("VMD");
    let scanned = |bytes: &[u8]| {
        let mut scanner = Scanner::new("multipart/mixed; boundary=MIME_boundary");
        let mut pieces = Vec::new();
        scanner.scan(bytes, &mut pieces);
        scanner.finish(&mut pieces);
        let outcomes = pieces.iter().flat_map(|piece| match piece {
            Piece::Part(body) => hikvision(body),
            Piece::Picture { .. } => vec![Outcome::Heartbeat],
            Piece::Rejected { damage, .. } => vec![Outcome::Rejected(damage.to_string())],
        });
        let outcomes: Vec<_> = outcomes.collect();
        // Blanks and dashes alone are nothing, and nothing was lost with them.
        if outcomes.is_empty() {
            return vec![Outcome::Heartbeat];
        }
        outcomes
    };
    let head = "<eventType>firedetection</eventType>";
    damage(
        "first",
        first.as_bytes(),
        "fire.alarm",
        &[head],
        &[],
        scanned,
    );
    let stream = part("VMD") + &part("firedetection") + &part("videoloss");
    let heads = ["<eventType>firedetection</eventType>"];
    // The head of the second part: damage to its delimiter, or to other parts, costs it nothing.
    let second = stream.find("<eventType>firedetection").expect("a part");
    assert!(stream[..second].contains("Content-Length: 1"));
    damage(
        "stream",
        stream.as_bytes(),
        "fire.alarm",
        &heads[..1],
        &[],
        scanned,
    );
}

#[test]
fn a_dahua_event() {
    let message = "Code=VideoMotion;action=Start;index=0;data={ \"Name\" : \"a\" }\r\nCode=FireWarning;action=Start;index=6;data={ \"Object\" : { \"ObjectType\" : \"Fire\" }, \"RealUTC\" : 1782878400, \"LocaleTime\" : \"2026-07-01 12:00:00\" }\r\n";
    damage(
        "dahua",
        message.as_bytes(),
        "fire.alarm",
        &["Code=FireWarning;action=Start"],
        &[],
        |body| {
            let text = text::lossy(body);
            let read = dahua::message::decode_all(&text);
            let said = read.iter().map(|message| match message {
                Ok(message) => outcome(dahua::map::map("nvr", true, message)),
                Err(reject) => Outcome::Rejected(reject.reason.clone()),
            });
            said.collect()
        },
    );
}

const ALARM: &str = "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n<SN>9</SN>\r\n<DeviceID>34020000001320000001</DeviceID>\r\n<AlarmPriority>1</AlarmPriority>\r\n<AlarmMethod>2</AlarmMethod>\r\n<AlarmTime>2026-12-01T02:00:00</AlarmTime>\r\n<AlarmDescription>words</AlarmDescription>\r\n<Info><AlarmType>2</AlarmType></Info>\r\n</Notify>\r\n";
const ALARM_HEADS: [&str; 3] = [
    "<CmdType>Alarm</CmdType>",
    "<AlarmMethod>2</AlarmMethod>",
    "<AlarmType>2</AlarmType>",
];

fn manscdp(body: &[u8]) -> Vec<Outcome> {
    let text = text::lossy(body);
    let from = gb28181::From {
        device: "34020000001180000001",
        call: "",
    };
    let bodies = manscdp::decode_all(&text);
    let said = bodies.iter().flat_map(|body| match body {
        Ok(body) => {
            let broken = from
                .broken(body)
                .map(|reject| Outcome::Rejected(reject.reason));
            [Some(outcome(from.said(body))), broken]
                .into_iter()
                .flatten()
                .collect()
        }
        Err(reject) => vec![Outcome::Rejected(reject.reason.clone())],
    });
    said.collect()
}

#[test]
fn an_alarm_of_gb28181() {
    damage(
        "MANSCDP",
        ALARM.as_bytes(),
        "device.tamper",
        &ALARM_HEADS,
        &[],
        manscdp,
    );
    let gbk = encoding_rs::GB18030
        .encode(&ALARM.replace("words", "右侧防拆报警"))
        .0
        .into_owned();
    damage(
        "MANSCDP in GBK",
        &gbk,
        "device.tamper",
        &ALARM_HEADS,
        &[],
        manscdp,
    );
    let head = "MESSAGE sip:34020000002000000001@3402000000 SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.64:5060;branch=z9hG4bK1\r\nFrom: <sip:34020000001180000001@3402000000>;tag=1\r\nTo: <sip:34020000002000000001@3402000000>\r\nCall-ID: 7\r\nCSeq: 20 MESSAGE\r\n";
    let datagram = format!("{head}Content-Length: {}\r\n\r\n{ALARM}", ALARM.len());
    // The start line, and what makes each line of the head one.
    let heads = [
        head,
        "\r\nContent-Length: ",
        "\r\n\r\n<",
        ALARM_HEADS[0],
        ALARM_HEADS[1],
        ALARM_HEADS[2],
    ];
    damage(
        "SIP",
        datagram.as_bytes(),
        "device.tamper",
        &heads,
        &[],
        |bytes| match sip::Message::datagram(bytes) {
            Ok(message) if message.body.is_empty() => vec![Outcome::Rejected("no body".to_owned())],
            Ok(message) => manscdp(message.body),
            Err((error, _)) => vec![Outcome::Rejected(error.to_string())],
        },
    );
}

#[test]
fn a_notification_of_onvif() {
    let message = r#"<?xml version="1.0"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:tt="t"><s:Body><tev:PullMessagesResponse><wsnt:NotificationMessage><wsnt:Topic Dialect="d">tns1:RuleEngine/TamperDetector/Tamper</wsnt:Topic><wsnt:Message><tt:Message UtcTime="2026-11-30T18:26:22Z" PropertyOperation="Changed"><tt:Source><tt:SimpleItem Name="VideoSourceConfigurationToken" Value="V2"/></tt:Source><tt:Data><tt:SimpleItem Name="IsTamper" Value="true"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage></tev:PullMessagesResponse></s:Body></s:Envelope>"#;
    let heads = [
        r#"<wsnt:Topic Dialect="d">tns1:RuleEngine/TamperDetector/Tamper</wsnt:Topic>"#,
        r#"PropertyOperation="Changed">"#,
        r#"<tt:SimpleItem Name="IsTamper" Value="true"/>"#,
    ];
    damage(
        "ONVIF",
        message.as_bytes(),
        "camera.tamper",
        &heads,
        &[],
        |body| {
            let text = text::lossy(body);
            let answer = match onvif::soap::read(&text) {
                Ok(answer) => answer,
                Err(error) => return vec![Outcome::Rejected(error.to_string())],
            };
            let mut outcomes: Vec<Outcome> = answer
                .notifications
                .iter()
                .map(|told| outcome(onvif::map::said("cam", told)))
                .collect();
            outcomes.extend(answer.broken.iter().cloned().map(Outcome::Rejected));
            if outcomes.is_empty() {
                // An answer with nothing in it: the device is there.
                outcomes.push(Outcome::Heartbeat);
            }
            outcomes
        },
    );
}

#[test]
fn a_status_of_ocpp() {
    let message = r#"[2,"m7","StatusNotification",{"connectorId":3,"errorCode":"HighTemperature","status":"Faulted","timestamp":"2026-07-01T04:00:00Z","info":"枪头"}]"#;
    let heads = [
        r#"[2,"m7","StatusNotification",{"#,
        r#""errorCode":"HighTemperature","#,
    ];
    damage(
        "OCPP",
        message.as_bytes(),
        "pile.overheat",
        &heads,
        &[],
        |bytes| {
            let text = text::lossy(bytes);
            vec![match ocpp::message::messages(&text).remove(0) {
                Ok(ocpp::message::Message::Call {
                    action, payload, ..
                }) => outcome(ocpp::message::call("cp", &action, payload.get(), "now", 60).0),
                Ok(ocpp::message::Message::Answer) => Outcome::Heartbeat,
                Err(reject) => Outcome::Rejected(reject.reason),
            }]
        },
    );
}

#[test]
fn a_payload_of_mqtt() {
    let smoke = mapping("zigbee-smoke");
    let message = r#"{"battery_low":false,"name":"三楼烟感","smoke":true,"temperature":21.5,"linkquality":120}"#;
    damage(
        "MQTT",
        message.as_bytes(),
        "smoke.alarm",
        &["{", r#""smoke":true,"#],
        &[],
        |payload| {
            mapped(
                &smoke,
                &mqtt::message::json("zigbee2mqtt/s1", false, payload),
            )
        },
    );
}

#[test]
fn a_push() {
    let doors = mapping("doors");
    let message = r#"{"events":[{"serial":"t5","device":"d","type":"open","time":"2026-11-30 18:26:22"},{"serial":"t4","device":"d","building":"3号楼","type":"fire","time":"2026-11-30 18:26:22"}]}"#;
    damage(
        "push",
        message.as_bytes(),
        "fire.alarm",
        &[r#"{"events":["#, r#""type":"fire","#],
        &[],
        |body| mapped(&doors, &text::lossy(body)),
    );
}

#[test]
fn frames_with_a_checksum_are_read_or_rejected() {
    let decode = |bytes: &[u8]| {
        let mut framer = dc09::Framer::default();
        framer.feed(bytes);
        let mut outcomes = Vec::new();
        while let Some(piece) = framer.take() {
            outcomes.push(panel(piece));
        }
        while let Some(piece) = framer.give_up() {
            outcomes.push(panel(piece));
        }
        outcomes
    };
    for body in [
        "\"ADM-CID\"0001R1L2#1234[#1234|1110 01 003][L3F]_10:00:00,01-01-2026",
        "\"SIA-DCS\"0001L0#1234[#1234|Nri1/FA003]_10:00:00,01-01-2026",
        "\"NULL\"0001L0#1234[]",
    ] {
        let frame = dc09::encode(body.as_bytes());
        let kind = if body.contains("NULL") {
            ""
        } else {
            "fire.alarm"
        };
        // A panel sends again what is damaged: the whole frame is its head.
        let whole = String::from_utf8(frame.clone()).expect("ASCII");
        if kind.is_empty() {
            assert!(matches!(decode(&frame)[..], [Outcome::Heartbeat]));
        } else {
            damage("DC-09", &frame, kind, &[&whole], &[], decode);
        }
        // What was framed rightly and is damaged all the same.
        let heads: &[&str] = &["\"ADM-CID\"0001R1L2#1234[#1234|1110 "];
        if body.starts_with(heads[0]) {
            damage(
                "DC-09 body",
                body.as_bytes(),
                kind,
                &[heads[0], "]["],
                &["code "],
                |body| vec![dc09_body(body)],
            );
        }
    }
}

fn panel(piece: dc09::Piece<'_>) -> Outcome {
    match piece {
        dc09::Piece::Body(body, _) => dc09_body(body),
        dc09::Piece::Rejected(error, _) => Outcome::Rejected(error.to_string()),
    }
}

fn dc09_body(body: &[u8]) -> Outcome {
    let rejected = |error: &dyn std::fmt::Display| Outcome::Rejected(error.to_string());
    let (header, rest) = match Header::read(body) {
        Ok(read) => read,
        Err(error) => return rejected(&error),
    };
    let content = match Content::read(rest) {
        Ok(content) => content,
        Err(error) => return rejected(&error),
    };
    let from = From {
        panel: "panel",
        account: header.account,
        stem: "stem",
        sent_ms: content.time.and_then(utc_ms),
        content: &content,
    };
    match header.kind() {
        Some(Id::Null) => outcome(Ok(from.heartbeat())),
        Some(Id::AdmCid) => match Report::read(&content.data) {
            Ok(report) => outcome(Ok(from.report(report))),
            Err(error) => rejected(&error),
        },
        Some(Id::SiaDcs) => match Block::read(&content.data) {
            Ok(block) => outcome(Ok(from.block(block))),
            Err(error) => rejected(&error),
        },
        None => rejected(&format!("messages of {} are not read", header.id)),
    }
}

#[test]
fn a_frame_of_gb26875() {
    let now = date(2026, 8, 1).at(19, 19, 0, 0);
    let mut data = vec![2, 1, 1, 3, 40, 10, 0, 2, 0, 2, 0];
    data.extend(b"3#\xc2\xa5");
    data.resize(42, 0);
    data.extend([48, 18, 19, 1, 8, 26]);
    let head = Head {
        serial: 7,
        version: [1, 1],
        time: WireTime([48, 18, 19, 1, 8, 26]),
        source: Address([1; 6]),
        destination: Address([0; 6]),
        command: Command::Send,
    };
    let said = |head: &Head, data: &[u8]| match Unit::decode(data) {
        Ok(unit) => outcome(linli_devices::gb26875::map::said("host", head, unit, now)),
        Err(error) => Outcome::Rejected(error.to_string()),
    };
    // The kind, the count, and the part up to its bits.
    let decode = |data: &[u8]| vec![said(&head, data)];
    for at in 0..data.len() {
        for bit in 0..8 {
            let mut bytes = data.clone();
            bytes[at] ^= 1 << bit;
            let outcomes = decode(&bytes);
            let is_alarm = |outcome: &Outcome| matches!(outcome, Outcome::Events(kinds) if kinds.iter().any(|kind| kind == "fire.alarm" || kind == "gas.alarm"));
            // Kind and bits say that it is an alarm; the rest says where.
            if !matches!(at, 0 | 9) {
                assert!(
                    outcomes.iter().any(is_alarm),
                    "byte {at} bit {bit}: {outcomes:?}"
                );
            }
        }
    }
    for end in 11..data.len() {
        assert!(
            matches!(&decode(&data[..end])[..], [Outcome::Events(_)]),
            "cut at {end}"
        );
    }
    let frame = Frame { head, data: &data }.encode();
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut bytes = frame.clone();
            bytes[at] ^= 1 << bit;
            let mut framer = gb26875::Framer::default();
            framer.feed(&[&bytes[..], &frame[..]].concat());
            let mut outcomes = Vec::new();
            let mut look = |piece: gb26875::Piece<'_>| {
                outcomes.push(match piece {
                    gb26875::Piece::Frame(frame, _) => said(&frame.head, frame.data),
                    gb26875::Piece::Rejected { .. } => Outcome::Rejected("no frame".to_owned()),
                });
            };
            while let Some(piece) = framer.take() {
                look(piece);
            }
            while let Some(piece) = framer.give_up() {
                look(piece);
            }
            // The damaged one is counted, and the next one is read.
            let events = outcomes
                .iter()
                .filter(|outcome| matches!(outcome, Outcome::Events(_)));
            assert!(
                events.count() >= 1 && outcomes.len() >= 2,
                "byte {at} bit {bit}: {outcomes:?}"
            );
        }
    }
}

#[test]
fn a_push_of_a_station() {
    let incidents = mapping("police-incident");
    let message = r#"{"jqbh":"JQ77","category":"邻里","level":"1","station":"城东所","address_key":"A1","reported_at":"2026-11-30 18:26:22"}"#;
    damage(
        "incident",
        message.as_bytes(),
        "dispute.reported",
        &["{", r#""category":"邻里","#],
        &[],
        |body| mapped(&incidents, &text::lossy(body)),
    );
}

#[test]
fn a_line_of_an_import() {
    let incidents = mapping("police-incident");
    let message =
        r#"{"jqbh":"JQ77","category":"家庭暴力","level":"1","reported_at":"2026-11-30 18:26:22"}"#;
    damage(
        "JSONL",
        message.as_bytes(),
        "dispute.reported",
        &["{", r#""category":"家庭暴力","#],
        &[],
        |body| {
            let mut outcomes = Vec::new();
            let text = text::lossy(body);
            let read = incidents.line(text.trim(), &mut |item| {
                outcomes.push(mapped_item(&incidents, item));
            });
            if let Err(error) = read {
                outcomes.push(Outcome::Rejected(error.to_string()));
            }
            outcomes
        },
    );
}

const REGISTERS: &str = r#"
schema = 1
[[point]]
name = "temperature"
area = "holding"
address = 0
type = "i16"
scale = 0.1
valid = [-40.0, 200.0]
repeat = { count = 3, stride = 1 }
[[point.alarm]]
above = 70.0
clear = 60.0
kind = "pile.overheat"
restored = "pile.restored"
severity = "alarm"
"#;

#[test]
fn registers_of_modbus() {
    let map = RegisterMap::new(toml::from_str(REGISTERS).expect("TOML")).expect("a map");
    let request = &map.requests[0];
    let read = |bytes: &[u8]| {
        let words: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| {
                pair.iter()
                    .fold(0, |word, byte| (word << 8) | u16::from(*byte))
            })
            .collect();
        let mut watchers = Watchers::new(&map);
        let of = ("pile", &map);
        let read = modbus::answer::read(&Answer::Words(&words), request, of, &mut watchers, 1);
        read.into_iter().map(outcome).collect::<Vec<_>>()
    };
    // 25, 80 and 26 °C: the middle one is an alarm, whatever becomes of its neighbours.
    let whole: Vec<u8> = [250_u16, 800, 260]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    let is_alarm = |outcomes: &[Outcome]| {
        outcomes.iter().any(|outcome| {
            matches!(outcome, Outcome::Events(kinds) if kinds.iter().any(|kind| kind == "pile.overheat"))
        })
    };
    assert!(is_alarm(&read(&whole)));
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let outcomes = read(&bytes);
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| !matches!(outcome, Outcome::LeftOut(_))),
                "byte {at} bit {bit}: {outcomes:?}"
            );
            assert!(
                is_alarm(&outcomes) || matches!(at, 2 | 3),
                "byte {at} bit {bit}: {outcomes:?}"
            );
            let raw = [bytes[at & !1], bytes[at | 1]];
            let celsius = f64::from(i16::from_be_bytes(raw)) * 0.1;
            let is_broken = !(-40.0..=200.0).contains(&celsius);
            let is_rejected = outcomes
                .iter()
                .any(|outcome| matches!(outcome, Outcome::Rejected(_)));
            assert_eq!(is_rejected, is_broken, "byte {at} bit {bit}: {outcomes:?}");
        }
    }
    for end in 0..whole.len() - 1 {
        assert!(
            matches!(&read(&whole[..end])[..], [Outcome::Rejected(_)]),
            "cut at {end}"
        );
    }
    let more = [&whole[..], &[0, 1]].concat();
    assert!(matches!(&read(&more)[..], [Outcome::Rejected(_)]));
}
