//! One part of a Dahua event stream as it is written ("HTTP API for DH", eventManager.cgi `attach`). Pure.
//!
//! ```text
//! Code=CrossLineDetection;action=Start;index=0;data={ "RealUTC": 1782878400, … }
//! Heartbeat
//! ```
//!
//! `index` and `data` may be missing; the order of the fields is that above, with or without blanks; `data` is JSON to the
//! end of the part, and a part may have several events, each on a line that begins with `Code=`.
use serde::Deserialize;
use std::borrow::Cow;

use crate::device_event::Reject;
use crate::lenient_json::LenientText;

/// Events in one part.
const EVENTS_MAX: usize = 64;

/// What is said of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It begins.
    Start,
    /// It ends.
    Stop,
    /// It happened.
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
    /// Its code.
    pub code: &'a str,
    /// See [`Action`].
    pub action: Action,
    /// Channel or input, counted from 0; empty where it is not told.
    pub index: &'a str,
    /// What of its data is known here.
    pub data: Data<'a>,
}

/// What is known of the data of an event. All is a text, or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub struct Data<'a> {
    #[serde(borrow, rename = "RealUTC")]
    pub real_utc: LenientText<'a>,
    #[serde(borrow, rename = "UTC")]
    pub utc: LenientText<'a>,
    #[serde(borrow, rename = "LocaleTime")]
    pub locale_time: LenientText<'a>,
    #[serde(borrow, rename = "Status")]
    pub status: LenientText<'a>,
    #[serde(borrow, rename = "Door", alias = "LockNum")]
    pub door: LenientText<'a>,
    #[serde(borrow, rename = "Method")]
    pub method: LenientText<'a>,
    #[serde(borrow, rename = "RecNo")]
    pub rec_no: LenientText<'a>,
    #[serde(borrow, rename = "CardNo")]
    pub card_no: LenientText<'a>,
    #[serde(borrow, rename = "CardName")]
    pub card_name: LenientText<'a>,
    #[serde(borrow, rename = "UserID")]
    pub user_id: LenientText<'a>,
    #[serde(borrow, rename = "ErrorCode")]
    pub error_code: LenientText<'a>,
    #[serde(borrow, rename = "Object")]
    pub object: Object<'a>,
}

/// What was seen. A device that writes something else here says nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object<'a> {
    /// `ObjectType`: Human, Vehicle.
    pub object_type: Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any<'a> {
            Object {
                #[serde(borrow, rename = "ObjectType")]
                object_type: Cow<'a, str>,
            },
            Other(serde::de::IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Object { object_type } => Self { object_type },
            Any::Other(_) => Self::default(),
        })
    }
}

/// Reads a part.
pub fn decode(text: &str) -> Result<Message<'_>, Reject> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("heartbeat") {
        return Ok(Message::Heartbeat);
    }
    if !text.starts_with("Code=") {
        return Err(Reject::new(
            "neither \"Code=\" nor \"Heartbeat\": is it another make? check type and address",
        ));
    }
    let mut events = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if events.len() >= EVENTS_MAX {
            return Err(Reject::new(format!(
                "more than {EVENTS_MAX} events in one part"
            )));
        }
        let end = rest.find("\nCode=").unwrap_or(rest.len());
        events.push(event(rest[..end].trim())?);
        rest = rest[end..].trim_start();
    }
    Ok(Message::Events(events))
}

fn event(text: &str) -> Result<Event<'_>, Reject> {
    let (head, data) = match text.find("data=") {
        Some(at) => (&text[..at], text[at + "data=".len()..].trim()),
        None => (text, ""),
    };
    let mut code = "";
    let mut action = None;
    let mut index = "";
    for field in head
        .split(';')
        .map(str::trim)
        .filter(|field| !field.is_empty())
    {
        match field.split_once('=') {
            Some(("Code", value)) => code = value.trim(),
            Some(("action", value)) => action = Some(value.trim()),
            Some(("index", value)) => index = value.trim(),
            Some(_) => {}
            None => return Err(Reject::new("a field has no \"=\"")),
        }
    }
    if code.is_empty() {
        return Err(Reject::new("the Code is empty"));
    }
    let action = match action {
        // Some firmwares write the state of a door here.
        Some("Start" | "Open") => Action::Start,
        Some("Stop" | "Close") => Action::Stop,
        Some("Pulse" | "State") => Action::Pulse,
        Some(_) => return Err(Reject::new("the action is neither Start, Stop nor Pulse")),
        None => return Err(Reject::new("there is no action")),
    };
    let data = if data.starts_with('{') {
        serde_json::from_str(data)
            .map_err(|error| Reject::new(format!("the data is broken: {error}")))?
    } else {
        Data::default()
    };
    Ok(Event {
        code,
        action,
        index,
        data,
    })
}

#[cfg(test)]
mod tests;
