//! Maps notifications by their topics (ONVIF Core § 9, Imaging, Analytics and Device IO service specifications).
//!
//! *Initialized* arrives with every subscription: it carries the current state, and is an event only if the known
//! state differs; it is a replay, because its time is that of the change. *Deleted*, and topics that are in none of
//! [`STATES`], [`HAPPENINGS`] and [`FIRES`], are left out and counted; a damaged name of one of the first two is
//! rejected. A topic is recognised in any case of its parts, and with more parts before or behind.
//!
//! `UtcTime` is UTC by its definition, with a `Z` or without.
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use std::borrow::Cow;

use super::soap::Notification;
use crate::bounded;
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};
use crate::misspelling;

/// A topic that is on or off.
struct StateTopic {
    topic: &'static str,
    /// The data item with the state; several names where devices differ.
    items: &'static [&'static str],
    on: &'static str,
    off: &'static str,
    severity: Severity,
}

const fn state(
    topic: &'static str,
    items: &'static [&'static str],
    on: &'static str,
    off: &'static str,
    severity: Severity,
) -> StateTopic {
    StateTopic {
        topic,
        items,
        on,
        off,
        severity,
    }
}

/// Topics that are on or off.
const STATES: &[StateTopic] = &[
    state(
        "VideoSource/MotionAlarm",
        &["State"],
        "camera.motion",
        "camera.restored",
        Severity::Info,
    ),
    state(
        "RuleEngine/CellMotionDetector/Motion",
        &["IsMotion"],
        "camera.motion",
        "camera.restored",
        Severity::Info,
    ),
    state(
        "RuleEngine/MotionRegionDetector/Motion",
        &["State"],
        "camera.motion",
        "camera.restored",
        Severity::Info,
    ),
    state(
        "VideoAnalytics/MotionDetection",
        &["State"],
        "camera.motion",
        "camera.restored",
        Severity::Info,
    ),
    state(
        "RuleEngine/FieldDetector/ObjectsInside",
        &["IsInside"],
        "camera.intrusion",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "CellMotionDetector/Intrusion",
        &["IsIntrusion"],
        "camera.intrusion",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "CellMotionDetector/Tamper",
        &["IsTamper"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "RuleEngine/TamperDetector/Tamper",
        &["IsTamper", "State"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "Device/Tampering",
        &["State", "IsTamper"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/GlobalSceneChange",
        &["State"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/ImageTooDark",
        &["State"],
        "camera.blind",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/ImageTooBright",
        &["State"],
        "camera.blind",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/ImageTooBlurry",
        &["State"],
        "camera.blind",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/SignalLoss",
        &["State"],
        "camera.blind",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "Device/Trigger/DigitalInput",
        &["LogicalState", "State"],
        "input.active",
        "input.inactive",
        Severity::Info,
    ),
    state(
        "Device/Trigger/AlarmIn",
        &["State", "LogicalState"],
        "input.active",
        "input.inactive",
        Severity::Info,
    ),
    state(
        "Device/HardwareFailure/StorageFailure",
        &["Failed"],
        "device.fault",
        "device.restored",
        Severity::Notice,
    ),
    state(
        "Device/HardwareFailure/FanFailure",
        &["Failed"],
        "device.fault",
        "device.restored",
        Severity::Notice,
    ),
    state(
        "Device/HardwareFailure/PowerSupplyFailure",
        &["Failed"],
        "device.power_lost",
        "device.power_restored",
        Severity::Warning,
    ),
    state(
        "Device/HardwareFailure/TemperatureCritical",
        &["Critical"],
        "device.fault",
        "device.restored",
        Severity::Warning,
    ),
];

/// Items with the state of a fire in vendors' own topics.
const FIRE_ITEMS: &[&str] = &[
    "State", "IsFire", "IsSmoke", "IsFlame", "IsAlarm", "Alarm", "Active",
];

/// Beginnings of words in vendors' own topics that tell of a fire, each with its states. Without a named item that can
/// be read, the notification is a momentary event.
const FIRES: &[(&str, StateTopic)] = &[
    (
        "smoke",
        state(
            "smoke",
            FIRE_ITEMS,
            "smoke.alarm",
            "smoke.restored",
            Severity::Life,
        ),
    ),
    (
        "flame",
        state(
            "flame",
            FIRE_ITEMS,
            "fire.alarm",
            "fire.restored",
            Severity::Life,
        ),
    ),
    (
        "fire",
        state(
            "fire",
            FIRE_ITEMS,
            "fire.alarm",
            "fire.restored",
            Severity::Life,
        ),
    ),
];

/// Topics of momentary events.
const HAPPENINGS: &[(&str, &str, Severity)] = &[(
    "RuleEngine/LineDetector/Crossed",
    "camera.line_crossed",
    Severity::Notice,
)];

/// Maps a notification of a device.
pub fn said<'a>(device: &'a str, told: &'a Notification) -> Result<DecodedMessage<'a>, Reject> {
    if told.topic.is_empty() {
        return Err(Reject::new("a notification without a topic"));
    }
    let left_out = || {
        Ok(DecodedMessage::LeftOut {
            device: device.into(),
            what: format!("{} {}", told.topic, told.operation).into(),
        })
    };
    let is_operation = |name: &str| told.operation.trim().eq_ignore_ascii_case(name);
    let is_initial = is_operation("Initialized");
    if is_operation("Deleted") {
        return left_out();
    }
    // The item that names the part of the device: a token of a video source, of an input, of a disk.
    let part = told
        .source
        .iter()
        .find(|(name, _)| name.ends_with("Token") || name.eq_ignore_ascii_case("Source"));
    let whose: Cow<'a, str> = match part {
        Some((_, token)) if !token.is_empty() => {
            bounded::bounded(format!("{device}/{token}").into())
        }
        _ => device.into(),
    };
    let rule = told
        .source
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("Rule"))
        .map_or("", |(_, rule)| rule.as_str());
    let device_event = |kind: &'static str, severity| {
        let mut device_event = DeviceEvent::new(kind, severity, whose.clone());
        device_event.by = Some(device.into());
        device_event.time = time(&told.time);
        device_event.replayed = is_initial;
        device_event
            .with("topic", told.topic.as_str())
            .with("rule", rule)
    };
    let parts: Vec<&str> = told.topic.split('/').collect();
    let fire = fire(&parts);
    let burning = fire.filter(|fire| named_flag(fire.items, &told.data).is_some());
    let state = STATES.iter().find(|known| is_topic(known.topic, &parts));
    if let Some(known) = state.or(burning) {
        let active = match flag(known.items, &told.data) {
            Ok(active) => active,
            Err(why) => return Err(Reject::new(format!("{} {why}", told.topic))),
        };
        let mut device_event = if active {
            device_event(known.on, known.severity)
        } else {
            device_event(known.off, Severity::Info)
        };
        device_event.state = Some(State {
            point: format!("{} {rule}", known.topic).into(),
            active,
            initial: is_initial,
        });
        return Ok(DecodedMessage::Events(vec![device_event]));
    }
    let mut happenings = HAPPENINGS.iter();
    let happening = happenings.find(|(topic, ..)| is_topic(topic, &parts));
    let happening = happening.map(|(_, kind, severity)| (*kind, *severity));
    let moment = happening.or(fire.map(|fire| (fire.on, fire.severity)));
    let Some((kind, severity)) = moment else {
        return match damaged_topic(&told.topic, &parts) {
            Some(why) => Err(Reject::new(format!("topic {why}"))),
            None => left_out(),
        };
    };
    if is_initial && fire.is_some() {
        let reason = format!("{} has no state that can be read", told.topic);
        return Err(Reject::new(reason));
    }
    if is_initial {
        return left_out();
    }
    let mut device_event = device_event(kind, severity);
    let object = told
        .data
        .iter()
        .find(|(name, _)| name == "ObjectId")
        .map_or("", |(_, id)| id.as_str());
    if !told.time.is_empty() {
        let id = format!("{whose} {} {} {rule} {object}", told.topic, told.time);
        device_event.id = bounded::bounded(id.into());
    }
    Ok(DecodedMessage::Events(vec![device_event]))
}

/// The fire that a vendor's own topic tells of.
fn fire(parts: &[&str]) -> Option<&'static StateTopic> {
    let is_of = |name: &str| {
        let begins = |word: &str| {
            let front = word.get(..name.len());
            front.is_some_and(|front| front.eq_ignore_ascii_case(name))
        };
        let mut words = parts.iter().flat_map(|part| words(part));
        words.any(|word| begins(word) && !word.to_ascii_lowercase().starts_with("firewall"))
    };
    let found = FIRES.iter().find(|(name, _)| is_of(name));
    found.map(|(_, state)| state)
}

/// The words of a name: `AIHeatFlame_alarm` has four.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let letters: Vec<(usize, char)> = name.char_indices().collect();
    let at = |index: usize| letters.get(index).map_or(' ', |(_, letter)| *letter);
    let begins = |index: &usize| {
        let before = index.checked_sub(1).map_or(' ', at);
        let (letter, next) = (at(*index), at(index + 1));
        letter.is_alphabetic()
            && (!before.is_alphabetic()
                || letter.is_uppercase() && (before.is_lowercase() || next.is_lowercase()))
    };
    let starts: Vec<usize> = (0..letters.len())
        .filter(begins)
        .map(|index| letters[index].0)
        .collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([name.len()]).collect();
    let words = starts.into_iter().zip(ends);
    words.map(|(start, end)| &name[start..end])
}

/// Whether the parts of a known topic are among those of a notification's.
fn is_topic(known: &str, parts: &[&str]) -> bool {
    let known: Vec<&str> = known.split('/').collect();
    parts.windows(known.len()).any(|window| {
        let mut pairs = window.iter().zip(&known);
        pairs.all(|(part, known)| part.eq_ignore_ascii_case(known))
    })
}

/// Why a topic is the damaged name of a known one; `None`: it is only unknown.
fn damaged_topic(topic: &str, parts: &[&str]) -> Option<String> {
    let known = || {
        let states = STATES.iter().map(|state| state.topic);
        states.chain(HAPPENINGS.iter().map(|(topic, ..)| *topic))
    };
    if let Some(why) = misspelling::damage(topic, known()) {
        return Some(why);
    }
    let found = known().find(|known| {
        // With more parts before or behind, or with a prefix that has lost its colon.
        let count = known.split('/').count();
        let mut windows = parts.windows(count).map(|window| window.join("/"));
        let ends = topic.len().checked_sub(known.len());
        let end = ends.and_then(|at| topic.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(known))
            || windows.any(|window| misspelling::is_near(&window, known))
    })?;
    Some(format!("{topic:.60?} is not known, and nearly {found:?}"))
}

/// Whether a state is on, by the item with one of these names; without one, by the first item that can be a state.
fn flag(names: &[&str], data: &[(String, String)]) -> Result<bool, String> {
    if let Some(active) = named_flag(names, data) {
        return Ok(active);
    }
    if let Some(active) = data.iter().find_map(|(_, value)| read_flag(value)) {
        return Ok(active);
    }
    Err(match item(names, data) {
        Some(value) => format!("{value:.40?} is neither true nor false"),
        None => format!("has none of the items {}", names.join(", ")),
    })
}

/// Whether the item with one of these names says that a state is on.
fn named_flag(names: &[&str], data: &[(String, String)]) -> Option<bool> {
    item(names, data).and_then(read_flag)
}

fn item<'n>(names: &[&str], data: &'n [(String, String)]) -> Option<&'n str> {
    let named = names.iter().find_map(|wanted| {
        data.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    });
    named.map(|(_, value)| value.as_str())
}

fn read_flag(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" | "active" => Some(true),
        "false" | "0" | "off" | "no" | "inactive" => Some(false),
        _ => None,
    }
}

/// A UTC time, whatever the zone of the source is.
fn time(text: &str) -> DeviceTime<'_> {
    if text.is_empty() {
        return DeviceTime::None;
    }
    match crate::time::read(text, &TimeZone::UTC) {
        Some(ms) => DeviceTime::Ms(ms),
        None => DeviceTime::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_shared::protocol::limits::NAME_BYTES_MAX;

    fn told(topic: &str, operation: &str, data: (&str, &str)) -> Notification {
        Notification {
            topic: topic.to_owned(),
            time: "2026-07-01T04:00:00Z".to_owned(),
            operation: operation.to_owned(),
            source: vec![
                ("VideoSourceToken".to_owned(), "V1".to_owned()),
                ("Rule".to_owned(), "R".to_owned()),
            ],
            data: vec![(data.0.to_owned(), data.1.to_owned())],
            bytes: 0..0,
        }
    }

    fn shown(notification: &Notification) -> String {
        match said("cam", notification) {
            Ok(DecodedMessage::Events(device_events)) => {
                let device_event = &device_events[0];
                let state = device_event.state.as_ref();
                let state =
                    state.map(|state| format!(" {} initial={}", state.active, state.initial));
                format!(
                    "{} {}{}",
                    device_event.device,
                    device_event.kind,
                    state.unwrap_or_default()
                )
            }
            Ok(other) => format!("{other:?}"),
            Err(reject) => reject.reason,
        }
    }

    #[test]
    fn topics_become_states_and_happenings() {
        for (topic, operation, data, expected) in [
            (
                "VideoSource/MotionAlarm",
                "Changed",
                ("State", "true"),
                "cam/V1 camera.motion true initial=false",
            ),
            (
                "VideoSource/MotionAlarm",
                "Initialized",
                ("State", "true"),
                "cam/V1 camera.motion true initial=true",
            ),
            (
                "Device/Trigger/DigitalInput",
                "Changed",
                ("LogicalState", "false"),
                "cam/V1 input.inactive false initial=false",
            ),
            (
                "RuleEngine/FieldDetector/ObjectsInside",
                "Changed",
                ("IsInside", "1"),
                "cam/V1 camera.intrusion true initial=false",
            ),
            (
                "RuleEngine/LineDetector/Crossed",
                "",
                ("ObjectId", "7"),
                "cam/V1 camera.line_crossed",
            ),
        ] {
            assert_eq!(shown(&told(topic, operation, data)), expected);
        }
    }

    #[test]
    fn a_topic_and_its_state_are_known_in_every_spelling() {
        for (topic, data) in [
            ("RuleEngine/TamperDetector/Tamper", ("IsTamper", "true")),
            ("ruleengine/tamperdetector/tamper", ("istamper", "TRUE")),
            ("RuleEngine/TamperDetector/Tamper/Region1", ("State", "1")),
            ("Vendor/RuleEngine/TamperDetector/Tamper", ("Value", "on")),
            ("RuleEngine/TamperDetector/Tamper", ("Tampering", "active")),
        ] {
            assert_eq!(
                shown(&told(topic, "changed", data)),
                "cam/V1 camera.tamper true initial=false",
                "{topic}"
            );
        }
    }

    #[test]
    fn topics_of_vendors_are_known() {
        for (topic, data, expected) in [
            (
                "VideoAnalytics/MotionDetection",
                ("State", "1"),
                "camera.motion true",
            ),
            (
                "Device/Trigger/AlarmIn",
                ("State", "true"),
                "input.active true",
            ),
            (
                "VideoSource/ImageTooBlurry/AnalyticsService",
                ("State", "true"),
                "camera.blind true",
            ),
            (
                "VideoSource/ImageTooDark/RecordingService",
                ("State", "false"),
                "camera.restored false",
            ),
            (
                "VideoSource/GlobalSceneChange/RecordingService",
                ("State", "true"),
                "camera.tamper true",
            ),
            (
                "RuleEngine/CellMotionDetector/Tamper",
                ("IsTamper", "true"),
                "camera.tamper true",
            ),
            (
                "RuleEngine/SmokeAndFlame/FlameDetected",
                ("IsFlame", "true"),
                "smoke.alarm true",
            ),
            (
                "RuleEngine/FireDetection",
                ("State", "true"),
                "fire.alarm true",
            ),
            (
                "RuleEngine/FireDetection",
                ("State", "false"),
                "fire.restored false",
            ),
            (
                "VideoAnalytics/AIFireAlarm",
                ("IsAlarm", "true"),
                "fire.alarm true",
            ),
        ] {
            let expected = format!("cam/V1 {expected} initial=false");
            assert_eq!(shown(&told(topic, "Changed", data)), expected, "{topic}");
        }
    }

    #[test]
    fn a_fire_without_a_readable_state_is_an_event_each_time_and_a_snapshot_of_it_none() {
        let topic = "VideoAnalytics/HeatFlameAlarm";
        for data in [("Level", "87"), ("ObjectId", "0"), ("State", "?")] {
            assert_eq!(shown(&told(topic, "Changed", data)), "cam/V1 fire.alarm");
            let initial = shown(&told(topic, "Initialized", data));
            assert!(initial.contains("no state that can be read"), "{initial}");
        }
        for topic in [
            "Monitoring/WifiReconnect",
            "Device/FirewallChanged",
            "Device/misfire",
        ] {
            let shown = shown(&told(topic, "Changed", ("State", "true")));
            assert!(shown.contains("LeftOut"), "{topic}: {shown}");
        }
    }

    #[test]
    fn a_time_is_utc_and_what_is_initialized_is_a_replay() {
        let event = |time: &str, operation: &str| {
            let mut notification = told("VideoSource/MotionAlarm", operation, ("State", "true"));
            notification.time = time.to_owned();
            match said("cam", &notification) {
                Ok(DecodedMessage::Events(device_events)) => {
                    let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
                    let claim = device_events[0].time.claim(&zone);
                    (format!("{claim:?}"), device_events[0].replayed)
                }
                other => panic!("{other:?}"),
            }
        };
        let at = |ms: i64, replayed| (format!("Ms({ms})"), replayed);
        for time in [
            "2026-11-30T18:26:22.841Z",
            "2026-11-30T18:26:22.841",
            "2026-11-30 18:26:22.841",
        ] {
            assert_eq!(
                event(time, "Changed"),
                at(1_796_063_182_841, false),
                "{time}"
            );
        }
        assert_eq!(
            event("2026-11-30T18:26:22Z", "Initialized"),
            at(1_796_063_182_000, true)
        );
        assert_eq!(event("yesterday", "Changed").0, "Unreadable(\"yesterday\")");
        assert_eq!(event("", "Changed").0, "None");
    }

    #[test]
    fn a_long_name_of_a_rule_costs_no_event() {
        let mut crossed = told("RuleEngine/LineDetector/Crossed", "", ("ObjectId", "7"));
        crossed.source[1].1 = "小区东门机动车道越界检测规则".repeat(9);
        let id = |notification: &Notification| match said("cam", notification) {
            Ok(DecodedMessage::Events(device_events)) => device_events[0].id.to_string(),
            other => format!("{other:?}"),
        };
        let seven = id(&crossed);
        assert!(seven.len() <= NAME_BYTES_MAX, "{seven}");
        crossed.data[0].1 = "8".to_owned();
        assert_ne!(id(&crossed), seven);
    }

    #[test]
    fn what_is_not_for_us_is_left_out_and_what_is_wrong_is_named() {
        for (topic, operation, data, word) in [
            (
                "RuleEngine/LineDetector/Crossed",
                "Initialized",
                ("ObjectId", "7"),
                "LeftOut",
            ),
            (
                "VideoSource/MotionAlarm",
                "Deleted",
                ("State", "true"),
                "LeftOut",
            ),
            (
                "UserAlarm/Something",
                "Changed",
                ("State", "true"),
                "LeftOut",
            ),
            (
                "VideoSource/MotionAlarm",
                "Changed",
                ("State", "perhaps"),
                "neither true nor false",
            ),
            (
                "VideoSource/MotionAlarm",
                "Changed",
                ("Other", "?"),
                "none of the items State",
            ),
            ("", "Changed", ("State", "true"), "without a topic"),
        ] {
            let shown = shown(&told(topic, operation, data));
            assert!(shown.contains(word), "{topic} {operation}: {shown}");
        }
    }
}
