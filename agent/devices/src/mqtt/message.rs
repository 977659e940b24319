//! A message as mappings see it, and topic filters (MQTT 3.1.1 and 5, § 4.7). Pure.
use crate::text;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a mapping points into.
#[derive(Serialize)]
struct Shown<'a> {
    topic: &'a str,
    levels: Vec<&'a str>,
    retain: bool,
    payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

/// A message as mappings see it. What is neither UTF-8 nor GB18030 stands as the empty string.
pub fn json(topic: &str, retain: bool, payload: &[u8]) -> String {
    let text = text::decode(payload).unwrap_or_default();
    let payload = match serde_json::from_str::<&RawValue>(&text) {
        Ok(value) => Payload::Json(value),
        Err(_) => Payload::Text(text.clone()),
    };
    let shown = Shown {
        topic,
        levels: topic.split('/').collect(),
        retain,
        payload,
    };
    serde_json::to_string(&shown).expect("strings and JSON are JSON")
}

/// Whether it is a topic filter.
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    // A shared subscription has other topics than its name, and gives each message to one of several.
    if filter.starts_with("$share/") {
        return false;
    }
    if filter.is_empty() || filter.len() > 1024 || filter.contains('\0') {
        return false;
    }
    while let Some(level) = levels.next() {
        let good = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['#', '+']),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Whether a filter covers a topic.
pub fn matches(filter: &str, topic: &str) -> bool {
    // Topics of the broker itself are not covered by a wildcard in the first level.
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_what_the_standard_says() {
        for (filter, topic, covered) in [
            ("zigbee2mqtt/+", "zigbee2mqtt/smoke-3", true),
            ("zigbee2mqtt/+", "zigbee2mqtt/smoke-3/availability", false),
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("+", "/finance", false),
            ("+/+", "/finance", true),
            ("#", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), covered, "{filter} {topic}");
        }
        for good in ["#", "+", "a/+/b", "a/#", "/", "烟感/+"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "$share/g/a", "a#", "a/#/b", "a+/b", "\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn a_payload_is_json_or_text_of_either_encoding() {
        assert_eq!(
            json("z/s", true, br#" {"smoke": true} "#),
            r#"{"topic":"z/s","levels":["z","s"],"retain":true,"payload":{"smoke": true}}"#
        );
        assert!(json("z", false, b"ON").ends_with(r#""payload":"ON"}"#));
        assert!(json("z", false, b"\xc1\xda\xc0\xef").ends_with(r#""payload":"邻里"}"#));
        assert!(json("z", false, b"\xff\xff\xff").ends_with(r#""payload":""}"#));
        assert!(json("z", false, b"").ends_with(r#""payload":""}"#));
    }
}
