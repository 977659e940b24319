//! The mappings of `configs/mappings`, each with a message as its platform documents it.
use super::*;
use crate::mqtt::message;
use serde_json::json;
use std::path::Path;

fn mapping(name: &str) -> Mapping {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/mappings/{name}.toml"));
    let text = std::fs::read_to_string(path).expect("a mapping of the project");
    let file = toml::from_str(&text).expect("a mapping of the project");
    Mapping::new("preset", file).expect("a mapping of the project")
}

/// `kind severity device lane attributes… state` of each item, or why there is none.
fn read(name: &str, message: &str) -> Vec<String> {
    let mapping = mapping(name);
    let mut found = Vec::new();
    mapping
        .items(message, &mut |item| {
            found.push(match mapping.map(item) {
                Ok(mapped) => {
                    let draft = &mapped.draft;
                    let mut words = vec![
                        draft.kind.to_owned(),
                        draft.severity.as_str().to_owned(),
                        draft.device.to_owned(),
                        mapped.lane.to_string(),
                    ];
                    words.extend(
                        draft
                            .attributes
                            .iter()
                            .map(|(name, value)| format!("{name}={value}")),
                    );
                    words.extend(
                        mapped
                            .persons
                            .iter()
                            .map(|(person, value)| format!("{person:?}:{value}")),
                    );
                    if let Some(state) = &mapped.state {
                        words.push(if state.active { "on" } else { "off" }.to_owned());
                    }
                    words.extend(mapped.end_id);
                    if mapped.anew {
                        words.push("anew".to_owned());
                    }
                    words.join(" ")
                }
                Err(reject) => reject.to_string(),
            });
        })
        .expect("JSON");
    found
}

#[test]
fn isecure_callbacks() {
    let event = |kind: u32, status: u8| {
        // All reports of one occurrence have its id.
        json!({"eventId": format!("occurrence-{kind}"), "eventType": kind, "happenTime": "2026-07-01T11:59:00.000+08:00",
               "srcIndex": "d17", "srcName": "1号门", "srcType": "door", "status": status,
               "data": {"ExtEventCardNo": "0012345678", "ExtEventPersonName": "王小明"}})
    };
    let events = [
        (198657, 0),
        (198914, 0),
        (131588, 1),
        (131588, 2),
        (131330, 3),
        (198914, 2),
        (131588, 4),
        (999, 0),
    ];
    let events: Vec<_> = events.map(|(kind, status)| event(kind, status)).into();
    let body = json!({"method": "OnEventNotify", "params": {"ability": "event_acs", "events": events, "sendTime": "x"}});
    assert_eq!(
        read("isecure-events", &body.to_string()),
        [
            "door.forced alarm d17 urgent srcName=1号门 Card:0012345678",
            "door.granted info d17 routine srcName=1号门 Card:0012345678",
            "camera.intrusion warning d17 routine srcName=1号门 Card:0012345678 on anew",
            "camera.restored info d17 routine srcName=1号门 Card:0012345678 off occurrence-131588/over anew",
            "camera.tamper warning d17 routine srcName=1号门 Card:0012345678 on anew",
            // The end of a condition without a state.
            "left out by the mapping's [state]",
            "left out by the mapping's [[only]]",
            "left out by the mapping's table for kind",
        ]
    );
}

#[test]
fn ai_boxes_for_lifts_and_falling_objects() {
    let message = |kind: &str| {
        json!({"alarmId": kind, "cameraId": "lift-2", "alarmType": kind, "alarmTime": "2026-07-01 11:59:00",
               "imageUrl": "/p/1.jpg", "confidence": 0.93, "face": "AAAA"}).to_string()
    };
    assert_eq!(
        read("ai-box", &message("电动车进电梯")),
        ["lift.ebike alarm lift-2 urgent confidence=0.93 picture=/p/1.jpg"]
    );
    assert_eq!(
        read("ai-box", &message("throwing")),
        ["object.fallen alarm lift-2 urgent confidence=0.93 picture=/p/1.jpg"]
    );
    assert_eq!(
        read("ai-box", &message("人脸识别")),
        ["left out by the mapping's table for kind"]
    );
}

#[test]
fn cloudevents_alone_and_in_a_batch() {
    let event = |kind: &str| {
        json!({"specversion": "1.0", "id": kind, "source": "//cloud.example/site/1", "type": kind, "subject": "smoke-7",
               "time": "2026-07-01T03:59:00Z", "datacontenttype": "application/json", "data": {"level": 3}})
    };
    let one = event("com.example.alarm.smoke");
    let expected = "smoke.alarm life smoke-7 urgent platform=//cloud.example/site/1";
    assert_eq!(read("cloudevents", &one.to_string()), [expected]);
    let batch = json!([one, event("com.example.other")]);
    assert_eq!(
        read("cloudevents", &batch.to_string()),
        [expected, "left out by the mapping's table for kind"]
    );
}

#[test]
fn zigbee_sensors_say_what_they_have_and_no_more() {
    let payload = br#"{"smoke":true,"battery_low":false,"tamper":false,"linkquality":120}"#;
    let message = message::json("zigbee2mqtt/smoke-3", false, payload);
    assert_eq!(
        read("zigbee-smoke", &message),
        ["smoke.alarm life smoke-3 urgent on"]
    );
    assert_eq!(
        read("zigbee-tamper", &message),
        ["device.tamper_restored info smoke-3 routine off"]
    );
    assert_eq!(
        read("zigbee-battery", &message),
        ["device.battery_restored info smoke-3 routine off"]
    );
    for other in ["zigbee-gas", "zigbee-water", "zigbee-availability"] {
        assert_eq!(
            read(other, &message),
            ["left out by the mapping's missing = \"skip\" of kind"],
            "{other}"
        );
    }
}

#[test]
fn zigbee_availability_is_json_or_plain_text() {
    for (payload, event) in [
        (
            r#"{"state":"offline"}"#,
            "device.offline notice smoke-3 routine on",
        ),
        ("offline", "device.offline notice smoke-3 routine on"),
        ("OFFLINE\0", "device.offline notice smoke-3 routine on"),
        (" Offline\n", "device.offline notice smoke-3 routine on"),
        ("\"offline\"", "device.offline notice smoke-3 routine on"),
        ("0", "device.offline notice smoke-3 routine on"),
        ("false", "device.offline notice smoke-3 routine on"),
        ("online", "device.online info smoke-3 routine off"),
        (
            "{'state': 'ONLINE'}",
            "device.online info smoke-3 routine off",
        ),
        ("1", "device.online info smoke-3 routine off"),
    ] {
        let message = message::json("zigbee2mqtt/smoke-3/availability", true, payload.as_bytes());
        assert_eq!(read("zigbee-availability", &message), [event], "{payload}");
    }
}

#[test]
fn a_door_contact_of_zigbee_opens_and_closes() {
    for (payload, event) in [
        (
            r#"{"contact":false,"battery":97}"#,
            "door.opened info gate routine on",
        ),
        (r#"{"contact":true}"#, "door.closed info gate routine off"),
        ("{'contact': False}", "door.opened info gate routine on"),
        (r#"{"contact":"OFF"}"#, "door.opened info gate routine on"),
        (
            r#"{"battery":97}"#,
            "left out by the mapping's missing = \"skip\" of kind",
        ),
    ] {
        let message = message::json("zigbee2mqtt/gate", false, payload.as_bytes());
        assert_eq!(read("zigbee-contact", &message), [event], "{payload}");
    }
}

#[test]
fn a_payload_that_is_broken_is_an_alarm_or_rejected_and_never_left_out() {
    let said =
        |name: &str, payload: &[u8]| read(name, &message::json("zigbee2mqtt/s1", false, payload));
    let smoke = ["smoke.alarm life s1 urgent on"];
    for payload in [
        &b"{\"temperature\":NaN,\"smoke\":true}"[..],
        b"{'smoke': True}",
        b"{\"smoke\":true",
        // A comma as decimal point, and the value of a sensor without a probe.
        b"{\"humidity\":61,13,\"pressure\":1008,7,\"smoke\":true}",
        b"{\"DHT11\":{\"Temperature\": nan,\"Humidity\": nan},\"smoke\":true}",
        b"{\"smoke\":\"ON\",\"name\":\"\xb3\xf7\xb7\"}",
        b"{\"smoke\":1}\0\0",
        b"\xff\xfe{\0\"\0s\0m\0o\0k\0e\0\"\0:\0t\0r\0u\0e\0}\0",
    ] {
        assert_eq!(
            said("zigbee-smoke", payload),
            smoke,
            "{}",
            payload.escape_ascii()
        );
    }
    for payload in [
        &b"{\"temperature\":1,\"smo"[..],
        b"{\"smoke\":tru",
        b"{\"smoke",
        // A damaged key.
        b"{\"smokd\":true}",
        b"{\"battery\":1,\"smo\xffe\":true}",
    ] {
        let said = said("zigbee-smoke", payload);
        assert!(!said[0].starts_with("left out"), "{said:?}");
    }
    let several = said("zigbee-smoke", b"{\"smoke\":false}\n{\"smoke\":true}");
    assert_eq!(several, ["smoke.restored info s1 routine off", smoke[0]]);
}

#[test]
fn frigate_tells_of_an_object_once_and_names_nobody() {
    let event = |kind: &str| {
        let after = json!({"id": "1782878300.1-abc", "camera": "gate", "label": "person", "sub_label": "王小明", "score": 0.8,
                           "entered_zones": ["yard"], "start_time": 1_782_878_300.123});
        let body = json!({"type": kind, "before": after, "after": after}).to_string();
        message::json("frigate/events", false, body.as_bytes())
    };
    assert_eq!(
        read("frigate-events", &event("new")),
        ["camera.motion info gate routine label=person zone=yard"]
    );
    for again in ["update", "end"] {
        assert_eq!(
            read("frigate-events", &event(again)),
            ["left out by the mapping's [[only]]"]
        );
    }
}
