//! One message of a Hikvision device as it is written (ISAPI, "EventNotificationAlert" of the general part): XML or
//! JSON with the same names. Pure; the text is UTF-8 already ([`text`](crate::text)).
//!
//! ```text
//! <EventNotificationAlert version="2.0" xmlns="…">        {"eventType": …, "eventState": …, "dateTime": …,
//!   <channelID>|<dynChannelID>  <dateTime>                 "channelID": …, "AccessControllerEvent": {…}}
//!   <activePostCount>  <eventType>  <eventState>  …
//! ```
//!
//! * Of a name in any namespace the local part counts; what is not named here is passed over, at any depth.
//! * Taken as they come: no XML declaration or a wrong one, bare `&`, empty elements, numbers in quotes, a JSON
//!   message within `{"EventNotificationAlert": …}`.
//! * A document type is refused, entities are not expanded: only the five of XML and letters by number are known.
//! * More than [`DEPTH_MAX`] levels are refused. The size of a message is bounded by who reads it.
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;
use std::borrow::Cow;

use super::door::DoorEvent;
use crate::device_event::Reject;
use crate::lenient_json::LenientText;
use crate::xml;

/// Levels of elements.
const DEPTH_MAX: usize = 32;

/// What it says of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// It holds. Told again and again while it does.
    #[default]
    Active,
    /// It is over.
    Inactive,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alert<'a> {
    /// `eventType`, as it is written.
    pub event_type: Cow<'a, str>,
    /// `eventState`.
    pub stage: Stage,
    /// `channelID`, else `dynChannelID`; empty where it has none.
    pub channel: Cow<'a, str>,
    /// `inputIOPortID`: the contact of an `IO` event.
    pub input: Cow<'a, str>,
    /// `dateTime`, with a zone or without.
    pub time: Cow<'a, str>,
    /// `detectionTarget` or `targetType`: what was seen, such as human or vehicle.
    pub target: Cow<'a, str>,
    /// What a door controller or door station says.
    pub door: Option<DoorEvent<'a>>,
}

/// Reads one.
pub fn decode(text: &str) -> Result<Alert<'_>, Reject> {
    let text = text.trim_start();
    let alert = match text.as_bytes().first() {
        Some(b'<') => of_xml(text)?,
        Some(b'{') => of_json(text)?,
        _ => {
            return Err(Reject::new(
                "neither XML nor JSON: is it another make? check type and address",
            ));
        }
    };
    if alert.event_type.is_empty() {
        return Err(Reject::new("has no eventType"));
    }
    Ok(alert)
}

fn stage(state: &str) -> Stage {
    if state.eq_ignore_ascii_case("inactive") {
        Stage::Inactive
    } else {
        Stage::Active
    }
}

fn of_xml(text: &str) -> Result<Alert<'_>, Reject> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().allow_dangling_amp = true;
    let mut alert = Alert::default();
    let mut state = Cow::default();
    let mut dynamic = Cow::default();
    let mut door = None;
    let mut depth = 0;
    // Depth of the AccessControllerEvent that is open.
    let mut in_door = 0;
    let mut value: Cow<'_, str> = Cow::default();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| Reject::new(format!("XML is broken: {error}")))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                let name = start.local_name();
                match depth {
                    1 if name.as_ref() != "EventNotificationAlert" => {
                        let name: String = name.as_ref().chars().take(40).collect();
                        return Err(Reject::new(format!(
                            "the root is {name:?} and not EventNotificationAlert"
                        )));
                    }
                    DEPTH_MAX.. => {
                        return Err(Reject::new(format!("XML has more than {DEPTH_MAX} levels")));
                    }
                    _ => {}
                }
                if name.as_ref() == "AccessControllerEvent" && in_door == 0 {
                    in_door = depth;
                    door = Some(DoorEvent::default());
                }
                value = Cow::default();
            }
            Event::End(end) => {
                let name = end.local_name();
                let value = xml::trimmed(std::mem::take(&mut value));
                if in_door == depth {
                    in_door = 0;
                }
                depth -= 1;
                if depth == 0 {
                    break;
                }
                if let (Some(door), true) = (&mut door, in_door > 0 && depth == in_door) {
                    door.set(name.as_ref(), value);
                } else if depth == 1 {
                    match name.as_ref() {
                        "eventType" => alert.event_type = value,
                        "eventState" => state = value,
                        "channelID" => alert.channel = value,
                        "dynChannelID" => dynamic = value,
                        "inputIOPortID" | "dynInputIOPortID" => alert.input = value,
                        "dateTime" => alert.time = value,
                        _ => {}
                    }
                } else if matches!(name.as_ref(), "detectionTarget" | "targetType") {
                    alert.target = value;
                }
            }
            Event::Text(text) => xml::add(&mut value, text.into_inner()),
            Event::CData(text) => xml::add(&mut value, text.into_inner()),
            Event::GeneralRef(reference) => match xml::letter(&reference)? {
                Some(letter) => value.to_mut().push(letter),
                // What nobody declared stays as it is written: it may have been a bare ampersand.
                None => value.to_mut().push_str(&format!("&{};", &*reference)),
            },
            Event::DocType(_) => return Err(xml::doctype()),
            Event::Eof => return Err(Reject::new("XML ends before its root does")),
            Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    alert.stage = stage(&state);
    if alert.channel.is_empty() {
        alert.channel = dynamic;
    }
    alert.door = door;
    Ok(alert)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default)]
    event_type: LenientText<'a>,
    #[serde(borrow, default)]
    event_state: LenientText<'a>,
    #[serde(borrow, default, rename = "channelID")]
    channel: LenientText<'a>,
    #[serde(borrow, default, rename = "dynChannelID")]
    dyn_channel: LenientText<'a>,
    #[serde(borrow, default, rename = "inputIOPortID")]
    input: LenientText<'a>,
    #[serde(borrow, default)]
    date_time: LenientText<'a>,
    #[serde(borrow, default)]
    target_type: LenientText<'a>,
    #[serde(borrow, default, rename = "AccessControllerEvent")]
    door: Option<DoorEvent<'a>>,
    #[serde(borrow, default, rename = "EventNotificationAlert")]
    within: Option<Box<Message<'a>>>,
}

fn of_json(text: &str) -> Result<Alert<'_>, Reject> {
    let mut message: Message<'_> = serde_json::from_str(text)
        .map_err(|error| Reject::new(format!("JSON is broken: {error}")))?;
    if let Some(within) = message.within.take() {
        message = *within;
    }
    let mut channel = message.channel.0;
    if channel.is_empty() {
        channel = message.dyn_channel.0;
    }
    Ok(Alert {
        event_type: message.event_type.0,
        stage: stage(&message.event_state.0),
        channel,
        input: message.input.0,
        time: message.date_time.0,
        target: message.target_type.0,
        door: message.door,
    })
}

#[cfg(test)]
mod tests;
