//! Parser of one part of a Dahua event stream ("HTTP API for DH", eventManager.cgi `attach`). Pure.
//!
//! ```text
//! Code=CrossLineDetection;action=Start;index=0;data={ "RealUTC": 1782878400, … }
//! Heartbeat
//! ```
//!
//! `index` and `data` may be missing; the order of the fields is as above, with or without blanks; `data` is JSON. A
//! part may have several events, each beginning with `Code=` on a line of its own or behind the data of the one
//! before. Each is read by itself: broken or cut data lose only the broken fields, and no other event.
use std::borrow::Cow;

use crate::device_event::Reject;
use crate::lenient_json::{self, LenientText};

/// Events in one part.
const EVENTS_MAX: usize = 64;
/// Beginning of an event.
const CODE: &[u8] = b"code=";

/// The action of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The condition begins.
    Start,
    /// The condition ends.
    Stop,
    /// A momentary event.
    Pulse,
}

/// A part of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A sign of life.
    Heartbeat,
    /// Events, in their order.
    Events(Vec<Event<'a>>),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Code of the event.
    pub code: &'a str,
    /// See [`Action`].
    pub action: Action,
    /// It ends with its code.
    pub is_cut: bool,
    /// Channel or input, counted from 0; empty if missing.
    pub index: &'a str,
    /// The fields of its data that this decoder knows.
    pub data: Data<'a>,
}

/// The fields of an event's data that this decoder knows. Each is a text, or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct Data<'a> {
    pub real_utc: LenientText<'a>,
    pub utc: LenientText<'a>,
    pub locale_time: LenientText<'a>,
    pub status: LenientText<'a>,
    pub door: LenientText<'a>,
    pub method: LenientText<'a>,
    pub rec_no: LenientText<'a>,
    pub card_no: LenientText<'a>,
    pub card_name: LenientText<'a>,
    pub user_id: LenientText<'a>,
    pub error_code: LenientText<'a>,
    /// The event is reported late: the device kept it while it had no connection.
    pub offline: LenientText<'a>,
    pub object: Object<'a>,
}

/// The object that was seen. A value of another type reads as empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object<'a> {
    /// `ObjectType`: Human, Vehicle.
    pub object_type: Cow<'a, str>,
}

impl<'a> Data<'a> {
    /// Reads the intact fields.
    fn read(text: &'a str) -> Self {
        let places = [
            "RealUTC",
            "UTC",
            "LocaleTime",
            "Status",
            "Door",
            "LockNum",
            "Method",
            "RecNo",
            "CardNo",
            "CardName",
            "UserID",
            "ErrorCode",
            "IsOffline",
            "Offline",
            "Objects/ObjectType",
            "Object/ObjectType",
        ];
        let Some(picked) = lenient_json::pick(text, places) else {
            return Self::default();
        };
        let [
            real_utc,
            utc,
            locale_time,
            status,
            door,
            lock,
            method,
            rec_no,
            card_no,
            card_name,
            user_id,
            error_code,
            is_offline,
            offline,
            objects,
            object,
        ] = picked.values;
        let either = |one: Cow<'a, str>, other| if one.is_empty() { other } else { one };
        Self {
            real_utc: LenientText(real_utc),
            utc: LenientText(utc),
            locale_time: LenientText(locale_time),
            status: LenientText(status),
            door: LenientText(either(door, lock)),
            method: LenientText(method),
            rec_no: LenientText(rec_no),
            card_no: LenientText(card_no),
            card_name: LenientText(card_name),
            user_id: LenientText(user_id),
            error_code: LenientText(error_code),
            offline: LenientText(either(is_offline, offline)),
            object: Object {
                object_type: either(object, objects),
            },
        }
    }
}

/// Reads a part: all readable events, or why there is none.
pub fn decode(text: &str) -> Result<Message<'_>, Reject> {
    let mut events = Vec::new();
    let mut rejected = None;
    for read in decode_all(text) {
        match read {
            Ok(Message::Events(more)) => events.extend(more),
            Ok(Message::Heartbeat) => {}
            Err(reject) => rejected = rejected.or(Some(reject)),
        }
    }
    match rejected {
        _ if !events.is_empty() => Ok(Message::Events(events)),
        Some(reject) => Err(reject),
        None => Ok(Message::Heartbeat),
    }
}

/// Reads each event of a part, and each sign of life, by itself; at least one result.
pub fn decode_all(text: &str) -> Vec<Result<Message<'_>, Reject>> {
    let starts = starts(text.as_bytes());
    let before = starts.first().copied().unwrap_or(text.len());
    let mut read = Vec::new();
    let head = text[..before].trim();
    let is_heartbeat = |text: &str| text.trim().eq_ignore_ascii_case("heartbeat");
    if head.lines().any(is_heartbeat) {
        read.push(Ok(Message::Heartbeat));
    } else if starts.is_empty() || !head.is_empty() {
        read.push(Err(Reject::new(
            "neither \"Code=\" nor \"Heartbeat\": is it another make? check type and address",
        )));
    }
    for (index, start) in starts.iter().enumerate() {
        if index >= EVENTS_MAX {
            read.push(Err(Reject::new(format!(
                "more than {EVENTS_MAX} events in one part"
            ))));
            break;
        }
        let end = starts.get(index + 1).copied().unwrap_or(text.len());
        read.push(event(text[*start..end].trim()).map(|event| Message::Events(vec![event])));
    }
    read
}

/// The positions where events begin, never within a word.
fn starts(text: &[u8]) -> Vec<usize> {
    let equals = memchr::memchr_iter(b'=', text);
    equals
        .filter_map(|equals| {
            let start = (equals + 1).checked_sub(CODE.len())?;
            let is_code = text[start..=equals].eq_ignore_ascii_case(CODE);
            let before = |bytes: usize| start.checked_sub(bytes).map(|at| text[at]);
            let is_word = before(1).is_some_and(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'"' | b'\'')
            });
            // One letter behind the end of the previous event is a damaged end of line.
            let is_behind = matches!(before(2), Some(b'}' | b'\r' | b'\n'));
            (is_code && (!is_word || is_behind)).then_some(start)
        })
        .collect()
}

fn event(text: &str) -> Result<Event<'_>, Reject> {
    let (head, data) = match text.find("data=") {
        Some(at) => (&text[..at], text[at + "data=".len()..].trim()),
        // The data, if their name was damaged.
        None => match text.find('{') {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, ""),
        },
    };
    let mut code = "";
    let mut action = "";
    let mut index = "";
    for field in head.split(';') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "code" => code = value,
            "action" => action = value,
            "index" => index = value,
            _ => {}
        }
    }
    if code.is_empty() {
        return Err(Reject::new("the Code is empty"));
    }
    let is_cut = !text.contains(';');
    let action = match action.to_ascii_lowercase().as_str() {
        // Some firmwares send the state of a door here.
        "start" | "open" | "on" | "begin" => Action::Start,
        "stop" | "close" | "off" | "end" => Action::Stop,
        // An unreadable or missing action: a momentary event.
        _ => Action::Pulse,
    };
    let data = match data.starts_with(['{', '[']) {
        true => Data::read(data),
        false => Data::default(),
    };
    Ok(Event {
        code,
        action,
        is_cut,
        index,
        data,
    })
}

#[cfg(test)]
mod tests;
