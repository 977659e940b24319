//! What notifications come to, by their topics (ONVIF Core § 9, Imaging, Analytics and Device IO service specifications).
//!
//! *Initialized* comes with every subscription: it tells how things are, and is an event only where they were known to be
//! otherwise. *Deleted*, and topics that are not in [`STATES`] or [`HAPPENINGS`], are left out and counted.
use linli_shared::protocol::event::Severity;
use std::borrow::Cow;

use super::soap::Notification;
use crate::bounded;
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};

/// A topic that is on or off.
struct StateTopic {
    topic: &'static str,
    /// The item of its data that says so; several where devices differ.
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
        "RuleEngine/FieldDetector/ObjectsInside",
        &["IsInside"],
        "camera.intrusion",
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
        "VideoSource/GlobalSceneChange/AnalyticsService",
        &["State"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/GlobalSceneChange/ImagingService",
        &["State"],
        "camera.tamper",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/ImageTooDark/ImagingService",
        &["State"],
        "camera.blind",
        "camera.restored",
        Severity::Warning,
    ),
    state(
        "VideoSource/ImageTooBright/ImagingService",
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

/// Topics of what happens and is over.
const HAPPENINGS: &[(&str, &str, Severity)] = &[(
    "RuleEngine/LineDetector/Crossed",
    "camera.line_crossed",
    Severity::Notice,
)];

/// What a notification of a device comes to.
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
    if told.operation == "Deleted" {
        return left_out();
    }
    // The item that says which of a device's parts it was: a token of a video source, of an input, of a disk.
    let part = told
        .source
        .iter()
        .find(|(name, _)| name.ends_with("Token") || name == "Source");
    let whose: Cow<'a, str> = match part {
        Some((_, token)) if !token.is_empty() => format!("{device}/{token}").into(),
        _ => device.into(),
    };
    let rule = told
        .source
        .iter()
        .find(|(name, _)| name == "Rule")
        .map_or("", |(_, rule)| rule.as_str());
    let device_event = |kind: &'static str, severity| {
        let mut device_event = DeviceEvent::new(kind, severity, whose.clone());
        device_event.by = Some(device.into());
        if !told.time.is_empty() {
            device_event.time = DeviceTime::Text(&told.time);
        }
        device_event
            .with("topic", told.topic.as_str())
            .with("rule", rule)
    };
    if let Some(known) = STATES.iter().find(|known| known.topic == told.topic) {
        let value = known.items.iter().find_map(|item| {
            told.data
                .iter()
                .find(|(name, _)| name == item)
                .map(|(_, value)| value.as_str())
        });
        let active = match value {
            Some("true" | "1" | "True") => true,
            Some("false" | "0" | "False") => false,
            Some(other) => {
                return Err(Reject::new(format!(
                    "{}: {other:?} is neither true nor false",
                    told.topic
                )));
            }
            None => {
                return Err(Reject::new(format!(
                    "{} has none of the items {}",
                    told.topic,
                    known.items.join(", ")
                )));
            }
        };
        let mut device_event = if active {
            device_event(known.on, known.severity)
        } else {
            device_event(known.off, Severity::Info)
        };
        device_event.state = Some(State {
            point: format!("{} {rule}", known.topic).into(),
            active,
            initial: told.operation == "Initialized",
        });
        return Ok(DecodedMessage::Events(vec![device_event]));
    }
    let Some((_, kind, severity)) = HAPPENINGS.iter().find(|(topic, ..)| *topic == told.topic)
    else {
        return left_out();
    };
    if told.operation == "Initialized" {
        return left_out();
    }
    let mut device_event = device_event(kind, *severity);
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
                ("Other", "true"),
                "none of the items State",
            ),
            ("", "Changed", ("State", "true"), "without a topic"),
        ] {
            let shown = shown(&told(topic, operation, data));
            assert!(shown.contains(word), "{topic} {operation}: {shown}");
        }
    }
}
