//! Parser of a Hikvision device's messages (ISAPI, "EventNotificationAlert" of the general part): XML or JSON with
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
//! * Only the local part of a name counts, in any namespace; other names are skipped, at any depth.
//! * Accepted: no XML declaration or a wrong one, bare `&`, empty elements, numbers in quotes, another root around
//!   the alert, several alerts one behind the other or in a list.
//! * Of a message that is cut or damaged the intact part counts ([`xml`](crate::xml),
//!   [`lenient_json`](crate::lenient_json)). A message without an `eventType` is rejected. The caller bounds the size
//!   of a message.
mod read;

use std::borrow::Cow;

use super::door::DoorEvent;
use crate::device_event::Reject;
use read::Alerts;

/// Largest number of regions of one alert.
pub const REGIONS_MAX: usize = 16;

/// The reported stage of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// The condition holds. Repeated while it does.
    #[default]
    Active,
    /// The condition is over.
    Inactive,
}

/// An object that was seen, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Region<'a> {
    /// `regionID`, or `sid`: the number of the rule's region; empty if there is none.
    pub id: Cow<'a, str>,
    /// `detectionTarget` or `targetType`: the object that was seen, such as human or vehicle.
    pub target: Cow<'a, str>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alert<'a> {
    /// `eventType` as written; for a `duration`, the `relationEvent` that goes on.
    pub event_type: Cow<'a, str>,
    /// `eventState`.
    pub stage: Stage,
    /// `channelID`, else `dynChannelID`; empty if there is none.
    pub channel: Cow<'a, str>,
    /// `inputIOPortID`: the contact of an `IO` event.
    pub input: Cow<'a, str>,
    /// `dateTime`, with a zone or without.
    pub time: Cow<'a, str>,
    /// `eventDescription`: some devices mark a heartbeat there.
    pub description: Cow<'a, str>,
    /// Objects and their regions; one empty region if there are none.
    pub regions: Vec<Region<'a>>,
    /// The event of a door controller or door station.
    pub door: Option<DoorEvent<'a>>,
}

/// Reads the first alert of a message.
pub fn decode(text: &str) -> Result<Alert<'_>, Reject> {
    decode_all(text).swap_remove(0)
}

/// Reads every alert of a message, each on its own; at least one result.
pub fn decode_all(text: &str) -> Vec<Result<Alert<'_>, Reject>> {
    let neither = || {
        vec![Err(Reject::new(
            "neither XML nor JSON: is it another make? check type and address",
        ))]
    };
    // Text before it belongs to a damaged head.
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
