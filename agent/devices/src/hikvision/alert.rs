//! Messages of a Hikvision device as they are written (ISAPI, "EventNotificationAlert" of the general part): XML or JSON with
//! the same names. Pure; the text is UTF-8 already ([`text`](crate::text)).
//!
//! ```text
//! <EventNotificationAlert version="2.0" xmlns="…">        {"eventType": …, "eventState": …, "dateTime": …,
//!   <channelID>|<dynChannelID>  <dateTime>                 "channelID": …, "AccessControllerEvent": {…}}
//!   <activePostCount>  <eventType>  <eventState>
//!   <DetectionRegionList><DetectionRegionEntry><regionID>  <detectionTarget>
//!   <durationList><duration><relationEvent>
//! ```
//!
//! * Of a name in any namespace the local part counts; what is not named here is passed over, at any depth.
//! * Taken as they come: no XML declaration or a wrong one, bare `&`, empty elements, numbers in quotes, another root around
//!   the alert, several alerts one behind the other or in a list.
//! * Of a message that is cut or damaged what is whole counts ([`xml`](crate::xml), [`lenient_json`](crate::lenient_json)). One
//!   without an `eventType` is rejected. The size of a message is bounded by who reads it.
mod read;

use std::borrow::Cow;

use super::door::DoorEvent;
use crate::device_event::Reject;
use read::Alerts;

/// Regions of one alert.
pub const REGIONS_MAX: usize = 16;

/// What it says of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// It holds. Told again and again while it does.
    #[default]
    Active,
    /// It is over.
    Inactive,
}

/// What was seen where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Region<'a> {
    /// `regionID`, or `sid`: the number of the rule's region; empty where it has none.
    pub id: Cow<'a, str>,
    /// `detectionTarget` or `targetType`: what was seen, such as human or vehicle.
    pub target: Cow<'a, str>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alert<'a> {
    /// `eventType`, as it is written; of a `duration` the `relationEvent` that goes on.
    pub event_type: Cow<'a, str>,
    /// `eventState`.
    pub stage: Stage,
    /// `channelID`, else `dynChannelID`; empty where it has none.
    pub channel: Cow<'a, str>,
    /// `inputIOPortID`: the contact of an `IO` event.
    pub input: Cow<'a, str>,
    /// `dateTime`, with a zone or without.
    pub time: Cow<'a, str>,
    /// `eventDescription`: some say there that it is a heartbeat.
    pub description: Cow<'a, str>,
    /// What was seen, and where; one that is empty where it is not told.
    pub regions: Vec<Region<'a>>,
    /// What a door controller or door station says.
    pub door: Option<DoorEvent<'a>>,
}

/// Reads the first alert of a message.
pub fn decode(text: &str) -> Result<Alert<'_>, Reject> {
    decode_all(text).swap_remove(0)
}

/// Reads every alert of a message, each by itself; at least one result.
pub fn decode_all(text: &str) -> Vec<Result<Alert<'_>, Reject>> {
    let neither = || {
        vec![Err(Reject::new(
            "neither XML nor JSON: is it another make? check type and address",
        ))]
    };
    // What stands before it is of a head that was damaged.
    let Some(begin) = memchr::memchr3(b'<', b'{', b'[', text.as_bytes()) else {
        return neither();
    };
    let is_behind = !text[..begin].trim_matches('\u{feff}').trim().is_empty();
    let text = &text[begin..];
    let alerts = match text.starts_with('<') {
        true => Alerts::of_xml(text),
        false => Ok(Alerts::of_json(text)),
    };
    match alerts.map(Alerts::finish) {
        Ok(alerts) if is_behind && !alerts.iter().any(Result::is_ok) => neither(),
        Ok(alerts) if alerts.is_empty() => vec![Err(Reject::new("has no eventType"))],
        Ok(alerts) => alerts,
        Err(reject) => vec![Err(reject)],
    }
}

#[cfg(test)]
mod tests;
