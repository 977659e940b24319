//! The inputs of `../shared/cases` that a decoder decides on, each with its right value. They are beside the clone or not
//! there at all; the crate's own tests have hand-written members of the same kinds.
use jiff::tz::TimeZone;
use linli_devices::dc09::contact_id::Report;
use linli_devices::dc09::map::{From, utc_ms};
use linli_devices::dc09::message::{Content, Header, Id};
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::gb28181::{manscdp, map as gb28181};
use linli_devices::hikvision::{alert, map::Mapper};
use linli_devices::mapping::Mapping;
use linli_devices::time::Claim;
use linli_devices::{dahua, mqtt, ocpp, onvif, text};
use std::path::{Path, PathBuf};

fn case(name: &str) -> Option<Vec<u8>> {
    let folder: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "..",
        "..",
        "shared",
        "cases",
    ]
    .iter()
    .collect();
    let read = std::fs::read(folder.join(name));
    if read.is_err() {
        println!("skipped: the case {name} is not there");
    }
    read.ok()
}

fn mapping(name: &str) -> Mapping {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/mappings/{name}.toml"));
    let text = std::fs::read_to_string(path).expect("a mapping of the project");
    let file = toml::from_str(&text).expect("a mapping of the project");
    Mapping::new("case", file).expect("a mapping of the project")
}

/// `kind severity id device claim` of each item of a body, or why there is none.
fn pushed(mapping: &Mapping, body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let read = mapping.items(&text::lossy(body), &mut |item| {
        found.push(match mapping.map(item) {
            Ok(mapped) => {
                assert!(!mapped.replayed);
                let claim = match &mapped.claim {
                    Claim::None => "no time".to_owned(),
                    Claim::Ms(ms) => ms.to_string(),
                    Claim::Unreadable(text) => format!("unread {text}"),
                };
                let draft = &mapped.draft;
                let severity = draft.severity.as_str();
                format!(
                    "{} {severity} {} {} {claim}",
                    draft.kind, draft.source_id, draft.device
                )
            }
            Err(reject) => reject.to_string(),
        });
    });
    read.expect("items");
    found
}

/// Kind, device and claim of each event, or what else a message came to.
fn said(message: Result<DecodedMessage<'_>, Reject>) -> Vec<String> {
    let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
    match message {
        Ok(DecodedMessage::Events(events)) => events
            .iter()
            .filter(|event| event.state.as_ref().is_none_or(|state| state.active))
            .map(|event| {
                assert!(!event.replayed);
                format!(
                    "{} {} {:?}",
                    event.kind,
                    event.device,
                    event.time.claim(&zone)
                )
            })
            .collect(),
        Ok(DecodedMessage::Heartbeat { device, time }) => {
            vec![format!("heartbeat {device} {:?}", time.claim(&zone))]
        }
        Ok(DecodedMessage::LeftOut { what, .. }) => vec![format!("left out: {what}")],
        Err(reject) => vec![format!("rejected: {reject}")],
    }
}

/// What a body of DC-09 in clear comes to.
fn panel(body: &[u8]) -> Vec<String> {
    let (header, rest) = Header::read(body).expect("a header");
    let content = Content::read(rest).expect("content");
    let from = From {
        panel: "panel",
        account: header.account,
        stem: "stem",
        sent_ms: content.time.and_then(utc_ms),
        content: &content,
    };
    said(Ok(match header.kind() {
        Some(Id::Null) => from.heartbeat(),
        _ => from.report(Report::read(&content.data).expect("a report")),
    }))
}

#[test]
fn numbers_are_kept_as_they_are_written() {
    let lifts = mapping("ai-box");
    if let Some(body) = case("big-numbers/ids.json") {
        assert_eq!(
            pushed(&lifts, &body),
            [
                "fire.alarm life 310112202611300000000001 lift-2 1796034382000",
                "fire.alarm life 310112202611300000000002 lift-3 1796034382000",
            ]
        );
    }
    if let Some(body) = case("big-numbers/devices.json") {
        assert_eq!(
            pushed(&lifts, &body),
            [
                "fire.alarm life b1 34020000001320000001 1796034382000",
                "fire.alarm life b2 34020000001320000002 1796034382000",
            ]
        );
    }
    if let Some(lines) = case("big-numbers/incidents.jsonl") {
        let mapping = mapping("police-incident");
        let mut ids = Vec::new();
        for line in text::lossy(&lines).lines() {
            let read = mapping.line(line, &mut |item| {
                let mapped = mapping.map(item).expect("an event");
                ids.push(mapped.draft.source_id.to_owned());
            });
            read.expect("an item");
        }
        assert_eq!(
            ids,
            ["310112202611300000000001", "310112202611300000000002"]
        );
    }
}

#[test]
fn a_clock_years_behind_is_a_claim() {
    if let Some(body) = case("clock-years-behind/fire.json") {
        assert_eq!(
            pushed(&mapping("doors"), &body),
            ["fire.alarm life clock-1 d9 1652371210000"]
        );
    }
    if let Some(body) = case("clock-years-behind/panel.txt") {
        assert_eq!(panel(&body), ["fire.alarm panel/55 Ms(1609459210000)"]);
    }
}

#[test]
fn a_time_costs_no_alarm() {
    if let Some(body) = case("time-costs-the-alarm/null.json") {
        assert_eq!(
            pushed(&mapping("doors"), &body),
            ["fire.alarm life t1 d1 no time"]
        );
    }
    if let Some(body) = case("time-costs-the-alarm/two.json") {
        assert_eq!(
            pushed(&mapping("doors"), &body),
            [
                "fire.alarm life t4 d unread 0000-00-00 00:00:00",
                "door.opened info t5 d 1796034382000"
            ]
        );
    }
    if let Some(body) = case("time-costs-the-alarm/exponent.json") {
        assert_eq!(
            pushed(&mapping("ai-box"), &body),
            ["fire.alarm life t3 lift-2 1796063182250"]
        );
    }
    if let Some(body) = case("time-costs-the-alarm/dc09.txt") {
        assert_eq!(
            panel(&body),
            ["fire.alarm panel/45 Unreadable(\"00:00:00,00-00-0000\")"]
        );
    }
}

#[test]
fn a_letter_that_was_cut_costs_itself() {
    if let Some(body) = case("cut-character/push-gbk.json") {
        assert_eq!(
            pushed(&mapping("doors"), &body),
            ["fire.alarm life cut-1 d1 1796034382000"]
        );
    }
    if let Some(body) = case("cut-character/gb28181-alarm.xml") {
        let text = text::lossy(&body);
        let body = manscdp::decode(&text).expect("a body");
        let from = gb28181::From {
            device: "34020000001180000001",
            call: "",
        };
        assert_eq!(
            said(from.said(&body)),
            ["device.tamper 34020000001180000001/34020000001320000001 Ms(1796061600000)"]
        );
        assert!(
            body.description.starts_with("右侧录像机防拆")
                || body.description.ends_with('\u{fffd}'),
            "{}",
            body.description
        );
    }
    if let Some(body) = case("cut-character/hik.json") {
        let text = text::lossy(&body);
        let alert = alert::decode(&text).expect("an alert");
        let mut mapper = Mapper::new("gate", false);
        assert_eq!(
            said(mapper.map(&alert, 0)),
            ["door.forced gate Ms(1796061600000)"]
        );
    }
}

#[test]
fn broken_data_of_dahua_cost_data_only() {
    let kinds = |body: &[u8]| {
        let text = text::lossy(body);
        let message = dahua::message::decode(&text).expect("a message");
        said(dahua::map::map("nvr", false, &message))
    };
    if let Some(body) = case("dahua-cut-json/fire.txt") {
        assert_eq!(kinds(&body), ["fire.alarm nvr None"]);
    }
    if let Some(body) = case("dahua-cut-json/part.txt") {
        assert_eq!(
            kinds(&body),
            ["camera.line_crossed nvr None", "panic.alarm nvr None"]
        );
    }
}

#[test]
fn an_empty_prefix_of_dc09_is_as_none() {
    if let Some(body) = case("dc09-empty-prefix/fire.txt") {
        assert_eq!(panel(&body), ["fire.alarm panel/3 None"]);
    }
    if let Some(body) = case("dc09-empty-prefix/null.txt") {
        assert_eq!(panel(&body), ["heartbeat panel Ms(1559921978000)"]);
    }
}

#[test]
fn payloads_of_mqtt_that_are_nearly_json_are_alarms() {
    for (name, preset, event) in [
        (
            "mqtt-broken-json/nan.json",
            "zigbee-smoke",
            "smoke.alarm life  s1 no time",
        ),
        (
            "mqtt-broken-json/dict.txt",
            "zigbee-smoke",
            "smoke.alarm life  s1 no time",
        ),
        (
            "mqtt-broken-json/cut.bin",
            "zigbee-gas",
            "gas.alarm life  s1 no time",
        ),
    ] {
        if let Some(payload) = case(name) {
            let message = mqtt::message::json("zigbee2mqtt/s1", false, &payload);
            assert_eq!(
                pushed(&mapping(preset), message.as_bytes()),
                [event],
                "{name}"
            );
        }
    }
    if let Some(payload) = case("zigbee-availability-text/payload.txt") {
        let message = mqtt::message::json("zigbee2mqtt/s1/availability", true, &payload);
        let found = pushed(&mapping("zigbee-availability"), message.as_bytes());
        assert_eq!(found, ["device.offline notice  s1 no time"]);
    }
}

#[test]
fn loose_frames_of_ocpp_are_alarms_with_an_answer() {
    for (name, device) in [
        ("ocpp-loose/number.json", "cp/3"),
        ("ocpp-loose/text-connector.json", "cp/4"),
        ("ocpp-loose/twice.json", "cp/2"),
    ] {
        let Some(frame) = case(name) else { continue };
        let text = text::lossy(&frame);
        let Ok(ocpp::message::Message::Call {
            action, payload, ..
        }) = ocpp::message::messages(&text).remove(0)
        else {
            panic!("{name}");
        };
        let (message, reply) = ocpp::message::call("cp", &action, payload.get(), "now", 60);
        assert_eq!(
            said(message)[0],
            format!("pile.overheat {device} None"),
            "{name}"
        );
        assert!(matches!(reply, ocpp::message::Reply::Result(_)), "{name}");
    }
}

#[test]
fn notifications_of_onvif_are_read_in_every_spelling() {
    for (name, token, ms) in [
        ("onvif-topic/pull.xml", "V2", 1_796_063_182_000_i64),
        ("onvif-utctime/pull.xml", "V3", 1_796_063_182_841),
    ] {
        let Some(body) = case(name) else { continue };
        let pulled = format!(
            "<s:Envelope><s:Body>{}</s:Body></s:Envelope>",
            text::lossy(&body)
        );
        let answer = onvif::soap::read(&pulled).expect("an answer");
        let found = said(onvif::map::said("cam", &answer.notifications[0]));
        assert_eq!(
            found,
            [format!("camera.tamper cam/{token} Ms({ms})")],
            "{name}"
        );
    }
}
