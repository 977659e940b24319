//! Messages of OCPP-J 1.6 (OCPP JSON 1.6, § 4: RPC framework) and the meaning of a charge point's calls. Pure.
//!
//! ```text
//! [2, "<id>", "<action>", {…}]        CALL            answered by a CALLRESULT with the same id
//! [3, "<id>", {…}]                    CALLRESULT
//! [4, "<id>", "<code>", "<text>", {…}]    CALLERROR
//! ```
//!
//! | action (OCPP 1.6, § 4) | result | answer |
//! | --- | --- | --- |
//! | BootNotification, Heartbeat | a sign of life | the time; interval of heartbeats; Accepted |
//! | StatusNotification | `charger.status`; states of overheat, overcurrent, fault | `{}` |
//! | Authorize, StartTransaction, StopTransaction | left out | Accepted: the operator decides who may charge |
//! | MeterValues and the other notifications | left out | as the standard requires |
//! | SecurityEventNotification (white paper on security) TamperDetectionActivated | `device.tamper` | `{}` |
//! | its other types | left out | `{}` |
//! | the other calls of that paper | left out | CALLERROR NotImplemented |
//! | anything else | rejected | CALLERROR NotImplemented |
//!
//! Charge points send ids of more than 36 characters or as numbers, connectors as texts, vendors' codes as numbers,
//! keys twice; they omit required fields, and add unknown ones. None of that loses a status or its answer: an id is
//! returned as received, and only a StatusNotification with neither an error nor a status is refused.
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

use crate::bounded::bounded;
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};
use crate::lenient_json::{self, repair::repair, scalar_text};
use crate::misspelling;

/// Longest message id that is answered. The standard allows 36 characters (§ 4.1.4).
const ID_BYTES_MAX: usize = 1024;

/// The id of a call, which its answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId<'a>(Cow<'a, str>);

impl CallId<'_> {
    /// The id as JSON, as received: a text or a number.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CallId<'_> {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(Value::from(text).to_string()))
    }
}

/// The payload of a call, JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a>(Cow<'a, str>);

impl Payload<'_> {
    /// The payload as received.
    pub fn get(&self) -> &str {
        &self.0
    }
}

/// A message of a charge point.
#[derive(Debug)]
pub enum Message<'a> {
    /// A call.
    Call {
        /// Id of the call.
        id: CallId<'a>,
        /// Action.
        action: Cow<'a, str>,
        /// Payload.
        payload: Payload<'a>,
    },
    /// The answer to a call of the agent.
    Answer,
}

/// Reads the messages of a frame, usually one. If a strict parser refuses the frame, its intact part is read.
pub fn messages(text: &str) -> Vec<Result<Message<'_>, Reject>> {
    if let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(text) {
        let parts = parts.into_iter().map(|part| Cow::Borrowed(part.get()));
        return vec![message(parts.collect())];
    }
    let Some(repaired) = repair(text) else {
        return vec![Err(Reject::new(
            "no message of OCPP-J: it is no JSON array",
        ))];
    };
    let read = |document: &str| {
        let parts: Vec<&RawValue> = serde_json::from_str(document).map_err(|error| {
            Reject::new(format!("no message of OCPP-J: no JSON array: {error}"))
        })?;
        let parts = parts
            .into_iter()
            .map(|part| Cow::Owned(part.get().to_owned()));
        message(parts.collect())
    };
    repaired.texts().map(read).collect()
}

fn message(parts: Vec<Cow<'_, str>>) -> Result<Message<'_>, Reject> {
    let not_one = |what: &str| Reject::new(format!("no message of OCPP-J: {what}"));
    let mut parts = parts.into_iter();
    let kind = parts.next().unwrap_or_default();
    match kind.trim_matches('"').trim() {
        "2" | "2.0" => {}
        // A CALL whose number is damaged has the name of an action there.
        "3" | "3.0" if parts.nth(1).is_some_and(|payload| payload.starts_with('"')) => {
            return Err(not_one("a CALLRESULT has a payload and no action"));
        }
        "3" | "4" | "3.0" | "4.0" => return Ok(Message::Answer),
        _ => return Err(not_one("it begins with none of 2, 3 and 4")),
    }
    let is_id = |id: &Cow<'_, str>| !id.starts_with(['{', '[']) && id.len() <= ID_BYTES_MAX;
    let id = parts.next().filter(is_id);
    let action = parts.next().and_then(|action| match action {
        Cow::Borrowed(raw) => scalar_text(raw),
        Cow::Owned(raw) => scalar_text(&raw).map(|action| Cow::Owned(action.into_owned())),
    });
    let (Some(id), Some(action)) = (id, action.filter(|action| !action.is_empty())) else {
        return Err(not_one("a CALL has an id and an action"));
    };
    Ok(Message::Call {
        id: CallId(id),
        action,
        payload: Payload(parts.next().unwrap_or(Cow::Borrowed("{}"))),
    })
}

/// Builds a CALLRESULT.
pub fn result(id: &CallId<'_>, payload: &Value) -> String {
    format!("[3,{},{payload}]", id.as_json())
}

/// Builds a CALLERROR.
pub fn error(id: &CallId<'_>, code: &str, text: &str) -> String {
    let text = Value::from(text);
    format!("[4,{},\"{code}\",{text},{{}}]", id.as_json())
}

/// Builds a request for the states of all connectors (OCPP 1.6, § 5.17), which restores them after a lost connection.
pub fn trigger_status(id: &str) -> String {
    json!([2, id, "TriggerMessage", { "requestedMessage": "StatusNotification" }]).to_string()
}

/// Known actions.
const ACTIONS: [&str; 11] = [
    "BootNotification",
    "Heartbeat",
    "StatusNotification",
    "Authorize",
    "StartTransaction",
    "StopTransaction",
    "MeterValues",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "DataTransfer",
    "SecurityEventNotification",
];

/// Calls of charge points by the white paper on security, which are not served.
const SECURITY_ACTIONS: [&str; 3] = [
    "LogStatusNotification",
    "SignCertificate",
    "SignedFirmwareStatusNotification",
];

/// The answer to a charge point.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A CALLRESULT with this payload.
    Result(Value),
    /// A CALLERROR with this code of § 4.2.3, and a text.
    Error(&'static str, String),
}

/// The known fields of a StatusNotification, each a text or empty.
struct StatusNotification<'a> {
    connector: Cow<'a, str>,
    error: Cow<'a, str>,
    status: Cow<'a, str>,
    timestamp: Cow<'a, str>,
    vendor_error: Cow<'a, str>,
}

impl<'a> StatusNotification<'a> {
    fn read(payload: &'a str) -> Result<Self, Reject> {
        let places = [
            "connectorId",
            "errorCode",
            "status",
            "timestamp",
            "vendorErrorCode",
        ];
        let picked = lenient_json::pick(payload, places)
            .ok_or_else(|| Reject::new("StatusNotification: the payload is no JSON object"))?;
        let [connector, error, status, timestamp, vendor_error] = picked.values;
        if error.is_empty() && status.is_empty() {
            return Err(Reject::new(
                "StatusNotification: neither errorCode nor status can be read",
            ));
        }
        Ok(Self {
            connector,
            error,
            status,
            timestamp,
            vendor_error,
        })
    }

    /// The number of its connector, in any spelling; empty: the charge point itself.
    fn connector(&self) -> String {
        let text = self.connector.as_ref();
        let whole = text.strip_suffix(".0").unwrap_or(text);
        match whole.parse::<u64>() {
            Ok(0) => String::new(),
            Ok(number) => number.to_string(),
            Err(_) => text.to_owned(),
        }
    }

    /// Whether its code is one of these of § 7.6, or the vendor's word for it.
    fn is(&self, codes: &[&str]) -> bool {
        let is_code = |text: &str| {
            let letters = text.chars().filter(|letter| letter.is_ascii_alphanumeric());
            let letters = letters.collect::<String>().to_ascii_lowercase();
            codes.iter().any(|code| letters.contains(code))
        };
        is_code(&self.error)
            || (self.error.eq_ignore_ascii_case("OtherError") && is_code(&self.vendor_error))
    }
}

/// Maps a call, and builds its answer. `now` is RFC 3339, `interval_s` that of heartbeats.
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
    let known = ACTIONS
        .iter()
        .find(|known| known.eq_ignore_ascii_case(action));
    match known.copied().unwrap_or(action) {
        "BootNotification" => {
            heartbeat(json!({ "currentTime": now, "interval": interval_s, "status": "Accepted" }))
        }
        "Heartbeat" => heartbeat(json!({ "currentTime": now })),
        "StatusNotification" => match StatusNotification::read(payload) {
            Ok(status) => (
                Ok(DecodedMessage::Events(device_events(charger, &status))),
                Reply::Result(json!({})),
            ),
            Err(reject) => {
                let reply = Reply::Error("FormationViolation", reject.reason.clone());
                (Err(reject), reply)
            }
        },
        "Authorize" => left_out(json!({ "idTagInfo": { "status": "Accepted" } })),
        // Transactions are not kept: any number will do.
        "StartTransaction" => {
            left_out(json!({ "transactionId": 1, "idTagInfo": { "status": "Accepted" } }))
        }
        "StopTransaction"
        | "MeterValues"
        | "DiagnosticsStatusNotification"
        | "FirmwareStatusNotification" => left_out(json!({})),
        "DataTransfer" => left_out(json!({ "status": "UnknownVendorId" })),
        "SecurityEventNotification" => (security_event(charger, payload), Reply::Result(json!({}))),
        other => {
            let is_known = SECURITY_ACTIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(other));
            let said = match is_known {
                true => Ok(DecodedMessage::LeftOut {
                    device: charger.into(),
                    what: other.into(),
                }),
                false => Err(Reject::new(format!(
                    "{other:.40?} is no action of OCPP 1.6"
                ))),
            };
            let reply = Reply::Error("NotImplemented", format!("{other:.40} is not known here"));
            (said, reply)
        }
    }
}

/// The security event of a charge point whose case was opened.
const TAMPER: &str = "TamperDetectionActivated";

/// Maps a security event (white paper on security, appendix of security events).
fn security_event<'a>(charger: &'a str, payload: &'a str) -> Result<DecodedMessage<'a>, Reject> {
    let unreadable = || Reject::new("SecurityEventNotification: the type cannot be read");
    let picked = lenient_json::pick(payload, ["type", "timestamp"]).ok_or_else(unreadable)?;
    let [kind, timestamp] = picked.values;
    if kind.trim().is_empty() {
        return Err(unreadable());
    }
    if !kind.trim().eq_ignore_ascii_case(TAMPER) {
        return match misspelling::damage(&kind, [TAMPER]) {
            Some(why) => Err(Reject::new(format!("security event {why}"))),
            None => Ok(DecodedMessage::LeftOut {
                device: charger.into(),
                what: format!("SecurityEventNotification {kind:.40}").into(),
            }),
        };
    }
    let mut device_event = DeviceEvent::new("device.tamper", Severity::Warning, charger);
    device_event.by = Some(charger.into());
    device_event.time = device_time(&timestamp);
    if !timestamp.is_empty() {
        device_event.id = bounded(format!("{charger} {timestamp} {TAMPER}").into());
    }
    Ok(DecodedMessage::Events(vec![
        device_event.with("error", kind),
    ]))
}

/// The states of a StatusNotification; its `info` is free text and is not taken (OCPP 1.6, § 7.6 ChargePointErrorCode
/// and 7.7 ChargePointStatus).
fn device_events<'a>(charger: &'a str, told: &StatusNotification<'a>) -> Vec<DeviceEvent<'a>> {
    let device: Cow<'a, str> = match told.connector().as_str() {
        // Connector 0 is the charge point itself.
        "" => charger.into(),
        connector => bounded(format!("{charger}/{connector}").into()),
    };
    let hot = told.is(&["hightemp", "overtemp"]);
    let strong = told.is(&["overcurrent"]);
    let is_good = told.error.is_empty() || told.error.eq_ignore_ascii_case("NoError");
    let faulty = !hot && !strong && (!is_good || told.status.eq_ignore_ascii_case("Faulted"));
    let device_event = |kind: &'static str, severity| {
        let mut device_event = DeviceEvent::new(kind, severity, device.clone());
        device_event.by = Some(charger.into());
        device_event
            .with("status", told.status.clone())
            .with("error", told.error.clone())
            .with("vendor_error", told.vendor_error.clone())
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
                // A state that is off, and was never known to be on, is no news.
                initial: !active,
            });
            device_event
        };
    let mut status = device_event("charger.status", Severity::Info);
    if !told.timestamp.is_empty() {
        let (time, error) = (&told.timestamp, &told.error);
        let id = format!("{device} {time} {} {error}", told.status);
        status.id = bounded(id.into());
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
    let time = device_time(&told.timestamp);
    for device_event in &mut device_events {
        device_event.time = time;
        if let (DeviceTime::Unreadable(_), Cow::Owned(text)) = (time, &told.timestamp) {
            device_event
                .attributes
                .push(("device_time", text.clone().into()));
        }
    }
    device_events
}

/// The time of a message, in the source's zone if it has none.
fn device_time<'a>(text: &Cow<'a, str>) -> DeviceTime<'a> {
    match text {
        text if text.trim().is_empty() => DeviceTime::None,
        Cow::Borrowed(text) => DeviceTime::Text(text),
        // Only a text with escapes is not borrowed.
        Cow::Owned(text) => owned_time(text),
    }
}

/// The same of a text that does not outlive the message: the caller keeps one that is unreadable.
fn owned_time(text: &str) -> DeviceTime<'static> {
    let in_utc = crate::time::read(text, &TimeZone::UTC);
    let elsewhere = crate::time::read(text, &TimeZone::fixed(jiff::tz::offset(1)));
    match in_utc {
        None => DeviceTime::Unreadable([0; 6]),
        Some(ms) if elsewhere == in_utc => DeviceTime::Ms(ms),
        // It has no zone of its own.
        Some(ms) => match jiff::Timestamp::from_millisecond(ms) {
            Ok(time) => DeviceTime::Civil(time.to_zoned(TimeZone::UTC).datetime()),
            Err(_) => DeviceTime::Unreadable([0; 6]),
        },
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
    fn an_opened_case_is_an_event_and_other_security_events_are_answered() {
        let event = |payload: &str| {
            let (said, reply) = call("cp-1", "SecurityEventNotification", payload, "now", 60);
            assert_eq!(reply, Reply::Result(json!({})), "{payload}");
            match said {
                Ok(DecodedMessage::Events(events)) => {
                    format!("{} {} {}", events[0].device, events[0].kind, events[0].id)
                }
                Ok(other) => format!("{other:?}"),
                Err(reject) => format!("rejected: {reject}"),
            }
        };
        assert_eq!(
            event(r#"{"type":"TamperDetectionActivated","timestamp":"2026-11-30T18:26:22Z"}"#),
            "cp-1 device.tamper cp-1 2026-11-30T18:26:22Z TamperDetectionActivated"
        );
        for (payload, word) in [
            (r#"{"type":"StartupOfTheDevice","timestamp":""}"#, "LeftOut"),
            (r#"{"type":"TamperDetectionActivatec"}"#, "nearly"),
            (r#"{"timestamp":"2026-11-30T18:26:22Z"}"#, "cannot be read"),
            ("[]", "cannot be read"),
        ] {
            let shown = event(payload);
            assert!(shown.contains(word), "{payload}: {shown}");
        }
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (text, word) in [
            ("", "no JSON array"),
            ("Heartbeat", "no JSON array"),
            ("{}", "no JSON array"),
            ("[]", "begins with none"),
            ("[9]", "begins with none"),
            (r#"[2]"#, "a CALL has"),
            (r#"[2,"1"]"#, "a CALL has"),
            (r#"[2,"1",{},{}]"#, "a CALL has"),
            (r#"[2,{"a":1},"Heartbeat",{}]"#, "a CALL has"),
        ] {
            let error = first(text).expect_err("no message").reason;
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(matches!(first(r#"[3,"1",{}]"#), Ok(Message::Answer)));
        assert!(matches!(
            first(r#"[4,"1","NotImplemented","",{}]"#),
            Ok(Message::Answer)
        ));
        assert_eq!(
            error(&"1".into(), "NotImplemented", "no \"x\""),
            r#"[4,"1","NotImplemented","no \"x\"",{}]"#
        );
        assert_eq!(result(&"1".into(), &json!({})), r#"[3,"1",{}]"#);
    }

    fn first(text: &str) -> Result<Message<'_>, Reject> {
        messages(text).remove(0)
    }

    #[test]
    fn each_call_of_a_frame_is_read() {
        let frame = r#"[2,"1","Heartbeat",{}] [2,"2","StatusNotification",{"connectorId":1}]"#;
        let actions: Vec<String> = messages(frame)
            .into_iter()
            .map(|message| match message {
                Ok(Message::Call { action, .. }) => action.into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(actions, ["Heartbeat", "StatusNotification"]);
    }

    /// The first state that is on, and the answer.
    fn answered(frame: &str) -> (String, String) {
        let Ok(Message::Call {
            id,
            action,
            payload,
        }) = first(frame)
        else {
            panic!("{frame}");
        };
        let (said, reply) = call("cp", &action, payload.get(), "now", 60);
        let first = match said {
            Ok(DecodedMessage::Events(device_events)) => {
                let mut on = device_events
                    .into_iter()
                    .filter(|event| event.state.as_ref().is_some_and(|state| state.active));
                on.next().map_or_else(String::new, |event| {
                    format!("{} {}", event.device, event.kind)
                })
            }
            other => format!("{other:?}"),
        };
        let answer = match reply {
            Reply::Result(payload) => result(&id, &payload),
            Reply::Error(code, text) => error(&id, code, &text),
        };
        (first, answer)
    }

    #[test]
    fn what_a_charge_point_writes_loosely_costs_no_alarm_and_no_answer() {
        let hot = |payload: &str| format!(r#"[2,"m",  "StatusNotification", {payload}]"#);
        for (payload, device) in [
            (
                r#"{"connectorId":3,"errorCode":"HighTemperature","status":"Faulted","vendorErrorCode":210}"#,
                "cp/3",
            ),
            (
                r#"{"connectorId":"4","errorCode":"HighTemperature","status":"Faulted"}"#,
                "cp/4",
            ),
            (
                r#"{"connectorId":2,"errorCode":"HighTemperature","status":"Faulted","status":"Faulted"}"#,
                "cp/2",
            ),
            (
                r#"{"connectorId":2.0,"errorCode":" hightemperature ","status":null,"x":{"y":[1]}}"#,
                "cp/2",
            ),
            (r#"{"errorCode":"HighTemperature"}"#, "cp"),
            (
                r#"{"connectorId":null,"errorCode":"HighTemperature","status":7}"#,
                "cp",
            ),
            (
                r#"{"connectorId":{"id":1},"errorCode":"HighTemperature","timestamp":{}}"#,
                "cp",
            ),
            (
                r#"{"connectorId":"A1","errorCode":"OtherError","vendorErrorCode":"Over-Temperature"}"#,
                "cp/A1",
            ),
            (
                r#"{"connectorId":1,"errorCode":"OtherError","status":"Charging","vendorErrorCode":"evse_board_support/MREC5OverTemperature"}"#,
                "cp/1",
            ),
            (
                r#"{'connectorId': 1, 'errorCode': 'HighTemperature', 'info': None}"#,
                "cp/1",
            ),
            (
                r#"{"connectorId":1,"errorCode":"HighTemperature","t":NaN,}"#,
                "cp/1",
            ),
        ] {
            let (said, answer) = answered(&hot(payload));
            assert_eq!(
                (said, answer.as_str()),
                (format!("{device} pile.overheat"), r#"[3,"m",{}]"#),
                "{payload}"
            );
        }
        let cut = hot(r#"{"connectorId":1,"errorCode":"HighTemperature","status":"Fau"#);
        assert_eq!(answered(&cut).0, "cp/1 pile.overheat");
        let long = "x".repeat(300);
        for (id, back) in [
            ("17".to_owned(), "17".to_owned()),
            (format!("\"{long}\""), format!("\"{long}\"")),
            ("\"\"".to_owned(), "\"\"".to_owned()),
        ] {
            let frame = format!(
                r#"["2",{id},"statusnotification",{{"connectorId":1,"errorCode":"HighTemperature","status":"Faulted"}},7]"#
            );
            assert_eq!(
                answered(&frame),
                ("cp/1 pile.overheat".to_owned(), format!("[3,{back},{{}}]"))
            );
        }
        assert!(answered(&hot("{}")).1.contains("FormationViolation"));
        assert!(
            answered(r#"[2,"m","StatusNotification"]"#)
                .1
                .contains("FormationViolation")
        );
        assert_eq!(
            answered(r#"[2,"m","Heartbeat"]"#).1,
            r#"[3,"m",{"currentTime":"now"}]"#
        );
    }

    #[test]
    fn a_time_is_a_claim_however_it_is_written() {
        let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
        for (time, claim) in [
            ("\"2026-07-01T04:00:00Z\"", "Ms(1782878400000)"),
            ("\"2026-07-01 12:00:00\"", "Ms(1782878400000)"),
            ("1782878400", "Ms(1782878400000)"),
            (
                "\"0000-00-00T00:00:00Z\"",
                "Unreadable(\"0000-00-00T00:00:00Z\")",
            ),
            ("null", "None"),
            // With escapes.
            (r#""2026\/07\/01 12:00:00""#, "Ms(1782878400000)"),
            (r#""2026-07-01T04:00:00\u005a""#, "Ms(1782878400000)"),
            (r#""half\/past""#, "Unreadable(\"000000000000\")"),
        ] {
            let payload = format!(r#"{{"errorCode":"HighTemperature","timestamp":{time}}}"#);
            let (said, _) = call("cp", "StatusNotification", &payload, "now", 60);
            let Ok(DecodedMessage::Events(device_events)) = said else {
                panic!("{said:?}");
            };
            assert_eq!(
                format!("{:?}", device_events[0].time.claim(&zone)),
                claim,
                "{time}"
            );
            let texts = device_events[0].attributes.iter();
            let mut texts = texts.filter(|(name, _)| *name == "device_time");
            let kept = texts.next().map(|(_, text)| text.as_ref());
            assert_eq!(kept, time.contains("half").then_some("half/past"), "{time}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_rejected(text in ".{0,200}") {
            if let Ok(Message::Call { action, payload, .. }) = first(&text) {
                let _ = call("cp", &action, payload.get(), "now", 60);
            }
        }

        #[test]
        fn any_status_is_read_or_rejected(payload in r#"\{("connectorId":[0-9]{1,12},)?"errorCode":"[A-Za-z\\\\u0]{0,20}","status":"[A-Za-z]{0,9}"\}"#) {
            let _ = call("cp", "StatusNotification", &payload, "now", 60);
        }
    }
}
