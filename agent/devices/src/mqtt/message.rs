//! A message as mappings see it, and topic filters (MQTT 3.1.1 and 5, § 4.7). Pure.
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::lenient_json::{self, repair::repair};
use crate::text;

/// The fields that a mapping sees, without the payload.
#[derive(Serialize)]
struct Envelope<'a> {
    topic: &'a str,
    levels: Vec<&'a str>,
    retain: bool,
}

/// A message as mappings see it: `{"topic", "levels", "retain", "payload"}`. A payload that is neither JSON nor
/// nearly JSON becomes a text. JSON that strict parsers refuse is put in last, as received, so that the mapping sees
/// its damage; each of several documents in one payload becomes a message, one behind the other.
pub fn json(topic: &str, retain: bool, payload: &[u8]) -> String {
    let text = text::lossy(payload);
    let text = trimmed(&text);
    let mut shown = serde_json::to_string(&Envelope {
        topic,
        levels: topic.split('/').collect(),
        retain,
    })
    .expect("strings are JSON");
    shown.truncate(shown.len() - 1);
    shown.push_str(",\"payload\":");
    match serde_json::from_str::<&RawValue>(text) {
        // A document within a text.
        Ok(value) if value.get().starts_with("\"{") => {
            let within = lenient_json::scalar_text(value.get()).unwrap_or_default();
            documents(&shown, &within)
        }
        Ok(value) => whole(&shown, value.get()),
        Err(_) if is_meant_as_json(text) => documents(&shown, text),
        Err(_) => whole(&shown, &Value::from(text).to_string()),
    }
}

/// Whether a text that no parser reads is damaged JSON, and no word.
fn is_meant_as_json(text: &str) -> bool {
    text.starts_with(['{', '['])
        || text.contains("\":")
        || text.contains('{') && text.ends_with('}')
}

fn whole(shown: &str, payload: &str) -> String {
    format!("{shown}{payload}}}")
}

fn documents(shown: &str, text: &str) -> String {
    let documents = repair(text).map(|repaired| repaired.documents);
    let begins: Vec<usize> = documents
        .iter()
        .flatten()
        .map(|document| document.source.start)
        .collect();
    let mut messages = String::new();
    for (index, begin) in begins.iter().enumerate() {
        let end = begins.get(index + 1).copied().unwrap_or(text.len());
        if index > 0 {
            messages.push('\n');
        }
        // Separators between two documents belong to neither.
        let document = text[*begin..end].trim_end_matches(|letter: char| {
            letter == ',' || letter.is_whitespace() || letter.is_control()
        });
        messages.push_str(&whole(shown, document));
    }
    messages
}

/// Without blanks, and without the NULs that pad a buffer.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '\0' | '\u{feff}'))
}

/// Whether the text is a topic filter.
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    // A shared subscription has other topics than its name, and gives each message to only one of several clients.
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
        for (payload, shown) in [
            (&b"ON"[..], r#""ON""#),
            (b"offline\0", r#""offline""#),
            (b"\xc1\xda\xc0\xef", r#""\u90bb\u91cc""#),
            (b"\xff\xff", "\"\u{fffd}\u{fffd}\""),
            (b"", r#""""#),
            (b"12.50", "12.50"),
            (b"{'smoke': True}", "{'smoke': True}"),
            (br#""{\"smoke\":true}""#, r#"{"smoke":true}"#),
            (br#"{"smoke":true,"x"#, r#"{"smoke":true,"x"#),
        ] {
            let shown = shown.replace("\\u90bb\\u91cc", "邻里");
            let found = json("z", false, payload);
            let payload = found
                .strip_prefix(r#"{"topic":"z","levels":["z"],"retain":false,"payload":"#)
                .and_then(|rest| rest.strip_suffix('}'));
            assert_eq!(payload, Some(shown.as_str()));
        }
    }

    #[test]
    fn each_document_of_a_payload_is_a_message() {
        let shown = json("z", false, b"{\"a\":1}\n{\"a\":NaN},{\"a\":3");
        let messages: Vec<&str> = shown.lines().collect();
        let payloads = [r#"{"a":1}"#, r#"{"a":NaN}"#, r#"{"a":3"#];
        assert_eq!(messages.len(), payloads.len(), "{shown}");
        for (message, payload) in messages.iter().zip(payloads) {
            assert!(
                message.ends_with(&format!("\"payload\":{payload}}}")),
                "{message}"
            );
        }
    }
}
