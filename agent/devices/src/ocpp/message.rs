//! Messages of OCPP-J 1.6 (OCPP JSON 1.6, § 4: RPC framework) and what those of a charge point come to. Pure.
//!
//! ```text
//! [2, "<id>", "<action>", {…}]        CALL            answered by a CALLRESULT with the same id
//! [3, "<id>", {…}]                    CALLRESULT
//! [4, "<id>", "<code>", "<text>", {…}]    CALLERROR
//! ```
//!
//! | action (OCPP 1.6, § 4) | comes to | is answered |
//! | --- | --- | --- |
//! | BootNotification, Heartbeat | a sign of life | the time; interval of heartbeats; Accepted |
//! | StatusNotification | `charger.status`; states of overheat, overcurrent, fault | `{}` |
//! | Authorize, StartTransaction, StopTransaction | left out | Accepted: who may charge is the operator's affair |
//! | MeterValues and the other notifications | left out | as the standard wants it |
//! | anything else | left out | CALLERROR NotImplemented |
use linli_shared::protocol::event::Severity;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};

/// Longest id of a message (§ 4.1.4).
const ID_CHARS_MAX: usize = 36;

/// A message of a charge point.
#[derive(Debug)]
pub enum Message<'a> {
    /// It asks.
    Call {
        /// Its id.
        id: Cow<'a, str>,
        /// What.
        action: Cow<'a, str>,
        /// With what.
        payload: &'a RawValue,
    },
    /// It answers a call of ours.
    Answer,
}

/// Reads a message.
pub fn read(text: &str) -> Result<Message<'_>, Reject> {
    let not_one = |what: &str| Reject::new(format!("no message of OCPP-J: {what}"));
    let parts: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| not_one(&format!("no JSON array: {error}")))?;
    let string = |at: usize| -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        serde_json::from_str::<Text<'_>>(parts.get(at)?.get())
            .ok()
            .map(|text| text.0)
    };
    match parts.first().map(|part| part.get()) {
        Some("2") => {
            let id = string(1).filter(|id| !id.is_empty() && id.chars().count() <= ID_CHARS_MAX);
            let (Some(id), Some(action), Some(payload)) = (id, string(2), parts.get(3)) else {
                return Err(not_one(
                    "a CALL has an id of 1 to 36 characters, an action and a payload",
                ));
            };
            Ok(Message::Call {
                id,
                action,
                payload,
            })
        }
        Some("3" | "4") => Ok(Message::Answer),
        _ => Err(not_one("it begins with none of 2, 3 and 4")),
    }
}

/// A CALLRESULT.
pub fn result(id: &str, payload: &Value) -> String {
    json!([3, id, payload]).to_string()
}

/// A CALLERROR.
pub fn error(id: &str, code: &str, text: &str) -> String {
    json!([4, id, code, text, {}]).to_string()
}

/// Asks for the states of all connectors (OCPP 1.6, § 5.17), so that they are known after a connection was lost.
pub fn trigger_status(id: &str) -> String {
    json!([2, id, "TriggerMessage", { "requestedMessage": "StatusNotification" }]).to_string()
}

/// What a charge point is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// With this payload.
    Result(Value),
    /// With this code of § 4.2.3, and a text.
    Error(&'static str, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusNotification<'a> {
    connector_id: u32,
    #[serde(borrow)]
    error_code: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    vendor_error_code: Option<Cow<'a, str>>,
}

/// What a call comes to, and what it is answered. `now` is RFC 3339, `interval_s` that of heartbeats.
pub fn call<'a>(
    charger: &'a str,
    action: &'a str,
    payload: &'a str,
    now: &str,
    interval_s: u64,
) -> (Result<DecodedMessage<'a>, Reject>, Reply) {
    let left_out = |reply: Value| {
        let said = DecodedMessage::LeftOut {
            device: charger.into(),
            what: action.into(),
        };
        (Ok(said), Reply::Result(reply))
    };
    let heartbeat = |reply: Value| {
        let said = DecodedMessage::heartbeat(charger);
        (Ok(said), Reply::Result(reply))
    };
    match action {
        "BootNotification" => {
            heartbeat(json!({ "currentTime": now, "interval": interval_s, "status": "Accepted" }))
        }
        "Heartbeat" => heartbeat(json!({ "currentTime": now })),
        "StatusNotification" => match serde_json::from_str(payload) {
            Ok(status) => (
                Ok(DecodedMessage::Events(device_events(charger, status))),
                Reply::Result(json!({})),
            ),
            Err(error) => {
                let text = format!("StatusNotification: {error}");
                let reply = Reply::Error("FormationViolation", text.clone());
                (Err(Reject::new(text)), reply)
            }
        },
        "Authorize" => left_out(json!({ "idTagInfo": { "status": "Accepted" } })),
        // Transactions are not kept: the number only has to be one.
        "StartTransaction" => {
            left_out(json!({ "transactionId": 1, "idTagInfo": { "status": "Accepted" } }))
        }
        "StopTransaction"
        | "MeterValues"
        | "DiagnosticsStatusNotification"
        | "FirmwareStatusNotification" => left_out(json!({})),
        "DataTransfer" => left_out(json!({ "status": "UnknownVendorId" })),
        other => {
            let said = DecodedMessage::LeftOut {
                device: charger.into(),
                what: other.into(),
            };
            let reply = Reply::Error("NotImplemented", format!("{other:.40} is not known here"));
            (Ok(said), reply)
        }
    }
}

/// The states that a StatusNotification tells of; its `info` is free text and is not taken (OCPP 1.6, § 7.6 ChargePointErrorCode and 7.7 ChargePointStatus).
fn device_events<'a>(charger: &'a str, told: StatusNotification<'a>) -> Vec<DeviceEvent<'a>> {
    let device: Cow<'a, str> = match told.connector_id {
        // Connector 0 is the charge point itself.
        0 => charger.into(),
        connector => format!("{charger}/{connector}").into(),
    };
    let code = told.error_code;
    let hot = code == "HighTemperature";
    let strong = code == "OverCurrentFailure";
    let faulty = !hot && !strong && (code != "NoError" || told.status == "Faulted");
    let time = told.timestamp.unwrap_or_default();
    let device_event = |kind: &'static str, severity| {
        let mut device_event = DeviceEvent::new(kind, severity, device.clone());
        device_event.by = Some(charger.into());
        device_event
            .with("status", told.status.clone())
            .with("error", code.clone())
            .with(
                "vendor_error",
                told.vendor_error_code.clone().unwrap_or_default(),
            )
    };
    let state =
        |point: &'static str, active: bool, on: &'static str, off: &'static str, severity| {
            let mut device_event = if active {
                device_event(on, severity)
            } else {
                device_event(off, Severity::Info)
            };
            device_event.state = Some(State {
                point: point.into(),
                active,
                // What was never known to be on, and is off, is no news.
                initial: !active,
            });
            device_event
        };
    let mut status = device_event("charger.status", Severity::Info);
    if !time.is_empty() {
        status.id = format!("{device} {time} {} {code}", told.status).into();
    }
    let mut device_events = vec![
        state(
            "overheat",
            hot,
            "pile.overheat",
            "pile.restored",
            Severity::Alarm,
        ),
        state(
            "overcurrent",
            strong,
            "pile.overcurrent",
            "pile.restored",
            Severity::Alarm,
        ),
        state(
            "fault",
            faulty,
            "charger.fault",
            "charger.restored",
            Severity::Notice,
        ),
        status,
    ];
    for device_event in &mut device_events {
        device_event.time = device_time(&time);
    }
    device_events
}

/// The time of a message; one that cannot be read is the receipt's.
fn device_time(text: &str) -> DeviceTime<'static> {
    if text.is_empty() {
        return DeviceTime::None;
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => DeviceTime::Ms(time.as_millisecond()),
        Err(_) => text.parse().map_or(DeviceTime::None, DeviceTime::Civil),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(payload: &str) -> Vec<String> {
        let (said, reply) = call("cp-1", "StatusNotification", payload, "now", 60);
        assert_eq!(reply, Reply::Result(json!({})));
        let Ok(DecodedMessage::Events(device_events)) = said else {
            panic!("{said:?}")
        };
        device_events
            .iter()
            .filter(|device_event| device_event.state.as_ref().is_none_or(|state| state.active))
            .map(|device_event| {
                format!(
                    "{} {} {}",
                    device_event.device,
                    device_event.kind,
                    device_event.severity.as_str()
                )
            })
            .collect()
    }

    #[test]
    fn a_status_is_a_status_and_the_states_of_its_error() {
        assert_eq!(
            told(
                r#"{"connectorId":2,"errorCode":"NoError","status":"Charging","timestamp":"2026-07-01T04:00:00Z"}"#
            ),
            ["cp-1/2 charger.status info"]
        );
        assert_eq!(
            told(r#"{"connectorId":1,"errorCode":"HighTemperature","status":"Faulted"}"#),
            ["cp-1/1 pile.overheat alarm", "cp-1/1 charger.status info"]
        );
        assert_eq!(
            told(r#"{"connectorId":1,"errorCode":"OverCurrentFailure","status":"Faulted"}"#),
            [
                "cp-1/1 pile.overcurrent alarm",
                "cp-1/1 charger.status info"
            ]
        );
        assert_eq!(
            told(
                r#"{"connectorId":0,"errorCode":"GroundFailure","status":"Faulted","vendorErrorCode":"E7"}"#
            ),
            ["cp-1 charger.fault notice", "cp-1 charger.status info"]
        );
    }

    #[test]
    fn calls_are_answered_as_the_standard_wants_it() {
        let reply = |action: &'static str| call("cp-1", action, "{}", "2026-07-01T04:00:00Z", 60).1;
        assert_eq!(
            reply("BootNotification"),
            Reply::Result(
                json!({"currentTime": "2026-07-01T04:00:00Z", "interval": 60, "status": "Accepted"})
            )
        );
        assert_eq!(
            reply("Heartbeat"),
            Reply::Result(json!({"currentTime": "2026-07-01T04:00:00Z"}))
        );
        assert_eq!(reply("MeterValues"), Reply::Result(json!({})));
        assert!(matches!(
            reply("StatusNotification"),
            Reply::Error("FormationViolation", _)
        ));
        assert!(matches!(reply("Reset"), Reply::Error("NotImplemented", _)));
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (text, word) in [
            ("", "no JSON array"),
            ("{}", "no JSON array"),
            ("[]", "begins with none"),
            ("[9]", "begins with none"),
            (r#"[2,"","Heartbeat",{}]"#, "a CALL has"),
            (
                r#"[2,"0123456789012345678901234567890123456","Heartbeat",{}]"#,
                "a CALL has",
            ),
            (r#"[2,"1","Heartbeat"]"#, "a CALL has"),
            (r#"[2,1,"Heartbeat",{}]"#, "a CALL has"),
        ] {
            let error = read(text).expect_err("no message").reason;
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(matches!(read(r#"[3,"1",{}]"#), Ok(Message::Answer)));
        assert!(matches!(
            read(r#"[4,"1","NotImplemented","",{}]"#),
            Ok(Message::Answer)
        ));
        assert_eq!(
            error("1", "NotImplemented", "no"),
            r#"[4,"1","NotImplemented","no",{}]"#
        );
        assert_eq!(result("1", &json!({})), r#"[3,"1",{}]"#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_rejected(text in ".{0,200}") {
            if let Ok(Message::Call { action, payload, .. }) = read(&text) {
                let _ = call("cp", &action, payload.get(), "now", 60);
            }
        }

        #[test]
        fn any_status_is_read_or_rejected(payload in r#"\{("connectorId":[0-9]{1,12},)?"errorCode":"[A-Za-z\\\\u0]{0,20}","status":"[A-Za-z]{0,9}"\}"#) {
            let _ = call("cp", "StatusNotification", &payload, "now", 60);
        }
    }
}
